//! The whole mesh against exact chains, against one stripe alone, and its methods against each other.

use super::super::chain::Chain;
use super::super::estimate::{Effort, Method, estimate};
use super::super::input::Input;
use super::{MeshEstimate, MeshTally, Played, Share, Whom};

fn parse(text: &str) -> Input {
    Input::parse(text).unwrap()
}

fn mesh(extra: &str, code: &str, repair: &str) -> Input {
    parse(&format!(
        "name = 'mesh'\nyears = '1y'\nseed = 3\n[code]\n{code}\n{extra}\n[[nodes]]\ncount = 60\n\
         [repair]\ntransfer = {repair}\n[[cause]]\nname = 'node'\nlevel = 'node'\nper_year = 1.0\n"
    ))
}

fn play(input: &Input, stripes: usize, missions: u64) -> MeshTally {
    let effort = Effort { jobs: 2, ..Effort::default() };
    Played::new(input, stripes).unwrap().missions(&effort, 0..missions)
}

fn rare(played: &Played<'_>, method: Method, relative_error: f64) -> MeshEstimate {
    let effort = Effort { seed: 1, jobs: 2, relative_error, events_max: 4_000_000 };
    played.estimate(&MeshTally::default(), Some(method), &effort).unwrap()
}

fn agrees(found: Share, exact: f64) -> bool {
    // Four standard deviations; with fixed seeds none fails by chance.
    (found.value - exact).abs() <= 2.05 * (found.high - found.low) / 2.0
}

const DAY: &str = "{ exponential = '4d' }";

#[test]
fn one_stripe_of_the_mesh_is_the_stripe_alone() {
    let input = mesh("", "k = 2\nn = 3", DAY);
    let played = play(&input, 1, 20_000);
    let model = input.model(&input.place(1).unwrap()[0]).unwrap();
    let found = estimate(&model, 1.0, None, &Effort::default()).unwrap();
    let share = played.any as f64 / played.missions as f64;
    let deviation = (found.loss / played.missions as f64).sqrt();
    assert!(
        (share - found.loss).abs() < 4.0 * deviation + found.high - found.low,
        "{share} {found:?}"
    );
}

#[test]
fn copysets_lose_something_more_seldom_and_more_at_once() {
    let rule = |rule: &str| mesh(&format!("[placement]\n{rule}"), "k = 1\nn = 3", "'10d'");
    let spread = play(&rule("strategy = 'distinct'"), 2000, 300);
    let sets = play(&rule("strategy = 'copysets'\nscatter = 2"), 2000, 300);
    assert!(sets.any * 2 < spread.any, "{sets:?} {spread:?}");
    // What is lost seldom is lost together.
    let each = |tally: &MeshTally| tally.lost as f64 / tally.any.max(1) as f64;
    assert!(each(&sets) > 5.0 * each(&spread), "{sets:?} {spread:?}");
}

#[test]
fn too_little_bandwidth_makes_shards_wait_and_stripes_die() {
    let with = |mbit: &str| mesh("", "k = 2\nn = 4", &format!("'1d'\n{mbit}"));
    let free = play(&with(""), 300, 60);
    // 60 nodes a year with 20 shards each, 24 MiB moved for each: 7.3 kbit/s on average.
    let tight = play(&with("mesh_mbit = 0.008"), 300, 60);
    assert!(free.waited == 0.0 && tight.waited > 0.0);
    assert!(tight.lost > free.lost, "{tight:?} {free:?}");
}

#[test]
fn what_waits_for_bandwidth_is_rebuilt_in_its_turn() {
    // Enough for ten times what is lost: whatever waits is done within the day, and nothing is forgotten.
    let with = |mbit: &str| mesh("", "k = 1\nn = 4", &format!("'1d'\n{mbit}"));
    let free = play(&with(""), 300, 20);
    let queued = play(&with("mesh_mbit = 0.08"), 300, 20);
    assert!(queued.waited > 0.0 && queued.lost == free.lost);
    assert!(queued.rebuilt as f64 > 0.98 * free.rebuilt as f64, "{queued:?} {free:?}");
}

#[test]
fn the_same_seed_is_the_same_run_on_any_number_of_threads() {
    let input = mesh("", "k = 2\nn = 3", DAY);
    let played = Played::new(&input, 100).unwrap();
    let with = |jobs| played.missions(&Effort { jobs, ..Effort::default() }, 0..20);
    assert_eq!(with(1), with(3));
    let small = Played::new(&input, 4).unwrap();
    for method in [Method::Biasing, Method::Splitting] {
        let with = |jobs| {
            let effort = Effort { seed: 2, jobs, relative_error: 0.5, events_max: 300_000 };
            small.estimate(&MeshTally::default(), Some(method), &effort).unwrap()
        };
        assert_eq!(with(1), with(3));
    }
}

