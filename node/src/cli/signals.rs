//! The signals that ask a program to end. Who listens still cleans up behind itself.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// They.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    /// Listens from now on; to a terminal that hangs up only where that is wanted: `nohup` has it ignored, which listening
    /// would undo.
    pub(crate) fn new(hang_up: bool) -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: hang_up.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hang_up => {}
        }
    }
}
