//! Opening a store: whether its tables can be trusted, and what is done when they cannot.
//!
//! A database that is damaged, gone, or older than the mark or the journal say is brought up to what files and
//! journal tell, see `rebuild`; what is in doubt then stays so, see `doubt`. After a crash the group that
//! was on its way is completed: rows that the journal has and the tables have not are written, and
//! shards that have their place but no rows are adopted, see `arrivals`.

use super::doubt::Doubt;
use super::journal::Journal;
use super::state::{self, Row};
use super::steps::Steps;
use super::{StoreError, arrivals, mark, rebuild, trash};
use redb::Database;
use std::fs;
use std::path::Path;

pub(super) struct Opened {
    pub(super) state: Database,
    pub(super) journal: Journal,
    /// The highest commit that anything here has seen.
    pub(super) commits: u64,
    pub(super) doubt: Option<String>,
}

pub(super) fn open(dir: &Path, cache: usize, steps: &Steps) -> Result<Opened, StoreError> {
    let path = dir.join("state.redb");
    let mut doubt = Doubt::read(dir)?;
    let mut raise = |reason: String| {
        let raised = Doubt { rebuilding: true, reason };
        let written = raised.write(dir, steps);
        doubt = Some(raised);
        written
    };
    let journal = Journal::open(dir)?;
    let marked = mark::read(dir).unwrap_or(0);
    let existed = fs::metadata(&path).is_ok_and(|found| found.len() > 0);
    if !existed && (marked > 0 || journal.as_ref().is_some_and(Journal::tells) || holds(dir)?) {
        raise("the state database is gone".into())?;
    }
    let state = match state::open(&path, cache) {
        Ok(state) => state,
        Err(error) if existed => {
            raise(format!("the state database was damaged ({error})"))?;
            // Kept for whoever wants to look.
            set_aside(dir, "state.redb", "damaged", steps)?;
            state::open(&path, cache)?
        }
        Err(error) => return Err(error),
    };
    steps.sync_folder(dir)?;

    let seen = state::commits(&state)?;
    let known = state::journaled(&state)?;
    let late = journal.as_ref().map(|journal| journal.commits_after(known)).unwrap_or_default();
    let highest = seen.max(marked).max(late);
    // The journal is one commit ahead when a crash came between the two.
    if existed
        && (seen < marked || late > seen + 1)
        && !doubt.as_ref().is_some_and(|d| d.rebuilding)
    {
        let raised = Doubt {
            rebuilding: true,
            reason: format!(
                "the state database has seen {seen} commits, fewer than the {highest} on record: it was rolled back"
            ),
        };
        raised.write(dir, steps)?;
        doubt = Some(raised);
    }

    // Before rows are made again from what lies in its place.
    trash::settle(dir, &state, steps, doubt.is_some())?;
    let mut commits = highest;
    let journal = match &mut doubt {
        Some(doubt) if doubt.rebuilding => {
            tracing::warn!(reason = doubt.reason, "the rows are made again from files and journal");
            let journal = rebuild::rebuild(dir, &state, journal, steps, &mut commits, doubt)?;
            doubt.rebuilding = false;
            doubt.write(dir, steps)?;
            journal
        }
        _ => go_on(dir, &state, journal, steps, &mut commits)?,
    };
    arrivals::settle(dir, &state, steps, &mut commits, doubt.is_some())?;
    let doubt = doubt.map(|Doubt { reason, .. }| {
        format!(
            "{reason}; once that is looked after, stop the node, say `strewn node doubt --clear` and start \
             it again"
        )
    });
    Ok(Opened { state, journal, commits, doubt })
}

/// Completes the group that was on its way, and gives the journal that goes with the tables.
fn go_on(
    dir: &Path,
    state: &Database,
    journal: Option<Journal>,
    steps: &Steps,
    commits: &mut u64,
) -> Result<Journal, StoreError> {
    let known = state::journaled(state)?;
    let seen = state::commits(state)?;
    if let Some(mut journal) = journal {
        let late: Vec<_> = journal.frames_after(known).map_while(|frame| frame).collect();
        let missing = late.iter().filter(|frame| frame.commits > seen);
        let rows: Vec<Row<'_>> = missing.flat_map(super::journal::Frame::rows).collect();
        let fits = journal.fits(known);
        if fits {
            journal
                .cut(late.last().map_or(known.map_or(0, |known| known.len), |frame| frame.end))?;
        }
        if !rows.is_empty() || (fits && known != Some(journal.journaled())) {
            *commits += 1;
            let journaled = fits.then(|| journal.journaled());
            state::write(state, steps, rows.into_iter(), *commits, journaled)?;
        }
        if fits
            && !journal.is_overgrown(fs::metadata(dir.join("state.redb")).map_or(0, |f| f.len()))
        {
            return Ok(journal);
        }
    }
    begin_journal(dir, state, steps, commits)
}

/// A journal of what the tables have.
pub(super) fn begin_journal(
    dir: &Path,
    state: &Database,
    steps: &Steps,
    commits: &mut u64,
) -> Result<Journal, StoreError> {
    *commits += 1;
    let journal = Journal::create(dir, state, steps, *commits)?;
    state::write(state, steps, std::iter::empty(), *commits, Some(journal.journaled()))?;
    Ok(journal)
}

/// Whether there is a file of a shard, or what could be one.
fn holds(dir: &Path) -> Result<bool, StoreError> {
    let root = dir.join("shards");
    for folder in fs::read_dir(&root).map_err(StoreError::io(&root))? {
        let folder = folder.map_err(StoreError::io(&root))?.path();
        if fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gives a file a name under which nothing looks for it, one of its own each time, that says what it is.
pub(super) fn set_aside(
    dir: &Path,
    name: &str,
    what: &str,
    steps: &Steps,
) -> Result<(), StoreError> {
    let aside = (1u32..).map(|number| dir.join(format!("{name}.{what}.{number}")));
    let path = dir.join(name);
    for aside in aside {
        if !aside.exists() {
            fs::rename(&path, &aside).map_err(StoreError::io(&aside))?;
            return steps.sync_folder(dir);
        }
    }
    Err(StoreError::State(format!("{name} cannot be set aside")))
}
