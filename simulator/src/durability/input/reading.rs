//! From a model's file to an [`Input`]: what the text says is checked together, and an error has the line.

use super::super::law::Law;
use super::super::placing::Strategy;
use super::super::stripe::{Harm, ModelError, Repairers, SHARDS_MAX, Wear};
use super::super::surveyed::{self, Offer};
use super::super::written::{LawIn, ReplaceText};
use super::text::{CauseText, Code, NodesText, PlacementText, Text, hundred};
use super::{FILE_MAX, Input, InputError, NODES_MAX, Price, Replacement, Trouble};
use crate::from_mesh::FromMesh;
use protocol::id::{NodeId, OperatorId};
use protocol::label::Site;
use protocol::policy::Policy;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;

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
        if code.k == 0 || code.k > code.n || code.n > SHARDS_MAX {
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
