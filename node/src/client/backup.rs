//! Backing up: all stages at once, bounded queues between them.
//!
//! ```text
//! source thread: read, cut, name, known?  ─►  compress (workers)  ─►  pack (one thread)  ─►  seal, code, hash (workers)  ─►  put (tasks)
//!                                    ▲                                                                                      │
//!                                    └──────────── journal of the index, then index packs and log entries (one task) ◄──────┘
//! ```
//! Memory is bounded by the queues: chunks waiting, one pack filling, a few packs sealed and on their
//! way. A stripe counts when every holder's receipt is here and the predicate holds for those holders: from
//! then on its chunks are known, whatever becomes of this process. Chunks of earlier backups are known only while their
//! stripes satisfy the policy of today (`standing`). The snapshot is announced after its last stripe, when everything that
//! was sent has arrived, and listed only when its log entry is held widely enough.

mod again;
mod body;
mod known;
mod left_out;
mod line;
mod list;
mod names;
mod place;
mod previous;
mod sink;
mod stages;
mod standing;

use super::buffers::Buffers;
use super::extend::{Extended, extend};
use super::index::Index;
use super::ledger::{Ledger, Logged};
use super::mesh::{Caller, Mesh};
use super::packs::Packs;
use super::partners::avoided;
use super::vault::Vault;
use super::{ClientError, Result, recipients};
use crate::capped::Faults;
use crate::cli::progress::Counters;
use crate::home::{Home, random};
use crate::service::wall;
use crate::source::{Estimate, Rules, Source, Stream, StreamSource, detect};
pub(super) use again::Needed;
pub use left_out::LeftOut;
use left_out::Partners;
use place::Placer;
use protocol::codec::Blob;
use protocol::id::{EntryId, NodeId, SessionId};
use protocol::item::SourceKind;
use protocol::log::{Body, SnapshotPart};
use protocol::message::{RefusalCode, Request, Response};
use protocol::seal::SessionKey;
use serde::{Deserialize, Serialize};
use standing::Standings;
pub(super) use standing::sites;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long to wait before a backup that lost holders goes on with others; at last it fails.
const RETRIES: [Option<Duration>; 4] = [
    Some(Duration::from_secs(1)),
    Some(Duration::from_secs(5)),
    Some(Duration::from_secs(15)),
    None,
];

/// What a backup is asked to do.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// Words to find the snapshot by.
    pub tags: Vec<String>,
    /// Read every file again, whatever the last snapshot says.
    pub force: bool,
    /// Go on when the policy cannot be met.
    pub allow_degraded: bool,
    /// Take a Git repository as plain files.
    pub as_directory: bool,
    /// What of folders is left out.
    pub rules: Arc<Rules>,
    /// Take this instead of what lies at the path.
    pub stream: Option<Arc<Stream>>,
}

impl BackupOptions {
    fn open(&self, path: &Path) -> Result<Box<dyn Source>> {
        if let Some(stream) = &self.stream {
            return Ok(Box::new(StreamSource::new(Arc::clone(stream))));
        }
        let mut source = detect(path, self.as_directory)?;
        source.leave_out(&self.rules);
        Ok(source)
    }

    /// Whether the source can be read once more.
    fn is_repeatable(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.is_repeatable())
    }
}

