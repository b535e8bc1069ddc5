//! `strewn check`.

use super::{folder, node_of, run, six, summary};
use harness::{bytes, write};
use std::fs;

fn count(summary: &serde_json::Value, kind: &str) -> u64 {
    summary["problems"][kind].as_u64().unwrap_or(0)
}

#[test]
fn a_sound_vault_is_good_and_says_what_was_not_looked_at() {
    let mesh = six();
    let nothing = summary(run(&mesh, &["check"], false), 0);
    assert_eq!((&nothing["good"], &nothing["stripes"]), (&true.into(), &0.into()));
    let source = mesh.dir().join("source");
    folder(&source, "one", 3, 15_000_000);
    let _ = mesh.backup(&source).summary();
    let _ = mesh.backup(&source).summary();

    let structure = summary(run(&mesh, &["check"], false), 0);
    assert!(structure["verdict"].as_str().unwrap().contains("--read-data"), "{structure}");
    assert_eq!(structure["snapshots"], 2);
    assert_eq!(structure["snapshots_checked"], 0);
    assert!(structure["notes"][0].as_str().unwrap().contains("without the recovery identity"));

    let all = summary(run(&mesh, &["check", "--read-data"], true), 0);
    let stripes = all["stripes"].as_u64().unwrap();
    assert!(stripes >= 4, "{all}");
    assert_eq!(all["data"]["stripes"], stripes);
    assert_eq!(all["data"]["shards"], stripes * 6);
    assert_eq!(all["snapshots_checked"], 2);
    assert_eq!(all["data"]["closed"], 0);
    assert!(all["data"]["chunks"].as_u64().unwrap() > 45, "{all}");
    assert_eq!(all["notes"].as_array().unwrap().len(), 0);

    // The parts are disjoint and everything together; without the identity shards are hashed all the same.
    let parts = ["1/3", "2/3", "3/3"].map(|part| {
        let part = summary(run(&mesh, &["check", "--read-data-subset", part], false), 0);
        part["data"]["stripes"].as_u64().unwrap()
    });
    assert_eq!(parts.iter().sum::<u64>(), stripes);
    let some = summary(run(&mesh, &["check", "--read-data-subset", "1%"], true), 0);
    assert_eq!(some["data"]["stripes"], 1);
    let _ = run(&mesh, &["check", "--read-data-subset", "4/3"], true).ended(2);
}

#[test]
fn a_shard_that_a_disk_altered_is_named_with_its_holder() {
    let mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, "one", 1, 5_000_000);
    let _ = mesh.backup(&source).summary();
    // The longest shard of a node is one of the content.
    let files = mesh.nodes[3].shard_files();
    let file = files.iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    let mut held = fs::read(file).unwrap();
    let middle = held.len() / 2;
    held[middle] ^= 1;
    fs::write(file, &held).unwrap();

    // Holders believe what their tables say: only reading finds it out.
    let _ = summary(run(&mesh, &["check"], true), 0);
    let found = run(&mesh, &["check", "--read-data"], true);
    let errors = found.messages("error");
    let report = summary(found, 1);
    assert_eq!(count(&report, "shard_damaged"), 1, "{report}");
    assert_eq!(report["problems"].as_object().unwrap().len(), 1, "{report}");
    assert_eq!(report["snapshots_broken"].as_array().unwrap().len(), 0);
    let message = errors[0]["message"].as_str().unwrap();
    assert!(message.contains(&node_of(&mesh, "a2")), "{message}");
    assert_eq!(errors[0]["kind"], "shard_damaged");

    // One more than the code bears, and the snapshot is named.
    for node in [0, 4] {
        for file in mesh.nodes[node].shard_files() {
            fs::write(file, b"nothing that was held").unwrap();
        }
    }
    let report = summary(run(&mesh, &["check", "--read-data"], true), 1);
    assert_eq!(report["snapshots_broken"].as_array().unwrap().len(), 1, "{report}");
    assert!(count(&report, "stripe_unreadable") > 0, "{report}");
    let verdict = report["verdict"].as_str().unwrap();
    assert!(verdict.starts_with("NOT AS IT SHOULD BE: 1 snapshot that cannot"), "{verdict}");
}

