//! When the moments came for which something of a plan waits. It is seen from outside: the world drops from those that wait whom it lets
//! strike, and what strikes changes nothing else here.

use crate::plan::{Moment, Plan, Waited, What};
use protocol::time::Period;

/// The steps of a plan that wait for a moment.
#[derive(Debug, Default)]
pub(crate) struct Moments<'a> {
    /// In the order in which they happen, with what is done then.
    all: Vec<(Waited, &'a What)>,
    /// So many of them have begun to wait, or struck at once.
    begun: usize,
    /// So many waited when somebody last looked.
    waiting: usize,
}

impl<'a> Moments<'a> {
    pub(crate) fn of(plan: &'a Plan) -> Self {
        let waits = plan.steps.iter().enumerate().filter_map(|(step, at)| match &at.what {
            What::Lurk { until, then } => {
                let waited = Waited { step, until: *until, from: at.at, came: None };
                Some((waited, &**then))
            }
            _ => None,
        });
        let mut all: Vec<(Waited, &What)> =
            waits.filter(|(waited, _)| waited.from <= plan.duration).collect();
        // As the world takes them.
        all.sort_by_key(|(waited, _)| waited.from);
        Self { all, begun: 0, waiting: 0 }
    }

    /// Looks who waits after an event.
    pub(crate) fn look(&mut self, now: Period, waiting: &[(Moment, What)]) {
        let next = self.all.get(self.begun).map(|(waited, _)| waited.from);
        if waiting.len() == self.waiting && next.is_none_or(|next| now < next) {
            return;
        }
        self.waiting = waiting.len();
        // Those that wait do so in the order in which they began. Of two that are alike either both strike, or neither.
        let mut rest = waiting.iter();
        let mut is_waiting = vec![false; self.all.len()];
        let mut begun = self.begun;
        for (index, (waited, then)) in self.all.iter().enumerate() {
            if waited.came.is_some() || waited.from > now {
                continue;
            }
            let is_it = |(until, what): &(Moment, What)| *until == waited.until && what == *then;
            if let Some(at) = rest.clone().position(is_it) {
                rest.nth(at);
                is_waiting[index] = true;
                begun = begun.max(index + 1);
            }
        }
        for (index, (waited, _)) in self.all.iter_mut().enumerate() {
            if waited.came.is_some() || is_waiting[index] || waited.from > now {
                continue;
            }
            if index < self.begun {
                waited.came = Some(now);
            } else if index < begun || waited.from < now {
                // It struck in the event in which it would have begun to wait.
                waited.came = Some(waited.from);
                begun = begun.max(index + 1);
            }
        }
        self.begun = begun;
    }

    /// All that the plan has happen has happened.
    pub(crate) fn end(&mut self, waiting: &[(Moment, What)]) {
        self.look(Period(u64::MAX), waiting);
    }

    pub(crate) fn all(self) -> Vec<Waited> {
        self.all.into_iter().map(|(waited, _)| waited).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Step;
    use crate::setup::Setup;

    fn waits(steps: &[(u64, Moment, What)]) -> Plan {
        let step = |(at, until, then): &(u64, Moment, What)| {
            let what = What::Lurk { until: *until, then: Box::new(then.clone()) };
            Step { at: Period(*at), what }
        };
        let mut steps: Vec<Step> = steps.iter().map(step).collect();
        steps.insert(1, Step { at: Period(0), what: What::Heal });
        let setup = Setup::over_providers(3, 3);
        let (name, vaults, sample) = (String::new(), Vec::new(), Period(0));
        Plan { name, setup, vaults, steps, duration: Period(100), sample }
    }

    /// When each came, where this is seen at these times; who waits is meant by number.
    fn seen(steps: &[(u64, Moment, What)], looks: &[(u64, &[usize])]) -> Vec<Option<u64>> {
        let plan = waits(steps);
        let mut moments = Moments::of(&plan);
        let waiting = |who: &[usize]| -> Vec<(Moment, What)> {
            who.iter().map(|&i| (steps[i].1, steps[i].2.clone())).collect()
        };
        for (now, who) in looks {
            moments.look(Period(*now), &waiting(who));
        }
        moments.end(&waiting(looks.last().map_or(&[], |(_, who)| who)));
        let all = moments.all();
        assert!(all.iter().zip([0, 2, 3]).all(|(waited, step)| waited.step == step));
        all.into_iter().map(|waited| waited.came.map(|came| came.0)).collect()
    }

    #[test]
    fn who_waits_no_more_struck_then_and_who_never_waited_struck_at_once() {
        let heals = |at, until| (at, until, What::Heal);
        let steps = [heals(10, Moment::Cooling), heals(10, Moment::Repairing)];
        // The first strikes at 17; the second would have been the third event at 10.
        let looks: [(u64, &[usize]); 5] = [(5, &[]), (10, &[]), (10, &[0]), (17, &[]), (40, &[])];
        assert_eq!(seen(&steps, &looks), [Some(17), Some(10)]);
        // The first had struck when the second began.
        assert_eq!(seen(&steps, &[(10, &[]), (10, &[1]), (30, &[1])]), [Some(10), None]);
        assert_eq!(seen(&steps, &[(10, &[0]), (10, &[0, 1]), (30, &[0])]), [None, Some(30)]);
        // Nothing happens between them and the end.
        assert_eq!(seen(&steps, &[(10, &[0])]), [None, Some(10)]);
        assert_eq!(seen(&[heals(10, Moment::Cooling)], &[(9, &[])]), [Some(10)]);
    }

    #[test]
    fn those_that_are_alike_are_told_apart_by_when_they_began() {
        let of = |at| (at, Moment::Repairing, What::Start(crate::plan::Who::All));
        let steps = [of(10), of(20), of(30)];
        let looks: [(u64, &[usize]); 6] =
            [(10, &[0]), (20, &[0, 1]), (25, &[]), (30, &[2]), (31, &[2]), (32, &[])];
        assert_eq!(seen(&steps, &looks), [Some(25), Some(25), Some(32)]);
        // One goes in the event in which another comes that is not like it.
        let other = [of(10), (20, Moment::LockEnded, What::Heal)];
        assert_eq!(seen(&other, &[(10, &[0]), (20, &[1]), (50, &[1])]), [Some(20), None]);
    }
}
