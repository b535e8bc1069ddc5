//! Whole meshes, told as stories.

mod moves;
mod swaps;

use super::*;
use crate::plan::{Attack, Measures, Outcome, VaultSetup};
use crate::setup::EPOCH;
use protocol::id::StripeId;
use protocol::label::Site;
use protocol::message::Request;
use protocol::placement::check_placement;
use protocol::policy::Policy;
use protocol::release::ReleaseRequest;
use protocol::sign::Signed;
use protocol::time::{Mono, Period};

/// Within this time everybody knows everybody, in a network that loses nothing: bootstrap at node 0,
/// then a few rounds of exchange, one every 30 s.
const ACQUAINTED: Period = Period::seconds(60);

fn nine() -> Setup {
    Setup::over_providers(9, 3)
}

fn all_know_all(world: &World) -> bool {
    (0..world.nodes()).all(|node| world.members_known(node) == world.nodes())
}

fn policy() -> Policy {
    Policy::survive_one("provider")
}

#[test]
fn nine_nodes_over_three_providers_learn_of_each_other() {
    for seed in 0..10 {
        let mut world = World::new(seed, &nine());
        assert!(!all_know_all(&world));
        assert!(world.run_until(ACQUAINTED, all_know_all), "seed {seed}");
    }
}

#[test]
fn a_lossy_network_still_converges() {
    for seed in 0..10 {
        let mut setup = nine();
        setup.network.quality.loss_per_mille = 100;
        let mut world = World::new(seed, &setup);
        assert!(world.run_until(Period::seconds(600), all_know_all), "seed {seed}");
        let client = world.add_client(&setup, policy());
        let stored = world.back_up(client, b"through thick and thin", 1, &[0, 1, 2]);
        let done = world.run_until(Period::seconds(3600), |world| world.client(client).is_done());
        assert!(done, "seed {seed}");
        assert_eq!(world.client(client).receipts().count(), stored.holders.len());
        assert_eq!(world.client(client).refusals(), []);
    }
}

#[test]
fn a_backup_survives_the_loss_of_any_one_provider() {
    for provider in 0..3 {
        let setup = nine();
        let mut world = World::new(7, &setup);
        let client = world.add_client(&setup, policy());
        let data: Vec<Vec<u8>> =
            [1, 100, 4096, 70_000].iter().map(|&len| world.random().bytes(len)).collect();
        let holders: Vec<usize> = (0..9).collect();
        // Any six of nine, three at each provider.
        let sites: Vec<&Site> = holders.iter().map(|&node| world.site(node)).collect();
        assert_eq!(check_placement(&policy(), 6, &sites), Ok(()));
        let stored: Vec<Stored> =
            data.iter().map(|data| world.back_up(client, data, 6, &holders)).collect();
        assert!(world.run_until(Period::seconds(60), |world| world.client(client).is_done()));
        assert_eq!(world.client(client).receipts().count(), 4 * 9);
        // One entry for the session, one for each stripe, at every node.
        assert_eq!(world.client(client).acks().count(), 5 * 9);

        world.vanish(&format!("provider=p{provider}").parse().unwrap());
        for stored in &stored {
            for &node in holders.iter().filter(|&&node| node % 3 != provider) {
                world.fetch(client, stored, node);
            }
        }
        assert!(world.run_until(Period::seconds(60), |world| world.client(client).is_done()));
        for (stored, data) in stored.iter().zip(&data) {
            assert_eq!(world.client(client).assemble(stored).as_ref(), Some(data));
        }
        assert_eq!(world.client(client).refusals(), []);
    }
}

#[test]
fn fewer_than_k_shards_give_nothing() {
    let setup = Setup::over_providers(3, 3);
    let mut world = World::new(1, &setup);
    let client = world.add_client(&setup, policy());
    let stored = world.back_up(client, b"two of three", 2, &[0, 1, 2]);
    world.fetch(client, &stored, 2);
    assert!(world.run_until(Period::seconds(60), |world| world.client(client).is_done()));
    assert_eq!(world.client(client).assemble(&stored), None);
    world.fetch(client, &stored, 0);
    assert!(world.run_until(Period::seconds(60), |world| world.client(client).is_done()));
    assert_eq!(world.client(client).assemble(&stored).unwrap(), b"two of three");
}

