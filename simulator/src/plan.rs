//! A plan: everything that happens in a run, but what the seed draws. It is data: written to a file as JSON and read
//! again, it gives the same run. Who writes plans (scenarios, the fuzzer, people) and who runs them ([`crate::run`]) meet here;
//! nothing here happens.
//!
//! Nodes, vaults and domains are meant by number and label. A plan may name what does not exist, or what is gone
//! already: then nothing happens, so that any part of a plan that fails is a plan too.

mod outcome;

pub use outcome::{Measures, Outcome, Sample, Verdict, Violation, Waited};

use crate::random::Random;
use crate::setup::Setup;
use crate::swap::Swap;
use protocol::label::{Label, Labels, Level};
use protocol::policy::Policy;
use protocol::time::Period;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most steps that rates are turned into: a mean of a few milliseconds over a year is a mistake.
pub const STEPS_MAX: usize = 1_000_000;

/// A run, to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What people call it.
    pub name: String,
    /// The mesh as it begins.
    pub setup: Setup,
    /// Who backs up.
    pub vaults: Vec<VaultSetup>,
    /// What happens, in any order. Steps at one time happen in the order listed.
    pub steps: Vec<Step>,
    /// For how long.
    pub duration: Period,
    /// How often the timeline is sampled; zero is only at the end.
    pub sample: Period,
}

/// A vault with one device, which begins empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultSetup {
    /// The name of the operator that vouches for it.
    pub operator: String,
    /// What must be survived, concealed, and how long locks are. Guardians are named below, not here.
    pub policy: Policy,
    /// Nodes that its roster does not list.
    #[serde(default)]
    pub outside: Vec<usize>,
    /// Who approves releases and can stop them.
    pub guardians: Option<GuardianSetup>,
    /// Shards needed, and made, of each stripe; `None` is what the protocol's planner picks.
    pub code: Option<(u16, u16)>,
    /// Bytes of data in each stripe: a few hundred will do, the rules are the same.
    pub stripe_len: u32,
    /// Whether a stripe for which there are too few nodes is written all the same, to nodes of which any one may be lost.
    #[serde(default)]
    pub allow_degraded: bool,
    /// Where its first stripes lie, whatever the policy says; the solver places those after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed: Vec<Placed>,
}

/// Stripes that are placed by the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Shards needed.
    pub k: u16,
    /// Who holds them, one shard each.
    pub holders: Vec<usize>,
    /// How many stripes.
    pub stripes: u32,
}

impl VaultSetup {
    /// Where a stripe is placed by the plan, if it is.
    #[must_use]
    pub fn placed(&self, stripe: usize) -> Option<&Placed> {
        let mut before = 0;
        self.placed.iter().find(|placed| {
            before += placed.stripes as usize;
            stripe < before
        })
    }
}

impl Placed {
    /// Whether a mesh of so many nodes can hold it.
    #[must_use]
    pub fn fits(&self, nodes: usize) -> bool {
        let distinct: BTreeSet<usize> = self.holders.iter().copied().collect();
        let shards = distinct.len();
        shards == self.holders.len()
            && (1..=shards).contains(&usize::from(self.k))
            && shards <= 256
            && distinct.last().is_none_or(|&last| last < nodes)
    }
}

/// The guardians of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardianSetup {
    /// How many must agree.
    pub need: u32,
    /// The names of their operators.
    pub of: Vec<String>,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, from the beginning.
    pub at: Period,
    /// What.
    pub what: What,
}

/// Which nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// All of them, and all devices where links are meant.
    All,
    /// The one with this number.
    Node(usize),
    /// Those with this label, `level=name`; of the levels `operator` and `node`, the operator's name and the node's number.
    Label(String),
    /// Where links are meant: the device of this vault.
    Device(usize),
}

impl Who {
    /// The nodes with a label.
    #[must_use]
    pub fn label(label: &Label) -> Self {
        Self::Label(label.to_string())
    }

