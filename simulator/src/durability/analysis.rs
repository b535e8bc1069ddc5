//! One input through every method: what `strewn-sim durability` and `sweep` show, and how they write it down.

use super::chain::Chain;
use super::estimate::{Effort, Method, estimate};
use super::exposure::{End, Mesh, Smallest};
use super::input::{Input, InputError};
use super::law::Law;
use super::placing::Strategy;
use super::plain;
use super::stripe::{Harm, Model};
use crate::chart::{self, Axis, Nested, Section, Series, Swing};
use protocol::label::Level;
use protocol::placement::check_placement;
use serde::Serialize;
use std::collections::BTreeMap;

/// Failures and repairs for one point of a curve.
const CURVE_EVENTS: u64 = 20_000_000;
/// Missions for what is never rare.
const COMMON_BATCHES: u64 = 8;
/// Stripes placed, and the shards of all of them up to which their smallest sets are counted together.
const EXPOSED_MAX: usize = 16;
const SHARDS_MAX: usize = 160;

/// The figures of one input: one row of a table, one object of JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Name of the input.
    pub name: String,
    /// Shards needed.
    pub k: usize,
    /// Shards.
    pub n: usize,
    /// Bytes stored for each byte.
    pub overhead: f64,
    /// The mission.
    pub years: f64,
    /// Probability that one stripe is lost in the mission.
    pub loss: f64,
    /// Lower end of its 95 % interval.
    pub loss_low: f64,
    /// Upper end of its 95 % interval.
    pub loss_high: f64,
    /// Nines of survival of one stripe.
    pub nines: f64,
    /// The same at the worse end of the interval.
    pub nines_low: f64,
    /// The same at the better end.
    pub nines_high: f64,
    /// How it was estimated.
    pub method: &'static str,
    /// Samples.
    pub samples: u64,
    /// Effective number of losses seen.
    pub effective: f64,
    /// The same from the exact chain, where it has one.
    pub exact: Option<f64>,
    /// Fewest domains, of any level, whose loss destroys some stripe.
    pub destroy_size: Option<usize>,
    /// How many sets of that size do.
    pub destroy_sets: Option<String>,
    /// One of them.
    pub destroy_example: String,
    /// Fewest domains that can read some stripe together.
    pub read_size: Option<usize>,
    /// How many sets of that size can.
    pub read_sets: Option<String>,
    /// Stripes expected to be lost in the mission, of all.
    pub stripes_lost: f64,
    /// Upper bound of the probability that any stripe is lost.
    pub any_at_most: f64,
    /// Bytes of data expected to be lost.
    pub bytes_lost: f64,
    /// Seconds a year in which a stripe cannot be read.
    pub unavailable_seconds: f64,
    /// Share of the time in which a stripe lacks shards.
    pub short_share: f64,
    /// Share of the time in which a stripe is not as its policy asks, where it has one.
    pub below_share: Option<f64>,
    /// Mean years to the loss of one stripe, where that means something.
    pub mean_years: Option<f64>,
    /// Why it means something, or nothing.
    pub mean_note: &'static str,
    /// Shards rebuilt a year, of one stripe.
    pub rebuilt: f64,
    /// Bytes moved by repair a year, of all stripes: k shards are read and one is written.
    pub repair_bytes: f64,
    /// Reasons for doubt.
    pub doubts: Vec<String>,
}

