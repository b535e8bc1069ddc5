//! What happens, from its text: events at their times, things that happen again and again, and the domains that either may name.

use super::error::{ScenarioError, Source};
use super::text::{EventText, RateText};
use super::{Arrangement, Event, EventRate, Hit, Kind};
use crate::from_mesh::FromMesh;
use crate::plan::{Moment, What, Who};
use protocol::time::Period;
use std::collections::BTreeSet;
use toml::Spanned;

const WHATS: &str =
    "destroy, delete, close, dark, steal-keys, stop-backups, restart, recover, or step";

/// All domains that any arrangement has.
pub(super) struct Domains<'a>(BTreeSet<String>, Option<&'a FromMesh>);

impl<'a> Domains<'a> {
    pub(super) fn of(arrangements: &[Arrangement], real: Option<&'a FromMesh>) -> Self {
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
    Moment::ALL.into_iter().find(|moment| moment.name() == text.get_ref()).ok_or_else(|| {
        let all: Vec<&str> = Moment::ALL.iter().map(|moment| moment.name()).collect();
        let what = format!("{:?} is no moment", text.get_ref());
        source.error(&text.span(), &what, &all.join(", "))
    })
}

pub(super) fn event(
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
        "recover" | "stop-backups" => &[],
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
        "stop-backups" => Hit::StopBackups,
        "recover" => Hit::Step(What::Recover { vault: 0, by: 0 }),
        _ => Hit::Step(text.step.clone().ok_or_else(|| {
            missing("step", "step = \"Heal\", step = { Crash = { Label = \"provider=aws\" } }, …: see `plan::What`")
        })?),
    };
    let until = text.until.as_ref().map(|until| moment(until, source)).transpose()?;
    if let (Hit::StopBackups, Some(wrong)) = (&hit, &text.until) {
        let what = format!("{what} waits for no moment");
        return Err(source.error(&wrong.span(), &what, "at, what"));
    }
    Ok(Event { at, until, hit })
}

pub(super) fn rate(
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
