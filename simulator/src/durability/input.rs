//! A mesh, a code and what goes wrong, as a file describes them: TOML, read strictly. What the fields mean is documented in
//! `simulator/DURABILITY.md` and in the shipped `simulator/models/*.toml`. `text` has the file's fields, `reading` makes an [`Input`] of them.

mod reading;
mod text;

use super::exposure::Stripe;
use super::law::Law;
use super::placing::{PlacingError, Strategy, place};
use super::stripe::{Cause, Harm, Model, ModelError, Repairers, Wear};
use protocol::label::{Domain, Level, Site};
use serde::Deserialize;
use std::collections::BTreeMap;

pub use super::written::Years;
pub use reading::read_text;

/// Most nodes of a mesh.
pub const NODES_MAX: usize = 100_000;
/// Most bytes of an input file or a trace.
pub const FILE_MAX: u64 = 64 << 20;

/// Why a file is not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// It is too large.
    #[error("{0} is larger than {FILE_MAX} bytes")]
    TooLarge(String),
    /// Its text is wrong: the message has the line.
    #[error("{0}")]
    Text(String),
    /// What it says together cannot be meant.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// The stripe cannot be placed.
    #[error("no placement: {0}")]
    Placing(#[from] PlacingError),
}

/// What a node's provider asks, in one currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// A month, for 10^12 bytes stored.
    pub storage_tb: f64,
    /// For 10^12 bytes sent out.
    pub egress_tb: f64,
    /// For a million requests.
    pub requests_million: f64,
}

/// What is wanted: for `strewn-sim plan`, which other commands ignore.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Nines of one stripe in the mission.
    pub nines: f64,
    /// Bytes of data to keep.
    pub data_bytes: f64,
    /// Most to pay a month, if that is bounded.
    pub budget: Option<f64>,
    /// Longest time to read everything back, if that is bounded.
    pub restore: Option<Years>,
    /// Megabits a second that the machine which restores takes, if that bounds it.
    pub line_mbit: Option<f64>,
    /// Most data shards.
    #[serde(default = "most_data")]
    pub k_max: usize,
    /// Most shards.
    #[serde(default = "most_shards")]
    pub n_max: usize,
}

/// When an empty node with the same labels stands where one was lost, and so whether its shards go elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub enum Replacement {
    /// At once: shards are rebuilt in place.
    AtOnce,
    /// After this time: until then shards go elsewhere, by the rule of placement.
    After(Law),
    /// What is lost stays so.
    Never,
}

fn most_data() -> usize {
    16
}

fn most_shards() -> usize {
    24
}

/// What goes wrong with the domains of a level.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// What it is.
    pub name: String,
    /// The level whose domains it takes.
    pub level: Level,
    /// The one domain's name, if only one is meant.
    pub only: Option<String>,
    /// Times a year, for each domain, or for each shard where it is `single`.
    pub per_year: f64,
    /// What it does.
    pub harm: Harm,
    /// Whether it takes one shard at a time and not all those of a domain: errors that rest in a disk.
    pub single: bool,
}

/// A mesh, a code, and what goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What it stands for.
    pub about: String,
    /// The mission, in years.
    pub years: f64,
    /// Stripes in the mesh.
    pub stripes: u64,
    /// Bytes of data of a stripe.
    pub stripe_bytes: u64,
    /// Seed of placements and samples.
    pub seed: u64,
    /// Shards needed.
    pub k: usize,
    /// Shards.
    pub n: usize,
    /// The rule of placement.
    pub strategy: Strategy,
    /// The nodes.
    pub sites: Vec<Site>,
    /// Names of operators, by key, for people.
    pub operators: BTreeMap<String, String>,
    /// What goes wrong.
    pub troubles: Vec<Trouble>,
    /// Lifetimes of disks.
    pub wear: Option<Wear>,
    /// Repairs at once.
    pub repairers: Repairers,
    /// Megabits a second of repair in the whole mesh, if that is bounded.
    pub mesh_mbit: Option<f64>,
    /// How long until silence counts as loss: detection and patience.
    pub patience: Law,
    /// How long a rebuild takes then.
    pub transfer: Law,
    /// When a lost node is replaced, for the whole mesh.
    pub replacement: Replacement,
    /// The share of stripes that counts as much lost.
    pub fraction: f64,
    /// What is wanted, if the file says so.
    pub wish: Option<Wish>,
    /// Of each node, what it costs and how many megabits a second it sends.
    pub offers: Vec<(Price, f64)>,
}

