//! Recovery: how a vault comes back to a machine that has nothing but the recovery identity and the address of a node.
//!
//! `card` makes what holders keep for it, `find` asks them, `take` brings the vault back, `kit` is the page with all that
//! is needed, and `drill` shows that it is enough. What is believed on the
//! way: who opens a card knows what an operator and the vault's key signed, and nothing of who sent it. So whoever recovers
//! compares the vault's fingerprint with the kit; everything after that is checked as always.

pub(super) mod card;
mod drill;
mod find;
mod kit;
mod take;

pub(super) use drill::last as last_drill;
pub use drill::{Drilled, drill, remember as remember_drill};
pub use find::{Candidate, Found, find};
pub use kit::{Kit, Page, spread};
pub use take::{Device, Recovered, recover};

use super::ClientError;
use protocol::id::VaultId;

/// Why nothing is recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// None of the nodes could be asked.
    #[error("no node could be asked: {0}")]
    NoAnswer(String),
    /// They know nothing for this identity.
    #[error("{0} keeps no vault that this identity opens")]
    Nothing(String),
    /// What they gave is not what it should be.
    #[error("of {count} recovery cards none can be used: {reason}")]
    Unusable {
        /// How many there were.
        count: usize,
        /// What is wrong with the last.
        reason: String,
    },
    /// By this machine's clock the vault's certificate does not count.
    #[error("vault {} is vouched for from {from} until {until}, and the clock of this machine shows {now}", .vault.short())]
    Clock {
        /// The vault.
        vault: VaultId,
        /// What the clock shows.
        now: String,
        /// Since when the vault is vouched for.
        from: String,
        /// Until when.
        until: String,
    },
    /// No vault of that name among those found.
    #[error("none of the vaults found is {wanted}: there are {known}")]
    NotAmong {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// It is here already.
    #[error("vault {} is on this host already, as {name}", .vault.short())]
    Known {
        /// The vault.
        vault: VaultId,
        /// Its name here.
        name: String,
    },
    /// Nodes vouch for the vault and have no papers of it.
    #[error("no node that answers has the papers of vault {}", .0.short())]
    NoPapers(VaultId),
    /// The mesh does not take this machine for a device of the vault.
    #[error("the nodes do not let this machine in as a device of vault {}: {source}", .vault.short())]
    NotLetIn {
        /// The vault.
        vault: VaultId,
        /// What the last of them said.
        source: Box<ClientError>,
    },
    /// Everything else.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl From<crate::home::HomeError> for RecoverError {
    fn from(error: crate::home::HomeError) -> Self {
        Self::Client(error.into())
    }
}
