//! The source thread's side: items and content become chunks, known ones are skipped, and the item stream is
//! chunked like a file. What the stream says is kept locally, to compare the next backup with.

use super::body::{Body, Piece};
use super::known::Known;
use super::names::Names;
use super::previous::{self, Writing, Written};
use super::stages::{ChunkJob, Failure};
use crate::cli::progress::Counters;
use crate::client::buffers::Buffers;
use crate::client::vault::Vault;
use crate::client::{ClientError, Result};
use crate::source::{
    Content, Hole, Inode, Linked, Node, Previous, PreviousFile, Report, Sink, SinkError, Source,
};
use protocol::chunk::{CHUNK_MAX, Chunker, ENCODED_MAX, store};
use protocol::codec::Blob;
use protocol::id::ChunkId;
use protocol::item::{
    Attribute, ChunkRef, FORMAT, Item, ItemReader, ItemWriter, Meta, ROOT_REFS_MAX, Root,
    SourceKind, Stamp, encode_refs, path_cmp,
};
use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, Read, Take};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Bytes of a file read at once.
const READ: usize = 256 << 10;

/// What came of a source.
pub(super) struct Finished {
    pub(super) root: Root,
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) report: Report,
    seen: Written,
}

impl Finished {
    /// Makes what was seen the state to compare the next backup with.
    pub(super) fn keep(&self, previous: &Path) -> Result<()> {
        self.seen.keep(previous)
    }
}

pub(super) struct ChunkSink<'a> {
    chunker: Chunker,
    known: &'a Known,
    progress: &'a Counters,
    chunks: SyncSender<ChunkJob>,
    rooms: &'a Buffers,
    failure: &'a Failure,
    buffer: Vec<u8>,
    writer: ItemWriter,
    stream: Vec<u8>,
    stream_refs: Vec<ChunkRef>,
    seen: Writing,
    items: u64,
    bytes: u64,
    /// What was said of the item that comes next.
    attributes: Vec<Attribute>,
    shared: Option<Inode>,
    names: Names,
}

pub(super) fn stopped(error: impl std::fmt::Display) -> SinkError {
    SinkError::Stopped(error.to_string())
}

impl<'a> ChunkSink<'a> {
    pub(super) fn new(
        vault: &Vault,
        known: &'a Known,
        progress: &'a Counters,
        chunks: SyncSender<ChunkJob>,
        rooms: &'a Buffers,
        failure: &'a Failure,
        previous: &Path,
    ) -> Result<Self> {
        let seen = Writing::begin(previous)?;
        Ok(Self {
            chunker: Chunker::new(&vault.secret),
            known,
            progress,
            chunks,
            rooms,
            failure,
            buffer: Vec::with_capacity(2 * CHUNK_MAX),
            writer: ItemWriter::default(),
            stream: Vec::new(),
            stream_refs: Vec::new(),
            seen,
            items: 0,
            bytes: 0,
            attributes: Vec::new(),
            shared: None,
            names: Names::default(),
        })
    }

    /// Runs the source to its end.
    pub(super) fn run(
        mut self,
        source: &mut dyn Source,
        previous: Option<&Path>,
    ) -> Result<Finished> {
        let header = Item::Header { format: FORMAT, kind: source.kind() };
        self.emit(&header).map_err(ClientError::content)?;
        let mut last = LastSnapshot::open(previous);
        let report = source.run(&mut last, &mut self)?;
        let end = Item::End { items: self.items, bytes: self.bytes, failed: report.failed.len() };
        self.emit(&end).map_err(ClientError::content)?;
        self.cut_stream(true).map_err(ClientError::content)?;
        let root = self.root().map_err(ClientError::content)?;
        let seen = self.seen.finish(&report.state)?;
        Ok(Finished { root, items: self.items, bytes: self.bytes, report, seen })
    }

