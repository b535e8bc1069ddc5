//! P6: what is repaired, compared with what truly happened.
//!
//! - An order makes nothing worse: it ends in a placement that satisfies the policy, or in one that bears more losses than before
//!   (the one predicate, over all domains), and nothing that is concealed lies closer together.
//! - What is whole and lies well is not touched, but by a node that is nearly full, and then the policy holds without it.
//! - Nothing is moved for an outage: no order rebuilds what a node holds that was silent for a small part of the patience.
//! - Once all faults are over the mesh comes back to its policy within [`converges_within`], wherever there are nodes for that: also what
//!   was written degraded, or lies too close together since nodes came to lie elsewhere.
//! - That bytes are those of their name is compared with every receipt (`check_kept`).

use crate::setup::PeerSetup;
use crate::world::World;
use protocol::label::Site;
use protocol::peer::{Facts, Source, Table, Target};
use protocol::placement::{Candidate, conceal_margin, margin, solve};
use protocol::record::Record;
use protocol::repair::is_full;
use protocol::time::{Mono, Period};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// After all faults are over, every stripe satisfies its policy within this time if that can be: the patience until what is gone is
/// lost, once more for those who take over from others that fail, and an hour for what is refused, asked again and moved.
#[must_use]
pub(crate) fn converges_within(peer: &PeerSetup) -> Period {
    Period(2 * peer.patience.0 + 3_600_000)
}

/// Between two messages of a node to another one this part of the patience may pass: of what was silent for less nobody can say that
/// it is lost.
const SILENT_PART: u64 = 4;

/// Where shards lie too close together, it is tried whether copies of so many of them would do,
const COPIED_MAX: u32 = 2;
/// if the stripe has no more than so many.
const PLACES_MAX: usize = 10;
/// Of so many holders each may be known to be gone, or to leave, or not.
const UNSURE_MAX: usize = 8;

/// All choices among so many, none of them first and all of them last.
fn subsets(of: usize) -> impl Iterator<Item = impl Iterator<Item = bool>> {
    (0..1u32 << of).map(move |chosen| (0..of).map(move |bit| chosen >> bit & 1 == 1))
}

impl World {
    /// A node orders a repair.
    pub(crate) fn check_order(
        &mut self,
        node: usize,
        record: &Record,
        sources: &[Source],
        targets: &[Target],
    ) {
        if !self.hosts[node].is_honest() {
            return;
        }
        let stripe = record.stripe.id();
        // Who counts for the node: those whom it can ask, and those who are silent and not lost.
        let mut before: BTreeMap<u16, usize> = sources
            .iter()
            .filter_map(|source| Some((source.index, self.node_of(source.node)?)))
            .collect();
        let vault = record.stripe.vault;
        let is_free = |holder| self.checker_ref().discharged.contains(&(holder, stripe));
        before.retain(|_, holder| !is_free(*holder));
        let settles = |at: Mono| at.after(self.patience) > self.now();
        let mut is_clear = !self.relabelled.is_some_and(settles);
        let named = record.holders.iter().filter_map(|holder| self.node_of(*holder));
        // Without who is discharged the others may lie too close together.
        let named: Vec<usize> = named.collect();
        let named = named.into_iter().filter(|holder| !is_free(*holder));
        let named: Vec<&Site> = named.map(|holder| self.site(holder)).collect();
        let is_misplaced = margin(&record.policy, usize::from(record.stripe.k), &named) < 0;
        for (index, holder) in (0..).zip(&record.holders) {
            let Some(holder) = self.node_of(*holder) else { continue };
            let Some(silent) = self.silence(node, holder) else { return };
            let shard = record.stripe.shards[usize::from(index)];
            let is_target = targets.iter().any(|target| target.index == index);
            // What is there and lies well is not rebuilt; what lies too close together is copied, or made anew.
            let is_copied = is_misplaced || sources.iter().any(|source| source.index == index);
            let checker = self.checker_ref();
            // Whose clock shows another year is vouched for by nobody.
            let lies = self.hosts[holder].lies || self.hosts[node].lies;
            let is_sound = !lies
                && self.hosts[holder].is_honest()
                && !self.hosts[holder].has_left
                && !self.has_parted(vault, holder)
                && !self.is_slandered(holder)
                && self.hosts[holder].disk.has(shard)
                && !checker.ever_rotten.contains(&(holder, shard))
                && !checker.given_up.contains(&stripe)
                && !checker.discharged.contains(&(holder, stripe));
            if is_target && !is_copied {
                if is_sound && silent.0 < self.patience.0 / SILENT_PART {
                    let text = format!(
                        "node {node} rebuilds what node {holder} holds, which was silent for {silent}"
                    );
                    self.checker().report("P6", text);
                }
            } else if let Entry::Vacant(place) = before.entry(index) {
                // Counted if it is only silent; who has lost it and who is lost is not.
                if is_sound && silent.0 > 0 && silent.0 < self.patience.0 / SILENT_PART {
                    place.insert(holder);
                } else if !self.hosts[holder].leaves && !self.has_parted(vault, holder) {
                    is_clear = false;
                }
            }
        }
        let new =
            targets.iter().filter_map(|target| Some((target.index, self.node_of(target.node)?)));
        let new: Vec<(u16, usize)> = new.collect();
        let (policy, k) = (&record.policy, usize::from(record.stripe.k));
        let n = usize::from(record.stripe.n);
        let hides = self.hidden(record, &before, &new);
        let is_exposed = hides.iter().all(|hides| hides.1 < hides.0.min(0));
        let views = self.believed(record, &before).into_iter().map(|before| {
            let bears = |holders: &BTreeMap<u16, usize>| {
                let sites: Vec<&Site> = holders.values().map(|&node| self.site(node)).collect();
                margin(policy, k, &sites)
            };
            // Of what is copied the copy counts.
            let mut after = before.clone();
            after.extend(new.iter().copied());
            let bears = (bears(&before), bears(&after));
            // What is whole and lies well is not touched.
            let is_good = after.len() == n && bears.1 >= 0;
            let is_needed = before.len() < n || bears.0 < 0;
            let own = matches!(targets, [target] if before.get(&target.index) == Some(&node));
            let is_given = is_good && own && self.is_nearly_full(node);
            let is_right = is_good && is_needed || is_given || bears.1 > bears.0;
            (is_right, bears, before)
        });
        let views: Vec<_> = views.collect();
        let is_wrong = is_clear && views.iter().all(|(is_right, ..)| !is_right);
        if (is_wrong || is_exposed)
            && let (Some((_, bears, before)), Some(hides)) = (views.last(), hides.first())
        {
            let placed = |nodes: &[(u16, usize)]| {
                let shown = nodes.iter().map(|(index, node)| format!("{index} at {node}"));
                shown.collect::<Vec<String>>().join(", ")
            };
            let counted: Vec<(u16, usize)> = before.iter().map(|(i, node)| (*i, *node)).collect();
            let hidden = |margin: i64| match margin {
                i64::MAX => "what nobody asks it to".to_owned(),
                margin => margin.to_string(),
            };
            let text = format!(
                "node {node} repairs a stripe: it bears {} losses more and then {}, hides {} and then {}; {k} of {n}, recorded at {:?}, with shards {}, to which come {}",
                bears.0,
                bears.1,
                hidden(hides.0),
                hidden(hides.1),
                record.holders.iter().map(|holder| self.node_of(*holder)).collect::<Vec<_>>(),
                placed(&counted),
                placed(&new)
            );
            self.checker().report("P6", text);
        }
    }

