//! Processes that are killed, stopped or told to end at any moment: nothing is lost, and the next run goes on.

mod backups;
mod kills;
mod overwrite;
mod restores;

use harness::{Mesh, bytes, write};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};

const POLICY: &str = "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n";

/// So many providers with two nodes each, and the vault `v`.
fn mesh(providers: usize) -> Mesh {
    let all = ["h", "a", "g", "o"];
    let sites: Vec<(&str, &str)> =
        all[..providers].iter().flat_map(|provider| [(*provider, "1"), (*provider, "2")]).collect();
    let mesh = Mesh::start(&sites);
    mesh.create_vault("v", POLICY);
    mesh
}

/// Files of `mib` MiB together that nothing makes smaller, the first of them large.
fn noise(at: &Path, seed: &str, mib: usize) {
    let mut left = mib;
    for file in 0.. {
        let len = left.min(if file == 0 { 40 } else { 8 });
        if len == 0 {
            break;
        }
        write(at.join(file.to_string()), bytes(&format!("{seed} {file}"), len << 20));
        left -= len;
    }
}

/// Bytes that a folder takes on the disk.
fn on_disk(folder: &Path) -> u64 {
    let mut bytes = 0;
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        // What is seen may be gone or have another name by now.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        bytes += meta.blocks() * 512;
        if meta.is_dir() {
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                left.push(entry.path());
            }
        }
    }
    bytes
}

/// Bytes that all nodes hold.
fn held(mesh: &Mesh) -> u64 {
    mesh.nodes.iter().map(|node| on_disk(&node.home.join("node/shards"))).sum()
}

/// Starts a restore, with what it says kept.
fn spawn_restore(mesh: &Mesh, snapshot: &str, target: &Path) -> Child {
    let identity = mesh.identity("v");
    let mut command = mesh.command(["--json", "restore", snapshot]);
    command.arg(target).arg("--identity").arg(identity);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