    /// A list of more chunks than a root may have is itself stored as chunks.
    fn root(&mut self) -> std::result::Result<Root, SinkError> {
        let mut depth = 0;
        let mut refs = std::mem::take(&mut self.stream_refs);
        while refs.len() > ROOT_REFS_MAX {
            depth += 1;
            let list = encode_refs(&refs);
            refs = list
                .chunks(CHUNK_MAX)
                .map(|piece| self.store(piece))
                .collect::<std::result::Result<_, _>>()?;
        }
        Ok(Root { depth, chunks: refs })
    }

    fn is_known(&self, chunk: ChunkId) -> std::result::Result<bool, SinkError> {
        self.known.has(chunk).map_err(stopped)
    }

    fn store(&mut self, plain: &[u8]) -> std::result::Result<ChunkRef, SinkError> {
        let id = self.chunker.id(plain);
        let chunk = ChunkRef { id, len: plain.len() as u32 };
        if self.is_known(id)? {
            return Ok(chunk);
        }
        if self.failure.is_set() {
            return Err(SinkError::Stopped("the backup failed".into()));
        }
        self.known.send(id);
        self.progress.new_bytes(plain.len() as u64);
        let mut stored = self.rooms.take(ENCODED_MAX);
        store(plain, &mut stored);
        self.chunks
            .send(ChunkJob { id, stored })
            .map_err(|_| SinkError::Stopped("the backup failed".into()))?;
        Ok(chunk)
    }

    fn emit(&mut self, item: &Item) -> std::result::Result<(), SinkError> {
        let from = self.stream.len();
        self.writer.write(item, &mut self.stream).map_err(stopped)?;
        self.seen.items(&self.stream[from..])?;
        if item.meta().is_some() {
            self.items += 1;
        }
        self.cut_stream(false)
    }

    fn cut_stream(&mut self, eof: bool) -> std::result::Result<(), SinkError> {
        let mut from = 0;
        let stream = std::mem::take(&mut self.stream);
        while let Some(len) = self.chunker.cut(&stream[from..], eof) {
            let chunk = self.store(&stream[from..from + len])?;
            self.stream_refs.push(chunk);
            from += len;
        }
        self.stream = stream;
        self.stream.drain(..from);
        Ok(())
    }

    fn emit_attributes(&mut self, attributes: &[Attribute]) -> std::result::Result<(), SinkError> {
        attributes.iter().try_for_each(|attribute| self.emit(&Item::Attribute(attribute.clone())))
    }

    /// Writes a file under one of its names: chunks and holes where they are.
    fn emit_file(
        &mut self,
        meta: Meta,
        stamp: Stamp,
        body: Body,
        shared: Option<Inode>,
    ) -> std::result::Result<(), SinkError> {
        let body = Arc::new(body);
        let mut is_first = true;
        if let Some(inode) = shared {
            let name = self.names.count(inode, &meta, stamp, &body);
            self.emit(&Item::Shared { group: name.group, left: name.left })?;
            is_first = name.is_first;
        }
        self.emit_body(meta, stamp, &body, is_first)
    }

    fn emit_body(
        &mut self,
        meta: Meta,
        stamp: Stamp,
        body: &Body,
        is_first: bool,
    ) -> std::result::Result<(), SinkError> {
        self.emit_attributes(&body.attributes)?;
        let size = body.size;
        let mut pieces = body.pieces().peekable();
        let chunks = match pieces.next_if(|piece| matches!(piece, Piece::Chunks(_))) {
            Some(Piece::Chunks(chunks)) => chunks.to_vec(),
            _ => Vec::new(),
        };
        self.emit(&Item::File { meta, stamp, size, chunks, more: pieces.peek().is_some() })?;
        while let Some(piece) = pieces.next() {
            let more = pieces.peek().is_some();
            self.emit(&match piece {
                Piece::Chunks(chunks) => Item::Extent { chunks: chunks.to_vec(), more },
                Piece::Hole(len) => Item::Hole { len, more },
            })?;
        }
        if is_first {
            self.bytes += size;
        }
        self.progress.file();
        Ok(())
    }

    fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        content: &mut dyn Content,
    ) -> std::result::Result<Body, SinkError> {
        let mut body = Body::default();
        loop {
            self.read_data(buffer, content, &mut body)?;
            let len = content.hole().map_err(SinkError::Read)?;
            if len == 0 {
                return Ok(body);
            }
            body.holes.push(Hole { at: body.size, len });
            body.size += len;
            self.progress.bytes(len);
        }
    }

    /// Reads to the next hole, or to the end.
    fn read_data(
        &mut self,
        buffer: &mut Vec<u8>,
        content: &mut dyn Content,
        body: &mut Body,
    ) -> std::result::Result<(), SinkError> {
        buffer.clear();
        let mut eof = false;
        while !eof {
            while buffer.len() < CHUNK_MAX && !eof {
                let from = buffer.len();
                buffer.resize(from + READ, 0);
                let read = match content.read(&mut buffer[from..]) {
                    Ok(read) => read,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {
                        buffer.truncate(from);
                        continue;
                    }
                    Err(e) => return Err(SinkError::Read(e)),
                };
                buffer.truncate(from + read);
                body.size += read as u64;
                self.progress.bytes(read as u64);
                eof = read == 0;
            }
            let mut from = 0;
            while let Some(len) = self.chunker.cut(&buffer[from..], eof) {
                body.chunks.push(self.store(&buffer[from..from + len])?);
                from += len;
            }
            buffer.drain(..from);
        }
        Ok(())
    }

    fn is_all_known(&self, chunks: &[ChunkRef]) -> std::result::Result<bool, SinkError> {
        for chunk in chunks {
            if !self.is_known(chunk.id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Sink for ChunkSink<'_> {
    fn attributes(&mut self, attributes: Vec<Attribute>) {
        self.attributes = attributes;
    }

    fn shared(&mut self, inode: Inode) {
        self.shared = Some(inode);
    }

    fn directory(&mut self, meta: Meta) -> std::result::Result<(), SinkError> {
        let attributes = std::mem::take(&mut self.attributes);
        self.emit_attributes(&attributes)?;
        self.emit(&Item::Directory { meta })
    }

    fn symlink(&mut self, meta: Meta, target: Vec<u8>) -> std::result::Result<(), SinkError> {
        let attributes = std::mem::take(&mut self.attributes);
        self.emit_attributes(&attributes)?;
        self.emit(&Item::Symlink { meta, target: Blob(target) })
    }

    fn node(&mut self, meta: Meta, node: Node) -> std::result::Result<(), SinkError> {
        let attributes = std::mem::take(&mut self.attributes);
        self.emit_attributes(&attributes)?;
        let Node { kind, major, minor } = node;
        self.emit(&Item::Node { meta, kind, major, minor })
    }

    fn sparse_file(
        &mut self,
        meta: Meta,
        stamp: Stamp,
        content: &mut dyn Content,
    ) -> std::result::Result<u64, SinkError> {
        let (attributes, shared) = (std::mem::take(&mut self.attributes), self.shared.take());
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.read(&mut buffer, content);
        self.buffer = buffer;
        let body = Body { attributes, ..read? };
        let size = body.size;
        self.emit_file(meta, stamp, body, shared)?;
        Ok(size)
    }

    fn unchanged(
        &mut self,
        meta: Meta,
        previous: PreviousFile,
        stamp: Stamp,
    ) -> std::result::Result<bool, SinkError> {
        self.attributes.clear();
        let shared = self.shared.take();
        if !self.is_all_known(&previous.chunks)? {
            return Ok(false);
        }
        let PreviousFile { size, chunks, holes, attributes, .. } = previous;
        self.emit_file(meta, stamp, Body { size, chunks, holes, attributes }, shared)?;
        self.progress.bytes(size);
        Ok(true)
    }

    fn knows(&mut self, previous: &PreviousFile) -> std::result::Result<bool, SinkError> {
        self.is_all_known(&previous.chunks)
    }

    fn link(
        &mut self,
        meta: &Meta,
        size: u64,
        inode: Inode,
    ) -> std::result::Result<Linked, SinkError> {
        let (first, body) = match self.names.first(inode, meta, size) {
            Ok(Some(first)) => first,
            Ok(None) => return Ok(Linked::Unknown),
            Err(super::names::Changed) => return Ok(Linked::Changed),
        };
        if !self.is_all_known(&body.chunks)? {
            return Ok(Linked::Unknown);
        }
        let name = self.names.count(inode, meta, first, &body);
        self.emit(&Item::Shared { group: name.group, left: name.left })?;
        self.emit_body(meta.clone(), first, &body, false)?;
        Ok(Linked::Taken)
    }
}

/// The last snapshot's item stream, read along with the source. Whatever is wrong with it, the files
/// are read again.
struct LastSnapshot {
    stream: Option<Take<BufReader<File>>>,
    reader: ItemReader,
    ahead: Option<PreviousFile>,
    state: Option<Vec<u8>>,
}

impl LastSnapshot {
    fn open(path: Option<&Path>) -> Self {
        let (stream, state) = path.and_then(previous::open).unzip();
        Self { stream, reader: ItemReader::default(), ahead: None, state }
    }

    fn next_item(&mut self) -> Option<Item> {
        loop {
            match self.reader.next_item() {
                Ok(Some(item)) => return Some(item),
                Ok(None) => {
                    let mut bytes = vec![0; 64 << 10];
                    let read = self.stream.as_mut()?.read(&mut bytes).ok()?;
                    if read == 0 {
                        return None;
                    }
                    self.reader.push(&bytes[..read]);
                }
                Err(_) => {
                    self.stream = None;
                    return None;
                }
            }
        }
    }

    fn next_file(&mut self) -> Option<PreviousFile> {
        let mut attributes = Vec::new();
        loop {
            match self.next_item()? {
                // Of directories the first format knew neither attributes nor holes nor links.
                Item::Header { format: 1, kind: SourceKind::Directory } => {
                    (self.stream, self.reader) = (None, ItemReader::default());
                }
                Item::Attribute(attribute) => attributes.push(attribute),
                Item::File { meta, stamp, size, chunks, more } => {
                    let (holes, at) = (Vec::new(), chunks.iter().map(|c| u64::from(c.len)).sum());
                    let file = PreviousFile { meta, stamp, size, chunks, holes, attributes };
                    return self.rest_of(file, at, more);
                }
                item if item.meta().is_some() => attributes.clear(),
                _ => {}
            }
        }
    }

    fn rest_of(
        &mut self,
        mut file: PreviousFile,
        mut at: u64,
        mut more: bool,
    ) -> Option<PreviousFile> {
        while more {
            match self.next_item()? {
                Item::Extent { chunks, more: again } => {
                    at += chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>();
                    file.chunks.extend(chunks);
                    more = again;
                }
                Item::Hole { len, more: again } => {
                    file.holes.push(Hole { at, len });
                    at += len;
                    more = again;
                }
                _ => return None,
            }
        }
        Some(file)
    }
}

impl Previous for LastSnapshot {
    fn file(&mut self, path: &[u8]) -> Option<PreviousFile> {
        loop {
            if self.ahead.is_none() {
                self.ahead = self.next_file();
            }
            match path_cmp(&self.ahead.as_ref()?.meta.path.0, path) {
                Ordering::Less => self.ahead = None,
                Ordering::Equal => return self.ahead.take(),
                Ordering::Greater => return None,
            }
        }
    }

    fn state(&self) -> Option<&[u8]> {
        self.state.as_deref()
    }
}
