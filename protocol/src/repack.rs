//! What is worth writing again: packs of which kept snapshots need only a part, and blocks of the index that list little.
//!
//! Holders keep what is given up until its lock has ended, so writing again costs space for a lock's period before it saves any.
//! So packs go in the order of what a byte written again wins, and only until what is left over is little enough; and the
//! index is written again only where that makes fewer blocks.

use crate::index::{BLOCK_LEN_MAX, BLOCK_PACKS_MAX};
use std::str::FromStr;

/// How much that nobody needs may stay beside what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxUnused {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of all that stays; less than 100.
    Percent(u8),
    /// Any amount.
    Unlimited,
}

/// Why a limit is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no share below 100, as in 5%, nor `unlimited`")]
pub struct MaxUnusedError(String);

impl FromStr for MaxUnused {
    type Err = MaxUnusedError;

    /// A share or `unlimited`; sizes are the program's to read.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let share = text.strip_suffix('%').and_then(|share| share.parse().ok());
        let share = share.filter(|share| *share < 100);
        share.map(Self::Percent).ok_or_else(|| MaxUnusedError(text.into()))
    }
}

impl MaxUnused {
    /// The bytes that may stay beside so many needed ones.
    fn beside(self, needed: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(share) => {
                let share = u128::from(share.min(99));
                u64::try_from(u128::from(needed) * share / (100 - share)).unwrap_or(u64::MAX)
            }
            Self::Unlimited => u64::MAX,
        }
    }
}

/// What is in a pack, in sealed bytes of its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// All.
    pub all: u64,
    /// What kept snapshots need.
    pub needed: u64,
}

impl Content {
    fn unused(self) -> u64 {
        self.all.saturating_sub(self.needed)
    }
}

/// Which of these packs to write again, so that no more than `max` stays beside what is needed. Those that nobody needs at all
/// are not written again, and count for nothing here.
#[must_use]
pub fn to_repack<T: Copy + Ord>(packs: &[(T, Content)], max: MaxUnused) -> Vec<T> {
    let part = packs.iter().filter(|(_, content)| content.needed > 0);
    let needed: u64 = part.clone().map(|(_, content)| content.needed).sum();
    let mut unused: u64 = part.clone().map(|(_, content)| content.unused()).sum();
    let mut part: Vec<_> = part.filter(|(_, content)| content.unused() > 0).collect();
    // What wins most for a byte written: a/b > c/d as a·d > c·b.
    part.sort_by(|(a, one), (b, other)| {
        let wins =
            |one: &Content, other: &Content| u128::from(one.unused()) * u128::from(other.needed);
        wins(other, one).cmp(&wins(one, other)).then(a.cmp(b))
    });
    let allowed = max.beside(needed);
    let mut chosen = Vec::new();
    for (pack, content) in part {
        if unused <= allowed {
            break;
        }
        unused -= content.unused();
        chosen.push(*pack);
    }
    chosen
}

/// What becomes of a pack in which a needed chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Stays,
    /// What is needed of it was written again.
    WrittenAgain,
    /// It was given up.
    GivenUp,
}

/// Where a needed chunk may be kept, of all places that have it, the newest first: not where it was given up or written again, while
/// there is another place. Where all were given up, the newest is taken back.
#[must_use]
pub fn places_to_keep<T: Copy>(places: &[(T, Fate)]) -> Vec<T> {
    let of = |fate: Fate| places.iter().filter(move |(_, of)| *of == fate).map(|(place, _)| *place);
    let found =
        [Fate::Stays, Fate::WrittenAgain].into_iter().find(|fate| of(*fate).next().is_some());
    match found {
        Some(fate) => of(fate).collect(),
        None => places.iter().map(|(place, _)| *place).take(1).collect(),
    }
}

/// Which of several places of a chunk to keep, the newest first: the newest that is well kept, and while none is, all.
#[must_use]
pub fn settle<T>(places: &[T], is_well_kept: impl Fn(&T) -> bool) -> &[T] {
    match places.iter().position(is_well_kept) {
        Some(at) => &places[at..=at],
        None => places,
    }
}

/// What of a block of the index still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Packs.
    pub packs: usize,
    /// Chunks of these.
    pub chunks: usize,
}

