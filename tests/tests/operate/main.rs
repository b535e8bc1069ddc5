//! Looking after a vault: checks that find what is wrong, answers to what a loss would mean that come true, further
//! hosts, tags, forgetting, profiles and limits.

mod check;
mod daily;
mod devices;
mod forget;
mod given_up;
mod hooks;
mod logs;
mod loss;
mod release;
mod repack;

use harness::{Mesh, Ran, bytes, write};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;

const ONE_PROVIDER: &str = "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n";

/// Two nodes at each of three providers: four shards of six are needed.
fn six() -> Mesh {
    let sites = [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];
    let mesh = Mesh::start(&sites);
    mesh.create_vault("v", ONE_PROVIDER);
    mesh
}

/// A folder with files that do not compress.
fn folder(at: &Path, seed: &str, files: usize, len: usize) {
    for file in 0..files {
        write(at.join(format!("{file}")), bytes(&format!("{seed} {file}"), len));
    }
}

/// Runs a command as the owner, with the vault's identity or without.
fn run(mesh: &Mesh, arguments: &[&str], with_identity: bool) -> Ran {
    let identity = mesh.identity("v");
    let mut all: Vec<&OsStr> = vec!["--json".as_ref()];
    all.extend(arguments.iter().map(OsStr::new));
    if with_identity {
        all.extend(["--identity".as_ref(), identity.as_os_str()]);
    }
    mesh.strewn(all)
}

/// The summary of a command that ended with this code.
fn summary(ran: Ran, code: i32) -> Value {
    ran.ended(code).messages("summary").pop().expect("a summary")
}

/// The first digits of the node of an account.
fn node_of(mesh: &Mesh, account: &str) -> String {
    let peers = mesh.strewn(["--json", "peers"]).ok().messages("node");
    let node = peers.iter().find(|node| node["labels"]["account"] == account);
    node.expect("a node of that account")["node"].as_str().unwrap()[..8].to_owned()
}