#[test]
fn only_the_snapshots_that_need_what_is_lost_are_called_broken() {
    let mesh = six();
    let source = mesh.dir().join("source");
    // The list of so many files is many chunks long, and most of them are those of all three snapshots.
    for file in 0..8_000 {
        write(source.join(format!("many/{file:05} {}", "x".repeat(200))), "");
    }
    let id = |summary: &serde_json::Value| summary["snapshot"].as_str().unwrap().to_owned();
    let first = id(&mesh.backup(&source).summary());
    let before: Vec<_> = mesh.nodes.iter().map(harness::Node::shard_files).collect();
    write(source.join("many/03999 and one more"), bytes("two", 20_000_000));
    let second = id(&mesh.backup(&source).summary());
    for (node, before) in mesh.nodes.iter().zip(&before).skip(3) {
        // The long ones hold the new file's bytes, others what says where they are.
        let is_long = |file: &&std::path::PathBuf| file.metadata().unwrap().len() > 4 << 20;
        let files = node.shard_files();
        let new: Vec<_> = files.iter().filter(|file| !before.contains(file)).collect();
        let long: Vec<_> = new.into_iter().filter(is_long).collect();
        assert!(!long.is_empty());
        for file in long {
            fs::remove_file(file).unwrap();
        }
    }
    // The third has what the second brought: it is known, and not stored again.
    folder(&source.join("before"), "three", 1, 200_000);
    let third = id(&mesh.backup(&source).summary());
    let report = summary(run(&mesh, &["check", "--read-data"], true), 1);
    assert_eq!(report["snapshots_broken"], serde_json::json!([second, third]), "{report}");
    assert_eq!(report["snapshots_checked"], 3);
    assert_eq!(count(&report, "stripe_unreadable"), 1, "{report}");
    let _ = mesh.restore(&first, &mesh.dir().join("first"), &[]).ok();
    let _ = mesh.restore(&second, &mesh.dir().join("second"), &[]).ended(1);
}

#[test]
fn what_is_missing_is_counted_and_the_worst_comes_first() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, "one", 2, 3_000_000);
    let _ = mesh.backup(&source).summary();
    mesh.destroy("a");
    let below = summary(run(&mesh, &["check"], true), 1);
    let stripes = below["stripes"].as_u64().unwrap();
    assert_eq!(count(&below, "holder_silent"), 2 * stripes, "{below}");
    // One shard of the index is enough, and every node has one.
    let data = stripes - below["index_packs"].as_u64().unwrap();
    assert_eq!(count(&below, "stripe_below_policy"), data, "{below}");
    assert_eq!(count(&below, "snapshot_broken"), 0, "{below}");
    assert_eq!(below["silent"].as_object().unwrap().len(), 2);
    // Everything that is left is intact, and that is still found out.
    let read = summary(run(&mesh, &["check", "--read-data"], true), 1);
    assert_eq!(read["data"]["shards"], 4 * stripes, "{read}");
    assert_eq!(count(&read, "shard_damaged") + count(&read, "pack_damaged"), 0, "{read}");

    mesh.destroy("g");
    let broken = run(&mesh, &["check"], true);
    assert_eq!(broken.messages("error")[0]["kind"], "snapshot_broken");
    let broken = summary(broken, 1);
    assert_eq!(count(&broken, "snapshot_broken"), 1, "{broken}");
    assert_eq!(count(&broken, "stripe_unreadable"), data, "{broken}");
    assert!(count(&broken, "entry_below_policy") > 0, "{broken}");
    let shown = mesh.strewn(["check"]).ended(1);
    assert!(shown.out.contains("NOT AS IT SHOULD BE") && shown.out.contains("→"), "{}", shown.out);
}

#[test]
fn a_log_that_was_set_back_is_noticed() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, "one", 1, 100_000);
    let _ = mesh.backup(&source).summary();
    mesh.nodes.iter_mut().for_each(harness::Node::kill);
    // The mark is written a second later; a node that was killed before has none.
    let states: Vec<(std::path::PathBuf, Option<Vec<u8>>)> = mesh
        .nodes
        .iter()
        .flat_map(|node| {
            ["state.redb", "journal", "mark"].map(|name| node.home.join("node").join(name))
        })
        .map(|file| (file.clone(), fs::read(file).ok()))
        .collect();
    mesh.nodes.iter_mut().for_each(harness::Node::start);
    mesh.settle();
    folder(&source, "two", 2, 100_000);
    let _ = mesh.backup(&source).summary();
    let _ = summary(run(&mesh, &["check"], true), 0);
    // All disks as they were before: the holders show a log that is sound and too short.
    mesh.nodes.iter_mut().for_each(harness::Node::kill);
    for (file, bytes) in states {
        match bytes {
            Some(bytes) => fs::write(file, bytes).unwrap(),
            // It may not have been written since either.
            None => drop(fs::remove_file(file)),
        }
    }
    mesh.nodes.iter_mut().for_each(harness::Node::start);
    mesh.settle();
    let report = summary(run(&mesh, &["check"], true), 1);
    assert!(count(&report, "log_broken") > 0, "{report}");
}
