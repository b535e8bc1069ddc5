//! Settings: one TOML file with sensible defaults.

use crate::home::{Home, HomeError, read_file, write_file};
use crate::net::{NetLimits, RATE_MIN, Rate};
use crate::service::{HOOKS_EXAMPLE, HookConfig};
use crate::size::ByteSize;
use libp2p::Multiaddr;
use protocol::peer::PeerConfig;
use protocol::tag::check_tag;
use protocol::time::Period;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

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
    /// A backup profile or a hook cannot be meant.
    #[error("{path}: {what}")]
    Meaning {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what to write.
        what: String,
    },
}

/// The settings of a node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct NodeConfig {
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Where others reach this node, when that is not where it listens.
    pub external: Vec<Multiaddr>,
    /// Bytes of shards that it takes.
    pub quota: ByteSize,
    /// Bytes of the disk that it leaves free.
    pub reserve: ByteSize,
    /// Bytes that one vault may add in a day; no limit but the quota when absent.
    pub growth_per_day: Option<ByteSize>,
    /// Bytes of shards that one vault may have on this node; without it as much as the quota has room for.
    pub vault_quota: Option<ByteSize>,
    /// Bytes that go to and come from each partner in a second; without it as many as come.
    pub partner_per_second: Option<ByteSize>,
    /// The longest lock that it promises.
    pub longest_lock: Period,
    /// How long another node may be silent before what it holds is rebuilt elsewhere.
    pub patience: Period,
    /// Bytes that repairs may move in a second, in the long run.
    pub repair_per_second: ByteSize,
    /// In how long it reads all that it holds, to see whether it is whole.
    pub scrub_period: Period,
    /// In how long it asks other holders once about every shard of what it holds a shard of, too.
    pub audit_period: Period,
    /// Nodes to learn of the others from, each ending in /p2p/….
    pub bootstrap: Vec<Multiaddr>,
    /// Most bytes a second that it sends.
    pub limit_upload: Option<RateLimit>,
    /// Most bytes a second that it receives.
    pub limit_download: Option<RateLimit>,
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
            growth_per_day: None,
            vault_quota: None,
            partner_per_second: None,
            longest_lock: PeerConfig::default().lock_max,
            patience: PeerConfig::default().patience,
            repair_per_second: ByteSize(PeerConfig::default().repair_per_second),
            scrub_period: PeerConfig::default().scrub_period,
            audit_period: PeerConfig::default().audit_period,
            bootstrap: Vec::new(),
            limit_upload: None,
            limit_download: None,
        }
    }
}

/// The settings of commands.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ClientConfig {
    /// Nodes to begin with, each ending in /p2p/…; the node of this host and those it knows are used as well.
    pub nodes: Vec<Multiaddr>,
    /// Most bytes a second that commands send.
    pub limit_upload: Option<RateLimit>,
    /// Most bytes a second that commands receive.
    pub limit_download: Option<RateLimit>,
}

/// Bytes a second, as people write them: at least [`RATE_MIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ByteSize")]
pub struct RateLimit(u64);

impl TryFrom<ByteSize> for RateLimit {
    type Error = String;
    fn try_from(size: ByteSize) -> Result<Self, String> {
        if size.0 >= RATE_MIN {
            return Ok(Self(size.0));
        }
        Err(format!(
            "{size} a second is too little: the other side would take it for a stall; at least {} a second",
            ByteSize(RATE_MIN)
        ))
    }
}

impl FromStr for RateLimit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let size: ByteSize = text.parse().map_err(|e: crate::size::SizeError| e.to_string())?;
        size.try_into()
    }
}

fn limits(upload: Option<RateLimit>, download: Option<RateLimit>) -> NetLimits {
    let rate = |limit: Option<RateLimit>| limit.map(|limit| Rate::new(limit.0));
    NetLimits { upload: rate(upload), download: rate(download), ..NetLimits::default() }
}

impl NodeConfig {
    /// What bounds its network.
    #[must_use]
    pub fn limits(&self) -> NetLimits {
        limits(self.limit_upload, self.limit_download)
    }
}

impl ClientConfig {
    /// What bounds a command's network.
    #[must_use]
    pub fn limits(&self) -> NetLimits {
        limits(self.limit_upload, self.limit_download)
    }
}

