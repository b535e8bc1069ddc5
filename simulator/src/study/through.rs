//! What happened to an arrangement in a run, and when: of the scenario's schedule and what the seed drew. What did nothing there (nothing
//! lay there, or it was gone already) is told apart from what did; what waited for a moment struck when that came, or never.

use super::{Awaited, Row};
use crate::plan::{What, Who};
use crate::scenario::{Arrangement, Event, Hit, Kind, Mesh, Scenario};
use protocol::time::Period;
use std::collections::BTreeSet;

/// Most things that are told apart.
const TOLD_MAX: usize = 12;

/// Something that happened in a run, or waited for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// What it is called in a sentence.
    pub name: String,
    /// The word that scenario files have for it.
    pub kind: &'static str,
    /// When it did what it does: after a notice, or when its moment came. `None` where that never came.
    pub at: Option<Period>,
    /// What it waited for, if it waited.
    pub awaited: Option<Awaited>,
    /// Whether it struck something of the arrangement that was not gone already.
    pub has_struck: bool,
}

/// Everything that happened before the end, in order, and then what never came.
#[must_use]
pub fn course(scenario: &Scenario, arrangement: &Arrangement, row: &Row) -> Vec<Happened> {
    let mut gone = BTreeSet::new();
    let losses = losses(scenario, arrangement, row.seed);
    let mut course = Vec::new();
    for (at, event, awaited) in effects(scenario, row) {
        let lost = |lost: &Option<Period>| lost.is_some_and(|lost| at.is_some_and(|at| lost < at));
        gone.extend((0..).zip(&losses).filter(|(_, is)| lost(is)).map(|(index, _)| index));
        let struck = struck(arrangement, &event.hit);
        let is_theft = matches!(event.hit, Hit::StealKeys(_)) && is_mesh(arrangement);
        let has_struck = at.is_some() && (is_theft || !struck.is_subset(&gone));
        let is_gone = |index: &usize| match &arrangement.kind {
            Kind::Copies(_) => losses[*index].is_some_and(|lost| at.is_some_and(|at| lost <= at)),
            Kind::Mesh(_) => at.is_some() && takes(&event.hit),
        };
        gone.extend(struck.into_iter().filter(is_gone));
        let (name, kind) = (name(&event.hit), kind(&event.hit));
        course.push(Happened { name, kind, at, awaited, has_struck });
    }
    course
}

/// What an arrangement went through, in order; what happened several times is there once, with how often.
#[must_use]
pub fn through(scenario: &Scenario, arrangement: &Arrangement, row: &Row) -> Vec<String> {
    let mut told: Vec<(String, usize)> = Vec::new();
    for Happened { name, .. } in
        course(scenario, arrangement, row).into_iter().filter(|happened| happened.has_struck)
    {
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

/// All that happens before the end, by the time at which it does something, with what it waited for; at the end what never came.
fn effects(scenario: &Scenario, row: &Row) -> Vec<(Option<Period>, Event, Option<Awaited>)> {
    let mut awaited = row.awaited.iter();
    let effect = |event: Event| {
        let name = name(&event.hit);
        // Both are in order, and copies wait for nothing.
        let is_it = |of: &&Awaited| of.what == name && of.from == event.at;
        let own = awaited.clone().next().filter(is_it).cloned();
        if own.is_some() {
            awaited.next();
        }
        let begins = match &own {
            Some(own) => own.came,
            None => Some(event.at),
        };
        let notice = if let Hit::Close(_, notice) = &event.hit { notice.0 } else { 0 };
        (begins.map(|at| Period(at.0.saturating_add(notice))), event, own)
    };
    let mut effects: Vec<_> = scenario.drawn(row.seed).into_iter().map(effect).collect();
    effects.retain(|(at, ..)| at.is_none_or(|at| at <= scenario.duration));
    effects.sort_by_key(|(at, ..)| (at.is_none(), *at));
    effects
}

fn is_mesh(arrangement: &Arrangement) -> bool {
    matches!(arrangement.kind, Kind::Mesh(_))
}

/// The nodes or copies that something strikes.
fn struck(arrangement: &Arrangement, hit: &Hit) -> BTreeSet<usize> {
    match &arrangement.kind {
        Kind::Copies(copies) if matches!(hit, Hit::StopBackups) => (1..copies.len()).collect(),
        Kind::Mesh(mesh) if matches!(hit, Hit::StopBackups) => (0..mesh.nodes.len()).collect(),
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

/// Whether nodes that are struck are gone, or somebody else's, from then on.
fn takes(hit: &Hit) -> bool {
    matches!(hit, Hit::Destroy(_) | Hit::Delete(_) | Hit::Close(..))
}

/// When copies are lost; nodes are at once.
fn losses(scenario: &Scenario, arrangement: &Arrangement, seed: u64) -> Vec<Option<Period>> {
    match &arrangement.kind {
        Kind::Copies(copies) => crate::arrangement::losses(scenario, copies, seed),
        Kind::Mesh(_) => Vec::new(),
    }
}

/// What something is called in a sentence: as the scenario's file calls the domain.
pub(super) fn name(hit: &Hit) -> String {
    match hit {
        Hit::StopBackups => "the end of all backups".into(),
        Hit::StealKeys(0) => "the owner's stolen keys".into(),
        Hit::StealKeys(guardians) => format!("the owner's stolen keys and {guardians} guardians'"),
        Hit::Step(what) => step(what),
        hit => hit.who().map_or_else(String::new, label),
    }
}

fn step(what: &What) -> String {
    match what {
        What::Restart { who, .. } => format!("restarts of {}", label(who)),
        What::Recover { .. } => "a recovery".into(),
        What::Attack(attack) => format!("an attack ({})", variant(attack)),
        What::Lurk { then, .. } => step(then),
        what => format!("a step ({})", variant(what)),
    }
}

/// The word that plans have for something.
fn variant(of: &impl std::fmt::Debug) -> String {
    let text = format!("{of:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

fn kind(hit: &Hit) -> &'static str {
    match hit {
        Hit::Destroy(_) => "destroy",
        Hit::Delete(_) => "delete",
        Hit::Close(..) => "close",
        Hit::Dark(..) => "dark",
        Hit::StealKeys(_) => "steal-keys",
        Hit::StopBackups => "stop-backups",
        Hit::Step(What::Restart { .. }) => "restart",
        Hit::Step(What::Recover { .. }) => "recover",
        Hit::Step(_) => "step",
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
