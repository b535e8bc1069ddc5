//! Operators who swap capacity and mean no good: one that has not what it promised and is shown to the others, one that vanishes, one with many
//! nodes that says of them whatever it likes; and what a stranger costs.

use harness::swap::{
    HEARD, agree, agree_on, held, introduce, operator, partner, reaches, shares, standing, text,
    ticket,
};
use harness::{Mesh, ROOM, bytes, strewn, tree_of, within, write};
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// Of which any one operator may be lost.
const POLICY: &str = "[survive]\nany = [ { operator = 1 } ]\n[lock]\nperiod = \"30d\"\n";

/// The only summary of a command.
fn summary(ran: &harness::Ran) -> Value {
    ran.messages("summary").pop().unwrap_or_else(|| panic!("{ran:?}"))
}

#[test]
fn a_partner_without_what_it_promised_is_shown_to_the_third_by_what_it_signed() {
    let (a, b, c) = (operator("a", 1), operator("b", 1), operator("c", 1));
    for (other, name) in [(&b, "b"), (&c, "c")] {
        introduce((&a, "a"), (other, name));
        let _ = agree((other, name), (&a, "a"), "1GiB", "0");
        shares(other, "a", 1024 * MIB);
    }
    reaches(&a, 3);
    a.create_vault("v", POLICY);
    let source = a.dir().join("source");
    write(source.join("file"), bytes("cheat", 5_000_000));
    let _ = a.backup(&source).summary();
    let shown = summary(&a.strewn(["--json", "audit"]).ended(0));
    assert_eq!(shown["asked"], shown["proved"], "{shown}");

    // B keeps the receipts' worth in its own files no longer, and goes on answering.
    let files = b.nodes[0].shard_files();
    assert!(!files.is_empty());
    for file in &files {
        fs::remove_file(file).expect("a file");
    }
    let shown = summary(&a.strewn(["--json", "audit"]).ended(1));
    let guilty: Vec<&Value> = shown["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .filter(|node| node["asked"] != node["proved"])
        .collect();
    assert_eq!(guilty.len(), 1, "{shown}");
    let evidence = text(&shown["evidence"][0]);

    // C, who is no partner of B and was not there, finds what B's node signed; nobody can make that up.
    let of_c = |file: &str| strewn(c.owner(), ["--json", "verify-proof", file]).ended(1);
    let found = summary(&of_c(&evidence));
    assert_eq!((&found["good"], &found["kind"]), (&false.into(), &"audit".into()), "{found}");
    assert_eq!(found["node"], guilty[0]["node"]);
    assert_eq!(found["missing"].as_u64(), Some(files.len() as u64), "{found}");
    let listen = fs::read_to_string(b.owner().join("run/listen")).expect("its addresses");
    assert!(!listen.is_empty());
    let by_b = b.strewn(["--json", "peers"]).messages("node");
    assert!(
        by_b.iter().any(|node| node["node"] == found["node"] && node["labels"]["provider"] == "b"),
        "{by_b:?}"
    );
    let mut forged = fs::read(&evidence).expect("what it signed");
    let middle = forged.len() / 2;
    forged[middle] ^= 1;
    let file = c.dir().join("forged");
    fs::write(&file, forged).expect("a file");
    let _ = of_c(file.to_str().expect("a path")).messages("exit_error").pop().expect("an error");
    // Without B all is read.
    let target = a.dir().join("restored");
    let _ = a.restore("latest", &target, &[]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}

#[test]
fn a_partner_that_vanishes_gets_nothing_new_and_what_lay_there_lies_elsewhere() {
    let mut a = Mesh::start_with_spare(&[("a1", "a"), ("a2", "a")], &[("a3", "a"), ("a4", "a")]);
    let mut b = operator("b", 1);
    introduce((&a, "a"), (&b, "b"));
    let _ = agree_on((&b, "b"), (&a, "a"), "1GiB", "0", "10s");
    shares(&b, "a", 1024 * MIB);
    reaches(&a, 5);
    a.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"30d\"\n");
    let source = a.dir().join("source");
    write(source.join("file"), bytes("vanish", 6_000_000));
    let made = a.backup(&source).summary();
    assert_eq!(made["degraded"], false, "{made}");
    assert!(!b.nodes[0].shard_files().is_empty());
    for node in &mut a.nodes {
        node.kill();
        node.set(ROOM.0, ROOM.1);
        node.set("patience", "\"20s\"");
    }
    a.start_again();
    reaches(&a, 5);
    b.nodes[0].destroy();

    // It is said, at every node, and what it held is rebuilt where there is room.
    let mut last = Vec::new();
    let is_frozen = |at: &Value| !at["frozen"].is_null() && at["moves_in"] == "0s";
    let is_said = within(HEARD, || {
        last = standing(&a, "b");
        last.len() == 4 && last.iter().all(is_frozen)
    });
    assert!(is_said, "{last:?}");
    let log = a.nodes[0].log();
    assert!(log.contains("a partner breaks its part"), "{log}");
    let mut said = Value::Null;
    let is_whole = within(HEARD, || {
        let shown = a.strewn(["--json", "status", "--vault", "v"]).messages("summary").pop();
        said = shown.unwrap_or_default();
        let health = &said["vault"]["health"];
        health["stripes"].as_u64() > Some(0) && health["healthy"] == health["stripes"]
    });
    assert!(is_whole, "{said}");
    write(source.join("more"), bytes("vanish more", 3_000_000));
    let made = a.backup(&source).summary();
    assert_eq!(made["degraded"], false, "{made}");
    let target = a.dir().join("restored");
    let _ = a.restore("latest", &target, &[]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}

#[test]
fn an_operator_with_many_nodes_counts_once_whatever_it_says_of_them() {
    // Four nodes, each at a provider and in an account of its own, if that were to be believed.
    let sybil = [("p1", "s1"), ("p2", "s2"), ("p3", "s3"), ("p4", "s4")];
    let (a, mut s, c) = (operator("a", 1), Mesh::start(&sybil), operator("c", 1));
    introduce((&a, "a"), (&s, "s"));
    let _ = agree((&s, "s"), (&a, "a"), "1GiB", "8MiB");
    shares(&a, "s", 8 * MIB);
    shares(&s, "a", 1024 * MIB);
    reaches(&a, 5);
    // All of them together are one operator: with the own one there are two.
    let two = POLICY.replace("operator = 1", "operator = 2");
    a.create_vault("two", &two);
    let source = a.dir().join("source");
    write(source.join("file"), bytes("sybil", 2_000_000));
    let folder = source.to_str().expect("a path");
    let refused = a.strewn(["--json", "backup", folder, "--vault", "two"]).ended(1);
    let refused = refused.messages("exit_error").pop().expect("an error");
    assert!(text(&refused["message"]).contains("operator=2"), "{refused}");
    a.create_vault("v", POLICY);
    introduce((&a, "a"), (&c, "c"));
    let _ = agree((&c, "c"), (&a, "a"), "1GiB", "0");
    shares(&c, "a", 1024 * MIB);
    reaches(&a, 6);
    let made = a.strewn(["--json", "backup", folder, "--vault", "v"]).summary();
    assert_eq!(made["degraded"], false, "{made}");

    // What is held for it is what one operator was given, however many nodes and vaults it has.
    for vault in ["one", "two"] {
        s.create_vault(vault, "[survive]\nany = [ { node = 1 } ]\n[lock]\nperiod = \"30d\"\n");
        let source = s.dir().join(vault);
        write(source.join("file"), bytes(vault, 30_000_000));
        let source = source.to_str().expect("a path");
        let _ = s.strewn(["--json", "backup", source, "--vault", vault]);
    }
    let (used, share) = held(&a, "s");
    assert!(used > 0 && used <= 8 * MIB, "{used} of {share}");
    let files = a.nodes[0].shard_files();
    let on_disk: u64 = files.iter().map(|file| fs::metadata(file).map_or(0, |m| m.len())).sum();
    assert!(on_disk < 8 * MIB + 4 * MIB, "{on_disk} bytes, the own vault's among them");

    // And when all of its nodes fall together everything is read.
    s.nodes.iter_mut().for_each(harness::Node::destroy);
    let target = a.dir().join("restored");
    let _ = a.restore("latest", &target, &["--vault", "v"]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}

/// Files in a folder and all that are in it.
fn files_in(folder: &std::path::Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { files_in(&e.path()) } else { 1 }).sum()
}

fn bytes_in(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|e| {
            if e.path().is_dir() {
                bytes_in(&e.path())
            } else {
                e.metadata().map_or(0, |m| m.len())
            }
        })
        .sum()
}

/// What a node uses that a stranger knocks at for half a minute, and what it uses when nobody does.
#[test]
#[ignore = "a measurement, which takes a minute"]
fn what_a_stranger_costs() {
    let (a, mut d) = (operator("a", 1), operator("d", 1));
    let state = a.owner().join("node");
    let measure = |what: &str, during: &mut dyn FnMut()| {
        let node = &a.nodes[0];
        let before = (node.cpu_time(), files_in(&state), bytes_in(&state), node.peak_memory());
        let begun = Instant::now();
        during();
        let (took, cpu) = (begun.elapsed(), node.cpu_time().saturating_sub(before.0));
        println!(
            "{what}: {took:.1?}, {cpu:.2?} of CPU, files {} -> {}, bytes {} -> {}, peak memory {} -> {} MiB",
            before.1,
            files_in(&state),
            before.2,
            bytes_in(&state),
            before.3,
            node.peak_memory()
        );
    };
    let line = text(&ticket(&a, "a")["ticket"]);
    measure("nobody knocks", &mut || std::thread::sleep(Duration::from_secs(30)));
    let refused = || a.nodes[0].log().matches("is not trusted").count();
    let before = refused();
    let _ = partner(&d, &["add", &line]).summary();
    measure("a stranger's node knocks", &mut || std::thread::sleep(Duration::from_secs(30)));
    println!("it was turned away {} times", refused() - before);
    // Its commands do so at each call.
    let mut calls = 0;
    measure("a stranger's commands knock", &mut || {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let _ = d.strewn(["--json", "peers"]);
            calls += 1;
        }
    });
    println!("{calls} calls, turned away {} times in all", refused() - before);
    assert_eq!(a.nodes[0].shard_files().len(), 0);
    d.nodes[0].kill();
}
