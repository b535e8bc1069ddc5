//! Looking: nodes by domain, stripes by health, what an attacker would have to seize. What the log and the index name counts
//! as well as what nodes list: a stripe that nobody has a record of is lost.

use super::Result;
use super::inventory::{Inventory, devices};
use super::ledger::{Ledger, Logged};
use super::mesh::{Caller, Mesh};
use super::named::named;
use super::packs::Packs;
use super::promises;
use super::survey::Surveyor;
use super::vault::Vault;
use crate::home::Home;
use crate::size::counted;
use protocol::evidence::Evidence;
use protocol::id::{DeviceId, NodeId, OperatorId};
use protocol::label::{Level, Site};
use protocol::lock_clock::Standing;
use protocol::log::Holding;
use protocol::message::{
    AuditStatus, LeaveStatus, NodeStatus, RepairStatus, Request, Response, ScrubStatus,
};
use protocol::observed::{Observed, contradictions};
use protocol::placement::{Exposure, check_placement};
use protocol::policy::Policy;
use protocol::survey::Survey;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A node, as a status shows it.
#[derive(Debug, Clone, Serialize)]
pub struct NodeLine {
    /// Who.
    pub node: NodeId,
    /// Whose.
    pub operator: OperatorId,
    /// Where.
    pub labels: BTreeMap<String, String>,
    /// What shows that, by level: declared, signed, vouched, attested, or contradicted.
    pub evidence: BTreeMap<String, Evidence>,
    /// Whether it answers.
    pub up: bool,
    /// Bytes held.
    pub used: u64,
    /// Bytes it may take.
    pub room: u64,
    /// Bytes it may hold in all.
    pub quota: u64,
    /// Shards held.
    pub shards: u64,
    /// What is wrong with it.
    pub trouble: Option<String>,
    /// How its lock clock is, in words.
    pub lock_clock: Option<String>,
    /// How far it is with repairing what was lost elsewhere.
    pub repair: Option<RepairStatus>,
    /// What reading its shards has shown it.
    pub scrub: Option<ScrubStatus>,
    /// What asking other holders has shown it.
    pub audit: Option<AuditStatus>,
    /// How far it is with leaving, if it does.
    pub leaving: Option<LeaveStatus>,
}

/// Stripes of a vault by health.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Health {
    /// All.
    pub stripes: u64,
    /// Those whose placement satisfies the policy now.
    pub healthy: u64,
    /// Those that can be read, but break a clause.
    pub degraded: u64,
    /// Those that cannot be read with the nodes that answer.
    pub unreadable: u64,
    /// Of these, the ones that the log or the index names and of which no node that answers has even a record.
    pub unrecorded: u64,
    /// Of all, those with shards at nodes of an operator that is no partner any more: these can be read, and count for nothing.
    pub parted: u64,
}

impl Health {
    /// So many stripes more with these holders, and whether each of these is counted on. What is read from is more than what the policy may
    /// build on: repair moves the rest.
    fn add(&mut self, policy: &Policy, k: usize, holders: &[(&Site, bool)], count: u64) {
        let counted: Vec<&Site> =
            holders.iter().filter(|(_, is_counted)| *is_counted).map(|(site, _)| *site).collect();
        self.stripes += count;
        if counted.len() < holders.len() {
            self.parted += count;
        }
        if holders.len() < k {
            self.unreadable += count;
        } else if check_placement(policy, k, &counted).is_ok() {
            self.healthy += count;
        } else {
            self.degraded += count;
        }
    }
}

/// How many domains of a level must fall together.
#[derive(Debug, Clone, Serialize)]
pub struct ExposureLine {
    /// The level.
    pub level: String,
    /// So that something is destroyed.
    pub destroy: usize,
    /// An example.
    pub destroy_example: Vec<String>,
    /// So that something's ciphertext can be assembled.
    pub assemble: Option<usize>,
}

