//! Nodes from the table `[topology]`: by hand, or generated from a sentence such as `4 providers x 3 accounts x 5 nodes`.

use super::NODES_MAX;
use super::error::{ScenarioError, Source};
use super::text::{NodeText, TopologyText};
use crate::setup::NodeSetup;
use protocol::label::{Label, Labels, Level};
use std::ops::Range;
use toml::Spanned;

const EXAMPLE: &str = "for example \"4 providers x 3 accounts x 5 nodes\": numbers and levels from outside in, nodes last";

/// The nodes of a topology.
pub(super) fn nodes(
    text: &Spanned<TopologyText>,
    source: &Source<'_>,
) -> Result<Vec<NodeSetup>, ScenarioError> {
    let topology = text.get_ref();
    let mut nodes = Vec::new();
    if let Some(sentence) = &topology.generate {
        nodes = generate(sentence, topology, source)?;
    }
    for node in &topology.node {
        by_hand(node, topology.quota, source, &mut nodes)?;
    }
    if nodes.is_empty() {
        let expected = "`generate = \"…\"`, or at least one [[topology.node]]";
        return Err(source.error(&text.span(), "the topology has no nodes", expected));
    }
    Ok(nodes)
}

fn by_hand(
    text: &Spanned<NodeText>,
    quota: Option<u64>,
    source: &Source<'_>,
    nodes: &mut Vec<NodeSetup>,
) -> Result<(), ScenarioError> {
    let node = text.get_ref();
    let labels = labels(&node.labels, source, &text.span())?;
    let count = node.count.as_ref().map_or(1, |count| *count.get_ref());
    if count == 0 || count + nodes.len() > NODES_MAX {
        let span = node.count.as_ref().map_or(text.span(), Spanned::span);
        return Err(source.error(&span, "too few or too many nodes", &format!("1 to {NODES_MAX}")));
    }
    if node.operator.get_ref().is_empty() {
        let expected = "the name of whoever runs it, such as \"us\"";
        return Err(source.error(&node.operator.span(), "nobody runs this node", expected));
    }
    let (operator, quota) = (node.operator.get_ref().clone(), node.quota.or(quota));
    nodes.extend((0..count).map(|_| NodeSetup {
        operator: operator.clone(),
        labels: labels.clone(),
        quota,
        ..NodeSetup::default()
    }));
    Ok(())
}

/// The labels that a list states.
pub(super) fn labels(
    texts: &[Spanned<String>],
    source: &Source<'_>,
    whole: &Range<usize>,
) -> Result<Labels, ScenarioError> {
    let expected = "level=name, such as \"provider=aws\"; each level once";
    let label = |text: &Spanned<String>| -> Result<Label, ScenarioError> {
        text.get_ref().parse().map_err(|e| source.error(&text.span(), &format!("{e}"), expected))
    };
    let all = texts.iter().map(label).collect::<Result<Vec<_>, _>>()?;
    let span = texts.first().map_or(whole.clone(), Spanned::span);
    Labels::new(all).map_err(|e| source.error(&span, &e.to_string(), expected))
}

/// Numbers and levels, from outside in; `nodes` is left out.
fn factors(
    sentence: &Spanned<String>,
    source: &Source<'_>,
) -> Result<(Vec<(usize, String)>, usize), ScenarioError> {
    let wrong = |what: &str| source.error(&sentence.span(), what, EXAMPLE);
    let mut factors = Vec::new();
    for part in sentence.get_ref().split([',', '×']).flat_map(|part| part.split(" x ")) {
        let (number, level) = part
            .trim()
            .split_once(' ')
            .ok_or_else(|| wrong(&format!("{part:?} is no number and level")))?;
        let number: usize =
            number.parse().map_err(|_| wrong(&format!("{number:?} is no number of domains")))?;
        let level = level.trim().trim_end_matches('s');
        Level::new(level).map_err(|error| wrong(&error.to_string()))?;
        factors.push((number, level.to_owned()));
    }
    let total = factors.iter().try_fold(1usize, |all, (number, _)| all.checked_mul(*number));
    if !total.is_some_and(|total| (1..=NODES_MAX).contains(&total)) {
        return Err(wrong(&format!("too few or too many nodes: 1 to {NODES_MAX} are possible")));
    }
    match factors.pop() {
        Some((nodes, level)) if level == "node" => Ok((factors, nodes)),
        _ => Err(wrong("the last level is not `nodes`")),
    }
}

