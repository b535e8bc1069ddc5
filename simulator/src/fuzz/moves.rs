//! Nodes whose operators take them away, and nodes that come to lie elsewhere, while everything else goes on.

use super::{Drawing, add};
use crate::plan::{Step, What, Who};
use protocol::label::{Label, Labels};
use protocol::time::Period;

pub(super) fn moves(drawing: &mut Drawing, steps: &mut Vec<Step>) {
    if !drawing.moves {
        return;
    }
    let times = 1 + drawing.below(4);
    for _ in 0..times {
        let at = drawing.random.between(Period::seconds(900), Period(drawing.busy.0 * 2 / 3));
        let who = Who::Node(drawing.below(drawing.nodes as u64) as usize);
        if drawing.below(3) == 0 {
            let (provider, region) = (drawing.below(drawing.providers as u64), drawing.below(2));
            let labels = [format!("provider=p{provider}"), format!("region=r{region}")];
            let labels = labels.map(|label| -> Label {
                label.parse().expect("a level and a number make a label")
            });
            let labels = Labels::new(labels).expect("two labels of different levels");
            add(steps, at, What::Relabel { who, labels });
        } else {
            add(steps, at, What::Leave(who.clone()));
            let later = drawing.while_();
            if drawing.below(4) == 0 {
                add(steps, Period(at.0 + later.0), What::Stay(who));
            }
        }
    }
}
