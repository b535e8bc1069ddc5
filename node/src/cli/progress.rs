//! How far a command is: counters that every thread adds to, and one thread that shows them, as bars on a terminal
//! or as `status` lines with `--json`. Neither: nothing is shown, and counting costs next to nothing.

use super::output::Output;
use crate::size::{ByteSize, format_rate};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The environment variable that says how often progress is shown, in times a second.
pub const FPS_VARIABLE: &str = "STREWN_PROGRESS_FPS";
/// How often bars move unless that says otherwise.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// How often a `status` line comes unless that says otherwise.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// More often than this no person sees it.
const FPS_MAX: f64 = 60.0;
/// Less often than this it is a mistake.
const FPS_MIN: f64 = 0.001;

/// What is counted. Totals may grow while the source is still being read; 0 means not known yet.
#[derive(Debug, Default)]
pub struct Counters {
    files_total: AtomicU64,
    bytes_total: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    new_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    errors: AtomicU64,
}

impl Counters {
    /// This much more is to be done.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One more file (or other item) is done.
    pub fn file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more source bytes are done.
    pub fn bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// So many of them the vault did not have.
    pub fn new_bytes(&self, count: u64) {
        self.new_bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// So many bytes went over the network, parity included.
    pub fn sent_bytes(&self, count: u64) {
        self.sent_bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// What was done is done again, and so is what was expected.
    pub fn begin_again(&self) {
        for counter in [&self.files_total, &self.bytes_total, &self.files, &self.bytes] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// One more item failed.
    pub fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// What the counters say after so much time.
    #[must_use]
    pub fn status(&self, elapsed: Duration) -> Status {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (bytes_total, bytes_done) = (get(&self.bytes_total), get(&self.bytes));
        let millis = elapsed.as_millis().max(1);
        let saturate = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        let left = u128::from(bytes_total.saturating_sub(bytes_done));
        // left / (done / elapsed), which nobody knows before anything is done.
        let remaining = (left * millis).checked_div(u128::from(bytes_done)).filter(|_| left > 0);
        Status {
            seconds_elapsed: elapsed.as_secs(),
            seconds_remaining: remaining.map(|millis| saturate(millis / 1000)),
            percent_done: match bytes_total {
                0 => 0.0,
                total => (bytes_done as f64 / total as f64).min(1.0),
            },
            total_files: get(&self.files_total),
            files_done: get(&self.files),
            total_bytes: bytes_total,
            bytes_done,
            new_bytes: get(&self.new_bytes),
            sent_bytes: get(&self.sent_bytes),
            bytes_per_second: saturate(u128::from(bytes_done) * 1000 / millis),
            error_count: get(&self.errors),
        }
    }
}

/// The body of a `status` line. Names and units as restic has them; `percent_done` lies between 0 and 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Seconds since the start.
    pub seconds_elapsed: u64,
    /// Seconds left at the mean rate so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_remaining: Option<u64>,
    /// Part done, 0 to 1.
    pub percent_done: f64,
    /// Files to be done.
    pub total_files: u64,
    /// Files done.
    pub files_done: u64,
    /// Source bytes to be done.
    pub total_bytes: u64,
    /// Source bytes done.
    pub bytes_done: u64,
    /// Source bytes that the vault did not have.
    pub new_bytes: u64,
    /// Bytes over the network.
    pub sent_bytes: u64,
    /// Mean rate so far.
    pub bytes_per_second: u64,
    /// Items that failed.
    pub error_count: u64,
}

/// Shows counters until it is dropped or finished.
pub struct Progress {
    counters: Arc<Counters>,
    start: Instant,
    shown_by: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins to count and to show. `what` stands before the bar: "backing up".
    #[must_use]
    pub fn start(output: &Output, what: &'static str) -> Self {
        let fps = std::env::var(FPS_VARIABLE).ok();
        Self::start_with(output, what, fps.as_deref())
    }

    fn start_with(output: &Output, what: &'static str, fps: Option<&str>) -> Self {
        let counters = Arc::new(Counters::default());
        let start = Instant::now();
        let style = output.style();
        let shown_by = (style.bars || style.json && !style.quiet).then(|| {
            let interval = interval(fps, if style.json { STATUS_INTERVAL } else { BAR_INTERVAL });
            let (stop, stopped) = channel();
            let (output, counters) = (output.clone(), Arc::clone(&counters));
            let show = move || {
                let bar = output.style().bars.then(|| output.bars().add(new_bar(what)));
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    let status = counters.status(start.elapsed());
                    match &bar {
                        Some(bar) => draw(bar, &status),
                        None => output.json("status", &status),
                    }
                }
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                    output.bars().remove(&bar);
                }
            };
            // Without a thread nothing is shown; the work goes on.
            let thread = std::thread::Builder::new().name("progress".into()).spawn(show);
            thread.ok().map(|thread| (stop, thread))
        });
        Self { counters, start, shown_by: shown_by.flatten() }
    }

    /// The counters, to be shared with every thread that works.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Ends the showing, and gives the last state with the time taken.
    pub fn finish(mut self) -> (Status, Duration) {
        self.stop();
        let elapsed = self.start.elapsed();
        (self.counters.status(elapsed), elapsed)
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.shown_by.take() {
            drop(stop);
            // A panic there has been reported by the hook; it is not this thread's.
            let _ = thread.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop();
    }
}

fn interval(fps: Option<&str>, default: Duration) -> Duration {
    match fps.and_then(|fps| fps.trim().parse::<f64>().ok()) {
        Some(fps) if fps >= FPS_MIN => Duration::from_secs_f64(1.0 / fps.min(FPS_MAX)),
        _ => default,
    }
}

fn new_bar(what: &'static str) -> ProgressBar {
    ProgressBar::no_length().with_prefix(what).with_style(bar_style(false))
}

fn bar_style(has_total: bool) -> ProgressStyle {
    let template = if has_total {
        "{prefix}  {bar:24}  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left  {msg}"
    } else {
        "{prefix}  {spinner}  {binary_bytes}  {binary_bytes_per_sec}  {elapsed}  {msg}"
    };
    ProgressStyle::with_template(template)
        .expect("both templates are constants that a test reads")
        .progress_chars("━╸─")
}

fn draw(bar: &ProgressBar, status: &Status) {
    let has_total = status.total_bytes > 0;
    if has_total && bar.length().is_none() {
        bar.set_style(bar_style(true));
    }
    if has_total {
        bar.set_length(status.total_bytes.max(status.bytes_done));
    }
    bar.set_position(status.bytes_done);
    bar.set_message(details(status));
}

fn details(status: &Status) -> String {
    let mut text = match (status.files_done, status.total_files) {
        (done, 0) => format!("{done} files"),
        (done, total) => format!("{done} of {total} files"),
    };
    // Writing to a string cannot fail.
    if status.new_bytes > 0 {
        let _ = write!(text, ", {} new", ByteSize(status.new_bytes));
    }
    if status.error_count > 0 {
        let _ = write!(text, ", {} failed", status.error_count);
    }
    text
}

impl Status {
    /// The rate of the source bytes as people read it.
    #[must_use]
    pub fn rate(&self, elapsed: Duration) -> String {
        format_rate(self.bytes_done, elapsed)
    }
}

#[cfg(test)]
mod tests;
