//! Three operators who share no administrator swap capacity: they introduce themselves, agree, back up across all three, and give each other
//! no more than was agreed. Both can tell what a month came to, and one leaves in good order. Who is nobody's partner gets nothing.

use harness::swap::{
    HEARD, agree, held, introduce, operator, partner, reached, reaches, shares, text, ticket,
};
use harness::{Mesh, ROOM, Ran, bytes, strewn, tree_of, within, write};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;

/// Changes a setting of an operator's nodes, which start again.
fn set(mesh: &mut Mesh, (setting, value): (&str, &str)) {
    for node in &mut mesh.nodes {
        node.kill();
        node.set(setting, value);
    }
    mesh.start_again();
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
    // A longer lock than that allows is refused before anybody has a shard.
    c.create_vault("long", "[survive]\nany = [ { operator = 1 } ]\n[lock]\nperiod = \"91d\"\n");
    let refused = c.backup(&source).ended(1).messages("exit_error").pop().expect("an error");
    let said = "a is left out: the agreement does not allow it: a lock period of 91d is asked for, and 90d at most is promised";
    assert!(text(&refused["message"]).contains(said), "{refused}");
    assert!(text(&refused["next"]).contains("strewn partner propose a"), "{refused}");
    assert_eq!((files(&a), files(&b), files(&c)), (0, 0, 0));
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

    // What was held this month is the same by B's books, which a kill did not change, by its receipts, and for both sides.
    let _ = a.strewn(["audit"]).ok();
    let stated = partner(&a, &["statement", "--verify", "--countersign"]);
    let stated = stated.messages("statement");
    assert_eq!(stated.len(), 2, "B's node and C's: {stated:?}");
    for said in &stated {
        assert_eq!(
            (&said["direction"], &said["verified"]["good"]),
            (&"taken".into(), &true.into())
        );
        assert!(said["verified"]["receipts"].as_u64() > Some(0), "{said}");
        // By A's own word, which it gave at the end of backup and audit.
        for served in ["received", "audits_passed"] {
            assert!(said["figures"][served].as_u64() > Some(0), "{served}: {said}");
        }
    }
    let given = partner(&b, &["statement", "a"]).messages("statement");
    assert_eq!(given.len(), 1, "{given:?}");
    let figures = &given[0]["figures"];
    let bytes = |name: &str| figures[name].as_u64().expect("bytes");
    let books = bytes("opening_bytes") + bytes("put_bytes") - bytes("dropped_bytes");
    assert_eq!(books, held(&b, "a").0);
    assert!(given[0]["agreed_until"].as_u64().is_some(), "A's word is here: {}", given[0]);
    let balance = partner(&a, &["balance"]).messages("balance");
    assert_eq!(balance.len(), 2, "{balance:?}");
    assert!(balance.iter().all(|with| with["taken"]["put_bytes"].as_u64() > Some(0)));

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
    let stated = partner(&a, &["statement", "b", "--verify"]).messages("statement");
    assert_eq!((stated.len(), &stated[0]["verified"]["good"]), (1, &true.into()), "{stated:?}");
    assert!(stated[0]["figures"]["sent"].as_u64() > Some(0), "what was read: {stated:?}");
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
    let (a, mut b, mut d) = (operator("a", 1), operator("b", 1), operator("d", 1));
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
    // A gives notice: both sides hold it, after a kill, too.
    let left = partner(&a, &["leave", "b"]).summary();
    assert_eq!(left["took"].as_array().map(Vec::len), Some(2), "{left}");
    b.nodes[0].kill();
    b.start_again();
    for (mesh, name) in [(&a, "b"), (&b, "a")] {
        let noticed = || {
            let shown = partner(mesh, &["show", name]).summary();
            let standing = shown["standing"].as_array().cloned().unwrap_or_default();
            standing.len() == 2
                && standing.iter().all(|at| at["notices"][0]["given"] == left["given"])
        };
        assert!(within(HEARD, noticed), "{}", partner(mesh, &["show", name]).summary());
    }
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

#[test]
fn what_lies_with_a_partner_moves_to_others_once_notice_is_given() {
    let mut a = Mesh::start_with_spare(&[("a1", "a"), ("a2", "a")], &[("a3", "a"), ("a4", "a")]);
    let mut b = operator("b", 1);
    introduce((&a, "a"), (&b, "b"));
    let _ = agree((&b, "b"), (&a, "a"), "1GiB", "0");
    shares(&b, "a", 1024 * MIB);
    reaches(&a, 5);
    a.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"30d\"\n");
    let source = a.dir().join("source");
    write(source.join("file"), bytes("partners 5", 9_000_000));
    let summary = a.backup(&source).summary();
    assert_eq!(summary["degraded"], false, "{summary}");
    let held = b.nodes[0].shard_files();
    assert!(!held.is_empty());
    // Nobody counts as lost in this test.
    set(&mut a, ("patience", "\"5m\""));
    set(&mut b, ("patience", "\"5m\""));
    reaches(&a, 5);
    let _ = partner(&a, &["leave", "b"]).summary();

    // While nobody has room for what lies there, that is said while there is time.
    let mut last = Vec::new();
    let standing = |mesh: &Mesh| {
        let shown = partner(mesh, &["show", "b"]).summary();
        shown["standing"].as_array().cloned().unwrap_or_default()
    };
    let waits = |at: &Value| at["waiting"].as_u64() > Some(0) && at["stuck"] == at["waiting"];
    let is_said = within(HEARD, || {
        last = standing(&a);
        last.iter().any(waits)
    });
    assert!(is_said, "{last:?}");

    // With room it is copied, and the partner is missed by nobody.
    set(&mut a, ROOM);
    reaches(&a, 5);
    let is_done = |at: &Value| at["waiting"] == 0 && at["counted"] == true;
    let is_moved = within(HEARD, || {
        last = standing(&a);
        let is_all = last.len() == 5 && last.iter().all(is_done);
        is_all && a.nodes[2..].iter().any(|node| node.shard_files().len() >= held.len())
    });
    let peers = || a.strewn(["--json", "peers"]).messages("node");
    assert!(is_moved, "{last:?}\n{:?}", peers());
    assert_eq!(b.nodes[0].shard_files(), held, "what was promised stays");
    // All is there, and as the policy asks, when the partner is gone.
    b.nodes[0].destroy();
    let found = a.strewn(["--json", "status", "--vault", "v"]).messages("summary");
    let health = &found[0]["vault"]["health"];
    assert_eq!(health["healthy"], health["stripes"], "{health}");
    let target = a.dir().join("restored");
    let _ = restore(&a, a.owner(), &target).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}