/// Looks at an input with every method.
///
/// # Errors
/// [`InputError`] when it cannot be meant or placed.
pub fn analyse(
    input: &Input,
    method: Option<Method>,
    effort: &Effort,
) -> Result<Figures, InputError> {
    let effort = Effort { seed: effort.seed ^ input.seed, ..*effort };
    let placed =
        input.place(EXPOSED_MAX.min(usize::try_from(input.stripes).unwrap_or(EXPOSED_MAX)))?;
    let model = input.model(&placed[0])?;
    let found = estimate(&model, input.years, method, &effort)?;
    let exact = Chain::of_model(&model).and_then(|chain| chain.loss_within(input.years)).ok();
    let common = plain::missions(&model, input.years, &effort, 0..COMMON_BATCHES);
    let lived = common.missions as f64 * input.years;
    let (destroy, read) =
        (smallest(input, &placed, End::Destroyed), smallest(input, &placed, End::Read));
    let stripes = input.stripes as f64;
    let shard = input.stripe_bytes as f64 / input.k as f64;
    let rebuilt = common.rebuilt as f64 / lived;
    let example = |set: &Option<Smallest>| {
        let names = set.iter().flat_map(|set| &set.example).map(|domain| input.name_of(domain));
        names.collect::<Vec<_>>().join(", ")
    };
    let count = |set: &Option<Smallest>| set.as_ref().map(|set| set.count.to_string());
    let (nines, nines_low, nines_high) = found.nines();
    let (mean_years, mean_note) = mean_years(&model, input.years, found.loss);
    Ok(Figures {
        name: input.name.clone(),
        k: input.k,
        n: input.n,
        overhead: input.n as f64 / input.k as f64,
        years: input.years,
        loss: found.loss,
        loss_low: found.low,
        loss_high: found.high,
        nines,
        nines_low,
        nines_high,
        method: found.method.name(),
        samples: found.samples,
        effective: found.effective,
        exact,
        destroy_size: destroy.as_ref().and_then(|set| set.size),
        destroy_sets: count(&destroy),
        destroy_example: example(&destroy),
        read_size: read.as_ref().and_then(|set| set.size),
        read_sets: count(&read),
        stripes_lost: found.loss * stripes,
        any_at_most: (found.loss * stripes).min(1.0),
        bytes_lost: found.loss * stripes * input.stripe_bytes as f64,
        unavailable_seconds: common.unavailable / lived * 31_536_000.0,
        short_share: common.short / lived,
        below_share: below_share(input, &placed[0], &model, &effort),
        mean_years,
        mean_note,
        rebuilt,
        repair_bytes: rebuilt * stripes * shard * (input.k + 1) as f64,
        doubts: found.doubts,
    })
}

/// Share of the time in which the whole shards of a stripe on these holders break its policy.
fn below_share(input: &Input, holders: &[usize], model: &Model, effort: &Effort) -> Option<f64> {
    let Strategy::Strewn(policy) = &input.strategy else { return None };
    let breaks = |lost: u64| {
        let whole = holders.iter().enumerate().filter(|(shard, _)| lost >> shard & 1 == 0);
        let sites: Vec<_> = whole.map(|(_, &node)| &input.sites[node]).collect();
        check_placement(policy, input.k, &sites).is_err()
    };
    Some(plain::time_broken(model, input.years, effort, &breaks))
}

/// The mean time to a loss that is as likely in one year as in any other, and why it is or is not given.
fn mean_years(model: &Model, years: f64, loss: f64) -> (Option<f64>, &'static str) {
    let slowest = model.causes.iter().map(|cause| match &cause.harm {
        Harm::Lost { repair, .. } => repair.mean(),
        Harm::Dark { .. } => 0.0,
    });
    let slowest = slowest.fold(0.0, f64::max);
    if model.wear.is_some() {
        (None, "disks wear: one year is not like another, and a mean over all of them says nothing")
    } else if slowest * 10.0 > years {
        (
            None,
            "repairs last as long as a tenth of the mission: it begins whole and is not like later ones",
        )
    } else if loss <= 0.0 || loss >= 1.0 {
        (None, "it is not known from a loss of 0 or 1")
    } else {
        let mean = years / -(-loss).ln_1p();
        (
            Some(mean),
            "every year is like another: it is the mission over its loss, and says no more than that",
        )
    }
}

/// Of all the stripes placed, or of the first where all together are too entangled.
fn smallest(input: &Input, placed: &[Vec<usize>], end: End) -> Option<Smallest> {
    let stripes = input.stripes_of(placed);
    let levels = input.levels();
    let of = |stripes: &[super::exposure::Stripe]| {
        Mesh::new(&input.sites, stripes, &levels).and_then(|mesh| mesh.smallest(end)).ok()
    };
    let shards: usize = placed.iter().map(Vec::len).sum();
    let together = if shards <= SHARDS_MAX { of(&stripes) } else { None };
    together.or_else(|| of(&stripes[..1]))
}