/// The state of a vault.
#[derive(Debug, Clone, Serialize)]
pub struct VaultStatus {
    /// Its name here.
    pub name: String,
    /// Its stripes.
    pub health: Health,
    /// By level; empty without stripes.
    pub exposure: Vec<ExposureLine>,
    /// Snapshots listed, without those forgotten.
    pub snapshots: usize,
    /// Those forgotten.
    pub forgotten: usize,
    /// Those whose log entry is not held widely enough, also if all silent nodes had it.
    pub snapshots_not_held: usize,
    /// When the newest was witnessed, milliseconds since 1970.
    pub last: Option<u64>,
    /// Devices that signed two logs that contradict each other.
    pub forked: BTreeSet<DeviceId>,
    /// Whether this device has written a log, and no node that answers has any.
    pub log_lost: bool,
    /// What another device gave up with the vault's key, in words.
    pub given_up: Option<String>,
    /// When a recovery drill was last done on this host, milliseconds since 1970; never if nothing is known.
    pub last_drill: Option<u64>,
    /// What the last audit of all shards on this host found; never if nothing is known.
    pub last_audit: Option<super::audit::LastAudit>,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The nodes.
    pub nodes: Vec<NodeLine>,
    /// What operators are called here, whose nodes are among them.
    pub partners: BTreeMap<OperatorId, String>,
    /// The vault, if one was asked about.
    pub vault: Option<VaultStatus>,
    /// One line that says it all.
    pub verdict: String,
    /// Whether everything is as it should be.
    pub good: bool,
    /// What the simulator plays.
    pub survey: Survey,
}

/// Of a node whose operator was removed.
const NO_PARTNER: &str =
    "its operator is no partner: what it holds can be read, and is not counted on";

fn labels_of(site: &Site) -> BTreeMap<String, String> {
    site.labels.iter().map(|(level, name)| (level.to_string(), name.to_owned())).collect()
}

fn evidence_of(site: &Site) -> BTreeMap<String, Evidence> {
    site.shown().map(|(level, _, evidence)| (level.to_string(), evidence)).collect()
}

