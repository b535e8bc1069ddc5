//! A node's place in the world: its peer while it runs, its disk, and what the driver around a peer
//! would keep in memory.

use crate::disk::Disk;
use crate::setup::Setup;
use protocol::Peer;
use protocol::certificate::{NodeCertificate, Trust};
use protocol::id::NodeId;
use protocol::label::Site;
use protocol::peer::{LaneId, LinkId, PeerConfig};
use protocol::sign::{SecretKey, Signed};
use protocol::time::{Mono, Now};
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
    trust: Trust,
    config: PeerConfig,
    pub(crate) site: Site,
    pub(crate) disk: Disk,
    pub(crate) peer: Option<Peer>,
    /// Counts starts: what was begun for an earlier one concerns nobody now.
    pub(crate) start: u64,
    pub(crate) wake_at: Option<Mono>,
    pub(crate) dialing: BTreeSet<NodeId>,
    pub(crate) raw: BTreeMap<LaneId, Raw>,
    pub(crate) vanished: bool,
}

impl Host {
    pub(crate) fn new(setup: &Setup, index: usize) -> Self {
        let certificate = setup.certificate(index);
        let site = certificate.verify().expect("signed by its operator just now").site();
        let mut config = setup.config(index);
        if index != 0 {
            config.bootstrap = vec![(Setup::node_key(0).public().into(), vec![address(0)])];
        }
        Self {
            index,
            key: Setup::node_key(index),
            certificate,
            trust: setup.trust(),
            config,
            site,
            disk: Disk::default(),
            peer: None,
            start: 0,
            wake_at: None,
            dialing: BTreeSet::new(),
            raw: BTreeMap::new(),
            vanished: false,
        }
    }

    pub(crate) fn certificate(&self) -> &Signed<NodeCertificate> {
        &self.certificate
    }

    /// Starts the node on what its disk holds.
    pub(crate) fn start(&mut self, now: Now) {
        let peer = Peer::new(
            self.key.clone(),
            &self.certificate,
            self.trust.clone(),
            vec![address(self.index)],
            self.config.clone(),
            now,
            self.disk.facts(),
        );
        self.peer = Some(peer.expect("certified for the whole run, on a disk that does not rot"));
        self.start += 1;
    }

    /// Stops it at once, in the middle of whatever it does.
    pub(crate) fn stop(&mut self) {
        self.peer = None;
        self.disk.crash();
        self.wake_at = None;
        self.dialing.clear();
        self.raw.clear();
    }
}

/// Where a node is reached.
fn address(index: usize) -> String {
    format!("sim/{index}")
}

/// The node that is reached at one of these addresses.
pub(crate) fn resolve(addresses: &[String]) -> Option<usize> {
    addresses.iter().find_map(|address| address.strip_prefix("sim/")?.parse().ok())
}
