//! Looking into snapshots: lists, contents, searches, comparisons and mounts, also of what somebody made to do harm.

mod files;
mod git;
mod mount;

use harness::{Mesh, Ran};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;

/// Two nodes at each of three providers: four shards of six are needed.
fn six() -> Mesh {
    let sites = [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];
    let mesh = Mesh::start(&sites);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n");
    mesh
}

/// Runs a command with the vault's identity.
fn look<S: AsRef<OsStr>>(mesh: &Mesh, json: bool, arguments: impl IntoIterator<Item = S>) -> Ran {
    let mut command = mesh.command(json.then_some("--json"));
    command.args(arguments).arg("--identity").arg(mesh.identity("v"));
    command.output().expect("the program starts").into()
}

/// Backs up, and gives the snapshot's id.
fn backup(mesh: &Mesh, source: &Path) -> String {
    mesh.backup(source).summary()["snapshot"].as_str().expect("a snapshot").to_owned()
}

/// A field of all messages of a type.
fn all(ran: &Ran, message_type: &str, field: &str) -> Vec<String> {
    let text = |message: Value| message[field].as_str().expect("text").to_owned();
    ran.messages(message_type).into_iter().map(text).collect()
}
