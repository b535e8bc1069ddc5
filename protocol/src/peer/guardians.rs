//! What guardians say: vetoes and holds. Each is stored, counts from then on, and is told to everybody connected; and while
//! something cools here, other nodes are asked for what they have heard. So one guardian that reaches one node
//! reaches every holder.
//!
//! A key that was succeeded says nothing more here, by whomever it is brought; what it said before stays. Where nobody knows the line of a guardian's keys
//! but by its orders, the one under the longest line that goes on from the first counts ([`crate::hold`]), and approvals of releases go by that as well.
//!
//! Only guardians that the vault named in a policy, or a lock named under which something cools, are heard: what others
//! say would fill the disk.

use super::facts::{Facts, FactsError, Table, View, Write, decode, key};
use super::releases::check_speaker;
use super::{Decision, LaneId, Note, Output, Peer, Role, Then, refusal};
use crate::certificate::VaultDescriptor;
use crate::hold::{Arrival, HOLDERS_MAX, HoldError, HoldOrder, is_further};
use crate::id::{OperatorId, ReleaseId, VaultId};
use crate::message::{RELEASES_ASKED_MAX, Refusal, RefusalCode, Request, Response, Stops};
use crate::policy::Guardians;
use crate::release::Veto;
use crate::sign::Signed;
use crate::time::Now;

/// Most vetoes of one guardian that are kept for one vault. None is ever removed: a request that was made for a later
/// time could be accepted then.
const VETOES_MAX: usize = 1024;
/// Versions of a vault's descriptor that are read to learn its guardians, the first ones: whoever stole the vault's key
/// later names none in their place.
const VERSIONS_MAX: usize = 1024;
/// Versions read at once.
const VERSIONS_PAGE: usize = 16;

/// The first versions, in which choices of guardians are looked for that records still name: a few are made in a vault's life, and
/// whoever stole its key could make them many.
const CHOICES_WITHIN: usize = 64;
/// Most choices that nodes tell each other.
pub(super) const NAMINGS_MAX: usize = 16;

