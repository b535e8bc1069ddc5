//! So many bytes a second and no more, for all lanes of a process together.
//!
//! Whoever moves bytes books time on one line, a grain of at most 64 KiB at a time, and waits until it comes:
//! first come, first served, and smooth. Time that nobody booked is lost, but for a moment that makes up for late timers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The lowest rate, in bytes a second: below it the other side would take what comes for a stall.
pub const RATE_MIN: u64 = 64 << 10;
/// What timers may be late by without costing rate.
const SLACK: Duration = Duration::from_millis(50);
/// Each transfer gets so many bytes a second at least, several times what the other side's watchdog asks for;
/// others wait for their turn.
const SHARE: u64 = 16 << 10;
/// More transfers than this are never going on at once.
const TURNS_MAX: u64 = 4096;

/// A rate that everything which moves bytes in one direction shares.
#[derive(Debug, Clone)]
pub struct Rate {
    per_second: u64,
    free_at: Arc<Mutex<Option<Instant>>>,
    turns: Arc<Semaphore>,
}

/// Keeps a place among the transfers that are going on.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>);

impl Rate {
    /// So many bytes a second, at least [`RATE_MIN`].
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        let per_second = per_second.max(RATE_MIN);
        let turns = (per_second / SHARE).min(TURNS_MAX) as usize;
        Self { per_second, free_at: Arc::default(), turns: Arc::new(Semaphore::new(turns)) }
    }

    /// Waits until so many bytes may move.
    pub(super) async fn pass(&self, bytes: usize) {
        let takes = u64::try_from(bytes as u128 * 1_000_000_000 / u128::from(self.per_second));
        let takes = Duration::from_nanos(takes.unwrap_or(u64::MAX));
        let begin = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(SLACK).unwrap_or(now);
            let begin = free_at.map_or(now, |free_at| free_at.max(earliest));
            *free_at = Some(begin + takes);
            begin
        };
        tokio::time::sleep_until(begin).await;
    }

    /// Waits for a place among the transfers that are going on. Without it, many at once would each be so
    /// slow that the other side gives up.
    pub(super) async fn turn(&self) -> Turn {
        // Nobody closes the semaphore.
        Turn(Arc::clone(&self.turns).acquire_owned().await.ok())
    }
}

/// A turn where there is a rate to share.
pub(super) async fn turn(rate: Option<Rate>) -> Turn {
    match rate {
        Some(rate) => rate.turn().await,
        None => Turn(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GRAIN: usize = 64 << 10;

    async fn move_bytes(rate: &Rate, bytes: u64) {
        for _ in 0..bytes / GRAIN as u64 {
            rate.pass(GRAIN).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_takes_the_time_that_it_must() {
        let rate = Rate::new(10 * MIB);
        let begin = Instant::now();
        move_bytes(&rate, 100 * MIB).await;
        let took = begin.elapsed();
        assert!(
            took >= Duration::from_millis(9_900) && took < Duration::from_millis(10_200),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn all_lanes_share_it_and_each_gets_its_part() {
        let rate = Rate::new(8 * MIB);
        let begin = Instant::now();
        let lanes = (0..4).map(|_| async {
            move_bytes(&rate, 8 * MIB).await;
            begin.elapsed()
        });
        let ends = futures::future::join_all(lanes).await;
        for end in ends {
            assert!((3.8..4.2).contains(&end.as_secs_f64()), "{end:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_line_saves_nothing_up() {
        let rate = Rate::new(MIB);
        rate.pass(GRAIN).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let begin = Instant::now();
        move_bytes(&rate, 10 * MIB).await;
        assert!(begin.elapsed() >= Duration::from_millis(9_850), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn at_a_low_rate_few_transfers_go_on_at_once() {
        let rate = Rate::new(1);
        assert_eq!(rate.per_second, RATE_MIN);
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(rate.turn().await);
        }
        let fifth = tokio::time::timeout(Duration::from_secs(60), rate.turn());
        assert!(fifth.await.is_err());
        turns.pop();
        let _fifth = rate.turn().await;
    }
}