/// The node of an operator with one, as it shows itself.
fn own_node(mesh: &Mesh) -> Value {
    strewn(mesh.owner(), ["--json", "node", "show"]).summary()
}

#[test]
fn labels_count_as_far_as_another_operator_vouches_for_them_and_as_they_were_agreed() {
    let (mut a, mut b) = (operator("a", 1), operator("b", 1));
    introduce((&a, "a"), (&b, "b"));
    reaches(&a, 2);
    let _ = agree((&a, "a"), (&b, "b"), "1GiB", "1GiB");
    shares(&b, "a", 1024 * MIB);
    let policy = "[survive]\nany = [ { provider = 1 } ]\n[evidence]\nprovider = \"vouched\"\n";
    a.create_vault("v", &format!("{policy}[lock]\nperiod = \"30d\"\n"));
    let source = a.dir().join("source");
    write(source.join("first"), bytes("labels 1", 100_000));
    let refused = a.backup(&source).ended(1).messages("exit_error").pop().expect("an error");
    assert!(text(&refused["message"]).contains("that are vouched"), "{refused}");

    for (by, of, name) in [(&a, &b, "b"), (&b, &a, "a")] {
        let (node, label) = (text(&own_node(of)["node"]), format!("provider={name}"));
        // Nobody vouches for himself, nor for what is not stated.
        let _ = partner(of, &["vouch", &node, "--label", &label]).ended(1);
        let _ = partner(by, &["vouch", &node, "--label", "provider=other"]).ended(1);
        let line = text(&partner(by, &["vouch", &node, "--label", &label]).summary()["vouch"]);
        let _ = strewn(by.owner(), ["--json", "node", "carry", &line]).ended(1);
        let carried = strewn(of.owner(), ["--json", "node", "carry", &line]).summary();
        assert_eq!(carried["written"], true);
        assert_eq!(own_node(of)["vouches"][0]["labels"]["provider"], name);
    }
    for mesh in [&mut a, &mut b] {
        mesh.nodes[0].kill();
        mesh.start_again();
    }
    let mut last = Vec::new();
    let is_vouched = within(HEARD, || {
        last = strewn(a.owner(), ["--json", "peers"]).messages("node");
        last.len() == 2 && last.iter().all(|node| node["evidence"]["provider"] == "vouched")
    });
    assert!(is_vouched, "{last:?}");
    let summary = a.backup(&source).summary();
    assert_eq!(summary["degraded"], false, "{summary}");
    let status = strewn(a.owner(), ["--json", "status"]).summary();
    let exposure = status["vault"]["exposure"].as_array().expect("a list").clone();
    let vouched = exposure.iter().find(|line| line["level"] == "provider_vouched");
    assert_eq!(vouched.expect("the level that is asked for")["destroy"], 2);

    // It was agreed that the partner lies elsewhere: then it is nowhere that is known.
    let arguments =
        ["propose", "b", "--give", "1GiB", "--take", "1GiB", "--asks", "provider=elsewhere"];
    let line = text(&partner(&a, &arguments).summary()["proposal"]);
    let answer = text(&partner(&b, &["accept", &line]).summary()["agreement"]);
    let _ = partner(&a, &["accept", &answer]).summary();
    let place = partner(&a, &["show", "b"]).summary()["places"][0].clone();
    assert!(text(&place["contradicted"]).contains("elsewhere was agreed"), "{place}");
    assert_eq!(place["evidence"]["provider"], "contradicted");
    let peers = strewn(a.owner(), ["--json", "peers"]).messages("node");
    let trouble = |node: &Value| node["trouble"].as_str().map(str::to_owned);
    let said: Vec<String> = peers.iter().filter_map(trouble).collect();
    assert!(said.len() == 1 && said[0].contains("counts as unknown"), "{said:?}");
    assert!(within(HEARD, || a.nodes[0].log().contains("is not what was agreed")));
}
