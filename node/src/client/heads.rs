//! `strewn log verify`: every signature and chain ([`super::check`]), whether all holders show the same logs, and whether
//! each still shows what it showed this host before: a holder that was set back to an older disk does not.

use super::check::{Findings, check_logs};
use super::ledger::{Ledger, Logged};
use super::mesh::{Caller, Mesh};
use super::promises::{self, SetBack};
use super::vault::Vault;
use super::{ClientError, Result};
use crate::home::{Home, read_file, write_file};
use protocol::id::{DeviceId, NodeId};
use protocol::log::{Head, Standing};
use serde::Serialize;
use std::collections::BTreeMap;

/// A device's log.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceLog {
    /// The device.
    pub device: DeviceId,
    /// Where it ends.
    pub end: Head,
    /// What each holder shows.
    pub nodes: Vec<(NodeId, Standing)>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// Whether nothing is wrong.
    pub good: bool,
    /// The logs.
    pub logs: Vec<DeviceLog>,
    /// Holders that were set back.
    pub set_back: usize,
    /// Holders that show nothing any more of a log that they showed before.
    pub gone: Vec<(NodeId, DeviceId)>,
    /// Nodes whose promises do not go on from where they were.
    pub promises: Vec<SetBack>,
    /// Nodes that do not answer.
    pub silent: usize,
    /// What else is wrong.
    #[serde(skip)]
    pub findings: Findings,
}

/// What holders showed: by holder and device.
type Memory = BTreeMap<(NodeId, DeviceId), Head>;

fn parse(text: &str) -> Option<Memory> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let key = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let end = Head { seq: words.next()?.parse().ok()?, entry: words.next()?.parse().ok()? };
        Some((key, end))
    };
    text.lines().map(line).collect()
}

fn print(memory: &Memory) -> String {
    let line = |((node, device), end): (&(NodeId, DeviceId), &Head)| {
        format!("{node} {device} {} {}\n", end.seq, end.entry)
    };
    memory.iter().map(line).collect()
}

/// The last entry that each holder shows, of each device.
fn shown(ledger: &Ledger) -> Memory {
    let mut shown = Memory::new();
    for logged in ledger.all() {
        let end = Head { seq: logged.entry.seq, entry: logged.id };
        for node in logged.holders.keys() {
            let known = shown.entry((*node, logged.entry.device)).or_insert(end);
            if end.seq > known.seq {
                *known = end;
            }
        }
    }
    shown
}

/// Compares what a holder shows with the log, and with what it showed before.
fn compare(
    ledger: &Ledger,
    last: &Logged,
    node: NodeId,
    now: Option<Head>,
    before: Option<Head>,
) -> Standing {
    let device = last.entry.device;
    let entry_at = |seq| ledger.entries.get(&(device, seq)).map(|logged| logged.id);
    let shows = |entry| {
        let known = ledger.all().find(|logged| logged.id == entry);
        known.is_some_and(|logged| logged.holders.contains_key(&node))
    };
    Standing::of(last.entry.seq, now, before, entry_at, shows)
}

