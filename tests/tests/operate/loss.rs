//! `strewn what-if`: what it says comes true.

use super::{ONE_PROVIDER, folder, node_of, run, six, summary};
use harness::{Mesh, tree_of, within};
use serde_json::Value;
use std::time::Duration;

fn outcome(answer: &Value, snapshot: &str) -> String {
    let fates = answer["snapshots"].as_array().unwrap();
    let fate = fates.iter().find(|fate| fate["id"] == snapshot).expect("it is listed");
    fate["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn a_loss_that_the_policy_names_is_survived_and_a_larger_one_is_not() {
    let mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, "one", 2, 3_000_000);
    let _ = mesh.backup(&source).summary();

    // Every stripe survives, so that no identity is needed to know it.
    let bearable = summary(run(&mesh, &["what-if", "--lose", "provider=a"], false), 0);
    assert_eq!(bearable["nodes_lost"], 2);
    assert_eq!(bearable["stripes_left"], bearable["stripes"]);
    // One shard of the index is enough, and every node has one.
    let data = bearable["stripes"].as_u64().unwrap() - 1;
    assert_eq!(bearable["stripes_below_policy"], data);
    assert_eq!(bearable["papers_left"], 4);
    assert!(bearable["verdict"].as_str().unwrap().contains("below the policy"), "{bearable}");

    let lose = ["what-if", "--lose", "provider=a", "--lose", "account=g1"];
    for with_identity in [true, false] {
        let answer = summary(run(&mesh, &lose, with_identity), 1);
        let fate = &answer["snapshots"][0];
        // The index is left, so that without the identity nobody knows what else it needs.
        assert_eq!(fate["outcome"], if with_identity { "lost" } else { "unknown" }, "{answer}");
        assert_eq!((&fate["worst"]["left"], &fate["worst"]["needed"]), (&3.into(), &4.into()));
        let why = fate["why"].as_str().unwrap();
        assert!(!with_identity || why.contains("no clause"), "{fate}");
        assert_eq!(answer["entries_lost"], 0);
    }
    let node = format!("node={}", node_of(&mesh, "h2"));
    let _ = summary(run(&mesh, &["what-if", "--lose", &node], false), 0);
    let _ = summary(run(&mesh, &["what-if", "--lose", &node, "--lose", "provider=g"], false), 1);
    let everything =
        ["what-if", "--lose", "provider=a", "--lose", "provider=g", "--lose", "provider=h"];
    let answer = summary(run(&mesh, &everything, true), 1);
    assert_eq!((&answer["papers_left"], &answer["nodes_left"]), (&0.into(), &0.into()));
    assert!(answer["entries_lost"].as_u64().unwrap() > 0);

    let unknown = run(&mesh, &["what-if", "--lose", "provider=azure"], false).ended(1);
    let message = unknown.messages("exit_error").pop().unwrap()["message"].to_string();
    assert!(message.contains("provider=a, provider=g, provider=h"), "{message}");
    let shown = mesh.strewn(["what-if", "--lose", "provider=a"]).ok();
    assert!(shown.out.contains("survives") && shown.out.contains("SURVIVES"), "{}", shown.out);
}

