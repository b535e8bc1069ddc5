//! Operators who share no administrator: what they hold for each other, and what they do not.

use super::*;
use crate::setup::operator_id;
use protocol::label::Labels;
use protocol::policy::{Clause, Clauses, Lock};
use std::collections::BTreeMap;

const HOUR: u64 = 3600;

fn name(operator: usize) -> String {
    format!("operator {operator}")
}

fn swap(with: usize, gives: u64) -> Swap {
    Swap {
        between: [name(0), name(with)],
        gives: [1 << 30, gives],
        lock_max: Period::days(2),
        notice: Period::seconds(2 * HOUR),
        ends: Period::days(1000),
    }
}

/// Operator 0 has a vault and two nodes, and swaps with so many others, who have one node each and hold so much for it.
fn mesh(gives: &[u64]) -> Setup {
    let nodes = [0, 0].into_iter().chain(1..=gives.len()).enumerate().map(|(index, operator)| {
        let labels = [format!("provider=p{operator}"), format!("region=r{}", index % 3)];
        let labels = Labels::new(labels.map(|label| label.parse().unwrap())).unwrap();
        NodeSetup { operator: name(operator), labels, ..NodeSetup::default() }
    });
    let swaps = (1..).zip(gives).map(|(with, &gives)| swap(with, gives)).collect();
    let peer = PeerSetup { exchange_period: Period::seconds(600), ..PeerSetup::default() };
    Setup { nodes: nodes.collect(), swaps, peer, ..Setup::over_providers(0, 1) }
}

/// Of which any one operator may be lost.
fn vault(operator: usize) -> VaultSetup {
    let clause = Clause(BTreeMap::from([("operator".parse().unwrap(), 1)]));
    let lock =
        Lock { period: Period::days(1), release_cooldown: Period::seconds(HOUR), guardians: None };
    let policy = Policy { survive: Clauses { any: vec![clause] }, lock, ..policy() };
    VaultSetup {
        operator: name(operator),
        policy,
        outside: Vec::new(),
        guardians: None,
        code: Some((4, 8)),
        stripe_len: 2048,
        allow_degraded: false,
        placed: Vec::new(),
    }
}

fn plan(setup: Setup, hours: u64, steps: Vec<(u64, What)>) -> Plan {
    let steps = steps.into_iter();
    let steps = steps.map(|(at, what)| Step { at: Period::seconds(at), what }).collect();
    Plan {
        name: "swaps".into(),
        setup,
        vaults: vec![vault(0)],
        steps,
        duration: Period::seconds(hours * HOUR),
        sample: Period(0),
    }
}

fn back_up(stripes: u32) -> What {
    What::BackUp { vault: 0, stripes, changed_per_mille: 0 }
}

/// Runs a plan, and gives the world as it is then.
fn played(plan: &Plan, seed: u64) -> World {
    let mut world = World::new(seed, &plan.setup);
    for (index, vault) in plan.vaults.iter().enumerate() {
        world.add_owner(index, vault);
    }
    for step in &plan.steps {
        let what = crate::world::Event::Do(Box::new(step.what.clone()));
        world.cause_at(Mono(step.at.0), what);
    }
    world.run_for(plan.duration);
    assert_eq!(world.checker_ref().broken, None);
    world
}

/// Bytes that each of the others' nodes holds for operator 0.
fn held(world: &World) -> Vec<u64> {
    let held = |node| world.checker_ref().held_for(node, operator_id(&name(0)));
    (2..world.nodes()).map(held).collect()
}

#[test]
fn what_lies_with_partners_is_spread_by_what_they_gave() {
    // Sixteen partners give one to four units each.
    let unit = 16 << 10;
    let gives: Vec<u64> = (0..16).map(|with| unit * (1 + with % 4)).collect();
    let plan =
        plan(mesh(&gives), 30, (1..=20).map(|b| (b * HOUR, back_up(b as u32 * 10))).collect());
    let world = played(&plan, 1);
    let held = held(&world);
    let (all, given) = (held.iter().sum::<u64>() as f64, gives.iter().sum::<u64>() as f64);
    let mut worst = (0.0f64, 0.0f64);
    for (held, gives) in held.iter().zip(&gives) {
        assert!(held <= gives, "{held} of {gives}");
        let (held, gives) = (*held as f64, *gives as f64);
        worst = (worst.0.max((held / all - gives / given).abs()), worst.1.max(held / gives));
    }
    println!(
        "{all} of {given} bytes used; the share of what is held differs from the share of what was given by {} at most; fullest {}",
        worst.0, worst.1
    );
    assert!(all > given * 0.5 && worst.0 < 0.03, "{all} of {given}: {worst:?}, {held:?}");
}

