//! Operators who swap capacity and mean no good: one that has not what it promised is shown to a third; and what a stranger costs.

use harness::swap::{agree, introduce, operator, partner, reaches, shares, text, ticket};
use harness::{bytes, strewn, tree_of, write};
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
