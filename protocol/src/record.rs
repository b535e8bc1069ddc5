//! Stripes, their public records, and the receipts of holders.
//!
//! A [`Stripe`] never changes and names itself by its hash. A [`Record`] says who holds it; a device
//! signs it, and a higher version replaces it when shards move. A [`Receipt`] is a holder's promise.

use crate::id::{DeviceId, NodeId, PublicKey, SessionId, ShardId, StripeId, VaultId};
use crate::planted::{Bug, is_planted};
use crate::policy::{Policy, PolicyError};
use crate::sign::{SignatureError, Statement};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};

/// Most shards of a stripe: the erasure code works over GF(2^8).
pub const SHARDS_MAX: u16 = 256;
/// Longest shard, in bytes. (A whole pack at k = 1.)
pub const SHARD_LEN_MAX: u32 = 17 << 20;
/// Codecs known: 1 is the code of `reed-solomon-erasure` 6.
pub const CODEC_REED_SOLOMON: u8 = 1;

/// Why a record counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// k and n make no code.
    #[error("{k} of {n} shards make no code: 1 ≤ k ≤ n ≤ {SHARDS_MAX}")]
    Code {
        /// Data shards.
        k: u16,
        /// All shards.
        n: u16,
    },
    /// An erasure code that this software does not know.
    #[error("codec {0} is not known")]
    Codec(u8),
    /// A shard's length is zero, too large or not a multiple of 64.
    #[error("shards of {0} bytes: 64 to {SHARD_LEN_MAX}, a multiple of 64")]
    ShardLen(u32),
    /// A list has another length than n.
    #[error("{what}: {found} listed, {n} expected")]
    Count {
        /// Which list.
        what: &'static str,
        /// Its length.
        found: usize,
        /// What it should be.
        n: u16,
    },
    /// One node would hold two shards.
    #[error("node {0} is to hold two shards of one stripe")]
    TwoShards(NodeId),
    /// The policy cannot be meant.
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
    /// Nobody signed it who says so.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is of another vault.
    #[error("it is of vault {0}")]
    OtherVault(VaultId),
    /// No device of the vault signed it.
    #[error("{device}, who signed it, is no device of the vault")]
    Stranger {
        /// What it says of which stripe.
        stripe: StripeId,
        /// Who signed.
        device: DeviceId,
    },
}

/// A pack, erasure-coded: what it is made of, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stripe {
    /// Whose it is.
    pub vault: VaultId,
    /// Which erasure code.
    pub codec: u8,
    /// Shards needed.
    pub k: u16,
    /// Shards made.
    pub n: u16,
    /// Bytes in each.
    pub shard_len: u32,
    /// Their names, in the code's order: the first k are the pack itself.
    pub shards: Vec<ShardId>,
}

impl Stripe {
    /// The stripe's name: the hash of all it says.
    #[must_use]
    pub fn id(&self) -> StripeId {
        StripeId(blake3::derive_key("strewn 2026-11 stripe v1", &crate::codec::encode(self)))
    }

    /// Checks that the numbers fit together.
    pub fn check(&self) -> Result<(), RecordError> {
        if self.codec != CODEC_REED_SOLOMON {
            return Err(RecordError::Codec(self.codec));
        }
        if self.k == 0 || self.k > self.n || self.n > SHARDS_MAX {
            return Err(RecordError::Code { k: self.k, n: self.n });
        }
        let len = self.shard_len;
        if len == 0 || len > SHARD_LEN_MAX || !len.is_multiple_of(64) {
            return Err(RecordError::ShardLen(len));
        }
        check_len("shards", self.shards.len(), self.n)
    }
}

fn check_len(what: &'static str, found: usize, n: u16) -> Result<(), RecordError> {
    if found == usize::from(n) { Ok(()) } else { Err(RecordError::Count { what, found, n }) }
}

