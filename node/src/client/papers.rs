//! A vault's papers as several nodes show them. The vault's key signed them all, and may have been stolen: no node that shows a
//! version far ahead of what the others have is believed ([`plausible_version`]).

use protocol::certificate::{
    CertificateError, Roster, VaultCertificate, VaultDescriptor, VaultPapers, VaultTerms,
    plausible_version,
};
use protocol::id::{OperatorId, VaultId};
use protocol::sign::Signed;
use protocol::time::Wall;
use std::collections::BTreeMap;

/// What nodes showed of one kind of paper: each version once, and how many showed which.
#[derive(Debug)]
struct Versions<T> {
    kept: BTreeMap<u64, Signed<T>>,
    shown: Vec<u64>,
}

impl<T> Default for Versions<T> {
    fn default() -> Self {
        Self { kept: BTreeMap::new(), shown: Vec::new() }
    }
}

impl<T> Versions<T> {
    fn take(&mut self, version: u64, paper: Signed<T>) {
        self.shown.push(version);
        self.kept.entry(version).or_insert(paper);
    }

    /// The newest that is believed and newer than what is known (0: nothing).
    fn newest(&mut self, known: u64) -> Option<Signed<T>> {
        let most = plausible_version(known, &mut self.shown);
        self.kept.retain(|version, _| (known..=most).contains(version) && *version > known);
        self.kept.pop_last().map(|(_, paper)| paper)
    }
}

/// What nodes showed.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Rather one by a later key of the operator than one with a later date.
    certificate: Option<((usize, Wall), Signed<VaultCertificate>)>,
    descriptors: Versions<VaultDescriptor>,
    rosters: Versions<Roster>,
}

impl Shown {
    /// Takes in what a node shows of this vault.
    pub(super) fn take(
        &mut self,
        papers: VaultPapers,
        (vault, operator): (VaultId, OperatorId),
        now: Wall,
    ) -> Result<(), CertificateError> {
        let VaultTerms { certificate, descriptor, roster } = papers.verify(now)?;
        if certificate.vault != vault || certificate.operator != operator {
            return Err(CertificateError::Chain("papers of another vault"));
        }
        let said = papers.certificate.said()?.map_or(0, |said| said.number());
        let rank = (said, certificate.expires);
        if self.certificate.as_ref().is_none_or(|(known, _)| *known < rank) {
            self.certificate = Some((rank, papers.certificate));
        }
        self.descriptors.take(descriptor.version, papers.descriptor);
        self.rosters.take(roster.version, papers.roster);
        Ok(())
    }

    /// A descriptor that is newer than the version known.
    pub(super) fn descriptor(&mut self, known: u64) -> Option<Signed<VaultDescriptor>> {
        self.descriptors.newest(known)
    }

    /// A roster that is newer than the version known.
    pub(super) fn roster(&mut self, known: u64) -> Option<Signed<Roster>> {
        self.rosters.newest(known)
    }

    /// All papers, for whoever has none.
    pub(super) fn into_papers(mut self) -> Option<VaultPapers> {
        let (descriptor, roster) = (self.descriptor(0)?, self.roster(0)?);
        Some(VaultPapers { certificate: self.certificate?.1, descriptor, roster })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::sign::SecretKey;

    fn roster(version: u64) -> Signed<Roster> {
        let key = SecretKey::from_seed(&[1; 32]);
        Signed::sign(&Roster { vault: key.public().into(), version, nodes: Vec::new() }, &key)
    }

    #[test]
    fn a_later_keys_word_for_the_vault_counts_before_a_later_date() {
        use protocol::codec::Blob;
        use protocol::policy::Policy;
        use protocol::succession::{Change, Draft, Heirs, Line, Speaker};
        use protocol::time::Period;
        let [vault, first, later] = [1, 2, 3].map(|seed| SecretKey::from_seed(&[seed; 32]));
        let now = Wall(1_800_000_000_000);
        let change = Change { heirs: Heirs::default(), issued: now, grace: Period(0) };
        let mut draft = Draft::new(Line::first(first.public().into()), change, &later).unwrap();
        draft.sign(&first).unwrap();
        let later = Speaker::new(later, draft.finish().unwrap()).unwrap();
        let (first, id) = (Speaker::first(first), VaultId::from(vault.public()));
        let papers = |speaker: &Speaker, days: u64| {
            let (operator, expires) = (speaker.operator(), now.after(Period::days(days)));
            let certificate = VaultCertificate { vault: id, operator, issued: now, expires };
            let descriptor = VaultDescriptor {
                vault: id,
                version: 1,
                recipients: Vec::new(),
                sealed_secret: Blob(Vec::new()),
                policy: Policy::survive_one("node"),
            };
            VaultPapers {
                certificate: Signed::speak(&certificate, speaker),
                descriptor: Signed::sign(&descriptor, &vault),
                roster: roster(1),
            }
        };
        let both = [papers(&later, 30), papers(&first, 36_000)];
        for order in [[0, 1], [1, 0]] {
            let mut shown = Shown::default();
            for at in order {
                shown.take(both[at].clone(), (id, first.operator()), now).unwrap();
            }
            assert_eq!(shown.into_papers().unwrap().certificate, both[0].certificate);
        }
    }

    #[test]
    fn the_newest_counts_that_is_not_far_ahead_of_what_most_have() {
        let newest = |known: u64, shown: &[u64]| {
            let mut versions = Versions::default();
            for &version in shown {
                versions.take(version, roster(version));
            }
            versions.newest(known).map(|signed| signed.verify().unwrap().version)
        };
        assert_eq!(newest(0, &[3, 4, 4]), Some(4));
        assert_eq!(newest(4, &[3, 4, 4]), None);
        assert_eq!(newest(0, &[3, 4, u64::MAX]), Some(4));
        assert_eq!(newest(4, &[u64::MAX, 5]), Some(5));
        // What most have is where the vault is, however far that is from here.
        let far = 1 << 40;
        assert_eq!(newest(4, &[far, far, 4]), Some(far));
        assert_eq!(newest(0, &[far]), Some(far));
        assert_eq!(newest(0, &[]), None);
    }
}
