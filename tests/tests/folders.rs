//! What a file system has beside files: everything of a folder comes back, and streams and single files do.

use harness::{Mesh, Ran, acl, assert_same, bytes, tree_of, write};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

const TWO: &str = "[survive]\nany = [ { provider = 1 } ]\n";

fn mesh() -> Mesh {
    let mesh = Mesh::start(&[("aws", "a"), ("gcp", "g")]);
    mesh.create_vault("v", TWO);
    mesh
}

/// Says whether this was done; where it must be, it must.
fn done(what: &str, result: rustix::io::Result<()>) {
    if let Err(error) = result {
        assert!(std::env::var_os("STREWN_REQUIRE_ALL").is_none(), "{what}: {error}");
        eprintln!("skipped: {what}: {error}");
    }
}

fn set(path: &Path, name: &str, value: &[u8]) {
    done(name, rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()));
}

fn everything(at: &Path) {
    write(at.join("d/plain"), bytes("plain", 300_000));
    write(at.join("d/one"), bytes("linked", 2_000_000));
    fs::hard_link(at.join("d/one"), at.join("d/two")).unwrap();
    fs::create_dir_all(at.join("e/empty")).unwrap();
    fs::hard_link(at.join("d/one"), at.join("e/three")).unwrap();
    let sparse = File::create(at.join("sparse")).unwrap();
    sparse.set_len(300 << 20).unwrap();
    for (offset, seed) in [(0, "s0"), (100 << 20, "s1"), ((300 << 20) - 70_000, "s2")] {
        sparse.write_all_at(&bytes(seed, 70_000), offset).unwrap();
    }
    symlink("plain", at.join("d/link")).unwrap();
    let mode = Mode::from_raw_mode(0o620);
    mknodat(CWD, at.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    for (name, kind, device) in [
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("disk", FileType::BlockDevice, makedev(7, 300)),
    ] {
        done("a device", mknodat(CWD, at.join(name), kind, mode, device));
    }
    set(&at.join("d/plain"), "user.comment", b"with \0 in it");
    set(&at.join("d/plain"), "system.posix_acl_access", &acl());
    set(&at.join("d/one"), "user.linked", b"once");
    set(&at.join("e"), "system.posix_acl_default", &acl());
    if rustix::process::geteuid().is_root() {
        set(&at.join("d/link"), "trusted.link", b"1");
        set(&at.join("fifo"), "trusted.fifo", b"2");
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set(&at.join("sparse"), "security.capability", &capability);
        lchown(at.join("d/link"), Some(1234), Some(5678)).unwrap();
        lchown(at.join("d/two"), Some(1234), Some(5678)).unwrap();
    }
    fs::set_permissions(at.join("d/two"), fs::Permissions::from_mode(0o2755)).unwrap();
    fs::set_permissions(at.join("e/empty"), fs::Permissions::from_mode(0o1700)).unwrap();
}

#[test]
fn everything_of_a_folder_comes_back() {
    let mesh = mesh();
    let source = mesh.dir().join("folder");
    everything(&source);
    let first = mesh.backup(&source).summary();
    // Once for all names of a file; what takes no space is not sent.
    let size: u64 = 300_000 + 2_000_000 + (300 << 20);
    assert_eq!((first["bytes"].as_u64(), &first["notes"]), (Some(size), &serde_json::json!([])));
    assert!(first["new_bytes"].as_u64().unwrap() < 3_000_000, "{first}");
    let target = mesh.dir().join("back");
    let restored = mesh.restore("latest", &target, &[]).summary();
    assert_eq!((restored["bytes"].as_u64(), &restored["notes"]), (Some(size), &first["notes"]));
    assert_eq!(restored["items"], first["items"]);
    assert_same(&target, &source, |more| more);
    let inode = |path: &str| fs::metadata(target.join(path)).unwrap().ino();
    assert_eq!((inode("d/one"), inode("d/one")), (inode("d/two"), inode("e/three")));

    let again = mesh.backup(&source).summary();
    assert_eq!((&again["new_bytes"], &again["items"]), (&serde_json::json!(0), &first["items"]));
    // Of a selection without the first name the next one is the file.
    let part = mesh.dir().join("part");
    let _ = mesh.restore("latest", &part, &["--path", "d/two", "--path", "e"]).summary();
    assert_eq!(fs::read(part.join("d/two")).unwrap(), bytes("linked", 2_000_000));
    let meta = |path: &str| fs::metadata(part.join(path)).unwrap();
    assert_eq!((meta("d/two").ino(), meta("d/two").nlink()), (meta("e/three").ino(), 2));
    // Once more over what is there already.
    let _ = mesh.restore("latest", &target, &["--overwrite"]).summary();
    assert_same(&target, &source, |more| more);
    assert!(fs::metadata(target.join("fifo")).unwrap().file_type().is_fifo());
}

fn backup(mesh: &Mesh, arguments: &[&str]) -> Ran {
    mesh.strewn(["--json", "backup"].iter().chain(arguments))
}

#[test]
fn what_rules_leave_out_is_left_out_and_what_cannot_be_read_is_named() {
    let mesh = mesh();
    let source = mesh.dir().join("folder");
    for path in ["a.o", "keep.o", "build/x", "skipped/.nobackup", "skipped/y", "cache/z"] {
        write(source.join(path), path);
    }
    write(source.join("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55");
    let patterns = mesh.dir().join("patterns");
    fs::write(&patterns, "# built\n*.o\n/build/\n").unwrap();
    let folder = source.to_str().unwrap();
    let rules = ["--exclude-file", patterns.to_str().unwrap(), "--exclude", "!keep.o"];
    let _ = backup(&mesh, &[&[folder, "--exclude-caches"][..], &rules].concat()).summary();
    let target = mesh.dir().join("back");
    let _ = mesh.restore("latest", &target, &[]).summary();
    let found: Vec<PathBuf> = tree_of(&target).into_keys().collect();
    let expected = ["", "cache", "cache/CACHEDIR.TAG", "keep.o", "skipped", "skipped/.nobackup"]
        .map(PathBuf::from);
    assert_eq!(found, expected);
    assert_eq!(backup(&mesh, &[folder, "--exclude", "*.[oa"]).code, 2);
    assert_eq!(backup(&mesh, &[folder, "--exclude-file", "/nonexistent"]).code, 2);

    // A path longer than any that is kept cannot be read by anybody, root included.
    let long = "n".repeat(250);
    let mut dir = File::open(&source).unwrap();
    for _ in 0..270 {
        rustix::fs::mkdirat(&dir, &long, Mode::from_raw_mode(0o700)).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        dir = rustix::fs::openat(&dir, &long, flags, Mode::empty()).unwrap().into();
    }
    let ran = mesh.backup(&source).ended(3);
    assert_eq!(ran.messages("summary").len(), 1, "a snapshot was written");
    assert!(ran.err.contains("at most 65536 are kept"), "{}", ran.err);
    let mut rm = std::process::Command::new("rm");
    assert!(rm.arg("-rf").arg(&source).status().unwrap().success());
}

#[test]
fn streams_and_single_files_come_back() {
    let mesh = mesh();
    let dump = bytes("dump", 9_000_000);
    let restored = |name: &str| {
        let target = mesh.dir().join("back").join(name);
        let _ = mesh.restore("latest", &target, &[]).summary();
        let found: Vec<PathBuf> = tree_of(&target).into_keys().collect();
        assert_eq!(found, ["", name].map(PathBuf::from));
        fs::read(target.join(name)).unwrap()
    };
    let arguments = ["--json", "backup", "--stdin", "--name", "db.sql"].map(OsStr::new);
    let mut child = mesh.command(arguments);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&dump).unwrap();
    let summary = Ran::from(child.wait_with_output().unwrap()).summary();
    let told = (&summary["source"], &summary["items"], &summary["bytes"]);
    assert_eq!(told, (&"db.sql".into(), &1.into(), &9_000_000.into()));
    assert!(restored("db.sql") == dump);

    let file = mesh.dir().join("some.dump");
    write(&file, &dump);
    let path = file.to_str().unwrap();
    let command = ["--from-command", "--name", "out.sql", "--", "sh", "-c", "cat \"$0\"", path];
    let summary = backup(&mesh, &command).summary();
    assert!(summary["new_bytes"].as_u64() < Some(10_000), "the bytes are known: {summary}");
    assert!(restored("out.sql") == dump);

    let summary = backup(&mesh, &[path]).summary();
    assert_eq!(summary["items"], 1);
    assert!(summary["new_bytes"].as_u64() < Some(10_000), "the bytes are known: {summary}");
    assert!(restored("some.dump") == dump);

    let count = || mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot").len();
    assert_eq!(count(), 3);
    let command =
        ["--from-command", "--name", "out.sql", "--", "sh", "-c", "cat \"$0\"; exit 7", path];
    let failed = backup(&mesh, &command).ended(1);
    let error = failed.messages("exit_error").pop().unwrap();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("sh: exit status: 7"), "{message}");
    assert_eq!(count(), 3, "half a dump is none");
    for wrong in [
        &["--stdin"][..],
        &["--from-command", "--name", "x"],
        &["--stdin", "--name", "a/b"],
        &["--stdin", "--name", "x", "folder"],
        &["--name", "x", "folder"],
        &[],
    ] {
        assert_eq!(backup(&mesh, wrong).code, 2, "{wrong:?}");
    }
}
