//! From a file's text to a checked scenario. Errors point at the line and say what is expected there.

use super::error::{ScenarioError, Source};
use super::mesh::mesh;
use super::text::{ArrangementText, CopyText, EventText, RateText, ScenarioText};
use super::{
    ARRANGEMENTS_MAX, Arrangement, Copied, Event, EventRate, Expect, Facts, Hit, Kind, Lock,
    PATIENCE, PATIENCE_MIN, Scenario, Workload, topology,
};
use crate::from_mesh::{self, FromMesh};
use crate::plan::{Moment, Verdict, What, Who};
use crate::setup::NodeSetup;
use protocol::label::Label;
use protocol::time::Period;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;

const DURATION_MAX: Period = Period::days(3650);
const WHATS: &str = "destroy, delete, close, dark, steal-keys, restart, recover, or step";
const VERDICTS: [(&str, Verdict); 4] = [
    ("survived", Verdict::Survived),
    ("degraded", Verdict::Degraded),
    ("unreachable", Verdict::Unreachable),
    ("destroyed", Verdict::Destroyed),
];

/// Reads a scenario; `file` is how errors call it.
///
/// # Errors
/// [`ScenarioError`] with the line.
pub fn read(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    read_with(file, text, None)
}

/// Reads a scenario that is also played against a mesh that exists, whose domains its events must name; the file itself need not
/// have an arrangement then. The mesh is the last arrangement.
///
/// # Errors
/// [`ScenarioError`] with the line.
pub fn read_with(
    file: &str,
    text: &str,
    real: Option<&FromMesh>,
) -> Result<Scenario, ScenarioError> {
    let source = Source { file, text };
    if text.trim().is_empty() {
        let expected =
            "a scenario: `strewn-sim show code-spaces-2014 --toml` prints one to begin with";
        return Err(source.error(&(0..0), "the file is empty", expected));
    }
    let parsed: ScenarioText = toml::from_str(text).map_err(|error| source.not_toml(&error))?;
    let name = parsed.name.get_ref();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(plain) {
        let expected = "lower-case letters, digits and '-'";
        return Err(source.error(&parsed.name.span(), &format!("{name:?} is no name"), expected));
    }
    let duration = *parsed.duration.get_ref();
    if duration < Period::days(1) || duration > DURATION_MAX {
        let span = parsed.duration.span();
        return Err(source.error(&span, &format!("{duration} is no duration"), "1d to 3650d"));
    }
    let workload = workload(&parsed, &source)?;
    let common = match &parsed.topology {
        Some(text) => Some(topology::nodes(text, &source)?),
        None => None,
    };
    let patience = match &parsed.patience {
        Some(text) => patience(text, &source)?,
        None => Some(PATIENCE),
    };
    let common = Common { nodes: common.as_deref(), patience, real };
    let arrangements = arrangements(&parsed.arrangement, common, &source)?;
    let domains = Domains::of(&arrangements, real);
    let event = |text: &Spanned<EventText>| event(text, duration, &domains, &source);
    let events = parsed.event.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    let rate = |text: &Spanned<RateText>| rate(text, duration, &domains, &source);
    let rates = parsed.rate.iter().map(rate).collect::<Result<Vec<_>, _>>()?;
    let facts = parsed.facts.map(|facts| Facts {
        when: facts.when,
        text: facts.text.trim().to_owned(),
        checked: facts.checked,
        sources: facts.sources,
        model: facts.model.map(|model| model.trim().to_owned()),
    });
    let name_span = parsed.name.span();
    let name = parsed.name.into_inner();
    let mut scenario = Scenario {
        name,
        title: parsed.title,
        facts,
        duration,
        patience,
        workload,
        events,
        rates,
        arrangements,
    };
    if let Some(real) = real {
        let arrangement = real
            .arrangement(&scenario)
            .map_err(|error| source.error(&name_span, &error.to_string(), ""))?;
        scenario.arrangements.push(arrangement);
    }
    Ok(scenario)
}

fn workload(text: &ScenarioText, source: &Source<'_>) -> Result<Workload, ScenarioError> {
    let text = &text.workload;
    let every = text.every.as_ref().map_or(Period::days(1), |every| *every.get_ref());
    let stripes = text.stripes.as_ref().map_or(12, |stripes| *stripes.get_ref());
    let changed_per_mille = text.changed_per_mille.as_ref().map_or(100, |c| *c.get_ref());
    let hour = Period::seconds(3600);
    if let Some(wrong) = text.every.as_ref().filter(|_| every < hour) {
        return Err(source.error(&wrong.span(), "backups would overtake each other", "1h or more"));
    }
    if let Some(wrong) = text.stripes.as_ref().filter(|_| !(1..=1_000_000).contains(&stripes)) {
        return Err(source.error(&wrong.span(), "too few or too many stripes", "1 to 1000000"));
    }
    if let Some(wrong) = text.changed_per_mille.as_ref().filter(|_| changed_per_mille > 1000) {
        return Err(source.error(&wrong.span(), "more than all would change", "0 to 1000"));
    }
    Ok(Workload { every, stripes, changed_per_mille })
}

