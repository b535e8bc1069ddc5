//! Connections, the exchanges on them, and the fate of each message. Who is at an end and what it makes
//! of a message is not decided here.

use crate::plan::{LinkQuality, Who};
use crate::random::Random;
use protocol::peer::{CallId, LaneId, LinkId};
use protocol::time::{Mono, Period};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    dead: bool,
    /// The streams that are open on it.
    lanes: Vec<LaneId>,
}

/// A request and the answer to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) link: LinkId,
    pub(crate) asker: End,
    /// The asking peer's name for it; clients have none.
    pub(crate) call: Option<CallId>,
}

/// Exchanges that will not be answered, with their streams.
pub(crate) type Unanswered = Vec<(LaneId, Exchange)>;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives(Period),
    Lost,
}

/// Ends, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) nodes: Vec<bool>,
    pub(crate) client: Option<usize>,
    pub(crate) all_clients: bool,
}

impl Group {
    fn has(&self, end: End) -> bool {
        match end {
            End::Node(node) => self.nodes.get(node).copied().unwrap_or(false),
            End::Client(client) => self.all_clients || self.client == Some(client),
        }
    }
}

/// Whether so few messages are lost that those who repeat them get through.
pub(crate) fn is_fair(quality: &LinkQuality) -> bool {
    quality.loss_per_mille <= 100
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) config: NetworkConfig,
    /// Messages from these to those are lost.
    pub(crate) parts: Vec<(Group, Group)>,
    /// Links between these and those are like that; the last that fits counts.
    pub(crate) qualities: Vec<(Group, Group, LinkQuality)>,
    /// Those of the beginning come first.
    pub(crate) given: usize,
    /// Until when nodes cannot be reached.
    pub(crate) dark: BTreeMap<usize, Mono>,
    /// Until when what was sent from one end to another one takes, where only so much goes through in a second.
    busy: BTreeMap<(End, End), Mono>,
    of_end: BTreeMap<End, BTreeSet<LinkId>>,
    links: BTreeMap<LinkId, Link>,
    exchanges: BTreeMap<LaneId, Exchange>,
    next: u64,
}

impl Network {
    pub(crate) fn new(config: NetworkConfig) -> Self {
        Self {
            config,
            parts: Vec::new(),
            qualities: Vec::new(),
            given: 0,
            dark: BTreeMap::new(),
            busy: BTreeMap::new(),
            of_end: BTreeMap::new(),
            links: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            next: 0,
        }
    }

    /// Whether nobody reaches an end.
    pub(crate) fn is_dark(&self, now: Mono, end: End) -> bool {
        match end {
            End::Node(node) => self.dark.get(&node).is_some_and(|&until| now < until),
            End::Client(_) => false,
        }
    }

    /// Whether all ends that are not dark are of use to each other.
    pub(crate) fn is_open(&self) -> bool {
        self.parts.is_empty() && self.qualities.is_empty() && is_fair(&self.config.quality)
    }

    /// Whether messages from one end reach the other.
    pub(crate) fn reaches(&self, now: Mono, from: End, to: End) -> bool {
        !self.is_dark(now, from)
            && !self.is_dark(now, to)
            && !self.parts.iter().any(|(here, there)| here.has(from) && there.has(to))
    }

    fn quality(&self, from: End, to: End) -> &LinkQuality {
        let fits = |(here, there, _): &&(Group, Group, LinkQuality)| {
            (here.has(from) && there.has(to)) || (here.has(to) && there.has(from))
        };
        self.qualities
            .iter()
            .rev()
            .find(fits)
            .map_or(&self.config.quality, |(_, _, quality)| quality)
    }

    /// Whether a link between two ends loses so few messages that it is of use.
    pub(crate) fn is_fair(&self, from: End, to: End) -> bool {
        is_fair(self.quality(from, to))
    }

