//! A whole copy, from its text.

use super::error::{ScenarioError, Source};
use super::text::CopyText;
use super::{Copied, Lock};
use protocol::label::Label;
use protocol::time::Period;
use std::ops::Range;

pub(super) fn copied(
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
    let lock = lock(text, source)?;
    let lock_period = text.lock_period.as_ref().map(|period| *period.get_ref());
    if let Some(wrong) = &text.lock_period {
        let told = |what: &str, expected: &str| source.error(&wrong.span(), what, expected);
        if lock == Lock::None {
            let expected = "lock = \"compliance\" or \"governance\" beside it";
            return Err(told("a period of a lock that this copy has not", expected));
        }
        if *wrong.get_ref() == Period(0) {
            let expected = "lock_period = \"30d\"; left out, the lock never ends";
            return Err(told("a lock that ends at once is none", expected));
        }
    }
    Ok(Copied {
        labels,
        keys,
        lock,
        lock_period,
        every: text.every.unwrap_or_default(),
        works: text.works.unwrap_or(true),
        restore: text.restore.unwrap_or_default(),
        drain: text.drain.unwrap_or(Period::days(3650)),
    })
}

fn lock(text: &CopyText, source: &Source<'_>) -> Result<Lock, ScenarioError> {
    let Some(lock) = &text.lock else { return Ok(Lock::None) };
    match lock.get_ref().as_str() {
        "none" => Ok(Lock::None),
        "governance" => Ok(Lock::Governance),
        "compliance" => Ok(Lock::Compliance),
        other => {
            let what = format!("{other:?} is no object lock");
            Err(source.error(&lock.span(), &what, "none, governance or compliance"))
        }
    }
}