/// Five nodes at three providers; every shard of every stripe is a bit of the exact chain's states.
fn entangled(code: &str, node: f64, provider: f64, extra: &str) -> Input {
    parse(&format!(
        "name = 'entangled'\nseed = 5\n[code]\n{code}\n[placement]\nstrategy = 'distinct'\n\
         [[nodes]]\ncount = 2\nlabels = {{ provider = 'a' }}\n[[nodes]]\ncount = 2\nlabels = {{ provider = 'b' }}\n\
         [[nodes]]\nlabels = {{ provider = 'c' }}\n[repair]\ntransfer = {{ exponential = '2d' }}\n{extra}\n\
         [[cause]]\nname = 'node'\nlevel = 'node'\nper_year = {node:?}\n\
         [[cause]]\nname = 'provider'\nlevel = 'provider'\nper_year = {provider:?}\n\
         [[cause]]\nname = 'bits'\nlevel = 'node'\nsingle = true\nper_year = {node:?}\n"
    ))
}

/// The exact probability that any stripe of the mesh is lost, shards being rebuilt in place.
fn exact(played: &Played<'_>) -> f64 {
    let (n, shards) = (played.input.n, played.holders.len());
    let all = 1usize << shards;
    let is_lost = |mask: usize| {
        (0..played.stripes).any(|stripe| {
            let lost = mask >> (stripe * n) & ((1 << n) - 1);
            n - (lost.count_ones() as usize) < played.input.k
        })
    };
    let mut chain = Chain::new(all + 1);
    for mask in (0..all).filter(|&mask| !is_lost(mask)) {
        let mut to = |target: usize, rate: f64| {
            chain.add(mask, if is_lost(target) { all } else { target }, rate);
        };
        for source in &played.sources {
            match &source.whom {
                Whom::Nodes(nodes) => {
                    let hit = (0..shards)
                        .filter(|&shard| nodes.contains(&(played.holders[shard] as usize)));
                    to(mask | hit.fold(0, |bits, shard| bits | 1 << shard), source.rate);
                }
                Whom::Shard => (0..shards).for_each(|shard| to(mask | 1 << shard, source.rate)),
            }
        }
        for shard in (0..shards).filter(|shard| mask >> shard & 1 == 1) {
            to(mask & !(1 << shard), 365.0 / 2.0);
        }
    }
    chain.loss_within(1.0).unwrap()
}

#[test]
fn both_methods_give_what_the_exact_chain_of_all_stripes_says() {
    let input = entangled("k = 2\nn = 4", 0.3, 0.03, "");
    let played = Played::new(&input, 2).unwrap();
    let exact = exact(&played);
    for (method, error) in [(Method::Biasing, 0.04), (Method::Splitting, 0.1)] {
        let found = rare(&played, method, error);
        assert!(agrees(found.any, exact), "{found:?} {exact:e}");
    }
    // One is lost, or both: neither at once is more than any of them, nor the sum of both less.
    let found = rare(&played, Method::Biasing, 0.04);
    assert!(found.all.value < found.any.value && found.stripes.value > found.any.value);
    assert!(agrees(found.stripes, found.any.value + found.all.value));
}

#[test]
fn biasing_follows_the_chain_of_all_stripes_below_1e_15() {
    let mut seen = Vec::new();
    for rate in [1e-2, 1e-4] {
        let input = entangled("k = 1\nn = 4", rate, rate * rate, "");
        let played = Played::new(&input, 2).unwrap();
        let exact = exact(&played);
        let found = rare(&played, Method::Biasing, 0.08);
        assert!(agrees(found.any, exact), "{found:?} {exact:e}");
        assert!(found.doubts.is_empty(), "{found:?}");
        seen.push((exact, found.samples));
    }
    assert!(seen[1].0 < 1e-15, "{seen:?}");
    // Bounded relative error: what is ten orders rarer takes no more than a few times the samples.
    assert!(seen[1].1 < 8 * seen[0].1, "{seen:?}");
}

