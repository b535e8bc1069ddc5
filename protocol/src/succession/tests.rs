use super::*;
use crate::release::Veto;
use crate::sign::{SignatureError, Signed};
use proptest::prelude::*;

const NOW: Wall = Wall(1_800_000_000_000);
const GRACE: Period = Period::days(30);
const OPERATOR: u8 = 1;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn operator() -> OperatorId {
    key(OPERATOR).public().into()
}

fn heirs(need: u8, of: &[u8]) -> Heirs {
    Heirs::new(need, of.iter().map(|&seed| key(seed).public())).unwrap()
}

fn change(heirs: Heirs, grace: Period) -> Change {
    Change { heirs, issued: NOW, grace }
}

/// A line that goes on from this one, by a key, signed by these.
fn next(line: &Line, heirs: Heirs, grace: Period, by: u8, signed: &[u8]) -> Line {
    let mut draft = Draft::new(line.clone(), change(heirs, grace), &key(by)).unwrap();
    for &seed in signed {
        draft.sign(&key(seed)).unwrap();
    }
    draft.finish().unwrap()
}

/// One that named 2 of 11, 12 and 13 as heirs.
fn with_heirs() -> Line {
    let first = Line::first(operator());
    next(&first, heirs(2, &[11, 12, 13]), Period(0), OPERATOR, &[OPERATOR])
}

/// Something that an operator says.
fn veto() -> Veto {
    Veto { guardian: operator(), release: crate::id::ReleaseId([3; 32]) }
}

fn by(seed: u8, line: &Line) -> Signed<Veto> {
    Signed::speak(&veto(), &Speaker::new(key(seed), line.clone()).unwrap())
}

fn check(line: &Line, said: &Signed<Veto>, now: Wall) -> Result<(), SuccessionError> {
    assert_eq!(said.verify().unwrap(), veto());
    line.check(&said.said().unwrap().unwrap(), now)
}

#[test]
fn the_first_key_signs_as_it_always_did() {
    let plain = Signed::sign(&veto(), &key(OPERATOR));
    assert_eq!(by(OPERATOR, &Line::first(operator())), plain);
    assert_eq!(plain.line().unwrap().unwrap(), Line::first(operator()));
}

#[test]
fn an_operator_names_its_next_key_and_stays_who_it_is() {
    let first = Line::first(operator());
    let line = next(&first, Heirs::default(), GRACE, 2, &[OPERATOR]);
    let said = by(2, &line);
    assert_eq!(said.verify().unwrap().guardian, operator());
    assert_eq!(said.line().unwrap().unwrap(), line);
    assert_eq!(said.split().map(|(veto, by)| Signed::join(&veto, &by)).unwrap(), said);
    // Of the earlier key until the grace is over, and no longer.
    let early = by(OPERATOR, &first);
    assert_eq!(check(&line, &early, Wall(NOW.0 + GRACE.0 - 1)), Ok(()));
    let succeeded = Err(SuccessionError::Succeeded { operator: operator(), number: 1 });
    assert_eq!(check(&line, &early, NOW.after(GRACE)), succeeded);
    // Who has not heard of it believes both.
    assert_eq!(check(&first, &early, NOW), Ok(()));
    assert_eq!(check(&first, &said, NOW), Ok(()));
    assert_eq!(first.is_continued_by(&line), Ok(true));
    assert_eq!(line.is_continued_by(&first), Ok(false));
}

#[test]
fn a_theft_leaves_no_grace_to_any_key_before() {
    let first = Line::first(operator());
    let second = next(&first, heirs(1, &[11]), GRACE, 2, &[OPERATOR]);
    let third = next(&second, heirs(1, &[11]), Period(0), 3, &[11]);
    let succeeded = Err(SuccessionError::Succeeded { operator: operator(), number: 2 });
    assert_eq!(check(&third, &by(OPERATOR, &first), NOW), succeeded);
    assert_eq!(check(&third, &by(2, &second), NOW), succeeded);
    assert_eq!(check(&third, &by(3, &third), NOW), Ok(()));
}