/// Which of these blocks to write again, as one after the other full ones: those that are no more than half full, where
/// that makes fewer.
#[must_use]
pub fn to_list_again<T: Copy>(blocks: &[(T, Listed)]) -> Vec<T> {
    let len = |listed: &Listed| listed.chunks * 48 + listed.packs * 128;
    let is_sparse =
        |listed: &Listed| listed.packs <= BLOCK_PACKS_MAX / 2 && len(listed) <= BLOCK_LEN_MAX / 2;
    let sparse = || blocks.iter().filter(|(_, listed)| is_sparse(listed));
    let packs: usize = sparse().map(|(_, listed)| listed.packs).sum();
    let bytes: usize = sparse().map(|(_, listed)| len(listed)).sum();
    // The largest pack has 16384 chunks: behind three quarters of a block there may be no room for one.
    let new = packs.div_ceil(BLOCK_PACKS_MAX).max(bytes.div_ceil(BLOCK_LEN_MAX * 3 / 4));
    if new < sparse().count() { sparse().map(|(block, _)| *block).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chunk_is_kept_where_it_stays_and_one_that_is_nowhere_else_is_taken_back() {
        use Fate::{GivenUp, Stays, WrittenAgain};
        let keep = |fates: &[Fate]| {
            let places: Vec<(usize, Fate)> = fates.iter().copied().enumerate().collect();
            places_to_keep(&places)
        };
        assert_eq!(keep(&[GivenUp, Stays, WrittenAgain, Stays]), [1, 3]);
        assert_eq!(keep(&[GivenUp, WrittenAgain, WrittenAgain]), [1, 2]);
        assert_eq!(keep(&[GivenUp, GivenUp]), [0]);
        assert!(keep(&[]).is_empty());
    }

    #[test]
    fn of_a_chunk_that_nobody_keeps_well_no_place_goes() {
        assert_eq!(settle(&[4, 7, 8], |place| *place > 5), [7]);
        assert_eq!(settle(&[4, 7, 8], |_| false), [4, 7, 8]);
    }

    fn content(needed: u64, unused: u64) -> Content {
        Content { all: needed + unused, needed }
    }

    #[test]
    fn the_emptiest_go_first_and_no_more_than_must() {
        let packs = [
            (1, content(90, 10)),
            (2, content(10, 90)),
            (3, content(0, 100)),
            (4, content(50, 50)),
            (5, content(100, 0)),
        ];
        assert_eq!(to_repack(&packs, MaxUnused::Bytes(0)), [2, 4, 1]);
        assert_eq!(to_repack(&packs, MaxUnused::Bytes(10)), [2, 4]);
        assert_eq!(to_repack(&packs, MaxUnused::Bytes(149)), [2]);
        assert!(to_repack(&packs, MaxUnused::Bytes(150)).is_empty());
        assert!(to_repack(&packs, MaxUnused::Unlimited).is_empty());
        // 250 are needed: 60 beside them are less than a fifth of 310.
        assert_eq!(to_repack(&packs, MaxUnused::Percent(20)), [2]);
        assert_eq!(to_repack(&packs, MaxUnused::Percent(19)), [2, 4]);
    }

    #[test]
    fn limits_are_read_and_what_is_none_is_refused() {
        assert_eq!("5%".parse(), Ok(MaxUnused::Percent(5)));
        assert_eq!("unlimited".parse(), Ok(MaxUnused::Unlimited));
        for wrong in ["100%", "-1%", "5", "%", "", "5.5%", "Unlimited"] {
            assert!(wrong.parse::<MaxUnused>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn small_blocks_become_one_and_large_ones_stay() {
        let listed = |packs: usize, chunks: usize| Listed { packs, chunks };
        let blocks = [(1, listed(1, 50)), (2, listed(64, 6400)), (3, listed(2, 100))];
        assert_eq!(to_list_again(&blocks), [1, 3]);
        assert_eq!(to_list_again(&blocks[..2]), [0; 0], "one alone would be one again");
        let many: Vec<_> = (0..30).map(|i| (i, listed(1, 16_000))).collect();
        assert_eq!(to_list_again(&many).len(), 30, "768 kB each, three in a block at least");
    }

    proptest! {
        #[test]
        fn what_stays_is_within_the_limit_and_nothing_is_written_for_nothing(
            packs in prop::collection::vec((0u64..1000, 0u64..1000), 0..20), share in 0u8..100,
        ) {
            let packs: Vec<_> =
                packs.iter().enumerate().map(|(i, (n, u))| (i, content(*n, *u))).collect();
            let max = MaxUnused::Percent(share);
            let chosen = to_repack(&packs, max);
            let part = |i: &usize| packs[*i].1.needed > 0 && packs[*i].1.unused() > 0;
            prop_assert!(chosen.iter().all(part));
            let left = |chosen: &[usize]| -> u64 {
                let left = packs.iter().filter(|(i, c)| !chosen.contains(i) && c.needed > 0);
                left.map(|(_, content)| content.unused()).sum()
            };
            let needed: u64 = packs.iter().map(|(_, content)| content.needed).sum();
            prop_assert!(left(&chosen) <= max.beside(needed));
            if let Some((_, but_the_last)) = chosen.split_last() {
                prop_assert!(left(but_the_last) > max.beside(needed));
            }
        }
    }
}
