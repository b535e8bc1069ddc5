//! Stories of streams that read as written, and of streams that cannot be meant.

use super::stream::State;
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

fn attribute(name: &str, value: &[u8]) -> Item {
    let (name, value) = (Blob(name.into()), Blob(value.to_vec()));
    Item::Attribute(Attribute { name, value })
}

fn shared(group: u64, left: u64) -> Item {
    Item::Shared { group, left }
}

fn hole(len: u64, more: bool) -> Item {
    Item::Hole { len, more }
}

fn extent(len: u32, more: bool) -> Item {
    Item::Extent { chunks: vec![ChunkRef { id: ChunkId([2; 32]), len }], more }
}

fn node(path: &str, kind: NodeKind, major: u32, minor: u32) -> Item {
    Item::Node { meta: meta(path), kind, major, minor }
}

const HEADER: Item = Item::Header { format: FORMAT, kind: SourceKind::Directory };
const STREAM: Item = Item::Header { format: FORMAT, kind: SourceKind::Stream };
const OLD: Item = Item::Header { format: 1, kind: SourceKind::Directory };
const END: Item = Item::End { items: 0, bytes: 0, failed: 0 };

#[test]
fn a_stream_reads_as_it_was_written() {
    let items = [
        HEADER,
        attribute("user.top", b"1"),
        directory(""),
        directory("a"),
        file("a/b", 3, &[3], false),
        file("a/b.c", 15, &[10], true),
        extent(5, false),
        link("a.b", b"../x"),
        node("d", NodeKind::BlockDevice, 8, 1),
        shared(0, 1),
        attribute("security.capability", &[0; 20]),
        attribute("user.a", b""),
        file("e", 30, &[], true),
        hole(10, true),
        extent(10, true),
        hole(10, false),
        shared(1, 1),
        file("f", 3, &[3], false),
        shared(0, 0),
        file("g", 30, &[10], true),
        hole(20, false),
        node("h", NodeKind::Fifo, 0, 0),
        file("z", 0, &[], false),
        END,
    ];
    assert_eq!(read(&items).unwrap(), items);
    let stream = [STREAM, file("db.sql", 13, &[3], true), extent(10, false), END];
    assert_eq!(read(&stream).unwrap(), stream);
    let old = [OLD, directory(""), file("a", 13, &[3], true), extent(10, false), END];
    assert_eq!(read(&old).unwrap(), old);
}

#[test]
fn readers_at_the_same_place_are_equal_whatever_came_before() {
    let at = |items: &[Item], piece: usize| {
        let mut bytes = Vec::new();
        for item in items {
            encode_item(item, &mut bytes);
        }
        let mut reader = ItemReader::default();
        for piece in bytes[..bytes.len() - 5].chunks(piece) {
            reader.push(piece);
            while reader.next_item().unwrap().is_some() {}
        }
        assert!(reader.settle() > 0);
        reader
    };
    let one = [HEADER, directory(""), file("a", 3, &[3], false), directory("b"), END];
    let two = [HEADER, directory(""), link("a", b"x"), directory("b"), END];
    assert_eq!(at(&one, 7), at(&two, 11));
    let inside = [HEADER, directory(""), file("b", 9, &[3], true), END];
    let elsewhere = [HEADER, directory(""), directory("c"), END];
    for other in [inside, elsewhere] {
        assert_ne!(at(&one, 7), at(&other[..], 7));
    }
}