/// The result when one assumption is half and twice as bad: every cause's rate, and all repair times.
///
/// # Errors
/// [`InputError`].
pub fn sensitivity(input: &Input, effort: &Effort) -> Result<Vec<Swing>, InputError> {
    let holders = input.place(1)?.remove(0);
    let loss = |input: &Input| -> Result<f64, InputError> {
        Ok(estimate(&input.model(&holders)?, input.years, None, effort)?.loss)
    };
    let swing = |label: String, change: &dyn Fn(f64) -> Input| {
        Ok(Swing { label, low: loss(&change(0.5))?, high: loss(&change(2.0))? })
    };
    let mut swings: Vec<Result<Swing, InputError>> = Vec::new();
    for (index, trouble) in input.troubles.iter().enumerate() {
        swings.push(swing(format!("rate: {} (½, 2)", trouble.name), &|by| {
            let mut input = input.clone();
            input.troubles[index].per_year *= by;
            input
        }));
    }
    swings.push(swing("repair time (½, 2)".into(), &|by| slower(input, by)));
    if input.wear.is_some() {
        swings.push(swing("lifetime of disks (2, ½)".into(), &|by| {
            let mut input = input.clone();
            if let Some(wear) = &mut input.wear {
                wear.lifetime = wear.lifetime.stretched(1.0 / by);
            }
            input
        }));
    }
    swings.into_iter().collect()
}

/// The input with all repair times so many times as long.
pub(super) fn slower(input: &Input, by: f64) -> Input {
    let mut input = input.clone();
    let stretch = |law: &mut Law| *law = law.stretched(by);
    for trouble in &mut input.troubles {
        if let Harm::Lost { repair, .. } = &mut trouble.harm {
            stretch(repair);
        }
    }
    if let Some(wear) = &mut input.wear {
        stretch(&mut wear.repair);
    }
    stretch(&mut input.patience);
    stretch(&mut input.transfer);
    input
}

/// Which share of losses each kind of cause has: the loss without it, over the loss with it.
///
/// # Errors
/// [`InputError`].
pub fn without_each(input: &Input, effort: &Effort) -> Result<Vec<(String, f64)>, InputError> {
    let holders = input.place(1)?.remove(0);
    let mut rows = Vec::new();
    for index in 0..input.troubles.len() {
        let mut without = input.clone();
        let name = without.troubles.remove(index).name;
        rows.push((name, estimate(&without.model(&holders)?, input.years, None, effort)?.loss));
    }
    Ok(rows)
}

/// Probability of loss by the end of missions of growing length.
fn survival(model: &Model, years: f64, effort: &Effort) -> Result<Series, InputError> {
    let mut series = Series { label: "one stripe lost".into(), ..Series::default() };
    for part in 1..=6 {
        let years = years * f64::from(part) / 6.0;
        let found = estimate(model, years, None, effort)?;
        series.points.push((years, found.loss));
        series.band.push((years, found.low, found.high));
    }
    Ok(series)
}

