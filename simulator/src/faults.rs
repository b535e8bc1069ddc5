//! What a plan has happen to nodes, links, clocks and disks, and to whom it hands the rest: owners and attackers.

use crate::clock::Clock;
use crate::host::Host;
use crate::network::{End, Group, is_fair};
use crate::plan::{Moment, What, Who};
use crate::setup::Setup;
use crate::world::{Event, World};
use protocol::message::Response;
use protocol::peer::Input;
use protocol::record::Receipt;
use protocol::sign::Signed;
use protocol::time::{Mono, Period};
use std::collections::BTreeSet;

/// A clock that is off by more was not drifting: it lies, or was set.
const HONEST_ERROR: Period = Period::seconds(60);
/// A clock that drifts by more, in millionths, is broken: nothing is promised by it.
pub(crate) const BROKEN_PPM: i32 = 1000;

impl World {
    /// The links that a setup gives other qualities.
    pub(crate) fn links_of_setup(&mut self, setup: &Setup) {
        for (from, to, quality) in &setup.network.links {
            let link = (self.group(from), self.group(to), quality.clone());
            self.network.qualities.push(link);
        }
        self.network.given = self.network.qualities.len();
    }

    /// The nodes that are meant.
    pub(crate) fn meant(&self, who: &Who) -> Vec<usize> {
        let is_meant = |&node: &usize| {
            let host = &self.hosts[node];
            who.is(node, &host.operator, &host.site.labels)
        };
        (0..self.hosts.len()).filter(is_meant).collect()
    }

    fn group(&self, who: &Who) -> Group {
        let mut nodes = vec![false; self.hosts.len()];
        for node in self.meant(who) {
            nodes[node] = true;
        }
        let client = match who {
            Who::Device(vault) => self.owners.get(*vault).map(|owner| owner.client),
            _ => None,
        };
        Group { nodes, client, all_clients: *who == Who::All }
    }

    /// Something of the plan happens.
    pub(crate) fn carry_out(&mut self, what: What) {
        self.note(format_args!("{what:?}"));
        match what {
            What::BackUp { vault, .. }
            | What::Release { vault, .. }
            | What::Discharge { vault, .. }
            | What::Veto { vault, .. }
            | What::Hold { vault, .. }
            | What::Revoke { vault }
            | What::Restore { vault } => self.order(vault, what),
            What::Forget { vault, keep } => self.forget(vault, keep),
            What::Recover { vault, by } => self.recover(vault, by),
            What::Attack(attack) => self.attack(attack),
            What::Agree(swap) => self.agree(&swap),
            What::Notice { by, to } => self.give_notice(&by, &to),
            What::Succeed { operator } => self.succeed(&operator),
            What::Lurk { until, then } => self.lurking.push((until, *then)),
            fault => {
                let until = match &fault {
                    What::Dark { period, .. } => self.now().after(*period),
                    _ => self.now(),
                };
                self.disturbed = self.disturbed.max(until);
                self.fault(fault);
            }
        }
        self.strike();
    }

    fn fault(&mut self, what: What) {
        let now = self.now();
        self.note_presence();
        match what {
            What::Crash(who) => self.each(&who, Self::crash),
            What::Start(who) => self.each(&who, Self::start),
            What::Restart { who, after } => {
                self.each(&who, Self::crash);
                self.cause_at(now.after(after), Event::Do(Box::new(What::Start(who))));
            }
            What::Vanish(who) => {
                if self.meant(&who).iter().any(|&node| !self.hosts[node].vanished) {
                    self.lost.push((Period(now.0), format!("{who:?} vanished")));
                }
                self.each(&who, Self::vanish_node);
            }
            What::Leave(who) => self.each(&who, Self::leave),
            What::Stay(who) => self.each(&who, Self::stay),
            What::Relabel { who, labels } => {
                self.each(&who, |world, node| world.relabel(node, &labels));
            }
            What::Dark { who, period } => {
                self.cause_at(now.after(period), Event::Lit);
                for node in self.meant(&who) {
                    let until = self.network.dark.entry(node).or_default();
                    *until = now.after(period).max(*until);
                    for link in self.network.links_of(End::Node(node)) {
                        self.lose(link);
                    }
                }
            }
            What::Seize(who) => {
                let is_theirs = |host: &Host| host.vanished || host.seized;
                if self.meant(&who).iter().any(|&node| !is_theirs(&self.hosts[node])) {
                    self.lost.push((Period(now.0), format!("{who:?} seized")));
                }
                self.each(&who, Self::seize);
            }
            What::Part { from, to, one_way } => {
                let (from, to) = (self.group(&from), self.group(&to));
                if !one_way {
                    self.network.parts.push((to.clone(), from.clone()));
                }
                self.network.parts.push((from, to));
            }
            What::Heal => self.network.heal(),
            What::Link { from, to, quality } => {
                let link = (self.group(&from), self.group(&to), quality);
                self.network.qualities.push(link);
            }
            What::ClockJump { who, by_ms } => {
                self.turn_clocks(&who, |clock, now| clock.jump(now, by_ms));
            }
            What::ClockDrift { who, ppm } => {
                self.turn_clocks(&who, |clock, now| clock.drift(now, ppm));
            }
            What::Rot { who, per_mille, loud } => {
                for node in self.meant(&who) {
                    for shard in self.hosts[node].disk.names() {
                        if self.random().happens(per_mille) {
                            self.checker().rot(node, shard);
                            let disk = &mut self.hosts[node].disk;
                            if loud { disk.remove(shard) } else { disk.damage(shard) }
                        }
                    }
                }
            }
            What::DiskFails { who, per_mille } => {
                self.each(&who, |world, node| world.hosts[node].fails_per_mille = per_mille);
            }
            What::DiskFull { who, full } => self.each(&who, |world, node| {
                world.hosts[node].is_full = full;
                world.tell(node, Input::Space(if full { 0 } else { u64::MAX }));
            }),
            What::DiskSlow { who, times } => self.each(&who, |world, node| {
                world.hosts[node].slow = times.max(1);
            }),
            _ => {}
        }
    }

