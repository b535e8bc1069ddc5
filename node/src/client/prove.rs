//! `strewn prove`: a snapshot's placement proof ([`protocol::proof`]), written as it is gathered.
//!
//! It lists the log entries that name sessions and index, the snapshot's own, and stripes in order: with the recovery identity
//! those that the snapshot needs and those of the index, without it all that the log and the index name.

use super::index::Index;
use super::items::root_of;
use super::ledger::{Ledger, Logged, check_listed};
use super::mesh::{Caller, Mesh, Node};
use super::named::named;
use super::packs::Packs;
use super::recipients::Identities;
use super::vault::{Vault, states};
use super::walk::Walker;
use super::{ClientError, Result};
use crate::cli::progress::Counters;
use crate::home::Home;
use crate::service::wall;
use protocol::certificate::DeviceCertificate;
use protocol::id::{DeviceId, EntryId, StripeId};
use protocol::item::ChunkRef;
use protocol::log::{Body, EntryAck};
use protocol::message::{HeldRecord, Request, Response};
use protocol::proof::{EntryProof, MAGIC, Opening, Part, StripeProof};
use protocol::record::Record;
use protocol::sign::Signed;
use protocol::told::{Told, devices_of};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

/// Stripes asked for at once: their records and receipts are in memory.
const ASKED: usize = 256;

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Proved {
    /// The snapshot.
    pub snapshot: EntryId,
    /// Entries listed.
    pub entries: u64,
    /// Stripes listed.
    pub stripes: u64,
    /// Whether just what the snapshot needs is listed, and not all of the vault.
    pub is_exact: bool,
}

/// Writes the proof of a snapshot.
pub async fn prove(
    home: &Home,
    mut vault: Vault,
    snapshot: &str,
    identities: Option<&Identities>,
    progress: &Arc<Counters>,
    to: &mut (dyn Write + Send),
) -> Result<Proved> {
    let mesh = Arc::new(Mesh::connect(home, Caller::device(&vault)).await?);
    vault.refresh(&mesh).await;
    let ledger = Ledger::read(&mesh, &vault).await?;
    let logged = ledger.find_snapshot(snapshot)?;
    let stripes = needed(&vault, &mesh, &ledger, logged, identities, progress).await?;
    let (certificates, devices) = devices(&vault, &mesh).await;
    let entries: Vec<&Logged> = ledger.all().filter(|other| is_needed(other, logged)).collect();
    let mut acks = acks(&vault, &mesh, &devices, &entries).await;

    to.write_all(MAGIC)?;
    let opening = Opening {
        snapshot: logged.id,
        made: wall(),
        papers: vault.papers.clone(),
        devices: certificates,
    };
    to.write_all(&Part::Opening(Box::new(opening)).encode())?;
    for entry in &entries {
        let acks = acks.remove(&entry.id).unwrap_or_default();
        to.write_all(&Part::Entry(EntryProof { entry: entry.signed(), acks }).encode())?;
    }
    progress.expect(stripes.len() as u64, 0);
    let all: Vec<StripeId> = stripes.into_iter().collect();
    for some in all.chunks(ASKED) {
        let mut found = gather(&vault, &mesh, &devices, some).await;
        for stripe in some {
            let proof = found.remove(stripe).ok_or(ClientError::NoRecord(*stripe))?;
            to.write_all(&Part::Stripe(proof).encode())?;
            progress.file();
        }
    }
    let (entries, stripes) = (entries.len() as u64, all.len() as u64);
    to.write_all(&Part::End { entries, stripes }.encode())?;
    to.flush()?;
    Ok(Proved { snapshot: logged.id, entries, stripes, is_exact: identities.is_some() })
}

/// Whether a snapshot cannot be read without an entry: its own, and those that name keys and index.
fn is_needed(entry: &Logged, snapshot: &Logged) -> bool {
    let is_named = matches!(entry.entry.body, Body::Session { .. } | Body::Index { .. });
    is_named || entry.id == snapshot.id
}

/// The stripes to list.
async fn needed(
    vault: &Vault,
    mesh: &Arc<Mesh>,
    ledger: &Ledger,
    snapshot: &Logged,
    identities: Option<&Identities>,
    progress: &Arc<Counters>,
) -> Result<BTreeSet<StripeId>> {
    let mut packs = Packs::new(Arc::clone(mesh), vault);
    let named: BTreeSet<StripeId> = named(vault, &packs, ledger).await?.into_keys().collect();
    let Some(identities) = identities else { return Ok(named) };
    packs.open_sessions(ledger, identities)?;
    let root = root_of(&packs, snapshot)?;
    let of_index = ledger.all().flat_map(|logged| match &logged.entry.body {
        Body::Index { stripes, .. } => &stripes[..],
        _ => &[],
    });
    let mut needed: BTreeSet<StripeId> =
        of_index.copied().filter(|stripe| named.contains(stripe)).collect();
    // Its cache has what `named` found.
    let index = Arc::new(Index::open(&vault.caches())?);
    let mut walker = Walker::new(Arc::new(packs), Arc::clone(&index), Arc::clone(progress));
    let mut each = |chunk: &ChunkRef| -> Result<bool> {
        let location = index.find(chunk.id)?.ok_or(ClientError::NoChunk(chunk.id))?;
        needed.insert(index.pack(location.pack)?.stripe);
        Ok(true)
    };
    walker.walk(root, &mut each).await?;
    Ok(needed)
}