/// Four equal nodes, of which lost ones stay lost; two copies, each rebuilt on any other node.
fn shrinking(rate: f64) -> Input {
    parse(&format!(
        "name = 'shrinking'\n[code]\nk = 1\nn = 2\n[placement]\nstrategy = 'distinct'\n[[nodes]]\ncount = 4\n\
         [repair]\ntransfer = {{ exponential = '10d' }}\nreplace = 'never'\n\
         [[cause]]\nname = 'node'\nlevel = 'node'\nper_year = {rate:?}\n"
    ))
}

#[test]
fn shards_that_move_to_other_nodes_fare_as_the_exact_chain_says() {
    let (rate, repair) = (0.4, 36.5);
    // Nodes there and copies whole: (4,2) (4,1)… in the order of the list; the last is the loss.
    let states = [(4, 2), (3, 2), (2, 2), (3, 1), (2, 1), (1, 1)];
    let at = |state: (usize, usize)| states.iter().position(|other| *other == state);
    let mut chain = Chain::new(states.len() + 1);
    for (from, &(nodes, whole)) in states.iter().enumerate() {
        let mut to = |state: (usize, usize), rate: f64| {
            if rate > 0.0 {
                chain.add(from, at(state).unwrap_or(states.len()), rate);
            }
        };
        to((nodes - 1, whole - 1), rate * whole as f64);
        to((nodes - 1, whole), rate * (nodes - whole) as f64);
        if whole == 1 && nodes > 1 {
            to((nodes, 2), repair);
        }
    }
    let exact = chain.loss_within(1.0).unwrap();
    let input = shrinking(rate);
    let played = Played::new(&input, 1).unwrap();
    let tally = played.missions(&Effort { jobs: 2, ..Effort::default() }, 0..30_000);
    assert!(tally.moved == tally.rebuilt && tally.moved > 1000);
    for method in [Method::Plain, Method::Biasing, Method::Splitting] {
        let effort = Effort { seed: 1, jobs: 2, relative_error: 0.05, events_max: 40_000_000 };
        let found = played.estimate(&tally, Some(method), &effort).unwrap();
        assert!(agrees(found.any, exact), "{found:?} {exact:e}");
    }
}

/// Everything at once: outages longer than patience, bandwidth, bursts, notice, wear of nodes that come back, Strewn's own repair.
fn everything(rule: &str, wear: &str) -> Input {
    parse(&format!(
        "name = 'everything'\nseed = 2\n[code]\nk = 3\nn = 6\n{rule}\n\
         [[nodes]]\ncount = 4\nlabels = {{ provider = 'a' }}\n[[nodes]]\ncount = 4\nlabels = {{ provider = 'b' }}\n\
         [[nodes]]\ncount = 4\nlabels = {{ provider = 'c' }}\n\
         [repair]\ndetect = '1h'\npatience = '1d'\ntransfer = {{ lognormal = '2d', sigma = 0.8 }}\n\
         mesh_mbit = 0.01\nreplace = {{ exponential = '20d' }}\n\
         [[cause]]\nname = 'node'\nlevel = 'node'\nper_year = 1.5\n\
         [[cause]]\nname = 'outage'\nlevel = 'provider'\nper_year = 4\ndark = {{ exponential = '2d' }}\n\
         [[cause]]\nname = 'provider'\nlevel = 'provider'\nper_year = 0.1\n\
         [[cause]]\nname = 'leaves'\nlevel = 'node'\nper_year = 0.2\nnotice = '5d'\n\
         [[cause]]\nname = 'bits'\nlevel = 'node'\nsingle = true\nper_year = 0.1\naudit = '7d'\n{wear}\n"
    ))
}

