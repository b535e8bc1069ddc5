//! Backups that are interrupted, and holders that stop answering.

use super::{held, mesh, noise, on_disk, spawn_restore};
use harness::{Ran, Signal, signal, tree_of, within};
use std::process::Stdio;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

#[test]
fn a_backup_that_was_told_to_end_goes_on_the_next_time() {
    let mesh = mesh(3);
    let source = mesh.dir().join("source");
    noise(&source, "told to end", 128);
    let arguments = ["--json", "backup", source.to_str().unwrap()];
    let mut command = mesh.command(arguments);
    let backup = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(within(Duration::from_secs(120), || held(&mesh) > 120 * MIB));
    signal(&backup, Signal::INT);
    let ran = Ran::from(backup.wait_with_output().unwrap()).ended(130);
    let said = ran.messages("exit_error").pop().expect("it says what to do");
    assert!(said["next"].as_str().unwrap().contains("goes on"), "{said}");
    let before = held(&mesh);
    let rest = mesh.backup(&source).summary();
    let sent = rest["stored_bytes"].as_u64().unwrap();
    // Packs that were on their way are sent again: three, with their parity.
    let most = (held(&mesh) - before) + 80 * MIB;
    assert!(sent <= most && sent < 150 * MIB, "{} MiB sent, {} there", sent / MIB, before / MIB);
    assert_eq!(rest["bytes"], 128 * MIB);
    let again = mesh.backup(&source).summary();
    assert_eq!(again["new_bytes"], 0);
    let target = mesh.dir().join("back");
    let _ = mesh.restore("latest", &target, &[]).ok();
    assert!(tree_of(&target) == tree_of(&source));
}

#[test]
fn a_holder_that_stops_answering_is_replaced_and_holds_up_no_restore() {
    let mut mesh = mesh(4);
    let source = mesh.dir().join("source");
    noise(&source, "stops answering", 96);
    let begin = Instant::now();
    let mut command = mesh.command(["--json", "backup", source.to_str().unwrap()]);
    let backup = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let has_some = || mesh.nodes[5].shard_files().len() > 1;
    assert!(within(Duration::from_secs(60), has_some));
    mesh.nodes[5].freeze();
    let ran = Ran::from(backup.wait_with_output().unwrap());
    let backed_up = begin.elapsed();
    assert_eq!(ran.summary()["degraded"], false);
    assert!(backed_up < Duration::from_secs(90), "{backed_up:?}");
    let target = mesh.dir().join("back");
    let begin = Instant::now();
    let _ = mesh.restore("latest", &target, &[]).ok();
    let restored = begin.elapsed();
    assert!(tree_of(&target) == tree_of(&source));
    assert!(restored < Duration::from_secs(60), "{restored:?}");
    mesh.nodes[5].thaw();
    mesh.settle();

    // Another one, in the middle of a restore.
    let target = mesh.dir().join("back again");
    let begin = Instant::now();
    let restore = spawn_restore(&mesh, "latest", &target);
    assert!(within(Duration::from_secs(60), || on_disk(&target) > 16 * MIB));
    mesh.nodes[3].freeze();
    let ran = Ran::from(restore.wait_with_output().unwrap());
    let under_way = begin.elapsed();
    let _ = ran.ok();
    assert!(under_way < Duration::from_secs(60), "{under_way:?}");
    assert!(tree_of(&target) == tree_of(&source));
    mesh.nodes[3].thaw();
    mesh.settle();
    println!("backup {backed_up:.1?}, restore {restored:.1?}, stopped on the way {under_way:.1?}");
    let tree = tree_of(&source);
    for provider in ["h", "a", "g", "o"] {
        let target = mesh.dir().join(provider);
        mesh.without(provider, |mesh| {
            let _ = mesh.restore("latest", &target, &[]).ok();
            assert!(tree_of(&target) == tree, "without {provider}");
        });
    }
}
