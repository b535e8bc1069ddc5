//! `report`: one self-contained HTML page about a scenario, with a run of every arrangement.

use crate::failure::{End, Failure};
use crate::human;
use crate::mesh::MeshArgs;
use crate::outputs::Target;
use crate::show::{Found, find};
use protocol::time::Period;
use simulator::NodeSetup;
use simulator::chart::{self, Axis, Content, Mark, Nested, Section, Series};
use simulator::plan::Sample;
use simulator::scenario::{Arrangement, Copied, Facts, Kind, Scenario};
use simulator::study::{self, Awaited, Happened, Played};
use std::collections::BTreeMap;
use std::path::Path;

/// Most happenings that are shown of one arrangement.
const HAPPENINGS_MAX: usize = 60;
/// Most changes of its timeline that are shown in numbers.
const CHANGES_MAX: usize = 300;
/// So many numbers side by side can be read over a timeline.
const MARKS_MAX: u64 = 30;
/// Milliseconds of a day.
const DAY: f64 = 86_400_000.0;

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
    let facts = scenario.facts.as_ref().map(told);
    let first = 1 + usize::from(facts.is_some());
    let mut sections: Vec<Section> = facts.into_iter().collect();
    let body = summary(scenario, played, first);
    sections.push(Section { heading: "Side by side".into(), body });
    for (arrangement, played) in scenario.arrangements.iter().zip(played) {
        let course = study::course(scenario, arrangement, &played.row);
        let body = [
            chart::paragraph(&arrangement.title),
            chart::paragraph(&format!("{}.", human::made_of(arrangement))),
            chart::paragraph(&human::verdict(&played.row, scenario, arrangement)),
            chart::heading("What happened, and when"),
            happenings(arrangement, &course),
            chart::heading("Stripes over time"),
            timeline(played, &course, arrangement),
            chart::heading("Where it lay, and what was lost"),
            map(arrangement, played),
            chart::paragraph(&lost(played)),
        ];
        sections.push(Section { heading: arrangement.name.clone(), body: body.concat() });
    }
    let mut intro = format!("Played for {} with seed {seed}.", human::span(scenario.duration));
    if !notes.is_empty() {
        intro = format!("{intro} Of your mesh: {}.", notes.join("; "));
    }
    chart::page(&scenario.title, &intro, &sections)
}

/// What happened in truth, and where to read of it.
fn told(facts: &Facts) -> Section {
    let mut body = chart::paragraph(&facts.text);
    if let Some(model) = &facts.model {
        body += &(chart::heading("How it is played") + &chart::paragraph(model));
    }
    if !facts.sources.is_empty() {
        let how = if facts.checked { "compared in several reports" } else { "widely reported" };
        body += &(chart::heading(&format!("Sources ({how})")) + &chart::list(&facts.sources));
    }
    Section { heading: format!("What happened: {}", facts.when), body }
}

/// All arrangements, each leading to its part of the page; the first of them has that place.
fn summary(scenario: &Scenario, played: &[Played], first: usize) -> String {
    let head = ["arrangement", "verdict", "readable", "unreadable for", "work lost", "as expected"];
    let mut rows = vec![head.map(|name| Content::Text(name.into())).to_vec()];
    for (index, (arrangement, Played { row, .. })) in
        scenario.arrangements.iter().zip(played).enumerate()
    {
        let unexpected = &row.unexpected;
        let cells = [
            study::word(row.verdict).to_owned(),
            format!("{} of {}", row.readable, row.stripes),
            if row.unreadable.0 == 0 { "-".into() } else { human::span(row.unreadable) },
            row.work_lost.map_or("-".into(), human::span),
            if unexpected.is_empty() { "yes".into() } else { format!("no: {unexpected}") },
        ];
        let name = Content::Part(arrangement.title.clone(), first + index);
        rows.push(std::iter::once(name).chain(cells.map(Content::Text)).collect());
    }
    chart::table("What came of each arrangement", &rows)
}

/// Whether it has a number in the timeline: what happened, and means something here.
fn is_marked(arrangement: &Arrangement, happened: &Happened) -> bool {
    let is_mesh = matches!(arrangement.kind, Kind::Mesh(_));
    happened.at.is_some() && (happened.has_struck || is_mesh && is_step(happened))
}

