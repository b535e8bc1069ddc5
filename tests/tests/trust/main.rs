//! A snapshot is announced as good only when all that it needs lies where the policy asks, and nothing that is lost, missing
//! or wrong at some nodes takes away what the others have.

mod known;
mod lost;
mod records;

use harness::{Mesh, Ran};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

const ONE_PROVIDER: &str = "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n";

fn mesh(providers: &[&str]) -> Mesh {
    let sites: Vec<(&str, &str)> = providers.iter().map(|&name| (name, name)).collect();
    let mesh = Mesh::start(&sites);
    mesh.create_vault("v", ONE_PROVIDER);
    mesh
}

/// Backs up although the policy cannot be met.
fn degraded(mesh: &Mesh, source: &Path) -> Ran {
    let arguments = ["--json", "backup", "--allow-degraded"].map(OsStr::new);
    mesh.strewn(arguments.into_iter().chain([source.as_os_str()]))
}

/// Takes away all that the owner's host remembers of what lies where.
fn forget(mesh: &Mesh) {
    fs::remove_dir_all(mesh.owner().join("vaults/v/cache")).expect("a cache");
}

/// The owner's node is gone with all that it held; the owner's keys are left.
fn lose_first(mesh: &mut Mesh) {
    mesh.nodes[0].kill();
    fs::remove_dir_all(mesh.owner().join("node")).expect("what the node held");
}