/// The public description of a stripe and where it lies. It tells nothing of the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The stripe.
    pub stripe: Stripe,
    /// The session that wrote it.
    pub session: SessionId,
    /// What its placement must satisfy, and for how long it is kept.
    pub policy: Policy,
    /// Who holds which shard, in the order of [`Stripe::shards`].
    pub holders: Vec<NodeId>,
    /// Grows when shards move.
    pub version: u32,
    /// Who signs.
    pub device: DeviceId,
}

impl Statement for Record {
    const CONTEXT: &'static str = "strewn record";
    const LEN_MAX: usize = 32 << 10;
    fn signer(&self) -> PublicKey {
        self.device.key()
    }
}

impl Record {
    /// Checks that the numbers fit together.
    pub fn check(&self) -> Result<(), RecordError> {
        self.stripe.check()?;
        check_len("holders", self.holders.len(), self.stripe.n)?;
        let mut holders = self.holders.clone();
        holders.sort_unstable();
        if let Some(pair) = holders.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(RecordError::TwoShards(pair[0]));
        }
        self.policy.check()?;
        Ok(())
    }

    /// Which shard the node is to hold.
    #[must_use]
    pub fn index_of(&self, node: NodeId) -> Option<u16> {
        self.holders.iter().position(|&holder| holder == node).map(|index| index as u16)
    }
}

/// A holder's promise: it has the shard on durable storage and keeps it for the period, counted
/// from this receipt by its own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Who promises.
    pub holder: NodeId,
    /// Whose shard it is.
    pub vault: VaultId,
    /// Of which stripe.
    pub stripe: StripeId,
    /// Its place in the stripe.
    pub index: u16,
    /// The shard.
    pub shard: ShardId,
    /// Its length in bytes.
    pub len: u32,
    /// How long it is kept at least.
    pub keep: Period,
    /// When it was received, by the holder's wall clock.
    pub received: Wall,
}

/// A receipt that promises something else than what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The record has no such shard.
    #[error("the stripe has no shard {0}")]
    NoShard(u16),
    /// It is another node's, or for another vault, stripe or shard.
    #[error("it is for another {0}")]
    Other(&'static str),
    /// It keeps the shard for too short a time.
    #[error("it promises to keep the shard for {promised}, and {asked} are asked")]
    Keep {
        /// What it promises.
        promised: Period,
        /// What the record asks.
        asked: Period,
    },
}

impl Receipt {
    /// Checks that it promises all that the record asks of the holder of this shard.
    pub fn check_for(&self, record: &Record, index: u16) -> Result<(), ReceiptError> {
        let Some(holder) = record.holders.get(usize::from(index)) else {
            return Err(ReceiptError::NoShard(index));
        };
        if self.holder != *holder && !is_planted(Bug::Receipt) {
            return Err(ReceiptError::Other("holder"));
        }
        self.check_kept(record, index)
    }

    /// Checks that it promises all that the record asks of whoever keeps this shard: its holder, or another node that stands in
    /// for it. Whether that one may is for the caller to say.
    pub fn check_kept(&self, record: &Record, index: u16) -> Result<(), ReceiptError> {
        let stripe = &record.stripe;
        let Some(shard) = stripe.shards.get(usize::from(index)) else {
            return Err(ReceiptError::NoShard(index));
        };
        let fits = [
            ("vault", self.vault == stripe.vault),
            ("stripe", self.stripe == stripe.id()),
            ("place in the stripe", self.index == index),
            ("shard", self.shard == *shard),
            ("length", self.len == stripe.shard_len),
        ];
        if is_planted(Bug::Receipt) {
            return Ok(());
        }
        if let Some((what, _)) = fits.into_iter().find(|(_, fits)| !fits) {
            return Err(ReceiptError::Other(what));
        }
        let asked = record.policy.lock.period;
        if self.keep < asked {
            return Err(ReceiptError::Keep { promised: self.keep, asked });
        }
        Ok(())
    }
}