/// What of a node somebody should look into.
fn trouble(status: NodeStatus) -> Option<String> {
    let frozen = matches!(status.lock_clock, Standing::Frozen(_));
    let (damaged, miscounted) = (status.scrub.damaged, status.scrub.miscounted);
    let stuck: u64 = status.repair.stuck.iter().map(|(_, count)| count).sum();
    let many = |count: u64, what| counted(usize::try_from(count).unwrap_or(usize::MAX), what);
    let parts = [
        status.leaving.as_ref().map(leaving),
        status.doubt,
        frozen.then(|| format!("its lock clock: {}", status.lock_clock)),
        (damaged > 0).then(|| {
            format!("the bytes of {} are damaged: look at its disk", many(damaged, "shard"))
        }),
        (miscounted > 0).then(|| {
            let vaults = many(miscounted, "vault");
            format!("it had counted what it holds of {vaults} wrong, and corrected that: look at its log and its disk")
        }),
        status
            .repair
            .stuck
            .first()
            .map(|(why, _)| format!("{} cannot be repaired now: {why}", many(stuck, "stripe"))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// How far a node is with leaving, in words.
pub fn leaving(status: &LeaveStatus) -> String {
    let LeaveStatus { is_counted, stripes, left, unsigned, .. } = *status;
    let many = |count: u64| counted(usize::try_from(count).unwrap_or(usize::MAX), "stripe");
    let all = many(stripes);
    match left {
        _ if !is_counted => "leaving: what it holds is being counted".into(),
        0 if unsigned > 0 => {
            format!("leaving: all is moved, and others have yet to sign for {}", many(unsigned))
        }
        0 => format!("leaving: it may go{}", signed_by(status)),
        1 => format!("leaving: 1 of {all} is still to be moved"),
        _ => format!("leaving: {left} of {all} are still to be moved"),
    }
}

/// Who signed that a node may leave, in words.
pub fn signed_by(status: &LeaveStatus) -> String {
    let operators: BTreeSet<OperatorId> =
        status.signers.iter().map(|signer| signer.operator).collect();
    match status.signers.len() {
        0 => String::new(),
        nodes => format!(
            ", signed by {} of {}",
            counted(nodes, "node"),
            counted(operators.len(), "operator")
        ),
    }
}

/// The nodes of the mesh, those that do not answer as well.
pub async fn nodes(mesh: &Mesh) -> Vec<NodeLine> {
    let mut lines = Vec::new();
    let mut observed = Vec::new();
    for (node, answer) in mesh.ask_all(&Request::Status).await {
        let status: Option<Box<NodeStatus>> = match answer {
            Ok(Response::Status(status)) => Some(status),
            _ => None,
        };
        let version = status.as_ref().map(|status| status.version.clone());
        observed.push((Arc::clone(&node), Observed { addresses: mesh.reached(node.id), version }));
        lines.push(NodeLine {
            node: node.id,
            operator: node.site.operator,
            labels: labels_of(&node.site),
            evidence: evidence_of(&node.site),
            up: status.is_some(),
            used: status.as_ref().map_or(0, |s| s.used),
            room: status.as_ref().map_or(0, |s| s.room),
            quota: status.as_ref().map_or(0, |s| s.quota),
            shards: status.as_ref().map_or(0, |s| s.shards),
            lock_clock: status.as_ref().map(|s| s.lock_clock.to_string()),
            repair: status.as_ref().map(|s| s.repair.clone()),
            scrub: status.as_ref().map(|s| s.scrub.clone()),
            audit: status.as_ref().map(|s| s.audit.clone()),
            leaving: status.as_ref().and_then(|s| s.leaving.clone()),
            trouble: status.and_then(|s| trouble(*s)),
        });
    }
    for (&node, silent) in &mesh.silent {
        lines.push(NodeLine {
            node,
            operator: silent.site.operator,
            labels: labels_of(&silent.site),
            evidence: evidence_of(&silent.site),
            up: false,
            used: 0,
            room: 0,
            quota: 0,
            shards: 0,
            trouble: Some(silent.reason.clone()),
            lock_clock: None,
            repair: None,
            scrub: None,
            audit: None,
            leaving: None,
        });
    }
    for (node, stripes) in failing(&lines) {
        if let Some(line) = lines.iter_mut().find(|line| line.node == node) {
            let stripes = counted(usize::try_from(stripes).unwrap_or(usize::MAX), "stripe");
            let text = format!("other holders found that it has not what it promised of {stripes}");
            add_trouble(line, text);
        }
    }
    let observed: Vec<(&Site, Observed)> =
        observed.iter().map(|(node, observed)| (&node.site, observed.clone())).collect();
    for (node, found) in contradictions(&observed) {
        if let Some(line) = lines.iter_mut().find(|line| line.node == node) {
            add_trouble(line, found.join("; "));
        }
    }
    for (node, what) in &mesh.mislabelled {
        if let Some(line) = lines.iter_mut().find(|line| line.node == *node) {
            add_trouble(line, format!("{what}: what it states counts as unknown"));
        }
    }
    for node in mesh.nodes.values().filter(|node| !node.is_relied_on()) {
        if let Some(line) = lines.iter_mut().find(|line| line.node == node.id) {
            add_trouble(line, NO_PARTNER.into());
        }
    }
    for found in promises::set_back(mesh).await {
        let line = lines.iter_mut().find(|line| line.node == found.node);
        // Who says so itself has said it.
        if let Some(line) = line.filter(|line| line.trouble.is_none() || !found.says_so) {
            add_trouble(line, found.sentence());
        }
    }
    lines.sort_by(|a, b| a.labels.cmp(&b.labels).then(a.node.cmp(&b.node)));
    lines
}

fn add_trouble(line: &mut NodeLine, text: String) {
    let other = line.trouble.take().map(|trouble| format!("; {trouble}"));
    line.trouble = Some(format!("{text}{}", other.unwrap_or_default()));
}

/// Holders that were shown not to have what they promise, each with the most stripes that one node says.
pub fn failing(nodes: &[NodeLine]) -> BTreeMap<NodeId, u64> {
    let mut failing: BTreeMap<NodeId, u64> = BTreeMap::new();
    for (node, stripes) in
        nodes.iter().filter_map(|line| line.audit.as_ref()).flat_map(|a| &a.failing)
    {
        let most = failing.entry(*node).or_default();
        *most = (*most).max(*stripes);
    }
    failing
}

/// Looks at mesh and vault.
pub async fn status(home: &Home, vault: Option<Vault>) -> Result<Status> {
    let caller = match &vault {
        Some(vault) => Caller::device(vault),
        None => Caller::console(home)?,
    };
    let mesh = Arc::new(Mesh::connect(home, caller).await?);
    let nodes = nodes(&mesh).await;
    let down = nodes.iter().filter(|node| !node.up).count();
    let mut surveyor = Surveyor::new(&mesh, &nodes);
    let Some(vault) = vault else {
        let verdict =
            format!("{}, {down} of them silent; no vault here", counted(nodes.len(), "node"));
        let survey = surveyor.without_vault();
        let partners = mesh.partners.clone();
        return Ok(Status { good: down == 0, nodes, partners, vault: None, verdict, survey });
    };
    let ledger = Ledger::read(&mesh, &vault).await?;
    let (health, exposure) = health(&mesh, &vault, &ledger, &mut surveyor).await?;
    let survey = surveyor.survey(&vault, health.unrecorded)?;
    let (forgotten, snapshots): (Vec<&Logged>, Vec<&Logged>) =
        ledger.snapshots().into_iter().partition(|logged| ledger.is_forgotten(logged));
    let is_narrow = |logged: &&&Logged| ledger.holding(logged) == Holding::Narrow;
    let state = VaultStatus {
        name: vault.name.clone(),
        health,
        exposure,
        snapshots: snapshots.len(),
        forgotten: forgotten.len(),
        snapshots_not_held: snapshots.iter().filter(is_narrow).count(),
        last: snapshots.last().map(|logged| logged.witnessed().0),
        forked: ledger.forked(),
        log_lost: ledger.all().next().is_none() && vault.log_head()?.is_some(),
        given_up: super::given_up::note(&vault, &ledger),
        last_drill: super::recovery::last_drill(vault.folder()).map(|wall| wall.0),
        last_audit: super::audit::last(vault.folder()),
    };
    let verdict = verdict(&state, down);
    let good = state.health.unreadable == 0
        && state.health.degraded == 0
        && state.snapshots_not_held == 0
        && state.forked.is_empty()
        && !is_all_given_up(&state)
        && !state.log_lost;
    let partners = mesh.partners.clone();
    Ok(Status { nodes, partners, vault: Some(state), verdict, good, survey })
}

/// All stripes, those that are listed and those that are only named, and what would have to fall for one to be destroyed.
async fn health(
    mesh: &Arc<Mesh>,
    vault: &Vault,
    ledger: &Ledger,
    surveyor: &mut Surveyor,
) -> Result<(Health, Vec<ExposureLine>)> {
    let mut missing = named(vault, &Packs::new(Arc::clone(mesh), vault), ledger).await?;
    let mut inventory = Inventory::new(mesh, vault.id, devices(mesh, vault).await);
    let mut levels = levels_of(mesh.nodes.values().map(|node| &node.site));
    let asked: BTreeSet<Level> = vault.policy.evidence_levels().collect();
    levels.extend(asked);
    let given_up = ledger.given_up();
    while let Some(held) = inventory.next().await {
        if given_up.contains(held.stripe) {
            continue;
        }
        missing.remove(&held.stripe);
        surveyor.add(mesh, &held);
    }
    let mut health = Health { unrecorded: missing.len() as u64, ..Health::default() };
    // Stripes with the same holders have the same fate: each pattern is computed once.
    let mut patterns: BTreeMap<(u16, &[u32]), u64> = BTreeMap::new();
    for (lie, count) in surveyor.patterns().iter() {
        *patterns.entry((lie.k, &lie.holders)).or_default() += count;
    }
    if health.unrecorded > 0 {
        *patterns.entry((1, &[])).or_default() += health.unrecorded;
    }
    let mut exposure: Option<Exposure> = None;
    for ((k, holders), count) in patterns {
        let holders = holders.iter().filter_map(|&index| surveyor.node(index));
        let holders = holders.filter_map(|id| mesh.nodes.get(&id));
        let holders: Vec<(&Site, bool)> =
            holders.map(|node| (&node.site, node.is_relied_on())).collect();
        let k = usize::from(k);
        health.add(&vault.policy, k, &holders, count);
        // What an attacker has to seize is all that there is, also of those who are not counted on.
        let sites: Vec<&Site> = holders.iter().map(|(site, _)| *site).collect();
        let one = Exposure::of(k, &sites, &levels);
        exposure = Some(match exposure {
            Some(all) => all.worst(one),
            None => one,
        });
    }
    let lines = exposure.into_iter().flat_map(|exposure| exposure.levels);
    let lines = lines.map(|(level, found)| ExposureLine {
        level: level.to_string(),
        destroy: found.destroy.len(),
        destroy_example: found.destroy.iter().map(ToString::to_string).collect(),
        assemble: found.assemble.map(|set| set.len()),
    });
    Ok((health, lines.collect()))
}

/// The levels that these sites state, and those of keys.
pub fn levels_of<'a>(sites: impl Iterator<Item = &'a Site>) -> Vec<Level> {
    let stated = sites.flat_map(|site| site.labels.iter().map(|(level, _)| level.clone()));
    let mut levels: BTreeSet<Level> = stated.collect();
    levels.insert(Level::operator());
    levels.insert(Level::node());
    levels.into_iter().collect()
}

/// Every snapshot needs some stripe: where none counts, somebody gave up what is needed.
fn is_all_given_up(vault: &VaultStatus) -> bool {
    vault.health.stripes == 0 && vault.snapshots > 0 && !vault.log_lost
}

fn verdict(vault: &VaultStatus, down: usize) -> String {
    let forked = (!vault.forked.is_empty()).then(|| {
        let devices: Vec<String> = vault.forked.iter().map(DeviceId::short).collect();
        let devices = devices.join(", ");
        format!("; FORKED: device {devices} signed two logs: its key is in other hands, or its host was set back")
    });
    let narrow = (vault.snapshots_not_held > 0).then(|| {
        let snapshots = counted(vault.snapshots_not_held, "snapshot");
        format!("; the log entry of {snapshots} is not held widely enough: back up again")
    });
    let parted = (vault.health.parted > 0).then(|| {
        let stripes = counted(usize::try_from(vault.health.parted).unwrap_or(usize::MAX), "stripe");
        format!("; {stripes} lie in part with an operator that is no partner any more: that is not counted, and moved off")
    });
    let parts = [Some(stripes_verdict(vault, down)), parted, forked, narrow];
    parts.into_iter().flatten().collect()
}

fn stripes_verdict(vault: &VaultStatus, down: usize) -> String {
    let (health, exposure) = (&vault.health, &vault.exposure);
    if vault.log_lost {
        return format!(
            "NOT RECOVERABLE NOW: no node that answers has the vault's log; {down} silent"
        );
    }
    if is_all_given_up(vault) {
        let snapshots = counted(vault.snapshots, "snapshot");
        return format!("NOT KEPT: all stripes were given up, and there are {snapshots}");
    }
    if health.stripes == 0 && vault.snapshots == 0 {
        return "nothing is backed up yet".into();
    }
    let falls: Vec<String> = exposure
        .iter()
        .filter(|line| line.level != Level::NODE)
        .map(|line| match line.level.split_once('_') {
            None => counted(line.destroy, &line.level),
            Some((level, evidence)) => {
                format!("{} as far as {evidence}", counted(line.destroy, level))
            }
        })
        .collect();
    let falls = falls.join(" or ");
    let silent = match down {
        0 => String::new(),
        1 => "; 1 node is silent".into(),
        _ => format!("; {down} nodes are silent"),
    };
    if health.unreadable > 0 {
        let unrecorded = match health.unrecorded {
            0 => String::new(),
            count => format!(", {count} of them known to no node that answers"),
        };
        format!(
            "NOT RECOVERABLE NOW: {} of {} cannot be read{unrecorded}{silent}",
            health.unreadable,
            counted(health.stripes as usize, "stripe")
        )
    } else if health.degraded > 0 {
        format!(
            "RECOVERABLE, BELOW POLICY: {} of {} break a clause{silent}; destroyed by the fall of {falls}",
            health.degraded,
            counted(health.stripes as usize, "stripe")
        )
    } else {
        format!(
            "RECOVERABLE: all of {} satisfy the policy{silent}; destroyed only by the fall of {falls}",
            counted(health.stripes as usize, "stripe")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::label::Labels;

    /// Two operators swap; the partner is removed, and its nodes answer as before.
    #[test]
    fn who_is_no_partner_any_more_is_read_from_and_not_counted_on() {
        let policy = Policy::survive_one("operator");
        let at = |node, operator| {
            Site::new(NodeId([node; 32]), OperatorId([operator; 32]), Labels::default())
        };
        let sites = [at(1, 1), at(2, 1), at(3, 2), at(4, 2)];
        let holders = |is_partner| -> Vec<(&Site, bool)> {
            let own = OperatorId([1; 32]);
            sites.iter().map(|site| (site, is_partner || site.operator == own)).collect()
        };
        let mut health = Health::default();
        health.add(&policy, 2, &holders(true), 5);
        assert_eq!((health.healthy, health.degraded, health.parted), (5, 0, 0));
        let mut health = Health::default();
        health.add(&policy, 2, &holders(false), 5);
        assert_eq!((health.healthy, health.degraded, health.unreadable), (0, 5, 0));
        assert_eq!((health.stripes, health.parted), (5, 5));
        // Only they have enough: it can be restored still.
        let mut health = Health::default();
        health.add(&policy, 3, &holders(false), 1);
        assert_eq!((health.degraded, health.unreadable), (1, 0));
        let vault = VaultStatus {
            name: "v".into(),
            health,
            exposure: Vec::new(),
            snapshots: 1,
            forgotten: 0,
            snapshots_not_held: 0,
            last: None,
            forked: BTreeSet::new(),
            log_lost: false,
            given_up: None,
            last_drill: None,
            last_audit: None,
        };
        let verdict = verdict(&vault, 0);
        assert!(verdict.contains("RECOVERABLE, BELOW POLICY"), "{verdict}");
        assert!(verdict.contains("no partner any more"), "{verdict}");
    }
}
