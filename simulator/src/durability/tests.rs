//! Sampled against exact: known chains far down the tail, and thousands of small random systems.

use super::chain::{BirthDeath, Chain};
use super::dice::Dice;
use super::estimate::{Effort, Estimate, Method, estimate};
use super::law::Law;
use super::plain;
use super::stripe::{Cause, Harm, Model, Repairers, Wear};

fn days(mean: f64) -> Law {
    Law::Exponential { mean: mean / 365.0 }
}

fn effort(seed: u64, relative_error: f64) -> Effort {
    Effort { seed, jobs: 2, relative_error, events_max: 60_000_000 }
}

fn agrees(found: &Estimate, exact: f64) -> bool {
    // Four standard deviations: one test in 16,000 fails by chance, and with fixed seeds none ever.
    let half = (found.high - found.low) / 2.0;
    (found.loss - exact).abs() <= 2.05 * half
}

#[test]
fn rare_losses_are_those_of_the_chain_down_to_1e_15_and_beyond() {
    for (n, k, rate, repair, repairers) in [
        (3, 2, 0.1, 1.0, Repairers::Unlimited),
        (6, 3, 0.05, 1.0, Repairers::Unlimited),
        (14, 10, 0.05, 1.0, Repairers::Unlimited),
        (14, 10, 0.01, 0.5, Repairers::One),
        (12, 6, 0.02, 1.0, Repairers::Some(2)),
    ] {
        let chain = BirthDeath { n, k, failure: rate, repair: 365.0 / repair, repairers };
        let exact = chain.loss_within(1.0).unwrap();
        let model = Model::independent(n, k, rate, &days(repair), repairers);
        let found = estimate(&model, 1.0, Some(Method::Biasing), &effort(3, 0.05)).unwrap();
        assert!(agrees(&found, exact), "{n} {k} {repairers:?}: {found:?} {exact:e}");
        assert!(found.doubts.is_empty(), "{found:?}");
    }
    let chain =
        BirthDeath { n: 14, k: 10, failure: 0.01, repair: 730.0, repairers: Repairers::One };
    assert!(chain.loss_within(1.0).unwrap() < 1e-15);
}

#[test]
fn neither_many_shards_nor_failures_nearly_as_fast_as_repairs_make_weights_uneven() {
    // 1e-34; and a hundred failures a year against one repair in five days, where a bias that is too strong misses by a tenth.
    for (n, k, rate, repair) in [(20, 10, 0.05, 1.0), (40, 20, 2.0, 5.0)] {
        let repairers = Repairers::Unlimited;
        let chain = BirthDeath { n, k, failure: rate, repair: 365.0 / repair, repairers };
        let exact = chain.loss_within(1.0).unwrap();
        let model = Model::independent(n, k, rate, &days(repair), repairers);
        let found = estimate(&model, 1.0, Some(Method::Biasing), &effort(3, 0.05)).unwrap();
        assert!(agrees(&found, exact), "{n} {k}: {found:?} {exact:e}");
        assert!(found.doubts.is_empty() && found.samples < 30_000, "{found:?}");
    }
}

#[test]
fn repairs_that_wait_for_outages_are_biased_to_what_other_methods_say() {
    // Two pairs that go dark together: with one shard lost, an outage of two stops its repair.
    let model = |rate: f64, law: Law| {
        let mut model = Model::independent(4, 2, rate, &law, Repairers::Unlimited);
        for shards in [3, 12] {
            let harm = Harm::Dark { lasts: days(8.0) };
            model.causes.push(Cause { name: "outage".into(), shards, rate: 10.0, harm });
        }
        model
    };
    let estimates = |model: &Model, other: Method, relative_error: f64| {
        let found = |method, error| estimate(model, 1.0, Some(method), &effort(6, error)).unwrap();
        let (biased, other) = (found(Method::Biasing, 0.04), found(other, relative_error));
        let half = |found: &Estimate| (found.high - found.low) / 2.0;
        let slack = 2.05 * half(&biased).hypot(half(&other));
        assert!((biased.loss - other.loss).abs() <= slack, "{biased:?} {other:?}");
        assert!(biased.doubts.is_empty(), "{biased:?}");
        biased
    };
    let often = estimates(&model(1.5, days(4.0)), Method::Plain, 0.05);
    estimates(&model(1.5, Law::Fixed(4.0 / 365.0)), Method::Plain, 0.05);
    let rare = estimates(&model(0.1, days(4.0)), Method::Splitting, 0.3);
    assert!(rare.loss < 1e-2 * often.loss);
    // They matter: without them a loss is far less probable.
    let mut alone = model(0.1, days(4.0));
    alone.causes.truncate(4);
    assert!(2.0 * Chain::of_model(&alone).unwrap().loss_within(1.0).unwrap() < rare.low);
    assert_eq!(estimate(&alone, 1.0, None, &effort(1, 0.3)).unwrap().method, Method::Biasing);
}

