//! Folders and streams.

use super::{all, backup, look, six};
use harness::{Mesh, bytes, write};
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn folder(at: &Path) {
    write(at.join("docs/Read Me.TXT"), "read me\n");
    write(at.join("docs/deep/er/note.txt"), "a note\n");
    write(at.join("docs.old/x"), "x");
    write(at.join("large"), bytes("large", 9_000_000));
    symlink("docs/deep", at.join("link")).unwrap();
    fs::set_permissions(at.join("large"), fs::Permissions::from_mode(0o640)).unwrap();
}

fn set_time(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// What a command writes to standard output, to the byte.
fn out(mesh: &Mesh, arguments: &[&str]) -> Vec<u8> {
    let mut command = mesh.command(arguments);
    let output = command.arg("--identity").arg(mesh.identity("v")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_snapshot_is_listed_as_people_know_it_and_files_come_out_exactly() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    folder(&source);
    let hole = File::create(source.join("sparse")).unwrap();
    hole.set_len(40 << 20).unwrap();
    hole.write_all_at(b"in the middle", 20 << 20).unwrap();
    backup(&mesh, &source);
    mesh.nodes[2].kill();
    mesh.nodes[4].kill();

    let paths = |arguments: &[&str]| all(&look(&mesh, true, arguments).ok(), "item", "path");
    let everything = [
        "",
        "docs",
        "docs/Read Me.TXT",
        "docs/deep",
        "docs/deep/er",
        "docs/deep/er/note.txt",
        "docs.old",
        "docs.old/x",
        "large",
        "link",
        "sparse",
    ];
    assert_eq!(paths(&["ls", "latest"]), everything);
    assert_eq!(paths(&["ls", "latest", "docs"]), ["docs/Read Me.TXT", "docs/deep"]);
    assert_eq!(paths(&["ls", "latest", "docs/", "--recursive"]), everything[1..6]);
    assert_eq!(paths(&["ls", "latest", "./large", "docs.old"]), ["docs.old/x", "large"]);
    let text = look(&mesh, false, ["ls", "latest", "large", "link", "--long"]).ok().out;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("-rw-r-----") && lines[0].contains(" 9000000 "), "{text}");
    assert!(lines[1].starts_with("lrwx") && lines[1].ends_with(" link -> docs/deep"), "{text}");
    let item = look(&mesh, true, ["ls", "latest", "large"]).ok().messages("item").remove(0);
    assert_eq!((&item["type"], &item["size"]), (&"file".into(), &9_000_000.into()), "{item}");
    let none = look(&mesh, true, ["ls", "latest", "docs", "docs/none"]).ended(10);
    assert!(none.messages("exit_error")[0]["message"].to_string().contains("docs/none"));
    let _ = look(&mesh, true, ["ls", "ffff"]).ended(10);

    assert!(out(&mesh, &["cat", "latest", "large"]) == bytes("large", 9_000_000));
    assert_eq!(out(&mesh, &["cat", "latest", "/docs//Read Me.TXT"]), b"read me\n");
    assert!(out(&mesh, &["cat", "latest", "sparse"]) == fs::read(source.join("sparse")).unwrap());
    let cat = look(&mesh, true, ["cat", "latest", "docs.old/x"]).ok();
    assert_eq!(all(&cat, "content", "base64"), ["eA=="]);
    assert_eq!(cat.summary()["bytes"], 1);
    for (path, code, why) in [
        ("none", 10, "nothing at none"),
        ("docs", 1, "is a folder"),
        ("link", 1, "is a symbolic link"),
        ("large/x", 10, "nothing at"),
    ] {
        let refused = look(&mesh, true, ["cat", "latest", path]).ended(code);
        assert!(refused.err.contains(why), "{}", refused.err);
    }
    mesh.create_vault("w", "[survive]\nany = [ { provider = 1 } ]\n");
    let mut stranger = mesh.command(["ls", "latest", "--vault", "v", "--identity"]);
    let refused = stranger.arg(mesh.identity("w")).output().unwrap();
    assert_eq!(refused.status.code(), Some(12));
}

#[test]
fn a_stream_has_one_file_and_its_name_is_enough() {
    let mesh = six();
    let mut command =
        mesh.command(["backup", "--from-command", "--name", "db.sql", "--", "echo", "hello"]);
    assert!(command.status().unwrap().success());
    assert_eq!(all(&look(&mesh, true, ["ls", "latest"]).ok(), "item", "path"), ["db.sql"]);
    assert_eq!(out(&mesh, &["cat", "latest", "db.sql"]), b"hello\n");
}

#[test]
fn a_search_goes_through_all_snapshots_and_through_what_is_the_same_once() {
    let mesh = six();
    let source = mesh.dir().join("source");
    folder(&source);
    let old = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    set_time(&source.join("docs/deep/er/note.txt"), old);
    let first = backup(&mesh, &source);
    let again = backup(&mesh, &source);
    fs::remove_file(source.join("docs/deep/er/note.txt")).unwrap();
    write(source.join("new.txt"), "new");
    let last = backup(&mesh, &source);

    let found = |arguments: &[&str]| {
        let ran = look(&mesh, true, ["find"].iter().chain(arguments)).ok();
        let found = ran.messages("match").into_iter().map(|message| {
            let snapshots: Vec<String> =
                serde_json::from_value(message["snapshots"].clone()).unwrap();
            (message["path"].as_str().unwrap().to_owned(), snapshots)
        });
        found.collect::<Vec<_>>()
    };
    let both = vec![first.clone(), again];
    let note = ("docs/deep/er/note.txt".to_owned(), both.clone());
    let new = ("new.txt".to_owned(), vec![last.clone()]);
    assert_eq!(found(&["*.txt"]), [note.clone(), new.clone()]);
    let (note, new) = ([note], [new]);
    assert_eq!(found(&["*.txt", "--snapshot", "latest"]), new);
    assert_eq!(found(&["*.txt", "--older", "2001-09-10"]), note);
    assert_eq!(found(&["*.txt", "--newer", "1h"]), new);
    assert_eq!(found(&["er/*", "--type", "file"]), note);
    let read_me = |snapshots: &[String]| ("docs/Read Me.TXT".to_owned(), snapshots.to_vec());
    let upper = found(&["read*", "-i"]);
    assert_eq!(upper, [read_me(&both), read_me(std::slice::from_ref(&last))]);
    let links = found(&["*", "--type", "symlink", "--snapshot", &first]);
    assert_eq!(links, [("link".to_owned(), vec![first.clone()])]);
    assert_eq!(found(&["nothing"]), []);
    let text = look(&mesh, false, ["find", "note.txt", "--long"]).ok().out;
    assert!(text.contains(&first[..8]) && text.contains("2001-09-09 01:46:40 docs/deep"), "{text}");
    assert_eq!(look(&mesh, true, ["find", "a["]).code, 2);
    assert_eq!(look(&mesh, true, ["find", "a", "--newer", "soon"]).code, 2);
}

#[test]
fn what_changed_is_told_with_numbers_that_fit() {
    let mesh = six();
    let source = mesh.dir().join("source");
    folder(&source);
    write(source.join("touched"), "same");
    write(source.join("was a file"), "12345");
    let first = backup(&mesh, &source);
    let mut large = bytes("large", 9_000_000);
    large[4_500_000..4_500_010].fill(0);
    write(source.join("large"), large);
    set_time(&source.join("touched"), UNIX_EPOCH);
    fs::remove_file(source.join("docs/deep/er/note.txt")).unwrap();
    fs::remove_file(source.join("was a file")).unwrap();
    write(source.join("was a file/now a folder"), "123");
    fs::remove_file(source.join("link")).unwrap();
    symlink("elsewhere", source.join("link")).unwrap();
    write(source.join("docs/new"), bytes("new", 1000));
    backup(&mesh, &source);

    let changes = |arguments: &[&str]| {
        let ran = look(&mesh, true, ["diff"].iter().chain(arguments)).ok();
        let changes = all(&ran, "change", "modifier").into_iter().zip(all(&ran, "change", "path"));
        (changes.map(|(sign, path)| format!("{sign} {path}")).collect::<Vec<_>>(), ran.summary())
    };
    let (found, summary) = changes(&[&first, "latest"]);
    let expected = [
        "- docs/deep/er/note.txt",
        "+ docs/new",
        "M large",
        "M link",
        "T was a file",
        "+ was a file/now a folder",
    ];
    assert_eq!(found, expected);
    let files = serde_json::json!({ "added": 2, "removed": 2, "changed": 1, "metadata": 1, "unchanged": 2 });
    assert_eq!(summary["files"], files);
    let (added, removed) = (&summary["bytes_added"], &summary["bytes_removed"]);
    // Of the large file what lies around the change, and neither more nor less.
    let around = added.as_u64().unwrap() - 1003;
    assert!((10..3 << 20).contains(&around), "{summary}");
    assert!((10..3 << 20).contains(&(removed.as_u64().unwrap() - 12)), "{summary}");
    let (found, _) = changes(&[&first, "latest", "--metadata"]);
    assert!(found.contains(&"U touched".into()) && found.contains(&"U docs".into()), "{found:?}");
    let (back, reverse) = changes(&["latest", &first]);
    assert_eq!(back.len(), expected.len());
    assert_eq!((&reverse["bytes_added"], &reverse["bytes_removed"]), (removed, added));
    let (none, _) = changes(&["latest", "latest", "--metadata"]);
    assert_eq!(none, Vec::<String>::new());
    let text = look(&mesh, false, ["diff", &first, "latest"]).ok().out;
    assert!(
        text.contains("M  large\n") && text.contains("2 added, 2 removed, 1 changed"),
        "{text}"
    );
    let repository = mesh.dir().join("repository");
    harness::repository(&repository, 2);
    let git = backup(&mesh, &repository);
    let _ = look(&mesh, true, ["diff", &first, &git]).ended(1);
}

#[test]
fn no_name_plays_with_the_terminal_and_programs_have_it_exactly() {
    let mesh = six();
    let source = mesh.dir().join("source");
    let evil = b"evil\x1b[2J\n\xff";
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join(OsStr::from_bytes(evil)), b"\x1b[31mred").unwrap();
    backup(&mesh, &source);
    let items = look(&mesh, true, ["ls", "latest"]).ok().messages("item");
    let exact = data_encoding::BASE64.encode(evil);
    assert_eq!(items[1]["path_base64"], exact.as_str());
    for arguments in
        [&["ls", "latest", "--long"][..], &["find", "evil*"], &["ls", "latest", "evil"]]
    {
        let ran = look(&mesh, false, arguments);
        let said = ran.out + &ran.err;
        assert!(!said.contains('\x1b') && said.contains("evil"), "{said:?}");
    }
    let text = look(&mesh, false, ["ls", "latest"]).ok().out;
    assert_eq!(text, ".\nevil\\u{1b}[2J\\n\\xff\n");
    // By the exact name its content comes, but not to a terminal.
    let mut arguments = vec![OsStr::new("cat"), OsStr::new("latest"), OsStr::from_bytes(evil)];
    assert_eq!(look(&mesh, false, &arguments).ok().out, "\x1b[31mred");
    arguments[1] = OsStr::new("none");
    let _ = look(&mesh, false, &arguments).ended(10);
}
