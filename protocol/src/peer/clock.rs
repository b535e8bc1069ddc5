//! This node's lock clock: counted, stored, and compared with what nodes of other operators say.

use super::facts::Write;
use super::membership::Pending;
use super::{Decision, LaneId, LinkId, Output, Peer, Role, Then, refusal};
use crate::certificate::NodeCertificate;
use crate::id::NodeId;
use crate::lock_clock::{Reading, TimeStatement, Voice};
use crate::message::{RefusalCode, Request, Response};
use crate::sign::Signed;
use crate::time::{Mono, Now, Period};

/// How often it is stored at most. How far reading and asking came goes with it.
const STORE_MIN: Period = Period::seconds(600);
/// So much of what was counted since the start can be lost in a crash, or the least span where that is more, and is kept longer for: a node that is
/// often started comes on all the same,
const LOST_PART: u64 = 16;
/// and so much at most.
const STORE_MAX: Period = Period::seconds(6 * 3600);

impl Peer {
    /// Counts, compares, and stores what was counted when it is time.
    pub(super) fn tick_lock_clock(&mut self, now: Now) {
        self.read_lock_clock(now);
        if self.store_clock_at <= now.mono {
            self.store_lock_clock(now);
        }
    }

    /// What the lock clock shows now. Whatever is to count by it is stored together with the clock.
    pub(super) fn read_lock_clock(&mut self, now: Now) -> Reading {
        let own = self.certificate.operator;
        let others = self.members.operators().filter(|operator| *operator != own);
        let others = others.filter(|operator| self.trust.check(*operator).is_ok()).count();
        let was_frozen = self.lock_clock.reading().is_frozen;
        self.lock_clock.tick(now.mono, others);
        let reading = self.lock_clock.reading();
        if reading.is_frozen != was_frozen {
            // That it froze must be known after a restart too.
            self.store_lock_clock(now);
        }
        // Who was set back does not know what it promised, and lets nothing expire either.
        Reading { is_frozen: reading.is_frozen || self.promises.is_frozen(), ..reading }
    }

    fn store_lock_clock(&mut self, now: Now) {
        let counted = Period(now.mono.0.saturating_sub(self.started.0));
        self.store_clock_at = now.mono.after(store_period(counted));
        let mut writes = vec![Write::lock_clock(&self.lock_clock)];
        writes.extend(self.scrub.take_progress());
        writes.extend(self.asking.take_progress());
        self.persist(writes, None, Then::Nothing);
    }

    /// Asks a member of another operator what time it is. Those of the own one have no voice.
    pub(super) fn ask_time(&mut self, now: Now, node: NodeId, link: LinkId) {
        let own = self.certificate.operator;
        if self.members.get(&node).is_none_or(|member| member.site.operator == own) {
            return;
        }
        let random = blake3::keyed_hash(&self.config.seed, &self.next_token.to_le_bytes());
        let nonce = std::array::from_fn(|i| random.as_bytes()[i]);
        let call = self.call(Pending::Time { node, nonce, asked: now.mono });
        let request = Box::new(Request::Time { nonce });
        self.outputs.push_back(Output::Call { call, link, request });
    }

    pub(super) fn handle_time(
        &mut self,
        now: Now,
        lane: LaneId,
        role: &Role,
        nonce: [u8; 16],
    ) -> Decision {
        let Role::Node(asker) = *role else {
            return Err(refusal(RefusalCode::NotAllowed, "only nodes are told the time"));
        };
        let said = TimeStatement { node: self.node(), asker, nonce, wall: now.wall };
        self.reply(lane, Response::Time(Signed::sign(&said, &self.key)));
        Ok(())
    }

    pub(super) fn handle_time_answer(
        &mut self,
        now: Now,
        node: NodeId,
        (asked, nonce): (Mono, &[u8; 16]),
        signed: &Signed<TimeStatement>,
    ) {
        // Who became a guest since it was asked has no voice.
        let Some(member) = self.members.get(&node).filter(|_| !self.is_guest(node)) else { return };
        // What is no answer says nothing.
        let certificate = NodeCertificate::verify(&member.record.certificate, now.wall);
        if let Ok(certificate) = certificate
            && let Ok(voice) = Voice::verify(signed, &certificate, self.node(), nonce)
        {
            self.lock_clock.hear(asked, now.mono, &voice);
            self.tick_lock_clock(now);
        }
    }
}

/// Between two times that the clock is stored, when it has counted so long since the start.
fn store_period(counted: Period) -> Period {
    Period((counted.0 / LOST_PART).clamp(STORE_MIN.0, STORE_MAX.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loses_a_small_part_of_what_was_counted() {
        let hours = |hours: u64| Period::seconds(hours * 3600);
        assert_eq!(store_period(Period(0)), STORE_MIN);
        assert_eq!(
            [store_period(hours(32)), store_period(Period::days(90))],
            [hours(2), STORE_MAX]
        );
    }
}
