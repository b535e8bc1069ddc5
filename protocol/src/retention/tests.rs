use super::*;
use proptest::prelude::*;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// 2019-11-17, a Sunday, 11:00.
const SUNDAY: u64 = 18_217 * DAY + 11 * HOUR;

fn at(time: u64) -> Candidate {
    let time = Wall(time);
    Candidate { witnessed: time, claimed: time, is_wide: true, tags: BTreeSet::new() }
}

fn words(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(ToString::to_string).collect()
}

fn keep(counts: [u32; 6]) -> Rules {
    Rules { counts, ..Rules::default() }
}

/// Which are kept, and why, the newest first.
fn kept(candidates: &[Candidate], rules: &Rules) -> Vec<(usize, String)> {
    let verdicts = judge(candidates, rules);
    let text = |reasons: &Vec<Reason>| {
        reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let all = verdicts.iter().enumerate().rev();
    all.filter(|(_, reasons)| !reasons.is_empty()).map(|(i, r)| (i, text(r))).collect()
}

fn numbers(candidates: &[Candidate], rules: &Rules) -> Vec<usize> {
    kept(candidates, rules).into_iter().map(|(index, _)| index).collect()
}

#[test]
fn the_example_of_twelve_sundays() {
    let sundays: Vec<Candidate> = (0..12).map(|i| at(SUNDAY - (11 - i) * 7 * DAY)).collect();
    let daily = "daily snapshot".to_owned();
    let last_four = [11, 10, 9, 8].map(|index| (index, daily.clone()));
    assert_eq!(kept(&sundays, &keep([0, 0, 4, 0, 0, 0])), last_four);
    // The months are September, October and November.
    assert_eq!(numbers(&sundays, &keep([0, 0, 0, 0, 3, 0])), [11, 8, 4]);
    let months = kept(&sundays, &keep([0, 0, 0, 0, 4, 0]));
    assert_eq!(months.last().unwrap(), &(0, "oldest monthly snapshot".to_owned()));
}

#[test]
fn the_example_of_a_hundred_years() {
    let days = 36_525;
    let daily: Vec<Candidate> = (0..days).map(|i| at(SUNDAY + i * DAY)).collect();
    let verdicts = judge(&daily, &keep([0, 0, 7, 5, 12, 75]));
    let count =
        |unit| verdicts.iter().filter(|reasons| reasons.contains(&Reason::Newest(unit))).count();
    let units = [Unit::Day, Unit::Week, Unit::Month, Unit::Year];
    assert_eq!(units.map(count), [7, 5, 12, 75]);
    let all = verdicts.iter().filter(|reasons| !reasons.is_empty()).count();
    // The last day is a Friday in November. It and the Sunday before stand for their weeks, it for its month and year, and
    // the last of December for its month and its year.
    assert_eq!(all, 7 + 3 + 11 + 73);
}

#[test]
fn every_rule_keeps_what_it_says() {
    let hours: Vec<Candidate> =
        [0, 1, 2, 60, 61, 120, 1500].map(|m| at(SUNDAY + m * 60_000)).into();
    assert_eq!(numbers(&hours, &keep([3, 0, 0, 0, 0, 0])), [6, 5, 4]);
    assert_eq!(numbers(&hours, &keep([0, 3, 0, 0, 0, 0])), [6, 5, 4]);
    assert_eq!(numbers(&hours, &keep([0, UNLIMITED, 0, 0, 0, 0])), [6, 5, 4, 2, 0]);
    assert_eq!(numbers(&hours, &keep([0, 0, 2, 0, 0, 0])), [6, 5]);
    // It was Sunday, then it is Monday: another week of the same month.
    assert_eq!(numbers(&hours, &keep([0, 0, 0, 1, 0, 0])), [6]);
    assert_eq!(numbers(&hours, &keep([0, 0, 0, 2, 0, 0])), [6, 5]);
    assert_eq!(numbers(&hours, &keep([0, 0, 0, 0, 1, 0])), [6]);
    assert_eq!(numbers(&hours, &keep([UNLIMITED, 0, 0, 0, 0, 0])).len(), 7);

    let within = Rules { within: Some("1d".parse().unwrap()), ..Rules::default() };
    // The newest came 25 hours after the first: a day before it is 12:00.
    assert_eq!(kept(&hours, &within)[2], (4, "within 1d".into()));
    assert_eq!(numbers(&hours, &within), [6, 5, 4]);
    let mut tagged = hours.clone();
    tagged[1].tags = words(&["a", "b"]);
    tagged[3].tags = words(&["b"]);
    let tags = |sets: &[&[&str]]| Rules {
        tags: sets.iter().map(|set| words(set)).collect(),
        ..Rules::default()
    };
    assert_eq!(numbers(&tagged, &tags(&[&["b"]])), [3, 1]);
    assert_eq!(kept(&tagged, &tags(&[&["a", "b"]])), [(1, "has tags a,b".into())]);
    assert_eq!(numbers(&tagged, &tags(&[&["a"], &["c"]])), [1]);
    assert_eq!(numbers(&tagged, &tags(&[&[]])), [6, 5, 4, 2, 0]);
}

#[test]
fn without_a_rule_everything_is_kept() {
    let all = [at(SUNDAY), at(SUNDAY + DAY)];
    assert_eq!(kept(&all, &Rules::default()).len(), 2);
    assert_eq!(judge(&[], &keep([1; 6])), Vec::<Vec<Reason>>::new());
}

#[test]
fn what_is_in_doubt_is_kept_and_takes_nobodys_place() {
    let mut all: Vec<Candidate> = (0..4).map(|i| at(SUNDAY + i * DAY)).collect();
    let one = keep([1, 0, 0, 0, 0, 0]);
    assert_eq!(numbers(&all, &one), [3]);
    // The newest is dated back: the one before it keeps its place.
    all[3].claimed = Wall(SUNDAY);
    let expected = "IN DOUBT: claims a time 72 h earlier than its holders saw it";
    assert_eq!(kept(&all, &one), [(3, expected.to_owned()), (2, "last snapshot".into())]);
    all[2].is_wide = false;
    assert_eq!(numbers(&all, &one), [3, 2, 1]);
    assert!(judge(&all, &one)[2][0].is_mark());
    // Nor does a claim that is near enough to be believed change the order.
    let mut close = [at(SUNDAY), at(SUNDAY + HOUR)];
    close[0].claimed = Wall(SUNDAY + 20 * HOUR);
    assert_eq!(numbers(&close, &one), [1]);
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let step = prop_oneof![0..3 * HOUR, 0..3 * DAY, 0..40 * DAY, 0..400 * DAY];
    let tags = prop::collection::btree_set("[ab]", 0..3);
    prop::collection::vec((step, tags, prop::bool::weighted(0.9)), 0..40).prop_map(|steps| {
        let mut time = SUNDAY;
        let mut next = |(step, tags, is_wide)| {
            time += step;
            Candidate { is_wide, tags, ..at(time) }
        };
        steps.into_iter().map(&mut next).collect()
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let counts = prop::array::uniform6(prop_oneof![0..6u32, Just(0), Just(UNLIMITED)]);
    let within =
        prop::option::of((1..3u32, 0..14u32, 0..40u32).prop_map(|(years, months, days)| Span {
            years: years - 1,
            months,
            days,
            hours: 1,
        }));
    let tags = prop::collection::vec(prop::collection::btree_set("[ab]", 0..3), 0..3);
    (counts, within, tags).prop_map(|(counts, within, tags)| Rules { counts, within, tags })
}

fn is_kept(candidates: &[Candidate], rules: &Rules) -> Vec<bool> {
    judge(candidates, rules).iter().map(|reasons| !reasons.is_empty()).collect()
}

/// What one unit keeps, by sets instead of in passing: the newest of each of the newest stretches, and the oldest of all
/// while there is something left.
fn naive(candidates: &[Candidate], unit: Unit, count: u32) -> BTreeSet<usize> {
    let good: Vec<usize> = (0..candidates.len()).filter(|&i| candidates[i].is_wide).collect();
    let stretch = |index: usize| unit.stretch(candidates[index].witnessed, index);
    let stretches: BTreeSet<u64> = good.iter().map(|&index| stretch(index)).collect();
    let newest: Vec<u64> = stretches.iter().rev().copied().take(count as usize).collect();
    let mut kept: BTreeSet<usize> = newest
        .iter()
        .filter_map(|&wanted| good.iter().rev().find(|&&index| stretch(index) == wanted).copied())
        .collect();
    if count > 0 && newest.len() < count as usize {
        kept.extend(good.first());
    }
    kept
}

proptest! {
    #[test]
    fn each_unit_keeps_the_newest_of_the_last_stretches(candidates in candidates(), place in 0..6usize, count in 1..8u32) {
        let unit = Unit::ALL[place];
        let mut counts = [0; 6];
        counts[place] = count;
        let kept = is_kept(&candidates, &keep(counts));
        let mut expected = naive(&candidates, unit, count);
        expected.extend((0..candidates.len()).filter(|&i| !candidates[i].is_wide));
        let found: BTreeSet<usize> = (0..kept.len()).filter(|&i| kept[i]).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn more_rules_never_keep_fewer(candidates in candidates(), one in rules(), other in rules()) {
        prop_assume!(!one.is_empty() && !other.is_empty());
        let mut both = one.clone();
        for (count, more) in both.counts.iter_mut().zip(other.counts) {
            *count = (*count).max(more);
        }
        both.tags.extend(other.tags.iter().cloned());
        let newest = Wall(SUNDAY + 10_000 * DAY);
        both.within = [one.within, other.within].into_iter().flatten().min_by_key(|s| s.before(newest));
        let kept = is_kept(&candidates, &both);
        let (by_one, by_other) = (is_kept(&candidates, &one), is_kept(&candidates, &other));
        // A longer span is one here only if it is longer from the newest of these on as well.
        prop_assume!(both.within.is_none() || one.within == other.within || candidates.is_empty() || {
            let from = candidates.iter().filter(|c| c.is_wide).map(|c| c.witnessed).max().unwrap_or_default();
            [one.within, other.within].into_iter().flatten().all(|s| s.before(from) >= both.within.unwrap().before(from))
        });
        for index in 0..kept.len() {
            prop_assert!(kept[index] || !(by_one[index] || by_other[index]), "{index}");
        }
    }

    #[test]
    fn forging_claimed_times_pushes_nothing_out(
        candidates in candidates(), rules in rules(), forged in prop::collection::vec(prop::option::of(any::<u64>()), 40),
    ) {
        let before = is_kept(&candidates, &rules);
        let mut candidates = candidates;
        for (candidate, forged) in candidates.iter_mut().zip(&forged) {
            candidate.claimed = forged.map_or(candidate.claimed, Wall);
        }
        let after = is_kept(&candidates, &rules);
        prop_assert!(before.iter().zip(&after).all(|(before, after)| *after || !before));
    }

    #[test]
    fn the_newest_that_is_not_in_doubt_is_kept_by_any_count(candidates in candidates(), rules in rules()) {
        prop_assume!(rules.counts.iter().any(|&count| count > 0));
        let newest = candidates.iter().rposition(|candidate| candidate.is_wide);
        let kept = is_kept(&candidates, &rules);
        prop_assert!(newest.is_none_or(|newest| kept[newest]));
    }
}