/// What the command line says instead of the settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrides {
    /// Most bytes a second that the command sends.
    pub limit_upload: Option<RateLimit>,
    /// Most bytes a second that it receives.
    pub limit_download: Option<RateLimit>,
}

/// The settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Of the node.
    pub node: NodeConfig,
    /// Of commands.
    pub client: ClientConfig,
    /// Who is told what happens on the node.
    pub hooks: HookConfig,
    /// What `strewn backup` does when it is not told what.
    pub backup: Vec<Profile>,
}

/// A backup to be made again and again. Its keys are named as the options of `strewn backup`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Profile {
    /// Its name, for `--profile`.
    pub name: String,
    /// The vault; the only one when there is one.
    pub vault: Option<String>,
    /// Git repositories and folders: absolute, or below the home folder as `~/…`.
    pub sources: Vec<PathBuf>,
    /// Folders of which every Git repository below is a source, named likewise.
    #[serde(alias = "git-roots")]
    pub git_root: Vec<PathBuf>,
    /// Words to find the snapshots by.
    #[serde(alias = "tags")]
    pub tag: Vec<String>,
    /// Take Git repositories as plain folders.
    pub as_directory: bool,
    /// Go on although the policy cannot be met.
    pub allow_degraded: bool,
    /// Read every file again.
    pub force: bool,
    /// Leave out what matches.
    pub exclude: Vec<String>,
    /// Leave out what matches a line of these files.
    pub exclude_file: Vec<PathBuf>,
    /// Leave out what is in caches.
    pub exclude_caches: bool,
    /// Leave out what lies on other file systems.
    pub one_file_system: bool,
}

impl Profile {
    /// Checks it, and puts the home folder in place of `~`.
    fn finish(&mut self, user: Option<&Path>) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("a [[backup]] has no name: add name = \"daily\"".into());
        }
        if self.sources.is_empty() && self.git_root.is_empty() {
            return Err(format!(
                "[[backup]] {:?} has no sources: add sources = [\"~/src\"]",
                self.name
            ));
        }
        if self.as_directory && !self.git_root.is_empty() {
            return Err(format!(
                "[[backup]] {:?}: git-roots looks for Git repositories, and as-directory takes them as folders: \
                 make two blocks of it",
                self.name
            ));
        }
        for word in &self.tag {
            check_tag(word).map_err(|e| format!("[[backup]] {:?}: {e}", self.name))?;
        }
        let roots = self.git_root.iter_mut();
        for source in self.sources.iter_mut().chain(roots).chain(&mut self.exclude_file) {
            if let Ok(below) = source.strip_prefix("~") {
                let user = user.ok_or("$HOME is not set, and a path begins with ~")?;
                *source = user.join(below);
            }
            if !source.is_absolute() {
                return Err(format!(
                    "[[backup]] {:?}: {} depends on where the command is run: begin it with / or ~/",
                    self.name,
                    source.display()
                ));
            }
        }
        Ok(())
    }
}

/// A profile as it stands, commented out, in a new file.
const EXAMPLE: &str = "
# What `strewn backup` does when no source is named; one block each, --profile NAME chooses one.
# Keys are named as the options of `strewn backup`.
# [[backup]]
# name = \"daily\"
# vault = \"work\"
# sources = [\"~/src\", \"/srv/git/project.git\"]
# git-roots = [\"/srv/git\"]
# tags = [\"daily\"]
# exclude = [\"*.o\", \"/target/\"]
";

