//! Backups that are not Strewn: a small model of whole copies, so that the same loss can be played against them.
//!
//! What it assumes, in favour of copies where in doubt:
//! - A copy is whole, or gone. As long as one that works is left and can be reached, everything can be read.
//! - Whoever has the panel of a domain deletes at once all that the panel can delete: copies that lie there or whose keys name it.
//! - The owner's keys delete every copy whose keys name `owner`, which is all of them unless the file says otherwise: who can
//!   write a copy can delete it, where nothing prevents that.
//! - Object lock in compliance mode withstands the panel of an account and the owner's keys; the account is then out of reach for
//!   [`REGAIN`]. In governance mode it withstands neither, since both can lift it. No lock withstands fire, the end of a
//!   provider, or somebody inside the provider (a deletion by `provider=` or `operator=`).
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

#[derive(Debug)]
struct Copy<'a> {
    is: &'a Copied,
    lost: Option<Period>,
    dark_until: Period,
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
            Hit::Step(_) => false,
        }
    }

    /// Whether it is still there after something that strikes it: its lock withstands that, or it is only out of reach.
    pub(crate) fn withstands(&self, hit: &Hit) -> bool {
        let is_locked = self.lock == Lock::Compliance;
        match hit {
            Hit::Delete(who) => is_locked && !is_inside(who),
            Hit::StealKeys(_) => is_locked,
            Hit::Dark(..) | Hit::Step(_) => true,
            Hit::Destroy(_) | Hit::Close(..) => false,
        }
    }
}

/// Whether whoever has this domain's panel is inside the provider, and not just an account's user.
fn is_inside(who: &Who) -> bool {
    !matches!(who, Who::Label(label) if label.starts_with("account="))
}

impl Copy<'_> {
    fn is_here(&self) -> bool {
        self.lost.is_none() && self.is.works
    }

    fn lose(&mut self, at: Period) {
        self.lost.get_or_insert(at);
    }

    fn hide(&mut self, at: Period, period: Period) {
        self.dark_until = self.dark_until.max(Period(at.0.saturating_add(period.0)));
    }

    fn hit(&mut self, event: &Event) {
        let at = event.at;
        if !self.is.is_struck_by(&event.hit) {
            return;
        }
        match &event.hit {
            Hit::Dark(_, period) => self.hide(at, *period),
            hit if self.is.withstands(hit) => self.hide(at, REGAIN),
            Hit::Close(_, notice) => self.lose(Period(at.0.saturating_add(notice.0))),
            _ => self.lose(at),
        }
    }

    /// The newest state in it at a time.
    fn newest(&self, at: Period) -> Period {
        let at = self.lost.unwrap_or(at).min(at);
        match self.is.every.0 {
            0 => at,
            every => Period(at.0 / every * every),
        }
    }
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
    let mut copies: Vec<Copy<'_>> =
        copies.iter().map(|is| Copy { is, lost: None, dark_until: Period(0) }).collect();
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
    let lost: Vec<(Period, String)> =
        copies.iter().filter_map(|copy| Some((copy.lost?, copy.is.labels.join(" ")))).collect();
    let first = copies.iter().filter(|copy| copy.is.works).filter_map(|copy| copy.lost).min();
    let newest = |at| copies.iter().filter(|c| c.is_here()).map(|c| c.newest(at)).max();
    let work_lost = first.and_then(|at| Some(Period(at.0 - newest(at)?.0.min(at.0))));
    let measures =
        Measures { timeline, committed: stripes, destroyed_at, lost, ..Measures::default() };
    let digest = String::from("-");
    Copies { outcome: Outcome { seed, verdict, violation: None, measures, digest }, work_lost }
}