/// What a snapshot says of itself to the vault's devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// The source's path.
    pub source: String,
    /// What kind it is.
    pub kind: SourceKind,
    /// The host.
    pub host: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Items in it.
    pub items: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// What could not be read.
    pub failed: u64,
    /// Whether it was written although the policy could not be met.
    pub degraded: bool,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct BackupSummary {
    /// The snapshot.
    pub snapshot: EntryId,
    /// Its source.
    pub source: String,
    /// Items in it.
    pub items: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of chunks that were new.
    pub new_bytes: u64,
    /// Bytes that holders took.
    pub stored_bytes: u64,
    /// Stripes written.
    pub stripes: u64,
    /// The code used.
    pub k: usize,
    /// The code used.
    pub n: usize,
    /// Nodes that have the log entry.
    pub log_holders: usize,
    /// Whether the policy could not be met.
    pub degraded: bool,
    /// What could not be read, and why.
    pub failed: Faults,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// An open vault, ready to be written.
#[derive(Debug)]
pub struct Writer {
    vault: Arc<Vault>,
    mesh: Arc<Mesh>,
    ledger: Arc<Mutex<Ledger>>,
    index: Arc<Index>,
    standings: Arc<Standings>,
    buffers: Arc<Buffers>,
    allow_degraded: bool,
    /// Once something was backed up: all sources of a run share it.
    session: Option<Session>,
    extended: Extended,
    given_up: Option<String>,
}

/// Under what chunks are sealed, whatever happens on the way.
#[derive(Debug, Clone)]
struct Session {
    id: SessionId,
    key: SessionKey,
}

impl Writer {
    /// Connects, introduces the vault to all nodes, and learns what is there already.
    pub async fn open(home: &Home, vault: Vault, allow_degraded: bool) -> Result<Self> {
        let mut vault = vault;
        let mesh = Mesh::connect(home, Caller::device(&vault)).await?;
        super::device::introduce(&mut vault, &mesh).await?;
        if vault.is_revoked() {
            return Err(ClientError::Revoked);
        }
        let (vault, mesh) = (Arc::new(vault), Arc::new(mesh));
        let ledger = Ledger::read(&mesh, &vault).await?;
        let index = Arc::new(Index::open(&vault.caches())?);
        Packs::new(Arc::clone(&mesh), &vault).sync_index(&ledger, &index).await?;
        let extended = extend(&vault, &mesh, &ledger, &index).await?;
        let given_up = super::given_up::note(&vault, &ledger);
        let ledger = Arc::new(Mutex::new(ledger));
        let writer = Self::over(vault, mesh, ledger, index).await?;
        Ok(Self { allow_degraded, extended, given_up, ..writer })
    }

    /// Over what is open already. Extends nothing.
    pub(super) async fn over(
        vault: Arc<Vault>,
        mesh: Arc<Mesh>,
        ledger: Arc<Mutex<Ledger>>,
        index: Arc<Index>,
    ) -> Result<Self> {
        let given_up = ledger.lock().await.given_up().stripes();
        let standings = Arc::new(Standings::new(&vault, &mesh, &index, given_up)?);
        Ok(Self {
            vault,
            mesh,
            ledger,
            index,
            standings,
            buffers: Arc::default(),
            allow_degraded: false,
            session: None,
            extended: Extended::default(),
            given_up: None,
        })
    }

    /// What extending the locks of all that the vault needs came to, when this was opened.
    #[must_use]
    pub fn extended(&self) -> &Extended {
        &self.extended
    }

    /// Gives nodes of others receipts for what they did.
    pub async fn close(&self) {
        self.mesh.acknowledge(&self.vault).await;
    }

    /// What another device gave up of the vault, in words.
    #[must_use]
    pub fn given_up(&self) -> Option<&str> {
        self.given_up.as_deref()
    }

    async fn log(&self, body: Body) -> Result<Logged> {
        let mut ledger = self.ledger.lock().await;
        ledger.append(&self.mesh, &self.vault, body, self.allow_degraded).await
    }

    /// The session of this run. Its key is in the log before anything is sealed with it.
    async fn session(&mut self) -> Result<Session> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let (id, key) = (SessionId(random()?), SessionKey(random()?));
        let sealed_key = Blob(recipients::seal(&self.vault.recipients, &key.0)?);
        let _ = self.log(Body::Session { session: id, sealed_key }).await?;
        Ok(self.session.insert(Session { id, key }).clone())
    }

    /// Whoever gives up stripes says so first and then looks for new snapshots; here the snapshot is there first, and then
    /// it is looked for what was given up: one of the two sees the other.
    async fn check_not_given_up(&self) -> Result<()> {
        let mut ledger = self.ledger.lock().await;
        ledger.refresh(&self.mesh, &self.vault).await;
        match self.standings.give_up(ledger.given_up().stripes()) {
            0 => Ok(()),
            lost => Err(ClientError::GivenUp(lost)),
        }
    }

    /// What can be planned with the nodes that answer now. Those in `full` have said that they take nothing more, whatever
    /// their status says. Who does not promise what the policy asks for is left out before anybody has a shard.
    async fn placer(&self, full: &BTreeSet<NodeId>) -> Result<Arc<Placer>> {
        let (listed, mut rooms) = (self.vault.listed()?, Vec::new());
        let avoided = avoided(&self.mesh, self.vault.operator).await;
        let (names, agreed) = (&self.mesh.partners, &self.mesh.agreed);
        let partners = Partners::new(names, agreed, avoided, &self.vault.policy.lock, wall());
        for (node, answer) in self.mesh.ask_all(&Request::Status).await {
            if let Ok(Response::Status(status)) = answer
                && listed.contains(&node.id)
                && node.is_relied_on()
                && !partners.leaves_out(node.site.operator)
                // Who leaves takes nothing.
                && status.leaving.is_none()
            {
                let room = if full.contains(&node.id) { 0 } else { status.room };
                rooms.push((node.site.clone(), room));
            }
        }
        let placer = Placer::new(
            Arc::clone(&self.vault),
            Arc::clone(&self.mesh),
            (rooms, partners),
            Arc::clone(&self.buffers),
            self.allow_degraded,
        )?;
        Ok(Arc::new(placer))
    }

    /// Backs up one source as one snapshot. Where holders are lost on the way and nobody can take their place
    /// in what was planned, it goes on with what can be planned without them: what is stored stays.
    pub async fn backup(
        &mut self,
        path: &Path,
        options: &BackupOptions,
        progress: &Arc<Counters>,
    ) -> Result<BackupSummary> {
        let before = progress.status(Duration::ZERO);
        let mut full = BTreeSet::new();
        let mut placer = self.placer(&full).await?;
        let session = self.session().await?;
        let mut notes = Vec::new();
        let mut written = 0;
        for wait in RETRIES {
            let mut stripes = 0;
            let attempt = self.attempt(path, options, progress, &session, &placer, &mut stripes);
            let error = match attempt.await {
                Ok(mut summary) => {
                    let counted = progress.status(Duration::ZERO);
                    summary.new_bytes = counted.new_bytes - before.new_bytes;
                    summary.stored_bytes = counted.sent_bytes - before.sent_bytes;
                    summary.stripes = written + stripes;
                    summary.notes.splice(0..0, notes);
                    return Ok(summary);
                }
                Err(error) if is_passing(&error) && options.is_repeatable() => error,
                Err(error) => return Err(error),
            };
            let Some(wait) = wait else { return Err(error) };
            let is_final = is_final(&error);
            if !is_final {
                tokio::time::sleep(wait).await;
            }
            written += stripes;
            full.extend(placer.full());
            let again = match self.placer(&full).await {
                Ok(again) if is_final && again.plan() == placer.plan() => return Err(error),
                // Why it was refused tells more than that nobody else is left; of room that says who has how much.
                Err(_) if is_final && !is_of_room(&error) => return Err(error),
                again => again?,
            };
            placer = again;
            notes.push(note(&error));
            progress.begin_again();
        }
        Err(ClientError::NoNode(": all attempts failed".into()))
    }

    async fn attempt(
        &self,
        path: &Path,
        options: &BackupOptions,
        progress: &Arc<Counters>,
        session: &Session,
        placer: &Arc<Placer>,
        stripes: &mut u64,
    ) -> Result<BackupSummary> {
        let mut source = options.open(path)?;
        let (name, kind) = (source.name(), source.kind());
        let estimate = Estimate::start(path, kind, &options.rules);
        let watching = tokio::spawn(watch(estimate, Arc::clone(progress)));
        let previous = format!("previous/{}", blake3::hash(name.as_bytes()).to_hex());
        let previous = self.vault.cache(&previous);
        let line = self.line(session, placer, progress, (previous.clone(), options.force));
        let known = Arc::clone(&line.run.known);
        let done =
            line.finish(stripes, move |run, runtime, to| run.run(&mut *source, runtime, to)).await;
        watching.abort();
        let finished = done?;

        let degraded = placer.is_degraded() || known.has_less();
        let info = SnapshotInfo {
            source: name.clone(),
            kind,
            host: host(),
            tags: options.tags.clone(),
            items: finished.items,
            bytes: finished.bytes,
            failed: finished.report.failed.len(),
            degraded,
        };
        let nonce = || -> Result<[u8; 24]> {
            let random = random()?;
            Ok(std::array::from_fn(|i| random[i]))
        };
        let writer = (self.vault.device_id(), session.id);
        let key = self.vault.secret.catalog_key();
        let info = protocol::codec::encode(&info);
        let summary = SnapshotPart::Summary.seal(&key, nonce()?, writer, &info);
        let (key, root) = (session.key.root_key(), finished.root.encode());
        let root = SnapshotPart::Root.seal(&key, nonce()?, writer, &root);
        let body = Body::Snapshot { session: session.id, summary, root };
        let logged = self.log(body).await?;
        self.check_not_given_up().await?;
        // Only now is what was seen of the source worth comparing with.
        finished.keep(&previous)?;
        let plan = placer.plan();
        let mut report = finished.report;
        Ok(BackupSummary {
            snapshot: logged.id,
            source: name,
            items: finished.items,
            bytes: finished.bytes,
            new_bytes: 0,
            stored_bytes: 0,
            stripes: 0,
            k: plan.k,
            n: plan.n,
            log_holders: logged.holders.len(),
            degraded,
            failed: std::mem::take(&mut report.failed),
            notes: report.into_notes().into_iter().chain(self.standings.note()).collect(),
        })
    }
}

