//! `strewn what-if`: which snapshots survive a loss. Exact: from the records and receipts of all stripes, and from the item
//! streams of the snapshots where a stripe would be lost.
//!
//! The question is answered as the day after the loss would: an index is made of what the remaining index packs say of
//! the remaining stripes, and a snapshot survives when every chunk that it needs is found there, its keys and its
//! own log entry included. With an identity every snapshot is followed, also when no node lists a stripe that is lost: one
//! of which every record is gone is listed by nobody. The log and the index name it, and it counts as lost already.

mod after;
mod domains;
mod stripes;

use super::Result;
use super::ledger::{Ledger, Logged};
use super::mesh::{Caller, Mesh};
use super::named::named;
use super::packs::Packs;
use super::recipients::Identities;
use super::tags::Catalog;
use super::vault::{Vault, states};
use crate::cli::progress::Counters;
use crate::home::Home;
use crate::service::wall;
use crate::size::counted;
use domains::domains;
use protocol::id::{EntryId, StripeId};
use protocol::label::{Domain, Label, Site};
use protocol::placement::Loss;
use serde::Serialize;
use std::sync::Arc;
use stripes::Stripes;

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
    let listed = listed.sites(wall(), vault.operator);
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
        lost: lost.iter().map(Domain::short).collect(),
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
        return format!("SURVIVES: all of {} can be restored, {policy}", counted(all, "snapshot"));
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
}
