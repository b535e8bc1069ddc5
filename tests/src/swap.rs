//! Operators who share no administrator, each with nodes, state folders and keys of its own: how they come to know each other and agree, by the
//! lines that people would paste.

use crate::mesh::Mesh;
use crate::program::{Ran, strewn, within};
use serde_json::Value;
use std::time::Duration;

/// How long it may take until all nodes have heard something, on a machine that does other work.
pub const HEARD: Duration = Duration::from_secs(120);

/// An operator: its nodes, state folders and keys are its own.
#[must_use]
pub fn operator(name: &str, nodes: usize) -> Mesh {
    Mesh::start(&vec![(name, name); nodes])
}

/// Runs `strewn partner` as an operator.
pub fn partner(mesh: &Mesh, arguments: &[&str]) -> Ran {
    mesh.strewn(["--json", "partner"].iter().chain(arguments))
}

/// What is text in an answer.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The line by which an operator introduces itself.
#[must_use]
pub fn ticket(mesh: &Mesh, name: &str) -> Value {
    partner(mesh, &["ticket", "--name", name]).summary()
}

/// Each adds the other. What one sees of the other's key is what the other sees of its own.
///
/// # Panics
/// When it is not.
pub fn introduce(one: (&Mesh, &str), other: (&Mesh, &str)) {
    for ((mesh, _), (from, name)) in [(one, other), (other, one)] {
        let line = ticket(from, name);
        let added = partner(mesh, &["add", &text(&line["ticket"])]).summary();
        assert_eq!((&added["name"], &added["fingerprint"]), (&name.into(), &line["fingerprint"]));
    }
}

/// Both agree: `one` proposes to hold so much for the other, and wants as much. Gives the terms as the other sees them.
pub fn agree(one: (&Mesh, &str), other: (&Mesh, &str), give: &str, take: &str) -> Value {
    agree_on(one, other, give, take, "30d")
}

/// The same, with a notice.
pub fn agree_on(
    one: (&Mesh, &str),
    other: (&Mesh, &str),
    give: &str,
    take: &str,
    notice: &str,
) -> Value {
    let terms = ["--give", give, "--take", take, "--term", "1y", "--max-lock", "90d"];
    let asked = ["propose", other.1].into_iter().chain(terms).chain(["--notice", notice]);
    let proposal = partner(one.0, &asked.collect::<Vec<_>>());
    let line = text(&proposal.summary()["proposal"]);
    let accepted = partner(other.0, &["accept", &line]).summary();
    let answer = text(&accepted["agreement"]);
    let _ = partner(one.0, &["accept", &answer]).summary();
    accepted["terms"].clone()
}

/// How many nodes an operator's command reaches.
#[must_use]
pub fn reached(mesh: &Mesh) -> usize {
    let peers = strewn(mesh.owner(), ["--json", "peers"]);
    peers.messages("node").iter().filter(|node| node["up"] == true).count()
}

/// Waits until it reaches so many.
///
/// # Panics
/// When it does not.
pub fn reaches(mesh: &Mesh, nodes: usize) {
    let mut last = 0;
    let mut is_all = || {
        last = reached(mesh);
        last == nodes
    };
    assert!(within(HEARD, &mut is_all), "{last} of {nodes}");
}

/// What is held for a partner, and what it may store at most.
///
/// # Panics
/// When that is not said.
#[must_use]
pub fn held(mesh: &Mesh, name: &str) -> (u64, u64) {
    let shown = partner(mesh, &["show", name]).summary();
    (shown["held"].as_u64().expect("bytes"), shown["share"].as_u64().expect("bytes"))
}

/// Waits until as much may be stored for a partner.
///
/// # Panics
/// When it may not.
pub fn shares(mesh: &Mesh, name: &str, share: u64) {
    let mut last = (0, 0);
    let mut is_so = || {
        last = held(mesh, name);
        last.1 == share
    };
    assert!(within(HEARD, &mut is_so), "{last:?}, not {share}");
}

/// How a partner stands at each node that an operator's command reaches.
#[must_use]
pub fn standing(mesh: &Mesh, name: &str) -> Vec<Value> {
    let shown = partner(mesh, &["show", name]).summary();
    shown["standing"].as_array().cloned().unwrap_or_default()
}
