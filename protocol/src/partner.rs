//! Whom an operator deals with, by its own signed word.
//!
//! ```text
//! partner ──signs──► Introduction (key, name, a few addresses)
//! operator ─signs──► PartnerList { introductions, agreements, which own nodes hold for whom }
//! ```
//! An introduction is what people paste; it is worth as much as the comparison of fingerprints that goes with it. The list is what an
//! operator's nodes and devices go by: whole, of one version, so that what it leaves out is removed and an older one puts nothing back.
//! Trust ends there: whom a partner trusts is nobody else's.

use crate::agreement::{Acceptance, Agreement, AgreementError, share};
use crate::certificate::{ADDRESS_LEN_MAX, CertificateError, check_count};
use crate::id::{NodeId, OperatorId, PublicKey};
use crate::planted::{Bug, is_planted};
use crate::sign::{SignatureError, Signed, Statement};
use crate::succession::{Line, Lines, SuccessionError};
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most partners of an operator.
pub const PARTNERS_MAX: usize = 32;
/// Most nodes that an introduction names,
pub const CONTACTS_MAX: usize = 4;
/// and addresses of each.
pub const CONTACT_ADDRESSES_MAX: usize = 4;
/// Longest name, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// Most nodes that hold for one partner.
pub const HOLDERS_MAX: usize = 256;

/// A node at which an operator's mesh can be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The node.
    pub node: NodeId,
    /// Its addresses (multiaddr text, without the peer's id).
    pub addresses: Vec<String>,
}

/// An operator says who it is and where its nodes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Who.
    pub operator: OperatorId,
    /// What it calls itself. Only the key counts.
    pub name: String,
    /// Where to begin.
    pub contacts: Vec<Contact>,
    /// When it was made: a later one says where the nodes are now.
    pub issued: Wall,
}

impl Statement for Introduction {
    const CONTEXT: &'static str = "strewn introduction";
    const LEN_MAX: usize = 8 << 10;
    fn signer(&self) -> PublicKey {
        self.operator.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.operator)
    }
}

/// A partner, as an operator lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partner {
    /// What the operator calls it.
    pub name: String,
    /// Who it is.
    pub introduction: Signed<Introduction>,
    /// When it was added.
    pub added: Wall,
    /// What was agreed; without it nothing is held for the partner.
    pub agreement: Option<Signed<Acceptance>>,
    /// The operator's nodes that hold for it, each an equal part of what the agreement gives.
    pub holders: Vec<NodeId>,
}

/// All partners of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerList {
    /// Whose.
    pub operator: OperatorId,
    /// Grows with every change. The higher one counts.
    pub version: u64,
    /// They.
    pub partners: Vec<Partner>,
}

impl Statement for PartnerList {
    const CONTEXT: &'static str = "strewn partner list";
    const LEN_MAX: usize = 1 << 20;
    fn signer(&self) -> PublicKey {
        self.operator.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.operator)
    }
}

/// Why an introduction or a list of partners does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartnerError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A bound.
    #[error(transparent)]
    Bound(#[from] CertificateError),
    /// Whoever signed does not speak for the operator.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// An agreement does not count.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// A name cannot be one.
    #[error("{0:?} cannot be a partner's name: printable text of 1 to {NAME_LEN_MAX} bytes")]
    Name(String),
    /// The list is another operator's.
    #[error("the list of partners is operator {0}'s")]
    Foreign(OperatorId),
    /// One operator twice, or one name.
    #[error("{0} is listed twice")]
    Twice(String),
    /// The operator lists itself.
    #[error("an operator is no partner of its own")]
    Own,
}

/// Refuses what people could not read back.
pub fn check_name(name: &str) -> Result<(), PartnerError> {
    let fits = !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && name.trim() == name
        && !name.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(PartnerError::Name(name.chars().take(80).collect())) }
}

impl Introduction {
    /// Verifies it and its bounds.
    pub fn verify(signed: &Signed<Self>) -> Result<Self, PartnerError> {
        let introduction = signed.verify()?;
        check_name(&introduction.name)?;
        check_count("nodes of an introduction", introduction.contacts.len(), CONTACTS_MAX)?;
        for contact in &introduction.contacts {
            check_count("addresses", contact.addresses.len(), CONTACT_ADDRESSES_MAX)?;
            let longest = contact.addresses.iter().map(String::len).max().unwrap_or(0);
            check_count("bytes of an address", longest, ADDRESS_LEN_MAX)?;
        }
        Ok(introduction)
    }
}

/// A partner of a list that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What the operator calls it.
    pub name: String,
    /// Where its nodes are.
    pub introduction: Introduction,
    /// Whose key speaks for it, as its people showed it.
    pub line: Line,
    /// When it was added.
    pub added: Wall,
    /// What was agreed.
    pub agreement: Option<Agreement>,
    /// Who holds for it.
    pub holders: Vec<NodeId>,
}

