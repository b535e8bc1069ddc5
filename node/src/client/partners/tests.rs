//! Two operators with their books, line by line.

use super::*;
use crate::home::create_key;
use protocol::sign::SecretKey;

/// Two operators that know each other, each with its own state folder.
fn two() -> [(tempfile::TempDir, Home, Book); 2] {
    let mut both = [(); 2].map(|()| {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().into());
        create_key(&home.path("operator.key"), "the key of the operator").unwrap();
        let book = Book::open(&home, &Told::default()).unwrap();
        (dir, home, book)
    });
    let lines = [0, 1].map(|at| both[at].2.introduce(format!("o{at}"), Vec::new()).unwrap());
    for (at, (_, home, book)) in both.iter_mut().enumerate() {
        let Line::Introduction(signed, _) = read_line(&lines[1 - at]).unwrap() else { panic!() };
        assert!(book.add(home, signed, None).is_ok());
    }
    both
}

fn terms(gives: u64, takes: u64) -> Terms {
    Terms {
        gives,
        takes,
        term: Period::days(365),
        notice: Period::days(30),
        lock_max: Period::days(90),
        labels: Labels::default(),
        asks: Labels::default(),
    }
}

fn node(name: u8) -> Vec<NodeId> {
    vec![NodeId([name; 32])]
}

fn document(book: &Book) -> Signed<Acceptance> {
    book.list.partners[0].agreement.clone().expect("an agreement")
}

#[test]
fn two_operators_come_to_hold_the_same_document() {
    let [(_a, home_a, mut a), (_b, home_b, mut b)] = two();
    let (_, line) = a.propose("o1", terms(500, 400)).unwrap();
    let Line::Proposal(proposal, agreement) = read_line(&line).unwrap() else { panic!() };
    assert_eq!((agreement.version, agreement.first.gives), (1, 500));
    // Nobody accepts what he proposed himself.
    assert!(matches!(a.accept(&home_a, proposal.clone(), node(1)), Err(PartnersError::Own)));
    let nobody = b.accept(&home_b, proposal.clone(), Vec::new());
    assert!(matches!(nobody, Err(PartnersError::NoHolders)), "{nobody:?}");
    let answer = b.accept(&home_b, proposal.clone(), node(2)).unwrap();
    let Line::Agreed(signed, _) = read_line(&answer).unwrap() else { panic!() };
    a.conclude(&home_a, signed.clone(), node(1)).unwrap();
    assert_eq!(document(&a), document(&b));
    // The same proposal counts once, and the line that answers it can be had again; the same answer is no change.
    let before = b.list.clone();
    assert_eq!(b.accept(&home_b, proposal.clone(), node(2)).unwrap(), answer);
    assert_eq!(b.list, before);
    a.conclude(&home_a, signed.clone(), node(1)).unwrap();
    // A change needs both again; what was before does not come back.
    let (_, line) = b.propose("o0", terms(1, 2)).unwrap();
    let Line::Proposal(change, agreement) = read_line(&line).unwrap() else { panic!() };
    assert_eq!(agreement.version, 2);
    let answer = a.accept(&home_a, change, node(1)).unwrap();
    let Line::Agreed(second, _) = read_line(&answer).unwrap() else { panic!() };
    b.conclude(&home_b, second, node(2)).unwrap();
    assert_eq!(document(&a), document(&b));
    assert_ne!(document(&a), signed);
    let late = b.accept(&home_b, proposal, node(2));
    assert!(matches!(late, Err(PartnersError::Own | PartnersError::Agreement(_))), "{late:?}");
    assert!(matches!(a.conclude(&home_a, signed, node(1)), Err(PartnersError::Old)));
    // It is as it was when the folder is opened again.
    let again = Book::open(&home_a, &Told::default()).unwrap();
    assert_eq!(again.list, a.list);
}

#[test]
fn two_proposals_that_cross_end_as_one() {
    let [(_a, home_a, mut a), (_b, home_b, mut b)] = two();
    let lines = [a.propose("o1", terms(1, 2)).unwrap().1, b.propose("o0", terms(3, 4)).unwrap().1];
    let proposals = lines.map(|line| match read_line(&line).unwrap() {
        Line::Proposal(signed, _) => signed,
        other => panic!("{other:?}"),
    });
    let [from_a, from_b] = proposals;
    let answers =
        [a.accept(&home_a, from_b, node(1)).unwrap(), b.accept(&home_b, from_a, node(2)).unwrap()];
    let [of_a, of_b] = answers.map(|line| match read_line(&line).unwrap() {
        Line::Agreed(signed, _) => signed,
        other => panic!("{other:?}"),
    });
    // One of them keeps what it has.
    let taken = [a.conclude(&home_a, of_b, node(1)), b.conclude(&home_b, of_a, node(2))];
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 1, "{taken:?}");
    assert_eq!(document(&a), document(&b));
}