#[test]
fn a_node_that_crashes_before_a_shard_is_durable_promised_nothing() {
    for seed in 0..20 {
        let mut setup = Setup::over_providers(3, 3);
        setup.disk.write_max = Period(200);
        let mut world = World::new(seed, &setup);
        let client = world.add_client(&setup, policy());
        let stored = world.back_up(client, b"almost there", 1, &[0, 1, 2]);
        let arrived = |world: &World| world.disk(1).unfinished_shards() > 0;
        assert!(world.run_until(Period::seconds(60), arrived), "seed {seed}");
        let promised = |world: &World| {
            let holder = world.site(1).node;
            world.client(client).receipts().any(|of| of == holder)
        };
        world.crash(1);
        world.run_for(Period::seconds(60));
        assert!(!promised(&world), "seed {seed}");
        assert_eq!(world.disk(1).unfinished_shards(), 0);

        world.start(1);
        assert!(world.run_until(Period::seconds(120), promised), "seed {seed}");
        assert!(world.disk(1).shard(stored.stripe.shards[1]).is_some());
    }
}

#[test]
fn crashes_at_any_time_break_no_promise() {
    for seed in 0..6 {
        let setup = nine();
        let mut world = World::new(seed, &setup);
        let client = world.add_client(&setup, policy());
        let mut stored = Vec::new();
        for _ in 0..30 {
            let data = world.random().bytes(500);
            stored.push((world.back_up(client, &data, 6, &[0, 1, 2, 3, 4, 5, 6, 7, 8]), data));
            let node = (world.random().number() % 9) as usize;
            let pause = world.random().between(Period(0), Period(1500));
            world.crash(node);
            world.run_for(pause);
            world.start(node);
        }
        assert!(
            world.run_until(Period::seconds(600), |world| world.client(client).is_done()),
            "seed {seed}"
        );
        assert_eq!(world.client(client).refusals(), [], "seed {seed}");
        assert_eq!(world.client(client).receipts().count(), 30 * 9);
        for (stored, _) in &stored {
            (0..6).for_each(|node| world.fetch(client, stored, node));
        }
        assert!(world.run_until(Period::seconds(600), |world| world.client(client).is_done()));
        for (stored, data) in &stored {
            assert_eq!(world.client(client).assemble(stored).as_ref(), Some(data), "seed {seed}");
        }
    }
}

#[test]
fn holders_bring_each_other_up_to_date_and_one_that_is_left_alone_has_all() {
    for seed in 0..5 {
        let mut setup = nine();
        setup.network.quality.loss_per_mille = if seed % 2 == 0 { 0 } else { 30 };
        let mut world = World::new(seed, &setup);
        let client = world.add_client(&setup, policy());
        world.run_for(ACQUAINTED);
        // One node is away during the last backups, another one hears of nothing at all.
        world.crash(7);
        world.crash(8);
        for i in 0..10u8 {
            world.back_up(client, &[i; 200], 2, &[0, 1, 2]);
        }
        let done = |world: &World| (0..7).all(|node| world.client(client).is_done_with(node));
        assert!(world.run_until(Period::seconds(600), done), "seed {seed}");
        // Then the owner is gone for good.
        world.retire(client);
        world.start(7);
        let all = |node: usize| move |world: &World| world.entries(node) == 11;
        assert!(world.run_until(Period::seconds(600), all(7)), "seed {seed}: back again");
        for node in 0..7 {
            world.crash(node);
        }
        // It is the only one that knows anything, and the other one gets it all.
        world.start(8);
        assert!(world.run_until(Period::seconds(600), all(8)), "seed {seed}: from one alone");
    }
}