/// The page for one input.
///
/// # Errors
/// [`InputError`].
pub fn page(input: &Input, figures: &Figures, effort: &Effort) -> Result<String, InputError> {
    let rough = Effort { relative_error: effort.relative_error.max(0.15), ..*effort };
    let holders = input.place(1)?.remove(0);
    let model = input.model(&holders)?;
    let swings = sensitivity(input, &rough)?;
    let curve = survival(&model, input.years, &rough)?;
    let mut all = curve.clone();
    all.label = format!("upper bound: any of {} stripes", input.stripes);
    let scale = input.stripes as f64;
    all.points.iter_mut().for_each(|p| p.1 = (p.1 * scale).min(1.0));
    all.band.clear();
    let figure_rows: Vec<Vec<String>> =
        std::iter::once(vec!["figure".to_owned(), "value".to_owned()])
            .chain(rows(figures))
            .collect();
    let spare = overheads(input, &rough)?;
    let sections = [
        Section {
            heading: "Figures".into(),
            body: chart::table("What was computed", &figure_rows),
        },
        Section {
            heading: "Loss over time".into(),
            body: chart::lines(
                "Probability of loss by the end of the mission",
                &Axis::linear("years"),
                &Axis::log("probability"),
                &[curve, all],
            ),
        },
        Section {
            heading: "Nines against overhead".into(),
            body: chart::paragraph(
                "The same n, nodes and rates with other k; where the rule of placement finds none, or the estimate is doubtful, there is no point.",
            ) + &chart::lines(
                "Nines of one stripe",
                &Axis::linear("bytes stored for each byte"),
                &Axis::linear("nines"),
                &[spare],
            ),
        },
        Section {
            heading: "What the result hangs on".into(),
            body: chart::tornado(
                "Loss of one stripe, with one assumption changed",
                &Axis::log("probability"),
                figures.loss,
                &swings,
            ),
        },
        Section { heading: "Where one stripe lies".into(), body: map(input, &holders) },
    ];
    let intro = if input.about.is_empty() { input.name.clone() } else { input.about.clone() };
    Ok(chart::page(&format!("Durability: {}", input.name), &intro, &sections))
}

/// Nines by overhead: the same n with every k that can be placed and stores at most four bytes for each.
fn overheads(input: &Input, effort: &Effort) -> Result<Series, InputError> {
    let effort = Effort { events_max: effort.events_max.min(CURVE_EVENTS), ..*effort };
    let mut series = Series { label: format!("n = {}", input.n), ..Series::default() };
    for k in input.n.div_ceil(4)..input.n {
        let other = Input { k, ..input.clone() };
        let Ok(mut placed) = other.place(1) else { continue };
        let found = estimate(&other.model(&placed.remove(0))?, input.years, None, &effort)?;
        // A curve has no room for doubts.
        if found.loss <= 0.0 || !found.doubts.is_empty() {
            continue;
        }
        let (nines, low, high) = found.nines();
        let overhead = input.n as f64 / k as f64;
        series.points.push((overhead, nines));
        series.band.push((overhead, low, high));
    }
    Ok(series)
}

/// Boxes of the levels that things go wrong on, the widest outside; levels that cut across are named in the leaf.
pub(super) fn map(input: &Input, holders: &[usize]) -> String {
    let levels: Vec<Level> =
        input.levels().into_iter().filter(|level| level.as_str() != Level::NODE).collect();
    let domains_of = |level: &Level| -> usize {
        let names = holders.iter().map(|&node| input.sites[node].domain(level));
        names.collect::<std::collections::BTreeSet<_>>().len()
    };
    let outer = levels.iter().filter(|level| domains_of(level) > 1).min_by_key(|l| domains_of(l));
    let mut boxes: BTreeMap<String, Vec<Nested>> = BTreeMap::new();
    for &node in holders {
        let site = &input.sites[node];
        let inner = levels.iter().filter(|level| Some(*level) != outer);
        let names = inner.map(|level| input.name_of(&site.domain(level)));
        let node = input.name_of(&site.domain(&Level::node()));
        let label = std::iter::once(node).chain(names).collect::<Vec<_>>().join(" ");
        let outside = outer.map_or_else(String::new, |level| input.name_of(&site.domain(level)));
        boxes.entry(outside).or_default().push(Nested { label, ..Nested::default() });
    }
    let boxes: Vec<Nested> = boxes
        .into_iter()
        .enumerate()
        .map(|(tone, (label, inside))| Nested { label, tone: Some(tone), lost: false, inside })
        .collect();
    chart::nested("Holders of one stripe", &boxes)
}

