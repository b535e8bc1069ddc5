mod resume;

use super::*;
use crate::source::Node;
use crate::source::testing::as_nobody;
use protocol::item::NodeKind;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

fn meta(path: &str, mode: u32) -> Meta {
    Meta {
        path: Blob(path.into()),
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Timestamp { secs: 1_000_000, nanos: 999_999_999 },
    }
}

fn write(writer: &mut TreeWriter, path: &str, content: &[u8]) -> Result<(), TreeError> {
    let open = begin(writer, &meta(path, 0o644), content.len() as u64)?;
    open.body().write_at(0, content)?;
    assert!(writer.finish_file(open)?);
    Ok(())
}

fn begin(writer: &mut TreeWriter, meta: &Meta, size: u64) -> Result<OpenFile, TreeError> {
    match writer.begin_file(meta, size)? {
        Begun::Write(open) => Ok(*open),
        other => panic!("{other:?}"),
    }
}

/// With and without, for files and links that are there already.
fn over(overwrites: bool) -> TreeOptions {
    TreeOptions {
        overwrite: overwrites.then_some(Overwrite::Always),
        marker: None,
        ..TreeOptions::default()
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn nothing_escapes_through_a_link_from_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (outside, target) = (dir.path().join("outside"), dir.path().join("target"));
    fs::create_dir(&outside).unwrap();
    for overwrite in [false, true] {
        let mut writer = TreeWriter::new(&target, &over(overwrite)).unwrap();
        writer.symlink(&meta("a", 0o777), outside.to_str().unwrap().as_bytes()).unwrap();
        assert!(matches!(write(&mut writer, "a/f", b"1"), Err(TreeError::NotADirectory { .. })));
        assert!(matches!(
            writer.directory(meta("a/d", 0o755)),
            Err(TreeError::NotADirectory { .. })
        ));
        assert!(matches!(
            writer.symlink(&meta("a/l", 0o777), b"x"),
            Err(TreeError::NotADirectory { .. })
        ));
        assert!(matches!(write(&mut writer, "../f", b"1"), Err(TreeError::Path { .. })));
        assert!(matches!(write(&mut writer, "/f", b"1"), Err(TreeError::Path { .. })));
        writer.finish(true).unwrap();
    }
    assert_eq!(names(&outside), [""; 0]);
}

#[test]
fn nothing_escapes_through_a_directory_that_becomes_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (outside, target) = (dir.path().join("outside"), dir.path().join("target"));
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)).unwrap();
    let mut writer = TreeWriter::new(&target, &over(true)).unwrap();
    writer.directory(meta("d", 0o777)).unwrap();
    fs::remove_dir(target.join("d")).unwrap();
    symlink(&outside, target.join("d")).unwrap();
    assert!(write(&mut writer, "d/f", b"1").is_err());
    let report = writer.finish(true).unwrap();
    assert_eq!(report.failed[0].0, "d");
    assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o777, 0o700);
    assert_eq!(names(&outside), [""; 0]);
}

#[test]
fn an_existing_link_is_replaced_and_not_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(dir.path().join("precious"), "precious").unwrap();
    symlink("../precious", target.join("f")).unwrap();
    assert!(matches!(
        TreeWriter::new(&target, &TreeOptions::default()),
        Err(TreeError::NotEmpty(_))
    ));
    let mut writer = TreeWriter::new(&target, &over(true)).unwrap();
    write(&mut writer, "f", b"new").unwrap();
    writer.symlink(&meta("l", 0o777), b"one").unwrap();
    writer.symlink(&meta("l", 0o777), b"two").unwrap();
    writer.finish(true).unwrap();
    assert_eq!(fs::read(dir.path().join("precious")).unwrap(), b"precious");
    assert!(target.join("f").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_link(target.join("l")).unwrap(), Path::new("two"));
    assert_eq!(names(&target), ["f", "l"]);
}

