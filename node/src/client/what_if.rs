//! `strewn what-if`: which snapshots survive a loss. Exact: from the records and receipts of all stripes, and from the item
//! streams of the snapshots where a stripe would be lost.
//!
//! The question is answered as the day after the loss would: an index is made of what the remaining index packs say of
//! the remaining stripes, and a snapshot survives when every chunk that it needs is found there, its keys and its
//! own log entry included. With an identity every snapshot is followed, also when no node lists a stripe that is lost: one
//! of which every record is gone is listed by nobody. The log and the index name it, and it counts as lost already.

use super::index::Index;
use super::inventory::{Inventory, devices};
use super::items::root_of;
use super::ledger::{Ledger, Logged};
use super::mesh::{Caller, Mesh};
use super::named::{Named, named};
use super::packs::Packs;
use super::recipients::Identities;
use super::tags::Catalog;
use super::vault::{Vault, states};
use super::walk::Walker;
use super::{ClientError, Result};
use crate::cli::progress::Counters;
use crate::home::Home;
use crate::service::wall;
use protocol::id::{EntryId, NodeId, SessionId, StripeId};
use protocol::index::IndexBlock;
use protocol::item::{ChunkRef, Root};
use protocol::label::{Domain, Label, Site};
use protocol::log::Body;
use protocol::placement::{Fate, Loss};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Fewest digits of a key that name a node or an operator.
const PREFIX_MIN: usize = 4;

/// What becomes of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It can be restored.
    Survives,
    /// It cannot be restored whole.
    Lost,
    /// Only the identity can tell.
    Unknown,
}

/// A stripe that would be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostStripe {
    /// Which.
    pub stripe: StripeId,
    /// Shards left.
    pub left: usize,
    /// Shards needed.
    pub needed: usize,
    /// The clause that names this loss and was not kept; `None` when the loss is more than any clause names.
    pub clause: Option<String>,
    /// Whether it cannot be read now, whatever is lost.
    pub already: bool,
}

/// A snapshot and what becomes of it.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotFate {
    /// Which.
    pub id: EntryId,
    /// Its source and host, as far as they can be opened.
    pub source: String,
    /// When it was first seen by a holder, in milliseconds since 1970.
    pub witnessed: u64,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Stripes lost that it needs; of its own session alone where only that is known.
    pub stripes_lost: u64,
    /// The one with the fewest shards left.
    pub worst: Option<LostStripe>,
    /// Why, in words.
    pub why: String,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// Whether all snapshots survive.
    pub good: bool,
    /// One line that says it all.
    pub verdict: String,
    /// What is lost, as it was understood.
    pub lost: Vec<String>,
    /// Nodes that answer now and would be lost.
    pub nodes_lost: usize,
    /// Nodes that would be left.
    pub nodes_left: usize,
    /// Nodes that are silent, and counted as lost as well.
    pub nodes_silent: usize,
    /// Stripes of the vault.
    pub stripes: u64,
    /// Those that can be read afterwards.
    pub stripes_left: u64,
    /// Of those, the ones that break a clause afterwards.
    pub stripes_below_policy: u64,
    /// Stripes that cannot be read now, whatever is lost.
    pub stripes_lost_already: u64,
    /// Nodes left that have the vault's papers: without them it is not found.
    pub papers_left: usize,
    /// Entries of the logs that no node left has.
    pub entries_lost: usize,
    /// The snapshots.
    pub snapshots: Vec<SnapshotFate>,
    /// What was not looked at, and what else there is to know.
    pub notes: Vec<String>,
}

/// The domains that these labels mean; keys may be shortened.
fn domains(lose: &[Label], sites: &[&Site]) -> Result<Vec<Domain>> {
    let mut domains = Vec::new();
    for label in lose {
        let known: BTreeSet<Domain> = sites.iter().map(|site| site.domain(&label.level)).collect();
        let meant: Vec<&Domain> = known
            .iter()
            .filter(|domain| match &domain.name {
                Some(name) if label.level.is_reserved() => {
                    label.name.len() >= PREFIX_MIN && name.starts_with(&label.name)
                }
                Some(name) => *name == label.name,
                None => label.name == "unknown",
            })
            .collect();
        let names: Vec<String> = known.iter().map(short).collect();
        match meant.as_slice() {
            [] => {
                return Err(ClientError::NoDomain {
                    label: label.to_string(),
                    known: names.join(", "),
                });
            }
            [one] => domains.push((*one).clone()),
            several => {
                let several: Vec<String> = several.iter().map(ToString::to_string).collect();
                return Err(ClientError::NoDomain {
                    label: format!("{label} alone"),
                    known: several.join(", "),
                });
            }
        }
    }
    Ok(domains)
}

