//! Stories of what a file system has beside files, folders and links: there and back again.

use super::*;
use crate::source::attributes::{ACL, DEFAULT_ACL};
use crate::source::sparse::HOLE_MIN;

/// Owner rwx, user 1234 r--, group r-x, mask r-x, others nothing: as Linux keeps it.
fn acl() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, rights, id) in [
        (1u16, 7u16, u32::MAX),
        (2, 4, 1234),
        (4, 5, u32::MAX),
        (16, 5, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Sets an attribute; says so where the file system or the user cannot.
fn set(path: &Path, name: &[u8], value: &[u8]) -> bool {
    let attribute = Attribute { name: Blob(name.to_vec()), value: Blob(value.to_vec()) };
    let dir = fs::File::open(path.parent().unwrap()).unwrap();
    let entry = CString::new(path.file_name().unwrap().as_bytes()).unwrap();
    let set = Object::Entry(dir.as_fd(), &entry).set(&attribute);
    if let Err(error) = set {
        assert!(
            std::env::var_os("STREWN_REQUIRE_ALL").is_none(),
            "{} {}: {error}",
            path.display(),
            String::from_utf8_lossy(name)
        );
        eprintln!("skipped: {} cannot be set here: {error}", String::from_utf8_lossy(name));
    }
    set.is_ok()
}

fn attributes(path: &Path) -> Vec<Attribute> {
    let dir = fs::File::open(path.parent().unwrap()).unwrap();
    let entry = CString::new(path.file_name().unwrap().as_bytes()).unwrap();
    Object::Entry(dir.as_fd(), &entry).read().unwrap()
}

/// There and back again.
fn round_trip(from: &Path, to: &Path) -> (Snapshot, Vec<String>) {
    let mut vault = Vault::default();
    let snapshot = vault.back_up(&mut open(from), None);
    assert_eq!(snapshot.report.failed, []);
    let report = vault.restore(&snapshot, to);
    assert_eq!(report.failed, []);
    (snapshot, report.notes)
}

#[test]
fn hard_links_are_read_once_and_restored_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(from.join("d")).unwrap();
    fs::write(from.join("b"), vec![7; 5000]).unwrap();
    fs::hard_link(from.join("b"), from.join("d/c")).unwrap();
    fs::hard_link(from.join("b"), from.join("e")).unwrap();
    // One of two names is elsewhere.
    fs::write(dir.path().join("elsewhere"), "").unwrap();
    fs::hard_link(dir.path().join("elsewhere"), from.join("f")).unwrap();
    settle_times();
    let mut vault = Vault::default();
    let first = vault.back_up(&mut open(&from), None);
    assert_eq!((vault.read, &first.report), (5000, &Report::default()));
    assert!(matches!(first.entry(b"d/c"), Some(Entry::Link(_, to)) if to == b"b"));
    assert!(matches!(first.entry(b"f"), Some(Entry::File { .. })));
    assert_eq!(vault.restore(&first, &to).notes, [""; 0]);
    let inode = |path: &str| fs::metadata(to.join(path)).unwrap().ino();
    assert_eq!((inode("b"), inode("b")), (inode("d/c"), inode("e")));
    assert_eq!(fs::metadata(to.join("e")).unwrap().nlink(), 3);

    // Unchanged, under all names.
    let second = vault.back_up(&mut open(&from), Some(&first));
    assert_eq!((vault.read, second.is_reused("b")), (5000, true));
    assert!(matches!(second.entry(b"e"), Some(Entry::Link(_, to)) if to == b"b"));
    // A new name changes the change time; the rest is as it was.
    fs::hard_link(from.join("b"), from.join("g")).unwrap();
    settle_times();
    let third = vault.back_up(&mut open(&from), Some(&second));
    assert!(matches!(third.entry(b"g"), Some(Entry::Link(_, to)) if to == b"b"));
}

#[test]
fn a_file_that_changes_between_two_of_its_names_is_not_taken_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "m"] {
        fs::write(dir.path().join(name), "old").unwrap();
    }
    fs::hard_link(dir.path().join("a"), dir.path().join("z")).unwrap();
    let path = dir.path().join("z");
    let mut vault = Vault::default();
    vault.meanwhile = Some(Box::new(move |name| {
        if name == "m" {
            fs::write(&path, "newer").unwrap();
        }
    }));
    let snapshot = vault.back_up(&mut open(dir.path()), None);
    assert_eq!(vault.text(&snapshot, "a"), "old");
    assert_eq!(vault.text(&snapshot, "z"), "newer");
    assert_eq!(failed(&snapshot), ["z"]);
}

