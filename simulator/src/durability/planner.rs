//! From what there is (nodes, prices, rates) and what is wanted (clauses, nines, budget, time to restore) to codes that do it,
//! cheapest first. Whether a placement satisfies the clauses is decided by `protocol`'s solver alone. Which single
//! addition would help most is `additions`'; what people are shown in a browser is `page`'s.

use super::analysis;
use super::chain::Chain;
use super::estimate::{Effort, estimate};
use super::exposure::{End, Mesh};
use super::input::{Input, InputError, Wish};
use super::number::nines;
use super::plain;
use super::stripe::Model;
use crate::chart::Swing;
use serde::Serialize;

mod additions;
mod page;

pub use additions::Addition;
pub use page::page;

/// Stripes over which prices are averaged.
const AVERAGED: usize = 12;
/// Choices shown.
const CHOICES_MAX: usize = 12;
/// Relative error that is good enough while codes are looked for.
const ROUGH: f64 = 0.3;
/// Missions for the traffic of repair.
const TRAFFIC_BATCHES: u64 = 2;

/// Why nothing is planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlannerError {
    /// The file does not say what is wanted.
    #[error("the file has no [wish]: write nines = … and data_bytes = … there")]
    NoWish,
    /// The input is wrong.
    #[error("{0}")]
    Input(#[from] InputError),
}

/// One code that can be placed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// Shards needed.
    pub k: usize,
    /// Shards.
    pub n: usize,
    /// Bytes stored for each byte.
    pub overhead: f64,
    /// To pay a month: storage, and what repair sends and asks.
    pub monthly: f64,
    /// Nines of one stripe.
    pub nines: f64,
    /// The worse end of its 95 % interval.
    pub nines_low: f64,
    /// The better end.
    pub nines_high: f64,
    /// Fewest domains that destroy a stripe.
    pub destroy_size: Option<usize>,
    /// How many such sets there are.
    pub destroy_sets: String,
    /// One of them.
    pub destroy_example: String,
    /// Bytes that repair moves a month.
    pub repair_bytes: f64,
    /// Hours to read everything back.
    pub restore_hours: f64,
    /// To pay for reading everything back once: egress and requests.
    pub restore_price: f64,
    /// To pay once for writing everything: requests.
    pub write_price: f64,
    /// Whether it does all that is wanted.
    pub fits: bool,
    /// What it does not do.
    pub lacks: Vec<String>,
}

impl Choice {
    /// The columns of [`Choice::row`].
    pub const TITLE: [&'static str; 8] = [
        "code",
        "overhead",
        "a month",
        "nines (95 %)",
        "fewest that destroy",
        "repair a month",
        "restore",
        "verdict",
    ];

    /// As people read it.
    #[must_use]
    pub fn row(&self) -> Vec<String> {
        let number = crate::chart::number;
        vec![
            format!("{} of {}", self.k, self.n),
            format!("{:.2}", self.overhead),
            format!("{:.2}", self.monthly),
            format!("{:.2} ({:.2} to {:.2})", self.nines, self.nines_low, self.nines_high),
            format!(
                "{} ({}), as {}",
                self.destroy_size.map_or_else(|| "-".into(), |size| size.to_string()),
                self.destroy_sets,
                self.destroy_example
            ),
            format!("{} bytes", number(self.repair_bytes)),
            format!("{} h, {:.2}", number(self.restore_hours), self.restore_price),
            if self.fits { "fits".into() } else { self.lacks.join("; ") },
        ]
    }
}

/// Choices, those that fit first, each group cheapest first; what would help; and advice in sentences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planned {
    /// The choices.
    pub choices: Vec<Choice>,
    /// Single additions, the one that helps most first, each with the best choice then.
    pub additions: Vec<Addition>,
    /// What the best choice hangs on, the strongest first.
    pub swings: Vec<Swing>,
    /// What helps, and what the answer hangs on.
    pub advice: Vec<String>,
}

/// Plans.
///
/// # Errors
/// [`PlannerError`].
pub fn plan(input: &Input, effort: &Effort) -> Result<Planned, PlannerError> {
    let wish = input.wish.ok_or(PlannerError::NoWish)?;
    let mut choices = choices(input, &wish, effort)?;
    let mut advice = Vec::new();
    if choices.is_empty() {
        // Two shards are the least that survives anything: says what is missing for them.
        let least = Input { k: 1, n: 2, ..input.clone() };
        advice.extend(least.place(1).err().map(|error| format!("Nothing can be placed: {error}.")));
    }
    let additions = additions::ranked(input, &wish, effort)?;
    advice.push(additions::advice(&additions, choices.first()));
    let mut swings = Vec::new();
    if let Some(best) = choices.first() {
        let with = Input { k: best.k, n: best.n, ..input.clone() };
        let rough = Effort { relative_error: ROUGH, ..*effort };
        swings = analysis::sensitivity(&with, &rough)?;
        let reach = |s: &Swing| (s.high / s.low).ln().abs();
        swings.sort_by(|a, b| reach(b).total_cmp(&reach(a)));
        advice.extend(swings.iter().take(3).map(|s| {
            format!(
                "{} of {} hangs on {}: {:.1} nines at half, {:.1} at twice.",
                best.k,
                best.n,
                s.label.replace(" (½, 2)", ""),
                nines(s.low),
                nines(s.high)
            )
        }));
    }
    choices.truncate(CHOICES_MAX);
    Ok(Planned { choices, additions, swings, advice })
}

