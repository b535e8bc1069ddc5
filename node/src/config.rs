//! Settings: one TOML file with sensible defaults.

use crate::home::{Home, HomeError, read_file, write_file};
use crate::size::ByteSize;
use libp2p::Multiaddr;
use serde::Deserialize;
use std::path::PathBuf;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The file is not what it should be.
    #[error("{path}: {source}")]
    Toml {
        /// Which.
        path: PathBuf,
        /// Line, key and reason.
        source: Box<toml::de::Error>,
    },
}

/// The settings of a node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Where others reach this node, when that is not where it listens.
    pub external: Vec<Multiaddr>,
    /// Bytes of shards that it takes.
    pub quota: ByteSize,
    /// Bytes of the disk that it leaves free.
    pub reserve: ByteSize,
    /// Nodes to learn of the others from, each ending in /p2p/….
    pub bootstrap: Vec<Multiaddr>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        let address = |text: &str| text.parse().expect("a constant address");
        Self {
            listen: vec![
                address("/ip4/0.0.0.0/tcp/7440"),
                address("/ip4/0.0.0.0/udp/7440/quic-v1"),
            ],
            external: Vec::new(),
            quota: ByteSize(100 << 30),
            reserve: ByteSize(1 << 30),
            bootstrap: Vec::new(),
        }
    }
}

/// The settings of commands.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Nodes to begin with, each ending in /p2p/…; the node of this host and those it knows are used as well.
    pub nodes: Vec<Multiaddr>,
}

/// The settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Of the node.
    pub node: NodeConfig,
    /// Of commands.
    pub client: ClientConfig,
}

impl Config {
    /// The settings in the state folder; the defaults when there are none.
    pub fn load(home: &Home) -> Result<Self, ConfigError> {
        let path = home.path("strewn.toml");
        let Some(bytes) = read_file(&path)? else { return Ok(Self::default()) };
        let text = String::from_utf8_lossy(&bytes);
        toml::from_str(&text).map_err(|e| ConfigError::Toml { path, source: Box::new(e) })
    }

    /// Writes a commented file with these values.
    pub fn write(&self, home: &Home) -> Result<(), HomeError> {
        let list = |addresses: &[Multiaddr]| {
            let texts: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
            format!("[{}]", texts.join(", "))
        };
        let text = format!(
            "# Settings of Strewn. What is left out has the default shown by `strewn init --help`.\n\n\
             [node]\n\
             # Where to listen: TCP and QUIC. Open these ports to the other nodes.\n\
             listen = {}\n\
             # Where others reach this node, if that is elsewhere (behind NAT, a public address).\n\
             external = {}\n\
             # Bytes of shards that this node takes, and bytes of the disk that it leaves free.\n\
             quota = {}\n\
             reserve = {}\n\
             # Nodes to learn of the others from.\n\
             bootstrap = {}\n\n\
             [client]\n\
             # Nodes that commands begin with, besides the node of this host.\n\
             nodes = {}\n",
            list(&self.node.listen),
            list(&self.node.external),
            self.node.quota.0,
            self.node.reserve.0,
            list(&self.node.bootstrap),
            list(&self.client.nodes),
        );
        write_file(&home.path("strewn.toml"), text.as_bytes(), 0o644)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().into());
        let mut config = Config::default();
        config.node.quota = ByteSize(7 << 30);
        config.write(&home).unwrap();
        let read = Config::load(&home).unwrap();
        assert_eq!(read.node.quota, config.node.quota);
        assert_eq!(read.node.listen, config.node.listen);
    }

    #[test]
    fn a_mistake_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().into());
        std::fs::write(home.path("strewn.toml"), "[node]\nquotta = 1\n").unwrap();
        let error = Config::load(&home).unwrap_err().to_string();
        assert!(error.contains("quotta") && error.contains("line 2"), "{error}");
    }
}
