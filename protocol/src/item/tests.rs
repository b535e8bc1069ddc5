//! Stories of streams that read as written, and of streams that cannot be meant.

use super::*;
use proptest::prelude::*;

fn meta(path: &str) -> Meta {
    let path = Blob(path.as_bytes().to_vec());
    Meta { path, mode: 0o644, uid: 1, gid: 2, mtime: Timestamp { secs: -5, nanos: 7 } }
}

fn file(path: &str, size: u64, lens: &[u32], more: bool) -> Item {
    let chunks = lens.iter().map(|&len| ChunkRef { id: ChunkId([1; 32]), len }).collect();
    Item::File { meta: meta(path), stamp: Stamp::default(), size, chunks, more }
}

fn read(items: &[Item]) -> Result<Vec<Item>, ItemError> {
    let mut bytes = Vec::new();
    for item in items {
        encode_item(item, &mut bytes);
    }
    let (mut reader, mut found) = (ItemReader::default(), Vec::new());
    for piece in bytes.chunks(7) {
        reader.push(piece);
        while let Some(item) = reader.next_item()? {
            found.push(item);
        }
    }
    reader.finish()?;
    Ok(found)
}

fn directory(path: &str) -> Item {
    Item::Directory { meta: meta(path) }
}

fn link(path: &str, target: &[u8]) -> Item {
    Item::Symlink { meta: meta(path), target: Blob(target.to_vec()) }
}

const HEADER: Item = Item::Header { format: FORMAT, kind: SourceKind::Directory };
const END: Item = Item::End { items: 0, bytes: 0, failed: 0 };

#[test]
fn a_stream_reads_as_it_was_written() {
    let extent =
        Item::Extent { chunks: vec![ChunkRef { id: ChunkId([2; 32]), len: 5 }], more: false };
    let items = [
        HEADER,
        directory(""),
        directory("a"),
        file("a/b", 3, &[3], false),
        file("a/b.c", 15, &[10], true),
        extent,
        link("a.b", b"../x"),
        file("z", 0, &[], false),
        END,
    ];
    assert_eq!(read(&items).unwrap(), items);
}

#[test]
fn a_stream_that_cannot_be_meant_is_refused() {
    let wrong: Vec<Vec<Item>> = vec![
        vec![],
        vec![HEADER],
        vec![END],
        vec![HEADER, HEADER, END],
        vec![HEADER, END, END],
        vec![HEADER, file("a", 4, &[3], false), END],
        vec![HEADER, file("a", 4, &[3], true), END],
        vec![HEADER, file("b", 3, &[3], false), file("a", 3, &[3], false), END],
        vec![HEADER, file("a", 3, &[3], false), file("a", 3, &[3], false), END],
        vec![HEADER, file("../a", 3, &[3], false), END],
        vec![HEADER, file("/a", 3, &[3], false), END],
        vec![HEADER, file("a//b", 3, &[3], false), END],
        vec![HEADER, file("a\0", 3, &[3], false), END],
        vec![HEADER, file("", 3, &[3], false), END],
        vec![HEADER, link("", b"a"), END],
        vec![HEADER, directory(""), directory(""), END],
        vec![HEADER, directory("a"), directory(""), END],
        vec![HEADER, file("a", u64::from(u32::MAX), &[u32::MAX], false), END],
        vec![Item::Header { format: 9, kind: SourceKind::Git }, END],
        // Through a link out of the tree.
        vec![HEADER, link("a", b"/etc"), file("a/passwd", 3, &[3], false), END],
        vec![HEADER, file("a", 3, &[3], false), directory("a/b"), END],
        vec![HEADER, link("a", b""), END],
        vec![HEADER, link("a", &[b'x'; PATH_LEN_MAX + 1]), END],
    ];
    for items in wrong {
        assert!(read(&items).is_err(), "{items:?}");
        let (mut writer, mut out) = (ItemWriter::default(), Vec::new());
        let written = items.iter().try_for_each(|item| writer.write(item, &mut out));
        let ended = matches!(writer.grammar.state, State::Ended);
        assert!(written.is_err() || !ended, "{items:?}");
    }
}

#[test]
fn a_refused_item_leaves_no_trace() {
    let (mut writer, mut out) = (ItemWriter::default(), Vec::new());
    writer.write(&HEADER, &mut out).unwrap();
    let mut wrong = file("b", 3, &[3], false);
    if let Item::File { stamp, .. } = &mut wrong {
        stamp.ctime.nanos = 1_000_000_000;
    }
    assert!(writer.write(&wrong, &mut out).is_err());
    writer.write(&file("a", 3, &[3], false), &mut out).unwrap();
    writer.write(&END, &mut out).unwrap();
    let mut reader = ItemReader::default();
    reader.push(&out);
    while reader.next_item().unwrap().is_some() {}
    reader.finish().unwrap();
}

#[test]
fn the_largest_item_can_be_read_again() {
    let mut largest = file(&"p".repeat(PATH_LEN_MAX), u64::from(u32::MAX), &[], true);
    if let Item::File { meta, stamp, size, chunks, .. } = &mut largest {
        (meta.uid, meta.gid) = (u32::MAX, u32::MAX);
        meta.mtime = Timestamp { secs: i64::MIN, nanos: 999_999_999 };
        *stamp = Stamp { ctime: meta.mtime, inode: u64::MAX, device: u64::MAX };
        *chunks = vec![ChunkRef { id: ChunkId([1; 32]), len: CHUNK_MAX as u32 }; 4096];
        *size = u64::MAX;
    }
    let mut bytes = Vec::new();
    let mut writer = ItemWriter::default();
    writer.write(&HEADER, &mut bytes).unwrap();
    writer.write(&largest, &mut bytes).unwrap();
    let mut reader = ItemReader::default();
    reader.push(&bytes);
    assert_eq!(reader.next_item().unwrap(), Some(HEADER));
    assert_eq!(reader.next_item().unwrap(), Some(largest));
}

#[test]
fn what_is_in_a_directory_follows_it() {
    let mut paths = ["a.b", "a", "a/c", "a/b", "b", "a/b/c"];
    paths.sort_by(|a, b| path_cmp(a.as_bytes(), b.as_bytes()));
    assert_eq!(paths, ["a", "a/b", "a/b/c", "a/c", "a.b", "b"]);
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused(bytes: Vec<u8>) {
        let mut reader = ItemReader::default();
        reader.push(&bytes);
        while let Ok(Some(_)) = reader.next_item() {}
        let _ = Root::decode(&bytes);
        if let Ok(refs) = decode_refs(&bytes) {
            prop_assert_eq!(encode_refs(&refs), bytes);
        }
    }
}
