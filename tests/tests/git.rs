//! Git repositories: all of them below a folder, all that people would miss, and bundles for Git alone.

use harness::{Mesh, git, repository, within, write};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TWO: &str = "[survive]\nany = [ { provider = 1 } ]\n";

fn mesh() -> Mesh {
    let mesh = Mesh::start(&[("aws", "a"), ("gcp", "g")]);
    mesh.create_vault("v", TWO);
    mesh
}

/// A repository with a work tree and one commit.
fn work(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    git(folder, ["init", "--quiet", "--initial-branch=trunk"]);
    commit(folder, "a", "one");
}

fn commit(folder: &Path, name: &str, text: &str) {
    write(folder.join(name), text);
    git(folder, ["add", name]);
    git(folder, ["commit", "--quiet", "--message", text]);
}

fn refs(folder: &Path) -> String {
    git(folder, ["for-each-ref", "--format=%(objectname) %(objecttype) %(symref) %(refname)"])
}

#[test]
fn every_repository_below_a_folder_is_a_snapshot_and_one_that_fails_stops_no_other() {
    let mesh = mesh();
    let top = mesh.dir().join("srv");
    repository(&top.join("bare.git"), 2);
    work(&top.join("team/work"));
    git(&top.join("team/work"), ["worktree", "add", "--quiet", "../linked"]);
    commit(&top.join("team/work"), "a", "two");
    let url = format!("file://{}", top.join("team/work").display());
    git(&top, ["clone", "--quiet", "--depth=1", &url, "shallow"]);
    let root = top.to_str().unwrap();

    let ran = mesh.strewn(["--json", "backup", "--git-root", root]).ended(1);
    let sum = ran.messages("repositories").pop().unwrap();
    assert_eq!(
        (&sum["found"], &sum["backed_up"], &sum["failed"]),
        (&3.into(), &2.into(), &1.into())
    );
    assert!(ran.err.contains("--unshallow"), "{}", ran.err);
    let sources = |ran: &harness::Ran| -> Vec<PathBuf> {
        let source = |summary: &serde_json::Value| summary["source"].as_str().unwrap().into();
        ran.messages("summary").iter().map(source).collect()
    };
    let two = [top.join("bare.git"), top.join("team/work")].map(|p| p.canonicalize().unwrap());
    assert_eq!(sources(&ran), two);

    let settings = mesh.owner().join("strewn.toml");
    let before = fs::read_to_string(&settings).unwrap();
    let profile =
        format!("[[backup]]\nname = \"git\"\ngit-roots = [{root:?}]\nexclude = [\"shallow/\"]\n");
    write(&settings, before + &profile);
    let ran = mesh.strewn(["--json", "backup"]).ok();
    assert_eq!(sources(&ran), two);
    let summaries = ran.messages("summary");
    let ids: Vec<&str> = summaries.iter().map(|s| s["snapshot"].as_str().unwrap()).collect();
    all_come_back_at_once(&mesh, &ids, &two);
    let plain = mesh.strewn(["backup", "--git-root", root, "--exclude", "shallow"]).ok();
    assert!(plain.out.contains("2 repositories below"), "{}", plain.out);

    fs::create_dir(top.join("nothing")).unwrap();
    let nothing = top.join("nothing");
    let none = mesh.strewn(["--json", "backup", "--git-root", nothing.to_str().unwrap()]).ended(1);
    assert!(none.err.contains("no Git repository"), "{}", none.err);
    let both = [
        "backup",
        "--git-root",
        root,
        "--git-root",
        nothing.to_str().unwrap(),
        "--exclude",
        "shallow",
    ];
    let ran = mesh.strewn(both).ended(3);
    assert!(ran.out.contains("2 backed up, 0 failed; 1 folders failed"), "{}", ran.out);
    let _ = mesh.strewn(["backup", "--git-root", root, "--as-directory"]).ended(2);
}

