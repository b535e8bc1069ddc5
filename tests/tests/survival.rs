//! What Strewn is for: everything comes back, bit for bit, after a provider is gone.

use harness::{Mesh, bytes, git, program, repository, strewn, tree_of, write};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const ONE_PROVIDER: &str = "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n";

/// Two nodes at each of three providers; the owner's is at hetzner.
fn six() -> Mesh {
    let sites = [
        ("hetzner", "h1"),
        ("hetzner", "h2"),
        ("aws", "a1"),
        ("aws", "a2"),
        ("gcp", "g1"),
        ("gcp", "g2"),
    ];
    let mesh = Mesh::start(&sites);
    mesh.create_vault("v", ONE_PROVIDER);
    mesh
}

/// What Git says of a repository: its refs, and nothing of faults.
fn refs(repository: &Path) -> String {
    assert_eq!(git(repository, ["fsck", "--strict", "--full", "--no-progress"]), "");
    let head = git(repository, ["symbolic-ref", "HEAD"]);
    head + &git(repository, ["for-each-ref"])
}

/// Every object's name and type.
fn objects(repository: &Path) -> String {
    git(repository, ["cat-file", "--batch-check", "--batch-all-objects"])
}

fn a_folder(at: &Path) {
    write(at.join("large"), bytes("large", 9_000_000));
    write(at.join("empty"), "");
    write(at.join("same/one"), bytes("twice", 300_000));
    write(at.join("same/two"), bytes("twice", 300_000));
    write(at.join(OsString::from_vec(b"not \xff UTF-8".to_vec())), "x");
    write(at.join("line\nbreak"), "y");
    fs::create_dir_all(at.join("nothing in here")).unwrap();
    symlink("../large", at.join("same/link")).unwrap();
    symlink("to nowhere", at.join("dangling")).unwrap();
    for (name, mode) in [("same/one", 0o4751), ("same/two", 0o400), ("same", 0o1770)] {
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let day = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789);
    fs::File::options().write(true).open(at.join("large")).unwrap().set_modified(day).unwrap();
}

#[test]
fn a_git_repository_survives_the_loss_of_a_provider() {
    let mut mesh = six();
    let source = mesh.dir().join("project.git");
    repository(&source, 40);
    let before = (refs(&source), objects(&source));
    let backed_up = mesh.backup(&source).summary();
    assert_eq!(backed_up["degraded"], false);

    mesh.destroy("aws");
    let target = mesh.dir().join("back.git");
    let restored = mesh.restore("latest", &target, &[]).summary();
    assert_eq!((refs(&target), objects(&target)), before);
    // main, topic/one and the tag.
    assert_eq!(restored["refs"], 3);
    for file in ["description", "hooks/update"] {
        assert_eq!(fs::read(target.join(file)).unwrap(), fs::read(source.join(file)).unwrap());
    }
    let mode = fs::metadata(target.join("hooks/update")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);

    let status = mesh.strewn(["--json", "status"]).ended(1);
    let status = status.messages("summary").pop().unwrap();
    assert_eq!(status["good"], false);
    let silent = status["nodes"].as_array().unwrap().iter().filter(|node| node["up"] == false);
    assert_eq!(silent.count(), 2);
    assert_eq!(status["vault"]["health"]["unreadable"], 0);
}

