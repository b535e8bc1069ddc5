//! `strewn audit`: every holder is asked to prove that it has the shards that it promises ([`protocol::audit`]), 16 at a time.
//!
//! A node is asked about what its own listing promises, and what it promises no more `strewn status` shows. Who gives no answer is asked the same
//! question again, [`TRIES`] times in all: silence is told and convicts nobody. What convicts is kept: transcripts that anybody can
//! check. A page of each listing and a few questions are in memory, however many shards there are.

use super::inventory::devices;
use super::mesh::{Caller, Mesh, Node};
use super::vault::Vault;
use super::{ClientError, Result};
use crate::cli::progress::Counters;
use crate::home::{Home, random, read_file, write_file};
use crate::service::wall;
use protocol::audit::{
    ANSWER_MAX, AUDIT_SHARDS_MAX, AuditOpening, AuditQuestion, Judged, TRIES, Transcript, Verdict,
    commitment,
};
use protocol::id::{DeviceId, NodeId, PublicKey, StripeId, VaultId};
use protocol::message::{HeldRecord, Request, Response};
use protocol::record::Receipt;
use protocol::sign::Signed;
use protocol::tally::Done;
use protocol::told::Told;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(ANSWER_MAX.0);
/// Questions under way with one node.
const AT_ONCE: usize = 2;
/// Transcripts that convict which are kept of one node: more show nothing new.
const EVIDENCE_MAX: usize = 4;
/// In the vault's folder: what the last audit found.
const FILE: &str = "audit";

/// What is asked about.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only nodes whose ids begin so; all where there are none.
    pub nodes: Vec<String>,
    /// The part of the shards, in percent, drawn anew each time; all of them where it is not given.
    pub percent: Option<f64>,
}

/// What a node showed.
#[derive(Debug, Serialize)]
pub struct NodeAudit {
    /// The node.
    pub node: NodeId,
    /// Shards it was asked about.
    pub asked: u64,
    /// Those that it proved.
    pub proved: u64,
    /// Those that it says it has not, and had promised.
    pub missing: u64,
    /// Those for which it signed what is no proof.
    pub wrong: u64,
    /// Those about which it gave no answer.
    pub unanswered: u64,
    /// Bytes of proofs.
    pub proof_bytes: u64,
    /// Why, for the first of what went wrong.
    pub why: Option<String>,
    /// What convicts it.
    #[serde(skip)]
    pub evidence: Vec<Transcript>,
}

/// What all of them showed.
#[derive(Debug, Serialize)]
pub struct Audited {
    /// Whether everything asked about was proved.
    pub good: bool,
    /// By node.
    pub nodes: Vec<NodeAudit>,
    /// Nodes that do not answer at all: offline, and not guilty.
    pub silent: usize,
}

/// When this host last audited a vault, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LastAudit {
    /// When, in milliseconds since 1970.
    pub when: u64,
    /// Shards asked about.
    pub asked: u64,
    /// Those that were proved.
    pub proved: u64,
}

/// Audits the holders of a vault.
///
/// # Errors
/// When nobody answers, or there is no such node.
pub async fn audit(
    home: &Home,
    vault: &Vault,
    scope: &Scope,
    progress: &Arc<Counters>,
) -> Result<Audited> {
    let mesh = Mesh::connect(home, Caller::device(vault)).await?;
    let devices = Arc::new(devices(&mesh, vault).await);
    let is_meant = |node: &NodeId| {
        let id = node.to_string();
        scope.nodes.is_empty() || scope.nodes.iter().any(|begin| id.starts_with(begin.as_str()))
    };
    let meant: Vec<Arc<Node>> =
        mesh.nodes.values().filter(|node| is_meant(&node.id)).map(Arc::clone).collect();
    let silent = mesh.silent.keys().filter(|node| is_meant(node)).count();
    if meant.is_empty() {
        return Err(ClientError::NoNode("of this name answers".into()));
    }
    let lot = Lot { key: random()?, percent: scope.percent };
    let mut tasks = JoinSet::new();
    for node in meant {
        let auditor = vault.device.public();
        let run = Run {
            node,
            vault: vault.id,
            auditor,
            devices: Arc::clone(&devices),
            progress: Arc::clone(progress),
        };
        tasks.spawn(run.all(lot));
    }
    let mut nodes = tasks.join_all().await;
    mesh.acknowledge(vault).await;
    nodes.sort_by_key(|audit| audit.node);
    let (asked, proved) =
        nodes.iter().fold((0, 0), |(asked, proved), n| (asked + n.asked, proved + n.proved));
    let good = asked == proved && silent == 0 && nodes.iter().all(|node| node.why.is_none());
    // A part says little of the whole.
    if scope.nodes.is_empty() && scope.percent.is_none() {
        let line = format!("{} {asked} {proved}\n", wall().0);
        write_file(&vault.folder().join(FILE), line.as_bytes(), 0o644)?;
    }
    Ok(Audited { good, nodes, silent })
}