#[test]
fn with_few_repairers_whose_turn_it_is_counts_and_the_chain_knows() {
    // One repairer, and a domain whose shards fail together: which of the lost ones is mended first decides what the next strike does.
    let mut model = Model::independent(4, 2, 0.2, &days(20.0), Repairers::One);
    let harm = Harm::Lost { repair: days(20.0), notice: 0.0 };
    model.causes.push(Cause { name: "domain".into(), shards: 0b1100, rate: 4.0, harm });
    let exact = Chain::of_model(&model).unwrap().loss_within(1.0).unwrap();
    let effort = Effort { events_max: 40_000_000, ..effort(4, 0.006) };
    for method in [Method::Plain, Method::Biasing] {
        let found = estimate(&model, 1.0, Some(method), &effort).unwrap();
        assert!(agrees(&found, exact), "{found:?} {exact:e}");
    }
}

#[test]
fn splitting_and_biasing_agree_with_each_other_and_the_chain() {
    let model = Model::independent(6, 4, 0.5, &days(3.0), Repairers::Unlimited);
    let chain = BirthDeath {
        n: 6,
        k: 4,
        failure: 0.5,
        repair: 365.0 / 3.0,
        repairers: Repairers::Unlimited,
    };
    let exact = chain.loss_within(1.0).unwrap();
    for method in [Method::Splitting, Method::Biasing] {
        let found = estimate(&model, 1.0, Some(method), &effort(5, 0.1)).unwrap();
        assert!(agrees(&found, exact), "{found:?} {exact:e}");
    }
}

#[test]
fn whole_providers_that_fail_count_as_the_exact_chain_says() {
    // Six shards at three providers, four needed: two a provider.
    let mut model = Model::independent(6, 4, 0.2, &days(5.0), Repairers::Unlimited);
    for provider in 0..3 {
        let harm = Harm::Lost { repair: days(5.0), notice: 0.0 };
        let name = format!("provider {provider}");
        model.causes.push(Cause { name, shards: 3 << (2 * provider), rate: 1e-4, harm });
    }
    let exact = Chain::of_model(&model).unwrap().loss_within(1.0).unwrap();
    let found = estimate(&model, 1.0, Some(Method::Biasing), &effort(7, 0.05)).unwrap();
    assert!(agrees(&found, exact), "{found:?} {exact:e}");
    let alone = Model::independent(6, 4, 0.2, &days(5.0), Repairers::Unlimited);
    let alone = Chain::of_model(&alone).unwrap().loss_within(1.0).unwrap();
    assert!(exact > 1.05 * alone);
}

/// A small system drawn by chance that the exact chain can solve.
fn random_system(dice: &mut Dice) -> Model {
    let n = 2 + dice.below(4);
    let k = 1 + dice.below(n);
    let rate = 10f64.powf(-2.0 * dice.share());
    let repairers = match dice.below(3) {
        0 => Repairers::One,
        1 => Repairers::Some(2),
        _ => Repairers::Unlimited,
    };
    let repair = days(1.0 + 20.0 * dice.share());
    let mut model = Model::independent(n, k, rate, &repair, repairers);
    for name in 0..dice.below(4) {
        let shards = (1 + dice.below((1 << n) - 1)) as u64;
        let harm = Harm::Lost { repair: repair.clone(), notice: 0.0 };
        let rate = rate * 0.1 * dice.share();
        model.causes.push(Cause { name: format!("domain {name}"), shards, rate, harm });
    }
    model
}

/// How many of `systems` random systems have their exact loss outside the 95 % interval.
fn misses(method: Method, systems: u64, keep: impl Fn(f64) -> bool, effort: Effort) -> (u64, u64) {
    let mut dice = Dice::new(11, method as u64);
    let (mut missed, mut tried) = (0, 0);
    for seed in 0..systems {
        let model = random_system(&mut dice);
        let exact = Chain::of_model(&model).unwrap().loss_within(1.0).unwrap();
        if !keep(exact) {
            continue;
        }
        let found = estimate(&model, 1.0, Some(method), &Effort { seed, ..effort }).unwrap();
        // What is doubted is not said.
        if !found.doubts.is_empty() {
            continue;
        }
        tried += 1;
        // Where the first strike is the loss, all samples are one number: what it differs by is rounding.
        let rounding = 1e-9 * exact;
        missed += u64::from(exact < found.low - rounding || exact > found.high + rounding);
    }
    (missed, tried)
}

/// 5 % of the intervals are expected to miss; four standard deviations of the count to both sides.
fn is_as_said(missed: u64, tried: u64) -> bool {
    let slack = 4.0 * (0.05 * 0.95 / tried as f64).sqrt();
    (missed as f64 / tried as f64 - 0.05).abs() <= slack
}

