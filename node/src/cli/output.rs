//! What the program says: text for people, or JSON lines for programs. Results go to standard output, errors and
//! warnings to standard error.
//!
//! With `--json` every line of either is one object with a `message_type`: `status`, `summary`, `warning`, `log`, `error`,
//! `exit_error` or that of a listing. Text from elsewhere (file names, labels) never reaches a terminal raw.

use super::error::CliError;
use crate::capped::Faults;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use indicatif::MultiProgress;
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// How the program talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// JSON lines instead of text.
    pub json: bool,
    /// Results and errors only.
    pub quiet: bool,
    /// Colours on standard output.
    pub color: bool,
    /// Colours on standard error.
    pub color_errors: bool,
    /// Progress bars on standard error.
    pub bars: bool,
    /// Standard output is a terminal, which does what control characters tell it.
    pub terminal: bool,
}

impl Style {
    /// What `--json` and `--quiet` ask for and the terminals and `$NO_COLOR` allow.
    #[must_use]
    pub fn detect(json: bool, quiet: bool) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let color =
            !json && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        Self {
            json,
            quiet,
            color: color && io::stdout().is_terminal(),
            color_errors: color && io::stderr().is_terminal(),
            bars: !json && !quiet && io::stderr().is_terminal(),
            terminal: io::stdout().is_terminal(),
        }
    }
}

/// Where the program talks to; clones share it.
#[derive(Clone)]
pub struct Output(Arc<Inner>);

struct Inner {
    style: Style,
    bars: MultiProgress,
    out: Mutex<Sink>,
    err: Mutex<Sink>,
}

struct Sink {
    to: Box<dyn Write + Send>,
    failure: Option<io::Error>,
}

impl Sink {
    fn new(to: Box<dyn Write + Send>) -> Mutex<Self> {
        Mutex::new(Self { to, failure: None })
    }

    /// Writes a whole line at once. After a failure nothing more is written: the reader has gone away, and a backup
    /// does not end because of that.
    fn write(&mut self, bytes: &[u8]) {
        if self.failure.is_none() {
            let written = self.to.write_all(bytes).and_then(|()| self.to.flush());
            self.failure = written.err();
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    alignment: CellAlignment,
}

impl Column {
    /// Text, on the left.
    #[must_use]
    pub const fn text(title: &'static str) -> Self {
        Self { title, alignment: CellAlignment::Left }
    }

    /// Numbers, on the right.
    #[must_use]
    pub const fn number(title: &'static str) -> Self {
        Self { title, alignment: CellAlignment::Right }
    }
}

#[derive(Serialize)]
struct Message<'a, T> {
    message_type: &'a str,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct Text<'a> {
    message: &'a str,
}

#[derive(Serialize)]
struct SourceError<'a> {
    during: &'a str,
    item: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct Finding<'a, K> {
    during: &'a str,
    kind: K,
    message: &'a str,
}

#[derive(Serialize)]
struct ExitError<'a> {
    code: u8,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";
const BOLD: &str = "1";

impl Output {
    /// Talks to standard output and standard error.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self::with_writers(style, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    /// Talks to these instead.
    #[must_use]
    pub fn with_writers(
        style: Style,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
    ) -> Self {
        let bars = MultiProgress::new();
        if !style.bars {
            bars.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        Self(Arc::new(Inner { style, bars, out: Sink::new(out), err: Sink::new(err) }))
    }

    /// How the program talks.
    #[must_use]
    pub fn style(&self) -> Style {
        self.0.style
    }

    /// The bars that lines must not tear.
    #[must_use]
    pub fn bars(&self) -> &MultiProgress {
        &self.0.bars
    }

    /// Tells a person what happens. Silent with `--json` and `--quiet`.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.0.style.json && !self.0.style.quiet {
            self.write_out(&format!("{}\n", printable(text.as_ref())));
        }
    }

    /// Tells a person what to do with a result, apart from it: `$(…)` and pipes take the result alone. Silent with `--json` and `--quiet`.
    pub fn hint(&self, text: impl AsRef<str>) {
        if !self.0.style.json && !self.0.style.quiet {
            self.write_err(&format!("{}\n", printable(text.as_ref())));
        }
    }

