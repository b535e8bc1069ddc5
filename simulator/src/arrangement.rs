//! Backups that are not Strewn: a small model of whole copies, so that the same loss can be played against them.
//!
//! What it assumes, in favour of copies where in doubt:
//! - A copy is whole, or gone. As long as one that works is left and can be reached, everything can be read.
//! - Whoever has the panel of a domain deletes at once all that the panel can delete: copies that lie there or whose keys name it.
//! - The owner's keys delete every copy whose keys name `owner`, which is all of them unless the file says otherwise: who can
//!   write a copy can delete it, where nothing prevents that.
//! - Object lock in compliance mode withstands the panel of an account and the owner's keys, for as long as it lasts; the account is
//!   then out of reach for [`REGAIN`]. In governance mode it withstands neither, since both can lift it. No lock withstands fire, the
//!   end of a provider, or somebody inside the provider (a deletion by `provider=` or `operator=`).
//! - Each state of a copy is a version with a lock of its own, `lock_period` long from when it was written, and written whole: what did not
//!   change is locked anew with it. (Where only what changed is written, locks of the rest end silently, and it is worse than here.) Whoever
//!   has the keys deletes each version whose lock is over, at once or as soon as it is within [`REGAIN`]; the newest is the last to go,
//!   so that the copy is lost when that one's lock is over. Nobody lengthens or shortens a lock. A lock that is over deletes nothing by itself.
//! - Nothing is written to a copy that is dark or in somebody's hands, nor to any but the first once backups were stopped.
//! - With notice a copy is saved if moving it (`drain`) takes no longer than the notice.
//! - The first copy is the one that work goes on with. When it is lost or dark, another serves after its `restore`.
//! - Copies do not rot, and copying never fails unless the file says `works = false`.

use crate::plan::{Measures, Outcome, Sample, Verdict, Who};
use crate::scenario::{Copied, Event, Hit, Lock, Scenario};
use protocol::time::Period;

/// How long until an account that somebody else had is its owner's again.
pub const REGAIN: Period = Period::days(7);
/// How often the model looks.
const SAMPLE: Period = Period::seconds(3600);

fn later(at: Period, period: Period) -> Period {
    Period(at.0.saturating_add(period.0))
}

#[derive(Debug)]
struct Copy<'a> {
    is: &'a Copied,
    /// Work goes on with it: it is no backup that could be stopped.
    is_work: bool,
    lost: Option<Period>,
    dark_until: Period,
    /// After when, and until when, nothing was written to it.
    unwritten: Vec<(Period, Period)>,
}

impl Copied {
    fn lies_in(&self, who: &Who) -> bool {
        match who {
            Who::All => true,
            Who::Label(label) => self.labels.contains(label),
            Who::Node(_) | Who::Device(_) => false,
        }
    }

    /// Whether something of this kind does anything to it.
    pub(crate) fn is_struck_by(&self, hit: &Hit) -> bool {
        match hit {
            Hit::Destroy(who) | Hit::Dark(who, _) => self.lies_in(who),
            Hit::Delete(who) => {
                let has_key = matches!(who, Who::Label(label) if self.keys.contains(label));
                has_key || self.lies_in(who)
            }
            Hit::Close(who, notice) => self.lies_in(who) && self.drain > *notice,
            Hit::StealKeys(_) => self.keys.iter().any(|key| key == "owner"),
            Hit::StopBackups | Hit::Step(_) => false,
        }
    }
}

/// Whether whoever has this domain's panel is inside the provider, and not just an account's user.
fn is_inside(who: &Who) -> bool {
    !matches!(who, Who::Label(label) if label.starts_with("account="))
}

impl<'a> Copy<'a> {
    fn all(copies: &'a [Copied]) -> Vec<Self> {
        let copy = |(index, is)| Self {
            is,
            is_work: index == 0,
            lost: None,
            dark_until: Period(0),
            unwritten: Vec::new(),
        };
        copies.iter().enumerate().map(copy).collect()
    }

