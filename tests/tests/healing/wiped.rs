//! Accounts are wiped, the owner's host among them, and the vault comes back whole to a machine that has nothing.

use super::{PATIENCE, assert_heals, health, is_whole};
use harness::{Mesh, ROOM, files, strewn, tree_of};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The vault in a new state folder, by the recovery identity and what this node knows.
fn recover(mesh: &Mesh, home: &str, node: usize) -> PathBuf {
    let (home, identity) = (mesh.dir().join(home), mesh.identity("v"));
    let from = mesh.nodes[node].address();
    let words: [&OsStr; 6] = [
        "--json".as_ref(),
        "recover".as_ref(),
        "--from".as_ref(),
        from.as_ref(),
        "--identity".as_ref(),
        identity.as_ref(),
    ];
    let _ = strewn(&home, words).ok();
    home
}

fn restore(home: &Path, identity: &Path, target: &Path) {
    let words: [&OsStr; 5] = [
        "restore".as_ref(),
        "latest".as_ref(),
        target.as_ref(),
        "--identity".as_ref(),
        identity.as_ref(),
    ];
    let _ = strewn(home, words).ok();
}

#[test]
fn the_owner_and_a_provider_are_gone_for_good_and_then_the_next_provider_is() {
    let sites = [
        ("h", "h1"),
        ("h", "h2"),
        ("a", "a1"),
        ("a", "a2"),
        ("g", "g1"),
        ("g", "g2"),
        ("o", "o1"),
        ("o", "o2"),
    ];
    let spare = [("h", "h3"), ("a", "a3"), ("g", "g3"), ("o", "o3")];
    let mut mesh = Mesh::start_with_spare(&sites, &spare);
    // What four providers make possible three must keep up: of eight shards four are enough.
    mesh.create_vault(
        "v",
        "[survive]\nany = [ { provider = 1 }, { account = 4 } ]\n[lock]\nperiod = \"90d\"\n",
    );
    let source = mesh.dir().join("source");
    files(&source, "wiped", 6, 3_000_000);
    let _ = mesh.backup(&source).summary();
    mesh.set(&[ROOM, PATIENCE]);
    let before = health(mesh.owner());
    let stripes = before["stripes"].as_u64().expect("stripes");
    assert!(stripes >= 3 && is_whole(&before, stripes), "{before}");

    // Four of the eight that held everything, all at once.
    mesh.nodes[0].destroy();
    mesh.destroy("a");
    let home = recover(&mesh, "new", 1);
    assert_heals(&mesh, &home, stripes);

    mesh.destroy("g");
    let home = recover(&mesh, "newer", 11);
    let target = mesh.dir().join("restored");
    restore(&home, &mesh.identity("v"), &target);
    assert_eq!(tree_of(&target), tree_of(&source));
}