/// Verifies the logs of a vault, and remembers what was shown.
pub async fn verify(home: &Home, vault: &Vault) -> Result<Verified> {
    let mesh = Mesh::connect(home, Caller::device(vault)).await?;
    let (ledger, findings) = check_logs(&mesh, vault).await?;
    let path = vault.cache("heads");
    let before = read_file(&path)?.unwrap_or_default();
    let mut memory = parse(&String::from_utf8_lossy(&before)).ok_or_else(|| {
        ClientError::Content(format!("{}: remove it, and verify again", path.display()))
    })?;
    let shown = shown(&ledger);
    let mut lasts: BTreeMap<DeviceId, &Logged> = BTreeMap::new();
    for logged in ledger.entries.values() {
        lasts.insert(logged.entry.device, logged);
    }
    let mut logs = Vec::new();
    for (device, last) in lasts {
        let standing = |node: &NodeId| {
            let key = (*node, device);
            let (now, before) = (shown.get(&key).copied(), memory.get(&key).copied());
            (*node, compare(&ledger, last, *node, now, before))
        };
        let nodes = mesh.nodes.keys().map(standing).collect();
        logs.push(DeviceLog { device, end: Head { seq: last.entry.seq, entry: last.id }, nodes });
    }
    // A log of which nobody shows anything any more.
    let gone = memory.keys().filter(|(node, device)| {
        mesh.nodes.contains_key(node) && !logs.iter().any(|log| log.device == *device)
    });
    let gone: Vec<(NodeId, DeviceId)> = gone.copied().collect();
    let is_set_back =
        |(_, standing): &&(NodeId, Standing)| matches!(standing, Standing::SetBack { .. });
    let set_back = gone.len() + logs.iter().flat_map(|log| &log.nodes).filter(is_set_back).count();
    // What was seen once is not forgotten because it is gone.
    for (key, end) in shown {
        let known = memory.entry(key).or_insert(end);
        if end.seq > known.seq {
            *known = end;
        }
    }
    write_file(&path, print(&memory).as_bytes(), 0o600)?;
    let promises = promises::set_back(&mesh).await;
    let good = findings.is_empty() && set_back == 0 && promises.is_empty();
    Ok(Verified { good, logs, set_back, gone, promises, silent: mesh.silent.len(), findings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::{EntryId, SessionId, VaultId};
    use protocol::log::{Body, Entry, entry_id};
    use protocol::sign::{SecretKey, Signed};
    use protocol::time::Wall;

    const NODE: NodeId = NodeId([1; 32]);
    const OTHER: NodeId = NodeId([2; 32]);

    /// A log of so many entries; of the last one the content.
    fn chain(len: u64, content: u8) -> Vec<Signed<Entry>> {
        let key = SecretKey::from_seed(&[9; 32]);
        let mut chain: Vec<Signed<Entry>> = Vec::new();
        for seq in 0..len {
            let session = SessionId([if seq + 1 == len { content } else { 0 }; 32]);
            let body = Body::Index { session, stripes: Vec::new() };
            let (vault, device) = (VaultId([3; 32]), key.public().into());
            let previous = chain.last().map(entry_id);
            let entry = Entry { vault, device, seq, previous, claimed: Wall(0), body };
            chain.push(Signed::sign(&entry, &key));
        }
        chain
    }

    /// What a node is told to be that shows so much now and showed so much before, when another one shows all of it.
    fn standing(
        all: &[Signed<Entry>],
        now: &[Signed<Entry>],
        before: &[Signed<Entry>],
    ) -> Standing {
        let mut ledger = Ledger::default();
        for (node, entries) in [(OTHER, all), (NODE, now)] {
            for signed in entries {
                ledger.take(node, Wall(5), Logged::new(signed).unwrap());
            }
        }
        let end = |entries: &[Signed<Entry>]| {
            let last = Logged::new(entries.last()?).unwrap();
            Some(Head { seq: last.entry.seq, entry: last.id })
        };
        let last = ledger.entries.values().next_back().unwrap();
        assert_eq!(shown(&ledger).get(&(NODE, last.entry.device)).copied(), end(now));
        compare(&ledger, last, NODE, end(now), end(before))
    }

    #[test]
    fn a_holder_that_shows_less_than_before_was_set_back() {
        let (all, other) = (chain(5, 0), chain(4, 7));
        assert_eq!(standing(&all, &all, &all), Standing::Same);
        assert_eq!(standing(&all, &all, &[]), Standing::Same);
        assert_eq!(standing(&all, &all[..3], &all[..2]), Standing::Behind { by: 2 });
        assert_eq!(standing(&all, &[], &[]), Standing::Behind { by: 5 });
        assert_eq!(standing(&all, &all[..3], &all), Standing::SetBack { was: 4 });
        assert_eq!(standing(&all, &[], &all[..1]), Standing::SetBack { was: 0 });
        assert_eq!(standing(&all, &other, &all[..2]), Standing::Forked);
        assert_eq!(standing(&all, &other, &all[..4]), Standing::SetBack { was: 3 });
    }

    #[test]
    fn what_is_remembered_is_read_again() {
        let end = Head { seq: 7, entry: EntryId([8; 32]) };
        let memory =
            Memory::from([((NODE, DeviceId([4; 32])), end), ((OTHER, DeviceId([5; 32])), end)]);
        assert_eq!(parse(&print(&memory)), Some(memory));
        assert_eq!(parse(""), Some(Memory::new()));
        assert_eq!(parse("x y 1 z\n"), None);
    }
}
