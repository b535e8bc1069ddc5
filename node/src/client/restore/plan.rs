//! What a restore would do: the same walk over the items, and a target that is only looked at.

use super::{Reader, RestoreSummary, is_wanted};
use crate::client::Result;
use crate::client::ledger::Logged;
use crate::client::packs::Packs;
use crate::restore::names::Names;
use crate::restore::tree::{Content, Planned, TreeOptions, TreeReader};
use protocol::item::{ChunkRef, Item, Meta};
use serde::Serialize;
use std::path::Path;

/// What would be done with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is not there, and is made.
    Restore,
    /// It is there otherwise, and is replaced.
    Update,
    /// It is there as it should be.
    Unchanged,
    /// Something is there that is kept.
    Keep,
}

/// One item.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// What would be done.
    pub action: Action,
    /// Its path in the snapshot.
    pub path: &'a [u8],
    /// Bytes, of a file.
    pub size: u64,
}

/// A file whose chunks are being listed.
struct Open {
    meta: Meta,
    size: u64,
    is_new: bool,
    content: Option<Content>,
    missing: u64,
    differs: bool,
}

struct Plan<'a> {
    summary: RestoreSummary,
    open: Option<Open>,
    packs: &'a Packs,
    tell: &'a mut (dyn FnMut(Step<'_>) + Send),
    room: Vec<u8>,
}

impl Reader {
    pub(super) async fn plan_tree(
        &self,
        snapshot: &Logged,
        target: &Path,
        options: &TreeOptions,
        paths: &[Vec<u8>],
        tell: &mut (dyn FnMut(Step<'_>) + Send),
    ) -> Result<RestoreSummary> {
        let mut tree = TreeReader::open(target, options)?;
        let mut items = self.items(snapshot).await?;
        let mut names = Names::default();
        let summary = RestoreSummary { dry_run: true, ..RestoreSummary::default() };
        let packs = &self.packs;
        let mut plan = Plan { summary, open: None, packs, tell, room: Vec::new() };
        while let Some(item) = items.next().await? {
            if let Some(meta) = item.meta() {
                plan.close();
                if !is_wanted(meta, paths) {
                    names.skip();
                    continue;
                }
                plan.summary.items += 1;
            }
            match item {
                Item::Directory { meta } => {
                    let is_there = tree.is_directory(&meta);
                    let action = if is_there { Action::Unchanged } else { Action::Restore };
                    plan.tell(action, &meta, 0);
                }
                Item::Symlink { meta, target } => {
                    let planned = tree.plan(&meta, None)?;
                    let is_same = tree.link_target(&meta)?.as_ref() == Some(&target.0);
                    plan.entry(&planned, is_same, &meta);
                }
                Item::Node { meta, .. } => plan.entry(&tree.plan(&meta, None)?, false, &meta),
                Item::Shared { group, left } => names.shared(group, left),
                Item::File { meta, size, chunks, .. } => {
                    if names.link_to(&meta.path.0).is_some() {
                        plan.entry(&tree.plan(&meta, None)?, false, &meta);
                        continue;
                    }
                    let planned = tree.plan(&meta, Some(size))?;
                    if let Planned::Keep = planned {
                        names.forget_last();
                    }
                    plan.begin(planned, meta, size);
                    plan.list(&chunks);
                }
                Item::Extent { chunks, .. } => plan.list(&chunks),
                Item::Hole { len, .. } => plan.hole(len),
                Item::Header { .. } | Item::End { .. } | Item::Attribute(_) => {}
            }
        }
        plan.close();
        Ok(plan.summary)
    }
}

impl Plan<'_> {
    fn tell(&mut self, action: Action, meta: &Meta, size: u64) {
        self.summary.kept += u64::from(action == Action::Keep);
        (self.tell)(Step { action, path: &meta.path.0, size });
    }

    fn entry(&mut self, planned: &Planned, is_same: bool, meta: &Meta) {
        let action = match planned {
            Planned::New(_) => Action::Restore,
            Planned::Keep => Action::Keep,
            Planned::Same => Action::Unchanged,
            Planned::Replace(_) if is_same => Action::Unchanged,
            Planned::Replace(_) => Action::Update,
        };
        self.tell(action, meta, 0);
    }

    fn file(&mut self, action: Action, meta: &Meta, size: u64) {
        self.summary.unchanged += u64::from(action == Action::Unchanged);
        self.tell(action, meta, size);
    }

    fn begin(&mut self, planned: Planned, meta: Meta, size: u64) {
        self.summary.bytes += size;
        let (is_new, content) = match planned {
            Planned::Same => return self.file(Action::Unchanged, &meta, size),
            Planned::Keep => return self.file(Action::Keep, &meta, size),
            Planned::New(content) => (true, content),
            Planned::Replace(content) => (false, content),
        };
        let differs = content.as_ref().is_none_or(|content| content.size() != size);
        self.open = Some(Open { meta, size, is_new, content, missing: 0, differs });
    }

    fn list(&mut self, chunks: &[ChunkRef]) {
        let Some(open) = &mut self.open else { return };
        let chunker = self.packs.chunker();
        tokio::task::block_in_place(|| {
            for chunk in chunks {
                self.room.resize(chunk.len as usize, 0);
                let is_right = |bytes: &[u8]| chunker.check(chunk.id, bytes).is_ok();
                let content = open.content.as_mut();
                if !content.is_some_and(|content| content.is_next(&mut self.room, is_right)) {
                    open.missing += u64::from(chunk.len);
                }
            }
        });
    }

    fn hole(&mut self, len: u64) {
        if let Some(open) = &mut self.open
            && let Some(content) = &mut open.content
        {
            let is_zero = tokio::task::block_in_place(|| content.is_zero(len));
            open.differs |= !is_zero.unwrap_or(false);
        }
    }

    /// The open file is listed.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.summary.fetched_bytes += open.missing;
        let action = if open.is_new {
            Action::Restore
        } else if open.missing > 0 || open.differs {
            Action::Update
        } else {
            Action::Unchanged
        };
        self.file(action, &open.meta, open.size);
    }
}
