//! The stages of one run put together: what goes in at one end is sealed, placed and listed at the other.

use super::known::Known;
use super::list::Lister;
use super::place::{Placed, Placer};
use super::stages::{Failure, PACKS_INFLIGHT, Run, stage_failed};
use super::{Result, Session, Writer};
use crate::cli::progress::Counters;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The stages of one run, waiting for what goes through them.
pub(super) struct Line {
    pub(super) run: Run,
    lister: JoinHandle<u64>,
    placed: mpsc::Sender<Placed>,
}

impl Writer {
    pub(super) fn line(
        &self,
        session: &Session,
        placer: &Arc<Placer>,
        progress: &Arc<Counters>,
        (previous, force): (PathBuf, bool),
    ) -> Line {
        let failure = Arc::new(Failure::default());
        let (index, standings) = (Arc::clone(&self.index), Arc::clone(&self.standings));
        let known = Arc::new(Known::new(index, standings, placer.is_degraded()));
        let (placed, placements) = mpsc::channel(PACKS_INFLIGHT);
        let lister = self.lister(session, placer, &known, &failure);
        let lister = tokio::spawn(lister.run(placements));
        let run = Run {
            vault: Arc::clone(&self.vault),
            known,
            placer: Arc::clone(placer),
            progress: Arc::clone(progress),
            session: session.clone(),
            previous,
            buffers: Arc::clone(&self.buffers),
            rooms: Arc::default(),
            force,
            failure,
        };
        Line { run, lister, placed }
    }

    pub(super) fn lister(
        &self,
        session: &Session,
        placer: &Arc<Placer>,
        known: &Arc<Known>,
        failure: &Arc<Failure>,
    ) -> Lister {
        Lister {
            vault: Arc::clone(&self.vault),
            mesh: Arc::clone(&self.mesh),
            ledger: Arc::clone(&self.ledger),
            index: Arc::clone(&self.index),
            known: Arc::clone(known),
            placer: Arc::clone(placer),
            buffers: Arc::clone(&self.buffers),
            session: session.id,
            allow_degraded: self.allow_degraded,
            failure: Arc::clone(failure),
        }
    }
}

impl Line {
    /// Runs the stages until `feed` has no more for them, everything has arrived, and all of it is listed. Counts the
    /// stripes written, also those of a run that fails.
    pub(super) async fn finish<T: Send + 'static>(
        self,
        stripes: &mut u64,
        feed: impl FnOnce(Run, &Handle, &mpsc::Sender<Placed>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Self { run, lister, placed } = self;
        let (failure, known) = (Arc::clone(&run.failure), Arc::clone(&run.known));
        let runtime = Handle::current();
        let done = tokio::task::spawn_blocking(move || feed(run, &runtime, &placed)).await;
        *stripes = lister.await.map_err(stage_failed)?;
        let finished = done.map_err(stage_failed)?;
        if let Some(error) = failure.take() {
            return Err(error);
        }
        let finished = finished?;
        known.check_all_arrived()?;
        Ok(finished)
    }
}
