//! What shows that a node's labels are true, from the weakest to the strongest:
//!
//! ```text
//! declared   the node says so: what the bearer of an invitation asked for beyond what its operator fixed
//! signed     its operator says so: the certificate, or the labels of the invitation
//! vouched    another operator says so, until a day: a Vouch that the certificate shows
//! attested   another operator says so who has checked a cloud's document about this machine, which the Vouch has in it
//! ```
//! Nobody's key is evidence for everybody: anyone can make one. A vouch counts for a vault when its operator is the vault's own, or one whose
//! nodes the vault's roster lists, and never for its own nodes. So all who hold for a vault come to the same. What a document is and
//! whether a cloud signed it is known outside of this crate: the cloud's keys change, and holders have to agree.

use crate::codec::Blob;
use crate::id::{NodeId, OperatorId, PublicKey};
use crate::label::{Labels, Level};
use crate::sign::{SignatureError, Signed, Statement};
use crate::succession::{Lines, Said};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Most vouches that a certificate shows.
pub const VOUCHES_MAX: usize = 8;
/// Longest time for which a vouch counts: machines move.
pub const VOUCH_VALIDITY_MAX: Period = Period::days(400);
/// Longest document of a cloud, with its signature, in bytes.
pub const DOCUMENT_LEN_MAX: usize = 8 << 10;

/// How well a label is shown to be true.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// It is known to be otherwise, or it is not what was agreed.
    Contradicted,
    /// The node says so.
    #[default]
    Declared,
    /// Its operator says so.
    Signed,
    /// Another operator says so.
    Vouched,
    /// Another operator has checked a cloud's document that says so.
    Attested,
}

impl Evidence {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contradicted => "contradicted",
            Self::Declared => "declared",
            Self::Signed => "signed",
            Self::Vouched => "vouched",
            Self::Attested => "attested",
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not evidence that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not evidence: declared, signed, vouched or attested")]
pub struct NoEvidence(String);

impl FromStr for Evidence {
    type Err = NoEvidence;
    fn from_str(text: &str) -> Result<Self, NoEvidence> {
        [Self::Declared, Self::Signed, Self::Vouched, Self::Attested]
            .into_iter()
            .find(|evidence| evidence.as_str() == text)
            .ok_or_else(|| NoEvidence(text.into()))
    }
}

/// Whose document about a machine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cloud {
    /// Amazon's instance identity document.
    Aws,
    /// Google's instance identity token.
    Gcp,
    /// Microsoft's attested document.
    Azure,
}

/// What a cloud says about a machine, as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Whose it is.
    pub cloud: Cloud,
    /// The document.
    pub text: Blob,
    /// Its signature, where that is apart from it.
    pub signature: Blob,
}

/// An operator says that labels of another operator's node are true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouch {
    /// Who says so.
    pub by: OperatorId,
    /// Of which node.
    pub node: NodeId,
    /// Which labels.
    pub labels: Labels,
    /// The document that it checked, if one shows them. That is not all of a machine's identity: whoever signs says that this node runs there.
    pub document: Option<Document>,
    /// When it was made.
    pub issued: Wall,
    /// Until when it counts.
    pub expires: Wall,
}

impl Statement for Vouch {
    const CONTEXT: &'static str = "strewn vouch";
    const LEN_MAX: usize = 14 << 10;
    fn signer(&self) -> PublicKey {
        self.by.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.by)
    }
}

/// Why a vouch does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VouchError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It cannot be meant.
    #[error("the vouch cannot be meant: {0}")]
    Meaning(&'static str),
}

impl Vouch {
    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), VouchError> {
        let document = self.document.as_ref();
        let wrong = if self.labels.is_empty() {
            "it is for no label"
        } else if self.expires <= self.issued {
            "it ends before it begins"
        } else if self.expires > self.issued.after(VOUCH_VALIDITY_MAX) {
            "it is for more than 400 days"
        } else if document.is_some_and(|d| d.text.0.len() + d.signature.0.len() > DOCUMENT_LEN_MAX)
        {
            "its document is longer than 8 KiB"
        } else {
            return Ok(());
        };
        Err(VouchError::Meaning(wrong))
    }

    /// Verifies it. Whether its operator's word counts is for whoever asks ([`Evidences::by`]).
    pub fn verify(signed: &Signed<Self>) -> Result<Self, VouchError> {
        let vouch = signed.verify()?;
        vouch.check()?;
        Ok(vouch)
    }
}

/// That an operator stands behind a label of a node, for a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backing {
    /// The label's level.
    pub level: Level,
    /// Who, and under which line of its keys.
    pub by: Said,
    /// From when on,
    pub from: Wall,
    /// and until when.
    pub until: Wall,
    /// What that makes of it.
    pub evidence: Evidence,
}

