//! One bulk direction at a time on a link.
//!
//! Two sides that push at each other over one yamux connection can stop for ever once both TCP
//! buffers are full (rust-yamux issue 227), so whoever starts transfers on a link lets them go one way at a
//! time. Many of one direction go together; waiting ones of the other direction come next.

use std::sync::Arc;
use tokio::sync::{Mutex, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The gate of one link.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
}

/// The direction that is open, held open by the permits given out.
#[derive(Debug, Default)]
struct State {
    outward: bool,
    open: Arc<RwLock<()>>,
}

/// Bulk bytes may flow while this is held.
#[derive(Debug)]
pub struct Permit(#[allow(dead_code, reason = "held, not read")] OwnedRwLockReadGuard<()>);

impl Gate {
    /// Waits until bytes may be sent.
    pub async fn outward(&self) -> Permit {
        self.enter(true).await
    }

    /// Waits until bytes may be asked for.
    pub async fn inward(&self) -> Permit {
        self.enter(false).await
    }

    async fn enter(&self, outward: bool) -> Permit {
        // Whoever turns the gate keeps others out until the last permit of the old direction is
        // back: the mutex is fair, so neither direction starves.
        let mut state = self.state.lock().await;
        if state.outward != outward {
            let turned: OwnedRwLockWriteGuard<()> = Arc::clone(&state.open).write_owned().await;
            drop(turned);
            state.outward = outward;
        }
        Permit(Arc::clone(&state.open).read_owned().await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn one_direction_at_a_time_and_the_other_comes_next() {
        let gate = Arc::new(Gate::default());
        let short = Duration::from_millis(50);
        let out = gate.outward().await;
        let also_out = timeout(short, gate.outward()).await.expect("the same direction is open");
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.inward().await }
        });
        tokio::time::sleep(short).await;
        assert!(!waiting.is_finished());
        assert!(
            timeout(short, gate.outward()).await.is_err(),
            "who waits for the other direction is next"
        );
        drop((out, also_out));
        let inward = timeout(short, waiting).await.expect("the gate turned").unwrap();
        drop(inward);
        timeout(short, gate.outward()).await.expect("and back");
    }
}