    fn lose(&mut self, at: Period) {
        self.lost = Some(self.lost.map_or(at, |lost| lost.min(at)));
    }

    fn hide(&mut self, at: Period, period: Period) {
        let until = later(at, period);
        self.dark_until = self.dark_until.max(until);
        self.unwritten.push((at, until));
    }

    fn hit(&mut self, event: &Event) {
        let at = event.at;
        if matches!(event.hit, Hit::StopBackups) && !self.is_work {
            self.unwritten.push((at, Period(u64::MAX)));
        }
        if !self.is.is_struck_by(&event.hit) {
            return;
        }
        match &event.hit {
            Hit::Dark(_, period) => self.hide(at, *period),
            Hit::Close(_, notice) => self.lose(later(at, *notice)),
            Hit::Delete(who) if is_inside(who) => self.lose(at),
            Hit::Delete(_) | Hit::StealKeys(_) if self.is.lock == Lock::Compliance => {
                let is_over = self.lock_over(at);
                self.hide(at, REGAIN);
                if is_over < later(at, REGAIN) {
                    self.lose(is_over.max(at));
                }
            }
            Hit::Destroy(_) | Hit::Delete(_) | Hit::StealKeys(_) => self.lose(at),
            Hit::StopBackups | Hit::Step(_) => {}
        }
    }

    /// When the lock is over of what was newest at a time.
    fn lock_over(&self, at: Period) -> Period {
        let after = |period| later(self.newest(at), period);
        self.is.lock_period.map_or(Period(u64::MAX), after)
    }

    /// The newest state in it at a time.
    fn newest(&self, at: Period) -> Period {
        let mut at = self.lost.unwrap_or(at).min(at);
        loop {
            let state = match self.is.every.0 {
                0 => at,
                every => Period(at.0 / every * every),
            };
            let gap = self.unwritten.iter().find(|(after, until)| *after < state && state < *until);
            match gap {
                // What was written last before it; each turn goes further back.
                Some((after, _)) => at = *after,
                None => return state,
            }
        }
    }
}

/// When each copy is lost, of those that are before the end.
pub(crate) fn losses(scenario: &Scenario, copies: &[Copied], seed: u64) -> Vec<Option<Period>> {
    let mut copies = Copy::all(copies);
    for event in scenario.drawn(seed) {
        for copy in &mut copies {
            copy.hit(&event);
        }
    }
    copies.iter().map(|copy| copy.lost.filter(|lost| *lost <= scenario.duration)).collect()
}

/// What came of copies.
#[derive(Debug)]
pub struct Copies {
    /// The same form as what comes of a plan.
    pub outcome: Outcome,
    /// How much work is lost: from the newest state left to the first time that anything was lost; `None` when nothing was
    /// lost, or everything.
    pub work_lost: Option<Period>,
}

