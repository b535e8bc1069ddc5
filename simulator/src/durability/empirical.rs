//! Times of failure and repair that somebody measured: a column of a CSV file, read strictly and up to a bound. Every error
//! has the file and the line. What the times are used for is `law`'s: each is drawn as often as any other.

use super::input::{FILE_MAX, InputError};
use super::law::{Law, TRACE_MAX};
use super::written::Years;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Where times stand: a file, one of its columns, and the unit of its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Empirical {
    pub(super) file: PathBuf,
    /// The column's name; the first column when left out.
    pub(super) column: Option<String>,
    /// As in spans of time; days when left out.
    pub(super) unit: Option<String>,
}

impl Empirical {
    /// The law of the times, of a file that is named from this folder.
    pub(super) fn read(&self, folder: &Path) -> Result<Law, InputError> {
        let path = folder.join(&self.file);
        let name = path.display().to_string();
        let failed = |error| InputError::File(name.clone(), error);
        let file = std::fs::File::open(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(InputError::TooLarge(name));
        }
        self.parse(&bytes).map_err(|(line, why)| match line {
            Some(line) => InputError::Text(format!("{name} line {line}: {why}")),
            None => InputError::Text(format!("{name}: {why}")),
        })
    }

    /// The law of the times in the text; where it is wrong, the line and why.
    fn parse(&self, bytes: &[u8]) -> Result<Law, (Option<u64>, String)> {
        let unit = self.unit.as_deref().unwrap_or("d");
        if Years::try_from(format!("1{unit}")).is_err() {
            return Err((None, format!("unit = {unit:?}: y, w, d, h, m or s is expected")));
        }
        // The titles are looked at here, as a file of one column may have none.
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_reader(bytes);
        let (mut at, mut times) = (0, Vec::new());
        for (index, record) in reader.records().enumerate() {
            let record = record.map_err(|error| {
                (error.position().map(csv::Position::line), "this is no CSV in UTF-8".to_owned())
            })?;
            let line = record.position().map(csv::Position::line);
            if index == 0 {
                if let Some(column) = &self.column {
                    at = record.iter().position(|title| title == column).ok_or_else(|| {
                        let titles = record.iter().collect::<Vec<_>>().join(", ");
                        (line, format!("no column {column:?}; there are: {titles}"))
                    })?;
                    continue;
                }
                // Titles are no times.
                if record.get(0).is_some_and(|cell| time(cell, unit).is_none()) {
                    continue;
                }
            }
            let cell = record.get(at).unwrap_or_default();
            let time = time(cell, unit).ok_or_else(|| {
                (
                    line,
                    format!(
                        "{cell:?} is not a time: write a number (of {unit}), or a span like 6h"
                    ),
                )
            })?;
            if times.len() == TRACE_MAX {
                return Err((line, format!("more than {TRACE_MAX} times")));
            }
            times.push(time);
        }
        Law::trace(times).map_err(|error| (None, error.to_string()))
    }
}

/// A cell in years: a number of the unit, or a span that has its own.
fn time(cell: &str, unit: &str) -> Option<f64> {
    let has_unit = cell.ends_with(|c: char| c.is_ascii_alphabetic());
    let text = if has_unit { cell.to_owned() } else { format!("{cell}{unit}") };
    Years::try_from(text).ok().map(|years| years.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(column: Option<&str>, unit: Option<&str>) -> Empirical {
        Empirical {
            file: "times.csv".into(),
            column: column.map(str::to_owned),
            unit: unit.map(str::to_owned),
        }
    }

    fn days(law: &Law) -> Vec<f64> {
        let Law::Trace(times) = law else { panic!("{law:?}") };
        times.iter().map(|time| (time * 365.0 * 1000.0).round() / 1000.0).collect()
    }

    #[test]
    fn a_column_becomes_the_law_of_its_times() {
        let plain = column(None, None).parse(b"2\n0.5\n1d\n").unwrap();
        assert_eq!(days(&plain), [0.5, 1.0, 2.0]);
        let titled = b"host,\"repair, hours\"\r\na,24\r\n# rebuilt by hand\r\nb,12\r\n";
        let hours = column(Some("repair, hours"), Some("h")).parse(titled).unwrap();
        assert_eq!(days(&hours), [0.5, 1.0]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let wrong = |of: Empirical, text: &[u8]| of.parse(text).unwrap_err();
        let (line, why) = wrong(column(None, None), b"days\n1\nsoon\n");
        assert!(line == Some(3) && why.contains("soon"), "{line:?} {why}");
        let (line, why) = wrong(column(Some("repair"), None), b"disk,hours\n1,2\n");
        assert!(line == Some(1) && why.contains("disk, hours"), "{why}");
        let (line, _) = wrong(column(Some("hours"), None), b"disk,hours\n1,2\n3\n");
        assert_eq!(line, Some(3));
        let (line, _) = wrong(column(None, None), b"1\n-2\n");
        assert_eq!(line, Some(2));
        let (line, _) = wrong(column(None, None), b"1\n\xff\n");
        assert_eq!(line, Some(2));
        assert!(wrong(column(None, None), b"days\n").1.contains("0 values"));
        assert!(wrong(column(None, Some("fortnight")), b"1\n").1.contains("unit"));
    }
}
