//! What nodes tell each other of themselves, and of those that are silent ([`crate::liveness`]): at each meeting, and before something is repaired.
//! Who leaves and what a node may take comes with it.

use super::facts::{Facts, FactsError};
use super::membership::Pending;
use super::{Decision, LaneId, LinkId, Output, Peer, Role, refusal};
use crate::id::NodeId;
use crate::message::{Hearsay, IDS_MAX, MemberStatus, RefusalCode, Request, Response};
use crate::time::{Mono, Now, Period};

impl Peer {
    /// Asks another node how it is, and whether it heard those that are silent here.
    pub(super) fn ask_hearsay(&mut self, now: Now, node: NodeId, link: LinkId) {
        let members = &self.members;
        let of = self.liveness.silent(IDS_MAX, |node| members.contains_key(&node), now.mono);
        let call = self.call(Pending::Hearsay { node, of: of.clone() });
        let request = Box::new(Request::Hearsay { of });
        self.outputs.push_back(Output::Call { call, link, request });
    }

    pub(super) fn handle_hearsay(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        of: &[NodeId],
    ) -> Decision {
        if !matches!(role, Role::Node(_)) {
            return Err(refusal(RefusalCode::NotAllowed, "only nodes are told who was heard"));
        }
        if of.len() > IDS_MAX {
            let text = format!("{} nodes asked about, {IDS_MAX} at most", of.len());
            return Err(refusal(RefusalCode::Malformed, text));
        }
        let room = self.room_for(now, facts, role)?;
        let asker = self.operator_of(role);
        let age = |node: &NodeId| {
            let heard = self.members.heard(*node).filter(|_| self.is_told_of(asker, *node));
            Some(Period(now.mono.0.saturating_sub(heard?.0)))
        };
        let ages = of.iter().map(age).collect();
        let leaves = self.leaving.is_own();
        self.reply(lane, Response::Hearsay(Hearsay { ages, room, leaves }));
        Ok(())
    }

    /// Another node says how it is, and when it heard those.
    pub(super) fn handle_hearsay_answer(
        &mut self,
        now: Now,
        node: NodeId,
        of: Vec<NodeId>,
        said: &Hearsay,
    ) {
        let Some(member) = self.members.get(&node) else { return };
        // Whom guests heard is nobody's word: a vault can list as many of them as it likes.
        if !self.is_guest(node) && said.ages.len() == of.len() {
            let ages = of.into_iter().zip(said.ages.iter().copied());
            self.liveness.tell(node, member.site.operator, ages, now.mono);
        }
        self.members.set_room(node, said.room);
        self.hear_leaving(node, said.leaves);
    }

    /// Bytes held.
    pub(super) fn used(&self) -> u64 {
        self.usage.total().bytes
    }

    /// Bytes that this node may still take from whoever asks.
    pub(super) fn room_for(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        role: &Role,
    ) -> Result<u64, FactsError> {
        if self.leaving.is_own() {
            return Ok(0);
        }
        let room = self.config.quota.saturating_sub(self.used()).min(self.space);
        self.left_for(now, facts, role, room)
    }

    pub(super) fn member_status(&self, now: Now, role: &Role) -> Vec<MemberStatus> {
        let asker = self.operator_of(role);
        let is_told_of = self.told_of(asker);
        let told = self.members.iter().filter(|(_, member)| is_told_of(member.site.operator));
        let age = |heard: Mono| Period(now.mono.0.saturating_sub(heard.0));
        let status =
            told.map(|(&node, _)| MemberStatus { node, heard: self.members.heard(node).map(age) });
        status.collect()
    }
}