/// What holders have in writing against each other: audits that somebody failed, by whom. Whatever does not hold together is left out.
///
/// # Errors
/// When nobody answers.
pub async fn collect(home: &Home, vault: &Vault) -> Result<Vec<(NodeId, Transcript)>> {
    let mesh = Mesh::connect(home, Caller::device(vault)).await?;
    let mut found = Vec::new();
    for node in mesh.nodes.values() {
        let mut after = None;
        loop {
            let request = Request::Evidence { vault: vault.id, after };
            let Ok(Response::Evidence(Some((stripe, holder, transcript)))) =
                node.request(&request).await
            else {
                break;
            };
            if after >= Some((stripe, holder)) {
                break;
            }
            after = Some((stripe, holder));
            let judged = tokio::task::block_in_place(|| transcript.judge());
            let is_evidence = judged.is_ok_and(|judged| {
                judged.holder == holder
                    && judged.found.iter().any(|found| found.verdict != Verdict::Proved)
            });
            if is_evidence {
                found.push((holder, *transcript));
            }
        }
    }
    Ok(found)
}

/// What the last audit of all shards found on this host; `None` where there was none.
pub(super) fn last(folder: &Path) -> Option<LastAudit> {
    let text = String::from_utf8(read_file(&folder.join(FILE)).ok()??).ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(LastAudit { when: next()?, asked: next()?, proved: next()? })
}

/// Which stripes are drawn: no holder can foresee it.
#[derive(Debug, Clone, Copy)]
struct Lot {
    key: [u8; 32],
    percent: Option<f64>,
}

impl Lot {
    fn draws(&self, stripe: StripeId) -> bool {
        let Some(percent) = self.percent else { return true };
        let hash = blake3::keyed_hash(&self.key, stripe.as_bytes());
        let number = u32::from_le_bytes(std::array::from_fn(|i| hash.as_bytes()[i]));
        f64::from(number) < percent / 100.0 * f64::from(u32::MAX)
    }
}

/// An audit of one node.
#[derive(Clone)]
struct Run {
    node: Arc<Node>,
    vault: VaultId,
    auditor: PublicKey,
    devices: Arc<BTreeSet<DeviceId>>,
    progress: Arc<Counters>,
}

/// What a question about some shards came to.
enum Came {
    Judged(Box<Transcript>, Judged),
    /// An answer that does not hold together: told, and no evidence.
    Untrue(String),
    Nothing(String),
}

impl Run {
    async fn all(self, lot: Lot) -> NodeAudit {
        let mut audit = NodeAudit {
            node: self.node.id,
            asked: 0,
            proved: 0,
            missing: 0,
            wrong: 0,
            unanswered: 0,
            proof_bytes: 0,
            why: None,
            evidence: Vec::new(),
        };
        let mut asking: JoinSet<(usize, Came)> = JoinSet::new();
        let (mut after, mut waiting) = (None, Vec::new());
        loop {
            let request = Request::Inventory { vault: self.vault, after };
            let (records, more) = match self.node.request(&request).await {
                Ok(Response::Inventory { records, more }) => (records, more),
                Ok(_) => break audit.why = Some("an unexpected answer".into()),
                Err(error) => break audit.why = Some(error.to_string()),
            };
            let before = after;
            for (stripe, receipt) in tokio::task::block_in_place(|| self.promises(&records)) {
                if after.is_some_and(|after| stripe <= after) {
                    continue;
                }
                after = Some(stripe);
                if let Some(receipt) = receipt.filter(|_| lot.draws(stripe)) {
                    waiting.push(receipt);
                }
                if waiting.len() == AUDIT_SHARDS_MAX {
                    self.begin(&mut asking, &mut audit, std::mem::take(&mut waiting)).await;
                }
            }
            if !more || after <= before {
                break;
            }
        }
        if !waiting.is_empty() {
            self.begin(&mut asking, &mut audit, waiting).await;
        }
        while let Some(ended) = asking.join_next().await {
            audit.take(ended);
        }
        let (proved, unproved) = (audit.proved, audit.missing + audit.wrong);
        self.node.note(Done { proved, unproved, ..Done::default() });
        audit
    }

    /// The stripes of a page in order, each with the node's promise of a shard of it.
    fn promises(&self, records: &[HeldRecord]) -> Vec<(StripeId, Option<Signed<Receipt>>)> {
        let promise = |held: &HeldRecord| {
            let told = Told::check(held, self.node.id, self.vault, &self.devices).ok()?;
            Some((told.stripe, held.receipt.clone().filter(|_| told.promised.is_some())))
        };
        records.iter().filter_map(promise).collect()
    }

    async fn begin(
        &self,
        asking: &mut JoinSet<(usize, Came)>,
        audit: &mut NodeAudit,
        receipts: Vec<Signed<Receipt>>,
    ) {
        while asking.len() >= AT_ONCE {
            if let Some(ended) = asking.join_next().await {
                audit.take(ended);
            }
        }
        let run = self.clone();
        audit.asked += receipts.len() as u64;
        asking.spawn(async move {
            let count = receipts.len();
            let came = run.ask(receipts).await;
            for _ in 0..count {
                run.progress.file();
            }
            (count, came)
        });
    }

