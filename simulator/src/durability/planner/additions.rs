//! Which single addition helps most: each one that can be thought of is planned with, and compared by the best choice then.

use super::{Choice, ROUGH, choices};
use crate::durability::analysis::slower;
use crate::durability::estimate::Effort;
use crate::durability::input::{Input, InputError, Wish};
use protocol::id::{NodeId, OperatorId};
use protocol::label::{Label, Labels, Level};
use serde::Serialize;
use std::collections::BTreeSet;

/// Most additions that are tried.
const TRIED_MAX: usize = 24;

/// Something that could be added, and the best choice with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Addition {
    /// What it is.
    pub what: String,
    /// The best choice with it.
    pub best: Choice,
}

/// What counts: to fit, then to be cheap where it fits, then nines.
fn worth(choice: &Choice) -> (bool, Option<f64>, f64) {
    (choice.fits, choice.fits.then_some(-choice.monthly), choice.nines)
}

/// All additions with which something can be placed, the one that helps most first.
pub(super) fn ranked(
    input: &Input,
    wish: &Wish,
    effort: &Effort,
) -> Result<Vec<Addition>, InputError> {
    let rough = Effort { relative_error: ROUGH, ..*effort };
    let mut all = Vec::new();
    for (what, with) in thought_of(input) {
        all.extend(
            choices(&with, wish, &rough)?.into_iter().next().map(|best| Addition { what, best }),
        );
    }
    all.sort_by(|a, b| {
        worth(&b.best).partial_cmp(&worth(&a.best)).unwrap_or(std::cmp::Ordering::Equal)
    });
    Ok(all)
}

/// What helps most, in a sentence.
pub(super) fn advice(ranked: &[Addition], now: Option<&Choice>) -> String {
    let better = ranked.first().filter(|add| now.is_none_or(|now| worth(&add.best) > worth(now)));
    better.map_or_else(
        || "No single addition helps.".to_owned(),
        |Addition { what, best }| {
            format!(
                "What helps most: {what}. Best then: {} of {}, {:.2} a month, {:.1} nines{}.",
                best.k,
                best.n,
                best.monthly,
                best.nines,
                if best.fits { "" } else { ", which still lacks something" }
            )
        },
    )
}

/// One more node like each there is, one in a new account of each provider, one in domains of its own; and faster repairs.
fn thought_of(input: &Input) -> Vec<(String, Input)> {
    let mut all: Vec<(String, Input)> = Vec::new();
    let (mut seen, mut providers) = (BTreeSet::new(), BTreeSet::new());
    for (node, site) in input.sites.iter().enumerate() {
        let operator = input.name_of(&site.domain(&Level::operator()));
        if seen.insert((site.operator, site.labels.clone())) && all.len() < TRIED_MAX {
            all.push((
                format!("one more node with {} ({operator})", site.labels),
                with_node(input, node, &site.labels, site.operator),
            ));
        }
        let name = |of: &str| {
            let label = site.labels.iter().find(|(level, _)| level.as_str() == of);
            label.map(|(_, name)| name.to_string())
        };
        if let (Some(provider), Some(_)) = (name("provider"), name("account"))
            && providers.insert(provider.clone())
            && all.len() < TRIED_MAX
        {
            let fresh = relabelled(&site.labels, |level| level.as_str() == "account");
            all.extend(fresh.map(|labels| {
                let what = format!("one node in a new account at {provider}");
                (what, with_node(input, node, &labels, site.operator))
            }));
        }
    }
    if let Some(site) = input.sites.first()
        && let Some(labels) = relabelled(&site.labels, |_| true)
    {
        all.push((
            "one node at a new provider, in a region, account and under an operator of its own"
                .into(),
            with_node(input, 0, &labels, OperatorId([0xff; 32])),
        ));
    }
    all.push(("repairs twice as fast, from noticing to the end".into(), slower(input, 0.5)));
    all
}

/// The labels, with new names at some levels.
fn relabelled(labels: &Labels, is_new: impl Fn(&Level) -> bool) -> Option<Labels> {
    let names = labels.iter().map(|(level, name)| {
        let name = if is_new(level) { "new".to_owned() } else { name.to_string() };
        Label { level: level.clone(), name }
    });
    Labels::new(names).ok()
}

/// The input with one node more, priced as another.
fn with_node(input: &Input, like: usize, labels: &Labels, operator: OperatorId) -> Input {
    let mut input = input.clone();
    let mut site = input.sites[like].clone();
    let mut node = [0; 32];
    node[..8].copy_from_slice(&(input.sites.len() as u64 + 1).to_be_bytes());
    (site.node, site.operator, site.labels) = (NodeId(node), operator, labels.clone());
    input.sites.push(site);
    input.offers.push(input.offers[like]);
    input
}