/// The figures as people read them: name and value.
#[must_use]
pub fn rows(figures: &Figures) -> Vec<Vec<String>> {
    let f = figures;
    let number = chart::number;
    let set = |size: Option<usize>, count: &Option<String>, example: &str| match (size, count) {
        (Some(size), Some(count)) if example.is_empty() => format!("{size} ({count} such sets)"),
        (Some(size), Some(count)) => format!("{size} ({count} such sets), as {example}"),
        _ => format!("none of up to {}, or too entangled to say", super::exposure::SET_MAX),
    };
    let mut rows = vec![
        ("code", format!("{} of {}, {} bytes stored for each", f.k, f.n, number(f.overhead))),
        (
            "loss of one stripe",
            format!(
                "{:.3e} in {} (95 %: {:.3e} to {:.3e})",
                f.loss,
                if (f.years - 1.0).abs() < 1e-9 {
                    "a year".into()
                } else {
                    format!("{} years", number(f.years))
                },
                f.loss_low,
                f.loss_high
            ),
        ),
        ("nines", format!("{:.2} (95 %: {:.2} to {:.2})", f.nines, f.nines_low, f.nines_high)),
        ("method", format!("{}, {} samples, {:.0} effective", f.method, f.samples, f.effective)),
    ];
    rows.extend(f.exact.map(|exact| ("exact chain", format!("{exact:.6e}"))));
    rows.extend([
        ("fewest domains that destroy", set(f.destroy_size, &f.destroy_sets, &f.destroy_example)),
        ("fewest domains that read", set(f.read_size, &f.read_sets, "")),
        ("stripes expected to be lost", number(f.stripes_lost)),
        (
            "any stripe lost, at most",
            if f.any_at_most < 1.0 {
                format!("{:.3e}", f.any_at_most)
            } else {
                "1: the bound says nothing here, --mesh does".into()
            },
        ),
        ("bytes expected to be lost", number(f.bytes_lost)),
        (
            "a stripe out of reach",
            if f.unavailable_seconds > 0.0 {
                format!(
                    "{} seconds a year ({:.1} nines of availability)",
                    number(f.unavailable_seconds),
                    super::number::nines(f.unavailable_seconds / 31_536_000.0)
                )
            } else {
                "never in the missions counted".into()
            },
        ),
        ("a stripe short of shards", format!("{} % of the time", number(100.0 * f.short_share))),
    ]);
    rows.extend(f.below_share.map(|share| {
        ("a stripe below its policy", format!("{} % of the time", number(100.0 * share)))
    }));
    rows.push((
        "mean time to loss",
        f.mean_years.map_or_else(
            || format!("not given: {}", f.mean_note),
            |years| format!("{years:.3e} years ({})", f.mean_note),
        ),
    ));
    rows.extend([("repair traffic", format!("{} bytes a year", number(f.repair_bytes)))]);
    rows.extend(f.doubts.iter().map(|doubt| ("doubt", doubt.clone())));
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shipped(name: &str) -> Input {
        Input::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)).unwrap()
    }

    fn quick() -> Effort {
        Effort { seed: 1, jobs: 2, relative_error: 0.2, events_max: 3_000_000 }
    }

    #[test]
    fn a_model_becomes_figures_and_a_page_without_anything_from_elsewhere() {
        let input = shipped("three-providers.toml");
        let figures = analyse(&input, None, &quick()).unwrap();
        assert_eq!((figures.destroy_size, figures.read_size), (Some(2), Some(2)));
        assert!(figures.loss > 1e-9 && figures.loss < 1e-4, "{figures:?}");
        let page = page(&input, &figures, &quick()).unwrap();
        assert!(page.matches("<svg").count() >= 4 && !page.contains("NaN"));
        assert!(!page.contains("src=") && page.contains("href=\"#part-1\""));
        assert_eq!(page.matches("href=").count(), page.matches("href=\"#").count());
    }

    #[test]
    fn csv_and_json_say_the_same() {
        let figures = analyse(&shipped("three-providers.toml"), None, &quick()).unwrap();
        let json = serde_json::to_value(&figures).unwrap();
        let text = crate::table::Table::of_objects(std::slice::from_ref(&json)).csv();
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap().split(',').collect();
        // Only the example has commas, and it is quoted.
        let line = lines.next().unwrap();
        let at = |name: &str| names.iter().position(|n| *n == name).unwrap();
        assert_eq!(
            line.split(',').nth(at("any_at_most")).unwrap(),
            json["any_at_most"].to_string()
        );
        assert_eq!(names.len(), json.as_object().unwrap().len());
    }
}