fn short(domain: &Domain) -> String {
    match &domain.name {
        Some(name) if domain.level.is_reserved() => {
            format!("{}={}", domain.level, name.get(..8).unwrap_or(name))
        }
        _ => domain.to_string(),
    }
}

/// What becomes of the stripes.
#[derive(Default)]
struct Stripes {
    all: u64,
    below: u64,
    lost_already: u64,
    lost: BTreeMap<StripeId, LostStripe>,
    lost_of_session: BTreeMap<SessionId, Vec<StripeId>>,
    known: BTreeSet<StripeId>,
}

impl Stripes {
    fn lose(&mut self, session: SessionId, lost: LostStripe) {
        self.lost_already += u64::from(lost.already);
        self.lost_of_session.entry(session).or_default().push(lost.stripe);
        self.lost.insert(lost.stripe, lost);
    }
}

/// A question that is being answered.
struct Question {
    vault: Vault,
    mesh: Arc<Mesh>,
    loss: Loss,
    progress: Arc<Counters>,
}

/// Answers. Without identities only as far as the records tell.
pub async fn what_if(
    home: &Home,
    vault: Vault,
    identities: Option<&Identities>,
    lose: &[Label],
    progress: &Arc<Counters>,
) -> Result<Answer> {
    let mesh = Arc::new(Mesh::connect(home, Caller::device(&vault)).await?);
    let ledger = Ledger::read(&mesh, &vault).await?;
    let catalog = Catalog::read(&vault, &ledger);
    let listed =
        vault.papers.roster.verify().map_err(protocol::certificate::CertificateError::from)?;
    let listed = listed.sites(wall());
    let met = mesh.nodes.values().map(|node| &node.site);
    let sites: Vec<&Site> =
        met.chain(mesh.silent.values().map(|silent| &silent.site)).chain(&listed).collect();
    let lost = domains(lose, &sites)?;
    let loss: Loss = lost.iter().cloned().collect();
    let nodes_lost = mesh.nodes.values().filter(|node| loss.takes(&node.site)).count();
    let question = Question { vault, mesh, loss, progress: Arc::clone(progress) };
    let packs = Packs::new(Arc::clone(&question.mesh), &question.vault);
    let named = named(&question.vault, &packs, &ledger).await?;
    let stripes = question.stripes(named).await;
    let papers_left = question.papers_left().await;
    let entries_lost = ledger.all().filter(|logged| !question.is_kept(logged)).count();

    let mut notes = Vec::new();
    let mesh = &question.mesh;
    if !mesh.silent.is_empty() {
        notes.push(match mesh.silent.len() {
            1 => "1 silent node is counted as lost as well".into(),
            count => format!("{count} silent nodes are counted as lost as well"),
        });
    }
    let fates = if let Some(identities) = identities {
        question.walk_all(&ledger, identities, &stripes).await?
    } else if stripes.lost.is_empty() && entries_lost == 0 {
        ledger.snapshots().into_iter().map(whole).collect()
    } else {
        notes.push(
            "without the recovery identity it is not known which stripes a snapshot needs".into(),
        );
        ledger.snapshots().into_iter().map(|logged| question.guess(logged, &stripes)).collect()
    };
    let fates: Vec<SnapshotFate> = fates;
    let snapshots: Vec<SnapshotFate> = fates
        .into_iter()
        .map(|mut fate| {
            let logged = ledger.snapshots().into_iter().find(|logged| logged.id == fate.id);
            if let Some(info) = logged.and_then(|logged| catalog.info_of(&question.vault, logged)) {
                fate.source = format!("{}:{}", info.host, info.source);
            }
            fate
        })
        .collect();
    let is = |outcome: Outcome| snapshots.iter().filter(|fate| fate.outcome == outcome).count();
    let (survive, gone, unknown) = (is(Outcome::Survives), is(Outcome::Lost), is(Outcome::Unknown));
    let is_listed = !snapshots.is_empty() || stripes.lost_already == 0;
    let good = gone == 0 && unknown == 0 && papers_left > 0 && is_listed;
    let nodes_left = mesh.nodes.len() - nodes_lost;
    let verdict = verdict(survive, gone, unknown, papers_left, &stripes);
    Ok(Answer {
        good,
        verdict,
        lost: lost.iter().map(short).collect(),
        nodes_lost,
        nodes_left,
        nodes_silent: mesh.silent.len(),
        stripes: stripes.all,
        stripes_left: stripes.all - stripes.lost.len() as u64,
        stripes_below_policy: stripes.below,
        stripes_lost_already: stripes.lost_already,
        papers_left,
        entries_lost,
        snapshots,
        notes,
    })
}

