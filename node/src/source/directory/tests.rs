use super::*;
use crate::source::testing::{Entry, Snapshot, Vault, as_nobody};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn open(path: &Path) -> DirectorySource {
    DirectorySource::open(path).unwrap()
}

fn with(path: &Path, rules: Rules) -> DirectorySource {
    let mut source = open(path);
    source.leave_out(&Arc::new(rules));
    source
}

fn failed(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.report.failed.iter().map(|(path, _)| path.as_str()).collect()
}

/// Makes files old enough for their times to be believed.
fn settle_times() {
    std::thread::sleep(2 * TICK);
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe name\n");
    fs::create_dir_all(from.join("a/empty")).unwrap();
    fs::write(from.join("a").join(odd), "odd").unwrap();
    fs::write(from.join("a-b"), vec![7; 5000]).unwrap();
    fs::write(from.join("a/private"), "").unwrap();
    symlink("a/nowhere", from.join("link")).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for (path, mode) in
        [("a/private", 0o600), ("a-b", 0o4755), ("a/empty", 0o1700), ("a", 0o500), ("", 0o2711)]
    {
        fs::set_permissions(from.join(path), fs::Permissions::from_mode(mode)).unwrap();
        fs::File::open(from.join(path)).unwrap().set_modified(time).unwrap();
    }

    let mut vault = Vault::default();
    let snapshot = vault.back_up(&mut open(&from), None);
    assert_eq!(snapshot.report, Report::default());
    let report = vault.restore(&snapshot, &to);
    assert_eq!(report.failed, []);

    for path in [
        Path::new(""),
        Path::new("a"),
        Path::new("a-b"),
        &Path::new("a").join(odd),
        Path::new("a/private"),
        Path::new("a/empty"),
        Path::new("link"),
    ] {
        let (x, y) = (
            from.join(path).symlink_metadata().unwrap(),
            to.join(path).symlink_metadata().unwrap(),
        );
        let facts = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec());
        assert_eq!(facts(&x), facts(&y), "{}", path.display());
        if x.is_file() {
            assert_eq!(fs::read(from.join(path)).unwrap(), fs::read(to.join(path)).unwrap());
        }
    }
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("a/nowhere"));
    assert_eq!(fs::metadata(to.join("a-b")).unwrap().mtime_nsec(), 123_456_789);
}

#[test]
fn only_what_changed_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("same"), "1").unwrap();
    fs::write(dir.path().join("touched"), "1").unwrap();
    fs::write(dir.path().join("renewed"), "1").unwrap();
    fs::write(dir.path().join("forgotten"), "forgotten").unwrap();
    settle_times();
    let mut vault = Vault::default();
    let first = vault.back_up(&mut open(dir.path()), None);

    // Same size and modification time: only the change time and the inode tell.
    let time = fs::metadata(dir.path().join("touched")).unwrap().modified().unwrap();
    fs::write(dir.path().join("touched"), "2").unwrap();
    fs::File::open(dir.path().join("touched")).unwrap().set_modified(time).unwrap();
    fs::write(dir.path().join("new"), "3").unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("renewed")).unwrap();
    vault.forget(&first, "forgotten");
    settle_times();
    let second = vault.back_up(&mut open(dir.path()), Some(&first));
    let reused: Vec<bool> =
        ["same", "touched", "renewed", "forgotten"].map(|p| second.is_reused(p)).into();
    assert_eq!(reused, [true, false, false, false]);
    assert_eq!(vault.text(&second, "touched"), "2");
    assert_eq!(vault.text(&second, "forgotten"), "forgotten");
}

#[test]
fn a_file_just_written_is_not_trusted_to_be_unchanged() {
    let now = SystemTime::now();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "1").unwrap();
    let stat = rustix::fs::stat(dir.path().join("f")).unwrap();
    assert!(!is_settled(&stat, now));
    assert!(is_settled(&stat, now + 3 * TICK));
}

#[test]
fn link_loops_are_links() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    symlink("..", dir.path().join("d/up")).unwrap();
    symlink("self", dir.path().join("self")).unwrap();
    let snapshot = Vault::default().back_up(&mut open(dir.path()), None);
    assert_eq!(snapshot.paths(), ["", "d", "d/up", "self"]);
    assert!(matches!(snapshot.entry(b"d/up"), Some(Entry::Symlink(_, to, _)) if to == b".."));
}

#[test]
fn a_socket_is_named_and_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let snapshot = Vault::default().back_up(&mut open(dir.path()), None);
    assert_eq!(snapshot.report.notes.len(), 1);
    assert!(snapshot.report.notes[0].starts_with("socket: skipped: a socket"));
    assert!(snapshot.report.failed.is_empty() && snapshot.paths() == [""]);
}

#[test]
fn a_file_that_vanishes_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let path = dir.path().to_path_buf();
    let mut vault = Vault::default();
    vault.meanwhile = Some(Box::new(move |name| {
        if name == "a" {
            fs::remove_file(path.join("b")).unwrap();
        }
    }));
    let snapshot = vault.back_up(&mut open(dir.path()), None);
    assert_eq!(snapshot.paths(), ["", "a", "c"]);
    assert_eq!(snapshot.report.failed.len(), 1);
    assert_eq!(snapshot.report.failed[0].0, "b");
}