    /// How much is hidden before an order and after it. What is concealed counts all that lies anywhere, and of holders that the node did not
    /// hear each may be there or not: one that is silent and not lost has what the record says.
    fn hidden(
        &self,
        record: &Record,
        before: &BTreeMap<u16, usize>,
        new: &[(u16, usize)],
    ) -> Vec<(i64, i64)> {
        let (policy, k) = (&record.policy, usize::from(record.stripe.k));
        let heard: BTreeSet<usize> = before.values().copied().collect();
        let named = record.holders.iter().filter_map(|holder| self.node_of(*holder));
        let stand_ins = self.checker_ref().standing_in(record.stripe.id()).map(|(node, ..)| node);
        let others: BTreeSet<usize> = named.chain(stand_ins).collect();
        let unsure: Vec<usize> = others.difference(&heard).copied().take(UNSURE_MAX).collect();
        let hidden = subsets(unsure.len()).map(|choice| {
            let there = unsure.iter().zip(choice).filter(|(_, is_there)| *is_there);
            let all: BTreeSet<usize> = there.map(|(node, _)| *node).chain(heard.clone()).collect();
            let mut sites: Vec<&Site> = all.iter().map(|&node| self.site(node)).collect();
            let before = conceal_margin(policy, k, &sites);
            let come = new.iter().map(|(_, to)| *to).filter(|to| !all.contains(to));
            sites.extend(come.map(|node| self.site(node)));
            (before, conceal_margin(policy, k, &sites))
        });
        hidden.collect()
    }

    /// Who may count for a node that repairs, of those that it hears. Who leaves has what it has and does not count, but it takes a while until a
    /// node goes by that, of each; and then it may have heard of who stands in for those, or not.
    fn believed(
        &self,
        record: &Record,
        before: &BTreeMap<u16, usize>,
    ) -> Vec<BTreeMap<u16, usize>> {
        let vault = record.stripe.vault;
        let has_left = |node: usize| self.hosts[node].has_left || self.has_parted(vault, node);
        let stand_in = |index: u16| {
            let shard = record.stripe.shards[usize::from(index)];
            let counts = |holder: usize| !has_left(holder) && self.hosts[holder].disk.has(shard);
            let mut stand_ins = self.checker_ref().standing_in(record.stripe.id());
            let found = stand_ins.find(|(holder, of, _)| *of == shard && counts(*holder));
            found.map(|(holder, ..)| holder)
        };
        let leavers = before.iter().filter(|(_, node)| has_left(**node)).map(|(index, _)| *index);
        let leavers: Vec<u16> = leavers.take(UNSURE_MAX).collect();
        let mut views = Vec::new();
        for choice in subsets(leavers.len()) {
            let known: Vec<u16> =
                leavers.iter().zip(choice).filter(|(_, is)| *is).map(|(index, _)| *index).collect();
            let mut without = before.clone();
            without.retain(|index, _| !known.contains(index));
            let others = known.iter().filter_map(|&index| Some((index, stand_in(index)?)));
            let mut with = without.clone();
            with.extend(others);
            views.extend([with, without]);
        }
        views
    }