/// A clock that is behind, or was set back, gives a key that was stolen no time.
#[test]
fn no_grace_is_none_whatever_the_time_is() {
    let first = Line::first(operator());
    let line = next(&with_heirs(), heirs(1, &[11]), Period(0), 2, &[11, 12]);
    let succeeded = Err(SuccessionError::Succeeded { operator: operator(), number: 2 });
    for now in [Wall(0), Wall(NOW.0 - 1), NOW] {
        assert_eq!(check(&line, &by(OPERATOR, &first), now), succeeded);
        assert_eq!(check(&line, &by(OPERATOR, &with_heirs()), now), succeeded);
    }
    // Which line goes on from which has nothing to do with that.
    assert_eq!(line.is_continued_by(&first), Ok(false));
    assert_eq!(first.is_continued_by(&line), Ok(true));
}

/// A signature is one under its line: in another one's wrapping it is none.
#[test]
fn what_was_said_before_heirs_were_named_is_not_said_after_it() {
    let named = with_heirs();
    let wrap = |signed: &Signed<Veto>, line: &Line| {
        let (body, signature): (Blob, Blob) = codec::decode(&signed.to_bytes(), 1 << 14).unwrap();
        let signature = match Word::read(&signature.0) {
            Ok(word) => word.signature,
            Err(_) => signature,
        };
        let signature = if line.number() == 0 {
            signature
        } else {
            Blob(codec::encode(&Word { line: line.steps.clone(), signature }))
        };
        Signed::<Veto>::from_bytes(&codec::encode(&(body, signature))).unwrap()
    };
    let first = Line::first(operator());
    let (before, after) = (by(OPERATOR, &first), by(OPERATOR, &named));
    assert_eq!(wrap(&before, &first), before);
    assert_eq!(wrap(&after, &named), after);
    for wrong in [wrap(&before, &named), wrap(&after, &first)] {
        assert!(matches!(wrong.verify(), Err(SignatureError::Wrong { .. })));
    }
}

#[test]
fn new_heirs_end_no_key() {
    let (first, named) = (Line::first(operator()), with_heirs());
    for now in [NOW, NOW.after(Period::days(4000))] {
        assert_eq!(check(&named, &by(OPERATOR, &first), now), Ok(()));
        assert_eq!(check(&named, &by(OPERATOR, &named), now), Ok(()));
    }
    // They are changed by the heirs, not by the key.
    let change = change(heirs(1, &[14]), Period(0));
    let mut draft = Draft::new(named.clone(), change, &key(OPERATOR)).unwrap();
    assert_eq!(draft.sign(&key(OPERATOR)), Err(SuccessionError::NoVoice(key(OPERATOR).public())));
    draft.sign(&key(11)).unwrap();
    draft.sign(&key(13)).unwrap();
    assert_eq!(draft.finish().unwrap().heirs(), &heirs(1, &[14]));
}

#[test]
fn a_line_cannot_be_what_nobody_meant() {
    let line = with_heirs();
    let again = |seed| Draft::new(line.clone(), change(Heirs::default(), Period(0)), &key(seed));
    assert!(again(OPERATOR).is_ok(), "the same key speaks on");
    let renewed = next(&line, heirs(1, &[11]), Period(0), 2, &[11, 12]);
    let back = Draft::new(renewed, change(Heirs::default(), Period(0)), &key(OPERATOR));
    assert!(matches!(back, Err(SuccessionError::Broken(_))), "a key that was succeeded");
    let long = Draft::new(line, change(Heirs::default(), Period::days(91)), &key(2));
    assert!(matches!(long, Err(SuccessionError::Broken(_))));
    let keys = [11, 12].map(|seed| key(seed).public());
    for (need, of) in [(0, &keys[..]), (3, &keys), (1, &[]), (1, &[keys[0], keys[0]])] {
        assert!(Heirs::new(need, of.iter().copied()).is_err(), "{need} of {}", of.len());
    }
    let many = (20..29).map(|seed| key(seed).public());
    assert!(Heirs::new(1, many).is_err());
    assert!(Heirs::new(1, [PublicKey([0; 32])]).is_err(), "anybody could sign with it");
}

