//! What a wrong file is told: where, what is wrong, and what was expected.

use std::fmt;
use std::ops::Range;

/// A file that is no scenario: where, what is wrong, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioError {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The line's text.
    pub text: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, text, what, expected } = self;
        writeln!(f, "{file}:{line}:{column}: {what}")?;
        let number = line.to_string();
        writeln!(f, "  {number} | {text}")?;
        write!(f, "  {:width$} | {:column$}^", "", "", width = number.len(), column = column - 1)?;
        if !expected.is_empty() {
            write!(f, "\n  expected: {expected}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ScenarioError {}

/// A file's name and text.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// What the reader of TOML says, in words for people.
    pub(super) fn not_toml(&self, error: &toml::de::Error) -> ScenarioError {
        let message = error.message();
        let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
        let expected = match expected {
            "u16" | "u32" | "u64" | "usize" => "a whole number, not below 0",
            "a sequence" => "a list, in brackets: [\"provider=aws\"]",
            "a map" => "a table",
            other if other.starts_with("struct ") => "a table",
            other => other,
        };
        self.error(&error.span().unwrap_or(0..0), what, expected)
    }

    pub(super) fn error(&self, span: &Range<usize>, what: &str, expected: &str) -> ScenarioError {
        let start = (0..=span.start.min(self.text.len()))
            .rev()
            .find(|&at| self.text.is_char_boundary(at))
            .unwrap_or(0);
        let before = &self.text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        let text = self.text.lines().nth(line - 1).unwrap_or_default().to_owned();
        let (what, expected) = (what.into(), expected.into());
        ScenarioError { file: self.file.into(), line, column, text, what, expected }
    }
}
