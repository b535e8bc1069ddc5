//! Whose keys speak for this node's operator and its partners, and what an earlier key may not do any more.
//!
//! What is known comes by the ways that trust comes: the operator's list of partners, which shows the operator's own line and each partner's as its
//! people took it in, and this node's certificate. So it is as durable as these. Nobody else's word about a line is kept: who is met shows
//! one behind whatever its operator signed, and that has to be the known one, a part of it whose key still counts, or one that goes on from it.
//!
//! Where the list parts from the certificate, the certificate counts and the list is none: that one was put here by whoever owns the host, and a list can
//! come from a thief who reached this node first.
//!
//! Refused is what arrives. What is held stays, with the word by which it came: agreements that the list shows, vaults that are known, notices, vetoes and
//! holds. A vault whose operator's word is of an earlier key is read and repaired, and takes nothing new until it is renewed.
//! Whether a grace is over goes by the latest time that is known here, not by a clock that may have been set back.

use super::facts::{Facts, View, Write};
use super::membership::name_of;
use super::{Decision, Note, Output, Peer, Then, refusal};
use crate::certificate::{CertificateError, NodeCertificate, NodeRecord};
use crate::id::{OperatorId, VaultId};
use crate::message::{Refusal, RefusalCode, Request};
use crate::policy::GUARDIANS_MAX;
use crate::release::Approval;
use crate::sign::{Signed, Statement};
use crate::succession::{Line, Lines, Said, SuccessionError};
use crate::time::{Now, Wall};
use std::collections::BTreeSet;

/// The lines that are known.
#[derive(Debug)]
pub(super) struct Speakers {
    /// As this node's certificate shows the own one.
    certified: Line,
    lines: Lines,
    /// Which disputes were told already.
    disputed: BTreeSet<(OperatorId, usize)>,
    /// One that is to be told once there is a peer that can tell it.
    parting: Option<SuccessionError>,
}

impl Speakers {
    /// As the certificate shows the own one, and the list shows all.
    pub(super) fn new(certified: Line, listed: &Lines, parting: Option<SuccessionError>) -> Self {
        let lines = joined(&certified, listed);
        Self { certified, lines, disputed: BTreeSet::new(), parting }
    }

    /// Where a list parts from the certificate.
    pub(super) fn parting(&self, listed: &Lines) -> Option<SuccessionError> {
        parting(&self.certified, listed)
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }
}

/// Whether a list shows another line of an operator than this one, and where they part.
pub(super) fn parting(certified: &Line, listed: &Lines) -> Option<SuccessionError> {
    certified.check_names(&listed.get(certified.operator())?.said()).err()
}

/// All lines, of the own operator the one that is certified or one that goes on from it.
fn joined(certified: &Line, listed: &Lines) -> Lines {
    let mut lines = Lines::default();
    for line in [certified].into_iter().chain(listed.iter()) {
        // A list that parts from the certificate is none, and has been left out.
        let _ = lines.learn(line.clone());
    }
    lines
}

fn refused(error: &SuccessionError) -> Refusal {
    refusal(RefusalCode::NotVouched, error.to_string())
}

impl Peer {
    /// The list or the certificate is another one now.
    pub(super) fn learn_lines(&mut self) {
        let lines = joined(&self.partnership.speakers.certified, &self.partnership.listed_lines());
        let before = std::mem::replace(&mut self.partnership.speakers.lines, lines);
        if let Some(error) = self.partnership.speakers.parting.take() {
            self.dispute(&error);
        }
        let operators: Vec<OperatorId> =
            self.partnership.partners().chain([self.partnership.own]).collect();
        for operator in operators {
            let known = (before.get(operator), self.partnership.speakers.lines.get(operator));
            if let (Some(before), Some(line)) = known
                && before.key() != line.key()
            {
                let number = line.number();
                self.outputs.push_back(Output::Note(Note::Succeeded { operator, number }));
            }
        }
    }

    /// Says aloud, once, that somebody shows another line.
    fn dispute(&mut self, error: &SuccessionError) {
        if let SuccessionError::Forked { operator, number } = *error
            && self.partnership.speakers.disputed.insert((operator, number))
        {
            self.outputs.push_back(Output::Note(Note::Disputed { operator, number }));
        }
    }

    /// The latest time that is known here.
    pub(super) fn latest(&self, now: Now) -> Wall {
        self.lock_clock.latest(now.wall)
    }

    /// When what was said under a line came to its end, if it has one: under a line that parts from the known one it never counted.
    pub(super) fn ended_at(&self, said: &Said) -> Option<Wall> {
        let line = self.partnership.speakers.lines.get(said.operator())?;
        if line.check_names(said).is_err() { Some(Wall(0)) } else { line.end_of(said) }
    }

    /// Refuses what was said under a line that does not count any more, or never did. To be asked of what was verified: nobody is to dispute
    /// a line that he made up.
    pub(super) fn check_said(&mut self, now: Now, said: &Said) -> Decision {
        let checked = self.partnership.speakers.lines.check(said, self.latest(now));
        checked.map_err(|error| {
            self.dispute(&error);
            refused(&error)
        })
    }

    /// The same for a statement, which is verified.
    pub(super) fn check_signed<T: Statement>(&mut self, now: Now, signed: &Signed<T>) -> Decision {
        match signed.line().map_err(CertificateError::from)? {
            Some(line) => self.check_said(now, &line.said()),
            None => Ok(()),
        }
    }