#[test]
fn a_line_of_a_stranger_is_no_agreement() {
    let [(_a, _, a), _] = two();
    let [(_c, home_c, mut c), _] = two();
    let (_, line) = a.propose("o1", terms(1, 2)).unwrap();
    let Line::Proposal(proposal, _) = read_line(&line).unwrap() else { panic!() };
    assert!(c.accept(&home_c, proposal, node(1)).is_err());
    assert!(matches!(read_line("hello"), Err(PartnersError::Line(_))));
    assert!(matches!(read_line(&line[..line.len() - 1]), Err(PartnersError::Line(_))));
}

#[test]
fn a_later_introduction_keeps_what_was_agreed() {
    let [(_a, _, a), (_b, home_b, mut b)] = two();
    let (_, line) = a.propose("o1", terms(5, 6)).unwrap();
    let Line::Proposal(proposal, _) = read_line(&line).unwrap() else { panic!() };
    let _ = b.accept(&home_b, proposal, node(2)).unwrap();
    let line = a.introduce("elsewhere".into(), Vec::new()).unwrap();
    let Line::Introduction(signed, _) = read_line(&line).unwrap() else { panic!() };
    let known = b.add(&home_b, signed, None).unwrap();
    assert_eq!((known.name.as_str(), known.introduction.name.as_str()), ("o0", "elsewhere"));
    assert!(known.agreement.is_some());
    let removed = b.remove(&home_b, "o0").unwrap();
    assert!(removed.agreement.is_some());
    assert!(matches!(b.find("o0"), Err(PartnersError::Unknown(_))));
}

/// What is known of a partner's heirs and of changes of its key is not forgotten by a line from before: neither by one that a thief made, nor by
/// one that was stripped.
#[test]
fn a_line_that_shows_fewer_steps_takes_nothing_back() {
    use crate::client::operator::{begin, name_heirs, take};
    use protocol::succession::Heirs;
    let [(_a, home_a, first), (_b, home_b, mut b)] = two();
    let introduction = |book: &Book, name: &str| {
        let line = book.introduce(name.into(), Vec::new()).unwrap();
        let Line::Introduction(signed, _) = read_line(&line).unwrap() else { panic!() };
        signed
    };
    let heir = SecretKey::from_seed(&[7; 32]);
    take(&home_a, name_heirs(&home_a, Heirs::new(1, [heir.public()]).unwrap()).unwrap()).unwrap();
    let named = Book::open(&home_a, &Told::default()).unwrap();
    assert_eq!(b.add(&home_b, introduction(&named, "o0"), None).unwrap().line, *named.line());
    let result = b.add(&home_b, introduction(&first, "elsewhere"), None).map(|_| ());
    assert!(matches!(result, Err(PartnersError::Shorter)), "{result:?}");
    assert_eq!(b.known.by_operator[&first.operator()].introduction.name, "o0");
    // Within the grace of a change, too.
    let mut draft = begin(&home_a, None, Period::days(30)).unwrap();
    draft.sign(&heir).unwrap();
    take(&home_a, draft).unwrap();
    let changed = Book::open(&home_a, &Told::default()).unwrap();
    let (line, shown) = (changed.line().clone(), introduction(&changed, "o0"));
    let Ok(known) = b.add(&home_b, shown, None) else { panic!("it is further") };
    assert_eq!(known.line, line);
    for earlier in [&first, &named] {
        let result = b.add(&home_b, introduction(earlier, "elsewhere"), None).map(|_| ());
        assert!(matches!(result, Err(PartnersError::Shorter)), "{result:?}");
    }
    // What people compare differs as soon as another key speaks, or heirs are named.
    let shown = [&first, &named, &changed].map(|book| book.line().fingerprint());
    assert_eq!(shown[0], first.operator().key().fingerprint());
    assert!(shown[0] != shown[1] && shown[1] != shown[2]);
    // A line that is dated ahead is not the last.
    let mut ahead = introduction(&changed, "o0").verify().unwrap();
    ahead.issued = wall().after(Period::days(2));
    let result = b.add(&home_b, Signed::speak(&ahead, &changed.speaker), None).map(|_| ());
    assert!(matches!(result, Err(PartnersError::Ahead)), "{result:?}");
    assert!(b.add(&home_b, introduction(&changed, "here"), None).is_ok());
}