/// The vault's devices, as nodes know them.
async fn devices(
    vault: &Vault,
    mesh: &Mesh,
) -> (Vec<Signed<DeviceCertificate>>, BTreeSet<DeviceId>) {
    let mut certificates = BTreeMap::from([(vault.device_id(), vault.device_certificate.clone())]);
    states(mesh, vault.id, |_, state| {
        let known: BTreeSet<DeviceId> = devices_of(&state, vault.id).collect();
        for signed in state.devices {
            let Ok(certificate) = signed.verify() else { continue };
            if known.contains(&certificate.device) {
                certificates.entry(certificate.device).or_insert(signed);
            }
        }
    })
    .await;
    let devices = certificates.keys().copied().collect();
    (certificates.into_values().collect(), devices)
}

/// The countersignatures of these entries.
async fn acks(
    vault: &Vault,
    mesh: &Mesh,
    devices: &BTreeSet<DeviceId>,
    entries: &[&Logged],
) -> BTreeMap<EntryId, Vec<Signed<EntryAck>>> {
    let wanted: BTreeSet<EntryId> = entries.iter().map(|logged| logged.id).collect();
    let wanted = &wanted;
    let reads = mesh.nodes.values().map(|node| async move {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let answer = node.request(&Request::Log { vault: vault.id, after }).await;
            let Ok(Response::Log { entries, more }) = answer else { break };
            let before = after;
            for listed in entries {
                let Ok((logged, _)) = check_listed(&listed, vault.id, node.id, devices) else {
                    continue;
                };
                after = Some((logged.entry.device, logged.entry.seq));
                if wanted.contains(&logged.id) {
                    found.push((logged.id, listed.ack));
                }
            }
            if !more || after <= before {
                break;
            }
        }
        found
    });
    let mut acks: BTreeMap<EntryId, Vec<Signed<EntryAck>>> = BTreeMap::new();
    for (id, ack) in futures::future::join_all(reads).await.into_iter().flatten() {
        acks.entry(id).or_default().push(ack);
    }
    acks
}

/// The newest record of each of these stripes, and the receipts that fit it.
async fn gather(
    vault: &Vault,
    mesh: &Mesh,
    devices: &BTreeSet<DeviceId>,
    stripes: &[StripeId],
) -> BTreeMap<StripeId, StripeProof> {
    let asked = mesh.nodes.values().map(|node| ask(vault, node, devices, stripes));
    let told: Vec<(Told, HeldRecord)> =
        futures::future::join_all(asked).await.into_iter().flatten().collect();
    let mut newest: BTreeMap<StripeId, (&Record, &Signed<Record>)> = BTreeMap::new();
    for (told, held) in &told {
        let known = newest.entry(told.stripe).or_insert((&told.record, &held.record));
        if told.record.version > known.0.version {
            *known = (&told.record, &held.record);
        }
    }
    let mut proofs: BTreeMap<StripeId, StripeProof> = BTreeMap::new();
    for (stripe, (_, signed)) in &newest {
        let proof = StripeProof { record: (*signed).clone(), receipts: Vec::new() };
        proofs.insert(*stripe, proof);
    }
    for (told, held) in &told {
        let record = newest[&told.stripe].0;
        let receipt =
            held.receipt.as_ref().and_then(|signed| Some((signed, signed.verify().ok()?)));
        let Some((signed, receipt)) = receipt else { continue };
        if receipt.check_for(record, receipt.index).is_ok()
            && let Some(proof) = proofs.get_mut(&told.stripe)
        {
            proof.receipts.push(signed.clone());
        }
    }
    proofs
}

/// What a node has of these stripes, as it was signed.
async fn ask(
    vault: &Vault,
    node: &Node,
    devices: &BTreeSet<DeviceId>,
    stripes: &[StripeId],
) -> Vec<(Told, HeldRecord)> {
    let (mut told, mut rest) = (Vec::new(), stripes);
    while !rest.is_empty() {
        let request = Request::Records { vault: vault.id, stripes: rest.to_vec() };
        let Ok(Response::Records(found)) = node.request(&request).await else { break };
        let count = found.len().min(rest.len());
        if count == 0 {
            break;
        }
        for (stripe, held) in rest.iter().zip(found) {
            let Some(held) = held else { continue };
            match Told::check(&held, node.id, vault.id, devices) {
                Ok(checked) if checked.stripe == *stripe => told.push((checked, held)),
                _ => tracing::warn!(node = node.id.short(), "a record counts for nothing"),
            }
        }
        rest = &rest[count..];
    }
    told
}