    /// Whether a node is one of them.
    #[must_use]
    pub fn is(&self, index: usize, operator: &str, labels: &Labels) -> bool {
        match self {
            Self::All => true,
            Self::Device(_) => false,
            Self::Node(node) => *node == index,
            Self::Label(label) => match label.split_once('=') {
                Some((Level::OPERATOR, name)) => operator == name,
                Some((Level::NODE, name)) => name.parse() == Ok(index),
                Some((level, name)) => {
                    let stated = labels.iter().find(|(stated, _)| stated.as_str() == level);
                    // What is not stated is one domain.
                    stated.map_or(name == "unknown", |(_, stated)| stated == name)
                }
                None => false,
            },
        }
    }
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A vault backs up: of what it holds, so many of a thousand stripes are replaced by new ones, and new ones are added until
    /// there are so many. The locks of all that is kept are extended, unchanged ones too.
    BackUp {
        /// Which vault.
        vault: usize,
        /// Stripes afterwards.
        stripes: u32,
        /// Of a thousand that there were, so many are new.
        changed_per_mille: u32,
    },
    /// A vault needs no more than the stripes of its newest backups.
    Forget {
        /// Which vault.
        vault: usize,
        /// How many backups are kept.
        keep: usize,
    },
    /// A vault's owner asks that what it does not need be released.
    Release {
        /// Which vault.
        vault: usize,
        /// How many of its guardians agree.
        approvals: u32,
    },
    /// A vault's owner asks that nodes give up shards of what it needs, without looking whether others have them.
    Discharge {
        /// Which vault.
        vault: usize,
        /// Of a thousand shards so many more than before.
        per_mille: u32,
        /// How many of its guardians agree.
        approvals: u32,
    },
    /// A guardian of a vault stops its newest release.
    Veto {
        /// Which vault.
        vault: usize,
        /// Which of its guardians.
        guardian: usize,
    },
    /// A guardian freezes a vault's expiry for so long; zero ends it.
    Hold {
        /// Which vault.
        vault: usize,
        /// Which of its guardians.
        guardian: usize,
        /// For how long.
        period: Period,
    },
    /// The vault revokes its device and goes on with a new one.
    Revoke {
        /// Which vault.
        vault: usize,
    },
    /// A vault's device reads everything back that it needs. It must come bit for bit, or not at all.
    Restore {
        /// Which vault.
        vault: usize,
    },
    /// A new machine with the recovery identity and one node's address brings a vault back. P7 is checked when it is done.
    Recover {
        /// Which vault.
        vault: usize,
        /// Which node's address is known.
        by: usize,
    },
    /// Nodes stop in the middle of whatever they do. What was being written is durable up to a drawn point.
    Crash(Who),
    /// Nodes start that are down and not gone.
    Start(Who),
    /// Nodes crash and start again after so long.
    Restart {
        /// Which nodes.
        who: Who,
        /// When they are back.
        after: Period,
    },
    /// Nodes are gone for good, disks and all.
    Vanish(Who),
    /// The operators of nodes take them away: they say that they leave, and each is gone, disk and all, as soon as it may be.
    Leave(Who),
    /// Nodes that leave stay after all.
    Stay(Who),
    /// Nodes lie elsewhere: they are started anew with certificates that state these labels.
    Relabel {
        /// Which nodes.
        who: Who,
        /// What their certificates state from now on.
        labels: Labels,
    },
    /// Nodes can be reached by nobody for a while, and run on.
    Dark {
        /// Which nodes.
        who: Who,
        /// For how long.
        period: Period,
    },
    /// Somebody else runs these nodes from now on, with their keys and disks: what they hold is deleted, and they go on answering.
    /// Nothing that they promised counts.
    Seize(Who),
    /// Messages from some nodes to others are lost from now on.
    Part {
        /// From these.
        from: Who,
        /// To these.
        to: Who,
        /// Whether the other direction goes on working.
        one_way: bool,
    },
    /// All partitions and changed links are over.
    Heal,
    /// Links between nodes are like that from now on, both ways.
    Link {
        /// One end.
        from: Who,
        /// The other.
        to: Who,
        /// How.
        quality: LinkQuality,
    },
    /// Clocks of nodes jump: what they show to all, not what they count.
    ClockJump {
        /// Which nodes.
        who: Who,
        /// So many milliseconds, forward or back.
        by_ms: i64,
    },
    /// Clocks of nodes run wrongly from now on, shown and counted alike.
    ClockDrift {
        /// Which nodes.
        who: Who,
        /// So many millionths too fast, or too slow.
        ppm: i32,
    },
    /// Disks damage shards that they hold. Those shards are the disk's fault, and nobody's promise.
    Rot {
        /// Which nodes.
        who: Who,
        /// Of a thousand shards so many.
        per_mille: u32,
        /// Whether the files are missing, or else there and wrong.
        loud: bool,
    },
    /// Disks fail writes from now on.
    DiskFails {
        /// Which nodes.
        who: Who,
        /// Of a thousand writes so many fail, and say so.
        per_mille: u32,
    },
    /// Disks have no space for shards from now on, or have again.
    DiskFull {
        /// Which nodes.
        who: Who,
        /// Whether they are full.
        full: bool,
    },
    /// Disks take so many times as long as in the beginning from now on.
    DiskSlow {
        /// Which nodes.
        who: Who,
        /// How many times.
        times: u32,
    },
    /// Two operators who swap agree on something else than before. Nothing where nobody swaps.
    Agree(Swap),
    /// One side of an agreement gives notice.
    Notice {
        /// Which operator leaves,
        by: String,
        /// and whom.
        to: String,
    },
    /// Another key speaks for an operator from now on, by the word of its heirs: the one before was stolen. Nothing where nobody swaps.
    Succeed {
        /// Which.
        operator: String,
    },
    /// An attacker acts.
    Attack(Attack),
    /// An attacker waits for a moment, and then does something. What never comes never happens.
    Lurk {
        /// For what.
        until: Moment,
        /// Then.
        then: Box<What>,
    },
}

