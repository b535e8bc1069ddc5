//! What nodes tell of stripes: which of one node's words counts, and what the words of several come to.
//!
//! A record counts when a device that the vault certified signed it and its numbers fit. A node has a shard when it shows a
//! promise of its own that gives all that the record asks, whether the record names it or not: what was lost is repaired by other
//! nodes, which stand in for its holders, and nobody is there to sign a new record. Of several records the newest says where
//! shards lie, until its holders do not give the pack: then whoever any of them names may have one.

use crate::id::{DeviceId, NodeId, StripeId, VaultId};
use crate::label::Site;
use crate::message::{HeldRecord, VaultState};
use crate::placement::{Holders, lie};
use crate::record::{Record, RecordError, Stripe};
use std::collections::{BTreeMap, BTreeSet};

/// The devices that a vault ever certified, as far as this node knows: what they wrote counts, also when a certificate has
/// expired since.
pub fn devices_of(state: &VaultState, vault: VaultId) -> impl Iterator<Item = DeviceId> + '_ {
    let certificates = state.devices.iter().filter_map(|signed| signed.verify().ok());
    let ours = certificates.filter(move |certificate| certificate.vault == vault);
    ours.map(|certificate| certificate.device)
}

/// What one node tells of a stripe, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub stripe: StripeId,
    /// The record that it has.
    pub record: Record,
    /// Which shard it promises to keep, if any.
    pub promised: Option<u16>,
}

impl Told {
    /// What a node's word of a stripe comes to. A promise that is not this node's, or is less than the record asks, is none.
    ///
    /// # Errors
    /// [`RecordError`] when the record counts for nothing: it is not this vault's, its numbers do not fit, or none of these
    /// devices signed it.
    pub fn check(
        held: &HeldRecord,
        node: NodeId,
        vault: VaultId,
        devices: &BTreeSet<DeviceId>,
    ) -> Result<Self, RecordError> {
        let record = held.record.verify()?;
        record.check()?;
        if record.stripe.vault != vault {
            return Err(RecordError::OtherVault(record.stripe.vault));
        }
        let stripe = record.stripe.id();
        if !devices.contains(&record.device) {
            return Err(RecordError::Stranger { stripe, device: record.device });
        }
        let receipt = held.receipt.as_ref().and_then(|signed| signed.verify().ok());
        let receipt = receipt.filter(|receipt| {
            receipt.holder == node && receipt.check_kept(&record, receipt.index).is_ok()
        });
        let promised = receipt.map(|receipt| receipt.index);
        Ok(Self { stripe, record, promised })
    }
}

/// Of each shard who counts as holding it, of those that promised to: the holder that the record names, or else the first that stands
/// in for it. Two copies of one shard are no two shards.
#[must_use]
pub fn counted(record: &Record, promised: &BTreeMap<NodeId, u16>) -> Vec<Option<NodeId>> {
    let mut counted = vec![None; record.holders.len()];
    for (&node, &index) in promised {
        if let Some(place) = counted.get_mut(usize::from(index)) {
            let is_named = record.index_of(node) == Some(index);
            *place = if is_named { Some(node) } else { place.or(Some(node)) };
        }
    }
    counted
}

/// As [`counted`], and where its policy does not hold so, of nodes that have the same shard those with which it holds, or comes
/// closer. Whichever copy counts, what lies elsewhere is not made up: the margin is never more than what is there bears.
#[must_use]
pub fn counted_best<'a>(
    record: &Record,
    promised: &BTreeMap<NodeId, u16>,
    site: impl Fn(NodeId) -> Option<&'a Site>,
) -> Vec<Option<NodeId>> {
    let mut best = counted(record, promised);
    let (policy, k) = (&record.policy, usize::from(record.stripe.k));
    let measure = |counted: &[Option<NodeId>]| {
        let sites: Vec<&Site> = counted.iter().filter_map(|node| site((*node)?)).collect();
        lie(policy, k, &sites)
    };
    let present = best.iter().flatten().count();
    if promised.len() <= present {
        return best;
    }
    let mut reached = measure(&best);
    while reached.0 < 0 {
        let swaps = promised.iter().filter_map(|(&node, &index)| {
            let mut with = best.clone();
            *with.get_mut(usize::from(index)).filter(|place| place.is_some())? = Some(node);
            Some((measure(&with), with))
        });
        match swaps.max_by_key(|(measure, _)| *measure) {
            Some((measure, with)) if measure > reached => (reached, best) = (measure, with),
            _ => break,
        }
    }
    best
}

/// A stripe, and where its shards may lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// The stripe.
    pub stripe: Stripe,
    /// For each shard, whoever may have it, the likeliest first.
    pub holders: Vec<Vec<NodeId>>,
}