/// How long nodes may be silent; `None` is for ever.
pub(super) fn patience(
    text: &Spanned<String>,
    source: &Source<'_>,
) -> Result<Option<Period>, ScenarioError> {
    if text.get_ref() == "never" {
        return Ok(None);
    }
    let expected = format!("{PATIENCE_MIN} or more, or \"never\": then nothing is rebuilt");
    let period: Period = text
        .get_ref()
        .parse()
        .map_err(|error| source.error(&text.span(), &format!("{error}"), &expected))?;
    if period < PATIENCE_MIN || period > DURATION_MAX {
        return Err(source.error(&text.span(), &format!("{period} is no patience"), &expected));
    }
    Ok(Some(period))
}

/// What the file says for all its meshes.
#[derive(Clone, Copy)]
pub(super) struct Common<'a> {
    pub(super) nodes: Option<&'a [NodeSetup]>,
    pub(super) patience: Option<Period>,
    real: Option<&'a FromMesh>,
}

/// All domains that any arrangement has.
struct Domains<'a>(BTreeSet<String>, Option<&'a FromMesh>);

impl<'a> Domains<'a> {
    fn of(arrangements: &[Arrangement], real: Option<&'a FromMesh>) -> Self {
        let mut all = BTreeSet::new();
        for arrangement in arrangements {
            match &arrangement.kind {
                Kind::Copies(copies) => {
                    let labels =
                        copies.iter().flat_map(|copy| copy.labels.iter().chain(&copy.keys));
                    all.extend(labels.filter(|label| label.contains('=')).cloned());
                }
                Kind::Mesh(mesh) => {
                    for (index, node) in mesh.nodes.iter().enumerate() {
                        all.insert(format!("node={index}"));
                        all.insert(format!("operator={}", node.operator));
                        all.extend(
                            node.labels.iter().map(|(level, name)| format!("{level}={name}")),
                        );
                    }
                }
            }
        }
        Self(all, real)
    }

    fn who(&self, text: &Spanned<String>, source: &Source<'_>) -> Result<Who, ScenarioError> {
        let label = text.get_ref();
        if label == "all" {
            return Ok(Who::All);
        }
        if let Some(error) = self.1.and_then(|real| real.domain(label).err()) {
            let expected = format!(
                "a domain of your mesh; `--as {label} LABEL` says which of its domains is meant"
            );
            return Err(source.error(&text.span(), &error.to_string(), &expected));
        }
        if self.1.is_some() || self.0.contains(label) {
            return Ok(Who::Label(label.clone()));
        }
        let level = label.split_once('=').map_or("", |(level, _)| level);
        let prefix = format!("{level}=");
        let mut like: Vec<&str> =
            self.0.iter().map(String::as_str).filter(|l| l.starts_with(&prefix)).take(8).collect();
        if like.is_empty() {
            like.push(
                "\"all\", or a level and a name that an arrangement has, such as \"provider=aws\"",
            );
        }
        let what = format!("no arrangement has a domain {label:?}");
        Err(source.error(&text.span(), &what, &like.join(", ")))
    }
}

fn moment(text: &Spanned<String>, source: &Source<'_>) -> Result<Moment, ScenarioError> {
    match text.get_ref().as_str() {
        "recovering" => Ok(Moment::Recovering),
        "cooling" => Ok(Moment::Cooling),
        "backing-up" => Ok(Moment::BackingUp),
        "repairing" => Ok(Moment::Repairing),
        "lock-ended" => Ok(Moment::LockEnded),
        other => {
            let expected = "recovering, cooling, backing-up, repairing or lock-ended";
            Err(source.error(&text.span(), &format!("{other:?} is no moment"), expected))
        }
    }
}

