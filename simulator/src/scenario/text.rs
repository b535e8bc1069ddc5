//! A scenario as its file has it: what is left out has a default, what is unknown is refused. Values that can be wrong in more
//! ways than their type says keep their place in the file.

use crate::plan::What;
use protocol::policy::PolicyText;
use protocol::time::Period;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScenarioText {
    pub(super) name: Spanned<String>,
    pub(super) title: String,
    pub(super) duration: Spanned<Period>,
    pub(super) patience: Option<Spanned<String>>,
    pub(super) facts: Option<FactsText>,
    #[serde(default)]
    pub(super) workload: WorkloadText,
    pub(super) topology: Option<Spanned<TopologyText>>,
    #[serde(default)]
    pub(super) event: Vec<Spanned<EventText>>,
    #[serde(default)]
    pub(super) rate: Vec<Spanned<RateText>>,
    #[serde(default)]
    pub(super) arrangement: Vec<Spanned<ArrangementText>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FactsText {
    pub(super) when: String,
    pub(super) text: String,
    pub(super) checked: bool,
    pub(super) sources: Vec<String>,
    pub(super) model: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadText {
    pub(super) every: Option<Spanned<Period>>,
    pub(super) stripes: Option<Spanned<u32>>,
    pub(super) changed_per_mille: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopologyText {
    pub(super) generate: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) names: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) spread: BTreeMap<String, Spanned<usize>>,
    pub(super) operators: Option<Spanned<String>>,
    pub(super) quota: Option<u64>,
    #[serde(default)]
    pub(super) node: Vec<Spanned<NodeText>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeText {
    pub(super) operator: Spanned<String>,
    pub(super) labels: Vec<Spanned<String>>,
    pub(super) count: Option<Spanned<usize>>,
    pub(super) quota: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventText {
    pub(super) at: Spanned<Period>,
    pub(super) what: Spanned<String>,
    #[serde(rename = "in")]
    pub(super) who: Option<Spanned<String>>,
    pub(super) period: Option<Period>,
    pub(super) notice: Option<Period>,
    pub(super) guardians: Option<u32>,
    pub(super) until: Option<Spanned<String>>,
    pub(super) step: Option<What>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateText {
    pub(super) mean: Spanned<Period>,
    pub(super) from: Option<Spanned<Period>>,
    pub(super) until: Option<Spanned<Period>>,
    pub(super) what: Spanned<String>,
    #[serde(rename = "in", default)]
    pub(super) who: Vec<Spanned<String>>,
    pub(super) period: Option<Period>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArrangementText {
    pub(super) name: Spanned<String>,
    pub(super) title: String,
    pub(super) expect: Spanned<Vec<Spanned<String>>>,
    pub(super) unreadable_max: Option<Period>,
    pub(super) unreadable_min: Option<Period>,
    #[serde(default)]
    pub(super) copy: Vec<CopyText>,
    pub(super) topology: Option<Spanned<TopologyText>>,
    pub(super) policy: Option<Spanned<PolicyText>>,
    pub(super) guardians: Option<Spanned<GuardiansText>>,
    pub(super) code: Option<Spanned<[u16; 2]>>,
    pub(super) patience: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuardiansText {
    pub(super) need: u32,
    pub(super) of: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CopyText {
    pub(super) labels: Vec<Spanned<String>>,
    pub(super) keys: Option<Vec<Spanned<String>>>,
    pub(super) lock: Option<Spanned<String>>,
    pub(super) lock_period: Option<Spanned<Period>>,
    pub(super) every: Option<Period>,
    pub(super) works: Option<bool>,
    pub(super) restore: Option<Period>,
    pub(super) drain: Option<Period>,
}