fn all_come_back_at_once(mesh: &Mesh, ids: &[&str], sources: &[PathBuf]) {
    let (back, identity) = (mesh.dir().join("all"), mesh.identity("v"));
    let options = ["--identity", identity.to_str().unwrap()];
    let restore = |ids: &[&str]| {
        let arguments = [&["--json", "restore"], ids, &[back.to_str().unwrap()], &options].concat();
        mesh.strewn(arguments)
    };
    // What would overwrite each other is refused before anything is written.
    let same = restore(&[ids[0], ids[0]]).ended(1);
    assert!(same.err.contains("would both go to"), "{}", same.err);
    assert!(!back.exists());
    // One that cannot be restored stops no other.
    let taken = back.join(sources[0].file_name().unwrap());
    write(taken.join("in the way"), "a");
    let ran = restore(ids).ended(1);
    assert_eq!(ran.messages("summary").len(), ids.len() - 1);
    fs::remove_dir_all(&back).unwrap();
    let ran = restore(ids).ok();
    for (summary, source) in ran.messages("summary").iter().zip(sources) {
        let at = back.join(source.file_name().unwrap());
        assert_eq!(summary["target"], at.to_str().unwrap());
        assert_eq!(refs(&at), refs(source));
    }
}

#[test]
fn a_collection_on_the_server_between_two_backups_costs_next_to_nothing() {
    let mesh = mesh();
    let source = mesh.dir().join("project.git");
    repository(&source, 300);
    git(&source, ["gc", "--quiet"]);
    let first = mesh.backup(&source).summary();
    git(&source, ["repack", "-a", "-d", "-f", "-q", "--depth=10", "--window=20"]);
    git(&source, ["gc", "--quiet", "--aggressive", "--prune=now"]);
    let second = mesh.backup(&source).summary();
    let stored = |summary: &serde_json::Value| summary["stored_bytes"].as_u64().unwrap();
    assert!(stored(&first) > 1_000_000, "{first}");
    assert!(stored(&second) < 20_000, "{second}");
    let _ = mesh.restore("latest", &mesh.dir().join("back"), &[]).ok();
    assert_eq!(refs(&mesh.dir().join("back")), refs(&source));
    git(&mesh.dir().join("back"), ["fsck", "--full", "--strict"]);
}

#[test]
fn what_people_would_miss_comes_back() {
    let mesh = mesh();
    let (source, library) = (mesh.dir().join("source"), mesh.dir().join("library"));
    work(&library);
    work(&source);
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add"];
    git(&source, add.into_iter().chain([library.to_str().unwrap(), "lib"]));
    git(&source, ["commit", "--quiet", "--message", "With a library"]);
    for text in ["first", "second"] {
        write(source.join("a"), text);
        git(&source, ["stash", "push", "--quiet", "--message", text]);
    }
    git(&source, ["notes", "add", "--message", "A note"]);
    let linked = mesh.dir().join("linked");
    git(&source, ["worktree", "add", "--quiet", "--detach", linked.to_str().unwrap()]);
    let hash = "c641344867e9806fadfd219f25b62b97c94db0eed04a1d79e93676533cfb782b";
    let large = Path::new("lfs/objects/c6/41").join(hash);
    write(source.join(".git").join(&large), "hi there\n");
    let summary = mesh.backup(&source).summary();
    assert_eq!(summary["failed"], serde_json::json!([]), "{summary}");

    let back = mesh.dir().join("back");
    let restored = mesh.restore("latest", &back, &[]).summary();
    assert_eq!(restored["failed"], serde_json::json!([]), "{restored}");
    fs::remove_dir_all(&library).unwrap();
    let same = |arguments: &[&str]| {
        assert_eq!(git(&back, arguments), git(&source, arguments), "{arguments:?}");
    };
    same(&["stash", "list", "--format=%gd %H %gs"]);
    same(&["reflog", "--format=%H %gd %gs"]);
    same(&["log", "--notes", "--format=%H %N"]);
    assert_eq!(refs(&back), refs(&source));
    assert_eq!(fs::read_to_string(back.join(".git").join(&large)).unwrap(), "hi there\n");
    assert!(git(&back, ["worktree", "list"]).contains(linked.to_str().unwrap()));
    git(&back, ["submodule", "--quiet", "update"]);
    assert_eq!(fs::read_to_string(back.join("lib/a")).unwrap(), "one");
}

