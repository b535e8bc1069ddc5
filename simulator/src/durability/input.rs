//! The file that describes a mesh, a code and what goes wrong: TOML, read strictly. Every error has the line. What the
//! fields mean is documented in `simulator/DURABILITY.md` and in the shipped `simulator/models/*.toml`.

use super::exposure::Stripe;
use super::law::Law;
use super::placing::{PlacingError, Strategy, place};
use super::stripe::{Cause, Harm, Model, ModelError, Repairers, Wear};
use super::surveyed::{self, Offer};
use super::written::{LawIn, ReplaceText};
use crate::from_mesh::FromMesh;
use protocol::id::{NodeId, OperatorId};
use protocol::label::{Domain, Labels, Level, Site};
use protocol::policy::{Policy, PolicyText};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;

pub use super::written::Years;

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

/// A policy in a model's file, checked where it stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "PolicyText")]
struct PolicyIn(Policy);

impl TryFrom<PolicyText> for PolicyIn {
    type Error = protocol::policy::PolicyError;
    fn try_from(text: PolicyText) -> Result<Self, Self::Error> {
        Policy::try_from(text).map(Self)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    #[serde(default)]
    about: String,
    #[serde(default = "one_year")]
    years: Years,
    stripes: Option<u64>,
    #[serde(default = "sixteen_mib")]
    stripe_bytes: u64,
    #[serde(default)]
    seed: u64,
    #[serde(default = "a_hundredth")]
    fraction: f64,
    code: Option<Spanned<Code>>,
    wish: Option<Wish>,
    placement: Option<Spanned<PlacementText>>,
    policy: Option<PolicyIn>,
    nodes: Option<Spanned<Vec<NodesText>>>,
    repair: RepairText,
    #[serde(default)]
    cause: Vec<Spanned<CauseText>>,
    wear: Option<WearText>,
}

fn one_year() -> Years {
    Years(1.0)
}

fn one() -> u64 {
    1
}

fn sixteen_mib() -> u64 {
    16 << 20
}

fn a_hundredth() -> f64 {
    0.01
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    k: usize,
    n: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlacementText {
    strategy: String,
    scatter: Option<usize>,
    level: Option<Level>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodesText {
    #[serde(default = "one")]
    count: u64,
    #[serde(default)]
    operator: String,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    price: Price,
    /// Megabits a second that one node sends.
    #[serde(default = "hundred")]
    mbit: f64,
}

fn hundred() -> f64 {
    100.0
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

fn most_data() -> usize {
    16
}

fn most_shards() -> usize {
    24
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepairText {
    detect: Option<LawIn>,
    patience: Option<LawIn>,
    transfer: LawIn,
    at_once: Option<usize>,
    mesh_mbit: Option<f64>,
    replace: Option<ReplaceText>,
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

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CauseText {
    name: String,
    level: Level,
    only: Option<String>,
    per_year: f64,
    notice: Option<Years>,
    dark: Option<LawIn>,
    repair: Option<LawIn>,
    audit: Option<Years>,
    #[serde(default)]
    single: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WearText {
    lifetime: LawIn,
    repair: Option<LawIn>,
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

/// Text up to a bound from a file.
///
/// # Errors
/// [`InputError`] when it cannot be read or is too large.
pub fn read_text(path: &Path) -> Result<String, InputError> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path).map_err(|e| InputError::File(name.clone(), e))?.len();
    if size > FILE_MAX {
        return Err(InputError::TooLarge(name));
    }
    std::fs::read_to_string(path).map_err(|e| InputError::File(name, e))
}

impl Input {
    /// Reads a file.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn read(path: &Path) -> Result<Self, InputError> {
        Self::parse_in(&read_text(path)?, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads a file for the nodes of a mesh that exists. `[[nodes]]` of the file only say what nodes with their labels cost; the
    /// policy, the code and how many stripes there are can be left out.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn read_for(path: &Path, mesh: &FromMesh) -> Result<Self, InputError> {
        Self::parse_for(&read_text(path)?, path.parent().unwrap_or(Path::new("")), Some(mesh))
    }

    /// Reads text.
    ///
    /// # Errors
    /// [`InputError`], with the line in its message.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        Self::parse_for(text, Path::new(""), None)
    }

    /// Reads text; files that it names lie in this folder.
    ///
    /// # Errors
    /// [`InputError`], with the line in its message.
    pub fn parse_in(text: &str, folder: &Path) -> Result<Self, InputError> {
        Self::parse_for(text, folder, None)
    }

    fn parse_for(text: &str, folder: &Path, mesh: Option<&FromMesh>) -> Result<Self, InputError> {
        let read: Text = toml::from_str(text).map_err(|e| InputError::Text(e.to_string()))?;
        let at = |span: std::ops::Range<usize>, message: String| {
            let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
            InputError::Text(format!("line {line}: {message}"))
        };
        if let Some(wish) = &read.wish {
            let bounds = [wish.budget, wish.line_mbit].into_iter().flatten();
            if bounds.chain([wish.nines, wish.data_bytes]).any(|n| !n.is_finite() || n <= 0.0) {
                let wrong = "[wish]: nines, data_bytes, budget and line_mbit must be above zero";
                return Err(InputError::Text(wrong.into()));
            }
        }
        let real = mesh.and_then(FromMesh::code);
        let code = match (&read.code, &read.wish, real) {
            (Some(code), ..) => *code.get_ref(),
            // The planner picks it.
            (None, Some(_), _) => Code { k: 1, n: 2 },
            (None, None, Some((k, n))) => Code { k: k.into(), n: n.into() },
            (None, None, None) => {
                return Err(InputError::Text("[code] with k and n is missing".into()));
            }
        };
        if code.k == 0 || code.k > code.n || code.n > super::stripe::SHARDS_MAX {
            let message = ModelError::Code { k: code.k, n: code.n }.to_string();
            return Err(at(read.code.map_or(0..0, |code| code.span()), message));
        }
        let vault = mesh.and_then(|mesh| mesh.survey().vault.as_ref());
        let stripes = read.stripes.or(vault.map(|vault| vault.stripes.max(1))).unwrap_or(1);
        if read.years.0 <= 0.0 || stripes == 0 {
            return Err(InputError::Text("years and stripes must be above zero".into()));
        }
        let (mut sites, mut operators, mut offers) = (Vec::new(), BTreeMap::new(), Vec::new());
        let span = read.nodes.as_ref().map_or(0..0, Spanned::span);
        let groups = match (&read.nodes, mesh) {
            (Some(groups), _) => groups.get_ref().as_slice(),
            (None, Some(_)) => &[],
            (None, None) => return Err(InputError::Text("[[nodes]] are missing".into())),
        };
        let mut priced = Vec::new();
        for group in groups {
            let key = OperatorId(*blake3::hash(group.operator.as_bytes()).as_bytes());
            let Price { storage_tb, egress_tb, requests_million } = group.price;
            let numbers = [storage_tb, egress_tb, requests_million, group.mbit];
            if numbers.iter().any(|n| !n.is_finite() || *n < 0.0) || group.mbit == 0.0 {
                return Err(at(
                    span.clone(),
                    "prices and mbit must be finite and not negative".into(),
                ));
            }
            let NodesText { operator, labels, price, mbit, .. } = group;
            priced.push(Offer { operator, labels, price: *price, mbit: *mbit });
            if mesh.is_some() {
                continue;
            }
            operators.insert(key.to_string(), group.operator.clone());
            for _ in 0..group.count {
                if sites.len() == NODES_MAX {
                    return Err(at(span.clone(), format!("more than {NODES_MAX} nodes")));
                }
                let mut node = [0; 32];
                node[..8].copy_from_slice(&(sites.len() as u64 + 1).to_be_bytes());
                let labels = group.labels.clone();
                offers.push((group.price, group.mbit));
                sites.push(Site::new(NodeId(node), key, labels));
            }
        }
        if let Some(mesh) = mesh {
            (sites, operators, offers) = surveyed::nodes(mesh, &priced, hundred());
        }
        let policy =
            read.policy.map(|policy| policy.0).or_else(|| vault.map(|vault| vault.policy.clone()));
        let strategy = match &read.placement {
            None => Ok(Strategy::Strewn(policy.clone().unwrap_or(Policy::survive_one("node")))),
            Some(placement) => {
                strategy(placement.get_ref(), policy).map_err(|m| at(placement.span(), m))
            }
        }?;
        if read.repair.mesh_mbit.is_some_and(|mbit| !mbit.is_finite() || mbit <= 0.0) {
            return Err(InputError::Text("repair.mesh_mbit must be above zero".into()));
        }
        if !(read.fraction > 0.0 && read.fraction <= 1.0) {
            return Err(InputError::Text(
                "fraction: a share above 0 and up to 1 is expected".into(),
            ));
        }
        let law = |law: Option<LawIn>| law.map(|law| law.read(folder)).transpose();
        let waits = [law(read.repair.detect)?, law(read.repair.patience)?];
        let mut parts: Vec<Law> = waits.into_iter().flatten().collect();
        let patience = match &parts[..] {
            [] => Law::Fixed(0.0),
            [only] => only.clone(),
            both => Law::Sum(both.to_vec()),
        };
        let transfer = read.repair.transfer.read(folder)?;
        parts.push(transfer.clone());
        let repair = if parts.len() == 1 { parts.remove(0) } else { Law::Sum(parts) };
        let replacement = match read.repair.replace {
            None => Replacement::AtOnce,
            Some(ReplaceText::Never) if matches!(strategy, Strategy::Copysets { .. }) => {
                return Err(InputError::Text(
                    "repair.replace = \"never\": copysets are fixed sets of nodes, which must come back".into(),
                ));
            }
            Some(ReplaceText::Never) => Replacement::Never,
            Some(ReplaceText::After(law)) => Replacement::After(law.read(folder)?),
        };
        let mut troubles = Vec::new();
        for cause in read.cause {
            let (span, cause) = (cause.span(), cause.into_inner());
            if !cause.per_year.is_finite() || cause.per_year < 0.0 {
                return Err(at(
                    span,
                    format!("per_year = {}: at least 0 is expected", cause.per_year),
                ));
            }
            if cause.dark.is_some()
                && (cause.repair.is_some() || cause.notice.is_some() || cause.audit.is_some())
            {
                return Err(at(
                    span,
                    "what is dark comes back by itself: no repair, notice or audit".into(),
                ));
            }
            let harm = if let Some(lasts) = cause.dark {
                Harm::Dark { lasts: lasts.read(folder)? }
            } else {
                let mut law = law(cause.repair)?.unwrap_or_else(|| repair.clone());
                // Found by the next audit, which is as likely at once as a period later.
                if let Some(period) = cause.audit {
                    let until = Law::Uniform { low: 0.0, high: period.0 };
                    law = Law::Sum(vec![until, law]);
                }
                Harm::Lost { repair: law, notice: cause.notice.map_or(0.0, |notice| notice.0) }
            };
            if cause.single && matches!(harm, Harm::Dark { .. }) {
                return Err(at(span, "single shards do not go dark: leave single out".into()));
            }
            let CauseText { name, level, only, per_year, single, .. } = cause;
            troubles.push(Trouble { name, level, only, per_year, harm, single });
        }
        let wear = match read.wear {
            None => None,
            Some(wear) => Some(Wear {
                lifetime: wear.lifetime.read(folder)?,
                repair: law(wear.repair)?.unwrap_or_else(|| repair.clone()),
            }),
        };
        let repairers = match read.repair.at_once {
            None => Repairers::Unlimited,
            Some(1) => Repairers::One,
            Some(most) => Repairers::Some(most),
        };
        let input = Self {
            name: read.name,
            about: read.about,
            years: read.years.0,
            stripes,
            stripe_bytes: read.stripe_bytes,
            seed: read.seed,
            k: code.k,
            n: code.n,
            strategy,
            sites,
            operators,
            troubles,
            wear,
            repairers,
            mesh_mbit: read.repair.mesh_mbit,
            patience,
            transfer,
            replacement,
            fraction: read.fraction,
            wish: read.wish,
            offers,
        };
        Ok(input)
    }

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

fn strategy(text: &PlacementText, policy: Option<Policy>) -> Result<Strategy, String> {
    Ok(match text.strategy.as_str() {
        "strewn" => Strategy::Strewn(policy.unwrap_or(Policy::survive_one("node"))),
        "random" => Strategy::Random,
        "distinct" => Strategy::Distinct,
        "copysets" => Strategy::Copysets {
            scatter: text
                .scatter
                .filter(|s| *s > 0)
                .ok_or("copysets need scatter = …, above zero")?,
        },
        "tree" => Strategy::Tree(text.level.clone().ok_or("a tree needs level = \"…\"")?),
        other => {
            return Err(format!(
                "{other:?} is no strategy: strewn, random, distinct, copysets or tree is expected"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