/// Plays a scenario against copies. The seed draws what has a rate.
#[must_use]
pub fn play(scenario: &Scenario, copies: &[Copied], seed: u64) -> Copies {
    let mut copies = Copy::all(copies);
    let mut events = scenario.drawn(seed).into_iter().peekable();
    let (mut timeline, mut needed_since) = (Vec::new(), None);
    let stripes = u64::from(scenario.workload.stripes);
    let mut destroyed_at = None;
    let mut now = Period(0);
    let verdict = loop {
        while let Some(event) = events.next_if(|event| event.at <= now) {
            for copy in &mut copies {
                copy.hit(&event);
            }
        }
        // A notice that has not run out is no loss yet.
        let here = |copy: &Copy<'_>| copy.is.works && copy.lost.is_none_or(|lost| lost > now);
        let reachable = |copy: &Copy<'_>| here(copy) && now >= copy.dark_until;
        if copies.first().is_some_and(&reachable) {
            needed_since = None;
        } else if needed_since.is_none() {
            needed_since = Some(now);
        }
        let serves = |copy: &Copy<'_>| {
            let from = needed_since.unwrap_or_default().max(copy.dark_until);
            reachable(copy) && now.0 >= from.0.saturating_add(copy.is.restore.0)
        };
        let readable = needed_since.is_none() || copies.iter().skip(1).any(serves);
        let left = copies.iter().filter(|copy| here(copy)).count();
        if left == 0 && destroyed_at.is_none() {
            destroyed_at = Some(now);
        }
        let works = copies.iter().filter(|copy| copy.is.works).count();
        let share = |is: bool| if is { stripes } else { 0 };
        timeline.push(Sample {
            at: now,
            stripes,
            readable: share(readable),
            below_policy: share(left < works),
            destroyed: share(left == 0),
            nodes_up: copies.iter().filter(|copy| reachable(copy)).count() as u64,
            ..Sample::default()
        });
        if now >= scenario.duration {
            break match (readable, left) {
                (_, 0) => Verdict::Destroyed,
                (false, _) => Verdict::Unreachable,
                (true, left) if left < works => Verdict::Degraded,
                (true, _) => Verdict::Survived,
            };
        }
        now = Period(now.0.saturating_add(SAMPLE.0)).min(scenario.duration);
    };
    // A notice, or a lock, that lasts longer than the run is no loss.
    let lost_at = |copy: &Copy<'_>| copy.lost.filter(|lost| *lost <= scenario.duration);
    let mut lost: Vec<(Period, String)> =
        copies.iter().filter_map(|copy| Some((lost_at(copy)?, copy.is.labels.join(" ")))).collect();
    lost.sort_by_key(|(at, _)| *at);
    let first = copies.iter().filter(|copy| copy.is.works).filter_map(lost_at).min();
    let is_left = |copy: &&Copy<'_>| copy.is.works && lost_at(copy).is_none();
    let newest = |at| copies.iter().filter(is_left).map(|c| c.newest(at)).max();
    let work_lost = first.and_then(|at| Some(Period(at.0 - newest(at)?.0.min(at.0))));
    let measures =
        Measures { timeline, committed: stripes, destroyed_at, lost, ..Measures::default() };
    let digest = String::from("-");
    Copies { outcome: Outcome { seed, verdict, violation: None, measures, digest }, work_lost }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Kind, read};
    use proptest::prelude::*;

    /// The work, and a daily copy beside it under a lock; two days are past when the events begin.
    fn beside(lock: &str, events: &[(u64, &str)]) -> Scenario {
        let event =
            |(hour, what): &(u64, &str)| format!("[[event]]\nat = \"{hour}h\"\nwhat = {what}\n");
        let events: String = events.iter().map(event).collect();
        let text = format!(
            "name = \"beside\"\ntitle = \"A lock\"\nduration = \"60d\"\n{events}\
             [[arrangement]]\nname = \"a\"\ntitle = \"a\"\nexpect = [\"survived\"]\n\
             [[arrangement.copy]]\nlabels = [\"account=main\"]\n\
             [[arrangement.copy]]\nlabels = [\"account=main\"]\nevery = \"1d\"\n{lock}\n"
        );
        read("beside.toml", &text).unwrap()
    }

    fn played(scenario: &Scenario) -> Copies {
        let Kind::Copies(copies) = &scenario.arrangements[0].kind else { panic!() };
        play(scenario, copies, 1)
    }

    const HOUR: u64 = 3_600_000;
    const DELETED: (u64, &str) = (132, "\"delete\"\nin = \"account=main\"");
    const STOPPED: (u64, &str) = (40, "\"stop-backups\"");

    #[test]
    fn a_copy_is_gone_when_the_newest_lock_ends_while_somebody_has_the_account() {
        let of = |lock: &str| played(&beside(lock, &[DELETED])).outcome;
        for held in ["lock = \"compliance\"", "lock = \"compliance\"\nlock_period = \"180h\""] {
            assert_eq!(
                (of(held).verdict, of(held).measures.destroyed_at),
                (Verdict::Degraded, None)
            );
        }
        // The newest state is twelve hours old, and the account comes back after seven days.
        for (lock, hour) in [("179h", 299), ("1d", 144), ("12h", 132), ("1h", 132)] {
            let of = of(&format!("lock = \"compliance\"\nlock_period = \"{lock}\""));
            assert_eq!(of.measures.destroyed_at, Some(Period(hour * HOUR)), "{lock}");
            assert_eq!(of.verdict, Verdict::Destroyed);
        }
        let lifted = of("lock = \"governance\"\nlock_period = \"180h\"");
        assert_eq!(lifted.measures.destroyed_at, Some(Period(132 * HOUR)));
        let stolen = [(132, "\"steal-keys\"")];
        let of = |lock: &str| played(&beside(lock, &stolen)).outcome.verdict;
        assert_eq!(of("lock = \"compliance\"\nlock_period = \"8d\""), Verdict::Degraded);
        assert_eq!(of("lock = \"compliance\"\nlock_period = \"2d\""), Verdict::Destroyed);
    }

    #[test]
    fn locks_run_out_where_backups_were_stopped_and_nobody_noticed() {
        let of = |period: &str, events: &[(u64, &str)]| {
            played(&beside(&format!("lock = \"compliance\"\nlock_period = \"{period}\""), events))
        };
        let struck = (540, DELETED.1);
        // Locked until hour 24 + 240 without a new state; the strike is at 540.
        let out = of("10d", &[STOPPED, struck]).outcome;
        assert_eq!(out.measures.destroyed_at, Some(Period(540 * HOUR)));
        assert_eq!(of("10d", &[struck]).outcome.verdict, Verdict::Degraded);
        let kept = of("30d", &[STOPPED, struck]);
        assert_eq!(kept.outcome.verdict, Verdict::Degraded);
        assert_eq!(kept.work_lost, Some(Period((540 - 24) * HOUR)));
        // Nothing is written either to what is dark.
        let dark = (30, "\"dark\"\nin = \"account=main\"\nperiod = \"400h\"");
        let of = |at| of("10d", &[dark, (at, DELETED.1)]).outcome.measures.destroyed_at;
        assert_eq!((of(429), of(431)), (Some(Period(429 * HOUR)), Some(Period(431 * HOUR))));
        assert_eq!(of(433), None);
    }

    #[test]
    fn a_notice_or_a_lock_beyond_the_end_is_no_loss() {
        let closed = (59 * 24, "\"close\"\nin = \"account=main\"\nnotice = \"14d\"");
        let of = played(&beside("", &[closed]));
        assert_eq!((of.outcome.verdict, of.outcome.measures.lost), (Verdict::Survived, Vec::new()));
        assert_eq!(of.work_lost, None);
    }

    proptest! {
        #[test]
        fn a_longer_lock_never_loses_a_copy_sooner(
            short in 1u64..400, longer in 0u64..400, at in prop::collection::vec((1u64..1400, 0usize..4), 0..6),
        ) {
            let whats = [DELETED.1, STOPPED.1, "\"steal-keys\"", "\"dark\"\nin = \"account=main\"\nperiod = \"90h\""];
            let events: Vec<(u64, &str)> = at.iter().map(|&(hour, what)| (hour, whats[what])).collect();
            let lost = |period: u64| {
                let lock = format!("lock = \"compliance\"\nlock_period = \"{period}h\"");
                let scenario = beside(&lock, &events);
                let Kind::Copies(copies) = &scenario.arrangements[0].kind else { panic!() };
                let lost = losses(&scenario, copies, 1)[1];
                // What is asked of the model as it goes is what came of it.
                let played = play(&scenario, copies, 1).outcome.measures;
                assert!(lost.is_none() || played.lost.iter().any(|(at, _)| Some(*at) == lost));
                lost.map_or(u64::MAX, |lost| lost.0)
            };
            prop_assert!(lost(short) <= lost(short + longer));
        }
    }
}