    fn each(&mut self, who: &Who, act: impl Fn(&mut Self, usize)) {
        for node in self.meant(who) {
            act(self, node);
        }
    }

    fn turn_clocks(&mut self, who: &Who, turn: impl Fn(&mut Clock, Mono)) {
        let now = self.now();
        for node in self.meant(who) {
            turn(&mut self.hosts[node].clock, now);
            self.watch_clock(node);
            self.wake_anew(node);
        }
    }

    /// Sees whether a node's clock is still one whose word can be taken.
    pub(crate) fn watch_clock(&mut self, node: usize) {
        let now = self.now();
        let host = &mut self.hosts[node];
        host.lies |= host.clock.error(now) > HONEST_ERROR || host.clock.ppm().abs() >= BROKEN_PPM;
        if !host.lies {
            return;
        }
        // A node hears those whom its operator knows.
        let is_heard = |by: &Host, host: &Host| {
            self.swaps.as_ref().is_none_or(|s| s.are_partners(&by.operator, &host.operator))
        };
        let of = |by: &Host, lying: bool| -> usize {
            let hosts =
                self.hosts.iter().filter(|host| (!lying || host.lies) && is_heard(by, host));
            hosts.map(|host| host.operator.as_str()).collect::<BTreeSet<_>>().len()
        };
        // Half of them, but for the node's own one, can be a majority.
        let is_outvoted = |by: &Host| of(by, true) > 0 && 2 * of(by, true) + 1 >= of(by, false);
        let by = if self.swaps.is_some() { self.hosts.len() } else { 1 };
        let outvoted = self.hosts.iter().take(by).any(is_outvoted);
        self.checker().is_outvoted |= outvoted;
    }

    /// The worst error of the clocks that are honest.
    pub(crate) fn honest_error(&self) -> Period {
        let honest = self.hosts.iter().filter(|host| !host.lies);
        honest.map(|host| host.clock.error(self.now())).max().unwrap_or_default()
    }

    /// Somebody else has the node.
    pub(crate) fn seize(&mut self, node: usize) {
        self.hosts[node].seized = true;
        for shard in self.hosts[node].disk.names() {
            self.hosts[node].disk.remove(shard);
        }
        let by_ms = if self.random().happens(500) { 86_400_000 } else { -86_400_000 };
        let now = self.now();
        self.hosts[node].clock.jump(now, by_ms);
        self.watch_clock(node);
        self.wake_anew(node);
    }

    /// A seized node promises less than it was asked.
    pub(crate) fn falsify(&mut self, node: usize, response: &mut Response) {
        if let Response::Receipt(signed) = response
            && let Ok(receipt) = signed.verify()
            && receipt.holder == self.hosts[node].site.node
        {
            let keep = Period(receipt.keep.0 / 2);
            *signed = Signed::sign(&Receipt { keep, ..receipt }, self.hosts[node].key());
        }
    }

    /// Attackers that waited for this moment strike.
    pub(crate) fn strike(&mut self) {
        if self.lurking.is_empty() {
            return;
        }
        let (now, waiting) = (self.now(), std::mem::take(&mut self.lurking));
        for (until, then) in waiting {
            let is_now = match until {
                Moment::Cooling => self.is_cooling,
                Moment::Repairing => self.is_repairing(),
                Moment::LockEnded => self.checker_ref().is_any_over(now),
                moment => self.owners.iter().any(|owner| owner.is_now(moment)),
            };
            if is_now {
                self.cause_at(now, Event::Do(Box::new(then)));
            } else {
                self.lurking.push((until, then));
            }
        }
    }

    /// Whether all faults are over that can keep people from what they do.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_calm() && !self.hosts.iter().any(|host| host.seized && !host.vanished)
    }

    /// Whether all faults are over that can keep nodes from what they do.
    pub(crate) fn is_calm(&self) -> bool {
        let is_up = self.hosts.iter().all(|host| {
            host.vanished || (host.peer.is_some() && host.fails_per_mille == 0 && !host.is_full)
        });
        is_up
            && is_fair(&self.network.config.quality)
            && self.network.parts.is_empty()
            && self.network.dark.values().all(|&until| until <= self.now())
            && self.network.qualities.iter().all(|(_, _, quality)| is_fair(quality))
    }
}