fn event(
    spanned: &Spanned<EventText>,
    duration: Period,
    domains: &Domains<'_>,
    source: &Source<'_>,
) -> Result<Event, ScenarioError> {
    let text = spanned.get_ref();
    let at = *text.at.get_ref();
    if at >= duration {
        let expected = format!("a time before the end, which is at {duration}");
        return Err(source.error(&text.at.span(), &format!("{at} is after the end"), &expected));
    }
    let what = text.what.get_ref().as_str();
    let missing = |field: &str, expected: &str| {
        source.error(&text.what.span(), &format!("{what} needs `{field}`"), expected)
    };
    let who = || match &text.who {
        Some(who) => domains.who(who, source),
        None => Err(missing("in", "in = \"provider=aws\", or in = \"all\"")),
    };
    // What a kind of event does not know is a misunderstanding.
    let known: &[&str] = match what {
        "destroy" | "delete" => &["in"],
        "close" => &["in", "notice"],
        "dark" | "restart" => &["in", "period"],
        "steal-keys" => &["guardians"],
        "recover" => &[],
        "step" => &["step"],
        _ => {
            return Err(source.error(&text.what.span(), &format!("{what:?} is no event"), WHATS));
        }
    };
    let given = [
        ("in", text.who.is_some()),
        ("period", text.period.is_some()),
        ("notice", text.notice.is_some()),
        ("guardians", text.guardians.is_some()),
        ("step", text.step.is_some()),
    ];
    if let Some((field, _)) = given.iter().find(|(field, given)| *given && !known.contains(field)) {
        let all: Vec<&str> = ["at", "what", "until"].iter().chain(known).copied().collect();
        let expected = all.join(", ");
        return Err(source.error(
            &text.what.span(),
            &format!("{what} has no `{field}`"),
            &expected,
        ));
    }
    let period = || text.period.ok_or_else(|| missing("period", "period = \"5d\""));
    let hit = match what {
        "destroy" => Hit::Destroy(who()?),
        "delete" => Hit::Delete(who()?),
        "close" => {
            let notice = text.notice.ok_or_else(|| missing("notice", "notice = \"14d\""))?;
            Hit::Close(who()?, notice)
        }
        "dark" => Hit::Dark(who()?, period()?),
        "restart" => Hit::Step(What::Restart { who: who()?, after: period()? }),
        "steal-keys" => Hit::StealKeys(text.guardians.unwrap_or(0)),
        "recover" => Hit::Step(What::Recover { vault: 0, by: 0 }),
        _ => Hit::Step(text.step.clone().ok_or_else(|| {
            missing("step", "step = \"Heal\", step = { Crash = { Label = \"provider=aws\" } }, …: see `plan::What`")
        })?),
    };
    let until = text.until.as_ref().map(|until| moment(until, source)).transpose()?;
    Ok(Event { at, until, hit })
}

fn rate(
    spanned: &Spanned<RateText>,
    duration: Period,
    domains: &Domains<'_>,
    source: &Source<'_>,
) -> Result<EventRate, ScenarioError> {
    let text = spanned.get_ref();
    let mean = *text.mean.get_ref();
    if mean < Period::seconds(60) {
        return Err(source.error(&text.mean.span(), "a mean so short is a mistake", "1m or more"));
    }
    let what = text.what.get_ref().as_str();
    let span = text.what.span();
    if text.who.is_empty() {
        return Err(source.error(
            &span,
            &format!("{what} needs `in`"),
            "in = [\"node=0\", \"node=1\"]",
        ));
    }
    let period = || {
        let missing = || source.error(&span, &format!("{what} needs `period`"), "period = \"6h\"");
        text.period.ok_or_else(missing)
    };
    if let ("destroy" | "delete", Some(_)) = (what, text.period) {
        let expected = "mean, from, until, what, in";
        return Err(source.error(&span, &format!("{what} has no `period`"), expected));
    }
    let hit = |who: &Spanned<String>| -> Result<Hit, ScenarioError> {
        let who = domains.who(who, source)?;
        Ok(match what {
            "destroy" => Hit::Destroy(who),
            "delete" => Hit::Delete(who),
            "dark" => Hit::Dark(who, period()?),
            "restart" => Hit::Step(What::Restart { who, after: period()? }),
            _ => {
                let expected = "destroy, delete, dark or restart";
                return Err(source.error(&span, &format!("{what:?} has no rate"), expected));
            }
        })
    };
    let hits = text.who.iter().map(hit).collect::<Result<Vec<_>, _>>()?;
    let from = text.from.as_ref().map_or_else(Period::default, |from| *from.get_ref());
    let until = text.until.as_ref().map_or(duration, |until| *until.get_ref());
    if let Some(wrong) = text.from.as_ref().filter(|_| from >= duration) {
        let expected = format!("a time before the end, which is at {duration}");
        return Err(source.error(&wrong.span(), &format!("{from} is after the end"), &expected));
    }
    if let Some(wrong) = text.until.as_ref().filter(|_| until <= from) {
        let what = format!("{until} is not after `from`, which is {from}");
        return Err(source.error(
            &wrong.span(),
            &what,
            "a time after `from`: nothing is drawn else",
        ));
    }
    Ok(EventRate { hits, mean, from, until })
}