fn verdict(
    survive: usize,
    gone: usize,
    unknown: usize,
    papers_left: usize,
    stripes: &Stripes,
) -> String {
    let all = survive + gone + unknown;
    if all == 0 && stripes.lost_already > 0 {
        let stripes = stripes.lost_already;
        return format!(
            "LOST: no node that answers lists a snapshot; {stripes} stripes cannot be read"
        );
    }
    if all == 0 {
        return "no snapshot is listed".into();
    }
    if papers_left == 0 {
        return "LOST: no node would be left that knows the vault".into();
    }
    if gone == 0 && unknown == 0 {
        let left = stripes.all - stripes.lost.len() as u64;
        let policy = match stripes.below {
            0 => "and the policy is still kept".into(),
            below if below == left => {
                "but no further loss would: what is left is below the policy until nodes take the place of those lost"
                    .to_owned()
            }
            below => format!("but {below} of {left} stripes would be below the policy"),
        };
        return format!("SURVIVES: all {all} snapshots can be restored, {policy}");
    }
    if unknown > 0 {
        return format!(
            "NOT CERTAIN: {} of {} stripes would be lost; with --identity it is known which of {all} snapshots need them",
            stripes.lost.len(),
            stripes.all
        );
    }
    format!("LOST: {gone} of {all} snapshots cannot be restored whole")
}

fn fate(logged: &Logged, outcome: Outcome, why: impl Into<String>) -> SnapshotFate {
    SnapshotFate {
        id: logged.id,
        source: String::new(),
        witnessed: logged.witnessed().0,
        outcome,
        stripes_lost: 0,
        worst: None,
        why: why.into(),
    }
}

fn whole(logged: &Logged) -> SnapshotFate {
    fate(logged, Outcome::Survives, "all that it needs is left")
}

/// Of stripes that are lost, the one with the fewest shards for those that it needs.
fn worst<'a>(lost: impl Iterator<Item = &'a LostStripe>) -> Option<&'a LostStripe> {
    lost.min_by_key(|stripe| (stripe.left as i64 - stripe.needed as i64, stripe.stripe))
}

fn why(lost: &LostStripe) -> String {
    if lost.already {
        let (left, needed) = (lost.left, lost.needed);
        return format!("it cannot be restored now: {left} of {needed} shards needed answer");
    }
    match &lost.clause {
        Some(clause) => format!("clause {clause} names this loss and was not kept"),
        None => "no clause of the policy names so large a loss".into(),
    }
}

impl Question {
    /// All that nodes list, and what of the stripes named nobody lists.
    async fn stripes(&self, named: BTreeMap<StripeId, Named>) -> Stripes {
        let mut stripes = Stripes::default();
        let devices = devices(&self.mesh, &self.vault).await;
        let mut inventory = Inventory::new(&self.mesh, self.vault.id, devices);
        // Stripes with the same holders have the same fate.
        let mut fates: BTreeMap<(u16, Vec<NodeId>), Fate> = BTreeMap::new();
        while let Some(held) = inventory.next().await {
            let sites = held.sites(&self.mesh);
            let k = held.record.stripe.k;
            let pattern = (k, sites.iter().map(|site| site.node).collect());
            let fate = fates
                .entry(pattern)
                .or_insert_with(|| self.loss.fate(&self.vault.policy, usize::from(k), &sites));
            stripes.all += 1;
            stripes.known.insert(held.stripe);
            match fate {
                Fate::Whole => {}
                Fate::BelowPolicy { .. } => stripes.below += 1,
                Fate::Destroyed { left, needed, broken } => {
                    let (left, needed) = (*left, *needed);
                    let already = sites.len() < usize::from(k);
                    let clause = broken.as_ref().map(ToString::to_string);
                    let lost = LostStripe { stripe: held.stripe, left, needed, clause, already };
                    stripes.lose(held.record.session, lost);
                }
            }
        }
        for (stripe, Named { session, needed }) in named {
            if !stripes.known.contains(&stripe) {
                stripes.all += 1;
                let lost = LostStripe { stripe, left: 0, needed, clause: None, already: true };
                stripes.lose(session, lost);
            }
        }
        stripes
    }