#[test]
fn on_thousands_of_random_systems_intervals_miss_as_often_as_they_say() {
    let effort = Effort { seed: 0, jobs: 2, relative_error: 0.3, events_max: 2_000_000 };
    let of_biasing = misses(Method::Biasing, 1200, |p| p < 0.5, effort);
    let of_plain = misses(Method::Plain, 800, |p| p > 0.02, effort);
    let of_splitting = misses(Method::Splitting, 250, |p| p > 1e-6, effort);
    let all = [of_biasing, of_plain, of_splitting];
    assert!(all.iter().all(|(missed, tried)| is_as_said(*missed, *tried)), "{all:?}");
    let share = of_biasing.0 as f64 / of_biasing.1 as f64;
    assert!(share < 0.07, "{all:?}");
    assert!(all.iter().map(|(_, tried)| tried).sum::<u64>() >= 1400, "{all:?}");
}

/// What makes a system no worse, as the last word of its name says.
fn no_worse(model: &Model) -> Vec<(&'static str, Model)> {
    let mut all = Vec::new();
    let mut change = |name, change: &dyn Fn(&mut Model)| {
        let mut other = model.clone();
        change(&mut other);
        all.push((name, other));
    };
    change("rates", &|m| m.causes.iter_mut().for_each(|cause| cause.rate *= 0.7));
    change("one rate", &|m| m.causes[0].rate *= 0.5);
    change("repair", &|m| {
        for cause in &mut m.causes {
            if let Harm::Lost { repair, .. } = &mut cause.harm {
                *repair = repair.stretched(0.7);
            }
        }
    });
    change("repairers", &|m| m.repairers = Repairers::Unlimited);
    change("k", &|m| m.k = (m.k - 1).max(1));
    change("n", &|m| {
        let mut cause = m.causes[0].clone();
        cause.shards = 1 << m.n;
        m.causes.push(cause);
        m.n += 1;
        // A shard more takes a repairer's time from the others.
        m.repairers = Repairers::Unlimited;
    });
    if model.causes.len() > model.n {
        change("domains", &|m| {
            m.causes.pop();
        });
    }
    all
}

#[test]
fn losses_move_with_every_assumption_as_they_must_exactly_and_sampled() {
    let mut dice = Dice::new(23, 0);
    let exact_of = |model: &Model| Chain::of_model(model).unwrap().loss_within(1.0).unwrap();
    let mut sampled = 0;
    for seed in 0..200u64 {
        let mut model = random_system(&mut dice);
        let before = exact_of(&model);
        for (name, other) in no_worse(&model) {
            // One shard more is compared with as many repairers.
            let before = if name == "n" {
                let with = Model { repairers: other.repairers, ..model.clone() };
                exact_of(&with)
            } else {
                before
            };
            let after = exact_of(&other);
            assert!(after <= before * (1.0 + 1e-9), "{name}: {before:e} {after:e} {model:?}");
        }
        if seed % 20 > 0 {
            continue;
        }
        // Sampled, the same must show: within both intervals where the difference is small, beyond them where it is not.
        let effort = Effort { seed, jobs: 2, relative_error: 0.08, events_max: 1_000_000 };
        model.repairers = Repairers::Unlimited;
        let found = |model: &Model| estimate(model, 1.0, None, &effort).unwrap();
        let base = found(&model);
        for (name, other) in no_worse(&model) {
            let better = found(&other);
            sampled += 1;
            let slack = (better.high - better.low).hypot(base.high - base.low);
            assert!(better.loss <= base.loss + slack, "{name}: {base:?} {better:?}");
            let apart = exact_of(&model) - exact_of(&other);
            if apart > 2.0 * slack {
                assert!(better.high < base.low, "{name}: {base:?} {better:?}");
            }
        }
    }
    assert!(sampled >= 60, "{sampled}");
}

#[test]
fn the_method_follows_the_model() {
    let method = |model: &Model| estimate(model, 1.0, None, &effort(1, 0.3)).unwrap().method;
    let frequent = Model::independent(3, 3, 0.5, &days(5.0), Repairers::Unlimited);
    assert_eq!(method(&frequent), Method::Plain);
    let rare = Model::independent(4, 2, 0.05, &days(1.0), Repairers::Unlimited);
    assert_eq!(method(&rare), Method::Biasing);
    let mut wears = Model::independent(4, 3, 0.0, &days(4.0), Repairers::Unlimited);
    wears.causes.clear();
    wears.wear = Some(Wear { lifetime: Law::weibull(2.0, 8.0), repair: days(5.0) });
    assert_eq!(method(&wears), Method::Splitting);
}

