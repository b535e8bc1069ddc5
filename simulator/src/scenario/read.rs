//! From a file's text to a checked scenario. Errors point at the line and say what is expected there.

use super::copies::copied;
use super::error::{ScenarioError, Source};
use super::events::{self, Domains};
use super::mesh::mesh;
use super::text::{ArrangementText, CopyText, EventText, RateText, ScenarioText};
use super::{
    ARRANGEMENTS_MAX, Arrangement, Expect, Facts, Kind, PATIENCE, PATIENCE_MIN, Scenario, Workload,
    topology,
};
use crate::from_mesh::{self, FromMesh};
use crate::plan::Verdict;
use crate::setup::NodeSetup;
use protocol::time::Period;
use toml::Spanned;

const DURATION_MAX: Period = Period::days(3650);
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
    let event = |text: &Spanned<EventText>| events::event(text, duration, &domains, &source);
    let events = parsed.event.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    let rate = |text: &Spanned<RateText>| events::rate(text, duration, &domains, &source);
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
