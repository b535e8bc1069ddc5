//! Leaving: `strewn node drain` empties a node that is taken away, and nobody misses it afterwards.

use harness::{Mesh, ROOM, Ran, bytes, files, strewn, tree_of, within, write};
use serde_json::Value;
use std::time::Duration;

/// For a machine that does other work.
const HEARD: Duration = Duration::from_secs(120);

fn summary(ran: &Ran) -> Value {
    ran.messages("summary").pop().expect("a summary")
}

fn health(mesh: &Mesh) -> Value {
    summary(&mesh.strewn(["--json", "status", "--vault", "v"]))["vault"]["health"].clone()
}

/// What the node of an account says of itself, as another one shows it.
fn node(mesh: &Mesh, account: &str) -> Value {
    let nodes = mesh.strewn(["--json", "peers"]).messages("node");
    nodes.into_iter().find(|node| node["labels"]["account"] == account).unwrap_or_default()
}

fn leaving(mesh: &Mesh, account: &str) -> Value {
    node(mesh, account)["leaving"].clone()
}

#[test]
fn a_drained_node_is_missed_by_nobody() {
    let sites = [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];
    let mut mesh = Mesh::start_with_spare(&sites, &[("o", "o1"), ("o", "o2")]);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    let source = mesh.dir().join("source");
    files(&source, "drain", 6, 5_000_000);
    let _ = mesh.backup(&source).summary();
    let held = mesh.nodes[2].shard_files();
    assert!(held.len() >= 2, "data and index");
    let home = mesh.nodes[2].home.clone();
    let drain = |more: &[&str]| strewn(&home, ["--json", "node", "drain"].iter().chain(more));

    // While nobody has room for its shards it would be missed, and says so.
    // Nobody counts as lost in this test.
    mesh.set(&[("patience", "\"5m\"")]);
    let said = summary(&drain(&[]).ended(1));
    assert_eq!((&said["leaving"], &said["may_leave"]), (&true.into(), &false.into()), "{said}");
    // What keeps its policy without it holds it up in no case: of the index few shards are needed.
    assert_eq!(said["stripes"].as_u64(), Some(held.len() as u64), "{said}");
    assert!(said["left"].as_u64() >= Some(1) && said["left"] == said["below"], "{said}");
    assert!(said["stuck"].as_array().is_some_and(|stuck| !stuck.is_empty()), "{said}");
    let _ = drain(&["--cancel"]).ok();
    assert!(within(HEARD, || leaving(&mesh, "a1").is_null()), "it stays");

    // With room they are moved. It may go, and has all that it had.
    mesh.set(&[ROOM]);
    let ran = drain(&[]).ok();
    let said = summary(&ran);
    assert_eq!((&said["may_leave"], &said["left"]), (&true.into(), &0.into()), "{said}");
    assert_eq!(said["stripes"].as_u64(), Some(held.len() as u64), "{said}");
    assert_eq!(mesh.nodes[2].shard_files(), held);
    // Others have signed that, and the paper says so to anybody: here they are all one operator's, and it says that too.
    assert!(said["signers"].as_array().is_some_and(|all| !all.is_empty()), "{said}");
    assert_eq!(said["unsigned"], 0, "{said}");
    let paper = said["paper"].as_str().expect("a paper").to_owned();
    let shown = summary(&strewn(mesh.dir(), ["--json", "verify-proof", &paper]).ended(1));
    assert_eq!(shown["stripes"], said["stripes"], "{shown}");
    assert_eq!(shown["by_no_other_operator"], shown["stripes"], "{shown}");
    assert_eq!(shown["operators"][0]["stripes"], shown["stripes"], "{shown}");
    // Whatever it moved was copied: nothing had to be fetched for it.
    let sizes: u64 = held.iter().map(|file| file.metadata().unwrap().len()).sum();
    let moved = node(&mesh, "a1")["repair"]["moved"].as_u64().expect("what it moved");
    assert!(moved <= sizes, "{moved} of {sizes}");
    let spare: usize = mesh.nodes[6..].iter().map(|node| node.shard_files().len()).sum();
    assert!(spare >= held.len(), "{spare} of {}", held.len());

    // It goes on leaving when it is started again, and takes nothing of a backup.
    mesh.nodes[2].kill();
    mesh.start_again();
    mesh.settle();
    let mut peers = String::new();
    let may_go = within(HEARD, || {
        peers = mesh.strewn(["peers"]).ok().out;
        peers.contains("leaving: it may go")
    });
    assert!(may_go, "{peers}");
    write(source.join("new"), bytes("while it leaves", 9_000_000));
    let _ = mesh.backup(&source).summary();
    assert_eq!(mesh.nodes[2].shard_files(), held);
    let _ = drain(&[]).ok();

    // At once, before anybody could repair anything, all is as the policy asks.
    mesh.nodes[2].destroy();
    let found = health(&mesh);
    assert_eq!(found["healthy"], found["stripes"], "{found}");
    mesh.destroy("g");
    let target = mesh.dir().join("restored");
    let _ = mesh.restore("latest", &target, &[]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}
