//! The list of partners, signed anew because another key is to speak or heirs were named: by it the operator's nodes hear of that.
//!
//! Whoever had the key before can have made a list of his own, and nodes have that. So which one is signed is settled before anything changes: the one here, unless
//! somebody says that it is to be the one that nodes have; and of what differs nothing is taken silently.

use super::{Book, Done, PartnersError, Told, is_under, stored};
use crate::client::operator;
use crate::home::Home;
use protocol::id::OperatorId;
use protocol::partner::{Known, PartnerList, Partners};
use protocol::sign::Signed;
use protocol::succession::Line;
use std::collections::BTreeSet;

type List = (Signed<PartnerList>, Partners);

/// Whose list it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The one in this host's state folder.
    Here,
    /// The newest that the operator's nodes have.
    Nodes,
}

/// The lists that there are.
#[derive(Debug)]
pub struct Lists {
    here: Option<List>,
    told: Option<List>,
}

impl Lists {
    /// The one in the state folder and the newest that nodes have told, as far as they are this operator's.
    pub fn gather(home: &Home, line: &Line, told: Option<&Told>) -> Done<Self> {
        let own = line.operator();
        let here = stored(home, own)?.filter(|(signed, _)| is_under(line, signed));
        let told = told.and_then(|told| told.list.as_ref()).map(|(signed, _)| signed);
        let told = told.filter(|signed| is_under(line, signed)).cloned();
        let told = told.map(|signed| {
            Ok::<_, PartnersError>((signed.clone(), PartnerList::verify(&signed, own)?))
        });
        let told = told.transpose()?;
        // An older one, or the same, says nothing.
        let is_newer =
            |list: &List| here.as_ref().is_none_or(|(_, known)| list.1.rank(own) > known.rank(own));
        let told = told.filter(is_newer);
        Ok(Self { here, told })
    }

    /// The list to sign; none where there is none. Where another key is to speak and nodes have something that is not here, somebody has to have
    /// said whose counts.
    pub fn choose(
        self,
        whose: Option<Whose>,
        changes_key: bool,
    ) -> Done<Option<Signed<PartnerList>>> {
        let differences = self.differences();
        let list = match (self.here, self.told) {
            (here, None) => here,
            (None, Some(_)) if whose == Some(Whose::Here) => None,
            (Some(here), Some(_)) if whose == Some(Whose::Here) => Some(here),
            (_, told) if whose == Some(Whose::Nodes) || !changes_key || differences.is_empty() => {
                told
            }
            _ => return Err(PartnersError::Which(differences.join("; "))),
        };
        Ok(list.map(|(signed, _)| signed))
    }

    /// What the list of nodes has that the one here has not, and the other way round.
    fn differences(&self) -> Vec<String> {
        let Some((_, told)) = &self.told else { return Vec::new() };
        let none = Partners::default();
        let here = self.here.as_ref().map_or(&none, |(_, here)| here);
        let operators: BTreeSet<&OperatorId> =
            here.by_operator.keys().chain(told.by_operator.keys()).collect();
        let mut differences: Vec<String> = Vec::new();
        if self.here.is_none() {
            differences.push("this host has none".into());
        }
        let name = |known: &Known| format!("{} ({})", known.name, known.line.fingerprint());
        for operator in operators {
            let text = match (here.by_operator.get(operator), told.by_operator.get(operator)) {
                (Some(here), None) => format!("nodes do not have {}", name(here)),
                (None, Some(told)) => format!("nodes have {}", name(told)),
                (Some(here), Some(told)) if here != told => {
                    format!("nodes have another word of {}", name(told))
                }
                _ => continue,
            };
            differences.push(text);
        }
        differences
    }
}

