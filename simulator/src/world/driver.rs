//! What peers want done, and doing it with what surrounds them: disks, links, the time. As a driver around a peer it decides nothing.

use super::rebuild::Work;
use super::{Event, World};
use crate::disk::DiskConfig;
use crate::faults::BROKEN_PPM;
use crate::host::{Host, resolve};
use crate::network::{End, Fate, Frame};
use protocol::Peer;
use protocol::audit::prove_bytes;
use protocol::message::{RefusalCode, Response};
use protocol::peer::{Input, Note, Output, Pieces};
use protocol::time::Period;

impl World {
    pub(super) fn drive(&mut self, node: usize) {
        while let Some(output) = self.hosts[node].peer.as_mut().and_then(Peer::poll_output) {
            self.put_out(node, output);
        }
        let host = &mut self.hosts[node];
        let Some(at) = host.peer.as_ref().map(Peer::poll_timeout) else { return };
        // Mostly it is what it was, and planned.
        if host.wake_at.is_some() && host.wakes_for == at {
            return;
        }
        host.wakes_for = at;
        let at = host.clock.when(at).max(self.now);
        if host.wake_at.is_none_or(|planned| at < planned) {
            host.wake_at = Some(at);
            let start = host.start;
            self.cause_at(at, Event::Wake { node, start });
        }
    }

    fn put_out(&mut self, node: usize, output: Output) {
        let start = self.hosts[node].start;
        let end = End::Node(node);
        match output {
            Output::Reply { lane, mut response, close } => {
                if self.hosts[node].seized {
                    self.falsify(node, &mut response);
                }
                self.slander(node, &mut response);
                self.answer(end, lane, &response, Vec::new(), close);
            }
            Output::Look { lane, shard, len } => {
                let bytes = self.hosts[node].disk.shard(shard);
                let whole = bytes.is_some_and(|bytes| bytes.len() == len as usize)
                    || self.hosts[node].seized;
                self.tell(node, Input::Looked { lane, whole });
            }
            Output::Receive { lane, .. } => {
                let Some(exchange) = self.network.exchange(lane) else { return };
                let len = self.hosts[node].raw.get(&lane).map_or(0, |raw| raw.bytes.len());
                match self.fate((exchange.asker, end), len) {
                    Fate::Arrives(takes) => {
                        self.cause(takes, Event::Received { node, start, lane });
                    }
                    Fate::Lost => self.lose(exchange.link),
                }
            }
            Output::Discard { lane, response, .. } => {
                self.hosts[node].raw.remove(&lane);
                self.hosts[node].disk.discard(lane);
                self.answer(end, lane, &response, Vec::new(), false);
            }
            Output::Transmit { lane, shard, offset, len, .. } => {
                let bytes = self.hosts[node].disk.shard(shard);
                let range = offset as usize..offset as usize + len as usize;
                let mut bytes = bytes.and_then(|bytes| bytes.get(range)).map(<[u8]>::to_vec);
                if self.hosts[node].seized {
                    bytes = Some(vec![0; len as usize]);
                }
                let response = match bytes {
                    Some(_) => Response::Bytes { len },
                    None => Response::refused(RefusalCode::Damaged, "not on this disk"),
                };
                self.answer(end, lane, &response, bytes.unwrap_or_default(), false);
            }
            Output::Scrub { shard, len } => {
                let bytes = self.hosts[node].disk.shard(shard);
                let is_whole = bytes.is_some_and(|bytes| {
                    bytes.len() == len as usize && *blake3::hash(bytes).as_bytes() == shard.0
                });
                // Whoever has seized a node says that all is well.
                let is_bad = !is_whole && !self.hosts[node].seized;
                let what = is_bad.then(|| "not on this disk".to_owned());
                self.tell(node, Input::Scrubbed { shard, what });
            }
            Output::Prove { lane, pieces } => {
                let disk = &self.hosts[node].disk;
                let prove = |pieces: Option<Pieces>| {
                    let Pieces { shard, groups, .. } = pieces?;
                    prove_bytes(shard, &groups, disk.shard(shard)?).ok()
                };
                let proofs = pieces.into_iter().map(prove).collect();
                self.tell(node, Input::Proved { lane, proofs });
            }
            Output::Persist { token, writes, shard } => {
                let takes = self.takes(node);
                if let Some((lane, shard, note)) = &shard {
                    self.checker.received(self.now, node, (*lane, *shard), note);
                }
                let shard = shard.map(|(lane, shard, _)| (lane, shard));
                let at = self.hosts[node].disk.begin(self.now, takes, token, writes, shard);
                self.cause_at(at, Event::Durable { node, start });
            }
            Output::Drop { shard, decision } => {
                if self.hosts[node].is_honest() && self.hosts[node].clock.ppm().abs() < BROKEN_PPM {
                    self.checker.error = self.checker.error.max(self.honest_error());
                    self.checker.drop(self.now, node, shard, &decision);
                }
                let takes = self.takes(node);
                self.cause(takes, Event::Removed { node, start, shard });
            }
            Output::Rebuild { job, record, sources, targets } => {
                self.rebuild(node, job, *record, sources, Work::Put(targets));
            }
            Output::Mend { job, record, sources, index } => {
                self.rebuild(node, job, *record, sources, Work::Mend(index));
            }
            Output::Dial { node: expected, addresses } => {
                if self.hosts[node].dialing.insert(expected) {
                    match resolve(&addresses) {
                        Some(target) => self.dial(end, start, target, expected),
                        None => self.dial_failed(end, expected),
                    }
                }
            }
            Output::Greet { call, link, greeting } => {
                self.ask(end, link, Some(call), Frame::new(greeting.encode()));
            }
            Output::Call { call, link, request } => {
                self.ask(end, link, Some(call), Frame::new(request.encode()));
            }
            Output::Close { link } => self.cause(Period(0), Event::Broken(link)),
            Output::Note(Note::Cooling { .. }) => {
                self.is_cooling = true;
                self.strike();
            }
            Output::Note(Note::PartnerFrozen { operator, .. }) => {
                let own = self.site(node).operator;
                if let Some(swaps) = &mut self.swaps {
                    swaps.parts_from(own, operator);
                }
            }
            Output::Note(Note::AuditFailed { node: holder, stripe, outcome }) => {
                let Some(holder) = self.node_of(holder) else { return };
                let (what, short) = (outcome.as_str(), stripe.short());
                self.note(format_args!("node {node}: node {holder} {what}, of {short}"));
            }
            Output::Note(Note::Miscounted { vault, kept, counted }) => {
                // No fault of a disk alters what is kept of that.
                if self.hosts[node].is_honest() {
                    let text =
                        format!("node {node} kept {kept:?} of vault {vault}, {counted:?} is held");
                    self.checker().report("conservation", text);
                }
            }
            Output::Note(Note::Unproved { node: holder, stripe }) => {
                self.check_blame(node, holder, stripe);
            }
            Output::Note(_) => {}
        }
    }

    /// How long a node's disk takes for a write.
    fn takes(&mut self, node: usize) -> Period {
        let Host { writes: DiskConfig { write_min, write_max }, slow, .. } = self.hosts[node];
        self.random.between(write_min, Period(write_max.0.saturating_mul(slow.into())))
    }
}
