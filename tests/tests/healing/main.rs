//! What is lost is made good by the nodes that are left, whatever else goes wrong meanwhile, and with nobody there who helps.

mod halves;
mod returned;
mod wiped;
mod wrong;

use harness::{Mesh, strewn, within};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// For a machine that does other work.
const REPAIR: Duration = Duration::from_secs(300);
/// How long a node may be silent. The next in rank takes over after a twelfth of it at most.
const PATIENCE: (&str, &str) = ("patience", "\"20s\"");
/// Repairs that have no end would begin several times in it.
const A_WHILE: Duration = Duration::from_secs(12);

/// What a command on a state folder comes to. Null when it finds nobody, as it may just when a node has begun again.
fn summary(home: &Path, arguments: &[&str]) -> Value {
    let ran = strewn(home, ["--json"].iter().chain(arguments));
    ran.messages("summary").pop().unwrap_or_default()
}

fn health(home: &Path) -> Value {
    summary(home, &["status", "--vault", "v"])["vault"]["health"].clone()
}

/// Whether so many stripes are there, and all of them as the policy asks.
fn is_whole(health: &Value, stripes: u64) -> bool {
    health["stripes"] == stripes && health["healthy"] == stripes
}

/// Waits until so many stripes are as the policy asks, by the word of the nodes that answer this host.
fn assert_heals(mesh: &Mesh, home: &Path, stripes: u64) {
    let mut last = Value::Null;
    let heals = within(REPAIR, || {
        last = health(home);
        is_whole(&last, stripes)
    });
    assert!(heals, "{last} of {stripes}\n{}\n{}", repairs(home), logs(mesh));
}

/// What all nodes that answer say of repairs.
fn repairs(home: &Path) -> Value {
    summary(home, &["repair", "status"])
}

fn count(repairs: &Value, what: &str) -> usize {
    repairs[what].as_array().map_or(usize::MAX, Vec::len)
}

/// Bytes that nodes moved since they were started.
fn moved(repairs: &Value) -> u64 {
    let nodes = repairs["nodes"].as_array().expect("nodes");
    nodes.iter().map(|node| node["moved"].as_u64().unwrap()).sum()
}

fn logs(mesh: &Mesh) -> String {
    mesh.nodes.iter().map(harness::Node::log).collect()
}