#[test]
fn nodes_that_have_the_same_exchange_nothing_but_hashes() {
    let setup = Setup::over_providers(20, 5);
    let mut world = World::new(1, &setup);
    let client = world.add_client(&setup, policy());
    let _ = world.back_up(client, b"once", 1, &[0, 1, 2]);
    assert!(world.run_until(Period::seconds(3600), |world| world.client(client).is_done()));
    let before = world.trace().events();
    world.run_for(Period::seconds(300));
    let events = world.trace().events() - before;
    // Ten rounds, in which each node meets three: seven questions with their answers at most.
    let meetings = 20 * 10 * 3;
    assert!(events < meetings * 16, "{events} events of {meetings} meetings");
}

/// A run with everything in it.
fn eventful(seed: u64) -> World {
    let mut setup = nine();
    setup.network.quality.loss_per_mille = 30;
    let mut world = World::new(seed, &setup);
    let client = world.add_client(&setup, policy());
    for round in 0..5u8 {
        world.back_up(client, &[round; 300], 6, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        world.crash(4);
        world.run_for(Period::seconds(20));
        world.start(4);
    }
    world.vanish(&"provider=p2".parse().unwrap());
    world.run_for(Period::seconds(120));
    world
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let (first, again, other) = (eventful(1), eventful(1), eventful(2));
    assert!(first.trace().events() > 1000);
    assert_eq!(first.trace().digest(), again.trace().digest());
    assert!(first.trace().tail().eq(again.trace().tail()));
    assert_ne!(first.trace().digest(), other.trace().digest());
}

#[test]
fn drawn_plans_break_no_promise_and_run_the_same_twice() {
    let (ran, found) = fuzz(None, 0..12);
    if let Some(Found { seed, violation, .. }) = found {
        panic!("seed {seed}: {violation:#?}");
    }
    assert_eq!(ran, 12);
    let plan = fuzz_plan(7);
    assert_eq!(run(&plan, 7), run(&plan, 7));
    assert_ne!(run(&plan, 7).digest, run(&plan, 8).digest);
    let written = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&written).unwrap(), plan);
}

#[test]
fn ideal_signatures_change_nothing_that_matters() {
    for seed in [3, 11] {
        let plan = fuzz_plan(seed);
        let (ideal, real) = (run(&plan, seed), run_really_signed(&plan, seed));
        let told = |outcome: &Outcome| {
            let Measures { committed, released, lost, backups, restores, .. } = &outcome.measures;
            (outcome.verdict, *committed, *released, lost.clone(), backups.len(), *restores)
        };
        assert_eq!(told(&ideal), told(&real), "seed {seed}");
        assert_eq!((ideal.violation, real.violation), (None, None), "seed {seed}");
    }
}

/// Plans that broke a promise once.
#[test]
fn what_failed_once_does_not_fail_again() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    let mut replayed = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let replay: Replay =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let violation = run(&replay.plan, replay.seed).violation;
        assert_eq!(violation, None, "{}: {}", path.display(), replay.about);
        replayed += 1;
    }
    assert!(replayed > 0);
}

fn backups(times: u64) -> Plan {
    let setup = Setup::over_providers(6, 3);
    let mut policy = policy();
    policy.lock.period = Period::seconds(3600);
    policy.lock.release_cooldown = Period::seconds(600);
    let vault = VaultSetup {
        operator: setup.nodes[0].operator.clone(),
        policy,
        outside: Vec::new(),
        guardians: None,
        code: None,
        stripe_len: 300,
        placed: Vec::new(),
        allow_degraded: false,
    };
    let back_up = |at| Step {
        at: Period::seconds(60 + 1200 * at),
        what: What::BackUp { vault: 0, stripes: 3, changed_per_mille: 300 },
    };
    Plan {
        name: "backups".into(),
        setup,
        vaults: vec![vault],
        steps: (0..times).map(back_up).collect(),
        duration: Period::seconds(4 * 3600),
        sample: Period::seconds(600),
    }
}

fn with(mut plan: Plan, at: u64, what: What) -> Plan {
    plan.steps.push(Step { at: Period::seconds(at), what });
    plan
}