/// For each choice of guardians the first descriptor by which a vault made it, as far as that is durable.
pub(super) fn namings(
    facts: &dyn Facts,
    vault: VaultId,
) -> Result<Vec<(Guardians, Signed<VaultDescriptor>)>, FactsError> {
    let mut found: Vec<(Guardians, Signed<VaultDescriptor>)> = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    for _ in 0..CHOICES_WITHIN / VERSIONS_PAGE {
        let page = facts.scan(Table::Descriptor, &vault.0, after.as_deref(), VERSIONS_PAGE)?;
        for (_, bytes) in &page {
            let signed: Signed<VaultDescriptor> = decode(Table::Descriptor, bytes)?;
            let Ok(descriptor) = signed.verify() else { continue };
            let Some(guardians) = descriptor.policy.lock.guardians else { continue };
            if found.len() < NAMINGS_MAX && !found.iter().any(|(named, _)| *named == guardians) {
                found.push((guardians, signed));
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == VERSIONS_PAGE => after = Some(last.clone()),
            _ => break,
        }
    }
    Ok(found)
}

/// The guardians that the policies of a vault name or ever named, [`HOLDERS_MAX`] of them at most, the first named first.
fn guardians_of(view: &View<'_>, vault: VaultId) -> Result<Vec<OperatorId>, FactsError> {
    let mut guardians = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    for _ in 0..VERSIONS_MAX / VERSIONS_PAGE {
        let page = view.facts.scan(Table::Descriptor, &vault.0, after.as_deref(), VERSIONS_PAGE)?;
        for (_, bytes) in &page {
            let signed: Signed<VaultDescriptor> = decode(Table::Descriptor, bytes)?;
            let Ok(descriptor) = signed.verify() else { continue };
            let named = descriptor.policy.lock.guardians;
            for guardian in named.into_iter().flat_map(|guardians| guardians.of) {
                if !guardians.contains(&guardian) && guardians.len() < HOLDERS_MAX {
                    guardians.push(guardian);
                }
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == VERSIONS_PAGE => after = Some(last.clone()),
            _ => break,
        }
    }
    Ok(guardians)
}

fn not_guardian(guardian: OperatorId) -> Refusal {
    refusal(RefusalCode::NotAllowed, format!("{guardian} is no guardian of the vault"))
}

/// Whom to answer once a statement is durable.
type Asker = Option<LaneId>;

impl Peer {
    pub(super) fn handle_veto(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
        signed: Signed<Veto>,
    ) -> Decision {
        check_speaker(&View { facts, overlay: &self.overlay }, role, vault)?;
        self.take_veto(now, facts, vault, signed, Some(lane))
    }

    fn take_veto(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        vault: VaultId,
        signed: Signed<Veto>,
        asker: Asker,
    ) -> Decision {
        let veto = signed.verify().map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
        let Veto { guardian, release } = veto;
        let view = View { facts, overlay: &self.overlay };
        let row = key(&[&vault.0, &guardian.0, &release.0]);
        let is_known = view.veto(vault, guardian, release)?.is_some();
        if is_known && !view.is_pending(Table::Veto, &row) {
            self.answer_done(asker);
            return Ok(());
        }
        let running = self.releases.get(&(vault, release));
        let is_named = running.is_some_and(|running| running.is_guarded_by(guardian));
        if !is_named && !guardians_of(&view, vault)?.contains(&guardian) {
            return Err(not_guardian(guardian));
        }
        let own = key(&[&vault.0, &guardian.0]);
        let count = facts.scan(Table::Veto, &own, None, VETOES_MAX)?.len();
        let is_full = count + view.count_pending(Table::Veto, &own) >= VETOES_MAX;
        if !is_known {
            self.check_signed(now, &signed)?;
        }
        // Of what runs here few are at a time, and whoever stole the key may have used the others up.
        if !is_known && !is_named && is_full {
            let text = format!("{VETOES_MAX} vetoes of this guardian are kept already");
            return Err(refusal(RefusalCode::Quota, text));
        }
        let write = Write::veto(vault, &veto, &signed);
        self.persist_statement(vec![write], asker);
        if !is_known {
            self.outputs.push_back(Output::Note(Note::Vetoed { vault, guardian, release }));
            self.tell(&Request::Veto { vault, veto: signed }, |_| true);
        }
        Ok(())
    }

    pub(super) fn handle_hold(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        signed: Signed<HoldOrder>,
    ) -> Decision {
        let order = signed.verify().map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
        check_speaker(&View { facts, overlay: &self.overlay }, role, order.vault)?;
        self.take_hold(now, facts, order.vault, signed, Some(lane))
    }

    fn take_hold(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        vault: VaultId,
        signed: Signed<HoldOrder>,
        asker: Asker,
    ) -> Decision {
        let malformed = |text: String| refusal(RefusalCode::Malformed, text);
        let order = signed.verify().map_err(|e| malformed(e.to_string()))?;
        let wall = self.lock_clock.latest(now.wall);
        let at = self.read_lock_clock(now).at;
        let view = View { facts, overlay: &self.overlay };
        let guardian = order.guardian;
        let mut row = view.holds(vault)?;
        let is_known = row.orders.get(&guardian) == Some(&signed);
        if is_known && !view.is_pending(Table::Holds, &vault.0) {
            self.answer_done(asker);
            return Ok(());
        }
        if !is_known {
            self.check_signed(now, &signed)?;
            let view = View { facts, overlay: &self.overlay };
            let guardians = guardians_of(&view, vault)?;
            let is_further = match row.orders.get(&guardian) {
                // By a key that is known to have ended, or under a line that is known to be nobody's.
                Some(last) if self.is_spoken(now, last).is_err() => Ok(true),
                Some(last) => is_further(last, &signed),
                None => Ok(false),
            };
            let followed = is_further.and_then(|is_further| {
                let guardians = &guardians;
                row.holds.follow(&signed, &Arrival { vault, guardians, is_further, at, wall })
            });
            followed.map_err(|error| match error {
                HoldError::NoGuardian(guardian) => not_guardian(guardian),
                HoldError::TooMany => refusal(RefusalCode::Quota, error.to_string()),
                HoldError::Old { .. } | HoldError::Ahead { .. } | HoldError::Succession(_) => {
                    refusal(RefusalCode::NotAllowed, error.to_string())
                }
                HoldError::Signature(_) | HoldError::Vault => malformed(error.to_string()),
            })?;
            row.orders.insert(guardian, signed.clone());
        }
        let clock = Write::promise(&mut self.lock_clock, now.mono);
        let writes = vec![Write::holds(vault, &row), clock];
        self.persist_statement(writes, asker);
        if !is_known {
            let period = order.period;
            self.outputs.push_back(Output::Note(Note::Held { vault, guardian, period }));
            self.tell(&Request::Hold(signed), |_| true);
        }
        Ok(())
    }

    fn answer_done(&mut self, asker: Asker) {
        if let Some(lane) = asker {
            self.reply(lane, Response::Done);
        }
    }

    fn persist_statement(&mut self, writes: Vec<Write>, asker: Asker) {
        let then = match asker {
            Some(lane) => Then::Reply { lane, response: Box::new(Response::Done), close: false },
            None => Then::Nothing,
        };
        self.persist(writes, None, then);
    }

    /// What stops releases, told to another holder of the vault.
    pub(super) fn handle_stops(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
        releases: &[ReleaseId],
    ) -> Decision {
        if releases.len() > RELEASES_ASKED_MAX {
            let text = format!("{} releases, at most {RELEASES_ASKED_MAX}", releases.len());
            return Err(refusal(RefusalCode::Malformed, text));
        }
        let reading = self.read_lock_clock(now);
        let view = View { facts, overlay: &self.overlay };
        let mut stops = Stops::default();
        // Who may not read the vault is not told that it is known here.
        if self.check_reader(&view, role, vault).is_err() {
            self.reply(lane, Response::Stops(stops));
            return Ok(());
        }
        for guardian in guardians_of(&view, vault)? {
            for &release in releases {
                stops.vetoes.extend(view.veto(vault, guardian, release)?);
            }
        }
        let row = view.holds(vault)?;
        let running = row.holds.running(reading.at);
        stops.holds = running.filter_map(|(who, _)| row.orders.get(&who).cloned()).collect();
        self.reply(lane, Response::Stops(stops));
        Ok(())
    }

    /// Another node told what stops the releases that run here.
    pub(super) fn handle_stops_answer(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        vault: VaultId,
        stops: Stops,
    ) {
        // What does not count is left out: that is for others to know.
        for veto in stops.vetoes.into_iter().take(HOLDERS_MAX * RELEASES_ASKED_MAX) {
            let is_asked =
                veto.verify().is_ok_and(|veto| self.releases.contains_key(&(vault, veto.release)));
            if is_asked {
                let _ = self.take_veto(now, facts, vault, veto, None);
            }
        }
        for order in stops.holds.into_iter().take(HOLDERS_MAX) {
            let _ = self.take_hold(now, facts, vault, order, None);
        }
    }
}