#[test]
fn a_file_has_its_name_only_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TreeWriter::new(dir.path(), &TreeOptions::default()).unwrap();
    let open = begin(&mut writer, &meta("f", 0o640), 10).unwrap();
    let partial = names(dir.path());
    assert!(partial[0].starts_with(".strewn-partial-") && partial.len() == 1);
    let mode = fs::metadata(dir.path().join(&partial[0])).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    std::thread::scope(|scope| {
        scope.spawn(|| open.body().write_at(5, b"world").unwrap());
        scope.spawn(|| open.body().write_at(0, b"hello").unwrap());
    });
    assert!(matches!(open.body().write_at(6, b"world"), Err(TreeError::Beyond { .. })));
    assert!(matches!(open.body().write_at(u64::MAX, b"world"), Err(TreeError::Beyond { .. })));
    writer.finish_file(open).unwrap();
    let given_up = begin(&mut writer, &meta("g", 0o640), 10).unwrap();
    drop(given_up);
    assert_eq!(names(dir.path()), ["f"]);
    let found = fs::metadata(dir.path().join("f")).unwrap();
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"helloworld");
    assert_eq!(
        (found.mode() & 0o7777, found.mtime(), found.mtime_nsec()),
        (0o640, 1_000_000, 999_999_999)
    );
}

#[test]
fn two_items_of_one_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TreeWriter::new(dir.path(), &TreeOptions::default()).unwrap();
    write(&mut writer, "f", b"1").unwrap();
    assert!(matches!(write(&mut writer, "f", b"2"), Err(TreeError::Exists { .. })));
    assert!(matches!(writer.symlink(&meta("f", 0o777), b"x"), Err(TreeError::Exists { .. })));
    assert!(matches!(writer.directory(meta("f", 0o755)), Err(TreeError::Exists { .. })));
    assert!(matches!(write(&mut writer, "f/g", b"2"), Err(TreeError::NotADirectory { .. })));
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"1");
    assert_eq!(names(dir.path()), ["f"]);
}

#[test]
fn a_read_only_directory_gets_its_content_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TreeWriter::new(dir.path(), &TreeOptions::default()).unwrap();
    writer.directory(meta("a", 0o500)).unwrap();
    writer.directory(meta("a/b", 0o500)).unwrap();
    write(&mut writer, "a/b/c", b"1").unwrap();
    // An item whose directory has none of its own, as in a restore of one file.
    write(&mut writer, "x/y/z", b"1").unwrap();
    writer.finish(true).unwrap();
    for path in ["a", "a/b"] {
        let found = fs::metadata(dir.path().join(path)).unwrap();
        assert_eq!((found.mode() & 0o7777, found.mtime()), (0o500, 1_000_000), "{path}");
        fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert!(dir.path().join("x/y/z").is_file());
}

