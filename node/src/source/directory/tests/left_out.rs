//! Stories of what is left out of a backup.

use super::*;

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# made by a test\n";

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

#[test]
fn what_patterns_match_is_left_out() {
    let files =
        [("a.o", ""), ("keep.o", ""), ("target/x", ""), ("src/target/y", ""), ("src/b.o", "")];
    let dir = tree(&files);
    let rules = Rules::new(&["*.o", "!keep.o", "/target/"], &[]).unwrap();
    let snapshot = Vault::default().back_up(&mut with(dir.path(), rules), None);
    assert_eq!(snapshot.paths(), ["", "keep.o", "src", "src/target", "src/target/y"]);
    assert_eq!(snapshot.report, Report::default());
}

#[test]
fn what_is_left_out_is_not_looked_at() {
    let dir = tree(&[("private/x", ""), ("y", "")]);
    fs::set_permissions(dir.path().join("private"), fs::Permissions::from_mode(0o0)).unwrap();
    let (paths, report) = as_nobody(dir.path(), || {
        let rules = Rules::new(&["private"], &[]).unwrap();
        let snapshot = Vault::default().back_up(&mut with(dir.path(), rules), None);
        (snapshot.paths(), snapshot.report)
    });
    fs::set_permissions(dir.path().join("private"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!((paths, report), (vec![String::new(), "y".into()], Report::default()));
}

#[test]
fn a_marked_folder_is_kept_empty_but_for_the_marker() {
    let dir = tree(&[("d/.nobackup", ""), ("d/deep/x", ""), ("d/y", ""), ("z", "")]);
    let snapshot = Vault::default().back_up(&mut open(dir.path()), None);
    assert_eq!(snapshot.paths(), ["", "d", "d/.nobackup", "z"]);
    assert_eq!(snapshot.report, Report::default());
    // Of the source itself it is worth a word.
    let snapshot = Vault::default().back_up(&mut open(&dir.path().join("d")), None);
    assert_eq!(snapshot.paths(), ["", ".nobackup"]);
    assert!(snapshot.report.notes[0].contains("only the marker is kept"));
}

#[test]
fn caches_are_left_out_when_asked_and_only_with_the_signature() {
    let files = [
        ("cache/CACHEDIR.TAG", TAG),
        ("cache/x", ""),
        (
            "fake/CACHEDIR.TAG",
            "Signature: something else, and longer than the one of the specification",
        ),
        ("fake/x", ""),
        ("short/CACHEDIR.TAG", "Signature: 8a477f59"),
        ("short/x", ""),
    ];
    let dir = tree(&files);
    fs::create_dir_all(dir.path().join("linked")).unwrap();
    symlink("../cache/CACHEDIR.TAG", dir.path().join("linked/CACHEDIR.TAG")).unwrap();
    fs::write(dir.path().join("linked/x"), "").unwrap();
    let all = Vault::default().back_up(&mut open(dir.path()), None);
    assert_eq!(all.paths().len(), 13);
    let rules = Rules { caches: true, ..Rules::default() };
    let some = Vault::default().back_up(&mut with(dir.path(), rules), None);
    let left_out: Vec<String> =
        all.paths().into_iter().filter(|path| !some.paths().contains(path)).collect();
    assert_eq!(left_out, ["cache/x"]);
}

#[test]
fn other_file_systems_are_left_out_when_asked() {
    let dir = tree(&[("mounted/under", ""), ("x", "")]);
    let at = dir.path().join("mounted");
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1M", "tmpfs"])
        .arg(&at)
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("STREWN_REQUIRE_ALL").is_none(), "mounting needs root");
        eprintln!("skipped: mounting another file system needs root");
        return;
    }
    fs::write(at.join("y"), "").unwrap();
    let all = Vault::default().back_up(&mut open(dir.path()), None).paths();
    let rules = Rules { one_file_system: true, ..Rules::default() };
    let one = Vault::default().back_up(&mut with(dir.path(), rules), None).paths();
    let unmounted = std::process::Command::new("umount").arg(&at).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(all, ["", "mounted", "mounted/y", "x"]);
    assert_eq!(one, ["", "mounted", "x"]);
}