/// What several nodes tell of one stripe. It takes no more than a record for each of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Different records, the newest first.
    records: Vec<Record>,
    /// Who promised to keep which shard.
    promised: BTreeMap<NodeId, u16>,
}

impl Heard {
    /// Takes in what a node tells.
    pub fn hear(&mut self, node: NodeId, told: Told) {
        self.promised.extend(told.promised.map(|index| (node, index)));
        if !self.records.contains(&told.record) {
            let version = told.record.version;
            let at = self.records.partition_point(|known| known.version >= version);
            self.records.insert(at, told.record);
        }
    }

    /// The newest record, and who promised to keep which shard. `None` when nobody told anything.
    #[must_use]
    pub fn into_newest(self) -> Option<(Record, BTreeMap<NodeId, u16>)> {
        Some((self.records.into_iter().next()?, self.promised))
    }

    /// Where the newest record says that the shards lie, and who stands in for those that do not say so.
    #[must_use]
    pub fn newest(&self) -> Option<Whereabouts> {
        let record = self.records.first()?;
        let counted = counted(record, &self.promised).into_iter();
        let holders = counted.zip(&record.holders).map(|(counted, &named)| match counted {
            Some(stand_in) if stand_in != named => vec![stand_in, named],
            _ => vec![named],
        });
        Some(Whereabouts { stripe: record.stripe.clone(), holders: holders.collect() })
    }

    /// Wherever they may lie: who promised comes first, then what the records say, the newest first.
    #[must_use]
    pub fn anywhere(&self) -> Option<Whereabouts> {
        let mut found = self.newest()?;
        for (i, holders) in found.holders.iter_mut().enumerate() {
            let promised = self.promised.iter().filter(|&(_, &index)| usize::from(index) == i);
            let mut all: Vec<NodeId> = promised.map(|(&node, _)| node).collect();
            // Who is named and promised comes before who stands in.
            all.sort_by_key(|node| self.records[0].holders.get(i) != Some(node));
            for holder in self.records.iter().filter_map(|record| record.holders.get(i)) {
                if !all.contains(holder) {
                    all.push(*holder);
                }
            }
            *holders = all;
        }
        Some(found)
    }