#[test]
fn wear_splits_to_what_plain_sampling_counts() {
    let model = Model {
        n: 4,
        k: 3,
        causes: Vec::new(),
        wear: Some(Wear { lifetime: Law::weibull(1.5, 2.0), repair: days(20.0) }),
        repairers: Repairers::Unlimited,
    };
    let counted = estimate(&model, 1.0, Some(Method::Plain), &effort(2, 0.05)).unwrap();
    let split = estimate(&model, 1.0, Some(Method::Splitting), &effort(2, 0.05)).unwrap();
    assert!(counted.low < split.high && split.low < counted.high, "{counted:?} {split:?}");
}

#[test]
fn an_estimate_does_not_depend_on_the_number_of_threads() {
    let model = Model::independent(4, 2, 0.3, &days(5.0), Repairers::Unlimited);
    for method in [Method::Plain, Method::Biasing, Method::Splitting] {
        let with = |jobs| {
            let effort = Effort { seed: 4, jobs, relative_error: 0.3, events_max: 3_000_000 };
            estimate(&model, 1.0, Some(method), &effort).unwrap()
        };
        assert_eq!(with(1), with(3));
    }
}

#[test]
fn runs_of_two_machines_merge_to_that_of_one() {
    let model = Model::independent(4, 3, 0.8, &days(9.0), Repairers::Unlimited);
    let effort = effort(4, 0.1);
    let mut both = plain::missions(&model, 1.0, &effort, 0..3);
    both.merge(&plain::missions(&model, 1.0, &effort, 3..8));
    let one = plain::missions(&model, 1.0, &effort, 0..8);
    assert_eq!((both.missions, both.losses, both.events), (one.missions, one.losses, one.events));
    assert!((both.short - one.short).abs() < 1e-9 * one.short);
}

#[test]
fn notice_in_time_is_no_loss() {
    let harm = |notice| Harm::Lost { repair: Law::Fixed(10.0 / 365.0), notice: notice / 365.0 };
    let model = |notice| Model {
        n: 3,
        k: 2,
        causes: vec![Cause { name: "provider".into(), shards: 7, rate: 1.0, harm: harm(notice) }],
        wear: None,
        repairers: Repairers::Unlimited,
    };
    let losses = |notice| plain::missions(&model(notice), 1.0, &effort(1, 0.1), 0..1).losses;
    assert_eq!(losses(11.0), 0);
    assert!(losses(9.0) > 1000);
}

#[test]
fn who_is_dark_is_not_lost_and_is_out_of_reach_as_long_as_said() {
    let model = Model {
        n: 2,
        k: 2,
        causes: vec![Cause {
            name: "outage".into(),
            shards: 1,
            rate: 2.0,
            harm: Harm::Dark { lasts: Law::Fixed(0.01) },
        }],
        wear: None,
        repairers: Repairers::Unlimited,
    };
    let tally = plain::missions(&model, 1.0, &effort(1, 0.1), 0..20);
    assert_eq!(tally.losses, 0);
    let share = tally.unavailable / tally.missions as f64;
    // An outage within another prolongs it: busy share of an M/G/∞ queue, less what the end cuts off.
    assert!((share / (1.0 - (-0.02f64).exp()) - 1.0).abs() < 0.03, "{share}");
}

#[test]
fn a_repair_waits_until_enough_shards_are_back() {
    // Two of two are out of reach while the third is rebuilt: it is whole only after the outage.
    let cause = |name: &str, shards, rate, harm| Cause { name: name.into(), shards, rate, harm };
    let model = Model {
        n: 3,
        k: 2,
        causes: vec![
            cause("disk", 4, 50.0, Harm::Lost { repair: Law::Fixed(0.001), notice: 0.0 }),
            cause("outage", 3, 50.0, Harm::Dark { lasts: Law::Fixed(0.01) }),
        ],
        wear: None,
        repairers: Repairers::Unlimited,
    };
    let tally = plain::missions(&model, 1.0, &effort(1, 0.1), 0..1);
    assert!(tally.losses == 0 && tally.rebuilt > 0);
    // Half of an outage is left on average where a repair meets one: longer than without by far.
    assert!(tally.short / tally.rebuilt as f64 > 0.0025, "{}", tally.short / tally.rebuilt as f64);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let model = Model::independent(3, 4, 0.1, &days(1.0), Repairers::Unlimited);
    assert!(model.check().is_err());
    let model = Model::independent(3, 2, f64::NAN, &days(1.0), Repairers::Unlimited);
    assert!(model.check().is_err());
    let model = Model::independent(3, 2, 0.1, &days(-1.0), Repairers::Unlimited);
    assert!(model.check().is_err());
    let model = Model::independent(3, 2, 0.1, &days(1.0), Repairers::Some(0));
    assert!(model.check().is_err());
}
