//! Holders bring each other up to date, so that one that is left has everything; and one that was set back to an older disk is
//! found out by the others.

use harness::{Mesh, bytes, strewn, write};
use node::client::mesh::{Caller, Mesh as Connections};
use node::client::vault;
use node::home::Home;
use protocol::message::{Promised, Request, Response};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const POLICY: &str = "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n";
/// Each node meets three others in half a minute.
const MET: Duration = Duration::from_secs(150);

fn mesh() -> Mesh {
    let mesh = Mesh::start(&[("w", "w"), ("x", "x"), ("y", "y"), ("z", "z")]);
    mesh.create_vault("v", POLICY);
    mesh
}

fn back_up(mesh: &Mesh, name: &str) -> String {
    let source = mesh.dir().join("source");
    write(source.join(name), bytes(name, 300_000));
    mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned()
}

fn verify(mesh: &Mesh) -> Value {
    let ran = mesh.strewn(["--json", "log", "verify"]);
    ran.messages("summary").pop().unwrap_or_else(|| panic!("{ran:?}"))
}

/// Whether so many nodes show all of every log.
fn show_all(mesh: &Mesh, nodes: usize) -> bool {
    let verified = verify(mesh);
    verified["logs"].as_array().unwrap().iter().all(|log| {
        let all = log["nodes"].as_array().unwrap();
        all.iter().filter(|node| node[1]["state"] == "same").count() == nodes
    })
}

fn listed(home: &Path) -> Vec<String> {
    let snapshots = strewn(home, ["--json", "snapshots"]).ok().messages("snapshot");
    snapshots.iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

/// Whether something comes to be so. Nodes let one address greet them so many times a minute, so they are not asked all the time.
fn comes(mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + MET;
    while !is_so() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_secs(3));
    }
    true
}

fn trouble(mesh: &Mesh, account: &str) -> String {
    let peers = mesh.strewn(["--json", "peers"]).ok().messages("node");
    let node = peers.iter().find(|node| node["labels"]["account"] == account);
    node.expect("a node of that account")["trouble"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_and_one_that_lost_all_show_the_newest_when_they_are_left_alone() {
    let mut mesh = mesh();
    let first = back_up(&mesh, "first");
    countersigned(&mesh, 2).await;
    mesh.nodes[3].kill();
    let second = back_up(&mesh, "second");
    // The one had no part in the last backup; the other one has nothing any more but its key.
    mesh.nodes[2].kill();
    fs::remove_dir_all(mesh.nodes[2].home.join("node")).unwrap();
    mesh.start_again();
    mesh.settle();
    assert!(comes(|| show_all(&mesh, 4)), "{}", verify(&mesh));
    // That it promised something before is known to the others.
    assert!(comes(|| trouble(&mesh, "y").contains("set back")), "{}", trouble(&mesh, "y"));

    for alone in [3, 2] {
        for node in 0..4 {
            if node != alone {
                mesh.nodes[node].kill();
            }
        }
        assert_eq!(listed(mesh.owner()), [first.clone(), second.clone()]);
        let home = mesh.dir().join(format!("new-{alone}"));
        let (identity, from) = (mesh.identity("v"), mesh.nodes[alone].address());
        let words: [&OsStr; 6] = [
            "--json".as_ref(),
            "recover".as_ref(),
            "--from".as_ref(),
            from.as_ref(),
            "--identity".as_ref(),
            identity.as_ref(),
        ];
        let recovered = strewn(&home, words).ok().messages("snapshot");
        let ids: Vec<&str> = recovered.iter().filter_map(|found| found["id"].as_str()).collect();
        assert_eq!(ids, [&first, &second]);
        mesh.start_again();
        mesh.settle();
    }
}

/// What a node says of its promises.
async fn promised(mesh: &Mesh, node: usize) -> Promised {
    let home = Home::new(mesh.owner().to_owned());
    let caller = Caller::device(&vault::load(&home, "v").unwrap());
    let at = [mesh.nodes[node].address().parse().unwrap()];
    let connections = Connections::connect_at(&home, caller, &at).await.unwrap();
    let wanted = mesh.nodes[node].address();
    for (found, answer) in connections.ask_all(&Request::Promised).await {
        let record = found.record.verify().unwrap();
        if record.addresses.iter().any(|address| wanted.starts_with(address.as_str())) {
            let Response::Promised(promised) = answer.unwrap() else { panic!() };
            return *promised;
        }
    }
    panic!("node {node} does not answer");
}

/// Waits until others have countersigned all that a node has promised.
async fn countersigned(mesh: &Mesh, node: usize) {
    let end = Instant::now() + MET;
    loop {
        let promised = promised(mesh, node).await;
        let heads = promised.witnesses.iter().map(|signed| signed.verify().unwrap().head);
        if promised.head.seq > 0 && heads.max_by_key(|head| head.seq) == Some(promised.head) {
            return;
        }
        assert!(Instant::now() < end, "{promised:?}");
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_folder_was_set_back_is_found_out_drops_nothing_and_is_thawed() {
    let mut mesh = mesh();
    back_up(&mesh, "first");
    countersigned(&mesh, 3).await;
    let (stored, image) = (mesh.nodes[3].home.join("node"), mesh.dir().join("image"));
    mesh.nodes[3].kill();
    copy(&stored, &image);
    // Killed in the middle of its work it is no suspect.
    mesh.nodes[3].start();
    mesh.settle();
    back_up(&mesh, "second");
    countersigned(&mesh, 3).await;
    assert_eq!((trouble(&mesh, "z").as_str(), &verify(&mesh)["good"]), ("", &Value::Bool(true)));

    mesh.nodes[3].kill();
    fs::remove_dir_all(&stored).unwrap();
    copy(&image, &stored);
    mesh.nodes[3].start();
    mesh.settle();
    assert!(promised(&mesh, 3).await.awaits || promised(&mesh, 3).await.set_back.is_some());
    assert!(comes(|| trouble(&mesh, "z").contains("set back")), "{}", trouble(&mesh, "z"));
    assert!(trouble(&mesh, "z").contains("strewn node thaw"), "{}", trouble(&mesh, "z"));
    let found =
        mesh.strewn(["--json", "log", "verify"]).ended(1).messages("summary").pop().unwrap();
    assert_eq!(found["promises"][0]["says_so"], true, "{found}");
    assert!(mesh.nodes[3].log().contains("set back to an older disk"));
    // The others know it too, and that is logged. It still takes what comes.
    let logged = || mesh.nodes[..3].iter().any(|node| node.log().contains("set back"));
    assert!(comes(logged));
    let shards = mesh.nodes[3].shard_files().len();
    back_up(&mesh, "third");
    assert!(mesh.nodes[3].shard_files().len() > shards);

    let home = mesh.nodes[3].home.clone();
    mesh.nodes[3].kill();
    let shards = mesh.nodes[3].shard_files();
    let thawed = strewn(&home, ["--json", "node", "thaw"]).summary();
    assert_eq!((&thawed["thawed"], &thawed["was_set_back"]), (&false.into(), &true.into()));
    mesh.nodes[3].start();
    mesh.settle();
    assert_eq!(trouble(&mesh, "z").find("thaw"), None);
    assert!(comes(|| trouble(&mesh, "z").is_empty()), "{}", trouble(&mesh, "z"));
    assert!(comes(|| show_all(&mesh, 4)), "{}", verify(&mesh));
    assert_eq!(verify(&mesh)["good"], true);
    assert!(promised(&mesh, 3).await.set_back.is_none());
    assert_eq!(mesh.nodes[3].shard_files(), shards);
}