impl Known {
    /// Bytes that a node of `own` holds for it at most, as long as the agreement counts: 0 without one.
    #[must_use]
    pub fn share_of(&self, own: OperatorId, node: NodeId) -> u64 {
        let gives = self.agreement.as_ref().and_then(|agreement| agreement.side(own));
        let place = self.holders.iter().position(|holder| *holder == node);
        match (gives, place) {
            (Some(side), Some(_)) if is_planted(Bug::Division) => side.gives,
            (Some(side), Some(place)) => share(side.gives, place, self.holders.len()),
            _ => 0,
        }
    }
}

/// A list of partners that was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partners {
    /// Its version; 0 before the first one.
    pub version: u64,
    /// They.
    pub by_operator: BTreeMap<OperatorId, Known>,
    /// Whose key speaks for them, and for the operator itself, as the list shows it.
    pub lines: Lines,
}

/// What a later list has more of: steps in the line of the operator's keys, or versions under the same.
pub type Rank = (usize, u64);

impl Partners {
    /// What a later list has more of. So whoever stole a key that was succeeded cannot have used all numbers up, and a list from before heirs were named
    /// has nobody forget them.
    #[must_use]
    pub fn rank(&self, own: OperatorId) -> Rank {
        (self.lines.get(own).map_or(0, Line::number), self.version)
    }
}