/// How well a node's labels are shown to be true: what counts, and what others say of which it depends on who asks whether it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Evidences {
    /// Of what is not listed.
    rest: Evidence,
    counted: BTreeMap<Level, Evidence>,
    backings: Vec<Backing>,
}

impl Evidences {
    /// All that is stated was signed by the operator, and others say this.
    pub(crate) fn signed(backings: Vec<Backing>) -> Self {
        Self { rest: Evidence::Signed, counted: BTreeMap::new(), backings }
    }

    /// As somebody counted it already; what is not listed is declared.
    #[must_use]
    pub fn counted(counted: BTreeMap<Level, Evidence>) -> Self {
        Self { rest: Evidence::Declared, counted, backings: Vec::new() }
    }

    /// The evidence that counts for a level's label.
    #[must_use]
    pub fn of(&self, level: &Level) -> Evidence {
        self.counted.get(level).copied().unwrap_or(self.rest)
    }

    /// What others say.
    #[must_use]
    pub fn backings(&self) -> &[Backing] {
        &self.backings
    }

    /// As somebody sees it, at this time, who believes the operators of these lines: by the keys that speak for them.
    #[must_use]
    pub fn by(&self, believed: &Lines, now: Wall) -> Self {
        let mut seen = self.clone();
        let skew = crate::certificate::CLOCK_SKEW_MAX;
        for backing in &self.backings {
            let is_now = backing.from <= now.after(skew) && now < backing.until;
            let line = believed.get(backing.by.operator());
            if is_now && line.is_some_and(|line| line.check(&backing.by, now).is_ok()) {
                let counted = seen.counted.entry(backing.level.clone()).or_insert(self.rest);
                *counted = (*counted).max(backing.evidence);
            }
        }
        seen
    }

    /// As it is where all that the node states is contradicted.
    #[must_use]
    pub fn contradicted() -> Self {
        let (counted, backings) = (BTreeMap::new(), Vec::new());
        Self { rest: Evidence::Contradicted, counted, backings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::SecretKey;
    use crate::succession::Line;
    use proptest::prelude::*;

    const NOW: Wall = Wall(1_800_000_000_000);

    fn vouch() -> Vouch {
        Vouch {
            by: SecretKey::from_seed(&[1; 32]).public().into(),
            node: NodeId([2; 32]),
            labels: Labels::new(["provider=aws".parse().unwrap()]).unwrap(),
            document: None,
            issued: NOW,
            expires: NOW.after(Period::days(365)),
        }
    }

    #[test]
    fn evidence_is_ordered_and_read_as_it_is_written() {
        let all = [Evidence::Declared, Evidence::Signed, Evidence::Vouched, Evidence::Attested];
        assert!(all.is_sorted() && Evidence::Contradicted < all[0]);
        for evidence in all {
            assert_eq!(evidence.to_string().parse(), Ok(evidence));
        }
        assert!("contradicted".parse::<Evidence>().is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!(vouch().check(), Ok(()));
        let long = Document {
            cloud: Cloud::Aws,
            text: vec![0; DOCUMENT_LEN_MAX].into(),
            signature: vec![0].into(),
        };
        for wrong in [
            Vouch { labels: Labels::default(), ..vouch() },
            Vouch { expires: NOW, ..vouch() },
            Vouch { expires: NOW.after(Period::days(401)), ..vouch() },
            Vouch { document: Some(long), ..vouch() },
        ] {
            assert!(matches!(wrong.check(), Err(VouchError::Meaning(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_vouch_counts_for_who_believes_its_operator_while_it_lasts() {
        let (level, by) = (Level::new("provider").unwrap(), vouch().by);
        let until = NOW.after(Period::days(1));
        let (said, evidence) = (Said::first(by), Evidence::Vouched);
        let backing = Backing { level: level.clone(), by: said, from: NOW, until, evidence };
        let all = Evidences::signed(vec![backing]);
        let seen = |by: &[OperatorId], now| {
            let mut believed = Lines::default();
            for &by in by {
                believed.learn(Line::first(by)).unwrap();
            }
            all.by(&believed, now).of(&level)
        };
        assert_eq!(seen(&[by], NOW), Evidence::Vouched);
        assert_eq!(seen(&[OperatorId([9; 32])], NOW), Evidence::Signed);
        assert_eq!(seen(&[by], until), Evidence::Signed);
        assert_eq!(seen(&[by], Wall(NOW.0 - 2 * 24 * 3_600_000)), Evidence::Signed);
        assert_eq!(Evidences::contradicted().of(&level), Evidence::Contradicted);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in any::<usize>()) {
            let mut bytes = Signed::sign(&vouch(), &SecretKey::from_seed(&[1; 32])).to_bytes();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = Signed::<Vouch>::from_bytes(&bytes);
            prop_assert!(!read.is_ok_and(|signed| Vouch::verify(&signed).is_ok()));
        }
    }
}
