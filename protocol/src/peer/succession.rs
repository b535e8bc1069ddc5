//! Whose keys speak for this node's operator and its partners, and what an earlier key may not do any more.
//!
//! What is known comes by the ways that trust comes: the operator's list of partners, which shows the operator's own line and each partner's as its
//! people took it in, and this node's certificate. So it is as durable as these. Nobody else's word about a line is kept: who is met shows
//! one behind whatever its operator signed, and that has to be the known one, a part of it whose key still counts, or one that goes on from it.
//!
//! Refused is what arrives. What is held stays, with the word by which it came: agreements that the list shows, vaults that are known, notices, vetoes and
//! holds. A vault whose operator's word is of an earlier key is read and repaired, and takes nothing new until it is renewed.

use super::facts::{Facts, Table, Write, key};
use super::{Decision, Note, Output, Peer, Then, refusal};
use crate::certificate::{CertificateError, NodeCertificate, NodeRecord};
use crate::id::OperatorId;
use crate::message::{Refusal, RefusalCode, Request};
use crate::sign::{Signed, Statement};
use crate::succession::{Line, Lines, Said, SuccessionError};
use crate::time::Now;
use std::collections::BTreeSet;

/// The lines that are known.
#[derive(Debug)]
pub(super) struct Speakers {
    /// As this node's certificate shows the own one.
    certified: Line,
    lines: Lines,
    /// Which disputes were told already.
    disputed: BTreeSet<(OperatorId, usize)>,
}

impl Speakers {
    /// As the certificate shows the own one, and the list shows all.
    pub(super) fn new(certified: Line, listed: Lines) -> Self {
        let mut lines = listed;
        // Where they part, the list's stays; that is told once there is a peer that can tell it.
        let _ = lines.learn(certified.clone());
        Self { certified, lines, disputed: BTreeSet::new() }
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }
}

fn refused(error: &SuccessionError) -> Refusal {
    refusal(RefusalCode::NotVouched, error.to_string())
}

impl Peer {
    /// The list or the certificate is another one now.
    pub(super) fn learn_lines(&mut self) {
        let mut lines = self.partnership.listed_lines();
        let learned = lines.learn(self.partnership.speakers.certified.clone());
        let before = std::mem::replace(&mut self.partnership.speakers.lines, lines);
        if let Err(error) = learned {
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

    /// Refuses what was said under a line that does not count any more, or never did.
    pub(super) fn check_said(&mut self, now: Now, said: &Said) -> Decision {
        let checked = self.partnership.speakers.lines.check(said, now.wall);
        checked.map_err(|error| {
            self.dispute(&error);
            refused(&error)
        })
    }

    /// The same for a statement, whose signature is another question.
    pub(super) fn check_signed<T: Statement>(&mut self, now: Now, signed: &Signed<T>) -> Decision {
        match signed.said().map_err(CertificateError::from)? {
            Some(said) => self.check_said(now, &said),
            None => Ok(()),
        }
    }

    /// The same where nothing can be told.
    pub(super) fn is_spoken<T: Statement>(&self, now: Now, signed: &Signed<T>) -> Decision {
        match signed.said().map_err(CertificateError::from)? {
            Some(said) => {
                let checked = self.partnership.speakers.lines.check(&said, now.wall);
                checked.map_err(|error| refused(&error))
            }
            None => Ok(()),
        }
    }

    /// Refuses requests that carry an operator's word by a key that was succeeded. What greets, papers and lists are looked at where they are
    /// taken in. Vetoes and holds are not refused: they keep what is held, and a release that was stopped rightly stays so.
    pub(super) fn check_speakers(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        request: &Request,
    ) -> Decision {
        match request {
            Request::GiveNotice(signed) => {
                let Ok((notice, _)) = signed.split() else { return Ok(()) };
                let row = key(&[&notice.leaver.0, &notice.other.0]);
                if facts.get(Table::Notice, &row)?.is_some() {
                    return Ok(());
                }
                self.check_signed(now, signed)
            }
            Request::Countersign(signed) => self.check_signed(now, signed),
            Request::Release { approvals, .. } | Request::Discharge { approvals, .. } => {
                approvals.iter().try_for_each(|approval| self.check_signed(now, approval))
            }
            _ => Ok(()),
        }
    }

    /// Members whose certificates do not count any more are none: those of a thief, and those that were not renewed in time. Both may come
    /// back with a new one.
    pub(super) fn part_from_succeeded(&mut self, now: Now) {
        let lines = &self.partnership.speakers.lines;
        let over = self.members.iter().filter_map(|(&node, member)| {
            let error = lines.check(&member.said, now.wall).err()?;
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
    pub(super) fn handle_certificate(&mut self, now: Now, signed: &Signed<NodeCertificate>) {
        let Ok((known, _)) = self.record.split() else { return };
        if known.certificate == *signed {
            return;
        }
        if let Err(refusal) = self.take_certificate(now, known, signed) {
            self.count_refusal(self.certificate.operator.key(), &refusal);
        }
    }

    fn take_certificate(
        &mut self,
        now: Now,
        known: NodeRecord,
        signed: &Signed<NodeCertificate>,
    ) -> Decision {
        let certificate = NodeCertificate::verify(signed, now.wall)?;
        if certificate.node != self.node() || certificate.operator != self.partnership.own {
            let text = "the certificate is another node's, or another operator's: start again";
            return Err(refusal(RefusalCode::NotAllowed, text));
        }
        let line = certificate.line(signed)?;
        self.check_said(now, &line.said())?;
        let version = now.wall.0.max(known.version.saturating_add(1));
        let record = NodeRecord { certificate: signed.clone(), version, ..known };
        let record = Signed::sign(&record, &self.key);
        NodeRecord::verify(&record, now.wall)?;
        self.record = record;
        let site = certificate.site();
        self.repair.is_relabelled |= site != self.site;
        (self.site, self.certificate) = (site, certificate);
        self.partnership.speakers.certified = line;
        self.learn_lines();
        self.part_from_succeeded(now);
        let write = Write::member(self.node(), &self.record);
        self.persist(vec![write], None, Then::Nothing);
        // Whoever has taken this node for a stranger meanwhile is to see the new one soon.
        self.meetings.hurry(now.mono);
        Ok(())
    }
}