    /// What becomes of a message of so many bytes. Where only so much goes through in a second, it waits for those before it.
    pub(crate) fn fate(
        &mut self,
        random: &mut Random,
        now: Mono,
        (from, to): (End, End),
        bytes: usize,
    ) -> Fate {
        let quality = self.quality(from, to);
        if random.happens(quality.loss_per_mille) || !self.reaches(now, from, to) {
            return Fate::Lost;
        }
        let takes = random.between(quality.latency_min, quality.latency_max);
        let Some(transfer) = (bytes as u64 * 1000).checked_div(quality.bytes_per_second) else {
            return Fate::Arrives(takes);
        };
        let free = self.busy.entry((from, to)).or_insert(now);
        *free = (*free).max(now).after(Period(transfer));
        Fate::Arrives(Period(takes.0 + free.0 - now.0))
    }

    /// All partitions and changed links are over.
    pub(crate) fn heal(&mut self) {
        self.parts.clear();
        self.dark.clear();
        self.busy.clear();
        self.qualities.truncate(self.given);
    }

    pub(crate) fn connect(&mut self, ends: [End; 2]) -> LinkId {
        self.next += 1;
        self.links.insert(LinkId(self.next), Link { ends, dead: false, lanes: Vec::new() });
        for end in ends {
            self.of_end.entry(end).or_default().insert(LinkId(self.next));
        }
        LinkId(self.next)
    }

    /// Opens a stream for one exchange.
    pub(crate) fn open(&mut self, exchange: Exchange) -> LaneId {
        self.next += 1;
        if let Some(link) = self.links.get_mut(&exchange.link) {
            link.lanes.push(LaneId(self.next));
        }
        self.exchanges.insert(LaneId(self.next), exchange);
        LaneId(self.next)
    }

    /// A stream's name that no stream has.
    pub(crate) fn name_lane(&mut self) -> LaneId {
        self.next += 1;
        LaneId(self.next)
    }

    pub(crate) fn exchange(&self, lane: LaneId) -> Option<Exchange> {
        self.exchanges.get(&lane).copied()
    }

    /// Ends an exchange that has been answered.
    pub(crate) fn close(&mut self, lane: LaneId) -> Option<Exchange> {
        let exchange = self.exchanges.remove(&lane)?;
        if let Some(link) = self.links.get_mut(&exchange.link)
            && let Some(place) = link.lanes.iter().position(|other| *other == lane)
        {
            link.lanes.swap_remove(place);
        }
        Some(exchange)
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
    pub(crate) fn remove(&mut self, link: LinkId) -> Option<([End; 2], Unanswered)> {
        let mut removed = self.links.remove(&link)?;
        for end in removed.ends {
            if let Some(links) = self.of_end.get_mut(&end) {
                links.remove(&link);
            }
        }
        removed.lanes.sort_unstable();
        let lost = |lane: LaneId| Some((lane, self.exchanges.remove(&lane)?));
        let lost = removed.lanes.into_iter().filter_map(lost).collect();
        Some((removed.ends, lost))
    }

    /// The connections that end at a place.
    pub(crate) fn links_of(&self, end: End) -> Vec<LinkId> {
        self.of_end.get(&end).into_iter().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_between_two_ends_shares_what_goes_through_in_a_second() {
        let (latency_min, latency_max) = (Period(10), Period(10));
        let narrow = LinkQuality {
            latency_min,
            latency_max,
            bytes_per_second: 1000,
            ..LinkQuality::default()
        };
        let mut network =
            Network::new(NetworkConfig { quality: narrow, ..NetworkConfig::default() });
        let (here, there, other) = (End::Node(0), End::Node(1), End::Node(2));
        let mut send = |now: u64, ends: (End, End)| match network.fate(
            &mut Random::new(1),
            Mono(now),
            ends,
            500,
        ) {
            Fate::Arrives(takes) => takes.0,
            Fate::Lost => unreachable!("nothing is lost here"),
        };
        assert_eq!([send(0, (here, there)), send(0, (here, there))], [510, 1010]);
        // The other direction and other ends have their own.
        assert_eq!([send(0, (there, here)), send(0, (here, other))], [510, 510]);
        assert_eq!([send(400, (here, there)), send(9000, (here, there))], [1110, 510]);
    }
}