fn is_step(happened: &Happened) -> bool {
    matches!(happened.kind, "step" | "recover")
}

/// Everything that happened, with the numbers that the timeline has.
fn happenings(arrangement: &Arrangement, course: &[Happened]) -> String {
    if course.is_empty() {
        return chart::paragraph("Nothing happened.");
    }
    let mut rows = vec![["when", "what", "kind", "what came of it"].map(String::from).to_vec()];
    let mut number = 0;
    for happened in course.iter().take(HAPPENINGS_MAX) {
        let when = match happened.at {
            Some(at) if is_marked(arrangement, happened) => {
                number += 1;
                format!("{number}: after {}", human::span(at))
            }
            Some(at) => format!("after {}", human::span(at)),
            None => "never".into(),
        };
        let row =
            [when, happened.name.clone(), happened.kind.into(), came_of(arrangement, happened)];
        rows.push(row.to_vec());
    }
    let more = course.len().saturating_sub(HAPPENINGS_MAX);
    let mut out = chart::table("What happened; numbers are those in the timeline", &rows);
    if more > 0 {
        out += &chart::paragraph(&format!("And {more} more, up to the end."));
    }
    out
}

fn came_of(arrangement: &Arrangement, happened: &Happened) -> String {
    let is_mesh = matches!(arrangement.kind, Kind::Mesh(_));
    match (&happened.awaited, is_mesh) {
        (Some(awaited), _) => waited(awaited),
        (None, false) if is_step(happened) => "means nothing to copies".into(),
        (None, true) if is_step(happened) => "done".into(),
        _ if happened.has_struck => "struck".into(),
        _ => "struck nothing here that was not gone already".into(),
    }
}

fn waited(awaited: &Awaited) -> String {
    let from = human::span(awaited.from);
    match awaited.came {
        Some(_) => format!("waited from {from} on, and struck {}", human::moment(awaited.until)),
        None => {
            format!("waited from {from} on for {:?}, which never came", awaited.until.name())
        }
    }
}