impl Config {
    /// The settings in the state folder, the defaults when there are none, and what the command line says instead.
    pub fn load(home: &Home) -> Result<Self, ConfigError> {
        let path = home.path("strewn.toml");
        let mut config = match read_file(&path)? {
            Some(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                Self::parse(&text, &path)?
            }
            None => Self::default(),
        };
        let overrides = home.overrides();
        let Config { node, client, .. } = &mut config;
        for limit in [&mut node.limit_upload, &mut client.limit_upload] {
            *limit = overrides.limit_upload.or(*limit);
        }
        for limit in [&mut node.limit_download, &mut client.limit_download] {
            *limit = overrides.limit_download.or(*limit);
        }
        Ok(config)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text)
            .map_err(|e| ConfigError::Toml { path: path.into(), source: Box::new(e) })?;
        let user = std::env::var_os("HOME").map(PathBuf::from);
        let wrong = |what: String| ConfigError::Meaning { path: path.into(), what };
        config.hooks.check().map_err(wrong)?;
        let mut names = BTreeSet::new();
        for profile in &mut config.backup {
            profile.finish(user.as_deref()).map_err(wrong)?;
            if !names.insert(&profile.name) {
                return Err(wrong(format!("there are two [[backup]] named {:?}", profile.name)));
            }
        }
        Ok(config)
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
             # Bytes that one vault may add in a day, and the longest lock promised: what a stolen device key can cost.\n\
             # growth-per-day = \"50GiB\"\n\
             # How much one vault may have on this node.\n\
             # vault-quota = \"100GiB\"\n\
             # How much goes to and comes from each partner in a second.\n\
             # partner-per-second = \"10MiB\"\n\
             # longest-lock = \"400d\"\n\
             # How long another node may be silent before what it holds is rebuilt elsewhere, and bytes that repairs\n\
             # may move in a second. Too little patience moves what only slept.\n\
             # patience = \"1d\"\n\
             # repair-per-second = \"16MiB\"\n\
             # In so long all shards are read once, to see whether they are whole.\n\
             # scrub-period = \"30d\"\n\
             # In so long other holders are asked once to prove every shard of what is held here, too.\n\
             # audit-period = \"7d\"\n\
             # Nodes to learn of the others from.\n\
             bootstrap = {}\n\
             # Most bytes a second: no limit.\n\
             # limit-upload = \"10MiB\"\n\
             # limit-download = \"10MiB\"\n\n\
             [client]\n\
             # Nodes that commands begin with, besides the node of this host.\n\
             nodes = {}\n\
             # Most bytes a second that commands move: no limit.\n\
             # limit-upload = \"10MiB\"\n\
             # limit-download = \"10MiB\"\n{HOOKS_EXAMPLE}{EXAMPLE}",
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

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("strewn.toml")).map_err(|e| e.to_string())
    }

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
        assert_eq!(read.backup, []);
    }

    #[test]
    fn what_is_written_as_an_example_can_be_used() {
        let example: String = EXAMPLE
            .lines()
            .skip_while(|line| !line.contains("[[backup]]"))
            .map(|line| line.trim_start_matches("# ").to_owned() + "\n")
            .collect();
        let profile = &parse(&example).unwrap().backup[0];
        assert_eq!((profile.name.as_str(), profile.vault.as_deref()), ("daily", Some("work")));
        assert_eq!(profile.tag, ["daily"]);
        assert!(profile.sources[0].is_absolute(), "{:?}", profile.sources);
    }

    #[test]
    fn a_mistake_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().into());
        std::fs::write(home.path("strewn.toml"), "[node]\nquotta = 1\n").unwrap();
        let error = Config::load(&home).unwrap_err().to_string();
        assert!(error.contains("quotta") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_profile_that_cannot_be_meant_is_refused() {
        let one = |keys: &str| parse(&format!("[[backup]]\n{keys}")).unwrap_err();
        assert!(one("name = 'a'\nsources = ['/a']\nexlude = ['x']").contains("exlude"));
        assert!(one("sources = ['/a']").contains("no name"));
        assert!(one("name = 'a'").contains("no sources"));
        assert!(one("name = 'a'\nsources = ['src']").contains("begin it with / or ~/"));
        assert!(one("name = 'a'\ngit-root = ['src']").contains("begin it with / or ~/"));
        let both = one("name = 'a'\ngit-roots = ['/a']\nas-directory = true");
        assert!(both.contains("two blocks"), "{both}");
        assert!(one("name = 'a'\nsources = ['/a']\ntags = ['a,b']").contains("no tag"));
        let twice = "name = 'a'\nsources = ['/a']\n[[backup]]\nname = 'a'\nsources = ['/b']";
        assert!(one(twice).contains("two [[backup]]"));
    }

    #[test]
    fn a_limit_that_would_look_like_a_stall_is_refused() {
        let slow = parse("[client]\nlimit-upload = '1KiB'").unwrap_err();
        assert!(slow.contains("64 KiB a second"), "{slow}");
        let config =
            parse("[client]\nlimit-upload = '1MiB'\n[node]\nlimit-download = '2MiB'").unwrap();
        assert!(
            config.client.limits().upload.is_some() && config.client.limits().download.is_none()
        );
        assert!(config.node.limits().upload.is_none() && config.node.limits().download.is_some());
    }
}