#[test]
fn the_longest_line_fits_and_goes_no_further() {
    let all: Vec<u8> = (20..28).collect();
    let most = || heirs(8, &all);
    let late = |line: &Line, by, signed: &[u8]| {
        let change = Change { heirs: most(), issued: Wall(u64::MAX), grace: GRACE_MAX };
        let mut draft = Draft::new(line.clone(), change, &key(by)).unwrap();
        for &seed in signed {
            draft.sign(&key(seed)).unwrap();
        }
        let read = Draft::from_bytes(&draft.to_bytes()).unwrap();
        assert_eq!(read, draft);
        draft.finish().unwrap()
    };
    let mut line = late(&Line::first(operator()), OPERATOR, &[OPERATOR]);
    for seed in 2..=8 {
        line = late(&line, seed, &all);
    }
    assert_eq!(line.number(), STEPS_MAX);
    let said = by(8, &line);
    assert_eq!(said.verify().unwrap(), veto());
    assert!(Signed::<Veto>::from_bytes(&said.to_bytes()).unwrap() == said);
    assert_eq!(Line::from_bytes(&line.to_bytes()).unwrap(), line);
    assert!(Draft::new(line, change(Heirs::default(), Period(0)), &key(9)).is_err());
}

#[test]
fn there_is_one_encoding() {
    let line = with_heirs();
    let mut draft = Draft::new(line, change(Heirs::default(), Period(0)), &key(2)).unwrap();
    for seed in [11, 12, 13] {
        draft.sign(&key(seed)).unwrap();
        draft.sign(&key(seed)).unwrap();
    }
    assert_eq!(draft.signatures(), (3, 2));
    let mut all = draft.clone().finish().unwrap();
    assert_eq!(all.steps[1].voices.len(), 2);
    // More than it takes, in another order, or one twice, is another encoding, and none.
    all.steps[1].voices = draft.step.voices.clone();
    let verify = |steps: &[Step]| Line::verify(operator(), steps.to_vec());
    assert!(verify(&all.steps).is_err());
    all.steps[1].voices.truncate(2);
    assert!(verify(&all.steps).is_ok());
    all.steps[1].voices.reverse();
    assert!(verify(&all.steps).is_err());
    all.steps[1].voices[1] = all.steps[1].voices[0].clone();
    assert!(verify(&all.steps).is_err());
}

#[test]
fn a_nodes_own_word_needs_no_line() {
    let node = key(2).public().into();
    let request = crate::certificate::JoinRequest {
        bearer: key(2).public(),
        node,
        labels: crate::label::Labels::default(),
    };
    assert_eq!(Signed::sign(&request, &key(2)).said().unwrap(), None);
}