    /// Asks a person who is there to be asked: standard input and output are terminals. Everybody else, and an empty answer,
    /// says no.
    #[must_use]
    pub fn ask(&self, question: &str) -> bool {
        let Style { json, quiet, terminal, .. } = self.0.style;
        if json || quiet || !terminal || !io::stdin().is_terminal() {
            return false;
        }
        self.line(format!("{question} [y/N]"));
        let mut answer = String::new();
        let read = io::stdin().lock().take(80).read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// Tells a person what was asked for, with `--quiet` too. Silent with `--json`.
    pub fn result(&self, text: impl AsRef<str>) {
        if !self.0.style.json {
            self.write_out(&format!("{}\n", printable(text.as_ref())));
        }
    }

    /// Text for another program, as it is. Silent with `--json`.
    pub fn raw(&self, text: &str) {
        if !self.0.style.json {
            self.write_out(text);
        }
    }

    /// Bytes for another program, as they are; false when nobody takes them any more.
    #[must_use]
    pub fn bytes(&self, bytes: &[u8]) -> bool {
        self.0.bars.suspend(|| {
            let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write(bytes);
            out.failure.is_none()
        })
    }

    /// A result that stands above others.
    pub fn heading(&self, text: impl AsRef<str>) {
        self.colored_result(BOLD, text.as_ref());
    }

    /// A result that is as it should be.
    pub fn good(&self, text: impl AsRef<str>) {
        self.colored_result(GREEN, text.as_ref());
    }

    /// A result that is not as it should be.
    pub fn bad(&self, text: impl AsRef<str>) {
        self.colored_result(RED, text.as_ref());
    }

    /// A table of results. Silent with `--json`.
    pub fn table(&self, columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) {
        if self.0.style.json {
            return;
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(columns.iter().map(|c| Cell::new(c.title)));
        for row in rows {
            table.add_row(row.iter().map(|text| Cell::new(printable(text).replace('\n', " "))));
        }
        for (index, column) in columns.iter().enumerate() {
            if let Some(settings) = table.column_mut(index) {
                settings.set_cell_alignment(column.alignment);
                settings.set_padding((0, 2));
            }
        }
        let text = table.trim_fmt();
        let (header, body) = text.split_once('\n').unwrap_or((&text, ""));
        let mut text = paint(self.0.style.color, BOLD, header.trim_end());
        text.push('\n');
        if !body.is_empty() {
            text.push_str(body);
            text.push('\n');
        }
        self.write_out(&text);
    }

    /// One JSON line on standard output; nothing without `--json`. `body` must be a struct or a map.
    pub fn json(&self, message_type: &str, body: &impl Serialize) {
        if self.0.style.json {
            self.write_out(&json_line(message_type, body));
        }
    }

    /// Tells what may need attention; the command goes on.
    pub fn warn(&self, text: impl AsRef<str>) {
        let message = text.as_ref();
        if self.0.style.json {
            self.write_err(&json_line("warning", &Text { message }));
        } else {
            let label = paint(self.0.style.color_errors, YELLOW, "warning");
            self.write_err(&format!("{label}: {}\n", printable(message)));
        }
    }

    /// Tells that one item of a source or a restore failed; the command goes on.
    pub fn item_error(&self, during: &str, item: &str, message: &str) {
        if self.0.style.json {
            self.write_err(&json_line("error", &SourceError { during, item, message }));
        } else {
            let label = paint(self.0.style.color_errors, RED, "error");
            let text = format!("{during} {item}: {message}");
            self.write_err(&format!("{label}: {}\n", printable(&text)));
        }
    }

    /// Tells the same of several: the first of them, and how many more there are.
    pub fn item_errors(&self, during: &str, items: &Faults) {
        for (item, message) in items {
            self.item_error(during, item, message);
        }
        if items.more() > 0 {
            self.item_error(during, &format!("{} more items", items.more()), "not named here");
        }
    }

    /// Tells what a check found to be wrong, by kind; the command goes on.
    pub fn finding(&self, kind: impl Serialize, message: &str) {
        if self.0.style.json {
            self.write_err(&json_line("error", &Finding { during: "check", kind, message }));
        } else {
            let label = paint(self.0.style.color_errors, RED, "error");
            self.write_err(&format!("{label}: {}\n", printable(message)));
        }
    }

    /// Tells why the program ends.
    pub fn exit_error(&self, error: &CliError) {
        if self.0.style.json {
            let body = ExitError {
                code: error.code().code(),
                message: error.message(),
                next: error.next_step(),
            };
            self.write_err(&json_line("exit_error", &body));
        } else {
            let label = paint(self.0.style.color_errors, RED, "error");
            self.write_err(&format!("{label}: {}\n", printable(&error.to_string())));
        }
    }

    /// Passes on a line of the log, which has its line break.
    pub(crate) fn log_line(&self, line: &str) {
        if self.0.style.json {
            self.write_err(&json_line("log", &Text { message: line.trim_end() }));
        } else {
            self.write_err(line);
        }
    }

    /// Whether everything said on standard output arrived. A reader that went away (`| head`) had enough: no failure.
    pub fn check_delivered(&self) -> Result<(), CliError> {
        let out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        match &out.failure {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(CliError::new("the output could not be written").cause(error))
            }
            _ => Ok(()),
        }
    }

    fn colored_result(&self, color: &str, text: &str) {
        if !self.0.style.json {
            let text = paint(self.0.style.color, color, &printable(text));
            self.write_out(&format!("{text}\n"));
        }
    }

    fn write_out(&self, text: &str) {
        self.0.bars.suspend(|| {
            self.0.out.lock().unwrap_or_else(PoisonError::into_inner).write(text.as_bytes());
        });
    }

    fn write_err(&self, text: &str) {
        self.0.bars.suspend(|| {
            self.0.err.lock().unwrap_or_else(PoisonError::into_inner).write(text.as_bytes());
        });
    }
}

fn paint(color: bool, code: &str, text: &str) -> String {
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn json_line(message_type: &str, body: &impl Serialize) -> String {
    let mut line = serde_json::to_string(&Message { message_type, body })
        .expect("messages are structs or maps with text keys");
    line.push('\n');
    line
}

/// Text as a terminal may have it: control characters and those that turn the direction of writing are shown as
/// escapes, so that a file's name cannot move the cursor or hide what follows.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c == '\n' || !(c.is_control() || is_invisible_order(c));
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::with_capacity(text.len() + 16), |mut all, c| {
        if is_plain(c) {
            all.push(c);
        } else {
            all.extend(c.escape_default());
        }
        all
    });
    Cow::Owned(escaped)
}

pub(super) fn is_invisible_order(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests;
