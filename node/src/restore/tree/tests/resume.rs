//! Restores that were interrupted, and files that are there already.

use super::*;

fn marked(overwrite: Option<Overwrite>) -> TreeOptions {
    TreeOptions {
        overwrite,
        marker: Some(Marker::new("0a", "all of 0a")),
        ..TreeOptions::default()
    }
}

fn right(expected: &'static [u8]) -> impl Fn(&[u8]) -> bool {
    move |found| found == expected
}

#[test]
fn what_was_whole_is_not_written_again_and_what_was_not_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TreeWriter::new(dir.path(), &marked(None)).unwrap();
    assert!(!writer.is_resumed());
    write(&mut writer, "whole", b"whole").unwrap();
    let half = begin(&mut writer, &meta("half", 0o644), 10).unwrap();
    half.body().write_at(0, b"hello").unwrap();
    drop((half, writer));
    assert_eq!(names(dir.path()).len(), 3, "the marker, a file, and half of one");

    let mut writer = TreeWriter::new(dir.path(), &marked(None)).unwrap();
    assert!(writer.is_resumed());
    assert!(matches!(writer.begin_file(&meta("whole", 0o644), 5).unwrap(), Begun::Same));
    let mut half = begin(&mut writer, &meta("half", 0o644), 10).unwrap();
    assert!(half.take_over(0, &mut [0; 5], right(b"hello")).unwrap());
    assert!(!half.take_over(5, &mut [0; 5], right(b"world")).unwrap());
    half.body().write_at(5, b"world").unwrap();
    assert!(writer.finish_file(half).unwrap());
    writer.directory(meta("", 0o751)).unwrap();
    writer.finish(true).unwrap();
    assert_eq!(names(dir.path()), ["half", "whole"]);
    assert_eq!(fs::read(dir.path().join("half")).unwrap(), b"helloworld");
    assert_eq!(fs::metadata(dir.path()).unwrap().mtime(), 1_000_000, "the marker left no trace");
    assert!(matches!(TreeWriter::new(dir.path(), &marked(None)), Err(TreeError::NotEmpty(_))));
}

#[test]
fn what_others_put_under_a_temporary_name_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TreeWriter::new(dir.path(), &marked(None)).unwrap();
    drop(begin(&mut writer, &meta("f", 0o644), 4).unwrap());
    let partial = names(dir.path()).into_iter().find(|name| name.contains("partial")).unwrap();
    let partial = dir.path().join(partial);
    let precious = dir.path().join("precious");
    for is_link in [true, false] {
        fs::remove_file(&partial).unwrap();
        fs::write(&precious, "1234").unwrap();
        fs::set_permissions(&precious, fs::Permissions::from_mode(0o600)).unwrap();
        if is_link {
            symlink(&precious, &partial).unwrap();
        } else {
            fs::hard_link(&precious, &partial).unwrap();
        }
        let mut open = begin(&mut writer, &meta("f", 0o644), 4).unwrap();
        assert!(!open.take_over(0, &mut [0; 4], right(b"1234")).unwrap());
        open.body().write_at(0, b"evil").unwrap();
        drop(open);
        assert_eq!(fs::read(&precious).unwrap(), b"1234");
    }
}

#[test]
fn a_snapshot_of_an_interrupted_restore_is_restored_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let mut writer = TreeWriter::new(&one, &marked(None)).unwrap();
    drop(begin(&mut writer, &meta("f", 0o644), 4).unwrap());
    let other = TreeOptions {
        marker: Some(Marker::new("0b", "all of 0b")),
        overwrite: None,
        ..TreeOptions::default()
    };
    let mut writer = TreeWriter::new(&two, &other).unwrap();
    let left = names(&one);
    for name in &left {
        let open = begin(&mut writer, &meta(name, 0o600), 4).unwrap();
        open.body().write_at(0, b"left").unwrap();
        writer.finish_file(open).unwrap();
    }
    write(&mut writer, "f", b"file").unwrap();
    writer.finish(true).unwrap();
    assert_eq!(names(&two).len(), 1 + left.len());
    assert!(left.iter().all(|name| fs::read(two.join(name)).unwrap() == b"left"));
}

/// A file of `old`, restored as `new` in pieces of four bytes: what was fetched, and whether it was written.
fn replaced(old: &[u8], new: &'static [u8]) -> (Vec<u8>, bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, old).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    let options = TreeOptions {
        overwrite: Some(Overwrite::IfChanged),
        marker: None,
        ..TreeOptions::default()
    };
    let mut writer = TreeWriter::new(dir.path(), &options).unwrap();
    let mut open = begin(&mut writer, &meta("f", 0o640), new.len() as u64).unwrap();
    let (mut fetched, mut at) = (Vec::new(), 0);
    for piece in new.chunks(4) {
        if !open.take_over(at, &mut vec![0; piece.len()], |found| found == piece).unwrap() {
            open.body().write_at(at, piece).unwrap();
            fetched.extend_from_slice(piece);
        }
        at += piece.len() as u64;
    }
    let is_written = writer.finish_file(open).unwrap();
    assert_eq!(names(dir.path()), ["f"]);
    assert_eq!(fs::read(&path).unwrap(), new);
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime()), (0o640, 1_000_000));
    assert_eq!(found.ino() != before, is_written);
    (fetched, is_written)
}