impl What {
    /// Everybody whom it names.
    pub(crate) fn each_who(&mut self, each: &mut impl FnMut(&mut Who)) {
        match self {
            Self::Crash(who)
            | Self::Start(who)
            | Self::Restart { who, .. }
            | Self::Vanish(who)
            | Self::Leave(who)
            | Self::Stay(who)
            | Self::Relabel { who, .. }
            | Self::Dark { who, .. }
            | Self::Seize(who)
            | Self::ClockJump { who, .. }
            | Self::ClockDrift { who, .. }
            | Self::Rot { who, .. }
            | Self::DiskFails { who, .. }
            | Self::DiskFull { who, .. }
            | Self::DiskSlow { who, .. } => each(who),
            Self::Part { from, to, .. } | Self::Link { from, to, .. } => {
                each(from);
                each(to);
            }
            Self::Lurk { then, .. } => then.each_who(each),
            Self::BackUp { .. }
            | Self::Forget { .. }
            | Self::Release { .. }
            | Self::Discharge { .. }
            | Self::Veto { .. }
            | Self::Hold { .. }
            | Self::Revoke { .. }
            | Self::Restore { .. }
            | Self::Recover { .. }
            | Self::Heal
            | Self::Agree(_)
            | Self::Notice { .. }
            | Self::Succeed { .. }
            | Self::Attack(_) => {}
        }
    }
}

/// How messages fare between two nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkQuality {
    /// The shortest time that a message takes.
    pub latency_min: Period,
    /// The longest.
    pub latency_max: Period,
    /// Of a thousand messages so many are lost, and their connection with them.
    pub loss_per_mille: u32,
    /// Bytes that go through in a second from one end to another; zero is no limit.
    pub bytes_per_second: u64,
}

impl Default for LinkQuality {
    fn default() -> Self {
        let (latency_min, latency_max) = (Period(5), Period(150));
        Self { latency_min, latency_max, loss_per_mille: 0, bytes_per_second: 0 }
    }
}

/// When an attacker strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// While a new machine recovers a vault.
    Recovering,
    /// As soon as something begins to cool.
    Cooling,
    /// While a backup runs.
    BackingUp,
    /// While a node rebuilds something.
    Repairing,
    /// As soon as a lock has ended by true time.
    LockEnded,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Recovering, Self::Cooling, Self::BackingUp, Self::Repairing, Self::LockEnded];

    /// What a scenario's file calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Cooling => "cooling",
            Self::BackingUp => "backing-up",
            Self::Repairing => "repairing",
            Self::LockEnded => "lock-ended",
        }
    }
}