impl PartnerList {
    /// Verifies the list of this operator, and all that is in it.
    pub fn verify(signed: &Signed<Self>, own: OperatorId) -> Result<Partners, PartnerError> {
        let list = signed.verify()?;
        if list.operator != own {
            return Err(PartnerError::Foreign(list.operator));
        }
        check_count("partners", list.partners.len(), PARTNERS_MAX)?;
        let mut by_operator = BTreeMap::new();
        let mut lines = Lines::default();
        if let Some(line) = signed.line()? {
            lines.learn(line)?;
        }
        for partner in list.partners {
            check_name(&partner.name)?;
            check_count("nodes that hold for a partner", partner.holders.len(), HOLDERS_MAX)?;
            let introduction = Introduction::verify(&partner.introduction)?;
            let operator = introduction.operator;
            if operator == own {
                return Err(PartnerError::Own);
            }
            let line = partner.introduction.line()?.unwrap_or_else(|| Line::first(operator));
            lines.learn(line.clone())?;
            let agreement = partner.agreement.as_ref().map(Acceptance::verify).transpose()?;
            if let Some(agreement) = &agreement {
                agreement.check_between(own, operator)?;
            }
            let mut holders = partner.holders.clone();
            holders.sort_unstable();
            holders.dedup();
            // One node with two parts would have only the first.
            if holders.len() < partner.holders.len() {
                return Err(PartnerError::Twice("a node that holds for a partner".into()));
            }
            let Partner { name, added, .. } = partner;
            if by_operator.values().any(|known: &Known| known.name == name) {
                return Err(PartnerError::Twice(name));
            }
            let holders = partner.holders;
            let known = Known { name, introduction, line, added, agreement, holders };
            if by_operator.insert(operator, known).is_some() {
                return Err(PartnerError::Twice(operator.to_string()));
            }
        }
        Ok(Partners { version: list.version, by_operator, lines })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::Side;
    use crate::label::Labels;
    use crate::sign::SecretKey;
    use crate::time::Period;
    use proptest::prelude::*;

    const NOW: Wall = Wall(1_800_000_000_000);
    const OWN: u8 = 1;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn operator(seed: u8) -> OperatorId {
        key(seed).public().into()
    }

    fn introduction(seed: u8) -> Introduction {
        let contact = Contact { node: NodeId([seed; 32]), addresses: vec!["/memory/1".into()] };
        let name = format!("partner {seed}");
        Introduction { operator: operator(seed), name, contacts: vec![contact], issued: NOW }
    }

    fn partner(seed: u8) -> Partner {
        Partner {
            name: format!("p{seed}"),
            introduction: Signed::sign(&introduction(seed), &key(seed)),
            added: NOW,
            agreement: None,
            holders: Vec::new(),
        }
    }

    /// What two operators agreed, the second of them giving so much.
    fn agreed(first: u8, second: u8, gives: u64) -> Signed<Acceptance> {
        let side =
            |seed, gives| Side { operator: operator(seed), gives, labels: Labels::default() };
        let agreement = Agreement {
            first: side(first, 7),
            second: side(second, gives),
            version: 1,
            start: NOW,
            term: Period::days(365),
            notice: Period::days(30),
            lock_max: Period::days(90),
        };
        let agreement = Signed::sign(&agreement, &key(first));
        let acceptance = Acceptance { operator: operator(second), agreement };
        Signed::sign(&acceptance, &key(second))
    }

    fn verify(partners: Vec<Partner>) -> Result<Partners, PartnerError> {
        let list = PartnerList { operator: operator(OWN), version: 4, partners };
        PartnerList::verify(&Signed::sign(&list, &key(OWN)), operator(OWN))
    }

    #[test]
    fn a_list_names_each_partner_once() {
        let known = verify(vec![partner(2), partner(3)]).unwrap();
        assert_eq!(known.version, 4);
        assert_eq!(known.by_operator.len(), 2);
        assert_eq!(known.by_operator[&operator(2)].introduction, introduction(2));
        assert!(matches!(verify(vec![partner(2), partner(2)]), Err(PartnerError::Twice(_))));
        let same_name = Partner { name: "p2".into(), ..partner(3) };
        assert!(matches!(verify(vec![partner(2), same_name]), Err(PartnerError::Twice(_))));
        assert_eq!(verify(vec![partner(OWN)]), Err(PartnerError::Own));
        let many = (2..40).map(partner).collect();
        assert!(matches!(verify(many), Err(PartnerError::Bound(_))));
    }

    #[test]
    fn a_list_is_its_own_operators_word() {
        let list = PartnerList { operator: operator(9), version: 1, partners: vec![] };
        let signed = Signed::sign(&list, &key(9));
        let foreign = PartnerList::verify(&signed, operator(OWN));
        assert_eq!(foreign, Err(PartnerError::Foreign(operator(9))));
    }

    #[test]
    fn what_others_agreed_gives_a_partner_nothing() {
        let with = |agreement| Partner { agreement: Some(agreement), ..partner(2) };
        assert!(verify(vec![with(agreed(2, OWN, 10))]).is_ok());
        assert!(verify(vec![with(agreed(OWN, 2, 10))]).is_ok());
        let others = verify(vec![with(agreed(3, OWN, 10))]);
        assert!(matches!(others, Err(PartnerError::Agreement(_))), "{others:?}");
    }

    #[test]
    fn what_is_given_is_shared_among_the_nodes_that_hold() {
        let [one, two, third] = [1, 2, 3].map(|name| NodeId([name; 32]));
        let agreement = Some(agreed(2, OWN, 11));
        let listed = Partner { agreement, holders: vec![two, one], ..partner(2) };
        let known = verify(vec![listed.clone()]).unwrap();
        let known = &known.by_operator[&operator(2)];
        let of = |node| known.share_of(operator(OWN), node);
        assert_eq!((of(two), of(one), of(third)), (6, 5, 0));
        let nothing = Known { agreement: None, ..known.clone() };
        assert_eq!(nothing.share_of(operator(OWN), one), 0);
        let twice = Partner { holders: vec![one, one], ..listed };
        assert!(matches!(verify(vec![twice]), Err(PartnerError::Twice(_))));
    }

    #[test]
    fn an_introduction_keeps_its_bounds() {
        let check = |change: fn(&mut Introduction)| {
            let mut introduction = introduction(2);
            change(&mut introduction);
            Introduction::verify(&Signed::sign(&introduction, &key(2)))
        };
        assert!(check(|_| {}).is_ok());
        let wrong: [fn(&mut Introduction); 6] = [
            |i| i.name = String::new(),
            |i| i.name = " a".into(),
            |i| i.name = "a\u{1b}[31m".into(),
            |i| i.contacts = vec![i.contacts[0].clone(); CONTACTS_MAX + 1],
            |i| i.contacts[0].addresses = vec![String::new(); CONTACT_ADDRESSES_MAX + 1],
            |i| i.contacts[0].addresses = vec!["x".repeat(ADDRESS_LEN_MAX + 1)],
        ];
        for (number, wrong) in wrong.into_iter().enumerate() {
            assert!(check(wrong).is_err(), "{number}");
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in any::<usize>()) {
            let listed = Partner { agreement: Some(agreed(2, OWN, 10)), ..partner(2) };
            let list = PartnerList { operator: operator(OWN), version: 1, partners: vec![listed] };
            let mut bytes = Signed::sign(&list, &key(OWN)).to_bytes();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = Signed::<PartnerList>::from_bytes(&bytes);
            let own = operator(OWN);
            prop_assert!(!read.is_ok_and(|signed| PartnerList::verify(&signed, own).is_ok()));
        }

        #[test]
        fn a_list_is_read_or_refused_and_never_panics(bytes: Vec<u8>) {
            let read = Signed::<PartnerList>::from_bytes(&bytes);
            let _ = read.map(|signed| PartnerList::verify(&signed, operator(OWN)));
        }
    }
}