#[test]
fn who_comes_back_to_an_entry_reads_it_as_before() {
    let entry =
        [shared(7, 1), attribute("user.a", b"1"), file("b", 9, &[3], true), extent(6, false)];
    let mut bytes = Vec::new();
    entry.iter().chain([&directory("c")]).for_each(|item| encode_item(item, &mut bytes));
    let mut reader = ItemReader::at_entry();
    reader.push(&bytes);
    for item in entry {
        assert_eq!(reader.next_item().unwrap(), Some(item));
    }
    let mut rest = Vec::new();
    encode_item(&directory("c"), &mut rest);
    assert_eq!(reader.waiting(), rest.len());
    assert_eq!(reader.next_item().unwrap(), Some(directory("c")));
    assert_eq!((reader.waiting(), reader.next_item()), (0, Ok(None)));
    let mut reader = ItemReader::at_entry();
    reader.push(&[1, 0, 0, 0, 99]);
    assert!(reader.next_item().is_err());
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
        // Hard links of what was not there, or of what is no file.
        vec![HEADER, shared(1, 1), file("a", 3, &[3], false), END],
        vec![HEADER, shared(0, 1), shared(0, 1), file("a", 3, &[3], false), END],
        vec![HEADER, shared(0, 1), directory("a"), END],
        vec![HEADER, shared(0, 1), link("a", b"b"), END],
        vec![HEADER, shared(0, 1), node("a", NodeKind::Fifo, 0, 0), END],
        vec![HEADER, shared(0, 1), END],
        // Attributes of nothing, twice, too long or too many.
        vec![HEADER, attribute("user.a", b""), END],
        vec![HEADER, attribute("user.a", b""), shared(0, 1), file("a", 3, &[3], false), END],
        vec![HEADER, attribute("user.a", b""), attribute("user.a", b""), directory("a"), END],
        vec![HEADER, attribute("user.b", b""), attribute("user.a", b""), directory("a"), END],
        vec![HEADER, attribute("", b""), directory("a"), END],
        vec![HEADER, attribute("user.\0", b""), directory("a"), END],
        vec![HEADER, attribute(&"u".repeat(ATTRIBUTE_NAME_MAX + 1), b""), directory("a"), END],
        vec![HEADER, attribute("user.a", &[0; ATTRIBUTE_VALUE_MAX + 1]), directory("a"), END],
        std::iter::once(HEADER)
            .chain(
                ('a'..='q').map(|c| attribute(&format!("user.{c}"), &vec![0; ATTRIBUTE_VALUE_MAX])),
            )
            .chain([directory("a"), END])
            .collect(),
        // Holes that do not fit, of nothing, or where none can be.
        vec![HEADER, file("a", 5, &[3], true), hole(3, false), END],
        vec![HEADER, file("a", 5, &[3], true), hole(2, true), END],
        vec![HEADER, file("a", 5, &[3], true), hole(0, true), hole(2, false), END],
        vec![HEADER, file("a", 5, &[3], true), hole(u64::MAX, false), END],
        vec![HEADER, file("a", 5, &[], true), extent(5, false), END],
        vec![HEADER, file("a", 0, &[], true), hole(1, false), END],
        vec![HEADER, file("a", 3, &[3], false), hole(1, false), END],
        vec![HEADER, hole(1, false), END],
        vec![HEADER, node("a", NodeKind::Fifo, 0, 1), END],
        vec![HEADER, node("", NodeKind::CharacterDevice, 0, 1), END],
        vec![HEADER, node("a", NodeKind::CharacterDevice, 0, 1), directory("a/b"), END],
        // A stream is one file without a folder.
        vec![STREAM, END],
        vec![STREAM, directory(""), file("a", 3, &[3], false), END],
        vec![STREAM, file("a/b", 3, &[3], false), END],
        vec![STREAM, file("a", 3, &[3], false), file("b", 3, &[3], false), END],
        vec![STREAM, shared(0, 1), file("a", 3, &[3], false), END],
        vec![STREAM, attribute("user.a", b""), file("a", 3, &[3], false), END],
        // What the old format does not have.
        vec![OLD, attribute("user.a", b""), file("a", 3, &[3], false), END],
        vec![OLD, shared(0, 1), file("a", 3, &[3], false), END],
        vec![OLD, node("a", NodeKind::Fifo, 0, 0), END],
        vec![OLD, file("a", 5, &[3], true), hole(2, false), END],
        vec![Item::Header { format: 1, kind: SourceKind::Stream }, file("a", 3, &[3], false), END],
        vec![Item::Header { format: 0, kind: SourceKind::Directory }, END],
        vec![HEADER, link("a", &[b'x'; PATH_LEN_MAX + 1]), END],
    ];
    for items in wrong {
        assert!(read(&items).is_err(), "{items:?}");
        let (mut writer, mut out) = (ItemWriter::default(), Vec::new());
        let written = items.iter().try_for_each(|item| writer.write(item, &mut out));
        let ended = writer.grammar.state == State::Ended;
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
fn the_most_attributes_that_an_item_has_can_be_read_again() {
    let value = ATTRIBUTES_LEN_MAX / 16 - 6;
    let all = (b'a'..=b'p').map(|c| attribute(&format!("user.{}", c as char), &vec![c; value]));
    let items: Vec<Item> =
        std::iter::once(HEADER).chain(all).chain([file("a", 3, &[3], false), END]).collect();
    assert_eq!(read(&items).unwrap(), items);
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