    /// The same where nothing can be told, and whose signature is another question.
    pub(super) fn is_spoken<T: Statement>(&self, now: Now, signed: &Signed<T>) -> Decision {
        match signed.said().map_err(CertificateError::from)? {
            Some(said) => {
                let checked = self.partnership.speakers.lines.check(&said, self.latest(now));
                checked.map_err(|error| refused(&error))
            }
            None => Ok(()),
        }
    }

    /// Refuses requests that carry an operator's word by a key that was succeeded. What greets, papers, lists, vetoes and holds are looked at where they
    /// are taken in, and what is signed by nobody where it is verified.
    pub(super) fn check_speakers(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        request: &Request,
    ) -> Decision {
        match request {
            Request::GiveNotice(signed) => {
                // What is kept stays, by whatever key it was given.
                if signed.verify().is_err() || self.partnership.parting.is_kept(signed) {
                    return Ok(());
                }
                self.check_signed(now, signed)
            }
            Request::Countersign(signed) if signed.verify().is_ok() => {
                self.check_signed(now, signed)
            }
            Request::Release { request, approvals, .. } => {
                let vault = request.verify().ok().map(|request| request.vault);
                self.check_approvals(now, facts, vault, approvals)
            }
            Request::Discharge { discharge, approvals, .. } => {
                let vault = discharge.verify().ok().map(|asked| asked.request.vault);
                self.check_approvals(now, facts, vault, approvals)
            }
            _ => Ok(()),
        }
    }

    /// Guardians agree by the key that speaks for them: as it is known here, or else by the orders that they gave here.
    fn check_approvals(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        vault: Option<VaultId>,
        approvals: &[Signed<Approval>],
    ) -> Decision {
        // Without a request, or with more than there can be, nothing is released.
        let Some(vault) = vault.filter(|_| approvals.len() <= GUARDIANS_MAX) else { return Ok(()) };
        let orders = View { facts, overlay: &self.overlay }.holds(vault)?.orders;
        for approval in approvals {
            let Ok(Some(line)) = approval.line() else { continue };
            let said = line.said();
            self.check_said(now, &said)?;
            let order = orders.get(&said.operator());
            let order = order.filter(|order| self.is_spoken(now, order).is_ok());
            if let Some(known) = order.and_then(|order| order.line().ok().flatten()) {
                known.check(&said, self.latest(now)).map_err(|error| refused(&error))?;
            }
        }
        Ok(())
    }

    /// Members whose certificates do not count any more are none: those of a thief, and those that were not renewed in time. Both may come
    /// back with a new one.
    pub(super) fn part_from_succeeded(&mut self, now: Now) {
        let (lines, latest) = (&self.partnership.speakers.lines, self.latest(now));
        let has_changed = |operator| lines.get(operator).is_some_and(|line| line.number() > 0);
        let over = self.members.of(has_changed).filter_map(|&node| {
            let error = lines.check(&self.members.get(&node)?.said, latest).err()?;
            Some((node, error))
        });
        let over: Vec<_> = over.collect();
        if over.is_empty() {
            return;
        }
        self.part_from(&over.iter().map(|(node, _)| *node).collect());
        for (node, error) in over {
            self.count_refusal(node.key(), &refused(&error));
        }
        self.repair.rounds.change();
        self.repair.wake();
    }

    /// This node's operator has certified it anew.
    pub(super) fn handle_certificate(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        signed: &Signed<NodeCertificate>,
    ) {
        let Ok((known, _)) = self.record.split() else { return };
        if known.certificate == *signed {
            return;
        }
        if let Err(refusal) = self.take_certificate(now, facts, known, signed) {
            self.count_refusal(self.certificate.operator.key(), &refusal);
        }
    }

    fn take_certificate(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        known: NodeRecord,
        signed: &Signed<NodeCertificate>,
    ) -> Decision {
        let certificate = NodeCertificate::verify(signed, now.wall)?;
        if certificate.node != self.node() || certificate.operator != self.partnership.own {
            let text = "the certificate is another node's, or another operator's: start again";
            return Err(refusal(RefusalCode::NotAllowed, text));
        }
        let line = certificate.line(signed)?;
        let (certified, listed) =
            (self.partnership.speakers.certified.clone(), self.partnership.listed_lines());
        let parting = parting(&line, &listed);
        // What the list knows does not count where the list itself does not.
        let counts = match &parting {
            Some(_) => certified.check(&line.said(), self.latest(now)),
            None => self.partnership.speakers.lines.check(&line.said(), self.latest(now)),
        };
        for error in parting.iter().chain(counts.as_ref().err()) {
            self.dispute(error);
        }
        counts.map_err(|error| refused(&error))?;
        // Of one that is older, and counts still, it is known already how the line goes on.
        let line = if line.number() < certified.number() { certified } else { line };
        let version = now.wall.0.max(known.version.saturating_add(1));
        let record = NodeRecord { certificate: signed.clone(), version, ..known };
        let record = Signed::sign(&record, &self.key);
        NodeRecord::verify(&record, now.wall)?;
        self.record_name = name_of(&record);
        self.record = record;
        let site = certificate.site();
        self.repair.is_relabelled |= site != self.site;
        (self.site, self.certificate) = (site, certificate);
        self.partnership.speakers.certified = line;
        if parting.is_some() {
            self.drop_partners(now, facts);
        } else {
            self.learn_lines();
            self.part_from_succeeded(now);
        }
        let write = Write::member(self.node(), &self.record);
        self.persist(vec![write], None, Then::Nothing);
        // Whoever has taken this node for a stranger meanwhile is to see the new one soon.
        self.meetings.hurry(now.mono);
        Ok(())
    }
}
