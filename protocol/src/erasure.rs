//! The erasure code: k data shards, n-k parity shards, any k of which give the pack back.
//!
//! Codec id 1 in a stripe: Reed-Solomon over GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, byte by byte, as
//! `reed-solomon-erasure` 6 builds it. With V the n × k Vandermonde matrix of V\[r\]\[c\] = r^c and T its upper
//! k × k square, the shards are V · T⁻¹ · data: the first k are the data itself.
//!
//! The code detects no errors, so every shard is verified by its name before it comes here. Work goes in
//! columns of 32 KiB, which stay in the cache.

use crate::record::SHARDS_MAX;
use reed_solomon_erasure::galois_8::ReedSolomon;

/// Bytes of every shard worked on at once.
const COLUMN: usize = 32 << 10;

/// Why nothing is coded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErasureError {
    /// k and n make no code.
    #[error("{k} of {n} shards make no code: 1 ≤ k ≤ n ≤ {SHARDS_MAX}")]
    Code {
        /// Data shards.
        k: usize,
        /// All shards.
        n: usize,
    },
    /// Buffers do not fit the code or each other.
    #[error("{what}: {found} bytes or shards, {expected} expected")]
    Shape {
        /// Which buffer.
        what: &'static str,
        /// What was given.
        found: usize,
        /// What is needed.
        expected: usize,
    },
    /// Fewer than k shards are there.
    #[error("{found} shards are there, {needed} needed")]
    TooFew {
        /// Shards there.
        found: usize,
        /// Shards needed.
        needed: usize,
    },
}

/// One shard for [`Codec::reconstruct`].
#[derive(Debug)]
pub struct Slot<'a> {
    /// The shard's bytes, or where to put them.
    pub bytes: &'a mut [u8],
    /// Whether they are there.
    pub present: bool,
}

impl Slot<'_> {
    /// Its part of a column; of what is neither there nor wanted, nothing.
    fn column(&mut self, from: usize, to: usize) -> (&mut [u8], bool) {
        (self.bytes.get_mut(from..to).unwrap_or_default(), self.present)
    }
}

/// A code for one k and n.
#[derive(Debug)]
pub struct Codec {
    k: usize,
    n: usize,
    // None when there is no parity.
    code: Option<ReedSolomon>,
}

impl Codec {
    /// The code with `k` data shards of `n`.
    pub fn new(k: usize, n: usize) -> Result<Self, ErasureError> {
        let error = ErasureError::Code { k, n };
        if k == 0 || k > n || n > usize::from(SHARDS_MAX) {
            return Err(error);
        }
        let code = if n == k { None } else { Some(ReedSolomon::new(k, n - k).map_err(|_| error)?) };
        Ok(Self { k, n, code })
    }

    /// Data shards.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// All shards.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Computes the parity shards, one after another in `parity`, of the k data shards, one after
    /// another in `data`.
    ///
    /// # Panics
    /// Never: all that the code could refuse is checked before.
    pub fn encode(&self, data: &[u8], parity: &mut [u8]) -> Result<(), ErasureError> {
        let len = data.len() / self.k;
        check_shape("data", data.len(), len * self.k)?;
        check_shape("parity", parity.len(), len * (self.n - self.k))?;
        let Some(code) = &self.code else { return Ok(()) };
        if len == 0 {
            return Ok(());
        }
        for from in (0..len).step_by(COLUMN) {
            let to = (from + COLUMN).min(len);
            let data: Vec<&[u8]> = data.chunks_exact(len).map(|shard| &shard[from..to]).collect();
            let mut parity: Vec<&mut [u8]> =
                parity.chunks_exact_mut(len).map(|shard| &mut shard[from..to]).collect();
            code.encode_sep(&data, &mut parity).expect("counts and lengths were checked");
        }
        Ok(())
    }