/// What an attacker does with what it stole. It speaks real messages, to all nodes that it reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attack {
    /// With a vault's key: asks every holder to release everything, as if it were the owner.
    Release {
        /// Which vault.
        vault: usize,
        /// How many of its guardians' keys are stolen too.
        guardians: u32,
        /// How far ahead of the time the request is dated, in milliseconds; may lie back.
        dated_ms: i64,
    },
    /// With a vault's key and a device's: shows every holder a policy with the shortest lock and no guardians as the newest, and
    /// a roster that lists nobody, and writes the records of all stripes anew under it.
    Weaken {
        /// Which vault.
        vault: usize,
    },
    /// With a device's key: writes another history of its log from this entry on.
    Fork {
        /// Which vault.
        vault: usize,
        /// From this entry on.
        seq: u64,
    },
    /// With a device's key: sends an entry of its log to nodes that do not have the one before.
    Skip {
        /// Which vault.
        vault: usize,
    },
    /// With a device's key: fills every node with stripes of its own.
    Fill {
        /// Which vault.
        vault: usize,
        /// How many stripes.
        stripes: u32,
    },
    /// With the key of a device that was revoked: goes on writing.
    WriteRevoked {
        /// Which vault.
        vault: usize,
    },
    /// With a vault's key: gives every node another recovery card.
    Card {
        /// Which vault.
        vault: usize,
    },
    /// With no key that counts: greets as a node and as a device of operators that nobody knows, and asks for everything.
    Stranger,
    /// With the key of one vault's device: asks for everything of another.
    Neighbour {
        /// Whose device is stolen.
        by: usize,
        /// Who is asked about.
        vault: usize,
    },
    /// With a panel of its own for each of these domains: deletes the fewest domains of a level whose loss destroys some stripe,
    /// by the protocol's exposure; where that takes more, as many as it can, those that hold most.
    Cheapest {
        /// Of this level.
        level: Level,
        /// So many domains at most.
        most: u32,
    },
    /// With the key of a vault's operator: has vaults of its own, whose devices put more with every partner than they were given.
    Greed {
        /// Which vault's operator.
        vault: usize,
        /// How many vaults it has besides.
        vaults: u32,
        /// Stripes of each of them.
        stripes: u32,
        /// How long the locks are that it asks for.
        lock: Period,
    },
    /// With the panels of these operators: their nodes say of another one's that they lack what they have and are silent, from then on. They
    /// keep what they hold.
    Slander {
        /// Who.
        by: Vec<String>,
        /// Of whom.
        of: String,
    },
    /// With the key of an operator that another key took the place of: greets all who know that, as a vault's device and as a node, and
    /// asks for everything.
    OldKey {
        /// Whose.
        operator: String,
    },
    /// With the panel of a node that rebuilds something right now: has that node from then on, as [`What::Seize`].
    Repairer,
    /// With every key that the plan's vaults have: one attack after the other, drawn.
    Random {
        /// How many.
        rounds: u32,
    },
}

/// Something that happens again and again: on average once in a while, as in a Poisson process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// One of these each time.
    pub what: Vec<What>,
    /// The mean time between two.
    pub mean: Period,
    /// Not before.
    pub from: Period,
    /// Not after.
    pub until: Period,
}

/// A plan with the seed that it is run with: what a file to be replayed holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// What it showed, for people.
    #[serde(default)]
    pub about: String,
    /// The seed.
    pub seed: u64,
    /// The plan.
    pub plan: Plan,
}

impl Plan {
    /// Draws from a seed when things that have rates happen, and adds them as steps.
    #[must_use]
    pub fn with_rates(mut self, rates: &[Rate], seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5261_7465);
        for rate in rates {
            self.steps.extend(draw(rate, self.duration, &mut random));
        }
        self.steps.truncate(STEPS_MAX);
        self.steps.sort_by_key(|step| step.at);
        self
    }
}

/// The steps of one rate.
#[must_use]
pub fn draw(rate: &Rate, duration: Period, random: &mut Random) -> Vec<Step> {
    let mut steps = Vec::new();
    if rate.what.is_empty() || rate.mean.0 == 0 {
        return steps;
    }
    let until = rate.until.min(duration);
    let mut at = rate.from.0;
    while steps.len() < STEPS_MAX {
        at = at.saturating_add(random.exponential(rate.mean).0);
        if at > until.0 {
            break;
        }
        let what = rate.what[(random.number() % rate.what.len() as u64) as usize].clone();
        steps.push(Step { at: Period(at), what });
    }
    steps
}