    /// Nodes left that can tell a new host of the vault.
    async fn papers_left(&self) -> usize {
        let mut left = 0;
        states(&self.mesh, self.vault.id, |node, state| {
            let knows = state.papers.verify(wall()).is_ok();
            left += usize::from(knows && !self.loss.takes(&node.site));
        })
        .await;
        left
    }

    /// Whether a node is left that has the entry.
    fn is_kept(&self, logged: &Logged) -> bool {
        let holders = logged.holders.keys().filter_map(|id| self.mesh.nodes.get(id));
        holders.into_iter().any(|node| !self.loss.takes(&node.site))
    }

    /// What can be said of a snapshot without knowing what it needs.
    fn guess(&self, logged: &Logged, stripes: &Stripes) -> SnapshotFate {
        if !self.is_kept(logged) {
            return fate(logged, Outcome::Lost, "no node left lists it");
        }
        if stripes.lost.is_empty() {
            return whole(logged);
        }
        let Body::Snapshot { session, .. } = &logged.entry.body else {
            return fate(logged, Outcome::Unknown, "it is no snapshot");
        };
        if stripes.lost.len() as u64 == stripes.all {
            let worst = worst(stripes.lost.values());
            return SnapshotFate {
                stripes_lost: stripes.all,
                worst: worst.cloned(),
                ..fate(logged, Outcome::Lost, worst.map_or_else(String::new, why))
            };
        }
        let own = stripes.lost_of_session.get(session).map_or(&[][..], Vec::as_slice);
        let worst = worst(own.iter().filter_map(|stripe| stripes.lost.get(stripe)));
        let why = match own.len() {
            0 => "none of the stripes lost was written with it; it may need older ones".into(),
            count => format!("{count} of the stripes lost were written with it"),
        };
        SnapshotFate {
            stripes_lost: own.len() as u64,
            worst: worst.cloned(),
            ..fate(logged, Outcome::Unknown, why)
        }
    }

    /// Follows every snapshot to its last chunk.
    async fn walk_all(
        &self,
        ledger: &Ledger,
        identities: &Identities,
        stripes: &Stripes,
    ) -> Result<Vec<SnapshotFate>> {
        let mut packs = Packs::new(Arc::clone(&self.mesh), &self.vault);
        packs.open_sessions(ledger, identities)?;
        let packs = Arc::new(packs);
        let scratch = self.vault.scratch("what-if-")?;
        let (now, then) = (scratch.path().join("now"), scratch.path().join("then"));
        let (now, then) = (Arc::new(Index::open(&now)?), Arc::new(Index::open(&then)?));
        for logged in ledger.all() {
            let Body::Index { stripes: named, .. } = &logged.entry.body else { continue };
            let (mut all, mut left) = (Vec::new(), Vec::new());
            for &stripe in named {
                // What cannot be read now is lost already, and listed so.
                let Ok(block) = packs.read_index(stripe).await else { continue };
                if self.is_kept(logged) && !stripes.lost.contains_key(&stripe) {
                    let packs = block.packs.iter().filter(|pack| {
                        stripes.known.contains(&pack.stripe)
                            && !stripes.lost.contains_key(&pack.stripe)
                    });
                    left.push(IndexBlock { packs: packs.cloned().collect() });
                }
                all.push(block);
            }
            now.merge(logged.entry.device, logged.entry.seq, &all)?;
            then.merge(logged.entry.device, logged.entry.seq, &left)?;
        }
        let keys: BTreeSet<SessionId> = ledger
            .all()
            .filter(|logged| self.is_kept(logged))
            .filter_map(|logged| match &logged.entry.body {
                Body::Session { session, .. } => Some(*session),
                _ => None,
            })
            .collect();
        let (packs_too, now_too) = (Arc::clone(&packs), Arc::clone(&now));
        let mut walker = Walker::new(packs_too, now_too, Arc::clone(&self.progress));
        let day_after = DayAfter { packs, now, then, keys, stripes };
        for info in
            ledger.snapshots().iter().filter_map(|s| super::restore::info_of(&self.vault, s))
        {
            self.progress.expect(info.items, info.bytes);
        }
        let mut fates = Vec::new();
        // Unchanged sources have the same root: one answer for all of them.
        let mut answers: BTreeMap<Vec<u8>, SnapshotFate> = BTreeMap::new();
        for logged in ledger.snapshots() {
            if !self.is_kept(logged) {
                fates.push(fate(logged, Outcome::Lost, "no node left lists it"));
                continue;
            }
            let root = match root_of(&day_after.packs, logged) {
                Ok(root) => root,
                Err(error) => {
                    fates.push(fate(logged, Outcome::Unknown, error.to_string()));
                    continue;
                }
            };
            let Body::Snapshot { session, .. } = &logged.entry.body else { continue };
            if !day_after.keys.contains(session) {
                fates.push(fate(logged, Outcome::Lost, "no node left has its key"));
                continue;
            }
            let name = root.encode();
            let found = match answers.get(&name) {
                Some(known) => known.clone(),
                None => day_after.follow(&mut walker, logged, root).await?,
            };
            answers.insert(name, found.clone());
            fates.push(SnapshotFate { id: logged.id, witnessed: logged.witnessed().0, ..found });
        }
        Ok(fates)
    }
}