#[test]
fn with_everything_at_once_the_methods_still_agree() {
    let strewn = everything("[policy.survive]\nany = [{ provider = 1 }]", "");
    let tally = play(&strewn, 4, 10);
    assert!(tally.moved > 0 && tally.waited > 0.0 && tally.below > 0.0, "{tally:?}");
    // The solver takes its time: the rest is played with a rule that is as good here.
    let tree = "[placement]\nstrategy = 'tree'\nlevel = 'provider'";
    let input = everything(tree, "");
    let played = Played::new(&input, 4).unwrap();
    let tally = played.missions(&Effort { jobs: 2, ..Effort::default() }, 0..3_000);
    assert!(tally.any > 30 && tally.moved > 0 && tally.waited > 0.0, "{tally:?}");
    assert!(tally.unavailable > 0.0 && tally.below > 0.0 && tally.short > tally.unavailable);
    let counted = played.estimate(&tally, Some(Method::Plain), &Effort::default()).unwrap();
    for method in [Method::Biasing, Method::Splitting] {
        let found = rare(&played, method, 0.25);
        for (ours, theirs) in [(found.any, counted.any), (found.stripes, counted.stripes)] {
            let half = |share: Share| (share.high - share.low) / 2.0;
            let slack = 2.05 * half(ours).hypot(half(theirs));
            assert!((ours.value - theirs.value).abs() <= slack, "{found:?} {counted:?}");
        }
    }
    let wears = everything(tree, "[wear]\nlifetime = { weibull = '3y', shape = 2.0 }");
    let played = Played::new(&wears, 4).unwrap();
    let tally = played.missions(&Effort { jobs: 2, ..Effort::default() }, 0..800);
    let counted = played.estimate(&tally, None, &Effort::default()).unwrap();
    let split = rare(&played, Method::Splitting, 0.3);
    assert!(split.any.low < counted.any.high && counted.any.low < split.any.high);
}

#[test]
fn patience_spares_traffic_and_who_is_silent_for_longer_is_replaced() {
    let with = |patience: &str| {
        parse(&format!(
            "name = 'patience'\n[code]\nk = 2\nn = 4\n[[nodes]]\ncount = 10\n\
             [repair]\npatience = '{patience}'\ntransfer = '1h'\nreplace = '1d'\n\
             [[cause]]\nname = 'outage'\nlevel = 'node'\nper_year = 10\ndark = '1d'\n"
        ))
    };
    let (patient, not) = (play(&with("20d"), 20, 20), play(&with("6h"), 20, 20));
    assert!(patient.rebuilt == 0 && patient.lost == 0, "{patient:?}");
    assert!(not.moved > 1000 && not.lost == 0, "{not:?}");
    // Two of four may be dark at once; more seldom where what is silent is rebuilt elsewhere.
    assert!(not.unavailable < patient.unavailable, "{not:?} {patient:?}");
}

#[test]
fn what_leaves_with_notice_is_moved_before_and_never_lost() {
    let with = |notice: &str| {
        parse(&format!(
            "name = 'notice'\n[code]\nk = 2\nn = 3\n[[nodes]]\ncount = 12\n[repair]\ntransfer = '5d'\nreplace = '30d'\n\
             [[cause]]\nname = 'leaves'\nlevel = 'node'\nper_year = 2\nnotice = '{notice}'\n"
        ))
    };
    let (told, late) = (play(&with("6d"), 30, 40), play(&with("1d"), 30, 40));
    assert!(told.lost == 0 && told.short == 0.0 && told.moved > 1000, "{told:?}");
    assert!(late.lost > 0, "{late:?}");
}

#[test]
fn fewer_nodes_than_shards_leave_stripes_below_their_policy() {
    let with = |count: u32| {
        parse(&format!(
            "name = 'few'\n[code]\nk = 1\nn = 3\n[[nodes]]\ncount = {count}\n[repair]\ntransfer = '1h'\nreplace = '60d'\n\
             [[cause]]\nname = 'node'\nlevel = 'node'\nper_year = 1\n"
        ))
    };
    let (three, five) = (play(&with(3), 10, 60), play(&with(5), 10, 60));
    // With three nodes each loss lasts until there is another; with five a rebuild is an hour.
    assert!(three.short > 10.0 * five.short, "{three:?} {five:?}");
}

#[test]
fn on_random_meshes_intervals_miss_as_often_as_they_say() {
    let mut dice = crate::durability::dice::Dice::new(31, 0);
    let (mut missed, mut tried) = (0, 0);
    for seed in 0..160 {
        let (k, stripes) = (1 + dice.below(2), 1 + dice.below(2));
        let rate = 10f64.powf(-2.0 * dice.share());
        let input = entangled(&format!("k = {k}\nn = 3"), rate, rate * 0.1 * dice.share(), "");
        let input = Input { seed, ..input };
        let played = Played::new(&input, stripes).unwrap();
        let exact = exact(&played);
        let effort = Effort { seed, jobs: 2, relative_error: 0.3, events_max: 4_000_000 };
        let found = played.estimate(&MeshTally::default(), Some(Method::Biasing), &effort).unwrap();
        if found.doubts.is_empty() {
            tried += 1;
            missed += u32::from(exact < found.any.low || exact > found.any.high);
        }
    }
    // 5 % expected, four standard deviations more at most.
    assert!(tried >= 120 && missed <= 17, "{missed} of {tried}");
}
