//! What clouds sign about machines, verified offline against the keys that somebody configured: whose machine it is and where it lies.
//!
//! | cloud | what it signs | what it is bound to |
//! |---|---|---|
//! | AWS | the instance identity document, in PKCS #7 (`rsa2048`) or with a signature beside it | nothing: whoever was on the machine once has it for ever |
//! | Google | the instance identity token, a JWT | the node: its audience is [`audience`]; it lasts an hour |
//! | Azure | the attested document, in PKCS #7 | the node, by a nonce of ten digits ([`nonce`]); it lasts six hours |
//!
//! A document says where a machine lies, and not that a node runs on it: that is said by whoever signs the vouch that carries it. What the
//! evidence comes to is `protocol::evidence`'s.

mod aws;
mod azure;
mod gcp;
mod pkcs7;
#[cfg(test)]
mod testing;

use crate::home::{Home, HomeError, read_file};
use protocol::evidence::{Cloud, Document};
use protocol::id::NodeId;
use protocol::label::{Label, Labels, Level};
use protocol::time::Wall;
use std::path::Path;
use x509_cert::Certificate;

/// In the state folder, the folder of the keys by which documents are verified.
pub const FOLDER: &str = "roots";
/// How far clocks may differ.
const SKEW_MS: u64 = 300_000;
/// Most files of keys of one cloud: AWS has one for each region.
const FILES_MAX: usize = 256;

/// Why a document counts for nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// The keys could not be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A file of keys has none.
    #[error("{file}: {what}")]
    Roots {
        /// Which.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// Nothing to verify it by.
    #[error(
        "there are no keys of {cloud} here: put {what} into {folder}/{cloud} of the state folder",
        folder = FOLDER
    )]
    NoRoots {
        /// Whose.
        cloud: &'static str,
        /// What is needed.
        what: &'static str,
    },
    /// It is not such a document.
    #[error("this is no document of {cloud}: {what}")]
    Malformed {
        /// Whose it should be.
        cloud: &'static str,
        /// What is wrong.
        what: String,
    },
    /// None of the keys signed it.
    #[error("none of the keys of {0} that are configured here has signed it")]
    Unsigned(&'static str),
    /// It is of another time.
    #[error(
        "the document does not count at this time: it counts from {from} to {until} (seconds since 1970)"
    )]
    Time {
        /// From when on,
        from: u64,
        /// and until when.
        until: u64,
    },
    /// It was made for something else.
    #[error(
        "the document was made for {found:?}, and {wanted:?} means this node: ask the cloud for one with that"
    )]
    Other {
        /// What it was made for.
        found: String,
        /// What it should have been made for.
        wanted: String,
    },
}

/// What a cloud says about a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Where it lies and whose it is.
    pub labels: Labels,
    /// Its name at the cloud.
    pub instance: String,
    /// Whether the cloud signed the node's name as well.
    pub is_bound: bool,
}

/// The keys of clouds that are believed.
#[derive(Debug, Default)]
pub struct Roots {
    aws: Vec<Certificate>,
    azure: Vec<Certificate>,
    gcp: Vec<gcp::Key>,
}

/// A cloud's name as a label's and a folder's.
#[must_use]
pub fn name(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Aws => "aws",
        Cloud::Gcp => "gcp",
        Cloud::Azure => "azure",
    }
}

/// A node's name among clouds' documents.
fn hash(node: NodeId) -> blake3::Hash {
    blake3::Hash::from_bytes(blake3::derive_key("strewn 2026-11 cloud document nonce v1", &node.0))
}

/// The audience for which Google's token has to be made.
#[must_use]
pub fn audience(node: NodeId) -> String {
    format!("strewn:{}", hash(node).to_hex())
}

/// The nonce with which Azure's document has to be made. It has ten digits and no more: two nodes can have the same.
#[must_use]
pub fn nonce(node: NodeId) -> String {
    let first = u64::from_be_bytes(std::array::from_fn(|i| hash(node).as_bytes()[i]));
    format!("{:010}", first % 10_000_000_000)
}

impl Roots {
    /// The keys in the state folder: `roots/aws/*.pem` (Amazon's certificate of each region), `roots/azure/*.pem` (the authorities that
    /// issue the certificates of metadata.azure.com), `roots/gcp/*.json` (Google's keys, as a JWK set).
    pub fn load(home: &Home) -> Result<Self, CloudError> {
        Self::load_from(&home.path(FOLDER))
    }

    fn load_from(folder: &Path) -> Result<Self, CloudError> {
        let mut roots = Self::default();
        for (name, bytes) in files(&folder.join("aws"))? {
            roots.aws.extend(certificates(&name, &bytes)?);
        }
        for (name, bytes) in files(&folder.join("azure"))? {
            roots.azure.extend(certificates(&name, &bytes)?);
        }
        for (file, bytes) in files(&folder.join("gcp"))? {
            let keys = gcp::keys(&bytes);
            roots.gcp.extend(keys.map_err(|what| CloudError::Roots { file, what })?);
        }
        Ok(roots)
    }

    /// What a document says about a node's machine, if the cloud signed it and it counts at this time.
    pub fn check(
        &self,
        document: &Document,
        node: NodeId,
        at: Wall,
    ) -> Result<Machine, CloudError> {
        match document.cloud {
            Cloud::Aws => aws::check(&self.aws, document),
            Cloud::Gcp => gcp::check(&self.gcp, document, node, at),
            Cloud::Azure => azure::check(&self.azure, document, node, at),
        }
    }
}

fn files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, CloudError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| HomeError::Io { path: folder.into(), source })?,
    };
    let mut found = Vec::new();
    for entry in entries.take(FILES_MAX) {
        let path = entry.map_err(|source| HomeError::Io { path: folder.into(), source })?.path();
        if let Some(bytes) = read_file(&path)? {
            found.push((path.display().to_string(), bytes));
        }
    }
    found.sort();
    Ok(found)
}

fn certificates(file: &str, bytes: &[u8]) -> Result<Vec<Certificate>, CloudError> {
    Certificate::load_pem_chain(bytes)
        .map_err(|e| CloudError::Roots { file: file.into(), what: format!("no certificate: {e}") })
}

/// The labels of these levels.
fn labels(cloud: Cloud, stated: &[(&str, &str)]) -> Result<Labels, CloudError> {
    let malformed = |e: protocol::label::LabelError| CloudError::Malformed {
        cloud: name(cloud),
        what: e.to_string(),
    };
    let mut labels = Vec::new();
    for (level, stated) in [("provider", name(cloud))].iter().chain(stated) {
        labels.push(format!("{level}={stated}").parse::<Label>().map_err(malformed)?);
    }
    Labels::new(labels).map_err(malformed)
}

/// Labels of the levels that a node states, of those that a document shows; an error names one that is contradicted.
pub fn borne_out(machine: &Machine, stated: &Labels) -> Result<Labels, String> {
    let mut both = Vec::new();
    for (level, name) in machine.labels.iter() {
        match stated.get(level) {
            None => {}
            Some(said) if said == name => {
                both.push(Label { level: Level::clone(level), name: name.into() });
            }
            Some(said) => {
                return Err(format!("the node states {level}={said}, and the cloud says {name}"));
            }
        }
    }
    Labels::new(both).map_err(|e| e.to_string())
}
