//! What is there already and is written once more: chunks of packs of which little is needed, into new packs under a new session;
//! and blocks of the index that list little, as full ones. What to write again is [`protocol::repack`]'s to say, and what
//! becomes of the old stripes [`crate::client::prune`]'s.

use super::known::Known;
use super::stages::{ChunkJob, Failure, Run};
use super::{Result, Writer};
use crate::cli::progress::Counters;
use crate::client::ClientError;
use crate::client::index::PendingBlock;
use crate::client::packs::{Need, Packs};
use futures::StreamExt;
use protocol::chunk::{ENCODED_MAX, store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Packs read at once: 16 MiB each, beside what the stages hold.
const READ_AT_ONCE: usize = 2;

/// What is needed of each pack.
pub(in crate::client) type Needed = BTreeMap<u64, Vec<Need<()>>>;

fn stopped() -> ClientError {
    ClientError::Content("writing again failed".into())
}

/// Reads what is needed of the packs, and gives it to the stages.
async fn read(
    run: &Run,
    chunks: &SyncSender<ChunkJob>,
    packs: &Packs,
    needed: Needed,
) -> Result<()> {
    let index = run.known.index();
    let mut reads = futures::stream::iter(needed)
        .map(|(pack, needs)| async move {
            let mut jobs = Vec::with_capacity(needs.len());
            let take = |need: &Need<()>, plain: &[u8]| {
                let mut stored = run.rooms.take(ENCODED_MAX);
                store(plain, &mut stored);
                jobs.push(ChunkJob { id: need.chunk, stored });
                Ok(())
            };
            packs.read_chunks(index, pack, &needs, take).await.map(|()| jobs)
        })
        .buffer_unordered(READ_AT_ONCE);
    while let Some(jobs) = reads.next().await {
        for job in jobs? {
            if run.failure.is_set() {
                return Err(stopped());
            }
            let len = job.stored.len() as u64;
            run.known.send(job.id);
            run.progress.bytes(len);
            run.progress.new_bytes(len);
            chunks.send(job).map_err(|_| stopped())?;
        }
        run.progress.file();
    }
    Ok(())
}

impl Writer {
    /// Writes these chunks into new packs, which satisfy the policy and are listed when this returns. Says how many stripes
    /// that took. One that was interrupted goes on where it stopped: what arrived has a new place.
    pub(in crate::client) async fn repack(
        &mut self,
        packs: &Arc<Packs>,
        needed: Needed,
        progress: &Arc<Counters>,
    ) -> Result<u64> {
        let placer = self.placer(&BTreeSet::new()).await?;
        let session = self.session().await?;
        let line = self.line(&session, &placer, progress, (PathBuf::new(), true));
        let packs = Arc::clone(packs);
        let mut stripes = 0;
        line.finish(&mut stripes, move |run, runtime, placed| {
            let within = runtime.clone();
            run.feed(runtime, placed, |run, chunks| {
                within.block_on(read(run, &chunks, &packs, needed))
            })
        })
        .await?;
        Ok(stripes)
    }

    /// Lists packs again, in these blocks. What they replace is not given up by that.
    pub(in crate::client) async fn list_again(&mut self, blocks: &[PendingBlock]) -> Result<()> {
        let placer = self.placer(&BTreeSet::new()).await?;
        let session = self.session().await?;
        let known = Known::new(Arc::clone(&self.index), Arc::clone(&self.standings), false);
        let lister =
            self.lister(&session, &placer, &Arc::new(known), &Arc::new(Failure::default()));
        for block in blocks {
            lister.list_block(block).await?;
        }
        Ok(())
    }
}