    async fn ask(&self, receipts: Vec<Signed<Receipt>>) -> Came {
        match self.question(&receipts).await {
            Ok(question) => self.put(question, receipts).await,
            Err(error) => Came::Nothing(error.to_string()),
        }
    }

    /// Both sides settle on their nonces.
    async fn question(&self, receipts: &[Signed<Receipt>]) -> Result<AuditQuestion> {
        let shard = |signed: &Signed<Receipt>| Some(signed.verify().ok()?.shard);
        let (nonce, shards) = (random()?, receipts.iter().filter_map(shard).collect());
        let commitment = commitment(self.auditor, &nonce);
        let opening = AuditOpening { vault: self.vault, shards, commitment };
        let request = Request::AuditOpen(opening.clone());
        let open = self.node.request(&request);
        let unexpected = |what: &str| ClientError::node(self.node.id, what);
        let answer =
            tokio::time::timeout(PATIENCE, open).await.map_err(|_| unexpected("no answer"))?;
        let Response::AuditTurn(turn) = answer? else {
            return Err(unexpected("an unexpected answer to an audit"));
        };
        let question = AuditQuestion { opening, turn, nonce };
        let asked = question.verify().map_err(|error| ClientError::node(self.node.id, error))?;
        asked
            .check_for(self.node.id, self.auditor, asked.drawn)
            .map_err(|error| ClientError::node(self.node.id, error))?;
        Ok(question)
    }

    /// Puts the question, and again the same one where no answer comes.
    async fn put(&self, question: AuditQuestion, receipts: Vec<Signed<Receipt>>) -> Came {
        let request = Request::Audit(Box::new(question.clone()));
        let mut why = String::from("no answer");
        for _ in 0..TRIES {
            match tokio::time::timeout(PATIENCE, self.node.request(&request)).await {
                Ok(Ok(Response::Audited { answer, proofs })) => {
                    let transcript = Transcript { question, answer, proofs, receipts };
                    return match tokio::task::block_in_place(|| transcript.judge()) {
                        Ok(judged) => Came::Judged(Box::new(transcript), judged),
                        Err(error) => Came::Untrue(error.to_string()),
                    };
                }
                Ok(Ok(_)) => return Came::Untrue("an unexpected answer to an audit".into()),
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => why = format!("no answer within {} s", PATIENCE.as_secs()),
            }
        }
        Came::Nothing(why)
    }
}

impl NodeAudit {
    fn take(&mut self, ended: std::result::Result<(usize, Came), tokio::task::JoinError>) {
        let (count, came) = match ended {
            Ok(ended) => ended,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        match came {
            Came::Nothing(why) => {
                self.unanswered += count as u64;
                self.why.get_or_insert(why);
            }
            Came::Untrue(why) => {
                self.wrong += count as u64;
                self.why.get_or_insert(why);
            }
            Came::Judged(transcript, judged) => {
                self.proof_bytes += transcript.proofs.iter().map(|p| p.0.len() as u64).sum::<u64>();
                for found in &judged.found {
                    match &found.verdict {
                        Verdict::Proved => self.proved += 1,
                        Verdict::Missing => self.missing += 1,
                        Verdict::Wrong(fault) => {
                            self.wrong += 1;
                            self.why.get_or_insert(format!("a proof of it is none: {fault}"));
                        }
                    }
                }
                let convicts = judged.found.iter().any(|found| found.verdict != Verdict::Proved);
                if convicts && self.evidence.len() < EVIDENCE_MAX {
                    self.evidence.push(*transcript);
                }
            }
        }
    }

    /// Whether it broke its word: what it promised to keep it has not, or cannot show.
    #[must_use]
    pub fn is_guilty(&self) -> bool {
        self.missing + self.wrong > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_drawn_anew_each_time_and_is_about_as_large_as_asked() {
        let drawn = |key: u8, percent: Option<f64>| -> Vec<u32> {
            let lot = Lot { key: [key; 32], percent };
            let is_drawn =
                |number: &u32| lot.draws(StripeId(*blake3::hash(&number.to_le_bytes()).as_bytes()));
            (0..2000).filter(is_drawn).collect()
        };
        assert_eq!(drawn(1, None).len(), 2000);
        assert!((150..250).contains(&drawn(1, Some(10.0)).len()));
        assert_ne!(drawn(1, Some(10.0)), drawn(2, Some(10.0)));
        assert_eq!(drawn(1, Some(10.0)), drawn(1, Some(10.0)));
        assert_eq!(drawn(1, Some(100.0)).len(), 2000);
    }

    #[test]
    fn the_last_audit_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(last(folder.path()), None);
        std::fs::write(folder.path().join(FILE), "17 5 4\n").unwrap();
        assert_eq!(last(folder.path()), Some(LastAudit { when: 17, asked: 5, proved: 4 }));
        std::fs::write(folder.path().join(FILE), "yesterday").unwrap();
        assert_eq!(last(folder.path()), None);
    }
}