    /// Whether a node gives what it has to others that have more room.
    fn is_nearly_full(&self, node: usize) -> bool {
        let host = &self.hosts[node];
        is_full(host.disk.bytes(), host.config().quota)
    }

    /// Whether what all owners need satisfies its policy, if all faults have been over for long enough and it can.
    pub(crate) fn check_converged(&mut self, setup: &PeerSetup, faults_end: Mono) {
        let since = faults_end.max(self.disturbed).after(converges_within(setup));
        // Where operators swap it is up to what they gave whether there is a place.
        let is_due = self.swaps.is_none()
            && self.now() >= since
            && self.is_calm()
            && setup.growth_per_day.is_none()
            && !self.hosts.iter().any(|host| host.lies && host.is_honest());
        if !is_due {
            return;
        }
        for owner in 0..self.owners.len() {
            for stripe in self.owners[owner].needed() {
                if let Some(text) = self.could_be_repaired(owner, stripe) {
                    self.checker().report("P6", text);
                    return;
                }
            }
        }
    }

    /// What is to be said of a stripe that does not satisfy its policy, and could.
    fn could_be_repaired(&self, owner: usize, stripe: usize) -> Option<String> {
        let of = &self.owners[owner];
        let stored = &of.stripes[stripe].stored;
        let (k, n) = (usize::from(stored.stripe.k), stored.holders.len());
        if self.checker_ref().given_up.contains(&stored.stripe.id())
            || self.intact(stored, true) < k
        {
            return None;
        }
        // Whoever says that it has a shard is believed until somebody needs it.
        let claims = |node: usize, shard: protocol::id::ShardId| {
            let row = self.hosts[node].disk.facts().get(Table::Held, shard.as_bytes());
            !self.hosts[node].vanished && matches!(row, Ok(Some(_)))
        };
        let stand_ins: Vec<_> = self.checker_ref().standing_in(stored.stripe.id()).collect();
        let mut copies: Vec<Vec<usize>> = Vec::new();
        for (&named, &shard) in stored.holders.iter().zip(&stored.stripe.shards) {
            let others = stand_ins.iter().filter(|(_, of, _)| *of == shard);
            let nodes = std::iter::once(named).chain(others.map(|(node, ..)| *node));
            copies.push(nodes.filter(|&node| claims(node, shard)).collect());
        }
        let now = self.best_margin(&of.policy, k, &copies);
        if now >= 0 {
            return None;
        }
        let counted = copies.iter().filter_map(|nodes| nodes.first());
        let sites: Vec<Site> = counted.map(|&node| self.site(node).clone()).collect();
        let has_any: Vec<usize> = copies.concat();
        let len = u64::from(stored.stripe.shard_len);
        let is_spare = |&node: &usize| {
            let host = &self.hosts[node];
            host.peer.is_some() && host.is_honest() && !host.leaves && !has_any.contains(&node)
        };
        let spare: Vec<Candidate> = of
            .listed
            .iter()
            .copied()
            .filter(is_spare)
            .map(|node| {
                let host = &self.hosts[node];
                let free = host.config().quota.saturating_sub(host.disk.bytes());
                Candidate { site: host.site.clone(), free }
            })
            .collect();
        // What is copied stays where it is, and counts for what is concealed.
        let is_plain = of.policy.conceal.any.is_empty();
        if !is_plain && has_any.len() > sites.len() {
            return None;
        }
        let most = if is_plain && sites.len() <= PLACES_MAX { COPIED_MAX } else { 0 };
        let is_solved = |copied: u32| {
            let stays = sites.iter().enumerate().filter(|(at, _)| copied >> at & 1 == 0);
            let stay: Vec<Site> = stays.map(|(_, site)| site.clone()).collect();
            solve(&of.policy, k, n, len, &spare, &stay, 0).is_ok()
        };
        let mut choices =
            (0..1u32 << sites.len().min(PLACES_MAX)).filter(|c| c.count_ones() <= most);
        if !choices.any(is_solved) {
            return None;
        }
        Some(format!(
            "stripe {stripe} of owner {owner} bears {now} losses more, and could satisfy its policy: of its shards there are copies at the nodes {copies:?}"
        ))
    }
}