#[test]
fn plain_bundles_need_git_alone() {
    let mesh = mesh();
    let source = mesh.dir().join("project.git");
    repository(&source, 3);
    git(&source, ["repack", "-a", "-d", "-q"]);
    let _ = mesh.backup(&source).ok();
    let tip = git(&source, ["rev-parse", "topic/one"]);
    let tag = ["tag", "--annotate", "v0", "--message", "Older", tip.trim()];
    git(&source, tag);
    git(&source, ["branch", "--force", "topic/one", "trunk"]);
    git(&source, ["branch", "old", "trunk~2"]);
    let _ = mesh.backup(&source).ok();
    git(&source, ["branch", "--delete", "--force", "old"]);
    let _ = mesh.backup(&source).ok();

    let plain = mesh.dir().join("plain");
    let _ = mesh.restore("latest", &plain, &["--as-bundle"]).ok();
    let page = fs::read_to_string(plain.join("README.txt")).unwrap();
    let script: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let mut shell = Command::new("sh");
    shell.current_dir(&plain).args(["-e", "-c", &script.join("\n")]);
    let ran = shell.env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.is_empty(), "{said}");
    let made = plain.join("repository.git");
    assert_eq!(refs(&made), refs(&source));
    assert_eq!(fs::read(made.join("HEAD")).unwrap(), fs::read(source.join("HEAD")).unwrap());
    git(&plain, ["clone", "--quiet", "bundles/000001.bundle", "alone"]);

    let folder = mesh.dir().join("folder");
    write(folder.join("a"), "no repository");
    let _ = mesh.backup(&folder).ok();
    let refused = mesh.restore("latest", &mesh.dir().join("none"), &["--as-bundle"]).ended(1);
    assert!(refused.err.contains("no bundles"), "{}", refused.err);
}

#[test]
fn pushes_while_backups_run_break_none_of_them() {
    let mesh = mesh();
    let (source, clone) = (mesh.dir().join("project.git"), mesh.dir().join("clone"));
    repository(&source, 20);
    let name = source.to_str().unwrap();
    git(mesh.dir(), ["clone", "--quiet", name, clone.to_str().unwrap()]);
    let (stop, pushed) = (AtomicBool::new(false), AtomicBool::new(false));
    let snapshots: Vec<String> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                if i % 3 == 2 {
                    git(&clone, ["commit", "--quiet", "--amend", "--message", "Rewritten"]);
                }
                commit(&clone, "pushed", &i.to_string());
                let branch = format!("HEAD:refs/heads/b{}", i % 5);
                git(&clone, ["push", "--quiet", "--force", "origin", "HEAD", &branch]);
                if i % 4 == 3 {
                    git(&source, ["gc", "--quiet"]);
                }
                pushed.store(true, Ordering::Relaxed);
            }
        });
        assert!(within(Duration::from_secs(60), || pushed.load(Ordering::Relaxed)));
        let backup = || mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
        let snapshots = (0..4).map(|_| backup()).collect();
        stop.store(true, Ordering::Relaxed);
        snapshots
    });
    for (i, snapshot) in snapshots.iter().enumerate() {
        let back = mesh.dir().join(format!("back-{i}"));
        let _ = mesh.restore(snapshot, &back, &[]).ok();
        assert_eq!(
            git(&back, ["fsck", "--full", "--strict", "--no-dangling", "--no-progress"]),
            ""
        );
    }
}
