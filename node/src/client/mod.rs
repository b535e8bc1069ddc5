//! What commands do with a mesh: connect, back up, list, restore, look. No daemon: the command itself dials
//! the holders, and streams shards straight to and from them.

pub mod audit;
pub mod backup;
pub mod browse;
mod buffers;
pub mod check;
pub mod device;
pub mod extend;
pub mod forget;
mod given_up;
pub mod heads;
pub mod index;
pub mod inventory;
mod items;
pub mod ledger;
pub mod mesh;
mod met;
pub mod mount;
mod named;
mod opened;
pub mod operator;
pub mod packs;
mod papers;
pub mod partners;
pub mod promises;
pub mod prove;
pub mod prune;
pub mod recipients;
pub mod recovery;
pub mod release;
pub mod repair;
pub mod restore;
pub mod statements;
pub mod status;
pub mod surplus;
mod survey;
pub mod tags;
pub mod vault;
mod walk;
pub mod what_if;

use protocol::id::{NodeId, StripeId};

/// Why a command cannot do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The state folder.
    #[error(transparent)]
    Home(#[from] crate::home::HomeError),
    /// The settings.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The network.
    #[error(transparent)]
    Net(#[from] crate::net::NetError),
    /// Nobody answers.
    #[error("no node of the mesh can be reached{0}")]
    NoNode(String),
    /// No such vault here.
    #[error("there is no vault {0} here")]
    NoVault(String),
    /// A vault of this name is here already.
    #[error("there is a vault {0} here already")]
    VaultExists(String),
    /// The vault took this device's right to write away.
    #[error("this host may not write to the vault any more: its device was revoked")]
    Revoked,
    /// Another process writes to the vault.
    #[error("another strewn on this host is writing to the vault")]
    Locked,
    /// The operator's key is needed and not here.
    #[error("{0} needs the operator's key, and it is not here")]
    NoOperator(&'static str),
    /// No placement satisfies the policy.
    #[error("the policy cannot be met: {error}{}", and(.why))]
    Unplaceable {
        /// What is missing.
        error: protocol::placement::Unplaceable,
        /// Partners that are a reason for that.
        why: Vec<backup::LeftOut>,
        /// Whether it was to go on degraded already.
        is_degraded: bool,
    },
    /// What was placed does not satisfy the policy.
    #[error("the policy is not met: {0}")]
    Violation(#[from] protocol::placement::Violation),
    /// A signed statement does not count.
    #[error("{0}")]
    Certificate(#[from] protocol::certificate::CertificateError),
    /// A node refused.
    #[error("node {node} refused: {refusal}")]
    Refused {
        /// Which.
        node: String,
        /// Why.
        refusal: protocol::message::Refusal,
    },
    /// A node did not do its part.
    #[error("node {node}: {what}")]
    Node {
        /// Which.
        node: String,
        /// What went wrong.
        what: String,
    },
    /// A stripe cannot be read.
    #[error("stripe {stripe}: {found} of the {needed} shards needed can be read")]
    Destroyed {
        /// Which.
        stripe: StripeId,
        /// Shards found.
        found: usize,
        /// Shards needed.
        needed: usize,
    },
    /// Chunks were lost on their way to the holders.
    #[error("{0} chunks were lost between the source and the holders, so no snapshot was made")]
    Unsent(usize),
    /// Somebody gave up, meanwhile, what a backup relied on.
    #[error("{0} stripes that this backup relied on were given up meanwhile")]
    GivenUp(usize),
    /// Something may be known only to nodes that do not answer.
    #[error(
        "nothing is given up while {0} do not answer: they alone could know of a snapshot that is held widely"
    )]
    Untold(String),
    /// Nobody knows where a stripe lies.
    #[error("stripe {0}: no reachable node has its record")]
    NoRecord(StripeId),
    /// The log of this device has entries that nobody who answers has.
    #[error(
        "this device's log goes on to entry {known}, and no node that answers has the entries before it"
    )]
    LogGap {
        /// The last entry known here.
        known: u64,
    },
    /// A chunk is in no index.
    #[error("chunk {0} is in no index that can be read")]
    NoChunk(protocol::id::ChunkId),
    /// What was read is not what was written.
    #[error("what was read is not what was written: {0}")]
    Content(String),
    /// No such snapshot.
    #[error("there is no snapshot {0}")]
    NoSnapshot(String),
    /// No node lies in a domain that somebody named.
    #[error("no node lies in {label}; there are {known}")]
    NoDomain {
        /// What was named.
        label: String,
        /// What there is of that level.
        known: String,
    },
    /// The identity does not open it.
    #[error("{0}")]
    Identity(String),
    /// A recipient cannot be used.
    #[error("{0}")]
    Recipient(String),
    /// A source cannot be read.
    #[error(transparent)]
    Source(#[from] crate::source::SourceError),
    /// The target cannot be written.
    #[error(transparent)]
    Tree(#[from] crate::restore::tree::TreeError),
    /// The repository cannot be put together.
    #[error(transparent)]
    Git(#[from] crate::restore::git::GitRestoreError),
    /// A local cache.
    #[error("the local index: {0}")]
    Index(String),
    /// The system.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Partners that are a reason for something, in words behind it.
fn and(why: &[backup::LeftOut]) -> String {
    let texts: Vec<String> = why.iter().map(ToString::to_string).collect();
    if texts.is_empty() { String::new() } else { format!("; {}", texts.join("; ")) }
}

impl ClientError {
    /// What was read is not what it should be.
    pub(crate) fn content(what: impl std::fmt::Display) -> Self {
        Self::Content(what.to_string())
    }

    /// A node did not do what it was asked.
    pub(crate) fn node(node: NodeId, what: impl std::fmt::Display) -> Self {
        Self::Node { node: node.short(), what: what.to_string() }
    }
}

/// Results of commands.
pub type Result<T> = std::result::Result<T, ClientError>;