/// For each k the smallest n that is placed and has the nines wanted, or the largest that is placed at all.
fn choices(input: &Input, wish: &Wish, effort: &Effort) -> Result<Vec<Choice>, InputError> {
    let rough = Effort { relative_error: ROUGH.max(effort.relative_error), ..*effort };
    let n_max = wish.n_max.min(input.sites.len()).min(super::stripe::SHARDS_MAX);
    let mut found = Vec::new();
    for k in 1..=wish.k_max.min(n_max) {
        let mut best = None;
        for n in k + 1..=n_max {
            let with = Input { k, n, ..input.clone() };
            let Ok(mut placed) = with.place(1) else { continue };
            let model = with.model(&placed.remove(0))?;
            let loss = loss_of(&model, input.years, &rough)?.0;
            best = Some((n, model));
            if nines(loss) >= wish.nines {
                break;
            }
        }
        if let Some((n, model)) = best {
            let with = Input { k, n, ..input.clone() };
            found.push(weigh(&with, &model, wish, effort)?);
        }
    }
    found.sort_by(|a, b| {
        b.fits.cmp(&a.fits).then(a.monthly.total_cmp(&b.monthly)).then(b.nines.total_cmp(&a.nines))
    });
    Ok(found)
}

/// Exact where the model has a chain, else sampled: the loss with its interval.
fn loss_of(model: &Model, years: f64, effort: &Effort) -> Result<(f64, f64, f64), InputError> {
    if model.n <= 6
        && let Ok(loss) = Chain::of_model(model).and_then(|chain| chain.loss_within(years))
    {
        return Ok((loss, loss, loss));
    }
    let found = estimate(model, years, None, effort)?;
    Ok((found.loss, found.low, found.high))
}

