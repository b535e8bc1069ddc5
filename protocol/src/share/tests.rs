use super::*;
use proptest::prelude::*;

const IDENTITY: &str = "AGE-SECRET-KEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0SR2X5HX";

fn parts(need: u8, parts: u8) -> Vec<Part> {
    split(IDENTITY, Some(VaultId([0xab; 32])), need, parts, &[7; 32]).unwrap()
}

fn said(parts: &[Part]) -> Result<String, ShareError> {
    combine(parts).map(|text| text.to_string())
}

#[test]
fn enough_parts_give_the_identity_and_fewer_do_not() {
    let all = parts(3, 5);
    assert_eq!(all.iter().map(Part::index).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    for (a, b, c) in [(0, 1, 2), (4, 2, 0), (3, 1, 4)] {
        let three = [all[a].clone(), all[b].clone(), all[c].clone()];
        assert_eq!(said(&three).unwrap(), IDENTITY);
        assert_eq!(said(&three[..2]), Err(ShareError::TooFew { given: 2, need: 3 }));
    }
    assert_eq!(said(&all).unwrap(), IDENTITY);
    assert_eq!(said(&[]), Err(ShareError::TooFew { given: 0, need: 2 }));
}

#[test]
fn two_splits_of_one_identity_do_not_mix() {
    let one = parts(2, 3);
    let two = split(IDENTITY, Some(VaultId([0xab; 32])), 2, 3, &[8; 32]).unwrap();
    assert_ne!(one[0].set(), two[0].set());
    let mixed = [one[0].clone(), two[1].clone(), one[2].clone()];
    assert_eq!(said(&mixed), Err(ShareError::Mixed { odd: vec![2] }));
    assert_eq!(said(&mixed[..2]), Err(ShareError::Mixed { odd: vec![2] }));
}

#[test]
fn a_part_given_twice_and_two_with_one_number_are_told_apart() {
    let all = parts(2, 3);
    let twice = [all[1].clone(), all[0].clone(), all[1].clone()];
    assert_eq!(said(&twice), Err(ShareError::Twice { one: 1, two: 3, index: 2 }));
    let mut forged = all[1].clone();
    forged.share[3] ^= 1;
    let both = [all[1].clone(), forged];
    assert_eq!(said(&both), Err(ShareError::Contradiction { one: 1, two: 2, index: 2 }));
}

#[test]
fn a_forged_part_is_noticed_and_named_when_there_is_one_to_spare() {
    let mut all = parts(2, 3);
    all[1].share[20] ^= 0x40;
    assert_eq!(said(&all[..2]), Err(ShareError::Wrong { odd: vec![] }));
    assert_eq!(said(&all), Err(ShareError::Wrong { odd: vec![2] }));
}

#[test]
fn numbers_that_cannot_be_meant_are_refused() {
    let refused = |need, parts| split(IDENTITY, None, need, parts, &[7; 32]).is_err();
    assert!(refused(1, 5) && refused(0, 0) && refused(4, 3) && refused(2, 65));
    assert!(!refused(2, 2) && !refused(64, 64));
    let long = "x".repeat(TEXT_LEN_MAX + 1);
    for text in ["", &long] {
        assert!(matches!(split(text, None, 2, 3, &[7; 32]), Err(ShareError::Length(_))));
    }
    let longest = split(&long[1..], None, 2, 2, &[7; 32]).unwrap();
    let read: Vec<Part> =
        longest.iter().map(|part| Part::from_line(&part.to_line()).unwrap()).collect();
    assert_eq!(said(&read).unwrap(), long[1..]);
}

#[test]
fn what_people_type_is_read() {
    let part = &parts(2, 3)[2];
    let line = part.to_line();
    let capitals = line.to_uppercase().replace('0', "O").replace('1', "L");
    // The prefix has a digit of its own.
    let capitals = capitals.replacen("STREWNPARTL", "STREWNPART1", 1);
    let broken = capitals.replacen('-', " \n ", 3).replacen('-', "", 2);
    assert_eq!(Part::from_line(&broken).unwrap(), *part);
    assert!(!format!("{part:?}").contains(&line[40..60]));
    assert_eq!(Part::from_line("strewn1abc"), Err(PartError::Prefix));
    assert_eq!(Part::from_line("größer"), Err(PartError::Prefix));
    let sign = line.replacen('-', "-!", 1);
    assert_eq!(Part::from_line(&sign), Err(PartError::Symbol { group: 1, found: '!' }));
    let cut = line.rsplit_once('-').unwrap().0;
    assert_eq!(Part::from_line(cut), Err(PartError::Check));
    let endless = format!("strewnpart1-{}", "0".repeat(100_000));
    assert_eq!(Part::from_line(&endless), Err(PartError::TooLong));
}

/// The positions of a line's symbols, behind the prefix.
fn symbols(line: &str) -> Vec<usize> {
    let begin = "strewnpart1".len();
    line.char_indices().filter(|&(at, c)| at >= begin && c != '-').map(|(at, _)| at).collect()
}

proptest! {
    #[test]
    fn any_text_comes_back_from_any_parts(
        text in "\\PC{1,200}", need in 2u8..8, more in 0u8..5, seed: [u8; 32], skip: u8,
    ) {
        let all = split(&text, None, need, need + more, &seed).unwrap();
        let from = usize::from(skip % (more + 1));
        let chosen = &all[from..from + usize::from(need)];
        let typed: Vec<Part> =
            chosen.iter().map(|part| Part::from_line(&part.to_line()).unwrap()).collect();
        prop_assert_eq!(&typed[..], chosen);
        prop_assert_eq!(said(&typed).unwrap(), text);
    }

    #[test]
    fn one_symbol_mistyped_is_found_in_its_group(at: usize, to in 0usize..32) {
        let line = parts(2, 3)[0].to_line().to_string();
        let places = symbols(&line);
        let at = at % places.len();
        let mut typed = line.clone().into_bytes();
        let new = b"0123456789abcdefghjkmnpqrstvwxyz"[to];
        prop_assume!(typed[places[at]] != new);
        typed[places[at]] = new;
        let error = Part::from_line(std::str::from_utf8(&typed).unwrap()).unwrap_err();
        let PartError::Group { group } = error else { panic!("{error:?}") };
        prop_assert_eq!(group, at / 8 + 1);
    }

    #[test]
    fn symbols_and_groups_changed_over_are_found(one: usize, two: usize) {
        let line = parts(2, 3)[0].to_line().to_string();
        let places = symbols(&line);
        let (one, two) = (places[one % places.len()], places[two % places.len()]);
        let mut typed = line.clone().into_bytes();
        prop_assume!(typed[one] != typed[two]);
        typed.swap(one, two);
        prop_assert!(Part::from_line(std::str::from_utf8(&typed).unwrap()).is_err());

        let mut groups: Vec<&str> = line.split('-').collect();
        let (a, b) = (1 + one % (groups.len() - 2), 1 + two % (groups.len() - 2));
        prop_assume!(groups[a] != groups[b]);
        groups.swap(a, b);
        prop_assert!(Part::from_line(&groups.join("-")).is_err());
    }

    #[test]
    fn no_text_makes_a_panic(text: String, digits in "[0-9a-z -]{0,300}") {
        let _ = Part::from_line(&text);
        let _ = Part::from_line(&format!("strewnpart1-{digits}"));
    }
}