#[test]
fn attributes_come_back_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(from.join("d")).unwrap();
    fs::write(from.join("d/f"), "1").unwrap();
    fs::write(from.join("plain"), "1").unwrap();
    symlink("d", from.join("l")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, from.join("p"), Mode::from_raw_mode(0o600)).unwrap();
    let mut all = set(&from.join("d/f"), b"user.comment", b"a \0 value");
    all &= set(&from.join("d/f"), b"user.empty", b"");
    all &= set(&from.join("d/f"), b"user.large", &[7; 3000]);
    all &= set(&from.join("d/f"), b"user.\xff", b"a name that is no text");
    all &= set(&from.join("d/f"), ACL, &acl());
    all &= set(&from.join("d"), DEFAULT_ACL, &acl());
    all &= set(&from.join("d"), ACL, &acl());
    all &= set(&from, b"user.top", b"1");
    let mut paths = vec!["", "d", "d/f", "plain", "l", "p"];
    if rustix::process::geteuid().is_root() {
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        all &= set(&from.join("d/f"), b"security.capability", &capability);
        all &= set(&from.join("d/f"), b"trusted.secret", b"2");
        all &= set(&from.join("l"), b"trusted.link", b"3");
        all &= set(&from.join("p"), b"trusted.fifo", b"4");
    }
    if !all {
        paths.truncate(1);
    }
    settle_times();
    // What is made in a target with a default list inherits it; the snapshot has its own.
    fs::create_dir(&to).unwrap();
    set(&to, DEFAULT_ACL, &acl());
    let (snapshot, notes) = round_trip(&from, &to);
    assert_eq!(notes, [""; 0]);
    for path in paths {
        assert_eq!(attributes(&to.join(path)), attributes(&from.join(path)), "{path}");
        let mode = |top: &Path| top.join(path).symlink_metadata().unwrap().mode();
        assert_eq!(mode(&to), mode(&from), "{path}");
    }
    assert_eq!(snapshot.file(b"plain").unwrap().attributes, []);

    // Only an attribute changes: the change time tells.
    if set(&from.join("d/f"), b"user.comment", b"another") {
        settle_times();
        let mut vault = Vault::default();
        let first = vault.back_up(&mut open(&from), None);
        set(&from.join("d/f"), b"user.comment", b"a third");
        settle_times();
        let second = vault.back_up(&mut open(&from), Some(&first));
        assert_eq!((second.is_reused("plain"), second.is_reused("d/f")), (true, false));
        let third = vault.back_up(&mut open(&from), Some(&second));
        assert!(third.is_reused("d/f"));
        let kept = &third.file(b"d/f").unwrap().attributes;
        assert!(kept.iter().any(|attribute| attribute.value.0 == b"a third"));
    }
}

#[test]
fn holes_come_back_as_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    let sparse = fs::File::create(from.join("disk")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    for at in [5 << 20, 500 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[7; 10_000], at).unwrap();
    }
    fs::File::create(from.join("nothing")).unwrap().set_len(10 * HOLE_MIN).unwrap();
    settle_times();
    let mut vault = Vault::default();
    let snapshot = vault.back_up(&mut open(&from), None);
    let file = snapshot.file(b"disk").unwrap();
    assert_eq!((file.size, file.holes.len()), (1 << 30, 3));
    assert!(vault.read < 100_000, "{} bytes read", vault.read);
    vault.restore(&snapshot, &to);
    for name in ["disk", "nothing"] {
        let facts = |top: &Path| {
            let meta = fs::metadata(top.join(name)).unwrap();
            (meta.size(), meta.blocks())
        };
        assert_eq!(facts(&to), facts(&from), "{name}");
    }
    let mut same = std::process::Command::new("cmp");
    assert!(same.arg(from.join("disk")).arg(to.join("disk")).status().unwrap().success());
    let again = vault.back_up(&mut open(&from), Some(&snapshot));
    assert!(again.is_reused("disk"));
    assert_eq!(again.file(b"disk").unwrap().holes, file.holes);
}

#[test]
fn devices_and_fifos_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    let make = |name: &str, kind, device| {
        let mode = Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(rustix::fs::CWD, from.join(name), kind, mode, device)
    };
    make("fifo", FileType::Fifo, 0).unwrap();
    fs::set_permissions(from.join("fifo"), fs::Permissions::from_mode(0o622)).unwrap();
    let devices = make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3))
        .and_then(|()| make("disk", FileType::BlockDevice, rustix::fs::makedev(7, 300)));
    if let Err(error) = devices {
        assert!(std::env::var_os("STREWN_REQUIRE_ALL").is_none(), "devices: {error}");
        eprintln!("skipped: devices cannot be made here: {error}");
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(from.join("fifo"), Some(1234), Some(5678)).unwrap();
    }
    let (snapshot, notes) = round_trip(&from, &to);
    assert_eq!(notes, [""; 0]);
    for path in snapshot.paths() {
        let facts = |top: &Path| {
            let m = top.join(&path).symlink_metadata().unwrap();
            (m.mode(), m.rdev(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec())
        };
        assert_eq!(facts(&to), facts(&from), "{path}");
    }
}

#[test]
fn what_only_root_can_restore_is_counted_and_the_rest_restored() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("STREWN_REQUIRE_ALL").is_none(), "this needs root");
        eprintln!("skipped: only root can make what only root can restore");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (from, work) = (dir.path().join("from"), dir.path().join("work"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&work).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["a", "b"] {
        fs::write(from.join(name), name).unwrap();
        set(&from.join(name), b"trusted.secret", b"1");
        set(&from.join(name), b"user.open", b"2");
    }
    fs::set_permissions(from.join("b"), fs::Permissions::from_mode(0o6444)).unwrap();
    let device = rustix::fs::makedev(1, 3);
    let mode = Mode::from_raw_mode(0o600);
    let null = from.join("null");
    rustix::fs::mknodat(rustix::fs::CWD, null, FileType::CharacterDevice, mode, device).unwrap();
    let mut vault = Vault::default();
    let snapshot = vault.back_up(&mut open(&from), None);
    let (vault, to) = (&mut vault, work.join("to"));
    let report = as_nobody(&work, || vault.restore(&snapshot, &to));
    assert_eq!(report.failed, []);
    let begins: Vec<&str> =
        report.notes.iter().map(|note| note.split(',').next().unwrap()).collect();
    let expected = [
        "owners: 3 not restored",
        "special files: 1 not restored",
        "trusted.* attributes: 2 not restored",
    ];
    assert_eq!(begins, expected);
    for name in ["a", "b"] {
        assert_eq!(fs::read_to_string(to.join(name)).unwrap(), name);
        let kept = attributes(&to.join(name));
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].name.0, b"user.open");
    }
    assert_eq!(fs::metadata(to.join("b")).unwrap().mode() & 0o7777, 0o444);
}
