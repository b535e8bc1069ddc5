use super::*;
use crate::cli::output::Style;
use std::io::Write;
use std::sync::Mutex;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn output(style: Style) -> (Output, Shared) {
    let out = Shared::default();
    (Output::with_writers(style, Box::new(out.clone()), Box::new(std::io::sink())), out)
}

#[test]
fn counts_of_many_threads_add_up() {
    let (output, _) = output(Style::default());
    let progress = Progress::start(&output, "backing up");
    progress.counters().expect(8, 8000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let counters = progress.counters();
            scope.spawn(move || {
                for _ in 0..1000 {
                    counters.bytes(2);
                    counters.new_bytes(1);
                    counters.sent_bytes(3);
                }
                counters.file();
                counters.error();
            });
        }
    });
    let (status, _) = progress.finish();
    assert_eq!((status.files_done, status.bytes_done, status.new_bytes), (4, 8000, 4000));
    assert_eq!((status.sent_bytes, status.error_count), (12_000, 4));
    assert!((status.percent_done - 1.0).abs() < f64::EPSILON);
}

#[test]
fn what_remains_follows_from_the_rate() {
    let counters = Counters::default();
    let at = |seconds| counters.status(Duration::from_secs(seconds));
    assert_eq!(at(0).seconds_remaining, None);
    counters.expect(1, 1000);
    assert_eq!(at(10).seconds_remaining, None, "nothing done yet: nobody knows");
    counters.bytes(250);
    assert_eq!((at(10).bytes_per_second, at(10).seconds_remaining), (25, Some(30)));
    counters.bytes(2000);
    assert_eq!(at(10).seconds_remaining, None);
    assert!(at(10).percent_done <= 1.0, "a source that grew is never more than done");
}

#[test]
fn programs_get_status_lines() {
    let (output, out) = output(Style { json: true, ..Style::default() });
    let progress = Progress::start_with(&output, "backing up", Some("50"));
    progress.counters().bytes(7);
    let deadline = Instant::now() + Duration::from_secs(10);
    while out.0.lock().unwrap().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(progress);
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&first["message_type"], &first["bytes_done"]), (&"status".into(), &7.into()));
}

#[test]
fn nothing_is_shown_where_nobody_looks() {
    let quiet = Style { quiet: true, ..Style::default() };
    for style in [Style::default(), quiet, Style { json: true, ..quiet }] {
        let (output, out) = output(style);
        let progress = Progress::start_with(&output, "backing up", Some("60"));
        assert!(progress.shown_by.is_none());
        drop(progress);
        assert!(out.0.lock().unwrap().is_empty());
    }
}

#[test]
fn ending_does_not_wait_for_the_next_status() {
    let (output, _) = output(Style { json: true, ..Style::default() });
    let start = Instant::now();
    Progress::start_with(&output, "backing up", Some("0.001")).finish();
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn how_often_can_be_said_and_mistakes_change_nothing() {
    let default = Duration::from_secs(1);
    assert_eq!(interval(Some("2"), default), Duration::from_millis(500));
    assert_eq!(interval(Some("1e9"), default), Duration::from_secs_f64(1.0 / 60.0));
    for wrong in [None, Some(""), Some("0"), Some("-1"), Some("NaN"), Some("fast")] {
        assert_eq!(interval(wrong, default), default, "{wrong:?}");
    }
}

#[test]
fn a_bar_learns_its_length_when_the_total_is_known() {
    let bar = new_bar("backing up");
    let counters = Counters::default();
    counters.bytes(10);
    draw(&bar, &counters.status(Duration::from_secs(1)));
    assert_eq!(bar.length(), None);
    counters.expect(3, 5);
    counters.new_bytes(2048);
    counters.error();
    draw(&bar, &counters.status(Duration::from_secs(1)));
    assert_eq!((bar.length(), bar.position()), (Some(10), 10));
    assert_eq!(bar.message(), "0 of 3 files, 2 KiB new, 1 failed");
}
