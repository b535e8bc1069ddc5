use super::*;
use crate::cli::Exit;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What was written, readable while the output lives.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn output(style: Style) -> (Output, Shared, Shared) {
    let (out, err) = (Shared::default(), Shared::default());
    (Output::with_writers(style, Box::new(out.clone()), Box::new(err.clone())), out, err)
}

fn say_everything(output: &Output) {
    output.line("working");
    output.result("12 snapshots");
    output.good("recoverable");
    output.table(
        &[Column::text("NAME"), Column::number("SIZE")],
        [vec!["work".into(), "9".into()], vec!["photos".into(), "1000".into()]],
    );
    output.json("summary", &json!({ "snapshots": 12 }));
    output.warn("a node is late");
    output.item_error("reading", "/x", "permission denied");
    output.exit_error(&CliError::new("it failed").next("try again").exit(Exit::Locked));
}

#[test]
fn people_get_text() {
    let (output, out, err) = output(Style::default());
    say_everything(&output);
    assert_eq!(
        out.text(),
        "working\n12 snapshots\nrecoverable\nNAME    SIZE\nwork       9\nphotos  1000\n"
    );
    assert_eq!(
        err.text(),
        "warning: a node is late\nerror: reading /x: permission denied\nerror: it failed\n  → try again\n"
    );
}

#[test]
fn programs_get_json_lines_and_nothing_else() {
    let (output, out, err) = output(Style { json: true, ..Style::default() });
    say_everything(&output);
    let lines = |text: String| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(lines(out.text()), [json!({ "message_type": "summary", "snapshots": 12 })]);
    assert_eq!(
        lines(err.text()),
        [
            json!({ "message_type": "warning", "message": "a node is late" }),
            json!({ "message_type": "error", "during": "reading", "item": "/x", "message": "permission denied" }),
            json!({ "message_type": "exit_error", "code": 11, "message": "it failed", "next": "try again" }),
        ]
    );
}

#[test]
fn quiet_keeps_results_and_errors() {
    let (output, out, err) = output(Style { quiet: true, ..Style::default() });
    say_everything(&output);
    assert!(!out.text().contains("working"));
    assert!(out.text().contains("12 snapshots") && err.text().contains("it failed"));
}

#[test]
fn colors_appear_only_where_they_are_wanted() {
    let (plain, out, _) = output(Style::default());
    say_everything(&plain);
    assert!(!out.text().contains('\x1b'));
    let (colored, out, err) = output(Style { color: true, ..Style::default() });
    say_everything(&colored);
    assert!(out.text().contains("\x1b[32mrecoverable\x1b[0m"));
    assert!(!err.text().contains('\x1b'));
}

#[test]
fn names_cannot_play_with_the_terminal() {
    let (output, out, err) = output(Style::default());
    let hostile = "a\x1b]0;title\x07\u{202e}gpj.exe\rb";
    output.result(hostile);
    output.table(&[Column::text("NAME")], [vec![format!("{hostile}\nline")]]);
    output.item_error("reading", hostile, "x");
    for text in [out.text(), err.text()] {
        assert!(!text.contains(['\x1b', '\x07', '\r', '\u{202e}']), "{text:?}");
    }
    assert_eq!(out.text().lines().count(), 3);
}

struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_had_enough_is_no_failure_and_a_full_disk_is() {
    for (kind, is_fine) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)]
    {
        let output =
            Output::with_writers(Style::default(), Box::new(Failing(kind)), Box::new(io::sink()));
        say_everything(&output);
        assert_eq!(output.check_delivered().is_ok(), is_fine, "{kind}");
    }
}

proptest! {
    #[test]
    fn printable_text_is_harmless_and_plain_text_untouched(text in "\\PC{0,40}", any_text: String) {
        let shown = printable(&any_text);
        prop_assert!(!shown.chars().any(|c| c != '\n' && (c.is_control() || is_invisible_order(c))));
        if !text.chars().any(is_invisible_order) {
            prop_assert_eq!(printable(&text), text.as_str());
        }
    }
}

#[test]
fn what_a_printed_line_is_for_is_said_beside_it() {
    let (output, out, err) = output(Style::default());
    output.result("strewn1abc");
    output.hint("on the new host: strewn join TICKET");
    assert_eq!((out.text().as_str(), err.text().lines().count()), ("strewn1abc\n", 1));
    for style in
        [Style { json: true, ..Style::default() }, Style { quiet: true, ..Style::default() }]
    {
        let (output, _, err) = self::output(style);
        output.hint("nobody reads it");
        assert_eq!(err.text(), "");
    }
}