#[test]
fn each_snapshot_has_its_own_fate_and_it_comes_true() {
    let mut mesh = six();
    let (first, second) = (mesh.dir().join("first"), mesh.dir().join("second"));
    folder(&first, "first", 2, 2_000_000);
    folder(&second, "second", 2, 2_000_000);
    let wide = mesh.backup(&first).summary();
    assert_eq!((&wide["k"], &wide["n"]), (&4.into(), &6.into()));
    // Without provider a the code is another one: each provider alone has enough.
    for node in mesh.nodes.iter_mut().filter(|node| node.provider == "a") {
        node.kill();
    }
    let narrow = mesh.backup(&second).summary();
    assert_eq!((&narrow["k"], &narrow["n"]), (&2.into(), &4.into()));
    for node in mesh.nodes.iter_mut().filter(|node| node.provider == "a") {
        node.start();
    }
    mesh.settle();
    let id = |summary: &Value| summary["snapshot"].as_str().unwrap().to_owned();
    let (wide, narrow) = (id(&wide), id(&narrow));

    let lose = ["what-if", "--lose", "provider=g", "--lose", "account=a1"];
    let answer = summary(run(&mesh, &lose, true), 1);
    assert_eq!(outcome(&answer, &wide), "lost", "{answer}");
    assert_eq!(outcome(&answer, &narrow), "survives", "{answer}");
    // Without the identity nobody knows which stripes the second one needs, and that is said.
    let guess = summary(run(&mesh, &lose, false), 1);
    assert_eq!(outcome(&guess, &narrow), "unknown", "{guess}");
    assert!(guess["verdict"].as_str().unwrap().contains("--identity"), "{guess}");

    mesh.destroy("g");
    mesh.nodes[2].destroy();
    let up = |mesh: &harness::Mesh| {
        let peers = mesh.strewn(["--json", "peers"]);
        peers.messages("node").iter().filter(|node| node["up"] == true).count()
    };
    assert!(within(Duration::from_secs(30), || up(&mesh) == 3));
    let back = mesh.dir().join("back");
    let _ = mesh.restore(&narrow, &back, &[]).ok();
    assert_eq!(tree_of(&back), tree_of(&second));
    let _ = mesh.restore(&wide, &mesh.dir().join("wide"), &[]).ended(1);
}

#[test]
fn a_vault_without_snapshots_has_nothing_to_lose() {
    let mesh = six();
    mesh.create_vault("w", ONE_PROVIDER);
    let answer = run(&mesh, &["what-if", "--lose", "provider=a", "--vault", "w"], false);
    // Nobody was introduced to it, so that nobody would be left who knows it.
    let answer = answer.ended(1).messages("summary").pop().unwrap();
    assert_eq!(answer["snapshots"].as_array().unwrap().len(), 0);
    assert_eq!(answer["verdict"], "no snapshot is listed");
}

#[test]
fn a_stripe_that_nobody_has_a_record_of_is_lost_and_not_forgotten() {
    let mut mesh = Mesh::start(&[("hetzner", "h"), ("aws", "a")]);
    mesh.create_vault("v", ONE_PROVIDER);
    let (first, second) = (mesh.dir().join("first"), mesh.dir().join("second"));
    folder(&first, "first", 2, 1_000_000);
    folder(&second, "second", 2, 1_000_000);
    mesh.nodes[0].kill();
    let arguments = ["--json", "backup", "--allow-degraded", first.to_str().unwrap()];
    let gone = mesh.strewn(arguments).summary();
    assert_eq!(gone["n"], 1, "{gone}");
    mesh.nodes[0].start();
    mesh.add("gcp", "g", &[]);
    mesh.settle();
    let kept = mesh.backup(&second).summary();
    assert_eq!((&kept["k"], &kept["n"]), (&2.into(), &3.into()));
    let before = summary(run(&mesh, &["status"], false), 1);
    assert_eq!(before["vault"]["health"]["unreadable"], 0, "{before}");

    mesh.destroy("aws");
    let id = |summary: &Value| summary["snapshot"].as_str().unwrap().to_owned();
    let (gone, kept) = (id(&gone), id(&kept));
    // What this host remembers, and what the log alone says.
    for is_fresh in [false, true] {
        if is_fresh {
            std::fs::remove_dir_all(mesh.owner().join("vaults/v/cache")).unwrap();
        }
        let status = summary(run(&mesh, &["status"], false), 1);
        let health = &status["vault"]["health"];
        assert!(health["unrecorded"].as_u64().unwrap() > 0, "{status}");
        assert_eq!(health["unrecorded"], health["unreadable"], "{status}");
        assert!(status["verdict"].as_str().unwrap().starts_with("NOT RECOVERABLE"), "{status}");

        let lose = ["what-if", "--lose", "provider=aws"];
        let answer = summary(run(&mesh, &lose, true), 1);
        assert_eq!(outcome(&answer, &gone), "lost", "{answer}");
        assert_eq!(outcome(&answer, &kept), "survives", "{answer}");
        assert_eq!(answer["stripes_lost_already"], health["unrecorded"], "{answer}");
        let guess = summary(run(&mesh, &lose, false), 1);
        assert_eq!(outcome(&guess, &gone), "unknown", "{guess}");
    }
    let _ = mesh.restore(&gone, &mesh.dir().join("gone"), &[]).ended(1);
}