fn arrangements(
    texts: &[Spanned<ArrangementText>],
    common: Common<'_>,
    source: &Source<'_>,
) -> Result<Vec<Arrangement>, ScenarioError> {
    if texts.len() > ARRANGEMENTS_MAX || (texts.is_empty() && common.real.is_none()) {
        let what = format!("{} arrangements", texts.len());
        let expected = format!("1 to {ARRANGEMENTS_MAX} [[arrangement]] tables");
        return Err(source.error(&(0..0), &what, &expected));
    }
    let mut all: Vec<Arrangement> = Vec::new();
    for text in texts {
        let arrangement = arrangement(text, common, source)?;
        let is_real = common.real.is_some() && arrangement.name == from_mesh::NAME;
        if is_real || all.iter().any(|other| other.name == arrangement.name) {
            let what = format!("a second arrangement called {:?}", arrangement.name);
            return Err(source.error(&text.get_ref().name.span(), &what, "a name of its own"));
        }
        all.push(arrangement);
    }
    Ok(all)
}

fn arrangement(
    spanned: &Spanned<ArrangementText>,
    common: Common<'_>,
    source: &Source<'_>,
) -> Result<Arrangement, ScenarioError> {
    let text = spanned.get_ref();
    let name = text.name.get_ref().clone();
    let kind = match (&text.policy, text.copy.is_empty()) {
        (Some(_), true) => Kind::Mesh(Box::new(mesh(text, common, source)?)),
        (None, false) => {
            let given = [
                text.topology.as_ref().map(Spanned::span),
                text.code.as_ref().map(Spanned::span),
                text.guardians.as_ref().map(Spanned::span),
                text.patience.as_ref().map(Spanned::span),
            ];
            if let Some(span) = given.into_iter().flatten().next() {
                let expected = "only `copy` tables here: this arrangement is not Strewn";
                return Err(source.error(&span, "copies have no such thing", expected));
            }
            let copy = |text: &CopyText| copied(text, source, &spanned.span());
            Kind::Copies(text.copy.iter().map(copy).collect::<Result<Vec<_>, _>>()?)
        }
        _ => {
            let expected = "either [[arrangement.copy]] tables, or [arrangement.policy] for Strewn";
            return Err(source.error(
                &text.name.span(),
                &format!("what is {name:?} made of?"),
                expected,
            ));
        }
    };
    let verdict = |word: &Spanned<String>| {
        VERDICTS.iter().find(|(name, _)| name == word.get_ref()).map(|(_, v)| *v).ok_or_else(|| {
            let expected = VERDICTS.map(|(name, _)| name).join(", ");
            source.error(&word.span(), &format!("{:?} is no verdict", word.get_ref()), &expected)
        })
    };
    let verdicts = text.expect.get_ref().iter().map(verdict).collect::<Result<Vec<_>, _>>()?;
    if verdicts.is_empty() {
        return Err(source.error(
            &text.expect.span(),
            "nothing is expected",
            "expect = [\"survived\"]",
        ));
    }
    let (unreadable_max, unreadable_min) = (text.unreadable_max, text.unreadable_min);
    let expect = Expect { verdicts, unreadable_max, unreadable_min };
    Ok(Arrangement { name, title: text.title.clone(), kind, expect })
}

fn copied(
    text: &CopyText,
    source: &Source<'_>,
    whole: &Range<usize>,
) -> Result<Copied, ScenarioError> {
    let mut labels = Vec::new();
    for label in &text.labels {
        let checked: Result<Label, _> = label.get_ref().parse();
        let expected = "level=name, such as \"provider=aws\"";
        checked.map_err(|error| source.error(&label.span(), &error.to_string(), expected))?;
        labels.push(label.get_ref().clone());
    }
    if labels.is_empty() {
        return Err(source.error(
            whole,
            "a copy lies nowhere",
            "labels = [\"provider=aws\", \"account=main\"]",
        ));
    }
    // Who has the account's panel can delete what lies in it, and so can its owner: that is how accounts are.
    let mut keys: Vec<String> =
        labels.iter().filter(|label| label.starts_with("account=")).cloned().collect();
    keys.push("owner".into());
    if let Some(given) = &text.keys {
        keys.clear();
        for key in given {
            if key.get_ref() != "owner" && key.get_ref().parse::<Label>().is_err() {
                let what = format!("{:?} is nobody's key", key.get_ref());
                return Err(source.error(
                    &key.span(),
                    &what,
                    "\"owner\", or level=name: whose panel can delete it",
                ));
            }
            keys.push(key.get_ref().clone());
        }
    }
    let lock = match &text.lock {
        None => Lock::None,
        Some(lock) => match lock.get_ref().as_str() {
            "none" => Lock::None,
            "governance" => Lock::Governance,
            "compliance" => Lock::Compliance,
            other => {
                let what = format!("{other:?} is no object lock");
                return Err(source.error(&lock.span(), &what, "none, governance or compliance"));
            }
        },
    };
    Ok(Copied {
        labels,
        keys,
        lock,
        every: text.every.unwrap_or_default(),
        works: text.works.unwrap_or(true),
        restore: text.restore.unwrap_or_default(),
        drain: text.drain.unwrap_or(Period::days(3650)),
    })
}