impl Input {
    /// The holders of so many stripes.
    ///
    /// # Errors
    /// [`InputError::Placing`].
    pub fn place(&self, stripes: usize) -> Result<Vec<Vec<usize>>, InputError> {
        Ok(place(&self.strategy, &self.sites, (self.k, self.n), stripes, self.seed)?)
    }

    /// The model of one stripe on these holders.
    ///
    /// # Errors
    /// [`InputError::Model`].
    pub fn model(&self, holders: &[usize]) -> Result<Model, InputError> {
        let mut causes = Vec::new();
        for trouble in &self.troubles {
            let mut domains: BTreeMap<Domain, u64> = BTreeMap::new();
            for (shard, &node) in holders.iter().enumerate() {
                let domain = self.sites[node].domain(&trouble.level);
                if self.is_meant(trouble, &domain) {
                    *domains.entry(domain).or_default() |= 1 << shard;
                }
            }
            for (domain, shards) in domains {
                let each: Vec<u64> = if trouble.single {
                    (0..self.n).map(|shard| 1 << shard).filter(|one| shards & one != 0).collect()
                } else {
                    vec![shards]
                };
                causes.extend(each.into_iter().map(|shards| Cause {
                    name: format!("{}: {}", trouble.name, self.name_of(&domain)),
                    shards,
                    rate: trouble.per_year,
                    harm: trouble.harm.clone(),
                }));
            }
        }
        let model = Model {
            n: self.n,
            k: self.k,
            causes,
            wear: self.wear.clone(),
            repairers: self.repairers,
        };
        model.check()?;
        Ok(model)
    }

    /// Whether a trouble befalls this domain of its level.
    #[must_use]
    pub fn is_meant(&self, trouble: &Trouble, domain: &Domain) -> bool {
        let name = self.name_of(domain);
        let is_named = |only: &str| name.split_once('=').is_some_and(|(_, name)| name == only);
        trouble.only.as_deref().is_none_or(is_named)
    }

    /// The levels that anything that goes wrong has.
    #[must_use]
    pub fn levels(&self) -> Vec<Level> {
        let mut levels: Vec<Level> = self.troubles.iter().map(|t| t.level.clone()).collect();
        levels.sort();
        levels.dedup();
        levels
    }

    /// The stripes in the form of the exact part.
    #[must_use]
    pub fn stripes_of(&self, placed: &[Vec<usize>]) -> Vec<Stripe> {
        placed.iter().map(|holders| Stripe { k: self.k, holders: holders.clone() }).collect()
    }