impl Book {
    /// Signs this list anew as it is, with the key that speaks now: the operator's nodes learn by it who that is.
    pub fn say_again(home: &Home, signed: Signed<PartnerList>) -> Done<Self> {
        let speaker = operator::speaker_for(home, "dealing with partners")?;
        let mut book = Self::of(speaker, Some(signed))?;
        book.save(home)?;
        Ok(book)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::operator::{begin, take};
    use crate::client::partners::{Line as Pasted, read_line};
    use crate::home::create_key;
    use protocol::succession::Speaker;
    use protocol::time::Period;

    fn home() -> (tempfile::TempDir, Home, Speaker) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().into());
        let key = create_key(&home.path("operator.key"), "the key of the operator").unwrap();
        (dir, home, Speaker::first(key))
    }

    fn add(book: &mut Book, home: &Home, name: &str) {
        let (_dir, theirs, _) = self::home();
        let other = Book::open(&theirs, &Told::default()).unwrap();
        let line = other.introduce(name.into(), Vec::new()).unwrap();
        let Pasted::Introduction(signed, _) = read_line(&line).unwrap() else { panic!() };
        assert!(book.add(home, signed, None).is_ok());
    }

    fn told(signed: Signed<PartnerList>, own: OperatorId) -> Told {
        let rank = PartnerList::verify(&signed, own).unwrap().rank(own);
        Told { list: Some((signed, rank)), ..Told::default() }
    }

    fn names(signed: Option<Signed<PartnerList>>) -> Vec<String> {
        let list = signed.map(|signed| signed.verify().unwrap());
        list.into_iter().flat_map(|list| list.partners).map(|partner| partner.name).collect()
    }

    /// What the thief of a key told nodes is signed by the next key only where somebody says so, and named before.
    #[test]
    fn a_thiefs_list_is_not_signed_anew_unasked() {
        let (_dir, home, speaker) = home();
        let own = speaker.operator();
        let mut book = Book::open(&home, &Told::default()).unwrap();
        add(&mut book, &home, "friend");
        let here = stored(&home, own).unwrap().unwrap().0;
        // The thief has a folder of his own.
        let thief = tempfile::tempdir().unwrap();
        let thief = Home::new(thief.path().into());
        crate::home::write_secret(&thief.path("operator.key"), "a key", &speaker.key().seed())
            .unwrap();
        let mut his = Book::open(&thief, &told(here.clone(), own)).unwrap();
        add(&mut his, &thief, "evil");
        let his = told(stored(&thief, own).unwrap().unwrap().0, own);
        let line = speaker.line();
        let lists = || Lists::gather(&home, line, Some(&his)).unwrap();
        let asked = lists().choose(None, true);
        assert!(
            matches!(&asked, Err(PartnersError::Which(what)) if what.contains("nodes have evil")),
            "{asked:?}"
        );
        assert_eq!(names(lists().choose(Some(Whose::Here), true).unwrap()), ["friend"]);
        assert_eq!(names(lists().choose(Some(Whose::Nodes), true).unwrap()), ["friend", "evil"]);
        assert_eq!(
            names(lists().choose(None, false).unwrap()),
            ["friend", "evil"],
            "of one key the later"
        );
        // Without one here it is asked as well.
        let (_dir, empty, _) = self::home();
        let lists = || Lists::gather(&empty, line, Some(&his)).unwrap();
        assert!(matches!(lists().choose(None, true), Err(PartnersError::Which(_))));
        assert_eq!(lists().choose(Some(Whose::Here), true).unwrap(), None);
        // What nodes have of the one here is no question.
        let same = told(here.clone(), own);
        let lists = Lists::gather(&home, line, Some(&same)).unwrap();
        assert_eq!(lists.choose(None, true).unwrap(), Some(here.clone()));
        // Signed anew, it counts before what the thief has told.
        take(&home, begin(&home, None, Period(0)).unwrap()).unwrap();
        let book = Book::say_again(&home, here).unwrap();
        assert_eq!(book.partners().count(), 1);
        let (signed, known) = stored(&home, own).unwrap().unwrap();
        assert!(known.rank(own) > his.list.as_ref().unwrap().1);
        // A host without the key that had kept the thief's takes it, and not back.
        let (host, (his, _)) = (Home::new(thief.path("host")), his.list.unwrap());
        std::fs::create_dir(thief.path("host")).unwrap();
        for (list, counts) in [(&his, true), (&signed, true), (&signed, true), (&his, false)] {
            assert_eq!(super::super::keep(&host, own, list).unwrap(), counts);
        }
        assert_eq!(stored(&host, own).unwrap().unwrap().0, signed);
    }
}
