//! A plan as one self-contained page.

use super::{Choice, Planned};
use crate::chart::{self, Axis, Section, Series};
use crate::durability::analysis;
use crate::durability::input::{Input, InputError};

/// The page.
///
/// # Errors
/// [`InputError`] when the best choice cannot be placed any more.
pub fn page(input: &Input, planned: &Planned) -> Result<String, InputError> {
    let mut table: Vec<Vec<String>> = vec![Choice::TITLE.map(str::to_owned).to_vec()];
    table.extend(planned.choices.iter().map(Choice::row));
    let advice: String = planned.advice.iter().map(|line| chart::paragraph(line)).collect();
    let mut sections = vec![
        Section {
            heading: "Choices".into(),
            body: chart::table("Codes, and what each comes to", &table),
        },
        Section { heading: "Advice".into(), body: advice },
    ];
    if !planned.choices.is_empty() {
        let body = chart::lines(
            "Nines of one stripe, for each number of data shards the cheapest code",
            &Axis::linear("to pay a month"),
            &Axis::linear("nines"),
            &[against_price(&planned.choices)],
        );
        sections.push(Section { heading: "Nines against price".into(), body });
    }
    let mut rows = vec![
        ["addition", "best code then", "a month", "nines", "verdict"].map(str::to_owned).to_vec(),
    ];
    rows.extend(planned.additions.iter().map(|add| {
        let best = &add.best;
        vec![
            add.what.clone(),
            format!("{} of {}", best.k, best.n),
            format!("{:.2}", best.monthly),
            format!("{:.2}", best.nines),
            if best.fits { "fits".into() } else { best.lacks.join("; ") },
        ]
    }));
    sections.push(Section {
        heading: "What would help".into(),
        body: chart::table("The best code after one addition", &rows),
    });
    if let Some(best) = planned.choices.first() {
        let body = chart::tornado(
            "Loss of one stripe, with one assumption changed",
            &Axis::log("probability"),
            10f64.powf(-best.nines),
            &planned.swings,
        );
        let heading = format!("What {} of {} hangs on", best.k, best.n);
        sections.push(Section { heading, body });
        let with = Input { k: best.k, n: best.n, ..input.clone() };
        let holders = with.place(1)?.remove(0);
        let body = analysis::map(&with, &holders);
        sections.push(Section { heading: "Where one stripe lies".into(), body });
    }
    let wish = input.wish.map_or(0.0, |wish| wish.nines);
    let intro = format!("{}: {} nines of each stripe are wanted.", input.name, chart::number(wish));
    Ok(chart::page(&format!("Plan: {}", input.name), &intro, &sections))
}

fn against_price(choices: &[Choice]) -> Series {
    let mut sorted: Vec<&Choice> = choices.iter().filter(|c| c.nines.is_finite()).collect();
    sorted.sort_by(|a, b| a.monthly.total_cmp(&b.monthly));
    let mut series = Series { label: "codes".into(), ..Series::default() };
    for choice in sorted {
        series.points.push((choice.monthly, choice.nines));
        series.band.push((choice.monthly, choice.nines_low, choice.nines_high));
    }
    series
}
