//! Charts as SVG text, for the one HTML page that `page` makes. The same input gives the same bytes. What the charts mean is
//! the caller's; numbers that are not finite, or not positive on a logarithmic axis, are left out.

mod page;

pub use page::{Content, Section, details, heading, list, page, paragraph, table};

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 52.0;
/// Series have this many colours; later ones begin again with a dash.
const COLOURS: usize = 8;

/// What one axis shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// What is counted, with its unit.
    pub label: String,
    /// Whether it is logarithmic.
    pub log: bool,
}

impl Axis {
    /// An even axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: false }
    }

    /// A logarithmic axis.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: true }
    }
}

/// One series of points.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub label: String,
    /// x and y, in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
    /// x, low and high: drawn as an area behind the line.
    pub band: Vec<(f64, f64, f64)>,
    /// Whether a value holds until the next one, as a count over time does.
    pub steps: bool,
}

/// A moment on the axis of time, or wherever: a line across, with a word at its upper end.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Where.
    pub at: f64,
    /// A number or so, as longer words would lie on each other; empty for none.
    pub label: String,
}

/// One bar of a tornado: the result when an assumption is at its low and at its high end.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Swing {
    /// The assumption, with both ends.
    pub label: String,
    /// The result at the low end.
    pub low: f64,
    /// The result at the high end.
    pub high: f64,
}

/// A box that may hold boxes: a domain with the domains inside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nested {
    /// Its name.
    pub label: String,
    /// Which colour it has; `None` for the colour of paper.
    pub tone: Option<usize>,
    /// Whether it is struck out: what is lost.
    pub lost: bool,
    /// What lies in it.
    pub inside: Vec<Nested>,
}

/// Text as it may stand in HTML and SVG.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // SVG is XML, in which other control characters may not stand at all.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A number as people read it on an axis.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if (1e-3..1e6).contains(&size) {
        let digits = if size >= 100.0 { 0 } else { 3 };
        let text = format!("{value:.digits$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').into()
        } else {
            text
        }
    } else {
        let text = format!("{value:.2e}");
        text.replace(".00e", "e").replacen("0e", "e", usize::from(text.contains('.')))
    }
}

