//! Three operators who share no administrator swap capacity: they introduce themselves, agree, back up across all three, and give each other
//! no more than was agreed. Who is nobody's partner gets nothing.

use harness::{Mesh, Ran, bytes, strewn, tree_of, within, write};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// For a machine that does other work.
const HEARD: Duration = Duration::from_secs(120);

/// An operator: its nodes, state folders and keys are its own.
fn operator(name: &str, nodes: usize) -> Mesh {
    Mesh::start(&vec![(name, name); nodes])
}

fn partner(mesh: &Mesh, arguments: &[&str]) -> Ran {
    mesh.strewn(["--json", "partner"].iter().chain(arguments))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn ticket(mesh: &Mesh, name: &str) -> Value {
    partner(mesh, &["ticket", "--name", name]).summary()
}

/// Each adds the other. What one sees of the other's key is what the other sees of its own.
fn introduce(one: (&Mesh, &str), other: (&Mesh, &str)) {
    for ((mesh, _), (from, name)) in [(one, other), (other, one)] {
        let line = ticket(from, name);
        let added = partner(mesh, &["add", &text(&line["ticket"])]).summary();
        assert_eq!((&added["name"], &added["fingerprint"]), (&name.into(), &line["fingerprint"]));
    }
}

/// Both agree: `one` proposes to hold so much for the other, and wants as much. Gives the terms as the other sees them.
fn agree(one: (&Mesh, &str), other: (&Mesh, &str), give: &str, take: &str) -> Value {
    let proposal = partner(
        one.0,
        &["propose", other.1, "--give", give, "--take", take, "--term", "1y", "--max-lock", "90d"],
    );
    let line = text(&proposal.summary()["proposal"]);
    let accepted = partner(other.0, &["accept", &line]).summary();
    let answer = text(&accepted["agreement"]);
    let _ = partner(one.0, &["accept", &answer]).summary();
    accepted["terms"].clone()
}

/// How many nodes an operator's command reaches.
fn reached(mesh: &Mesh) -> usize {
    let peers = strewn(mesh.owner(), ["--json", "peers"]);
    peers.messages("node").iter().filter(|node| node["up"] == true).count()
}

fn reaches(mesh: &Mesh, nodes: usize) {
    let mut last = 0;
    let mut is_all = || {
        last = reached(mesh);
        last == nodes
    };
    assert!(within(HEARD, &mut is_all), "{last} of {nodes}");
}

/// What is held for a partner, and what it may store at most.
fn held(mesh: &Mesh, name: &str) -> (u64, u64) {
    let shown = partner(mesh, &["show", name]).summary();
    (shown["held"].as_u64().expect("bytes"), shown["share"].as_u64().expect("bytes"))
}

/// Waits until as much may be stored for a partner.
fn shares(mesh: &Mesh, name: &str, share: u64) {
    let mut last = (0, 0);
    let mut is_so = || {
        last = held(mesh, name);
        last.1 == share
    };
    assert!(within(HEARD, &mut is_so), "{last:?}, not {share}");
}

fn restore(mesh: &Mesh, home: &Path, target: &Path) -> Ran {
    let identity = mesh.identity("v");
    let arguments = [OsStr::new("restore"), OsStr::new("latest"), target.as_os_str()];
    strewn(home, arguments.into_iter().chain([OsStr::new("--identity"), identity.as_os_str()]))
}

const MIB: u64 = 1 << 20;

#[test]
fn three_operators_swap_and_bear_the_loss_of_one() {
    let (mut a, mut b, mut c) = (operator("a", 2), operator("b", 1), operator("c", 1));
    introduce((&a, "a"), (&b, "b"));
    introduce((&a, "a"), (&c, "c"));
    // The nodes know each other without a restart, those of A which its operator told nothing, too.
    for (mesh, nodes) in [(&a, 4), (&b, 3), (&c, 3)] {
        reaches(mesh, nodes);
    }
    let second = a.nodes[1].home.clone();
    let mut listed = Vec::new();
    let is_told = within(HEARD, || {
        listed = strewn(&second, ["--json", "partner", "list"]).messages("partner");
        listed.len() == 2
    });
    assert!(is_told, "{listed:?}");

    // Before anything is agreed nothing is held.
    a.create_vault("v", "[survive]\nany = [ { operator = 1 } ]\n[lock]\nperiod = \"30d\"\n");
    let source = a.dir().join("source");
    write(source.join("first"), bytes("partners 1", 10_000_000));
    let refused = a.backup(&source).ended(1).messages("exit_error").pop().expect("an error");
    assert!(text(&refused["message"]).contains("operator=1"), "{refused}");
    let files = |mesh: &Mesh| -> usize { mesh.nodes.iter().map(|n| n.shard_files().len()).sum() };
    assert_eq!((files(&b), files(&c)), (0, 0));

    // Then it is, at all three.
    let terms = agree((&a, "a"), (&b, "b"), "1GiB", "48MiB");
    assert_eq!((&terms["gives"], &terms["takes"]), (&(48 * MIB).into(), &(1024 * MIB).into()));
    let _ = agree((&c, "c"), (&a, "a"), "48MiB", "1GiB");
    shares(&b, "a", 48 * MIB);
    shares(&c, "a", 48 * MIB);
    shares(&a, "b", 1024 * MIB);
    let summary = a.backup(&source).summary();
    assert_eq!(summary["degraded"], false, "{summary}");
    assert!(files(&b) > 0 && files(&c) > 0);
    let saved = tree_of(&source);
    let (used, _) = held(&b, "a");
    assert!(used > 0 && used <= 48 * MIB, "{used}");

    // What would be more than agreed is refused, and what is here is counted as before, after a kill.
    write(source.join("second"), bytes("partners 2", 150_000_000));
    let _ = a.backup(&source).ended(1);
    let full = held(&b, "a");
    assert!(full.0 >= used && full.0 <= 48 * MIB, "{full:?}");
    b.nodes[0].kill();
    b.start_again();
    // Holders may bring each other what that backup left, as far as the share goes.
    let mut last = (None, full);
    let is_counted = within(HEARD, || {
        let shown = b.strewn(["--json", "peers"]).messages("node");
        let own = shown.iter().find(|node| node["labels"]["provider"] == "b");
        last = (own.and_then(|own| own["used"].as_u64()), held(&b, "a"));
        last.0 == Some(last.1.0)
    });
    assert!(is_counted, "all that it holds is its partner's: {last:?}");
    let full = last.1.0.max(full.0);
    assert_eq!((last.1.0, last.1.1), (full, 48 * MIB));
    assert!(full <= 48 * MIB, "{full}");

    // A smaller agreement takes nothing back.
    std::fs::remove_file(source.join("second")).expect("a file");
    let _ = agree((&b, "b"), (&a, "a"), "1MiB", "1GiB");
    shares(&b, "a", MIB);
    assert!(held(&b, "a").0 >= full);

    // Whichever operator is lost, all is there: also for who has nothing but the identity and a partner's address.
    let identity = a.identity("v");
    c.nodes[0].kill();
    let target = a.dir().join("without-c");
    let _ = restore(&a, a.owner(), &target).ok();
    assert_eq!(tree_of(&target), saved);
    c.start_again();
    reaches(&c, 3);
    a.nodes.iter_mut().for_each(harness::Node::kill);
    let address = std::fs::read_to_string(b.owner().join("run/listen")).expect("its addresses");
    let address = address.lines().next().expect("an address").to_owned();
    let empty = a.dir().join("empty");
    let recover = ["recover", "--from", &address, "--identity"].map(OsStr::new);
    let _ = strewn(&empty, recover.into_iter().chain([identity.as_os_str()])).ok();
    let target = a.dir().join("without-a");
    let _ = restore(&a, &empty, &target).ok();
    assert_eq!(tree_of(&target), saved);
}

#[test]
fn a_stranger_gets_nothing_and_a_removed_partner_nothing_new() {
    let (a, b, mut d) = (operator("a", 1), operator("b", 1), operator("d", 1));
    introduce((&a, "a"), (&b, "b"));
    let _ = agree((&b, "b"), (&a, "a"), "1GiB", "0");
    shares(&b, "a", 1024 * MIB);
    reaches(&a, 2);

    // Who knows everybody's key and address, and is added by nobody, is told nothing.
    for (mesh, name) in [(&a, "a"), (&b, "b")] {
        let _ = partner(&d, &["add", &text(&ticket(mesh, name)["ticket"])]).summary();
    }
    let is_tried = |mesh: &Mesh| mesh.nodes[0].log().contains("is not trusted");
    assert!(within(HEARD, || is_tried(&a) && is_tried(&b)), "{}", a.nodes[0].log());
    assert_eq!((reached(&a), reached(&b), reached(&d)), (2, 2, 1));
    let strangers = d.strewn(["--json", "peers"]).messages("node");
    assert_eq!(strangers.len(), 1, "it does not even learn who there is: {strangers:?}");
    let members = |mesh: &Mesh| mesh.strewn(["--json", "peers"]).messages("node").len();
    assert_eq!((members(&a), members(&b)), (2, 2));
    // A line that it agrees to with itself is worth nothing either.
    let proposal = partner(&d, &["propose", "a", "--give", "1GiB", "--take", "1TiB"]).summary();
    let refused = partner(&a, &["accept", &text(&proposal["proposal"])]).ended(1);
    assert!(refused.err.contains("no partner"), "{}", refused.err);
    d.nodes[0].kill();

    // A backup lies with the partner alone, who then removes this operator: all is read, and nothing new is taken.
    a.create_vault("v", "[survive]\nany = [ { operator = 1 } ]\n[lock]\nperiod = \"30d\"\n");
    let source = a.dir().join("source");
    write(source.join("file"), bytes("partners 3", 3_000_000));
    let _ = a.backup(&source).summary();
    let (kept, _) = held(&b, "a");
    assert!(kept > 0);
    let removed = partner(&b, &["remove", "a"]).summary();
    assert_eq!(removed["held"].as_u64(), Some(kept));
    let is_told = || b.nodes[0].log().contains("partners=0");
    assert!(within(HEARD, is_told), "its node takes it up\n{}", b.nodes[0].log());
    assert_eq!(reached(&b), 1, "its node is a stranger");
    let files = b.nodes[0].shard_files();
    let target = a.dir().join("restored");
    let _ = restore(&a, a.owner(), &target).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
    write(source.join("more"), bytes("partners 4", 3_000_000));
    let _ = a.backup(&source).ended(1);
    assert_eq!(b.nodes[0].shard_files(), files, "what it has stays, and nothing comes");
}