fn weigh(input: &Input, model: &Model, wish: &Wish, effort: &Effort) -> Result<Choice, InputError> {
    const TB: f64 = 1e12;
    let (loss, low, high) = loss_of(model, input.years, effort)?;
    let placed = input.place(AVERAGED)?;
    let holders: Vec<usize> = placed.iter().flatten().copied().collect();
    let average = |of: &dyn Fn(usize) -> f64| {
        holders.iter().map(|&node| of(node)).sum::<f64>() / holders.len() as f64
    };
    let stripes = wish.data_bytes / input.stripe_bytes as f64;
    let stored = wish.data_bytes * input.n as f64 / input.k as f64;
    let common = plain::missions(model, input.years, effort, 0..TRAFFIC_BATCHES);
    let rebuilt = common.rebuilt as f64 / (common.missions as f64 * input.years) / 12.0 * stripes;
    let shard = input.stripe_bytes as f64 / input.k as f64;
    let read = rebuilt * shard * input.k as f64;
    let egress = average(&|node| input.offers[node].0.egress_tb);
    let requests = average(&|node| input.offers[node].0.requests_million);
    let monthly = stored / TB * average(&|node| input.offers[node].0.storage_tb)
        + read / TB * egress
        + rebuilt * (input.k + 1) as f64 / 1e6 * requests;
    // Every stripe is read from its k fastest holders; each node then sends what falls to it.
    let mut sent = vec![0.0; input.sites.len()];
    for stripe in &placed {
        let mut fastest = stripe.clone();
        fastest.sort_by(|a, b| input.offers[*b].1.total_cmp(&input.offers[*a].1).then(a.cmp(b)));
        let each = wish.data_bytes / placed.len() as f64 / input.k as f64;
        fastest[..input.k].iter().for_each(|&node| sent[node] += each);
    }
    let seconds = |(node, bytes): (usize, &f64)| bytes * 8.0 / (input.offers[node].1 * 1e6);
    let slowest = sent.iter().enumerate().map(seconds).fold(0.0, f64::max);
    let line = wish.line_mbit.map_or(0.0, |mbit| wish.data_bytes * 8.0 / (mbit * 1e6));
    let restore = slowest.max(line);
    // A request for each shard that is read.
    let priced = |(node, bytes): (usize, &f64)| {
        let price = input.offers[node].0;
        bytes / TB * price.egress_tb + bytes / shard / 1e6 * price.requests_million
    };
    let restore_price = sent.iter().enumerate().map(priced).sum();
    let write_price = stripes * input.n as f64 / 1e6 * requests;
    let mesh = Mesh::new(&input.sites, &input.stripes_of(&placed[..1]), &input.levels());
    let destroy = mesh.and_then(|mesh| mesh.smallest(End::Destroyed)).ok();
    let mut lacks = Vec::new();
    if nines(loss) < wish.nines {
        lacks.push(format!("{:.1} nines of {:.1}", nines(loss), wish.nines));
    }
    if let Some(budget) = wish.budget.filter(|budget| monthly > *budget) {
        lacks.push(format!("{monthly:.2} a month, {budget:.2} allowed"));
    }
    if let Some(most) = wish.restore.filter(|most| restore > most.0 * 31_536_000.0) {
        let (takes, most) = (restore / 3600.0, most.0 * 8760.0);
        lacks.push(format!("{takes:.1} h to restore, {most:.1} allowed"));
    }
    let names = destroy.iter().flat_map(|set| &set.example).map(|domain| input.name_of(domain));
    Ok(Choice {
        k: input.k,
        n: input.n,
        overhead: input.n as f64 / input.k as f64,
        monthly,
        nines: nines(loss),
        nines_low: nines(high),
        nines_high: nines(low),
        destroy_size: destroy.as_ref().and_then(|set| set.size),
        destroy_example: names.collect::<Vec<_>>().join(", "),
        destroy_sets: destroy.map_or_else(|| "?".into(), |set| set.count.to_string()),
        repair_bytes: rebuilt * shard * (input.k + 1) as f64,
        restore_hours: restore / 3600.0,
        restore_price,
        write_price,
        fits: lacks.is_empty(),
        lacks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(extra: &str) -> Input {
        let text = include_str!("../../models/what-we-have.toml").replace("# budget = 40.0", extra);
        Input::parse(&text).unwrap()
    }

    fn quick() -> Effort {
        Effort { seed: 1, jobs: 2, relative_error: 0.3, events_max: 1_000_000 }
    }

    #[test]
    fn what_fits_comes_first_and_survives_what_was_asked() {
        let input = wish("");
        let planned = plan(&input, &quick()).unwrap();
        let best = &planned.choices[0];
        assert!(best.fits && best.nines >= 6.0, "{best:?}");
        // Any one provider may be lost: nothing of one domain destroys.
        assert!(planned.choices.iter().all(|choice| choice.destroy_size >= Some(2)));
        let fitting: Vec<f64> =
            planned.choices.iter().filter(|c| c.fits).map(|c| c.monthly).collect();
        assert!(fitting.is_sorted(), "{fitting:?}");
        assert!(planned.advice.iter().any(|line| line.contains("hangs on")));
    }

    #[test]
    fn a_budget_that_is_too_small_is_said() {
        let planned = plan(&wish("budget = 0.01"), &quick()).unwrap();
        assert!(planned.choices.iter().all(|choice| !choice.fits));
        assert!(planned.choices[0].lacks.iter().any(|lack| lack.contains("a month")));
    }

    #[test]
    fn one_provider_too_few_is_what_helps_most() {
        let text = include_str!("../../models/what-we-have.toml");
        let mut input = Input::parse(text).unwrap();
        input.sites.truncate(3);
        input.offers.truncate(3);
        let planned = plan(&input, &quick()).unwrap();
        assert!(planned.choices.is_empty());
        assert!(planned.advice[0].contains("Nothing can be placed"), "{:?}", planned.advice);
        assert!(planned.advice[1].contains("new provider"), "{:?}", planned.advice);
    }

    #[test]
    fn every_addition_is_weighed_and_the_page_shows_them() {
        let input = wish("line_mbit = 50.0");
        let planned = plan(&input, &quick()).unwrap();
        // 2 TB at 50 Mbit/s are 89 hours, whatever the nodes can send.
        assert!(planned.choices.iter().all(|choice| choice.restore_hours > 88.0));
        assert!(planned.choices.iter().any(|c| c.restore_price > 0.0 && c.write_price > 0.0));
        let names: Vec<&str> = planned.additions.iter().map(|add| add.what.as_str()).collect();
        for part in ["one more node", "new account", "new provider", "twice as fast"] {
            assert!(names.iter().any(|name| name.contains(part)), "{part}: {names:?}");
        }
        let page = page(&input, &planned).unwrap();
        assert!(page.matches("<svg").count() >= 3 && !page.contains("NaN"));
    }
}
