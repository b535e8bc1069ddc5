//! Losses that are to be repaired, and somebody who strikes while that is done. Stripes have spare nodes in such plans.

use super::{Drawing, add};
use crate::plan::{Attack, Moment, Step, What, Who};
use protocol::time::Period;

pub(super) fn losses(drawing: &mut Drawing, steps: &mut Vec<Step>) {
    if !drawing.repairs {
        return;
    }
    let times = 1 + drawing.below(3);
    for _ in 0..times {
        let at = drawing.random.between(Period::seconds(900), Period(drawing.busy.0 * 2 / 3));
        let node = |drawing: &mut Drawing| Who::Node(drawing.below(drawing.nodes as u64) as usize);
        let who = node(drawing);
        let away = drawing.random.between(Period::seconds(60), Period(2 * drawing.patience.0));
        let loss = match drawing.below(6) {
            0 | 1 => What::Vanish(who),
            2 => What::Vanish(Who::Label(format!(
                "provider=p{}",
                drawing.below(drawing.providers as u64)
            ))),
            3 => What::Rot { who, per_mille: 500, loud: drawing.below(2) == 0 },
            4 => What::Restart { who, after: away },
            _ => What::Dark { who, period: away },
        };
        add(steps, at, loss);
        let (who, after) = (node(drawing), drawing.while_());
        let strike = match drawing.below(6) {
            0 | 1 => What::Attack(Attack::Repairer),
            2 => What::Seize(who),
            3 => What::Restart { who, after },
            4 => What::Dark { who, period: after },
            _ => What::Vanish(who),
        };
        add(steps, at, What::Lurk { until: Moment::Repairing, then: Box::new(strike) });
    }
}