#[test]
fn a_lost_provider_leaves_everything_readable_and_below_policy() {
    let provider = Who::Label("provider=p1".into());
    let plan = with(backups(3), 7000, What::Vanish(provider));
    let plan = with(plan, 8000, What::Restore { vault: 0 });
    let plan = with(plan, 9000, What::Recover { vault: 0, by: 0 });
    let Outcome { verdict, measures, violation, .. } = run(&plan, 1);
    assert_eq!((verdict, violation), (Verdict::Degraded, None));
    assert_eq!(measures.restores, (2, 0));
    assert!(measures.committed >= 3 && measures.destroyed_at.is_none());
    let last = measures.timeline.last().unwrap();
    assert_eq!((last.readable, last.below_policy), (last.stripes, last.stripes));
}

fn vanish(provider: &str) -> What {
    What::Vanish(Who::Label(format!("provider={provider}")))
}

/// Twelve nodes of four providers, and stripes of four shards: there are nodes to spare.
fn spacious() -> Plan {
    let mut plan = backups(3);
    plan.setup = Setup::over_providers(12, 4);
    plan.setup.peer.patience = Period::seconds(3600);
    plan.vaults[0].code = Some((2, 4));
    plan.vaults[0].operator = plan.setup.nodes[0].operator.clone();
    // Nobody extends locks here for so long, and nobody asks for anything to be released.
    plan.duration = Period::seconds(12 * 3600);
    plan
}

#[test]
fn three_providers_of_four_may_be_lost_one_after_the_other_with_repair_in_between() {
    let losses = |every: u64| {
        let lose = |plan, (at, provider)| with(plan, 5000 + at * every, vanish(provider));
        [(0, "p1"), (1, "p2"), (2, "p3")].into_iter().fold(spacious(), lose)
    };
    let plan = with(losses(3 * 3600), 11 * 3600, What::Restore { vault: 0 });
    let plan = with(plan, 11 * 3600 + 600, What::Recover { vault: 0, by: 0 });
    for seed in 0..2 {
        let Outcome { verdict, measures, violation, .. } = run(&plan, seed);
        // One provider cannot satisfy the policy, and has everything.
        assert_eq!((verdict, violation), (Verdict::Degraded, None), "seed {seed}");
        assert_eq!(measures.restores, (2, 0), "seed {seed}");
        let at_once = run(&losses(60), seed);
        assert_eq!((at_once.verdict, at_once.violation), (Verdict::Destroyed, None));
    }
}

#[test]
fn an_outage_within_the_patience_moves_nothing() {
    let provider = Who::Label("provider=p1".into());
    let dark = What::Dark { who: provider, period: Period::seconds(3000) };
    let (quiet, dark) = (run(&spacious(), 1), run(&with(spacious(), 5000, dark), 1));
    assert_eq!((dark.verdict, dark.violation), (Verdict::Survived, None));
    assert_eq!(dark.measures.rebuilt, 0);
    assert_eq!(quiet.measures.rebuilt, 0);
    let lost = run(&with(spacious(), 5000, vanish("p1")), 1);
    assert!(lost.measures.rebuilt > 0);
}

/// Messages of a day, by the timeline.
fn messages_of_day(outcome: &Outcome, day: u64) -> u64 {
    let until = |day: u64| {
        let samples = outcome.measures.timeline.iter();
        samples.take_while(|s| s.at <= Period::days(day)).last().map_or(0, |s| s.messages)
    };
    until(day + 1) - until(day)
}

#[test]
fn what_cannot_be_repaired_is_asked_about_ever_less_often() {
    let mut plan = with(backups(1), 2 * 86_400, vanish("p1"));
    plan.setup.peer.exchange_period = Period::seconds(3600);
    (plan.duration, plan.sample) = (Period::days(12), Period::seconds(3600));
    let outcome = run(&plan, 1);
    assert_eq!((outcome.verdict, outcome.violation.as_ref()), (Verdict::Degraded, None));
    let (before, after) = (messages_of_day(&outcome, 1), messages_of_day(&outcome, 11));
    assert!(after <= before, "{after} messages a day, and {before} before anything was lost");
}