/// Whether other holders, or the same ones later, may do better.
fn is_passing(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::GivenUp(_)
            | ClientError::Node { .. }
            | ClientError::Net(_)
            | ClientError::Refused { .. }
            | ClientError::Unplaceable { .. }
            | ClientError::Violation(_)
    )
}

/// Whether a holder had no room: waiting does not change that.
fn is_of_room(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Refused { refusal, .. }
            if matches!(refusal.code, RefusalCode::Quota | RefusalCode::Full)
    )
}

/// Whether the holder would say the same again: it has no room, or may not do it.
fn is_final(error: &ClientError) -> bool {
    is_of_room(error)
        || matches!(
            error,
            ClientError::Refused { refusal, .. } if refusal.code == RefusalCode::NotAllowed
        )
}

/// What became of an attempt, when another one follows.
fn note(error: &ClientError) -> String {
    match error {
        ClientError::GivenUp(_) => format!("{error}: it was sent again"),
        error if is_of_room(error) => format!("a holder is full ({error}); went on without it"),
        error if is_final(error) => format!("a holder refused ({error}); went on without it"),
        _ => format!("a holder was lost on the way ({error}); went on without it"),
    }
}

/// Tells the progress what the source will come to.
async fn watch(estimate: Arc<Estimate>, progress: Arc<Counters>) {
    let (mut files, mut bytes) = (0, 0);
    loop {
        let (now_files, now_bytes) = (estimate.files(), estimate.bytes());
        progress.expect(now_files - files, now_bytes - bytes);
        (files, bytes) = (now_files, now_bytes);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::message::Refusal;

    #[test]
    fn what_a_holder_refuses_for_good_is_not_asked_again_and_said_as_it_is() {
        let refused = |code| ClientError::Refused {
            node: "86810243".into(),
            refusal: Refusal { code, text: "so it is".into() },
        };
        assert!(is_final(&refused(RefusalCode::NotAllowed)));
        assert!(note(&refused(RefusalCode::NotAllowed)).starts_with("a holder refused"));
        for code in [RefusalCode::Quota, RefusalCode::Full] {
            assert!(is_final(&refused(code)));
            assert!(note(&refused(code)).starts_with("a holder is full"));
        }
        let lost = ClientError::node(NodeId([1; 32]), "it went away");
        assert!(!is_final(&lost));
        assert!(note(&lost).starts_with("a holder was lost on the way"));
    }
}
