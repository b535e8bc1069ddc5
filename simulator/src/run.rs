//! Runs a plan: a world, its owners, the steps; what is broken ends it, and what happened is measured.

use crate::moments::Moments;
use crate::plan::{Measures, Outcome, Plan, Sample, Verdict, Violation, What};
use crate::world::{Event, World};
use protocol::label::Site;
use protocol::placement::check_placement;
use protocol::sign::ideal;
use protocol::time::{Mono, Period};

/// After all faults are over and all is asked, everything asked must be done within this time.
pub const SETTLES_WITHIN: Period = Period::seconds(3 * 3600);

/// Runs a plan with a seed: the same two give the same outcome, byte for byte, on any machine.
#[must_use]
pub fn run(plan: &Plan, seed: u64) -> Outcome {
    let _ideal = ideal::begin();
    run_really_signed(plan, seed)
}

/// As [`run`], with signatures of Ed25519: takes longer, and what happens is the same.
#[must_use]
pub fn run_really_signed(plan: &Plan, seed: u64) -> Outcome {
    let mut world = World::new(seed, &plan.setup);
    for (index, vault) in plan.vaults.iter().enumerate() {
        world.add_owner(index, vault);
    }
    for step in &plan.steps {
        world.cause_at(Mono(step.at.0), Event::Do(Box::new(step.what.clone())));
    }
    let mut measures = Measures::default();
    let end = Mono(plan.duration.0);
    let mut held_since = None;
    let mut moments = Moments::of(plan);
    while world.checker().broken.is_none() {
        let now = world.now();
        let next = if plan.sample.0 == 0 { end } else { now.after(plan.sample).min(end) };
        while world.checker().broken.is_none() && world.advance(next) {
            moments.look(Period(world.now().0), &world.lurking);
        }
        if world.checker().broken.is_some() {
            break;
        }
        world.strike();
        moments.look(Period(world.now().0), &world.lurking);
        let sample = sample(&world);
        if sample.destroyed > 0 {
            measures.destroyed_at.get_or_insert(sample.at);
        }
        if sample.below_policy > 0 {
            held_since = None;
        } else {
            held_since.get_or_insert(sample.at);
        }
        measures.timeline.push(sample);
        if world.now() >= end {
            break;
        }
    }
    if world.checker().broken.is_none() {
        moments.end(&world.lurking);
        world.check_end(plan);
    }
    let violation = world.checker().broken.clone().map(|(promise, text)| Violation {
        promise: promise.into(),
        text,
        at: Period(world.now().0),
        events: world.trace().tail().collect(),
    });
    let last = measures.timeline.last().cloned().unwrap_or_default();
    measures.policy_held_since = held_since;
    (measures.messages, measures.bytes) = world.traffic();
    measures.events = world.trace().events();
    let stripes = || world.owners.iter().flat_map(|owner| &owner.stripes);
    measures.committed = stripes().filter(|owned| owned.is_committed).count() as u64;
    let is_gone = |owned: &&crate::owner::Owned| {
        owned.is_released && world.intact(&owned.stored, false) < usize::from(owned.stored.stripe.k)
    };
    measures.released = stripes().filter(is_gone).count() as u64;
    measures.lost.clone_from(&world.lost);
    measures.restores = world.restores;
    measures.backups =
        world.owners.iter().flat_map(|owner| owner.backed_up.iter().copied()).collect();
    measures.backups.sort_unstable();
    measures.backups_failed = world.owners.iter().map(|owner| owner.backups_failed).sum();
    measures.rebuilt = world.rebuilt_shards();
    measures.rebuilt_bytes = world.rebuilt_bytes();
    measures.left = world.departed.1;
    measures.waited = moments.all();
    let verdict = match () {
        () if violation.is_some() => Verdict::Violated,
        () if last.destroyed > 0 => Verdict::Destroyed,
        () if last.readable < last.stripes => Verdict::Unreachable,
        () if last.below_policy > 0 => Verdict::Degraded,
        () => Verdict::Survived,
    };
    Outcome { seed, verdict, violation, measures, digest: world.trace().digest() }
}

/// Whether what lies too close together may have been copied elsewhere.
fn has_moved(world: &World) -> bool {
    world.relabelled.is_some() || world.owners.iter().any(|owner| owner.setup.allow_degraded)
}

/// How the stripes fare that owners need.
fn sample(world: &World) -> Sample {
    let (messages, bytes) = world.traffic();
    let up = world.hosts.iter().filter(|host| host.peer.is_some() && !host.seized);
    let nodes_up = up.count() as u64;
    let at = Period(world.now().0);
    let mut sample = Sample { at, nodes_up, messages, bytes, ..Sample::default() };
    for owner in &world.owners {
        for stripe in owner.needed() {
            let stored = &owner.stripes[stripe].stored;
            let k = usize::from(stored.stripe.k);
            sample.stripes += 1;
            let there = world.places(stored, |_| true);
            if there.len() < k {
                sample.destroyed += 1;
                sample.below_policy += 1;
                continue;
            }
            let now = world.now();
            let is_reached = |node: usize| {
                let dark = world.network.dark.get(&node).is_some_and(|&until| now < until);
                world.hosts[node].peer.is_some() && !dark
            };
            let reached = world.places(stored, is_reached).len();
            sample.readable += u64::from(reached >= k);
            let sites: Vec<&Site> = there.iter().map(|&node| &world.hosts[node].site).collect();
            // Of what was copied elsewhere that copy may count with which the policy holds.
            let copied =
                || world.best_margin(&owner.policy, k, &world.all_places(stored, |_| true));
            let is_plain = owner.policy.conceal.any.is_empty();
            let holds = check_placement(&owner.policy, k, &sites).is_ok()
                || is_plain && has_moved(world) && copied() >= 0;
            sample.below_policy += u64::from(!holds);
        }
    }
    sample
}

impl World {
    /// The run is over: what had to be done by now is done.
    fn check_end(&mut self, plan: &Plan) {
        let hosts = std::mem::take(&mut self.hosts);
        self.checker().end(&hosts);
        self.hosts = hosts;
        let last = plan.steps.iter().map(|step| step.at).max().unwrap_or_default();
        // Who reads changes nothing, and what is written satisfies its policy from the beginning if it has to.
        let is_strict = plan.vaults.iter().all(|vault| !vault.allow_degraded);
        let changes = plan.steps.iter().filter(|step| match step.what {
            What::Restore { .. } | What::Recover { .. } => false,
            What::BackUp { .. } => !is_strict,
            _ => true,
        });
        let changed = changes.map(|step| step.at).max().unwrap_or_default();
        self.check_converged(&plan.setup.peer, Mono(changed.0));
        self.check_colluders();
        let last = Mono(last.0).max(self.disturbed).max(self.departed.0).after(SETTLES_WITHIN);
        let is_due = self.now() >= last && self.is_whole() && !self.hosts.iter().any(|h| h.lies);
        if !is_due {
            return;
        }
        let waiting = self
            .owners
            .iter()
            .position(|owner| owner.is_busy() || !self.clients[owner.client].is_idle());
        if let Some(owner) = waiting {
            let text = format!("owner {owner} waits for an answer, and nothing is in the way");
            self.checker().report("liveness", text);
        }
    }
}
