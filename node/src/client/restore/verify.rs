//! Whether what was restored is what the snapshot has: read from the disk, chunk by chunk, by the chunks' names.

use super::paths::Paths;
use super::{Reader, is_wanted, next_readable};
use crate::capped::Faults;
use crate::client::Result;
use crate::client::ledger::Logged;
use crate::restore::tree::{Content, Overwrite, TreeError, TreeOptions, TreeReader};
use protocol::item::{ChunkRef, Item, Meta};
use rustix::fs::FileType;
use std::path::Path;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Verified {
    /// Items compared.
    pub(super) items: u64,
    /// Those that are not as they should be, and why.
    pub(super) differs: Faults,
}

/// A file whose chunks are being listed.
struct Open {
    meta: Meta,
    content: Content,
    wrong: u64,
}

impl Reader {
    /// Compares what lies in `target` with the snapshot, but for what was kept there.
    pub(super) async fn verify(
        &self,
        snapshot: &Logged,
        target: &Path,
        paths: &[Vec<u8>],
        kept: &Paths,
    ) -> Result<Verified> {
        let any = TreeOptions {
            overwrite: Some(Overwrite::Always),
            marker: None,
            ..TreeOptions::default()
        };
        let mut tree = TreeReader::open(target, &any)?;
        let mut items = self.items(snapshot).await?;
        let mut found = Verified::default();
        let mut open: Option<Open> = None;
        let mut room = Vec::new();
        let mut lost = None;
        while let Some(item) = next_readable(&mut items, &mut lost).await? {
            if let Some(meta) = item.meta() {
                found.close(open.take());
                if !is_wanted(meta, paths) || kept.contains(&meta.path.0) {
                    continue;
                }
                found.items += 1;
            }
            match item {
                Item::Directory { meta } => {
                    if !tree.is_directory(&meta) {
                        found.differ(&meta, "it is no folder");
                    }
                }
                Item::Symlink { meta, target } => match tree.link_target(&meta) {
                    Ok(Some(found)) if found == target.0 => {}
                    Ok(_) => found.differ(&meta, "it is another link, or none"),
                    Err(error) => found.fail(&meta, &error),
                },
                // A device that may not be made is left out, and that was said.
                Item::Node { meta, .. } => match tree.kind(&meta) {
                    Ok(None) => {}
                    Ok(Some(kind))
                        if !kind.is_file() && !kind.is_dir() && kind != FileType::Symlink => {}
                    Ok(Some(_)) => found.differ(&meta, "it is no special file"),
                    Err(error) => found.fail(&meta, &error),
                },
                Item::File { meta, size, chunks, .. } => {
                    match tree.content(&meta) {
                        Ok(Some(content)) if content.size() == size => {
                            open = Some(Open { meta, content, wrong: 0 });
                        }
                        Ok(Some(content)) => {
                            let what = format!("it has {} bytes, not {size}", content.size());
                            found.differ(&meta, &what);
                        }
                        Ok(None) => found.differ(&meta, "it is no file that can be read"),
                        Err(error) => found.fail(&meta, &error),
                    }
                    self.compare(open.as_mut(), &chunks, &mut room);
                }
                Item::Extent { chunks, .. } => self.compare(open.as_mut(), &chunks, &mut room),
                Item::Hole { len, .. } => {
                    if let Some(open) = &mut open
                        && !tokio::task::block_in_place(|| open.content.is_zero(len))
                            .unwrap_or(false)
                    {
                        open.wrong += len;
                    }
                }
                Item::Header { .. }
                | Item::End { .. }
                | Item::Shared { .. }
                | Item::Attribute(_) => {}
            }
        }
        found.close(open);
        if let Some(why) = lost {
            let what = format!("it cannot be compared: {why}");
            found.differs.push(("all that comes after what was compared".into(), what));
        }
        Ok(found)
    }

    fn compare(&self, open: Option<&mut Open>, chunks: &[ChunkRef], room: &mut Vec<u8>) {
        let Some(open) = open else { return };
        let chunker = self.packs.chunker();
        tokio::task::block_in_place(|| {
            for chunk in chunks {
                room.resize(chunk.len as usize, 0);
                if !open.content.is_next(room, |bytes| chunker.check(chunk.id, bytes).is_ok()) {
                    open.wrong += u64::from(chunk.len);
                }
            }
        });
    }
}

impl Verified {
    fn close(&mut self, open: Option<Open>) {
        if let Some(open) = open.filter(|open| open.wrong > 0) {
            let what = format!("it differs within {} bytes", open.wrong);
            self.differ(&open.meta, &what);
        }
    }

    fn differ(&mut self, meta: &Meta, what: &str) {
        let path = String::from_utf8_lossy(&meta.path.0).into_owned();
        self.differs.push((path, what.to_owned()));
    }

    fn fail(&mut self, meta: &Meta, error: &TreeError) {
        self.differ(meta, &error.to_string());
    }
}