#[test]
fn twenty_operators_give_each_other_what_they_agreed_and_no_more() {
    let gives = vec![24 << 10; 19];
    let mut setup = mesh(&gives);
    // The second one has the nodes of five more, wherever these say they are.
    for node in 4..9 {
        setup.nodes[node].operator = name(2);
    }
    setup.swaps.retain(|swap| !(3..=7).any(|with| swap.between.contains(&name(with))));
    // It swaps with all others, too.
    for with in (8..20).chain([1]) {
        let between = [name(2), name(with)];
        setup.swaps.push(Swap { between, gives: [48 << 10, 24 << 10], ..swap(with, 0) });
    }
    let greed = |vault: usize| {
        What::Attack(Attack::Greed { vault, vaults: 3, stripes: 40, lock: Period::days(1) })
    };
    let notice = What::Notice { by: name(9), to: name(0) };
    let mut steps = vec![
        (HOUR, back_up(20)),
        (2 * HOUR, greed(1)),
        (2 * HOUR, What::Attack(Attack::Fill { vault: 0, stripes: 60 })),
        (2 * HOUR, notice),
        (3 * HOUR, What::Attack(Attack::Stranger)),
        (3 * HOUR, What::Vanish(Who::Label(format!("operator={}", name(10))))),
        // Two that help each other say that a third has nothing.
        (3 * HOUR, What::Attack(Attack::Slander { by: vec![name(11), name(12)], of: name(13) })),
        (5 * HOUR, greed(0)),
        (6 * HOUR, What::Restore { vault: 0 }),
    ];
    steps.push((4 * HOUR, back_up(25)));
    let mut plan = plan(setup, 9, steps);
    plan.setup.peer.patience = Period::seconds(HOUR);
    plan.vaults.push(vault(2));
    let world = played(&plan, 3);
    assert_eq!(world.restores, (1, 0));
    let held = held(&world);
    let full = held.iter().filter(|held| **held > (23 << 10)).count();
    assert!(full >= 2, "who is greedy fills what was given: {held:?}");
    // With all its nodes the second one has no more than one operator.
    let its = |node| world.checker_ref().held_for(node, operator_id(&name(2)));
    let most = (2..world.nodes()).filter(|node| !(3..9).contains(node)).map(its).max();
    assert!(most.is_some_and(|most| most > 0 && most <= 24 << 10), "{most:?}");
}

#[test]
fn who_has_only_a_key_that_was_succeeded_gets_nothing_and_what_was_agreed_goes_on() {
    let succeed = |operator| What::Succeed { operator: name(operator) };
    let thief = |operator| What::Attack(Attack::OldKey { operator: name(operator) });
    let mut steps = vec![
        (HOUR, back_up(10)),
        (2 * HOUR, succeed(0)),
        (2 * HOUR + 900, succeed(1)),
        // A lost key can be followed by the loss of the next one.
        (3 * HOUR, succeed(0)),
        (4 * HOUR, thief(0)),
        (4 * HOUR, thief(1)),
        (5 * HOUR, back_up(30)),
        (
            7 * HOUR,
            What::Attack(Attack::Greed { vault: 0, vaults: 1, stripes: 40, lock: Period::days(1) }),
        ),
        (8 * HOUR, What::Restore { vault: 0 }),
    ];
    let before = played(&plan(mesh(&[16 << 10; 8]), 2, vec![steps[0].clone()]), 5);
    // Agreements that are made, and notices that are given, by later keys count as well.
    let more = Swap { between: [name(0), name(1)], gives: [1 << 30, 24 << 10], ..swap(1, 0) };
    steps.push((5 * HOUR, What::Agree(more)));
    steps.push((5 * HOUR, What::Notice { by: name(0), to: name(2) }));
    let world = played(&plan(mesh(&[16 << 10; 8]), 10, steps), 5);
    assert_eq!(world.restores, (1, 0));
    let (before, after) = (held(&before), held(&world));
    // The second one was left by notice, and takes nothing since.
    for (with, (before, after)) in
        (1..).zip(before.iter().zip(&after)).filter(|(with, _)| *with != 2)
    {
        assert!(after >= &(2 * before), "{with} held {before} and holds {after}");
    }
    assert!(after[0] > 16 << 10, "what was agreed anew counts: {after:?}");
    // Each thief comes with the stolen key, with a line that parts, and as a node.
    assert_eq!(world.turned_away(), (6, 6));
}
