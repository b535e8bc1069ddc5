//! Scenarios: a loss, and several arrangements of backups that it is played against, side by side. A TOML file says both;
//! `simulator/README.md` documents it field by field. Here are the checked forms: [`read`] makes them from text, `lower` turns
//! what concerns a mesh into a [`crate::plan::Plan`], [`crate::arrangement`] plays what is not Strewn.

mod copies;
mod error;
mod events;
mod library;
mod lower;
mod mesh;
mod placeable;
mod read;
mod text;
mod topology;

pub use error::ScenarioError;
pub use library::{library, shipped};
pub(crate) use lower::STRIPE_LEN;
pub use read::{read, read_with};

use crate::plan::{GuardianSetup, Moment, Placed, Verdict, What, Who};
use crate::setup::NodeSetup;
use protocol::policy::Policy;
use protocol::time::Period;
use std::collections::BTreeMap;

/// Most nodes of one mesh.
pub const NODES_MAX: usize = 10_000;
/// Most arrangements of one scenario.
pub const ARRANGEMENTS_MAX: usize = 64;
/// The patience of a mesh whose file says nothing: that of the product.
pub const PATIENCE: Period = Period::days(1);
/// The shortest patience of a scenario: its nodes exchange what they know once an hour, and must have heard each other several times.
pub const PATIENCE_MIN: Period = Period::seconds(6 * 3600);
/// Longest scenario file, in bytes.
pub const FILE_LEN_MAX: u64 = 1 << 20;

/// A loss, and what it is played against.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// By what it is called: letters, digits and `-`.
    pub name: String,
    /// One line for lists.
    pub title: String,
    /// What happened, where it did.
    pub facts: Option<Facts>,
    /// For how long it is played.
    pub duration: Period,
    /// The patience of its meshes, but for those that have their own; `None` is for ever.
    pub patience: Option<Period>,
    /// What is backed up.
    pub workload: Workload,
    /// What happens.
    pub events: Vec<Event>,
    /// What happens again and again.
    pub rates: Vec<EventRate>,
    /// What it is played against.
    pub arrangements: Vec<Arrangement>,
}

/// A real event.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Facts {
    /// The date.
    pub when: String,
    /// What happened.
    pub text: String,
    /// Whether several reports were compared; otherwise it is widely reported, and no more is claimed.
    pub checked: bool,
    /// Where to read of it.
    pub sources: Vec<String>,
    /// Where the scenario departs from what happened.
    pub model: Option<String>,
}

/// What is backed up. The first backup runs an hour after the beginning.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// How often.
    pub every: Period,
    /// Stripes.
    pub stripes: u32,
    /// Of a thousand so many are new each time.
    pub changed_per_mille: u32,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: Period,
    /// Strikes only once this moment has come, not before `at`. Arrangements that are not Strewn are struck at once.
    pub until: Option<Moment>,
    /// What.
    pub hit: Hit,
}

/// What hits an arrangement.
#[derive(Debug, Clone)]
pub enum Hit {
    /// Gone for good, whatever protects it: fire, bankruptcy, seizure.
    Destroy(Who),
    /// Somebody has the panel of these domains and deletes what a panel can delete. Nodes there go on answering and lie.
    Delete(Who),
    /// Gone for good after so long; what can be moved in time is.
    Close(Who, Period),
    /// Out of reach for so long.
    Dark(Who, Period),
    /// Somebody has the owner's keys, and those of so many guardians, and orders everything deleted.
    StealKeys(u32),
    /// No backup runs any more, and no copy gets a new state. Nobody notices.
    StopBackups,
    /// A step of the engine, which means nothing to copies.
    Step(What),
}

/// Something that happens again and again, on average once in `mean`.
#[derive(Debug, Clone)]
pub struct EventRate {
    /// One of these each time.
    pub hits: Vec<Hit>,
    /// The mean time between two.
    pub mean: Period,
    /// Not before.
    pub from: Period,
    /// Not after.
    pub until: Period,
}

/// How backups are arranged.
#[derive(Debug, Clone)]
pub struct Arrangement {
    /// By what it is called.
    pub name: String,
    /// One line.
    pub title: String,
    /// Copies or a mesh.
    pub kind: Kind,
    /// How it should end.
    pub expect: Expect,
}

/// What an arrangement is made of.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Whole copies.
    Copies(Vec<Copied>),
    /// Strewn.
    Mesh(Box<Mesh>),
}

/// One whole copy of the data.
#[derive(Debug, Clone)]
pub struct Copied {
    /// Where it lies: `level=name`.
    pub labels: Vec<String>,
    /// Whose panel can delete it: labels, and `owner` for the owner's own keys.
    pub keys: Vec<String>,
    /// Whether what is written is locked, and how.
    pub lock: Lock,
    /// For how long each state is, from when it was written; `None` is for ever.
    pub lock_period: Option<Period>,
    /// How old its newest state gets; zero for what is always up to date.
    pub every: Period,
    /// Whether anybody would find anything in it.
    pub works: bool,
    /// How long it takes until work goes on from it.
    pub restore: Period,
    /// How long it takes to move it elsewhere.
    pub drain: Period,
}

/// Object lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// None.
    None,
    /// Whoever has the account's highest rights can lift it.
    Governance,
    /// Nobody can lift it while the account exists.
    Compliance,
}

/// A Strewn mesh with one vault.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// The nodes.
    pub nodes: Vec<NodeSetup>,
    /// The policy.
    pub policy: Policy,
    /// The guardians.
    pub guardians: Option<GuardianSetup>,
    /// Shards needed and made; `None` is what the planner picks.
    pub code: Option<(u16, u16)>,
    /// How long a node may be silent before what it holds is rebuilt elsewhere; `None` is for ever.
    pub patience: Option<Period>,
    /// What more there is to know of a mesh that exists.
    pub real: Option<Real>,
}

/// A mesh that exists: see [`crate::from_mesh`].
#[derive(Debug, Clone)]
pub struct Real {
    /// Whose the vault is.
    pub operator: String,
    /// Where its stripes lie.
    pub placed: Vec<Placed>,
    /// Nodes that do not answer.
    pub silent: Vec<usize>,
    /// What events call domains, and who these are here.
    pub called: BTreeMap<String, Who>,
    /// The node that whoever recovers knows of.
    pub asked: usize,
}

/// How a run should end.
#[derive(Debug, Clone)]
pub struct Expect {
    /// With one of these verdicts.
    pub verdicts: Vec<Verdict>,
    /// Something was unreadable for no longer than this, in all.
    pub unreadable_max: Option<Period>,
    /// Something was unreadable for no shorter than this, in all.
    pub unreadable_min: Option<Period>,
}

impl Scenario {
    /// The arrangement of a name.
    #[must_use]
    pub fn arrangement(&self, name: &str) -> Option<&Arrangement> {
        self.arrangements.iter().find(|a| a.name == name)
    }
}