proptest! {
    /// Whoever signs, in whatever order: fewer heirs than are needed name nobody, and as many do.
    #[test]
    fn fewer_than_needed_never_succeed(
        need in 1u8..=5,
        signers in proptest::sample::subsequence(vec![11u8, 12, 13, 14, 15], 0..=5).prop_shuffle(),
    ) {
        let first = Line::first(operator());
        let named = next(&first, heirs(need, &[11, 12, 13, 14, 15]), Period(0), OPERATOR, &[OPERATOR]);
        let draft = Draft::new(named, change(Heirs::default(), Period(0)), &key(2)).unwrap();
        let mut all = draft.clone();
        for &seed in &signers {
            // Each signs a copy of his own.
            let mut copy = Draft::from_bytes(&draft.to_bytes()).unwrap();
            copy.sign(&key(seed)).unwrap();
            all.join(copy).unwrap();
        }
        let have = signers.len();
        let need = usize::from(need);
        match all.finish() {
            Ok(line) => {
                prop_assert!(have >= need);
                prop_assert_eq!(by(2, &line).verify().unwrap(), veto());
            }
            Err(error) => {
                prop_assert!(have < need);
                prop_assert_eq!(error, SuccessionError::Missing { have, need });
            }
        }
    }

    /// Who stole the key can make any line from before the heirs were named: none counts where they are known, and what he signs
    /// without one ends with the succession.
    #[test]
    fn a_thief_gets_nowhere_once_heirs_are_known(
        steps in proptest::collection::vec((2u8..6, any::<bool>()), 1..4),
        after in 0u64..1 << 40,
    ) {
        let known = with_heirs();
        let rightful = next(&known, heirs(1, &[11]), Period(0), 9, &[11, 13]);
        let mut stolen = Line::first(operator());
        let mut speaks = OPERATOR;
        for (seed, names) in steps {
            // His own key is refused: so he names another one of his.
            let heirs = if names { heirs(1, &[20]) } else { Heirs::default() };
            let Ok(mut draft) = Draft::new(stolen.clone(), change(heirs, Period(0)), &key(seed)) else { continue };
            let _ = draft.sign(&key(speaks)).or_else(|_| draft.sign(&key(20)));
            let Ok(line) = draft.finish() else { continue };
            (stolen, speaks) = (line, seed);
        }
        let now = Wall(NOW.0 + after);
        let said = by(speaks, &stolen);
        for line in [&known, &rightful] {
            prop_assert!(check(line, &said, now).is_err() || stolen.number() == 0);
            prop_assert!(line.is_continued_by(&stolen) != Ok(true));
        }
        let plain = by(OPERATOR, &Line::first(operator()));
        prop_assert!(check(&rightful, &plain, now).is_err());
        prop_assert!(check(&rightful, &by(OPERATOR, &known), now).is_err());
    }

    #[test]
    fn any_flipped_bit_is_noticed(bit in any::<usize>()) {
        let line = next(&with_heirs(), Heirs::default(), Period(0), 2, &[12, 13]);
        let mut bytes = by(2, &line).to_bytes();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verified = Signed::<Veto>::from_bytes(&bytes).map(|signed| signed.verify());
        prop_assert!(!matches!(verified, Ok(Ok(_))));
    }

    #[test]
    fn it_is_read_or_refused_and_never_panics(bytes: Vec<u8>) {
        let _ = Line::from_bytes(&bytes);
        let _ = Draft::from_bytes(&bytes);
        let _ = Line::of_signature(operator(), &bytes);
    }

    #[test]
    fn a_signature_of_any_bytes_is_refused(signature in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (body, _) = codec::decode::<(Blob, Blob)>(&by(OPERATOR, &Line::first(operator())).to_bytes(), 1 << 10).unwrap();
        let bytes = codec::encode(&(body, Blob(signature)));
        let signed = Signed::<Veto>::from_bytes(&bytes).unwrap();
        let refused = matches!(
            signed.verify(),
            Err(SignatureError::Wrong { .. } | SignatureError::Succession { .. })
        );
        prop_assert!(refused);
        let _ = signed.said();
    }
}

#[test]
fn no_key_of_the_operator_is_its_heir() {
    let first = Line::first(operator());
    let second = next(&first, Heirs::default(), GRACE, 2, &[OPERATOR]);
    for own in [OPERATOR, 2] {
        let wrong = Draft::new(second.clone(), change(heirs(1, &[own, 11]), GRACE), &key(2));
        let Err(SuccessionError::Broken(text)) = wrong else { panic!("{wrong:?}") };
        assert!(text.contains("a key of the operator itself"), "{text}");
    }
    // Nor the one that is to speak.
    assert!(Draft::new(second.clone(), change(heirs(1, &[3, 11]), GRACE), &key(3)).is_err());
    let again = Heirs::new(2, [key(11).public(), key(11).public()]);
    assert_eq!(again, Err(SuccessionError::Broken("an heir is named twice")));

    // A line that named one before counts, and such heirs can be replaced by others; but not named in another way.
    let mut old = Draft::new(first, change(heirs(1, &[12]), Period(0)), &key(OPERATOR)).unwrap();
    let body = Succession { heirs: heirs(1, &[OPERATOR]), ..old.succession().clone() };
    let body = [vec![VERSION], codec::encode(&body)].concat();
    let consent = key(OPERATOR).sign(CONSENT, &body).to_vec();
    old.step = Step { body: Blob(body), consent: Blob(consent), voices: Vec::new() };
    old.sign(&key(OPERATOR)).unwrap();
    let sent = Draft::from_bytes(&old.to_bytes());
    assert!(matches!(sent, Err(SuccessionError::Broken(_))), "no heir signs it: {sent:?}");
    let known = Line::verify(operator(), vec![old.step]).unwrap();
    let good = next(&known, heirs(1, &[11]), Period(0), OPERATOR, &[OPERATOR]);
    assert_eq!(good.heirs(), &heirs(1, &[11]));
    assert!(Draft::new(known.clone(), change(known.heirs().clone(), Period(0)), &key(2)).is_ok());
    let wider = change(heirs(1, &[OPERATOR, 11]), Period(0));
    assert!(Draft::new(known, wider, &key(OPERATOR)).is_err());
}
