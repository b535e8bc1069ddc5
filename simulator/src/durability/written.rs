//! How times and their laws are written in a model's file. What a law means is `law`'s; times in files are `empirical`'s.

use super::empirical::Empirical;
use super::input::InputError;
use super::law::Law;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A span of time as text: `6h`, `1.5d`, `4y`. In years.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Years(pub f64);

impl TryFrom<String> for Years {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        const UNITS: [(&str, f64); 6] = [
            ("y", 1.0),
            ("w", 7.0 / 365.0),
            ("d", 1.0 / 365.0),
            ("h", 1.0 / 8760.0),
            ("m", 1.0 / 525_600.0),
            ("s", 1.0 / 31_536_000.0),
        ];
        let wrong =
            || format!("{text:?} is not a span of time: write 4y, 2w, 1.5d, 6h, 15m or 30s");
        let digits = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let number: f64 = text[..digits].trim().parse().map_err(|_| wrong())?;
        let unit = UNITS.iter().find(|(name, _)| *name == &text[digits..]).ok_or_else(wrong)?;
        if number.is_finite() && number >= 0.0 { Ok(Self(number * unit.1)) } else { Err(wrong()) }
    }
}

/// A law as text: a span, or a table that names one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "LawText")]
pub(super) enum LawIn {
    /// Written out.
    Known(Law),
    /// In a file, whose folder is not known yet.
    Empirical(Empirical),
    /// One after the other.
    Sum(Vec<LawIn>),
}

impl LawIn {
    /// The law, with the times of files read from this folder.
    pub(super) fn read(self, folder: &Path) -> Result<Law, InputError> {
        match self {
            Self::Known(law) => Ok(law),
            Self::Empirical(file) => file.read(folder),
            Self::Sum(parts) => {
                let parts = parts.into_iter().map(|part| part.read(folder));
                Ok(Law::Sum(parts.collect::<Result<_, _>>()?))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum LawText {
    Span(String),
    Table(Box<LawTable>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LawTable {
    fixed: Option<Years>,
    exponential: Option<Years>,
    uniform: Option<[Years; 2]>,
    weibull: Option<Years>,
    shape: Option<f64>,
    lognormal: Option<Years>,
    sigma: Option<f64>,
    trace: Option<Vec<f64>>,
    empirical: Option<PathBuf>,
    column: Option<String>,
    unit: Option<String>,
    sum: Option<Vec<LawIn>>,
}

impl TryFrom<LawText> for LawIn {
    type Error = String;
    fn try_from(text: LawText) -> Result<Self, String> {
        let table = match text {
            LawText::Span(text) => return Ok(Self::Known(Law::Fixed(Years::try_from(text)?.0))),
            LawText::Table(table) => table,
        };
        let mut laws = Vec::new();
        laws.extend(table.fixed.map(|t| Law::Fixed(t.0)));
        laws.extend(table.exponential.map(|t| Law::Exponential { mean: t.0 }));
        laws.extend(table.uniform.map(|[low, high]| Law::Uniform { low: low.0, high: high.0 }));
        if let Some(mean) = table.weibull {
            let shape = table.shape.ok_or("weibull (its mean) needs shape = …")?;
            laws.push(Law::weibull(shape, mean.0));
        }
        if let Some(median) = table.lognormal {
            let sigma = table.sigma.ok_or("lognormal (its median) needs sigma = …")?;
            laws.push(Law::LogNormal { median: median.0, sigma });
        }
        if let Some(days) = table.trace {
            let years = days.iter().map(|d| d / 365.0).collect();
            laws.push(Law::trace(years).map_err(|e| e.to_string())?);
        }
        laws.iter().try_for_each(Law::check).map_err(|error| error.to_string())?;
        let mut all: Vec<Self> = laws.into_iter().map(Self::Known).collect();
        let (column, unit) = (table.column, table.unit);
        if table.empirical.is_none() && (column.is_some() || unit.is_some()) {
            return Err("column and unit belong to empirical = \"FILE.csv\"".into());
        }
        all.extend(table.empirical.map(|file| Self::Empirical(Empirical { file, column, unit })));
        all.extend(table.sum.map(Self::Sum));
        if all.len() != 1 {
            return Err("one law is expected: fixed, exponential, uniform, weibull, lognormal, trace, empirical or sum".into());
        }
        Ok(all.remove(0))
    }
}

/// A law, or the word `never`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "toml::Value")]
pub(super) enum ReplaceText {
    /// What is lost stays so.
    Never,
    /// After a time of this law.
    After(LawIn),
}

impl TryFrom<toml::Value> for ReplaceText {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<Self, String> {
        if value.as_str() == Some("never") {
            return Ok(Self::Never);
        }
        value.try_into().map(Self::After).map_err(|error| error.message().to_owned())
    }
}