/// The vault as it is, and as it would be.
struct DayAfter<'a> {
    packs: Arc<Packs>,
    now: Arc<Index>,
    then: Arc<Index>,
    /// Sessions whose keys are left.
    keys: BTreeSet<SessionId>,
    stripes: &'a Stripes,
}

impl DayAfter<'_> {
    /// Follows one snapshot.
    async fn follow(
        &self,
        walker: &mut Walker,
        logged: &Logged,
        root: Root,
    ) -> Result<SnapshotFate> {
        let mut lost: BTreeSet<StripeId> = BTreeSet::new();
        let mut unexplained = 0u64;
        let mut keyless = 0u64;
        let mut each = |chunk: &ChunkRef| -> Result<bool> {
            if let Some(location) = self.then.find(chunk.id)? {
                let has_key = self.keys.contains(&self.then.pack(location.pack)?.session);
                keyless += u64::from(!has_key);
                return Ok(has_key);
            }
            // It would be found no more: where does it lie now?
            let stripe = match self.now.find(chunk.id)? {
                Some(location) => Some(self.now.pack(location.pack)?.stripe),
                None => None,
            };
            match stripe.filter(|stripe| self.stripes.lost.contains_key(stripe)) {
                Some(stripe) => {
                    lost.insert(stripe);
                }
                // Its stripe is left, and what says where it lies is not; or nobody knew that before.
                None => unexplained += 1,
            }
            Ok(false)
        };
        let ended = walker.walk(root, &mut each).await;
        if let Err(ClientError::System(error)) = ended {
            return Err(error.into());
        }
        let worst = worst(lost.iter().filter_map(|stripe| self.stripes.lost.get(stripe))).cloned();
        let stripes_lost = lost.len() as u64;
        if let Some(stripe) = &worst {
            let why = why(stripe);
            return Ok(SnapshotFate { stripes_lost, worst, ..fate(logged, Outcome::Lost, why) });
        }
        let why = match ended {
            Err(error) => format!("it cannot be read now: {error}"),
            Ok(()) if unexplained > 0 => {
                let lost = self.stripes.lost.values();
                // Index packs are stripes as well.
                let why = self::worst(lost).map_or_else(|| "no node left lists it".into(), why);
                format!("the index of {unexplained} of its chunks would be lost: {why}")
            }
            Ok(()) if keyless > 0 => "keys that it needs would be with no node left".into(),
            Ok(()) => return Ok(whole(logged)),
        };
        Ok(fate(logged, Outcome::Lost, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::OperatorId;
    use protocol::label::Labels;

    fn site(node: u8, labels: &str) -> Site {
        let labels = Labels::new(labels.split_whitespace().map(|l| l.parse().unwrap())).unwrap();
        Site { node: NodeId([node; 32]), operator: OperatorId([0xab; 32]), labels }
    }

    #[test]
    fn what_is_lost_is_named_as_people_write_it() {
        let sites = [site(1, "provider=aws account=1"), site(0x11, "provider=gcp"), site(3, "")];
        let sites: Vec<&Site> = sites.iter().collect();
        let meant = |text: &str| -> std::result::Result<String, String> {
            let lose = [text.parse::<Label>().unwrap()];
            let found = domains(&lose, &sites).map_err(|e| e.to_string())?;
            Ok(short(&found[0]))
        };
        assert_eq!(meant("provider=aws").unwrap(), "provider=aws");
        assert_eq!(meant("node=0101").unwrap(), "node=01010101");
        assert_eq!(meant("operator=abab").unwrap(), "operator=abababab");
        // What is not stated is one domain.
        assert_eq!(meant("provider=unknown").unwrap(), "provider=unknown");
        let wrong = meant("provider=awz").unwrap_err();
        assert!(wrong.contains("provider=aws, provider=gcp"), "{wrong}");
        assert!(meant("node=01").is_err());
    }
}