/// What the domain of a level is called that has no name of its own.
fn numbered(level: &str, index: usize) -> String {
    format!("{}{}", level.chars().next().unwrap_or_default(), index + 1)
}

/// What the domains of the outermost level are called, each otherwise than the others.
fn first_names(
    number: usize,
    level: &str,
    topology: &TopologyText,
    source: &Source<'_>,
) -> Result<Vec<String>, ScenarioError> {
    let given = topology.names.iter().take(number);
    let rest = (topology.names.len()..number).map(|index| numbered(level, index));
    let mut names: Vec<String> = Vec::new();
    for name in given {
        let text = name.get_ref();
        if text.is_empty() || names.contains(text) || rest.clone().any(|other| other == *text) {
            let what = format!("{text:?} is no name for a {level} of its own");
            return Err(source.error(&name.span(), &what, "names that differ, such as \"aws\""));
        }
        names.push(text.clone());
    }
    names.extend(rest);
    Ok(names)
}

fn generate(
    sentence: &Spanned<String>,
    topology: &TopologyText,
    source: &Source<'_>,
) -> Result<Vec<NodeSetup>, ScenarioError> {
    let (levels, per) = factors(sentence, source)?;
    let first = match levels.first() {
        Some((number, level)) => first_names(*number, level, topology, source)?,
        None => Vec::new(),
    };
    for (level, number) in &topology.spread {
        let wrong = |what: &str, expected: &str| source.error(&number.span(), what, expected);
        Level::new(level.as_str()).map_err(|e| wrong(&e.to_string(), "spread = { region = 3 }"))?;
        if !(1..=NODES_MAX).contains(number.get_ref()) {
            let what = format!("nodes cannot be spread over {} domains", number.get_ref());
            return Err(wrong(&what, &format!("1 to {NODES_MAX}")));
        }
    }
    // Each path is the labels from the outside in; a domain is called after the one around it: provider=aws, account=aws/2.
    let mut paths: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for (number, level) in &levels {
        let extend = |path: Vec<(String, String)>| {
            let (parent, first) = (path.last().map(|(_, name)| name.clone()), &first);
            (0..*number).map(move |i| {
                let name = match &parent {
                    Some(parent) => format!("{parent}/{}", i + 1),
                    None => first[i].clone(),
                };
                let mut path = path.clone();
                path.push((level.clone(), name));
                path
            })
        };
        paths = paths.into_iter().flat_map(extend).collect();
    }
    let mut nodes = Vec::new();
    for path in &paths {
        for _ in 0..per {
            let mut labels = path.clone();
            for (level, number) in &topology.spread {
                labels.push((level.clone(), numbered(level, nodes.len() % number.get_ref())));
            }
            nodes.push(node(&labels, topology, source, sentence)?);
        }
    }
    Ok(nodes)
}

fn node(
    labels: &[(String, String)],
    topology: &TopologyText,
    source: &Source<'_>,
    sentence: &Spanned<String>,
) -> Result<NodeSetup, ScenarioError> {
    let of = |level: &str| labels.iter().find(|(l, _)| l == level).map(|(_, name)| name.clone());
    let operator = match &topology.operators {
        Some(level) if level.get_ref() == "one" => "operator".to_owned(),
        Some(level) => of(level.get_ref()).ok_or_else(|| {
            let expected = "\"one\", or a level that `generate` or `spread` names: who runs each of its domains is an operator";
            source.error(&level.span(), &format!("no node has a level {:?}", level.get_ref()), expected)
        })?,
        None => of("operator")
            .or_else(|| labels.first().map(|(_, name)| name.clone()))
            .unwrap_or_else(|| "operator".to_owned()),
    };
    let labels = labels.iter().filter(|(level, _)| level != "operator");
    let labels: Result<Vec<Label>, _> =
        labels.map(|(level, name)| format!("{level}={name}").parse()).collect();
    let labels = labels
        .and_then(Labels::new)
        .map_err(|e| source.error(&sentence.span(), &e.to_string(), EXAMPLE))?;
    Ok(NodeSetup { operator, labels, quota: topology.quota, ..NodeSetup::default() })
}
