//! What happened, as one hash over all of it and the last events as text. There are hundreds of millions of events: what they say is hashed as numbers, and
//! put into words for the last ones alone, when somebody asks.

use crate::network::{End, Frame};
use protocol::id::ShardId;
use protocol::peer::{LaneId, LinkId};
use protocol::time::Mono;
use std::collections::VecDeque;
use std::fmt;

/// Events kept for people: enough to see what led to a failure.
const TAIL_MAX: usize = 64;

/// What is to be hashed waits until there is this much of it: a hash of much at once is several times as fast.
const HASHED_AT_ONCE: usize = 64 << 10;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Line {
    Dialed {
        from: End,
        node: usize,
        lost: bool,
    },
    /// A message of a kind, of so many bytes and more behind it.
    Arrived {
        to: End,
        link: LinkId,
        lane: LaneId,
        kind: u8,
        body: usize,
        raw: usize,
    },
    Broken(LinkId),
    Received {
        node: usize,
        lane: LaneId,
    },
    Durable {
        node: usize,
        token: u64,
        fails: bool,
    },
    Removed {
        node: usize,
        shard: ShardId,
    },
    Woken {
        node: usize,
    },
    /// Something rarer.
    Said(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialed { from, node, lost } => {
                write!(f, "{from} dialed node {node}, lost: {lost}")
            }
            Self::Arrived { to, link, lane, kind, body, raw } => {
                let (link, lane) = (link.0, lane.0);
                write!(f, "{to}, link {link}, lane {lane}: frame kind {kind} of {body}+{raw} bytes")
            }
            Self::Broken(link) => write!(f, "link {} is gone", link.0),
            Self::Received { node, lane } => write!(f, "node {node} received, lane {}", lane.0),
            Self::Durable { node, token, fails: false } => {
                write!(f, "node {node} has {token} durable")
            }
            Self::Durable { node, token, fails: true } => {
                write!(f, "node {node} cannot write {token}")
            }
            Self::Removed { node, shard } => write!(f, "node {node} has removed {shard}"),
            Self::Woken { node } => write!(f, "node {node} wakes"),
            Self::Said(text) => f.write_str(text),
        }
    }
}

/// An end as a number.
fn number(end: End) -> u64 {
    match end {
        End::Node(node) => 2 * node as u64,
        End::Client(client) => 2 * client as u64 + 1,
    }
}

impl Line {
    /// What tells it from others: its kind first, and of words how many bytes they are.
    fn numbers(&self) -> [u64; 7] {
        let rest: [u64; 6] = match self {
            Self::Dialed { from, node, lost } => {
                [number(*from), *node as u64, (*lost).into(), 0, 0, 0]
            }
            Self::Arrived { to, link, lane, kind, body, raw } => {
                [number(*to), link.0, lane.0, (*kind).into(), *body as u64, *raw as u64]
            }
            Self::Broken(link) => [link.0, 0, 0, 0, 0, 0],
            Self::Received { node, lane } => [*node as u64, lane.0, 0, 0, 0, 0],
            Self::Durable { node, token, fails } => {
                [*node as u64, *token, (*fails).into(), 0, 0, 0]
            }
            Self::Removed { node, .. } | Self::Woken { node } => [*node as u64, 0, 0, 0, 0, 0],
            Self::Said(text) => [text.len() as u64, 0, 0, 0, 0, 0],
        };
        let kind = match self {
            Self::Dialed { .. } => 0,
            Self::Arrived { .. } => 1,
            Self::Broken(_) => 2,
            Self::Received { .. } => 3,
            Self::Durable { .. } => 4,
            Self::Removed { .. } => 5,
            Self::Woken { .. } => 6,
            Self::Said(_) => 7,
        };
        let mut numbers = [kind; 7];
        numbers[1..].copy_from_slice(&rest);
        numbers
    }
}

/// The trace of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    /// What comes behind that.
    waiting: Vec<u8>,
    events: u64,
    tail: VecDeque<(Mono, Line)>,
}