    /// Who holds it: of each shard the newest record's holder if it promised, or who stands in for it ([`counted_best`]), or that holder
    /// after all if it did not answer now. Also whether nobody had to be counted who did not answer.
    #[must_use]
    pub fn holders<'a>(
        &self,
        answered: &BTreeSet<NodeId>,
        site: impl Fn(NodeId) -> Option<&'a Site>,
    ) -> Option<(Holders, bool)> {
        let record = self.records.first()?;
        let (mut nodes, mut is_sure) = (Vec::new(), true);
        let counted = counted_best(record, &self.promised, site);
        for (counted, named) in counted.into_iter().zip(&record.holders) {
            if let Some(node) = counted {
                nodes.push(node);
            } else if !answered.contains(named) {
                is_sure = false;
                nodes.push(*named);
            }
        }
        let (k, lock) = (record.stripe.k, record.policy.lock.clone());
        Some((Holders { k, lock, nodes }, is_sure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{SessionId, ShardId};
    use crate::policy::Policy;
    use crate::record::{CODEC_REED_SOLOMON, Receipt};
    use crate::sign::{SecretKey, Signed};
    use crate::time::Period;
    use proptest::prelude::*;

    const VAULT: VaultId = VaultId([1; 32]);

    fn key(name: u8) -> SecretKey {
        SecretKey::from_seed(&[name; 32])
    }

    fn node(name: u8) -> NodeId {
        key(name).public().into()
    }

    fn device() -> DeviceId {
        key(100).public().into()
    }

    fn record(version: u32, holders: [u8; 3]) -> Record {
        let stripe = Stripe {
            vault: VAULT,
            codec: CODEC_REED_SOLOMON,
            k: 2,
            n: 3,
            shard_len: 128,
            shards: vec![ShardId([1; 32]), ShardId([2; 32]), ShardId([3; 32])],
        };
        Record {
            stripe,
            session: SessionId([0; 32]),
            policy: Policy::survive_one("provider"),
            holders: holders.map(node).to_vec(),
            version,
            device: device(),
        }
    }

    fn check(record: &Record, receipt: Option<(&Receipt, u8)>) -> Result<Told, RecordError> {
        let held = HeldRecord {
            record: Signed::sign(record, &key(100)),
            receipt: receipt.map(|(receipt, signer)| Signed::sign(receipt, &key(signer))),
        };
        Told::check(&held, node(1), VAULT, &[device()].into())
    }

    #[test]
    fn a_record_counts_when_it_fits_and_a_device_of_the_vault_signed_it() {
        let good = record(1, [1, 2, 3]);
        let told = check(&good, None).unwrap();
        assert_eq!(told, Told { stripe: good.stripe.id(), record: good.clone(), promised: None });
        let twice = Record { holders: vec![node(1), node(1), node(2)], ..good.clone() };
        assert!(matches!(check(&twice, None), Err(RecordError::TwoShards(_))));
        let stripe = Stripe { vault: VaultId([2; 32]), ..good.stripe.clone() };
        let other = Record { stripe, ..good.clone() };
        assert_eq!(check(&other, None), Err(RecordError::OtherVault(VaultId([2; 32]))));
        let held = HeldRecord { record: Signed::sign(&good, &key(100)), receipt: None };
        let nobody = Told::check(&held, node(1), VAULT, &BTreeSet::new());
        let stripe = good.stripe.id();
        assert_eq!(nobody, Err(RecordError::Stranger { stripe, device: device() }));
        let mut bytes = held.record.to_bytes();
        *bytes.last_mut().unwrap() ^= 1;
        let held = HeldRecord { record: Signed::from_bytes(&bytes).unwrap(), receipt: None };
        let forged = Told::check(&held, node(1), VAULT, &[device()].into());
        assert!(matches!(forged, Err(RecordError::Signature(_))));
    }

    #[test]
    fn a_promise_counts_when_it_is_the_nodes_own_and_all_that_is_asked() {
        let record = record(1, [1, 2, 3]);
        let promised = |receipt: &Receipt, signer: u8| {
            check(&record, Some((receipt, signer))).unwrap().promised
        };
        assert_eq!(promised(&Receipt::as_asked(&record, 0), 1), Some(0));
        assert_eq!(promised(&Receipt::as_asked(&record, 1), 2), None, "another node's promise");
        let shorter = Receipt { keep: Period::days(1), ..Receipt::as_asked(&record, 0) };
        assert_eq!(promised(&shorter, 1), None);
        let elsewhere = Receipt { stripe: StripeId([9; 32]), ..Receipt::as_asked(&record, 0) };
        assert_eq!(promised(&elsewhere, 1), None);
    }

    #[test]
    fn who_stands_in_counts_where_the_named_holder_does_not_say_that_it_has_it() {
        let record = record(1, [1, 2, 3]);
        let stand_in = Receipt { holder: node(1), ..Receipt::as_asked(&record, 2) };
        assert_eq!(check(&record, Some((&stand_in, 1))).unwrap().promised, Some(2));
        let promised: BTreeMap<NodeId, u16> =
            [(node(1), 0), (node(4), 2), (node(5), 2), (node(6), 9)].into();
        let counted_now = counted(&record, &promised);
        assert_eq!(counted_now[..2], [Some(node(1)), None]);
        assert!([Some(node(4)), Some(node(5))].contains(&counted_now[2]), "one of the two");
        // The named one has come back.
        let promised = promised.into_iter().chain([(node(3), 2)]).collect();
        assert_eq!(counted(&record, &promised)[2], Some(node(3)));
        let tales = [(1, 1, [1, 2, 3], Some(0)), (4, 1, [1, 2, 3], Some(2))];
        let newest = heard(&tales).newest().unwrap();
        assert_eq!(newest.holders, [vec![node(1)], vec![node(2)], vec![node(4), node(3)]]);
        let (holders, is_sure) =
            heard(&tales).holders(&[node(1), node(2), node(4)].into(), |_| None).unwrap();
        assert_eq!((holders.nodes, is_sure), (vec![node(1), node(4)], true));
    }

    fn heard(tales: &[(u8, u32, [u8; 3], Option<u16>)]) -> Heard {
        let mut heard = Heard::default();
        for &(name, version, holders, promised) in tales {
            let record = record(version, holders);
            heard.hear(node(name), Told { stripe: record.stripe.id(), record, promised });
        }
        heard
    }

    #[test]
    fn the_newest_record_counts_whoever_tells_it_first() {
        let (old, new) = ((1, 1, [1, 2, 3], Some(0)), (4, 2, [1, 2, 4], Some(2)));
        for tales in [[old, new], [new, old]] {
            let newest = heard(&tales).newest().unwrap();
            assert_eq!(newest.holders, [vec![node(1)], vec![node(2)], vec![node(4)]]);
            let (record, promised) = heard(&tales).into_newest().unwrap();
            assert_eq!(record.version, 2);
            assert_eq!(promised, [(node(1), 0), (node(4), 2)].into());
        }
    }

    #[test]
    fn whoever_any_record_names_may_have_a_shard_and_who_promised_comes_first() {
        let tales =
            [(1, 1, [1, 2, 3], Some(0)), (2, 9, [3, 2, 1], Some(1)), (5, 1, [1, 2, 3], Some(2))];
        let anywhere = heard(&tales).anywhere().unwrap();
        assert_eq!(anywhere.holders[0], [node(1), node(3)]);
        assert_eq!(anywhere.holders[1], [node(2)]);
        assert_eq!(anywhere.holders[2], [node(5), node(1), node(3)]);
    }

    #[test]
    fn who_answers_holds_what_it_promised_and_who_is_silent_what_the_record_says() {
        let tales = [(1, 1, [1, 2, 3], Some(0)), (2, 1, [1, 2, 3], None)];
        let holders = |answered: &[u8]| {
            let answered = answered.iter().copied().map(node).collect();
            let (holders, is_sure) = heard(&tales).holders(&answered, |_| None).unwrap();
            (holders.nodes, is_sure)
        };
        assert_eq!(holders(&[1, 2]), (vec![node(1), node(3)], false));
        assert_eq!(holders(&[1, 2, 3]), (vec![node(1)], true));
    }

    #[test]
    fn of_two_copies_the_one_counts_with_which_the_policy_holds() {
        let record = record(1, [1, 2, 3]);
        let at = |name: u8, provider: u8| Site {
            node: node(name),
            ..Site::stating(name, &format!("provider=p{provider}"))
        };
        // Two are needed, and the three named lie at two providers.
        let sites = [at(1, 1), at(2, 1), at(3, 2), at(4, 2), at(5, 3)];
        let site = |id: NodeId| sites.iter().find(|site| site.node == id);
        let named = [(node(1), 0), (node(2), 1), (node(3), 2)];
        let with = |more: &[(NodeId, u16)]| {
            let promised = named.iter().chain(more).copied().collect();
            counted_best(&record, &promised, site).into_iter().flatten().collect::<Vec<_>>()
        };
        assert_eq!(with(&[]), [node(1), node(2), node(3)]);
        assert_eq!(with(&[(node(4), 1)]), [node(1), node(2), node(3)], "it helps nothing");
        assert_eq!(with(&[(node(4), 1), (node(5), 0)]), [node(5), node(2), node(3)]);
        // Where the policy holds with those named, they count.
        let far = [at(1, 1), at(2, 4), at(3, 2), at(5, 3)];
        let site = |id: NodeId| far.iter().find(|site| site.node == id);
        let promised = named.into_iter().chain([(node(5), 0)]).collect();
        assert_eq!(counted_best(&record, &promised, site), counted(&record, &promised));
    }

    proptest! {
        #[test]
        fn whichever_copy_counts_has_the_shard_and_lies_no_worse(
            promises in proptest::collection::vec((1u8..10, 0u16..4, 0u8..4), 0..9),
        ) {
            let record = record(1, [1, 2, 3]);
            let sites: BTreeMap<NodeId, Site> = promises
                .iter()
                .map(|(name, _, provider)| {
                    let site = Site::stating(*name, &format!("provider=p{provider}"));
                    (node(*name), Site { node: node(*name), ..site })
                })
                .collect();
            let promised: BTreeMap<NodeId, u16> =
                promises.iter().map(|(name, index, _)| (node(*name), *index)).collect();
            let (first, best) =
                (counted(&record, &promised), counted_best(&record, &promised, |n| sites.get(&n)));
            for (index, (first, best)) in (0..).zip(first.iter().zip(&best)) {
                prop_assert_eq!(first.is_some(), best.is_some());
                prop_assert!(best.is_none_or(|node| promised[&node] == index));
            }
            let reached = |counted: &[Option<NodeId>]| {
                let sites: Vec<&Site> = counted.iter().flatten().map(|n| &sites[n]).collect();
                lie(&record.policy, 2, &sites)
            };
            prop_assert!(reached(&best) >= reached(&first));
        }

        #[test]
        fn who_told_the_newest_first_does_not_matter_and_whoever_is_named_is_tried(
            tales in proptest::collection::vec((1u8..6, 1u32..4, proptest::option::of(0u16..3)), 1..8),
        ) {
            // One version is one set of holders, and a node tells one thing.
            let sets = [[1, 2, 3], [3, 4, 5], [5, 1, 2]];
            let tales: BTreeMap<u8, (u8, u32, [u8; 3], Option<u16>)> = tales
                .into_iter()
                .map(|(name, version, promised)| (name, (name, version, sets[version as usize - 1], promised)))
                .collect();
            let mut tales: Vec<_> = tales.into_values().collect();
            let forward = heard(&tales);
            tales.reverse();
            prop_assert_eq!(&forward, &heard(&tales));
            let anywhere = forward.anywhere().unwrap();
            for (name, _, holders, promised) in tales {
                for (i, holder) in holders.into_iter().enumerate() {
                    prop_assert!(anywhere.holders[i].contains(&node(holder)));
                }
                if let Some(index) = promised {
                    prop_assert!(anywhere.holders[usize::from(index)].contains(&node(name)));
                }
            }
        }
    }
}
