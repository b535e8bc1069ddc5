//! Operators who share no administrator: each trusts its partners alone, as far as they agreed. Some take more than that, some leave, and
//! some help each other to blame a third. Drawn upon what a plan has otherwise.

use super::{Drawing, add};
use crate::plan::{Attack, Step, VaultSetup, What, Who};
use crate::setup::Setup;
use crate::swap::Swap;
use protocol::label::Level;
use protocol::policy::Clause;
use protocol::time::Period;
use std::collections::BTreeMap;

/// How long terms are that do not end while somebody looks.
const LONG: Period = Period::days(1000);
/// Of a shard somebody asks once in this time where somebody is slandered.
const AUDITS: Period = Period::seconds(3600);

/// Most nodes.
const NODES_MAX: usize = 9;
/// The shortest time between two exchanges.
const EXCHANGE: Period = Period::seconds(480);

fn name(operator: usize) -> String {
    format!("operator {operator}")
}

fn swap(drawing: &mut Drawing, between: [usize; 2], nodes: [u64; 2]) -> Swap {
    let mut gives = |nodes: u64| nodes * (1024 << drawing.below(5)) + drawing.below(3);
    let gives = [gives(nodes[0]), gives(nodes[1])];
    let lock_max = Period(drawing.lock.0 * (1 + drawing.below(3)) / (1 + drawing.below(8) / 7));
    let notice = drawing.while_();
    let is_short = drawing.below(5) == 0;
    let ends = drawing.random.between(Period::seconds(3600), drawing.busy);
    let ends = if is_short { ends } else { LONG };
    Swap { between: between.map(name), gives, lock_max, notice, ends }
}

/// Gives nodes to operators who swap, and vaults to two of those.
pub(super) fn begin(drawing: &mut Drawing, setup: &mut Setup, vaults: &mut [VaultSetup]) {
    // Small meshes: what goes wrong between operators shows in them.
    setup.nodes.truncate(NODES_MAX);
    let nodes = setup.nodes.len();
    drawing.nodes = nodes;
    setup.peer.exchange_period = setup.peer.exchange_period.max(EXCHANGE);
    let operators = 3 + drawing.below(nodes as u64 - 2) as usize;
    // One of them may have all nodes that are left, wherever they say they are.
    let is_sybil = drawing.below(2) == 0;
    let of = |node: usize| match node {
        node if node < operators => node,
        _ if is_sybil => 1,
        node => node % operators,
    };
    let mut counts = vec![0u64; operators];
    for (index, node) in setup.nodes.iter_mut().enumerate() {
        node.operator = name(of(index));
        counts[of(index)] += 1;
    }
    for one in 0..operators {
        for other in one + 1..operators {
            // Whoever has a vault deals with most, others with some.
            let per_mille = if one < vaults.len() { 850 } else { 400 };
            if drawing.random.happens(per_mille) {
                let swap = swap(drawing, [one, other], [counts[one], counts[other]]);
                setup.swaps.push(swap);
            }
        }
    }
    if setup.swaps.is_empty() {
        setup.swaps.push(swap(drawing, [0, 1], [counts[0], counts[1]]));
    }
    if drawing.random.happens(300) {
        setup.peer.vault_quota = Some(1024 << drawing.below(4));
    }
    for (index, vault) in vaults.iter_mut().enumerate() {
        let own = index.min(operators - 1);
        let is_partner = |other: usize| {
            own == other
                || setup.swaps.iter().any(|swap| {
                    swap.between.contains(&name(own)) && swap.between.contains(&name(other))
                })
        };
        vault.operator = name(own);
        vault.outside.extend((0..nodes).filter(|&node| !is_partner(of(node))));
        vault.outside.sort_unstable();
        vault.outside.dedup();
        if drawing.random.happens(700) {
            let level = Level::new("operator").expect("a level's name");
            vault.policy.survive.any[0] = Clause(BTreeMap::from([(level, 1)]));
        }
    }
    // Who is slandered is there and well, or else nobody could tell.
    drawing.slanders = drawing.random.happens(300);
    if drawing.slanders {
        setup.peer.audit_period = AUDITS;
        drawing.kinds.clear();
        (drawing.repairs, drawing.moves) = (false, false);
    }
}

/// What operators do.
pub(super) fn deeds(drawing: &mut Drawing, setup: &Setup, steps: &mut Vec<Step>) {
    if drawing.slanders {
        let swap = drawing.one_of(&setup.swaps);
        let [by, of] = swap.between;
        let at = drawing.random.between(Period::seconds(600), Period(drawing.busy.0 / 3));
        let mut by = vec![by];
        if drawing.below(4) == 0 {
            by.push(drawing.one_of(&setup.swaps).between[1].clone());
        }
        // They may delete what they hold, in the end.
        if drawing.below(2) == 0 {
            let later = drawing.random.between(at, drawing.busy);
            for operator in &by {
                let who = Who::Label(format!("operator={operator}"));
                add(steps, later, What::Seize(who));
            }
        }
        add(steps, at, What::Attack(Attack::Slander { by, of }));
    }
    for _ in 0..=drawing.below(3) {
        let at = drawing.random.between(Period::seconds(900), drawing.busy);
        let mut swap = drawing.one_of(&setup.swaps);
        let vault = drawing.vault();
        let lock = match drawing.below(3) {
            0 => swap.lock_max,
            1 => Period(swap.lock_max.0 * 2),
            _ => Period(swap.lock_max.0 / 2),
        };
        let (vaults, stripes) = (1 + drawing.below(3) as u32, 1 + drawing.below(6) as u32);
        let greed = What::Attack(Attack::Greed { vault, vaults, stripes, lock });
        match drawing.below(3) {
            0 => {
                let turned = drawing.below(2) as usize;
                let [by, to] = [turned, 1 - turned].map(|side| swap.between[side].clone());
                add(steps, at, What::Notice { by, to });
                add(steps, Period(at.0 + swap.notice.0 + 60_000), greed);
            }
            1 => {
                swap.gives = swap.gives.map(|gives| gives * drawing.below(5) / 2);
                swap.gives[0] = swap.gives[0].max(1);
                swap.ends = LONG;
                add(steps, at, What::Agree(swap));
                // Once all of its nodes have heard of it.
                let later = Period(at.0 + 2 * setup.peer.exchange_period.0 + 60_000);
                add(steps, later, greed);
            }
            _ => add(steps, at, greed),
        }
    }
}

/// Keys of operators are stolen and succeeded. (Drawn apart, too.)
pub(super) fn successions(drawing: &mut Drawing, setup: &Setup, steps: &mut Vec<Step>) {
    if drawing.slanders || !drawing.random.happens(500) {
        return;
    }
    for _ in 0..=drawing.below(2) {
        let side = drawing.below(2) as usize;
        let operator = drawing.one_of(&setup.swaps).between[side].clone();
        let at = drawing.random.between(Period::seconds(900), drawing.busy);
        // Once all nodes may have heard of it.
        let heard = 3 * setup.peer.exchange_period.0;
        for later in [at.0 + heard, drawing.busy.0.max(at.0) + heard] {
            let operator = operator.clone();
            add(steps, Period(later), What::Attack(Attack::OldKey { operator }));
        }
        add(steps, at, What::Succeed { operator });
    }
}
