//! `report`: one self-contained HTML page about a scenario, with a run of every arrangement.

use crate::failure::{End, Failure};
use crate::human;
use crate::mesh::MeshArgs;
use crate::outputs::Target;
use crate::show::{Found, find};
use simulator::NodeSetup;
use simulator::chart::{self, Axis, Nested, Section, Series};
use simulator::scenario::{Arrangement, Copied, Kind, Scenario};
use simulator::study::{self, Played};
use std::collections::BTreeMap;
use std::path::Path;

/// Writes the page.
pub(crate) fn report(name: &str, with: &MeshArgs, seed: u64, html: &Path) -> Result<End, Failure> {
    let Found { scenario, notes, .. } = find(name, with)?;
    let target = Target::open(html)?;
    let played: Vec<Played> =
        scenario.arrangements.iter().map(|a| study::play(&scenario, a, seed)).collect();
    target.write(page(&scenario, seed, &played, &notes).as_bytes())?;
    say!("{} has the report of {name} with seed {seed}", html.display());
    let expected = played.iter().all(|played| played.row.unexpected.is_empty());
    let violated = played.iter().any(|played| played.row.violation.is_some());
    Ok(match (violated, expected) {
        (true, _) => End::Violated,
        (_, false) => End::Unexpected,
        _ => End::Expected,
    })
}

fn page(scenario: &Scenario, seed: u64, played: &[Played], notes: &[String]) -> String {
    let mut sections =
        vec![Section { heading: "Side by side".into(), body: summary(scenario, played) }];
    for (arrangement, played) in scenario.arrangements.iter().zip(played) {
        let body = [
            chart::paragraph(&arrangement.title),
            chart::paragraph(&human::verdict(&played.row, scenario, arrangement)),
            timeline(played),
            map(arrangement, played),
        ];
        sections.push(Section { heading: arrangement.name.clone(), body: body.concat() });
    }
    if let Some(facts) = &scenario.facts {
        let mut body = chart::paragraph(&facts.text);
        if let Some(model) = &facts.model {
            body += &chart::paragraph(model);
        }
        facts.sources.iter().for_each(|source| body += &chart::paragraph(source));
        sections.push(Section { heading: format!("What happened: {}", facts.when), body });
    }
    let mut intro = format!("Played for {} with seed {seed}.", human::span(scenario.duration));
    if !notes.is_empty() {
        intro = format!("{intro} Of your mesh: {}.", notes.join("; "));
    }
    chart::page(&scenario.title, &intro, &sections)
}

fn summary(scenario: &Scenario, played: &[Played]) -> String {
    let head = ["arrangement", "verdict", "unreadable", "work lost", "as expected"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for (arrangement, Played { row, .. }) in scenario.arrangements.iter().zip(played) {
        rows.push(vec![
            arrangement.title.clone(),
            study::word(row.verdict).to_owned(),
            human::span(row.unreadable),
            row.work_lost.map_or("-".into(), human::span),
            if row.unexpected.is_empty() { "yes".into() } else { row.unexpected.clone() },
        ]);
    }
    chart::table(&rows)
}

fn timeline(played: &Played) -> String {
    let series = |label: &str, get: fn(&simulator::plan::Sample) -> u64| Series {
        label: label.into(),
        points: thin(&played.timeline, get),
        band: Vec::new(),
        steps: true,
    };
    let series = [
        series("readable", |sample| sample.readable),
        series("below policy", |sample| sample.below_policy),
        series("gone for good", |sample| sample.destroyed),
    ];
    chart::lines("Stripes over time", &Axis::linear("day"), &Axis::linear("stripes"), &series)
}

/// The samples at which something changes.
fn thin(
    timeline: &[simulator::plan::Sample],
    get: fn(&simulator::plan::Sample) -> u64,
) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (index, sample) in timeline.iter().enumerate() {
        let point = (sample.at.0 as f64 / 86_400_000.0, get(sample) as f64);
        let changes = points.last().is_none_or(|(_, value)| (value - point.1).abs() > f64::EPSILON);
        if changes || index + 1 == timeline.len() {
            points.push(point);
        }
    }
    points
}

/// Providers, the accounts in them, and what lies there; what was lost is marked.
fn map(arrangement: &Arrangement, played: &Played) -> String {
    let places: Vec<(String, String, String, bool)> = match &arrangement.kind {
        Kind::Copies(copies) => copies
            .iter()
            .enumerate()
            .map(|(index, copy)| {
                let lost = played.row.lost.contains(&copy.labels.join(" "));
                (
                    of_copy(copy, "provider="),
                    of_copy(copy, "account="),
                    format!("copy {}", index + 1),
                    lost,
                )
            })
            .collect(),
        Kind::Mesh(mesh) => mesh
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| {
                (
                    of_node(node, "provider"),
                    of_node(node, "account"),
                    format!("node {index}"),
                    is_lost(index, node, played),
                )
            })
            .collect(),
    };
    let mut tree: BTreeMap<String, BTreeMap<String, Vec<Nested>>> = BTreeMap::new();
    for (provider, account, label, lost) in places {
        let leaf = Nested { label, tone: None, lost, inside: Vec::new() };
        tree.entry(provider).or_default().entry(account).or_default().push(leaf);
    }
    let outer = |(label, accounts): (String, BTreeMap<String, Vec<Nested>>)| {
        let inner = |(label, inside)| Nested { label, tone: None, lost: false, inside };
        Nested { label, tone: None, lost: false, inside: accounts.into_iter().map(inner).collect() }
    };
    let items: Vec<Nested> = tree.into_iter().map(outer).collect();
    chart::nested("Where it lay, and what was lost", &items)
}

fn of_copy(copy: &Copied, prefix: &str) -> String {
    let label = copy.labels.iter().find_map(|label| label.strip_prefix(prefix));
    label.unwrap_or("elsewhere").to_owned()
}

fn of_node(node: &NodeSetup, level: &str) -> String {
    let label = node.labels.iter().find(|(l, _)| l.as_str() == level);
    label.map_or("elsewhere", |(_, name)| name).to_owned()
}

/// A run names what it lost by node or by label.
fn is_lost(index: usize, node: &NodeSetup, played: &Played) -> bool {
    let mut names = vec![format!("node={index}"), format!("operator={}", node.operator)];
    names.extend(node.labels.iter().map(|(level, name)| format!("{level}={name}")));
    let who = |lost: &str| lost.split_once(' ').map_or(lost, |(who, _)| who).to_owned();
    played.row.lost.iter().any(|lost| names.contains(&who(lost)))
}
