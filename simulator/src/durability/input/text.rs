//! What a model's file says, as it stands there. What it means together is `reading`'s; times and laws are `written`'s.

use super::super::written::{LawIn, ReplaceText, Years};
use super::{Price, Wish};
use protocol::label::{Labels, Level};
use protocol::policy::{Policy, PolicyText};
use serde::Deserialize;
use toml::Spanned;

/// A policy in a model's file, checked where it stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "PolicyText")]
pub(super) struct PolicyIn(pub(super) Policy);

impl TryFrom<PolicyText> for PolicyIn {
    type Error = protocol::policy::PolicyError;
    fn try_from(text: PolicyText) -> Result<Self, Self::Error> {
        Policy::try_from(text).map(Self)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    pub(super) name: String,
    #[serde(default)]
    pub(super) about: String,
    #[serde(default = "one_year")]
    pub(super) years: Years,
    pub(super) stripes: Option<u64>,
    #[serde(default = "sixteen_mib")]
    pub(super) stripe_bytes: u64,
    #[serde(default)]
    pub(super) seed: u64,
    #[serde(default = "a_hundredth")]
    pub(super) fraction: f64,
    pub(super) code: Option<Spanned<Code>>,
    pub(super) wish: Option<Wish>,
    pub(super) placement: Option<Spanned<PlacementText>>,
    pub(super) policy: Option<PolicyIn>,
    pub(super) nodes: Option<Spanned<Vec<NodesText>>>,
    pub(super) repair: RepairText,
    #[serde(default)]
    pub(super) cause: Vec<Spanned<CauseText>>,
    pub(super) wear: Option<WearText>,
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
pub(super) struct Code {
    pub(super) k: usize,
    pub(super) n: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlacementText {
    pub(super) strategy: String,
    pub(super) scatter: Option<usize>,
    pub(super) level: Option<Level>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodesText {
    #[serde(default = "one")]
    pub(super) count: u64,
    #[serde(default)]
    pub(super) operator: String,
    #[serde(default)]
    pub(super) labels: Labels,
    #[serde(default)]
    pub(super) price: Price,
    /// Megabits a second that one node sends.
    #[serde(default = "hundred")]
    pub(super) mbit: f64,
}

pub(super) fn hundred() -> f64 {
    100.0
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RepairText {
    pub(super) detect: Option<LawIn>,
    pub(super) patience: Option<LawIn>,
    pub(super) transfer: LawIn,
    pub(super) at_once: Option<usize>,
    pub(super) mesh_mbit: Option<f64>,
    pub(super) replace: Option<ReplaceText>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CauseText {
    pub(super) name: String,
    pub(super) level: Level,
    pub(super) only: Option<String>,
    pub(super) per_year: f64,
    pub(super) notice: Option<Years>,
    pub(super) dark: Option<LawIn>,
    pub(super) repair: Option<LawIn>,
    pub(super) audit: Option<Years>,
    #[serde(default)]
    pub(super) single: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WearText {
    pub(super) lifetime: LawIn,
    pub(super) repair: Option<LawIn>,
}
