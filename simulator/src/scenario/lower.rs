//! What a scenario means to a mesh: the plan that the engine runs.

use super::{Event, Hit, Mesh, Scenario};
use crate::plan::{Attack, Plan, Step, VaultSetup, What, Who};
use crate::random::Random;
use crate::setup::{PeerSetup, Setup};
use protocol::time::Period;

/// When the first backup runs: members have met by then.
pub(crate) const FIRST_BACKUP: Period = Period::seconds(3600);
/// How often members are exchanged. Half a minute in production; what scenarios ask about takes days.
const EXCHANGE: Period = Period::seconds(3600);
/// How often the timeline is sampled.
pub(crate) const SAMPLE: Period = Period::seconds(3600);
/// Before the end, everything is read back; so long before.
const READ_BACK: Period = Period::seconds(2 * 3600);
/// When nodes of a mesh that exists fall silent, if they do not answer there: after the first backup.
const SILENT_FROM: Period = Period(FIRST_BACKUP.0 + 2 * 3_600_000);
/// The patience of nodes for which nobody counts as lost.
const FOR_EVER: Period = Period(u64::MAX / 4);
/// Bytes of data in a stripe.
pub(crate) const STRIPE_LEN: u32 = 256;

impl Scenario {
    /// The plan for a mesh, with what the seed draws.
    #[must_use]
    pub fn plan(&self, mesh: &Mesh, seed: u64) -> Plan {
        let first = || mesh.nodes.first().map_or_else(String::new, |node| node.operator.clone());
        let real = mesh.real.as_ref();
        let operator = real.map_or_else(first, |real| real.operator.clone());
        let placed = real.map_or_else(Vec::new, |real| real.placed.clone());
        let all = match real {
            Some(_) => placed.iter().map(|placed| placed.stripes).sum(),
            None => self.workload.stripes,
        };
        let vault = VaultSetup {
            operator,
            policy: mesh.policy.clone(),
            guardians: mesh.guardians.clone(),
            code: mesh.code,
            stripe_len: STRIPE_LEN,
            allow_degraded: false,
            outside: Vec::new(),
            placed,
        };
        let mut steps: Vec<Step> = self
            .backups()
            .map(|at| {
                let (stripes, changed_per_mille) = (all, self.workload.changed_per_mille);
                Step { at, what: What::BackUp { vault: 0, stripes, changed_per_mille } }
            })
            .collect();
        for Step { at, what } in self.drawn(seed).iter().flat_map(Event::steps) {
            let what = match real {
                Some(real) => real.call(what),
                None => what,
            };
            steps.push(Step { at, what });
        }
        for &node in real.iter().flat_map(|real| &real.silent) {
            steps.push(Step { at: SILENT_FROM, what: What::Crash(Who::Node(node)) });
        }
        let at = Period(self.duration.0.saturating_sub(READ_BACK.0));
        steps.push(Step { at, what: What::Restore { vault: 0 } });
        steps.sort_by_key(|step| step.at);
        let patience = mesh.patience.unwrap_or(FOR_EVER);
        let mut peer = PeerSetup { exchange_period: EXCHANGE, patience, ..PeerSetup::default() };
        if real.is_some() {
            // What its nodes have promised they do promise.
            let lock = &mesh.policy.lock;
            peer.lock_max = peer.lock_max.max(lock.period).max(lock.release_cooldown);
        }
        Plan {
            name: self.name.clone(),
            setup: Setup {
                nodes: mesh.nodes.clone(),
                peer,
                network: crate::NetworkConfig::default(),
                disk: crate::DiskConfig::default(),
                swaps: Vec::new(),
            },
            vaults: vec![vault],
            steps,
            duration: self.duration,
            sample: SAMPLE,
        }
    }

    /// When backups run: until somebody stops them.
    fn backups(&self) -> impl Iterator<Item = Period> + use<> {
        let stops = self.events.iter().filter(|event| matches!(event.hit, Hit::StopBackups));
        let end = stops.map(|event| event.at).min().unwrap_or(self.duration).0;
        let every = self.workload.every.0.max(1);
        (FIRST_BACKUP.0..end).step_by(every as usize).map(Period)
    }

    /// Everything that happens: the schedule, and what a seed draws from the rates, by time.
    pub(crate) fn drawn(&self, seed: u64) -> Vec<Event> {
        let mut events = self.events.clone();
        let mut random = Random::new(seed ^ 0x5363_656e_6573);
        for rate in &self.rates {
            let until = rate.until.min(self.duration);
            let mut at = rate.from.0;
            loop {
                at = at.saturating_add(random.exponential(rate.mean).0.max(1));
                if at > until.0 || events.len() >= crate::plan::STEPS_MAX {
                    break;
                }
                let hit = rate.hits[(random.number() % rate.hits.len() as u64) as usize].clone();
                events.push(Event { at: Period(at), until: None, hit });
            }
        }
        events.sort_by_key(|event| event.at);
        events
    }
}

impl Event {
    /// What it means to a mesh.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let at = |what| vec![(self.at, what)];
        let steps = match &self.hit {
            Hit::Destroy(who) => at(What::Vanish(who.clone())),
            Hit::Delete(who) => at(What::Seize(who.clone())),
            Hit::Close(who, notice) => {
                vec![(Period(self.at.0.saturating_add(notice.0)), What::Vanish(who.clone()))]
            }
            Hit::Dark(who, period) => at(What::Dark { who: who.clone(), period: *period }),
            Hit::StealKeys(guardians) => {
                let attacks = [
                    Attack::Weaken { vault: 0 },
                    Attack::Release { vault: 0, guardians: *guardians, dated_ms: 0 },
                    Attack::Card { vault: 0 },
                ];
                attacks.into_iter().map(|attack| (self.at, What::Attack(attack))).collect()
            }
            // The plan has no backups after it.
            Hit::StopBackups => Vec::new(),
            Hit::Step(what) => at(what.clone()),
        };
        let wait = |what| match self.until {
            Some(until) => What::Lurk { until, then: Box::new(what) },
            None => what,
        };
        steps.into_iter().map(|(at, what)| Step { at, what: wait(what) }).collect()
    }
}

impl Hit {
    /// Which domain is hit, if it is one.
    #[must_use]
    pub fn who(&self) -> Option<&Who> {
        match self {
            Self::Destroy(who) | Self::Delete(who) | Self::Close(who, _) | Self::Dark(who, _) => {
                Some(who)
            }
            Self::StealKeys(_) | Self::StopBackups | Self::Step(_) => None,
        }
    }
}