/// Who shows another line than the known one, or signs with a key that was succeeded, is refused by the book; what was agreed stays.
#[test]
fn a_partners_later_key_is_taken_and_an_earlier_one_is_not() {
    use crate::client::operator::{begin, name_heirs, take};
    use protocol::succession::{Change, Draft, Heirs};
    let [(_a, home_a, mut a), (_b, home_b, mut b)] = two();
    let (_, line) = a.propose("o1", terms(500, 400)).unwrap();
    let Line::Proposal(proposal, _) = read_line(&line).unwrap() else { panic!() };
    let answer = b.accept(&home_b, proposal, node(2)).unwrap();
    let Line::Agreed(agreed, _) = read_line(&answer).unwrap() else { panic!() };
    a.conclude(&home_a, agreed.clone(), node(1)).unwrap();
    let (stale, late) = (a.introduce("o0".into(), Vec::new()), a.propose("o1", terms(1, 400)));
    let first = a.speaker.clone();
    let introduction = |book: &Book| {
        let line = book.introduce("o0".into(), Vec::new()).unwrap();
        let Line::Introduction(signed, _) = read_line(&line).unwrap() else { panic!() };
        signed
    };
    let heir = SecretKey::from_seed(&[7; 32]);
    take(&home_a, name_heirs(&home_a, Heirs::new(1, [heir.public()]).unwrap()).unwrap()).unwrap();
    let named = Book::open(&home_a, &Told::default()).unwrap();
    assert_eq!(b.add(&home_b, introduction(&named), None).unwrap().line.number(), 1);
    let mut draft = begin(&home_a, None, Period(0)).unwrap();
    draft.sign(&heir).unwrap();
    take(&home_a, draft).unwrap();
    let a = Book::open(&home_a, &Told::default()).unwrap();
    assert_eq!((a.operator(), document(&a)), (first.operator(), agreed.clone()));
    let known = b.add(&home_b, introduction(&a), None).unwrap();
    assert_eq!((known.line.key(), known.agreement.is_some()), (a.speaker.key().public(), true));
    assert!(!is_agreed_since_change(known), "it was agreed with the first key, while that spoke");
    let mut later = known.clone();
    later.agreement.as_mut().unwrap().start = later.line.successions()[1].issued;
    assert!(is_agreed_since_change(&later), "with whoever had the first key, perhaps");
    assert_eq!(document(&b), agreed);

    let refused = |result: Done<()>| {
        assert!(matches!(result, Err(PartnersError::Succession(_))), "{result:?}");
    };
    let Line::Introduction(signed, _) = read_line(&stale.unwrap()).unwrap() else { panic!() };
    refused(b.add(&home_b, signed, None).map(|_| ()));
    let Line::Proposal(signed, _) = read_line(&late.unwrap().1).unwrap() else { panic!() };
    refused(b.accept(&home_b, signed, node(2)).map(|_| ()));
    // The thief of the first key names a successor of his own.
    let thief = SecretKey::from_seed(&[8; 32]);
    let change = Change { heirs: Heirs::default(), issued: wall(), grace: Period(0) };
    let mut draft = Draft::new(first.line().clone(), change, &thief).unwrap();
    draft.sign(first.key()).unwrap();
    let usurper = Speaker::new(thief, draft.finish().unwrap()).unwrap();
    let plain = introduction(&a).verify().unwrap();
    refused(b.add(&home_b, Signed::speak(&plain, &usurper), None).map(|_| ()));
}

/// Who removed a partner and added it again knows no version: the other side has to propose, and is told so.
#[test]
fn who_forgot_what_was_agreed_is_proposed_to() {
    let [(_a, home_a, mut a), (_b, home_b, mut b)] = two();
    let agree = |from: &Book, to: (&mut Book, &Home), name: &str| {
        let (_, line) = from.propose(name, terms(5, 6)).unwrap();
        let Line::Proposal(proposal, _) = read_line(&line).unwrap() else { panic!() };
        to.0.accept(to.1, proposal, node(3))
    };
    let answer = agree(&a, (&mut b, &home_b), "o1").unwrap();
    let introduction = b.introduce("o1".into(), Vec::new()).unwrap();
    let Line::Introduction(introduction, _) = read_line(&introduction).unwrap() else { panic!() };
    let Line::Agreed(signed, _) = read_line(&answer).unwrap() else { panic!() };
    a.conclude(&home_a, signed, node(1)).unwrap();
    a.remove(&home_a, "o1").unwrap();
    a.add(&home_a, introduction, None).unwrap();
    // Other terms than at first, so that it is another proposal.
    let (_, line) = a.propose("o1", terms(7, 8)).unwrap();
    let Line::Proposal(proposal, _) = read_line(&line).unwrap() else { panic!() };
    let refused = b.accept(&home_b, proposal, node(2)).unwrap_err();
    let text = crate::cli::error::CliError::from(refused).to_string();
    assert!(text.contains("version 1 of the agreement does not follow version 1"), "{text}");
    assert!(text.contains("propose from this side"), "{text}");
    let answer = agree(&b, (&mut a, &home_a), "o0").unwrap();
    let Line::Agreed(signed, _) = read_line(&answer).unwrap() else { panic!() };
    b.conclude(&home_b, signed, node(2)).unwrap();
    assert_eq!(document(&a), document(&b));
}