#[test]
fn a_folder_survives_the_loss_of_a_provider_and_gives_single_paths() {
    let mut mesh = six();
    let source = mesh.dir().join("folder");
    a_folder(&source);
    let _ = mesh.backup(&source).summary();
    mesh.destroy("gcp");

    let target = mesh.dir().join("back");
    let _ = mesh.restore("latest", &target, &[]).summary();
    assert_eq!(tree_of(&target), tree_of(&source));

    let part = mesh.dir().join("part");
    let some = mesh.restore("latest", &part, &["--path", "same", "--path", "empty"]).summary();
    assert_eq!(some["failed"], Value::Array(Vec::new()));
    let expected: Vec<PathBuf> =
        ["", "empty", "same", "same/link", "same/one", "same/two"].map(PathBuf::from).into();
    assert_eq!(tree_of(&part).into_keys().collect::<Vec<_>>(), expected);
    let nothing = mesh.dir().join("nothing");
    let _ = mesh.restore("latest", &nothing, &["--path", "no such"]).ended(10);
    // A folder with something in it is not written into unless that is asked for.
    let _ = mesh.restore("latest", &target, &[]).ended(1);
    let _ = mesh.restore("latest", &target, &["--overwrite"]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}

#[test]
fn a_second_backup_stores_what_is_new_and_the_first_snapshot_stays() {
    let mesh = six();
    let source = mesh.dir().join("folder");
    a_folder(&source);
    let first_tree = tree_of(&source);
    let first = mesh.backup(&source).summary();
    let again = mesh.backup(&source).summary();
    assert_eq!(again["new_bytes"].as_u64().unwrap(), 0);
    let stored = |summary: &Value| summary["stored_bytes"].as_u64().unwrap();
    assert!(stored(&again) * 50 < stored(&first), "{again} after {first}");

    write(source.join("new"), bytes("new", 1_000_000));
    fs::remove_file(source.join("large")).unwrap();
    let third = mesh.backup(&source).summary();
    let new = third["new_bytes"].as_u64().unwrap();
    assert!((1_000_000..1_100_000).contains(&new), "{third}");

    let listed = mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot");
    assert_eq!(listed.len(), 3);
    let id = first["snapshot"].as_str().unwrap();
    let target = mesh.dir().join("first");
    let _ = mesh.restore(&id[..12], &target, &[]).summary();
    assert_eq!(tree_of(&target), first_tree);
    let _ = mesh.restore("latest", &mesh.dir().join("third"), &[]).summary();
    assert_eq!(tree_of(&mesh.dir().join("third")), tree_of(&source));
}

#[test]
fn a_git_repository_that_moved_on_costs_only_what_is_new() {
    let mesh = six();
    let source = mesh.dir().join("project.git");
    repository(&source, 60);
    let first = mesh.backup(&source).summary();
    let first_refs = refs(&source);
    let work = mesh.dir().join("clone");
    let clone = ["clone", "--quiet"].map(OsStr::new);
    git(mesh.dir(), clone.into_iter().chain([source.as_os_str(), work.as_os_str()]));
    write(work.join("more"), bytes("more", 20_000));
    git(&work, ["add", "more"]);
    git(&work, ["commit", "--quiet", "--message", "More"]);
    git(&work, ["push", "--quiet", "origin", "HEAD", ":topic/one"]);
    git(&source, ["gc", "--quiet"]);
    let second = mesh.backup(&source).summary();
    let new = second["new_bytes"].as_u64().unwrap();
    assert!((20_000..60_000).contains(&new), "{second} after {first}");
    let id = first["snapshot"].as_str().unwrap();
    let _ = mesh.restore(&id[..12], &mesh.dir().join("one.git"), &[]).summary();
    assert_eq!(refs(&mesh.dir().join("one.git")), first_refs);
    let _ = mesh.restore("latest", &mesh.dir().join("two.git"), &[]).summary();
    assert_eq!(refs(&mesh.dir().join("two.git")), refs(&source));
}

#[test]
fn a_loss_beyond_the_policy_is_called_one() {
    let mut mesh = six();
    let source = mesh.dir().join("folder");
    a_folder(&source);
    let _ = mesh.backup(&source).summary();
    mesh.destroy("aws");
    mesh.destroy("gcp");
    let target = mesh.dir().join("back");
    let failed = mesh.restore("latest", &target, &[]).ended(1);
    // Small things may lie whole in one shard that is left: then it is the large file that is lost, or all behind a place in the
    // list of files; else everything.
    let why = if let Some(summary) = failed.messages("summary").pop() {
        let all = summary["failed"].as_array().unwrap();
        all.iter().find(|one| one[0] == "large").unwrap_or(&all[0])[1].clone()
    } else {
        let error = failed.messages("exit_error").pop().unwrap();
        assert!(error["next"].as_str().unwrap().contains("strewn status"), "{error}");
        error["message"].clone()
    };
    let why = why.as_str().unwrap();
    assert!(why.contains("of the") && why.contains("needed"), "{why}: {}", failed.out);
    // Nothing half-written lies under a final name.
    let ours = tree_of(&source);
    for (path, found) in tree_of(&target) {
        if path.to_string_lossy().contains(".strewn-") {
            continue;
        }
        assert_eq!(ours.get(&path).map(|ours| &ours.content), Some(&found.content), "{path:?}");
    }
    assert!(!target.join("large").exists());
}

#[test]
fn what_holds_the_data_cannot_read_it() {
    let mesh = six();
    let source = mesh.dir().join("folder");
    let secret = b"the merger will be announced on Friday".repeat(50);
    write(source.join("a name that tells a lot"), &secret);
    let _ = mesh.backup(&source).summary();
    let mut held = 0;
    for node in &mesh.nodes {
        let rows = ["state.redb", "journal"].map(|name| node.home.join("node").join(name));
        for bytes in node.shard_files().iter().chain(&rows).map(|file| fs::read(file).unwrap()) {
            held += bytes.len();
            for known in [&secret[..30], b"a name that tells"] {
                assert!(!bytes.windows(known.len()).any(|window| window == known));
            }
        }
    }
    assert!(held > secret.len());
}

#[test]
fn only_the_identity_opens_a_vault() {
    let mesh = six();
    let source = mesh.dir().join("folder");
    write(source.join("file"), "secret");
    let _ = mesh.backup(&source).summary();
    mesh.create_vault("other", ONE_PROVIDER);
    let target = mesh.dir().join("back");
    let restore = |identity: Option<&Path>| {
        let mut arguments = vec![OsStr::new("restore"), "latest".as_ref(), target.as_os_str()];
        arguments.extend([OsStr::new("--vault"), "v".as_ref()]);
        arguments.extend(identity.into_iter().flat_map(|i| ["--identity".as_ref(), i.as_os_str()]));
        mesh.strewn(arguments)
    };
    let _ = restore(None).ended(12);
    let _ = restore(Some(&mesh.identity("other"))).ended(12);
    assert!(!target.exists());
    let _ = restore(Some(&mesh.identity("v"))).ok();
    assert_eq!(fs::read(target.join("file")).unwrap(), b"secret");
}

#[test]
fn the_demo_shows_it_on_a_repository() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("project.git");
    repository(&source, 20);
    let before = objects(&source);
    let shown = strewn(&dir.path().join("home"), [OsStr::new("demo"), source.as_os_str()]).ok();
    assert!(shown.out.contains("SURVIVED"), "{}", shown.out);
    assert_eq!(objects(&source), before);

    let empty = dir.path().join("empty.git");
    git(dir.path(), ["init", "--quiet", "--bare", "empty.git"]);
    let shown = strewn(&dir.path().join("home"), [OsStr::new("demo"), empty.as_os_str()]).ok();
    assert!(shown.out.contains("SURVIVED"), "{}", shown.out);
}

#[test]
fn the_demo_says_when_the_loss_is_more_than_the_policy_bears() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("folder");
    a_folder(&source);
    let demo = |lose: &[&str]| {
        let mut arguments = vec![OsStr::new("--json"), "demo".as_ref(), source.as_os_str()];
        arguments.extend(lose.iter().flat_map(|label| ["--lose", label]).map(OsStr::new));
        strewn(&dir.path().join("home"), arguments)
    };
    // An account of each provider is as many nodes as a provider: one of nine more would be too much.
    let bearable = demo(&["account=aws-1", "account=gcp-2", "account=hetzner-3"]).summary();
    assert_eq!(bearable["verdict"], "survived");
    let destroyed = demo(&["provider=aws", "account=gcp-1"]).ended(1);
    assert_eq!(destroyed.messages("summary")[0]["verdict"], "destroyed");
    let _ = demo(&["provider=nobody"]).ended(1);
}

#[test]
fn the_program_says_which_version_it_is() {
    let output = std::process::Command::new(program()).arg("--version").output().unwrap();
    let expected = format!("strewn {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
