//! Arrangements side by side, over all their seeds: which verdicts, and the middle and the ends of the numbers.

use crate::human::span;
use protocol::time::Period;
use simulator::plan::Verdict;
use simulator::study::{Row, word};

/// From the best to the worst.
const VERDICTS: [Verdict; 5] = [
    Verdict::Survived,
    Verdict::Degraded,
    Verdict::Unreachable,
    Verdict::Destroyed,
    Verdict::Violated,
];

/// A line for each arrangement.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = [
        "arrangement",
        "verdict",
        "unreadable",
        "policy again",
        "work lost",
        "backups failed",
        "as expected",
    ];
    let mut lines: Vec<[String; 7]> = vec![head.map(String::from)];
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.arrangement.as_str()) {
            names.push(&row.arrangement);
        }
    }
    for name in &names {
        let of: Vec<&Row> = rows.iter().filter(|row| row.arrangement == *name).collect();
        let periods = |get: fn(&Row) -> Option<Period>| {
            let values = of.iter().filter_map(|row| get(row)).map(|period| period.0).collect();
            spread(values, of.len(), &|value| span(Period(value)))
        };
        let expected = of.iter().filter(|row| row.unexpected.is_empty()).count();
        lines.push([
            (*name).to_owned(),
            verdicts(&of),
            periods(|row| {
                (row.verdict != Verdict::Destroyed && row.unreadable.0 > 0)
                    .then_some(row.unreadable)
            }),
            periods(|row| row.repaired_after),
            periods(|row| row.work_lost),
            failed(&of),
            if expected == of.len() { "yes".into() } else { format!("{expected} of {}", of.len()) },
        ]);
    }
    let mut text = aligned(&lines);
    if rows.len() > names.len() {
        text += "\nnumbers: the median of all seeds (the least to the most), and in how many of them there was one at all\n";
    }
    text
}

fn aligned(lines: &[[String; 7]]) -> String {
    let length = |text: &String| text.chars().count();
    let widths: Vec<usize> = (0..7)
        .map(|column| lines.iter().map(|line| length(&line[column])).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// The middle of some values with the least and the most, where they differ; and in how many of all runs there was one, where that
/// was not in all.
fn spread(mut values: Vec<u64>, all: usize, show: &dyn Fn(u64) -> String) -> String {
    values.sort_unstable();
    let (Some(&least), Some(&most)) = (values.first(), values.last()) else { return "-".into() };
    let count = values.len();
    let (lower, upper) = (values[(count - 1) / 2], values[count / 2]);
    let middle = show(lower + (upper - lower) / 2);
    let ends = (least < most).then(|| format!(" ({} to {})", show(least), show(most)));
    let share = (count < all).then(|| format!(", {count} of {all}"));
    [Some(middle), ends, share].into_iter().flatten().collect()
}

/// How many backups failed, of how many; copies have none.
fn failed(rows: &[&Row]) -> String {
    let of = |row: &&Row| Some((row.backups?, row.backups_failed?));
    let counts: Vec<(u64, u64)> = rows.iter().filter_map(of).collect();
    let alls = counts.iter().map(|(made, failed)| made.saturating_add(*failed));
    let (Some(least), Some(most)) = (alls.clone().min(), alls.max()) else { return "-".into() };
    let failed = counts.iter().map(|(_, failed)| *failed).collect();
    let failed = spread(failed, counts.len(), &|count| count.to_string());
    if least == most {
        format!("{failed} of {most}")
    } else {
        format!("{failed} of {least} to {most}")
    }
}

/// The verdicts of several runs, from the best to the worst, each with how many came to it.
fn verdicts(rows: &[&Row]) -> String {
    if let [row] = rows {
        return word(row.verdict).to_owned();
    }
    let count = |verdict: Verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let told = VERDICTS.map(|verdict| (word(verdict), count(verdict)));
    let told = told.iter().filter(|(_, count)| *count > 0);
    told.map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulator::scenario::{Arrangement, Kind, Scenario, read};
    use simulator::study::play;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn the_middle_and_the_ends_of_numbers_are_shown() {
        let of = |hours: &[u64], all| {
            let values = hours.iter().map(|hours| hours * HOUR).collect();
            spread(values, all, &|value| span(Period(value)))
        };
        assert_eq!(of(&[], 3), "-");
        assert_eq!(of(&[5], 1), "5 h");
        assert_eq!(of(&[5, 5, 5], 3), "5 h");
        assert_eq!(of(&[9, 1, 5], 3), "5 h (1 h to 9 h)");
        assert_eq!(of(&[2, 4, 1, 30], 4), "3 h (1 h to 1 d 6 h)");
        assert_eq!(of(&[4], 20), "4 h, 1 of 20");
        assert_eq!(of(&[4, 6], 20), "5 h (4 h to 6 h), 2 of 20");
    }

    #[test]
    fn seeds_are_counted_by_verdict_and_one_seed_is_as_it_is() {
        let text = "name = \"drawn\"\ntitle = \"Drawn\"\nduration = \"30d\"\n\
            [[rate]]\nmean = \"20d\"\nwhat = \"delete\"\nin = [\"account=a\"]\n\
            [[arrangement]]\nname = \"two\"\ntitle = \"Two\"\nexpect = [\"degraded\"]\n\
            [[arrangement.copy]]\nlabels = [\"account=a\"]\n\
            [[arrangement.copy]]\nlabels = [\"account=b\"]\nevery = \"1d\"\nrestore = \"4h\"\n";
        let scenario: Scenario = read("drawn.toml", text).unwrap();
        let arrangement: &Arrangement = &scenario.arrangements[0];
        assert!(matches!(arrangement.kind, Kind::Copies(_)));
        let rows: Vec<Row> = (1..=20).map(|seed| play(&scenario, arrangement, seed).row).collect();
        let survived = rows.iter().filter(|row| row.verdict == Verdict::Survived).count();
        assert!((1..20).contains(&survived), "seeds that all end alike test nothing");
        let lost = 20 - survived;
        let table = table(&rows);
        let line = table.lines().nth(1).unwrap();
        assert!(line.contains(&format!("survived {survived}, degraded {lost}  ")), "{table}");
        assert!(line.contains(&format!("  4 h, {lost} of 20  ")), "{table}");
        assert!(line.contains(" to ") && line.ends_with(&format!("{lost} of 20")), "{table}");
        assert!(table.contains("the median of all seeds"));
        let one = super::table(&rows[..1]);
        assert!(!one.contains(" 1 ") && !one.contains("median"), "{one}");
    }
}