#[test]
fn of_a_file_that_is_replaced_only_what_differs_is_fetched() {
    assert_eq!(replaced(b"aaaabbbbcc", b"aaaabbbbcc"), (b"".to_vec(), false));
    assert_eq!(replaced(b"", b""), (b"".to_vec(), false));
    assert_eq!(replaced(b"aaaabbbbcc", b"aaaaBBBBcc"), (b"BBBB".to_vec(), true));
    assert_eq!(replaced(b"aaaabbbbcc", b"aaaabbbb"), (b"".to_vec(), true));
    assert_eq!(replaced(b"aaaabbbb", b"aaaabbbbcc"), (b"cc".to_vec(), true));
    assert_eq!(replaced(b"xxxx", b"aaaabbbb"), (b"aaaabbbb".to_vec(), true));
}

#[test]
fn where_there_is_to_be_a_hole_other_bytes_do_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for (middle, is_written) in [(0, false), (7, true)] {
        let mut old = vec![1; 4096];
        old.resize(1 << 20, 0);
        let file = fs::File::create(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &old[..4096], 0).unwrap();
        file.set_len(1 << 20).unwrap();
        if middle > 0 {
            std::os::unix::fs::FileExt::write_all_at(&file, &[middle], 500_000).unwrap();
        }
        let mut writer = TreeWriter::new(dir.path(), &over(true)).unwrap();
        let mut open = begin(&mut writer, &meta("f", 0o644), 1 << 20).unwrap();
        assert!(open.take_over(0, &mut [0; 4096], |found| found == &old[..4096]).unwrap());
        open.hole(4096, (1 << 20) - 4096).unwrap();
        assert_eq!(writer.finish_file(open).unwrap(), is_written);
        assert!(fs::read(&path).unwrap() == old);
    }
}

#[test]
fn each_rule_replaces_what_it_says() {
    let (older, newer) = (999_999, 1_000_001);
    for (rule, found, is_kept) in [
        (Overwrite::Always, newer, false),
        (Overwrite::IfChanged, newer, false),
        (Overwrite::IfNewer, older, false),
        (Overwrite::IfNewer, newer, true),
        (Overwrite::Never, older, true),
        (Overwrite::Never, newer, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for name in ["f", "l"] {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::new(found, 999_999_999);
            file.set_modified(time).unwrap();
        }
        let options = TreeOptions { overwrite: Some(rule), marker: None, ..TreeOptions::default() };
        let mut writer = TreeWriter::new(dir.path(), &options).unwrap();
        let begun = writer.begin_file(&meta("f", 0o644), 1).unwrap();
        assert_eq!(matches!(begun, Begun::Kept), is_kept, "{rule:?}");
        assert_eq!(!writer.symlink(&meta("l", 0o777), b"to").unwrap(), is_kept, "{rule:?}");
        assert!(writer.symlink(&meta("new", 0o777), b"to").unwrap());
    }
}

#[test]
fn what_is_kept_and_the_same_can_be_linked_to() {
    let dir = tempfile::tempdir().unwrap();
    for rule in [Overwrite::IfNewer, Overwrite::Never] {
        let options = TreeOptions { overwrite: Some(rule), marker: None, ..TreeOptions::default() };
        let mut writer = TreeWriter::new(dir.path(), &options).unwrap();
        if rule == Overwrite::IfNewer {
            write(&mut writer, "f", b"1").unwrap();
        }
        assert!(matches!(writer.begin_file(&meta("f", 0o600), 1).unwrap(), Begun::Same));
        assert!(matches!(writer.begin_file(&meta("f", 0o600), 2).unwrap(), Begun::Kept));
        assert_eq!(fs::metadata(dir.path().join("f")).unwrap().mode() & 0o777, 0o644);
    }
}

#[test]
fn a_plan_is_what_is_done_then() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let options = marked(Some(Overwrite::IfChanged));
    let mut reader = TreeReader::open(&target, &options).unwrap();
    assert!(matches!(reader.plan(&meta("f", 0o644), Some(4)).unwrap(), Planned::New(None)));
    assert!(!target.exists(), "looking makes nothing");
    let mut writer = TreeWriter::new(&target, &options).unwrap();
    write(&mut writer, "f", b"1234").unwrap();
    fs::write(target.join("g"), "1234").unwrap();
    drop(begin(&mut writer, &meta("h", 0o644), 4).unwrap());
    drop(writer);
    let mut reader = TreeReader::open(&target, &options).unwrap();
    let mut plan = |name: &str| reader.plan(&meta(name, 0o644), Some(4)).unwrap();
    assert!(matches!(plan("f"), Planned::Same));
    let Planned::Replace(Some(mut old)) = plan("g") else { panic!("g is replaced") };
    assert!(old.is_next(&mut [0; 4], right(b"1234")));
    let Planned::New(Some(mut left)) = plan("h") else { panic!("h is continued") };
    assert!(left.is_zero(4).unwrap());
    assert!(matches!(plan("d/e"), Planned::New(None)));
    assert!(matches!(
        TreeReader::open(&target, &TreeOptions::default()),
        Err(TreeError::NotEmpty(_))
    ));
}

#[test]
fn scratch_stays_marked_so_that_after_a_crash_it_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = TreeOptions { is_scratch: true, ..marked(Some(Overwrite::IfChanged)) };
    let mut writer = TreeWriter::new(dir.path(), &scratch).unwrap();
    write(&mut writer, "whole", b"whole").unwrap();
    writer.finish(true).unwrap();
    assert_eq!(names(dir.path()).len(), 2, "the marker and the file");
    let mut writer = TreeWriter::new(dir.path(), &scratch).unwrap();
    assert!(writer.is_resumed());
    assert!(matches!(writer.begin_file(&meta("whole", 0o644), 5).unwrap(), Begun::Same));
}