    /// A domain as the file names it: nodes by number, operators by name.
    #[must_use]
    pub fn name_of(&self, domain: &Domain) -> String {
        let name = domain.name.as_deref().unwrap_or("unknown");
        match domain.level.as_str() {
            Level::NODE => {
                let (number, rest) = name.split_at_checked(16).unwrap_or((name, ""));
                match u64::from_str_radix(number, 16) {
                    Ok(number) if rest.bytes().all(|digit| digit == b'0') => {
                        format!("node={number}")
                    }
                    // That of a real node is a key.
                    _ => domain.short(),
                }
            }
            Level::OPERATOR => {
                let known = self.operators.get(name).filter(|name| !name.is_empty());
                format!("operator={}", known.map_or("unknown", String::as_str))
            }
            _ => domain.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const SMALL: &str = r#"
        name = "small"
        [code]
        k = 2
        n = 3
        [policy.survive]
        any = [{ provider = 1 }]
        [[nodes]]
        count = 2
        operator = "one"
        labels = { provider = "a" }
        [[nodes]]
        labels = { provider = "b" }
        [[nodes]]
        labels = { provider = "c" }
        [repair]
        detect = { uniform = ["0h", "1h"] }
        transfer = { exponential = "1d" }
        [[cause]]
        name = "disk"
        level = "node"
        per_year = 0.02
        [[cause]]
        name = "account closed"
        level = "provider"
        per_year = 0.001
        notice = "30d"
        only = "b"
    "#;

    #[test]
    fn causes_fall_on_the_shards_that_share_the_domain() {
        let input = Input::parse(SMALL).unwrap();
        let holders = input.place(1).unwrap().remove(0);
        let model = input.model(&holders).unwrap();
        assert_eq!(model.causes.len(), 4);
        let account = &model.causes[3];
        assert_eq!(
            (account.name.as_str(), account.shards.count_ones()),
            ("account closed: provider=b", 1)
        );
        assert!(matches!(account.harm, Harm::Lost { notice, .. } if notice > 0.08));
    }

    #[test]
    fn errors_point_at_the_line() {
        let error = |from: &str, to: &str| {
            assert!(SMALL.contains(from));
            Input::parse(&SMALL.replacen(from, to, 1)).unwrap_err().to_string()
        };
        assert!(error("k = 2", "k = 4").starts_with("line 3: 4 of 3 shards"));
        let span = error("\"1d\"", "\"1 fortnight\"");
        assert!(span.contains("line 18"), "{span}");
        let unknown = error("per_year = 0.02", "per_yaer = 0.02");
        assert!(unknown.contains("per_yaer") && unknown.contains("line 22"), "{unknown}");
        assert!(error("per_year = 0.02", "per_year = -1").starts_with("line 19: per_year"));
        assert!(error("any = [{ provider = 1 }]", "any = []").contains("no survive clause"));
        let strategy = error("[code]", "placement = { strategy = \"raid\" }\n[code]");
        assert!(strategy.starts_with("line 3:") && strategy.contains("copysets"), "{strategy}");
        let law = error("{ exponential = \"1d\" }", "{ weibull = \"1d\" }");
        assert!(law.contains("shape"), "{law}");
    }

    #[test]
    fn times_in_a_file_beside_the_model_are_a_law_and_its_lines_are_named() {
        let folder = std::env::temp_dir().join(format!("strewn-times-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = SMALL.replacen(
            "{ exponential = \"1d\" }",
            "{ empirical = \"times.csv\", column = \"hours\", unit = \"h\" }",
            1,
        );
        let path = folder.join("model.toml");
        std::fs::write(&path, &text).unwrap();
        let missing = Input::read(&path).unwrap_err().to_string();
        std::fs::write(folder.join("times.csv"), "disk,hours\na,12\nb,36\n").unwrap();
        let input = Input::read(&path).unwrap();
        std::fs::write(folder.join("times.csv"), "disk,hours\na,12\nb,soon\n").unwrap();
        let wrong = Input::read(&path).unwrap_err().to_string();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(missing.contains("times.csv"), "{missing}");
        assert!((input.transfer.mean() * 365.0 - 1.0).abs() < 1e-9);
        assert!(wrong.contains("times.csv line 3") && wrong.contains("soon"), "{wrong}");
    }

    #[test]
    fn a_replacement_is_a_law_or_never_and_copysets_must_come_back() {
        let with = |replace: &str| {
            SMALL.replacen("[repair]", &format!("[repair]\nreplace = {replace}"), 1)
        };
        assert_eq!(Input::parse(SMALL).unwrap().replacement, Replacement::AtOnce);
        assert_eq!(Input::parse(&with("\"never\"")).unwrap().replacement, Replacement::Never);
        let after = Input::parse(&with("\"30d\"")).unwrap().replacement;
        assert!(matches!(after, Replacement::After(Law::Fixed(_))));
        assert!(Input::parse(&with("\"soon\"")).unwrap_err().to_string().contains("span"));
        let sets = with("\"never\"").replacen(
            "[code]",
            "placement = { strategy = \"copysets\", scatter = 2 }\n[code]",
            1,
        );
        assert!(Input::parse(&sets).unwrap_err().to_string().contains("copysets"));
    }

    #[test]
    fn every_shipped_model_reads_and_can_be_placed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let input = Input::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let holders = input.place(1).unwrap().remove(0);
            input.model(&holders).unwrap();
            seen += 1;
        }
        assert!(seen >= 3);
    }
}
