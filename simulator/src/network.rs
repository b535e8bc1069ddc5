//! Connections, the exchanges on them, and the fate of each message. Who is at an end and what it makes
//! of a message is not decided here.

use crate::plan::{LinkQuality, Who};
use crate::random::Random;
use protocol::peer::{CallId, LaneId, LinkId};
use protocol::time::Period;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How the network behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// How messages fare where nothing else is said.
    pub quality: LinkQuality,
    /// Where something else is, both ways: the last that fits counts.
    pub links: Vec<(Who, Who, LinkQuality)>,
    /// When whoever waits on a dead connection, or for one, gives up.
    pub give_up: Period,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        let quality = LinkQuality::default();
        Self { quality, links: Vec::new(), give_up: Period::seconds(15) }
    }
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Node(usize),
    Client(usize),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(index) => write!(f, "node {index}"),
            Self::Client(index) => write!(f, "client {index}"),
        }
    }
}

/// A message on its way: a frame's kind and body, and the raw bytes behind it.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
    pub(crate) raw: Vec<u8>,
}

impl Frame {
    pub(crate) fn new((kind, body): (u8, Vec<u8>)) -> Self {
        Self { kind, body, raw: Vec::new() }
    }

    pub(crate) fn followed_by(self, raw: Vec<u8>) -> Self {
        Self { raw, ..self }
    }

    fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.body).update(&self.raw);
        hasher.finalize().to_hex()[..16].to_owned()
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (body, raw) = (self.body.len(), self.raw.len());
        write!(f, "frame kind {} of {body}+{raw} bytes, {}", self.kind, self.digest())
    }
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    dead: bool,
}

/// A request and the answer to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) link: LinkId,
    pub(crate) asker: End,
    /// The asking peer's name for it; clients have none.
    pub(crate) call: Option<CallId>,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives(Period),
    Lost,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) config: NetworkConfig,
    links: BTreeMap<LinkId, Link>,
    exchanges: BTreeMap<LaneId, Exchange>,
    next: u64,
}

impl Network {
    pub(crate) fn new(config: NetworkConfig) -> Self {
        Self { config, links: BTreeMap::new(), exchanges: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn fate(&self, random: &mut Random) -> Fate {
        if random.happens(self.config.quality.loss_per_mille) {
            Fate::Lost
        } else {
            Fate::Arrives(
                random.between(self.config.quality.latency_min, self.config.quality.latency_max),
            )
        }
    }

    pub(crate) fn connect(&mut self, ends: [End; 2]) -> LinkId {
        self.next += 1;
        self.links.insert(LinkId(self.next), Link { ends, dead: false });
        LinkId(self.next)
    }

    /// Opens a stream for one exchange.
    pub(crate) fn open(&mut self, exchange: Exchange) -> LaneId {
        self.next += 1;
        self.exchanges.insert(LaneId(self.next), exchange);
        LaneId(self.next)
    }

    pub(crate) fn exchange(&self, lane: LaneId) -> Option<Exchange> {
        self.exchanges.get(&lane).copied()
    }

    /// Ends an exchange that has been answered.
    pub(crate) fn close(&mut self, lane: LaneId) -> Option<Exchange> {
        self.exchanges.remove(&lane)
    }

    /// The other end of a connection that is alive.
    pub(crate) fn other_end(&self, link: LinkId, end: End) -> Option<End> {
        let link = self.links.get(&link).filter(|link| !link.dead)?;
        link.ends.iter().copied().find(|&other| other != end)
    }

    /// Whether the connection still carries messages.
    pub(crate) fn is_alive(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| !link.dead)
    }

    /// Whether the connection is alive, or dead and nobody knows yet.
    pub(crate) fn seems_alive(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// From now on the connection carries nothing, and nobody knows yet. Whether it did until now.
    pub(crate) fn kill(&mut self, link: LinkId) -> bool {
        self.links.get_mut(&link).is_some_and(|link| !std::mem::replace(&mut link.dead, true))
    }

    /// Removes a connection: its ends, and the exchanges that will not be answered.
    pub(crate) fn remove(&mut self, link: LinkId) -> Option<([End; 2], Vec<Exchange>)> {
        let removed = self.links.remove(&link)?;
        let lost = self.exchanges.extract_if(.., |_, exchange| exchange.link == link);
        Some((removed.ends, lost.map(|(_, exchange)| exchange).collect()))
    }

    /// The connections that end at a place.
    pub(crate) fn links_of(&self, end: End) -> Vec<LinkId> {
        let ends_here = |(&id, link): (&LinkId, &Link)| link.ends.contains(&end).then_some(id);
        self.links.iter().filter_map(ends_here).collect()
    }
}
