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
        "device",
        "backup",
        "snapshots",
        "tag",
        "ls",
        "cat",
        "find",
        "diff",
        "mount",
        "restore",
        "check",
        "what-if",
        "status",
        "repair",
        "demo",
        "completions",
        "man",
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

/// The commands that the program's own help lists.
fn commands(home: &Path) -> Vec<String> {
    let (_, help, _) = run(home, &["--help"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let names = listed.filter(|line| !line.starts_with("    ")).filter_map(first);
    names.filter(|name| name != "help").collect()
}

#[test]
fn completions_are_scripts_that_know_every_command() {
    let scratch = tempfile::tempdir().unwrap();
    let names = commands(scratch.path());
    assert!(names.len() >= 22 && names.contains(&"what-if".into()), "{names:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, err) = run(scratch.path(), &["completions", shell]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{shell}");
        for name in &names {
            assert!(script.contains(name.as_str()), "{shell}: {name}");
        }
        let file = scratch.path().join(shell);
        std::fs::write(&file, script).unwrap();
        // Where there is such a shell it must find nothing wrong; there is always one bash.
        let Ok(checked) = Command::new(shell).arg("-n").arg(&file).output() else {
            assert_ne!(shell, "bash", "bash is needed to test its completions");
            continue;
        };
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && said.is_empty(), "{shell}: {said}");
    }
    let (code, ..) = run(scratch.path(), &["completions", "cmd.exe"]);
    assert_eq!(code, Some(2));
}

#[test]
fn manual_pages_render_and_describe_every_command() {
    let scratch = tempfile::tempdir().unwrap();
    let pages = scratch.path().join("man/man1");
    let (code, out, err) = run(scratch.path(), &["man", pages.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("pages are written"), "{out}");
    let page = |name: &str| std::fs::read_to_string(pages.join(format!("{name}.1")));
    for name in commands(scratch.path()) {
        // In pages a hyphen is written so that it is not taken for a minus sign.
        let text = page(&format!("strewn-{name}")).unwrap().replace("\\-", "-");
        assert!(text.contains(&format!("strewn-{name}")) && text.contains("SYNOPSIS"), "{text}");
    }
    assert!(page("strewn-device-accept").is_ok() && page("strewn-node-run").is_ok());
    assert!(page("strewn").unwrap().contains("Exit codes"));
    for file in std::fs::read_dir(&pages).unwrap() {
        let file = file.unwrap().path();
        let groff = ["-Kutf8", "-man", "-ww", "-Tutf8", "-z"];
        // Rendering is checked where groff is installed.
        let Ok(rendered) = Command::new("groff").args(groff).arg(&file).output() else { break };
        let said = String::from_utf8_lossy(&rendered.stderr);
        assert!(rendered.status.success() && said.is_empty(), "{}: {said}", file.display());
    }
}
