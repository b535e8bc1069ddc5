//! A node's place in the world: its peer while it runs, its disk, and what the driver around a peer
//! would keep in memory.

use crate::clock::Clock;
use crate::disk::{Disk, DiskConfig};
use crate::setup::{Setup, certify, operator_key};
use protocol::Peer;
use protocol::certificate::{NodeCertificate, Trust};
use protocol::id::NodeId;
use protocol::label::{Labels, Site};
use protocol::lock_clock::BootId;
use protocol::peer::{Input, LaneId, LinkId, PeerConfig};
use protocol::sign::{SecretKey, Signed};
use protocol::succession::Speaker;
use protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// The bytes behind a put, while they arrive.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) link: LinkId,
    pub(crate) bytes: Vec<u8>,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Host {
    index: usize,
    key: SecretKey,
    certificate: Signed<NodeCertificate>,
    /// Who certifies it.
    speaker: Speaker,
    trust: Trust,
    config: PeerConfig,
    pub(crate) site: Site,
    pub(crate) disk: Disk,
    pub(crate) peer: Option<Peer>,
    /// Counts starts: what was begun for an earlier one concerns nobody now.
    pub(crate) start: u64,
    pub(crate) wake_at: Option<Mono>,
    /// For what its own clock shows it was planned last.
    pub(crate) wakes_for: Mono,
    pub(crate) dialing: BTreeSet<NodeId>,
    pub(crate) raw: BTreeMap<LaneId, Raw>,
    pub(crate) vanished: bool,
    /// Somebody else runs it: nothing that it does or promised counts.
    pub(crate) seized: bool,
    pub(crate) clock: Clock,
    /// Of a thousand writes so many fail.
    pub(crate) fails_per_mille: u32,
    pub(crate) is_full: bool,
    /// How its disk behaves.
    pub(crate) writes: DiskConfig,
    /// So many times as long it takes now.
    pub(crate) slow: u32,
    pub(crate) joins_later: bool,
    pub(crate) operator: String,
    /// Its operator takes it away,
    pub(crate) leaves: bool,
    /// or once wanted to.
    pub(crate) has_left: bool,
    /// Its clock was far from the truth at some time.
    pub(crate) lies: bool,
    /// It says of the nodes of this operator that they lack what they have, and are silent.
    pub(crate) slanders: Option<String>,
    boots: u64,
}

impl Host {
    pub(crate) fn new(setup: &Setup, index: usize) -> Self {
        let certificate = setup.certificate(index);
        let site = certificate.verify().expect("signed by its operator just now").site();
        let mut config = setup.config(index);
        let first = setup.first_of(index);
        if index != first {
            config.bootstrap = vec![(Setup::node_key(first).public().into(), vec![address(first)])];
        }
        Self {
            index,
            key: Setup::node_key(index),
            certificate,
            speaker: Speaker::first(operator_key(&setup.nodes[index].operator)),
            trust: setup.trust(index),
            config,
            site,
            disk: Disk::default(),
            peer: None,
            start: 0,
            wake_at: None,
            wakes_for: Mono(0),
            dialing: BTreeSet::new(),
            raw: BTreeMap::new(),
            vanished: false,
            seized: false,
            clock: Clock::new(setup.nodes[index].drift_ppm, setup.nodes[index].offset_ms),
            fails_per_mille: 0,
            is_full: false,
            writes: setup.nodes[index].disk.clone().unwrap_or_else(|| setup.disk.clone()),
            slow: 1,
            operator: setup.nodes[index].operator.clone(),
            leaves: false,
            has_left: false,
            lies: false,
            slanders: None,
            joins_later: setup.nodes[index].joins_later,
            boots: 0,
        }
    }

    /// Whether what it promised counts.
    pub(crate) fn is_honest(&self) -> bool {
        !self.vanished && !self.seized && self.slanders.is_none()
    }

    pub(crate) fn key(&self) -> &SecretKey {
        &self.key
    }

    pub(crate) fn config(&self) -> &PeerConfig {
        &self.config
    }

    pub(crate) fn certificate(&self) -> &Signed<NodeCertificate> {
        &self.certificate
    }

    /// Starts the node on what its disk holds; the machine was booted before, or only the program was started again.
    pub(crate) fn start(&mut self, now: Mono, is_booted: bool) {
        if is_booted {
            self.clock.boot(now);
            self.boots += 1;
        }
        self.start += 1;
        let draw = |what: &str, count: u64| -> [u8; 32] {
            blake3::derive_key(
                "strewn 2026-11 simulator start v1",
                format!("{what} {} {count}", self.index).as_bytes(),
            )
        };
        let boot = draw("boot", self.boots);
        self.config.boot = BootId(std::array::from_fn(|i| boot[i]));
        self.config.seed = draw("start", self.start);
        let now = self.clock.read(now);
        let peer = Peer::new(
            self.key.clone(),
            &self.certificate,
            self.trust.clone(),
            vec![address(self.index)],
            self.config.clone(),
            now,
            self.disk.facts(),
        );
        // A clock that is years off makes a node's own certificate count for nothing: then it stays down.
        self.peer = peer.ok();
        let Some(peer) = &mut self.peer else { return };
        if self.is_full {
            peer.handle(now, self.disk.facts(), Input::Space(0));
        }
        if self.leaves {
            peer.handle(now, self.disk.facts(), Input::Leaving(true));
        }
    }

    /// Has a certificate that states these labels from the next start on.
    pub(crate) fn relabel(&mut self, labels: Labels) {
        let certificate = certify(self.key.public().into(), &self.speaker, labels);
        self.site = certificate.verify().expect("signed by its operator just now").site();
        self.certificate = certificate;
    }

    /// Has a certificate by another key of its operator.
    pub(crate) fn speak(&mut self, speaker: Speaker) {
        self.speaker = speaker;
        self.relabel(self.site.labels.clone());
    }

    /// Stops it at once, in the middle of whatever it does; so many bytes of what it writes are on the disk.
    pub(crate) fn stop(&mut self, torn: u64) {
        self.peer = None;
        self.disk.crash(torn);
        self.wake_at = None;
        self.dialing.clear();
        self.raw.clear();
    }
}

/// Where a node is reached.
pub(crate) fn address(index: usize) -> String {
    format!("sim/{index}")
}

/// The node that is reached at one of these addresses.
pub(crate) fn resolve(addresses: &[String]) -> Option<usize> {
    addresses.iter().find_map(|address| address.strip_prefix("sim/")?.parse().ok())
}
