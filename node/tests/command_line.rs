//! The program itself, as a shell sees it: exit codes, streams, closed pipes.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn strewn(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strewn"));
    command.env_clear().env("STREWN_HOME", home).stdin(Stdio::null());
    command
}

fn run(home: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = strewn(home).args(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn init_works_once_and_says_what_to_do_then() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path().join("state");
    let (code, out, err) = run(&home, &["init", "--label", "provider=aws"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("operator") && out.contains("provider=aws"));
    let (code, out, err) = run(&home, &["init"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("error: ") && err.contains("\n  → "), "{err}");
}

#[test]
fn json_is_one_object_a_line_on_both_streams() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path().join("state");
    for (expected, last) in [(0, None), (1, Some("exit_error"))] {
        let (code, out, err) = run(&home, &["init", "--json"]);
        assert_eq!(code, Some(expected));
        let messages: Vec<serde_json::Value> = out
            .lines()
            .chain(err.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(messages.iter().all(|message| message["message_type"].is_string()));
        assert!(last.is_none_or(|last| messages.last().unwrap()["message_type"] == last));
    }
}

#[test]
fn a_wrong_command_line_touches_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path().join("state");
    let (code, _, err) = run(&home, &["init", "--quota", "much"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("is not a size"), "{err}");
    assert!(!home.exists());
}

#[test]
fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
    let scratch = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let closed = strewn(&scratch.path().join("a")).arg("init").stdout(writer).output().unwrap();
    assert_eq!(closed.status.code(), Some(0));
    assert!(!String::from_utf8_lossy(&closed.stderr).contains("error"));

    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let full = strewn(&scratch.path().join("b")).arg("init").stdout(full).output().unwrap();
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).contains("could not be written"));
}

#[test]
fn what_is_not_set_up_ends_with_10() {
    let scratch = tempfile::tempdir().unwrap();
    for args in [&["status"][..], &["peers"], &["snapshots"], &["backup", "."], &["node", "run"]] {
        let (code, out, err) = run(scratch.path(), args);
        assert_eq!((code, out.as_str()), (Some(10), ""), "{args:?}: {err}");
        assert!(err.contains("strewn"), "{args:?} says what to do: {err}");
    }
}

#[test]
fn every_command_explains_itself() {
    let scratch = tempfile::tempdir().unwrap();
    for command in [
        "init",
        "node",
        "invite",
        "join",
        "peers",
        "vault",
        "backup",
        "snapshots",
        "restore",
        "status",
        "demo",
    ] {
        let (code, out, _) = run(scratch.path(), &[command, "--help"]);
        assert_eq!(code, Some(0), "{command}");
        assert!(out.contains("Usage: strewn"), "{out}");
    }
}

#[test]
fn help_ends_well() {
    let scratch = tempfile::tempdir().unwrap();
    let (code, out, err) = run(scratch.path(), &["--help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("Exit codes:"));
}