/// A range of values laid along a length.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// Between two marks, where it is even.
    step: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Self {
        let usable = values.filter(|v| v.is_finite() && (!log || *v > 0.0));
        let (mut low, mut high) =
            usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = if log { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        let mut step = 0.0;
        if log {
            low = 10f64.powf(low.log10().floor());
            high = 10f64.powf(high.log10().ceil());
            if high <= low {
                high = low * 10.0;
            }
        } else {
            if high <= low {
                high = low + low.abs().max(1.0);
            }
            step = step_of(high - low);
            low = (low / step).floor() * step;
            high = (high / step).ceil() * step;
        }
        Self { low, high, log, step, from, to }
    }

    fn at(&self, value: f64) -> Option<f64> {
        let share = if self.log {
            (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.is_finite().then(|| self.from + share.clamp(-0.01, 1.01) * (self.to - self.from))
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let (low, high) = (self.low.log10().round() as i32, self.high.log10().round() as i32);
            let every = usize::try_from((high - low) / 8 + 1).unwrap_or(1);
            (low..=high).step_by(every).map(|e| 10f64.powi(e)).collect()
        } else {
            // The ends are multiples of the step that they were rounded to.
            let first = (self.low / self.step).round();
            let count = ((self.high - self.low) / self.step).round();
            (0..=20)
                .map(f64::from)
                .filter(|i| *i <= count)
                .map(|i| self.step * (first + i))
                .collect()
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten that cuts a width in four to ten.
fn step_of(width: f64) -> f64 {
    let raw = (width / 5.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(raw.log10().floor());
    let lead = raw / power;
    power
        * if lead < 1.5 {
            1.0
        } else if lead < 3.5 {
            2.0
        } else if lead < 7.5 {
            5.0
        } else {
            10.0
        }
}

fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        "<div class=\"wide\"><svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\">\
         <text class=\"title\" x=\"4\" y=\"18\">{title}</text>\n"
    )
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escape(content)
    );
}

fn rule(out: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn colour(index: usize) -> String {
    let dash = if index >= COLOURS { " dash" } else { "" };
    format!("c{}{dash}", index % COLOURS)
}

/// Lines over two axes, with a legend below.
#[must_use]
pub fn lines(title: &str, x: &Axis, y: &Axis, series: &[Series]) -> String {
    marked_lines(title, x, y, series, &[])
}

/// The same, with marks.
#[must_use]
pub fn marked_lines(title: &str, x: &Axis, y: &Axis, series: &[Series], marks: &[Mark]) -> String {
    let legend_rows = series.len().div_ceil(3);
    let total = HEIGHT + 18.0 * legend_rows as f64;
    let mut out = open(title, total);
    let xs =
        series.iter().flat_map(|s| s.points.iter().map(|p| p.0).chain(s.band.iter().map(|b| b.0)));
    let ys = series
        .iter()
        .flat_map(|s| s.points.iter().map(|p| p.1).chain(s.band.iter().flat_map(|b| [b.1, b.2])));
    let across = Scale::over(xs, x.log, LEFT, WIDTH - RIGHT);
    let up = Scale::over(ys, y.log, HEIGHT - BOTTOM, TOP);
    for tick in across.ticks() {
        let Some(at) = across.at(tick) else { continue };
        rule(&mut out, "grid", (at, TOP), (at, HEIGHT - BOTTOM));
        text(&mut out, at, HEIGHT - BOTTOM + 16.0, "middle", &number(tick));
    }
    for tick in up.ticks() {
        let Some(at) = up.at(tick) else { continue };
        rule(&mut out, "grid", (LEFT, at), (WIDTH - RIGHT, at));
        text(&mut out, LEFT - 6.0, at + 4.0, "end", &number(tick));
    }
    for mark in marks {
        let Some(at) = across.at(mark.at) else { continue };
        rule(&mut out, "mark", (at, TOP), (at, HEIGHT - BOTTOM));
        if !mark.label.is_empty() {
            text(&mut out, at, TOP - 3.0, "middle", &mark.label);
        }
    }
    rule(&mut out, "axis", (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM));
    rule(&mut out, "axis", (LEFT, TOP), (LEFT, HEIGHT - BOTTOM));
    text(&mut out, f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 14.0, "middle", &x.label);
    let _ = writeln!(
        out,
        "<text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(TOP, HEIGHT - BOTTOM),
        escape(&y.label)
    );
    for (index, one) in series.iter().enumerate() {
        let class = colour(index);
        let band: Vec<(f64, f64, f64)> = one
            .band
            .iter()
            .filter_map(|&(x, low, high)| Some((across.at(x)?, up.at(low)?, up.at(high)?)))
            .collect();
        if band.len() > 1 {
            let upper = band.iter().map(|b| format!("{:.1},{:.1}", b.0, b.2));
            let lower = band.iter().rev().map(|b| format!("{:.1},{:.1}", b.0, b.1));
            let points: Vec<String> = upper.chain(lower).collect();
            let _ =
                writeln!(out, "<polygon class=\"band {class}\" points=\"{}\"/>", points.join(" "));
        }
        let mut points: Vec<(f64, f64)> = Vec::new();
        for &(x, y) in &one.points {
            let (Some(x), Some(y)) = (across.at(x), up.at(y)) else { continue };
            if let (true, Some(&(_, before))) = (one.steps, points.last()) {
                points.push((x, before));
            }
            points.push((x, y));
        }
        if let [(x, y)] = points[..] {
            let _ = writeln!(
                out,
                "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
            );
        }
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(out, "<polyline class=\"line {class}\" points=\"{}\"/>", points.join(" "));
        let (column, row) = (index % 3, index / 3);
        let at = LEFT + column as f64 * (WIDTH - LEFT) / 3.0;
        let below = HEIGHT + 4.0 + 18.0 * row as f64;
        rule(&mut out, &format!("line {class}"), (at, below), (at + 22.0, below));
        text(&mut out, at + 28.0, below + 4.0, "start", &one.label);
    }
    out.push_str("</svg></div>\n");
    out
}

/// Bars that lie, one under the other, each with its value.
#[must_use]
pub fn bars(title: &str, axis: &Axis, values: &[(String, f64)]) -> String {
    let height = TOP + 24.0 * values.len() as f64 + BOTTOM;
    let mut out = open(title, height);
    let start = LEFT + 130.0;
    let zero = (!axis.log).then_some(0.0);
    let scale =
        Scale::over(values.iter().map(|v| v.1).chain(zero), axis.log, start, WIDTH - RIGHT - 70.0);
    for tick in scale.ticks() {
        let Some(at) = scale.at(tick) else { continue };
        rule(&mut out, "grid", (at, TOP - 6.0), (at, height - BOTTOM + 4.0));
        text(&mut out, at, height - BOTTOM + 20.0, "middle", &number(tick));
    }
    text(&mut out, f64::midpoint(start, WIDTH), height - 8.0, "middle", &axis.label);
    for (row, (label, value)) in values.iter().enumerate() {
        let y = TOP + 24.0 * row as f64;
        text(&mut out, start - 8.0, y + 14.0, "end", label);
        let Some(end) = scale.at(*value) else { continue };
        let base = if axis.log { start } else { scale.at(0.0).unwrap_or(start) };
        let (x, width) = (base.min(end), (end - base).abs());
        let _ = writeln!(
            out,
            "<rect class=\"fill c0\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"18\"/>"
        );
        text(&mut out, base.max(end) + 4.0, y + 14.0, "start", &number(*value));
    }
    out.push_str("</svg></div>\n");
    out
}

/// Which assumption a result hangs on: bars to both sides of the base, the longest first.
#[must_use]
pub fn tornado(title: &str, axis: &Axis, base: f64, swings: &[Swing]) -> String {
    let mut sorted: Vec<&Swing> = swings.iter().collect();
    let reach =
        |s: &Swing| if axis.log { (s.high / s.low).ln().abs() } else { (s.high - s.low).abs() };
    sorted.sort_by(|a, b| reach(b).total_cmp(&reach(a)).then_with(|| a.label.cmp(&b.label)));
    let height = TOP + 26.0 * sorted.len() as f64 + BOTTOM;
    let mut out = open(title, height);
    let start = LEFT + 190.0;
    let values = sorted.iter().flat_map(|s| [s.low, s.high]).chain([base]);
    let scale = Scale::over(values, axis.log, start, WIDTH - RIGHT);
    for tick in scale.ticks() {
        let Some(at) = scale.at(tick) else { continue };
        rule(&mut out, "grid", (at, TOP - 6.0), (at, height - BOTTOM + 4.0));
        text(&mut out, at, height - BOTTOM + 20.0, "middle", &number(tick));
    }
    text(&mut out, f64::midpoint(start, WIDTH), height - 8.0, "middle", &axis.label);
    let middle = scale.at(base).unwrap_or(start);
    for (row, swing) in sorted.iter().enumerate() {
        let y = TOP + 26.0 * row as f64;
        text(&mut out, start - 8.0, y + 14.0, "end", &swing.label);
        for (value, class) in [(swing.low, "c0"), (swing.high, "c1")] {
            let Some(end) = scale.at(value) else { continue };
            let (x, width) = (middle.min(end), (end - middle).abs());
            let _ = writeln!(
                out,
                "<rect class=\"fill {class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"18\"/>"
            );
        }
    }
    rule(&mut out, "axis", (middle, TOP - 6.0), (middle, height - BOTTOM + 4.0));
    out.push_str("</svg></div>\n");
    out
}

const BOX_PAD: f64 = 6.0;
const BOX_TITLE: f64 = 17.0;

/// Size of a box as laid out in at most `width`.
fn measure(item: &Nested, width: f64) -> (f64, f64) {
    let label = item.label.chars().count().min(60) as f64 * 6.6 + 2.0 * BOX_PAD;
    let (inner_width, inner_height, _) = flow(&item.inside, (width - 2.0 * BOX_PAD).max(40.0));
    let title = if item.label.is_empty() { 0.0 } else { BOX_TITLE };
    let height = title + inner_height + if item.inside.is_empty() { 5.0 } else { BOX_PAD };
    (label.max(inner_width + 2.0 * BOX_PAD), height)
}

/// Boxes in rows, as words on a page: the width and height taken, and where each begins.
fn flow(items: &[Nested], width: f64) -> (f64, f64, Vec<(f64, f64)>) {
    let (mut x, mut y, mut row, mut widest) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
    let mut places = Vec::with_capacity(items.len());
    for item in items {
        let (w, h) = measure(item, width);
        if x > 0.0 && x + w > width {
            (x, y, row) = (0.0, y + row + BOX_PAD, 0.0);
        }
        places.push((x, y));
        widest = widest.max(x + w);
        row = row.max(h);
        x += w + BOX_PAD;
    }
    (widest, y + row, places)
}

fn draw(out: &mut String, item: &Nested, (x, y): (f64, f64), width: f64) {
    let (w, h) = measure(item, width);
    let tone = item.tone.map_or("paper".into(), |tone| format!("tint c{}", tone % COLOURS));
    let lost = if item.lost { " lost" } else { "" };
    let _ = writeln!(
        out,
        "<rect class=\"box {tone}{lost}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"3\"/>"
    );
    let mut top = y;
    if !item.label.is_empty() {
        let label: String = item.label.chars().take(60).collect();
        text(out, x + BOX_PAD, y + 13.0, "start", &label);
        top += BOX_TITLE;
    }
    let inner = (width - 2.0 * BOX_PAD).max(40.0);
    for (inside, (dx, dy)) in item.inside.iter().zip(flow(&item.inside, inner).2) {
        draw(out, inside, (x + BOX_PAD + dx, top + dy), inner);
    }
    if item.lost {
        rule(out, "strike", (x, y + h), (x + w, y));
    }
}

/// A map of domains: boxes in boxes.
#[must_use]
pub fn nested(title: &str, items: &[Nested]) -> String {
    let width = WIDTH - 8.0;
    let (_, height, places) = flow(items, width);
    let mut out = open(title, TOP + height + 8.0);
    for (item, (x, y)) in items.iter().zip(places) {
        draw(&mut out, item, (4.0 + x, TOP + y), width);
    }
    out.push_str("</svg></div>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Series {
        Series { label: "a <b>".into(), points: points.to_vec(), ..Series::default() }
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out_and_nothing_is_not_a_number() {
        let series = [line(&[(1.0, 0.0), (2.0, 1e-12), (3.0, f64::NAN), (4.0, 1e-3)])];
        let svg = lines("t", &Axis::linear("x"), &Axis::log("y"), &series);
        let drawn = svg.split("<polyline").nth(1).unwrap().split('"').nth(3).unwrap();
        assert_eq!(drawn.split(' ').count(), 2, "{drawn}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        let empty = lines("t", &Axis::linear("x"), &Axis::log("y"), &[]);
        assert!(!empty.contains("NaN") && !empty.contains("inf"));
    }

    #[test]
    fn marks_are_round_numbers_at_equal_distances_and_the_last_is_the_end() {
        for (low, high, marks) in [
            (15.14, 30.04, (7..=16).map(|i| f64::from(2 * i)).collect()),
            (0.0, 1.0, vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (-3.0, 7.2, vec![-4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0]),
        ] {
            let scale = Scale::over([low, high].into_iter(), false, 0.0, 100.0);
            let ticks = scale.ticks();
            assert_eq!(ticks.len(), marks.len(), "{ticks:?}");
            assert!(ticks.iter().zip(&marks).all(|(a, b)| (a - b).abs() < 1e-9), "{ticks:?}");
            assert_eq!((scale.low, scale.high), (marks[0], marks[marks.len() - 1]));
        }
    }

    #[test]
    fn a_step_holds_its_value_until_the_next() {
        let steps = Series { steps: true, ..line(&[(0.0, 0.0), (1.0, 1.0)]) };
        let svg = lines("t", &Axis::linear("x"), &Axis::linear("y"), &[steps]);
        let drawn = svg.split("<polyline").nth(1).unwrap().split('"').nth(3).unwrap();
        let ys: Vec<&str> = drawn.split(' ').map(|p| p.split(',').nth(1).unwrap()).collect();
        assert_eq!((ys.len(), ys[0]), (3, ys[1]));
    }

    #[test]
    fn boxes_lie_within_their_box() {
        let leaf = |i: usize| Nested { label: format!("node {i}"), ..Nested::default() };
        let outer = Nested {
            label: "provider".into(),
            inside: (0..40).map(leaf).collect(),
            ..Nested::default()
        };
        let (w, h) = measure(&outer, 400.0);
        let (_, _, places) = flow(&outer.inside, 400.0 - 2.0 * BOX_PAD);
        for (item, (x, y)) in outer.inside.iter().zip(places) {
            let (iw, ih) = measure(item, 388.0);
            assert!(x + iw <= w - 2.0 * BOX_PAD + 0.1 && y + ih <= h);
        }
    }

    #[test]
    fn numbers_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (20.0, "20"),
            (1e-11, "1e-11"),
            (1.25e9, "1.25e9"),
            (1.5e-7, "1.5e-7"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