#[test]
fn a_file_replaced_by_a_link_is_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(dir.path().join("f"), "1").unwrap();
    let fd = open_root(dir.path()).unwrap();
    let before = rustix::fs::stat(dir.path().join("f")).unwrap();
    fs::remove_file(dir.path().join("f")).unwrap();
    symlink("secret", dir.path().join("f")).unwrap();
    assert_eq!(FileType::from_raw_mode(before.st_mode), FileType::RegularFile);
    let error = open_regular(std::os::fd::AsFd::as_fd(&fd), c"f").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
    fs::remove_file(dir.path().join("f")).unwrap();
    let fifo = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(&fd, "f", fifo).unwrap();
    assert!(
        open_regular(std::os::fd::AsFd::as_fd(&fd), c"f").is_err(),
        "and a FIFO does not block"
    );
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named_and_read_again_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, vec![1; 100_000]).unwrap();
    settle_times();
    let mut vault = Vault::default();
    let growing = path.clone();
    vault.meanwhile = Some(Box::new(move |_| {
        let mut file = fs::OpenOptions::new().append(true).open(&growing).unwrap();
        io::Write::write_all(&mut file, b"more").unwrap();
    }));
    let first = vault.back_up(&mut open(dir.path()), None);
    assert_eq!(first.file(b"log").unwrap().size, 100_000, "as long as it was when it was opened");
    assert_eq!(failed(&first), ["log"]);
    assert!(first.report.failed[0].1.starts_with("changed while it was read"));
    vault.meanwhile = None;
    settle_times();
    let second = vault.back_up(&mut open(dir.path()), Some(&first));
    assert_eq!(second.file(b"log").unwrap().size, 100_004);
    assert_eq!(second.report, Report::default());
}

#[test]
fn what_cannot_be_read_fails_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    for name in ["a", "d/x", "e"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(dir.path().join("d"), fs::Permissions::from_mode(0o0)).unwrap();
    let (paths, failed) = as_nobody(dir.path(), || {
        let snapshot = Vault::default().back_up(&mut open(dir.path()), None);
        (snapshot.paths(), snapshot.report.failed)
    });
    fs::set_permissions(dir.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(paths, ["", "d", "e"]);
    let failed: Vec<&str> = failed.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(failed, ["a", "d"]);
}

#[test]
fn a_directory_that_moves_away_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    for name in ["a/b/1", "a/b/2", "c"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let path = dir.path().to_path_buf();
    let mut vault = Vault::default();
    vault.meanwhile = Some(Box::new(move |name| {
        if name == "a/b/1" {
            fs::remove_dir_all(path.join("a")).unwrap();
        }
    }));
    let snapshot = vault.back_up(&mut open(dir.path()), None);
    assert_eq!(snapshot.paths(), ["", "a", "a/b", "a/b/1", "c"]);
    // The first was read all the same; that it changed meanwhile shows where the clock is fine enough.
    assert_eq!(failed(&snapshot).last(), Some(&"a/b/2"));
}

#[test]
fn ten_thousand_levels_are_walked_and_restored() {
    const DEPTH: usize = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("deep");
    fs::create_dir(&root).unwrap();
    let mut fd = open_root(&root).unwrap();
    for level in 0..DEPTH {
        // Something that comes after the way down, so that the way back matters.
        if level % 100 == 0 {
            rustix::fs::mkdirat(&fd, "e", Mode::from_raw_mode(0o700)).unwrap();
        }
        rustix::fs::mkdirat(&fd, "d", Mode::from_raw_mode(0o700)).unwrap();
        fd = openat(&fd, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let mut vault = Vault::default();
    let snapshot = vault.back_up(&mut open(&root), None);
    assert_eq!(snapshot.report, Report::default());
    assert_eq!(snapshot.entries.len(), 1 + DEPTH + DEPTH / 100);
    let report = vault.restore(&snapshot, &dir.path().join("back"));
    assert_eq!(report.failed, []);
    let again = vault.back_up(&mut open(&dir.path().join("back")), None);
    assert_eq!(again.paths(), snapshot.paths());
    // The standard library would hold every level open.
    for tree in ["deep", "back"] {
        let mut rm = std::process::Command::new("rm");
        assert!(rm.arg("-rf").arg(dir.path().join(tree)).status().unwrap().success());
    }
}

#[test]
fn a_stopped_sink_ends_the_backup() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "1").unwrap();
    let mut vault = Vault::default();
    vault.stop_at = Some("a".into());
    let stopped = vault.try_back_up(&mut open(dir.path()), None);
    assert!(matches!(stopped, Err(SourceError::Stopped(why)) if why == "no more"));
}

#[test]
fn a_file_alone_is_a_source() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("dump.sql"), "select 1;").unwrap();
    fs::write(dir.path().join("other"), "").unwrap();
    fs::hard_link(dir.path().join("dump.sql"), dir.path().join("second name")).unwrap();
    symlink("dump.sql", dir.path().join("link")).unwrap();
    settle_times();
    let mut vault = Vault::default();
    for path in ["dump.sql", "link"] {
        let mut source = open(&dir.path().join(path));
        assert!(source.name().ends_with("/dump.sql"));
        let snapshot = vault.back_up(&mut source, None);
        assert_eq!(
            (snapshot.paths(), &snapshot.report),
            (vec!["dump.sql".into()], &Report::default())
        );
        assert_eq!(vault.text(&snapshot, "dump.sql"), "select 1;");
        assert!(vault.back_up(&mut source, Some(&snapshot)).is_reused("dump.sql"));
    }
    let gone = &mut open(&dir.path().join("dump.sql"));
    fs::remove_file(dir.path().join("dump.sql")).unwrap();
    assert!(matches!(vault.try_back_up(gone, None), Err(SourceError::Open { .. })));
}

#[test]
fn what_is_neither_file_nor_folder_is_no_source() {
    let device = DirectorySource::open(Path::new("/dev/null"));
    assert!(matches!(device, Err(SourceError::NotAFile(_))));
    let nothing = DirectorySource::open(Path::new("/nonexistent"));
    assert!(matches!(nothing, Err(SourceError::Open { .. })));
}

mod everything;
mod left_out;