#[test]
fn set_user_id_needs_the_right_owner() {
    let dir = tempfile::tempdir().unwrap();
    let report = as_nobody(dir.path(), || {
        let mut writer = TreeWriter::new(dir.path(), &TreeOptions::default()).unwrap();
        let foreign = Meta { uid: 0, ..meta("f", 0o4755) };
        let open = begin(&mut writer, &foreign, 0).unwrap();
        writer.finish_file(open).unwrap();
        writer.finish(true).unwrap()
    });
    assert_eq!(fs::metadata(dir.path().join("f")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(report.notes.len(), 1);
}

#[test]
fn links_are_made_of_what_is_there_and_never_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (outside, target) = (dir.path().join("outside"), dir.path().join("target"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "precious").unwrap();
    let mut writer = TreeWriter::new(&target, &TreeOptions::default()).unwrap();
    write(&mut writer, "d/f", b"1").unwrap();
    writer.link(&meta("e/g", 0o644), b"d/f").unwrap();
    let inode = |path: &str| fs::metadata(target.join(path)).unwrap().ino();
    assert_eq!(inode("e/g"), inode("d/f"));
    let exists = writer.link(&meta("e/g", 0o644), b"d/f");
    assert!(matches!(exists, Err(TreeError::Exists { .. })));
    assert!(matches!(writer.link(&meta("h", 0o644), b"missing"), Err(TreeError::Io { .. })));
    assert!(matches!(writer.link(&meta("h", 0o644), b"../outside/f"), Err(TreeError::Path { .. })));
    assert!(matches!(writer.link(&meta("../h", 0o644), b"d/f"), Err(TreeError::Path { .. })));
    writer.symlink(&meta("l", 0o777), b"../outside").unwrap();
    assert!(writer.link(&meta("h", 0o644), b"l/f").is_err());
    assert!(matches!(
        writer.link(&meta("l/h", 0o644), b"d/f"),
        Err(TreeError::NotADirectory { .. })
    ));
    assert_eq!(names(&outside), ["f"]);
    assert_eq!(names(&target), ["d", "e", "l"]);
}

#[test]
fn a_link_over_another_name_of_the_same_file_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TreeWriter::new(dir.path(), &over(true)).unwrap();
    write(&mut writer, "f", b"1").unwrap();
    fs::write(dir.path().join("g"), "2").unwrap();
    for _ in 0..2 {
        writer.link(&meta("g", 0o644), b"f").unwrap();
        assert_eq!(names(dir.path()), ["f", "g"]);
    }
    assert_eq!(fs::metadata(dir.path().join("f")).unwrap().nlink(), 2);
}

#[test]
fn where_no_link_can_be_made_there_is_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TreeWriter::new(dir.path(), &TreeOptions::default()).unwrap();
    let open = begin(&mut writer, &meta("f", 0o640), 1 << 20).unwrap();
    open.body().write_at(700_000, b"in the middle").unwrap();
    writer.finish_file(open).unwrap();
    let (from, name) = writer.find(&meta("g", 0o640), b"f").unwrap();
    writer.copy(&meta("g", 0o640), &from, &name).unwrap();
    let facts = |name: &str| {
        let found = fs::metadata(dir.path().join(name)).unwrap();
        (found.mode(), found.size(), found.blocks(), found.mtime_nsec())
    };
    assert_eq!(facts("g"), facts("f"));
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("f") == read("g"));
}

#[test]
fn a_special_file_replaces_nothing_unless_asked() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = Node { kind: NodeKind::Fifo, major: 0, minor: 0 };
    for (overwrite, is_fifo) in [(false, false), (true, true)] {
        let options = over(overwrite);
        let target = dir.path().join(format!("{overwrite}"));
        fs::create_dir(&target).unwrap();
        let mut writer = TreeWriter::new(&target, &options).unwrap();
        write(&mut writer, "f", b"1").unwrap();
        assert_eq!(writer.node(&meta("f", 0o620), fifo).is_ok(), is_fifo);
        assert!(matches!(writer.node(&meta("../p", 0o620), fifo), Err(TreeError::Path { .. })));
        assert_eq!(names(&target), ["f"]);
        let found = target.join("f").symlink_metadata().unwrap();
        assert_eq!(found.file_type().is_fifo(), is_fifo);
        if is_fifo {
            assert_eq!((found.mode() & 0o7777, found.mtime()), (0o620, 1_000_000));
        }
    }
}

#[test]
fn a_claimed_size_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TreeWriter::new(dir.path(), &TreeOptions::default()).unwrap();
    assert!(matches!(writer.begin_file(&meta("f", 0o644), u64::MAX), Err(TreeError::Io { .. })));
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_target_is_closed_to_others_until_the_snapshot_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("x/target");
    let mode = || fs::metadata(&target).unwrap().mode() & 0o7777;
    let mut writer = TreeWriter::new(&target, &TreeOptions::default()).unwrap();
    assert_eq!(mode(), 0o700);
    writer.directory(meta("", 0o751)).unwrap();
    write(&mut writer, "file", b"1").unwrap();
    assert_eq!(mode(), 0o700);
    assert_eq!(writer.finish(true).unwrap().failed, []);
    assert_eq!(mode(), 0o751);
    assert_eq!(fs::metadata(&target).unwrap().mtime_nsec(), 999_999_999);
}
