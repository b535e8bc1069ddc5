//! Which part of the data is read: restic's words for it.

use crate::home::{HomeError, random};
use crate::size::ByteSize;
use protocol::id::StripeId;
use std::collections::BTreeSet;
use std::str::FromStr;

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// All of it.
    All,
    /// The nth of so many parts: the same stripes every time, and all of them after as many runs.
    Part {
        /// From 1.
        n: u64,
        /// How many there are.
        of: u64,
    },
    /// So many percent of the stripes, drawn at random.
    Percent(f64),
    /// So many bytes, drawn at random, and at least one stripe.
    Bytes(u64),
}

impl FromStr for Subset {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is no part: write 2/5 (the second of five), 10% or 5GiB (at random)")
        };
        if let Some((n, of)) = text.split_once('/') {
            let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
            let (n, of) = (number(n)?, number(of)?);
            return if (1..=of).contains(&n) { Ok(Self::Part { n, of }) } else { Err(wrong()) };
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
            let fits = percent > 0.0 && percent <= 100.0;
            return if fits { Ok(Self::Percent(percent)) } else { Err(wrong()) };
        }
        match text.parse::<ByteSize>() {
            Ok(ByteSize(bytes)) if bytes > 0 => Ok(Self::Bytes(bytes)),
            _ => Err(wrong()),
        }
    }
}

impl Subset {
    /// The stripes to be read, of these with the bytes of their packs.
    pub(super) fn choose(
        self,
        stripes: impl ExactSizeIterator<Item = (StripeId, u64)>,
    ) -> Result<BTreeSet<StripeId>, HomeError> {
        Ok(match self {
            Self::All => stripes.map(|(stripe, _)| stripe).collect(),
            Self::Part { n, of } => stripes
                .map(|(stripe, _)| stripe)
                .filter(|id| number(id.as_bytes()) % of == n - 1)
                .collect(),
            Self::Percent(percent) => {
                let wanted = stripes.len() as f64 * percent / 100.0;
                let all = shuffled(stripes)?.into_iter().enumerate();
                let is_chosen = |i: usize| i == 0 || (i as f64) + 0.5 <= wanted;
                all.take_while(|(i, _)| is_chosen(*i)).map(|(_, (stripe, _))| stripe).collect()
            }
            Self::Bytes(bytes) => {
                let mut left = bytes;
                let mut chosen = BTreeSet::new();
                for (stripe, len) in shuffled(stripes)? {
                    if len > left && !chosen.is_empty() {
                        break;
                    }
                    left = left.saturating_sub(len);
                    chosen.insert(stripe);
                }
                chosen
            }
        })
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// In an order that nobody can foresee: a holder must not know which stripes are never looked at.
fn shuffled(
    stripes: impl Iterator<Item = (StripeId, u64)>,
) -> Result<Vec<(StripeId, u64)>, HomeError> {
    let key = random()?;
    let mut all: Vec<(StripeId, u64)> = stripes.collect();
    all.sort_by_cached_key(|(stripe, _)| *blake3::keyed_hash(&key, stripe.as_bytes()).as_bytes());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stripes(count: u64) -> Vec<(StripeId, u64)> {
        let id = |i: u64| StripeId(*blake3::hash(&i.to_le_bytes()).as_bytes());
        (0..count).map(|i| (id(i), 10)).collect()
    }

    #[test]
    fn parts_read_as_restic_writes_them() {
        assert_eq!("2/5".parse(), Ok(Subset::Part { n: 2, of: 5 }));
        assert_eq!("2.5%".parse(), Ok(Subset::Percent(2.5)));
        assert_eq!("10G".parse(), Ok(Subset::Bytes(10 << 30)));
        for wrong in ["", "0/5", "6/5", "0/0", "0%", "101%", "x%", "NaN%", "many", "0", "1/2/3"] {
            assert!(wrong.parse::<Subset>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_by_chance_have_their_size_and_differ() {
        let all = stripes(1000);
        let choose = |subset: Subset| subset.choose(all.iter().copied()).unwrap();
        assert_eq!(choose(Subset::Percent(10.0)).len(), 100);
        assert_eq!(choose(Subset::Bytes(255)).len(), 25);
        assert_eq!(choose(Subset::Bytes(1)).len(), 1);
        assert_ne!(choose(Subset::Percent(50.0)), choose(Subset::Percent(50.0)));
        assert_eq!(choose(Subset::All).len(), 1000);
        assert!(Subset::Percent(10.0).choose(stripes(0).into_iter()).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn all_parts_together_are_everything_once(count in 0u64..100, of in 1u64..9) {
            let all = stripes(count);
            let mut seen = BTreeSet::new();
            for n in 1..=of {
                for stripe in (Subset::Part { n, of }).choose(all.iter().copied()).unwrap() {
                    prop_assert!(seen.insert(stripe));
                }
            }
            prop_assert_eq!(seen.len() as u64, count);
        }
    }
}