impl Trace {
    /// Adds an event.
    pub(crate) fn add(&mut self, now: Mono, line: Line) {
        let mut bytes = [0; 64];
        let (first, rest) = bytes.split_at_mut(8);
        first.copy_from_slice(&now.0.to_le_bytes());
        for (bytes, number) in rest.chunks_exact_mut(8).zip(line.numbers()) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        self.hash(&bytes);
        match &line {
            Line::Said(text) => self.hash(text.as_bytes()),
            Line::Removed { shard, .. } => self.hash(&shard.0),
            _ => {}
        }
        if self.tail.len() == TAIL_MAX {
            self.tail.pop_front();
        }
        self.events += 1;
        self.tail.push_back((now, line));
    }

    /// Adds that a message arrives.
    pub(crate) fn arrived(
        &mut self,
        now: Mono,
        (to, link, lane): (End, LinkId, LaneId),
        frame: &Frame,
    ) {
        let Frame { kind, body, raw } = frame;
        let (body_len, raw_len) = (body.len(), raw.len());
        self.add(now, Line::Arrived { to, link, lane, kind: *kind, body: body_len, raw: raw_len });
        self.hash(body);
        self.hash(raw);
    }

    fn hash(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= HASHED_AT_ONCE {
            self.hasher.update(&self.waiting);
            self.waiting.clear();
        }
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash of all events so far, as hex: two runs with the same one were the same run.
    #[must_use]
    pub fn digest(&self) -> String {
        self.hasher.clone().update(&self.waiting).finalize().to_hex().to_string()
    }

    /// The last events in words, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = String> {
        self.tail.iter().map(|(now, line)| format!("{:>9} {line}", now.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_tells_two_events_apart_makes_another_trace() {
        let end = End::Node(1);
        let (link, lane) = (LinkId(4), LaneId(5));
        let arrived =
            |to, link, lane, kind, body, raw| Line::Arrived { to, link, lane, kind, body, raw };
        let lines = [
            Line::Dialed { from: end, node: 2, lost: false },
            Line::Dialed { from: end, node: 2, lost: true },
            Line::Dialed { from: End::Client(1), node: 2, lost: false },
            arrived(end, link, lane, 1, 10, 0),
            arrived(End::Client(0), link, lane, 1, 10, 0),
            arrived(end, LinkId(5), lane, 1, 10, 0),
            arrived(end, link, LaneId(6), 1, 10, 0),
            arrived(end, link, lane, 2, 10, 0),
            arrived(end, link, lane, 1, 11, 0),
            arrived(end, link, lane, 1, 10, 1),
            Line::Broken(link),
            Line::Received { node: 1, lane },
            Line::Durable { node: 1, token: 5, fails: false },
            Line::Durable { node: 1, token: 5, fails: true },
            Line::Removed { node: 1, shard: ShardId([1; 32]) },
            Line::Removed { node: 1, shard: ShardId([2; 32]) },
            Line::Woken { node: 1 },
            Line::Said("node 1 starts".into()),
            Line::Said("node 2 starts".into()),
        ];
        let mut seen = std::collections::BTreeSet::new();
        let count = lines.len();
        for line in lines {
            let mut trace = Trace::default();
            trace.add(Mono(7), line);
            seen.insert(trace.digest());
        }
        let bodies = [&b"one"[..], b"two"].map(|body| Frame::new((2, body.to_vec())));
        for frame in bodies {
            let mut trace = Trace::default();
            trace.arrived(Mono(7), (end, link, lane), &frame);
            seen.insert(trace.digest());
        }
        assert_eq!(seen.len(), count + 2);
    }

    #[test]
    fn the_last_events_are_told_in_words() {
        let mut trace = Trace::default();
        for at in 0..100 {
            trace.add(Mono(at), Line::Woken { node: 3 });
        }
        assert_eq!((trace.events(), trace.tail().count()), (100, TAIL_MAX));
        assert_eq!(trace.tail().last().as_deref(), Some("       99 node 3 wakes"));
    }
}
