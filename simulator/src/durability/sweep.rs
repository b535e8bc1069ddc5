//! The same input over ranges of its numbers.

use super::input::{Input, InputError};
use std::path::Path;
use toml::Value;

/// Most combinations of one sweep.
pub const COMBINATIONS_MAX: usize = 10_000;

/// One field and the values it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Vary {
    /// Where it stands: `k`, `code.k`, `cause.disk or server lost.per_year`.
    pub path: String,
    /// Its values, as text of TOML.
    pub values: Vec<String>,
}

impl std::str::FromStr for Vary {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: write PATH=2..8, PATH=0.001,0.01 or PATH=1d,2d");
        let (path, values) = text.split_once('=').ok_or_else(wrong)?;
        let values: Vec<String> = match values.split_once("..") {
            Some((from, to)) => {
                let from: u64 = from.parse().map_err(|_| wrong())?;
                let to: u64 = to.trim_start_matches('=').parse().map_err(|_| wrong())?;
                if from > to || (to - from) as usize >= COMBINATIONS_MAX {
                    return Err(wrong());
                }
                (from..=to).map(|value| value.to_string()).collect()
            }
            None => values.split(',').map(|value| value.trim().to_owned()).collect(),
        };
        if path.is_empty() || values.iter().any(String::is_empty) {
            return Err(wrong());
        }
        let path = if matches!(path, "k" | "n") { format!("code.{path}") } else { path.to_owned() };
        Ok(Self { path, values })
    }
}

/// One combination: what was set, and the input that comes of it.
pub type Combination = (Vec<(String, String)>, Result<Input, InputError>);

/// Every combination, the last field turning fastest; files that the text names lie in the folder. Those that cannot be meant (k above n) come with their error.
///
/// # Errors
/// [`InputError::Text`] when the text is no TOML, a path leads nowhere, or there are too many.
pub fn combinations(
    text: &str,
    folder: &Path,
    vary: &[Vary],
) -> Result<Vec<Combination>, InputError> {
    let base: Value = toml::from_str(text).map_err(|e| InputError::Text(e.to_string()))?;
    let count = vary.iter().try_fold(1usize, |all, one| all.checked_mul(one.values.len()));
    let count = count.filter(|count| *count <= COMBINATIONS_MAX).ok_or_else(|| {
        InputError::Text(format!("more than {COMBINATIONS_MAX} combinations: vary fewer values"))
    })?;
    (0..count)
        .map(|index| {
            let mut rest = index;
            let mut chosen: Vec<(String, String)> = vary
                .iter()
                .rev()
                .map(|one| {
                    let value = one.values[rest % one.values.len()].clone();
                    rest /= one.values.len();
                    (one.path.clone(), value)
                })
                .collect();
            chosen.reverse();
            let mut changed = base.clone();
            for (path, value) in &chosen {
                set(&mut changed, path, value).map_err(InputError::Text)?;
            }
            let text = toml::to_string(&changed).map_err(|e| InputError::Text(e.to_string()))?;
            Ok((chosen, Input::parse_in(&text, folder)))
        })
        .collect()
}

/// Sets one value. Of a list, `name` chooses the table of that name, or a number the one at that place.
fn set(root: &mut Value, path: &str, value: &str) -> Result<(), String> {
    let nowhere = || format!("{path}: the file has nothing of that name to vary");
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(p, l)| (Some(p), l));
    let mut at = root;
    for step in parents.into_iter().flat_map(|parents| parents.split('.')) {
        at = match at {
            Value::Table(table) => table.get_mut(step).ok_or_else(nowhere)?,
            Value::Array(list) => {
                let named = list
                    .iter()
                    .position(|v| v.get("name").is_some_and(|n| n.as_str() == Some(step)));
                let index = named.or_else(|| step.parse().ok()).ok_or_else(nowhere)?;
                list.get_mut(index).ok_or_else(nowhere)?
            }
            _ => return Err(nowhere()),
        };
    }
    let table = at.as_table_mut().ok_or_else(nowhere)?;
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    table.insert(last.to_owned(), parsed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../models/three-providers.toml");

    #[test]
    fn every_combination_comes_once_and_impossible_ones_say_why() {
        let vary = ["k=5..7", "cause.account closed.per_year=0.001,0.1", "repair.patience=1d,2d"];
        let vary: Vec<Vary> = vary.iter().map(|v| v.parse().unwrap()).collect();
        let all = combinations(TEXT, Path::new(""), &vary).unwrap();
        assert_eq!(all.len(), 12);
        let (chosen, input) = &all[1];
        assert_eq!(chosen[2].1, "2d");
        let input = input.as_ref().unwrap();
        assert_eq!(input.k, 5);
        assert!((input.troubles[1].per_year - 0.001).abs() < 1e-12);
        let above =
            combinations(TEXT, Path::new(""), &["k=12..12".parse().unwrap()]).unwrap().remove(0).1;
        assert!(above.unwrap_err().to_string().contains("12 of 9"));
    }

    #[test]
    fn what_cannot_be_varied_is_said() {
        for (text, message) in [
            ("cause.nothing.per_year=1", "nothing of that name"),
            ("nodes.9.count=1", "nothing of that name"),
        ] {
            let error = combinations(TEXT, Path::new(""), &[text.parse().unwrap()]).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
        for wrong in ["k", "=1", "k=", "k=8..2", "k=a..b"] {
            assert!(wrong.parse::<Vary>().is_err(), "{wrong}");
        }
    }
}