    /// Fills in the missing data shards from any k that are present. `slots` are all n shards in
    /// order, of one length; missing parity shards are left as they are and may be empty slices.
    ///
    /// # Panics
    /// Never: all that the code could refuse is checked before.
    pub fn reconstruct(&self, slots: &mut [Slot<'_>]) -> Result<(), ErasureError> {
        check_shape("shards", slots.len(), self.n)?;
        let len = slots[0].bytes.len();
        for (number, slot) in slots.iter().enumerate() {
            if slot.present || number < self.k {
                check_shape("a shard", slot.bytes.len(), len)?;
            }
        }
        let found = slots.iter().filter(|slot| slot.present).count();
        if found < self.k {
            return Err(ErasureError::TooFew { found, needed: self.k });
        }
        if slots[..self.k].iter().all(|slot| slot.present) {
            return Ok(());
        }
        let Some(code) = &self.code else { return Ok(()) };
        for from in (0..len).step_by(COLUMN) {
            let to = (from + COLUMN).min(len);
            let mut column: Vec<(&mut [u8], bool)> =
                slots.iter_mut().map(|slot| slot.column(from, to)).collect();
            code.reconstruct_data(&mut column).expect("counts and lengths were checked");
        }
        for slot in &mut slots[..self.k] {
            slot.present = true;
        }
        Ok(())
    }
}

fn check_shape(what: &'static str, found: usize, expected: usize) -> Result<(), ErasureError> {
    if found == expected { Ok(()) } else { Err(ErasureError::Shape { what, found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(len: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    fn lose_and_rebuild(k: usize, n: usize, len: usize, lost: &[usize]) {
        let codec = Codec::new(k, n).unwrap();
        let data = bytes(k * len, 1);
        let mut all = data.clone();
        all.resize(n * len, 0);
        let (head, parity) = all.split_at_mut(k * len);
        codec.encode(head, parity).unwrap();
        for &i in lost {
            all[i * len..(i + 1) * len].fill(0xee);
        }
        let mut slots: Vec<Slot<'_>> = all
            .chunks_exact_mut(len)
            .enumerate()
            .map(|(i, bytes)| Slot { bytes, present: !lost.contains(&i) })
            .collect();
        codec.reconstruct(&mut slots).unwrap();
        assert_eq!(&all[..k * len], &data[..]);
    }

    #[test]
    fn the_extremes_work() {
        lose_and_rebuild(1, 1, 64, &[]);
        lose_and_rebuild(1, 3, 64, &[0, 2]);
        lose_and_rebuild(4, 4, 100_000, &[]);
        lose_and_rebuild(4, 6, 100_001, &[0, 3]);
        lose_and_rebuild(1, 256, 64, &(0..255).collect::<Vec<_>>());
        lose_and_rebuild(200, 256, 64, &(0..56).collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Codec::new(0, 3).is_err());
        assert!(Codec::new(4, 3).is_err());
        assert!(Codec::new(200, 257).is_err());
        let codec = Codec::new(2, 3).unwrap();
        assert!(codec.encode(&[0; 5], &mut [0; 2]).is_err());
        assert!(codec.encode(&[0; 4], &mut [0; 3]).is_err());
        let (mut a, mut b, mut c) = ([0; 4], [0; 4], [0; 4]);
        let mut slots = [
            Slot { bytes: &mut a, present: true },
            Slot { bytes: &mut b, present: false },
            Slot { bytes: &mut c, present: false },
        ];
        assert_eq!(
            codec.reconstruct(&mut slots),
            Err(ErasureError::TooFew { found: 1, needed: 2 })
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_k_shards_give_the_pack_back(
            k in 1usize..40, parity in 0usize..40, len in 1usize..400, order: [u8; 8],
        ) {
            let n = k + parity;
            let mut shards: Vec<usize> = (0..n).collect();
            shards.sort_by_key(|i| *blake3::keyed_hash(&[order[0]; 32], &[&order[..], &i.to_le_bytes()].concat()).as_bytes());
            lose_and_rebuild(k, n, len, &shards[..parity]);
        }
    }
}
