//! What happened to an arrangement in a run, in words: of the scenario's schedule and what the seed drew, that which did something
//! there. What waited for a moment is said with its condition, unless the run shows that it came.

use super::Row;
use crate::plan::{Moment, What, Who};
use crate::scenario::{Arrangement, Event, Hit, Kind, Mesh, Scenario};
use protocol::time::Period;
use std::collections::BTreeSet;

/// Most things that are told apart.
const TOLD_MAX: usize = 12;

/// What an arrangement went through, in order; what happened several times is there once, with how often.
#[must_use]
pub fn through(scenario: &Scenario, arrangement: &Arrangement, row: &Row) -> Vec<String> {
    let mut told: Vec<(String, usize)> = Vec::new();
    let mut gone = BTreeSet::new();
    for (_, event) in effects(scenario, row.seed) {
        let struck = struck(arrangement, &event.hit);
        let is_theft = matches!(event.hit, Hit::StealKeys(_)) && is_mesh(arrangement);
        if !is_theft && struck.is_subset(&gone) {
            continue;
        }
        let mut name = name(&event.hit);
        // Copies are struck at once.
        if let Some(until) = event.until.filter(|_| is_mesh(arrangement)) {
            let is_loss = matches!(event.hit, Hit::Destroy(_) | Hit::Delete(_) | Hit::Close(..));
            let has_come =
                row.lost.iter().any(|lost| lost.split(' ').next() == Some(name.as_str()));
            if is_loss && !has_come {
                continue;
            }
            if !is_loss {
                name = format!("{name} (if it came to {})", moment(until));
            }
        }
        gone.extend(taken(arrangement, &event.hit, struck));
        match told.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => *times += 1,
            None => told.push((name, 1)),
        }
    }
    let more = told.len().saturating_sub(TOLD_MAX);
    let times = |(name, times): (String, usize)| match times {
        1 => name,
        times => format!("{name} ({times} times)"),
    };
    let mut told: Vec<String> = told.into_iter().take(TOLD_MAX).map(times).collect();
    if more > 0 {
        told.push(format!("{more} more"));
    }
    told
}

/// All that happens before the end, by the time at which it does something.
fn effects(scenario: &Scenario, seed: u64) -> Vec<(Period, Event)> {
    let effect = |event: Event| {
        let notice = if let Hit::Close(_, notice) = &event.hit { notice.0 } else { 0 };
        (Period(event.at.0.saturating_add(notice)), event)
    };
    let mut effects: Vec<(Period, Event)> = scenario.drawn(seed).into_iter().map(effect).collect();
    effects.retain(|(at, _)| *at <= scenario.duration);
    effects.sort_by_key(|(at, _)| *at);
    effects
}

fn is_mesh(arrangement: &Arrangement) -> bool {
    matches!(arrangement.kind, Kind::Mesh(_))
}

/// The nodes or copies that something strikes.
fn struck(arrangement: &Arrangement, hit: &Hit) -> BTreeSet<usize> {
    match &arrangement.kind {
        Kind::Copies(copies) => {
            (0..).zip(copies).filter(|(_, copy)| copy.is_struck_by(hit)).map(|(i, _)| i).collect()
        }
        Kind::Mesh(mesh) => domain(hit).map_or_else(BTreeSet::new, |who| meant(mesh, who)),
    }
}

fn domain(hit: &Hit) -> Option<&Who> {
    match hit {
        Hit::Step(What::Restart { who, .. }) => Some(who),
        hit => hit.who(),
    }
}

/// The nodes that are meant, by what they are called here.
fn meant(mesh: &Mesh, who: &Who) -> BTreeSet<usize> {
    let called = match (&mesh.real, who) {
        (Some(real), Who::Label(label)) => real.called.get(label),
        _ => None,
    };
    let who = called.unwrap_or(who);
    let nodes = (0..).zip(&mesh.nodes);
    nodes.filter(|(i, node)| who.is(*i, &node.operator, &node.labels)).map(|(i, _)| i).collect()
}

/// Those of them that are gone, or somebody else's, from then on.
fn taken(arrangement: &Arrangement, hit: &Hit, struck: BTreeSet<usize>) -> BTreeSet<usize> {
    let is_taken = |index: &usize| match &arrangement.kind {
        Kind::Copies(copies) => !copies[*index].withstands(hit),
        Kind::Mesh(_) => matches!(hit, Hit::Destroy(_) | Hit::Delete(_) | Hit::Close(..)),
    };
    struck.into_iter().filter(is_taken).collect()
}

/// What something is called in a sentence: as the scenario's file calls the domain.
fn name(hit: &Hit) -> String {
    match hit {
        Hit::StealKeys(0) => "the owner's stolen keys".into(),
        Hit::StealKeys(guardians) => format!("the owner's stolen keys and {guardians} guardians'"),
        Hit::Step(What::Restart { who, .. }) => format!("restarts of {}", label(who)),
        hit => hit.who().map_or_else(String::new, label),
    }
}

fn label(who: &Who) -> String {
    match who {
        Who::Label(label) => label.clone(),
        Who::All => "everything".into(),
        Who::Node(node) => format!("node={node}"),
        Who::Device(_) => "a device".into(),
    }
}

fn moment(moment: Moment) -> &'static str {
    match moment {
        Moment::Recovering => "a recovery",
        Moment::Cooling => "something that cools",
        Moment::BackingUp => "a backup",
        Moment::Repairing => "a repair",
        Moment::LockEnded => "the end of a lock",
    }
}