#[test]
fn whoever_has_the_keys_and_patience_destroys_only_what_nobody_keeps_backing_up() {
    let attack = || {
        let release = Attack::Release { vault: 0, guardians: 0, dated_ms: 0 };
        What::Attack(release)
    };
    // The owner goes on: the locks last.
    let kept = with(backups(12), 5000, attack());
    assert_eq!(run(&kept, 1).verdict, Verdict::Survived);
    // The owner stops, the locks end, and there are no guardians.
    let left = with(backups(1), 5000, attack());
    let outcome = run(&left, 1);
    assert_eq!((outcome.verdict, outcome.violation), (Verdict::Destroyed, None));
    assert!(outcome.measures.destroyed_at.unwrap() > Period::seconds(5600));
}

#[test]
fn the_cheapest_domains_that_destroy_are_found() {
    let level = protocol::label::Level::new("provider").unwrap();
    let strike = |most| What::Attack(Attack::Cheapest { level: level.clone(), most });
    let one = run(&with(backups(1), 5000, strike(1)), 1);
    assert_eq!((one.verdict, one.violation), (Verdict::Degraded, None));
    let two = run(&with(backups(1), 5000, strike(2)), 1);
    assert_eq!((two.verdict, two.measures.lost.len()), (Verdict::Destroyed, 2));
}

/// The vault's key asks every node, over and over, for everything to be given up at once.
fn strike(world: &mut World, client: usize, stored: &[Stored]) {
    let vault = world.client(client).vault_key().clone();
    let issued = EPOCH.after(Period(world.now().0));
    let mut stripes: Vec<StripeId> = stored.iter().map(|stored| stored.stripe.id()).collect();
    stripes.sort_unstable();
    let expires = issued.after(Period::days(80));
    let request = ReleaseRequest { vault: vault.public().into(), issued, expires, stripes };
    let request = Signed::sign(&request, &vault);
    for node in 0..world.nodes() {
        let request = request.clone();
        world.say(client, node, Request::Release { request, approvals: Vec::new(), from: 0 });
    }
}

#[test]
fn a_stolen_vault_key_releases_nothing_before_its_lock_ends_whatever_crashes() {
    for seed in 0..3 {
        let setup = Setup::over_providers(3, 3);
        let mut policy = policy();
        policy.lock.period = Period::seconds(3600);
        policy.lock.release_cooldown = Period::seconds(600);
        let mut world = World::new(seed, &setup);
        let client = world.add_client(&setup, policy);
        let stored: Vec<Stored> =
            (0..5u8).map(|i| world.back_up(client, &[i; 300], 2, &[0, 1, 2])).collect();
        assert!(world.run_until(Period::seconds(60), |world| world.client(client).is_done()));
        // Every step checks that nothing is dropped too early.
        while world.now() < Mono(3_000_000) {
            strike(&mut world, client, &stored);
            let node = (world.random().number() % 3) as usize;
            world.crash(node);
            // Not for so long that the client gives up dialing it for most of an hour.
            world.run_for(Period::seconds(60));
            world.start(node);
            world.run_for(Period::seconds(180));
        }
        // What could not be said while a node was down is said soon after.
        let is_said = world.run_until(Period::seconds(600), |world| world.client(client).is_done());
        assert!(is_said && world.dropped() == 0, "seed {seed}");
        world.run_for(Period::seconds(7200));
        assert_eq!(world.dropped(), 0, "seed {seed}: time alone drops nothing");
        strike(&mut world, client, &stored);
        world.run_for(Period::seconds(500));
        assert_eq!(world.dropped(), 0, "seed {seed}: not before the cooldown is over");
        for _ in 0..8 {
            // Also in the middle of it.
            let pause = world.random().between(Period(0), Period::seconds(60));
            world.run_for(pause);
            let node = (world.random().number() % 3) as usize;
            world.crash(node);
            world.start(node);
        }
        world.run_for(Period::seconds(3600));
        assert_eq!(world.dropped(), 15, "seed {seed}");
        assert!((0..3).all(|node| world.disk(node).shards() == 0), "seed {seed}");
    }
}