#[cfg(test)]
impl Receipt {
    /// What the holder of a shard promises who promises just what the record asks.
    pub(crate) fn as_asked(record: &Record, index: u16) -> Self {
        Self {
            holder: record.holders[usize::from(index)],
            vault: record.stripe.vault,
            stripe: record.stripe.id(),
            index,
            shard: record.stripe.shards[usize::from(index)],
            len: record.stripe.shard_len,
            keep: record.policy.lock.period,
            received: Wall(0),
        }
    }
}

impl Statement for Receipt {
    const CONTEXT: &'static str = "strewn receipt";
    const LEN_MAX: usize = 1 << 10;
    fn signer(&self) -> PublicKey {
        self.holder.key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripe() -> Stripe {
        Stripe {
            vault: VaultId([1; 32]),
            codec: CODEC_REED_SOLOMON,
            k: 2,
            n: 3,
            shard_len: 128,
            shards: vec![ShardId([1; 32]), ShardId([2; 32]), ShardId([3; 32])],
        }
    }

    fn record() -> Record {
        Record {
            stripe: stripe(),
            session: SessionId([0; 32]),
            policy: Policy::survive_one("provider"),
            holders: vec![NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32])],
            version: 1,
            device: DeviceId([4; 32]),
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(record().check(), Ok(()));
        let wrong: [fn(&mut Record); 8] = [
            |r| r.stripe.k = 0,
            |r| r.stripe.k = 4,
            |r| r.stripe.n = 257,
            |r| r.stripe.shard_len = 0,
            |r| r.stripe.shard_len = 100,
            |r| r.stripe.shard_len = SHARD_LEN_MAX + 64,
            |r| r.stripe.codec = 9,
            |r| r.holders[0] = r.holders[1],
        ];
        for change in wrong {
            let mut record = record();
            change(&mut record);
            assert!(record.check().is_err(), "{record:?}");
        }
        let mut short = record();
        short.holders.pop();
        assert!(matches!(short.check(), Err(RecordError::Count { .. })));
    }

    #[test]
    fn a_receipt_promises_all_that_was_asked() {
        let record = record();
        let receipt = |index: u16| Receipt::as_asked(&record, index);
        for index in 0..3 {
            assert_eq!(receipt(index).check_for(&record, index), Ok(()));
        }
        let longer = Receipt { keep: Period::days(400), ..receipt(1) };
        assert_eq!(longer.check_for(&record, 1), Ok(()));
        let wrong: [fn(&mut Receipt); 7] = [
            |r| r.holder = NodeId([1; 32]),
            |r| r.vault = VaultId([2; 32]),
            |r| r.stripe = StripeId([0; 32]),
            |r| r.index = 2,
            |r| r.shard = ShardId([1; 32]),
            |r| r.len = 64,
            |r| r.keep = Period(0),
        ];
        for change in wrong {
            let mut receipt = receipt(1);
            change(&mut receipt);
            assert!(receipt.check_for(&record, 1).is_err(), "{receipt:?}");
        }
        // Another node may stand in for the holder, and promises the same.
        let stand_in = Receipt { holder: NodeId([9; 32]), ..receipt(1) };
        assert_eq!(stand_in.check_kept(&record, 1), Ok(()));
        assert_eq!(stand_in.check_for(&record, 1), Err(ReceiptError::Other("holder")));
        for change in &wrong[1..] {
            let mut receipt = stand_in.clone();
            change(&mut receipt);
            assert!(receipt.check_kept(&record, 1).is_err(), "{receipt:?}");
        }
        assert_eq!(receipt(1).check_for(&record, 3), Err(ReceiptError::NoShard(3)));
        assert_eq!(receipt(1).check_for(&record, 2), Err(ReceiptError::Other("holder")));
    }

    #[test]
    fn a_stripe_is_named_by_all_it_says() {
        let id = stripe().id();
        assert_eq!(id, stripe().id());
        assert_ne!(id, Stripe { k: 1, ..stripe() }.id());
        assert_ne!(id, Stripe { vault: VaultId([2; 32]), ..stripe() }.id());
    }
}