fn timeline(played: &Played, course: &[Happened], arrangement: &Arrangement) -> String {
    let series = |label: &str, get: fn(&Sample) -> u64| Series {
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
    let happened = course.iter().take(HAPPENINGS_MAX).filter(|of| is_marked(arrangement, of));
    let end = played.timeline.last().map_or(Period(0), |sample| sample.at);
    let marks = marks(happened.filter_map(|happened| happened.at), end);
    let (days, stripes) = (Axis::linear("day"), Axis::linear("stripes"));
    let title = format!("{}: stripes, and what happened by its number", arrangement.name);
    chart::marked_lines(&title, &days, &stripes, &series, &marks) + &changes(played)
}

/// Numbers at their times; where they would lie on each other the first has the numbers of all.
fn marks(times: impl Iterator<Item = Period>, duration: Period) -> Vec<Mark> {
    let mut marks: Vec<(Period, usize, usize)> = Vec::new();
    let mut first = 0;
    for (number, at) in (1..).zip(times) {
        let near = Period(duration.0 / MARKS_MAX);
        match marks.get_mut(first) {
            Some((begun, _, to)) if at.0.saturating_sub(begun.0) < near.0 => *to = number,
            _ => first = marks.len(),
        }
        marks.push((at, number, number));
    }
    let mut told = 0;
    let mark = |(at, from, to): (Period, usize, usize)| {
        let label = match to {
            _ if from <= told => String::new(),
            to if from == to => from.to_string(),
            to => format!("{from}-{to}"),
        };
        told = told.max(to);
        Mark { at: at.0 as f64 / DAY, label }
    };
    marks.into_iter().map(mark).collect()
}

/// The timeline in numbers: when something of it changed.
fn changes(played: &Played) -> String {
    let of = |sample: &Sample| {
        [sample.stripes, sample.readable, sample.below_policy, sample.destroyed, sample.nodes_up]
    };
    let head =
        ["after", "stripes", "readable", "below policy", "gone for good", "nodes or copies up"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let (mut before, mut more) = (None, 0);
    for sample in &played.timeline {
        if before.replace(of(sample)) == Some(of(sample)) {
            continue;
        }
        if rows.len() > CHANGES_MAX {
            more += 1;
            continue;
        }
        let at = if sample.at.0 == 0 { "the start".into() } else { human::span(sample.at) };
        let at = std::iter::once(at);
        rows.push(at.chain(of(sample).map(|count| count.to_string())).collect());
    }
    let mut body = chart::table("When something changed, by the hour", &rows);
    if more > 0 {
        body += &chart::paragraph(&format!("And {more} changes more."));
    }
    chart::details("The same in numbers", &body)
}

/// The samples at which something changes.
fn thin(timeline: &[Sample], get: fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (index, sample) in timeline.iter().enumerate() {
        let point = (sample.at.0 as f64 / DAY, get(sample) as f64);
        let changes = points.last().is_none_or(|(_, value)| (value - point.1).abs() > f64::EPSILON);
        if changes || index + 1 == timeline.len() {
            points.push(point);
        }
    }
    points
}

/// What the map shows, in a sentence.
fn lost(played: &Played) -> String {
    match played.row.lost.as_slice() {
        [] => "Nothing was lost.".into(),
        lost => format!("Lost, in order: {}.", lost.join("; ")),
    }
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
    let title =
        format!("{}: providers, accounts in them, and what was lost in them", arrangement.name);
    chart::nested(&title, &items)
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

#[cfg(test)]
mod tests {
    use super::*;
    use simulator::scenario::read;

    #[test]
    fn a_report_says_what_happened_when_and_leads_to_each_arrangement() {
        let text = "name = \"told\"\ntitle = \"Told <b>\"\nduration = \"30d\"\n\
            [facts]\nwhen = \"2014\"\ntext = \"a\"\nchecked = false\n\
            sources = [\"https://a.example/?a=1&b=2\", \"javascript:alert(1)\"]\n\
            [[event]]\nat = \"10d\"\nwhat = \"destroy\"\nin = \"account=a\"\n\
            [[event]]\nat = \"10d\"\nwhat = \"destroy\"\nin = \"account=a\"\n\
            [[event]]\nat = \"242h\"\nwhat = \"dark\"\nin = \"account=b\"\nperiod = \"1d\"\n\
            [[arrangement]]\nname = \"two\"\ntitle = \"Two\"\nexpect = [\"degraded\"]\n\
            [[arrangement.copy]]\nlabels = [\"account=a\"]\n\
            [[arrangement.copy]]\nlabels = [\"account=b\"]\nevery = \"1d\"\n";
        let scenario = read("told.toml", text).unwrap();
        let played = [study::play(&scenario, &scenario.arrangements[0], 1)];
        let page = page(&scenario, 1, &played, &[]);
        assert!(page.contains("<th scope=\"row\"><a href=\"#part-3\">Two</a></th>"), "{page}");
        assert!(page.contains("<h2 id=\"part-3\">two</h2>"), "{page}");
        assert!(
            page.contains("href=\"https://a.example/?a=1&amp;b=2\"")
                && !page.contains("=\"javascript")
        );
        for row in [
            ["1: after 10 d", "account=a", "destroy", "struck"],
            ["after 10 d", "account=a", "destroy", "struck nothing here that was not gone already"],
            ["2: after 10 d 2 h", "account=b", "dark", "struck"],
        ] {
            let cells = format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
                row[0], row[1], row[2], row[3]
            );
            assert!(page.contains(&cells), "{cells}\n{page}");
        }
        // Two hours apart, their numbers would lie on each other.
        assert_eq!(
            (page.matches("class=\"mark\"").count(), page.matches(">1-2</text>").count()),
            (2, 1)
        );
        assert!(
            page.contains("<tr><th scope=\"row\">the start</th><td>12</td><td>12</td>"),
            "{page}"
        );
        assert!(!page.contains("<b>") && !page.contains("<script"));
    }

    #[test]
    fn numbers_that_would_lie_on_each_other_are_told_together() {
        let of = |hours: &[u64]| {
            let times = hours.iter().map(|hours| Period(hours * 3_600_000));
            let marks = marks(times, Period::days(30));
            marks.into_iter().map(|mark| mark.label).collect::<Vec<_>>()
        };
        assert_eq!(of(&[24, 48, 96]), ["1", "2", "3"]);
        assert_eq!(of(&[24, 25, 47, 48, 49]), ["1-3", "", "", "4-5", ""]);
        assert_eq!(of(&[]), [""; 0]);
    }
}
