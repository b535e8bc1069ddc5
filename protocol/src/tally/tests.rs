use super::*;
use crate::id::{SessionId, ShardId, StripeId};
use crate::policy::Policy;
use crate::record::{CODEC_REED_SOLOMON, Stripe};
use crate::sign::SecretKey;
use proptest::prelude::*;

const NOW: Wall = Wall(1_800_000_000_000);

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn one(bytes: u64) -> Amount {
    Amount { shards: 1, bytes }
}

fn receipt(len: u32, received: Wall) -> Receipt {
    Receipt {
        holder: key(1).public().into(),
        vault: VaultId([2; 32]),
        stripe: StripeId([3; 32]),
        index: 0,
        shard: ShardId([4; 32]),
        len,
        keep: Period::days(90),
        received,
    }
}

fn stated(months: &Months, month: Month, now: Wall) -> UsageStatement {
    let who = (key(1).public().into(), VaultId([2; 32]), key(3).public().into());
    UsageStatement::of(who, months, month, Done::default(), now).unwrap()
}

#[test]
fn months_are_those_of_the_calendar() {
    let month: Month = "2027-01".parse().unwrap();
    assert_eq!(Month::of(NOW), month);
    assert_eq!(month.start(), Wall(1_798_761_600_000));
    assert_eq!(month.end().0 - month.start().0, 31 * DAY);
    let leap: Month = "2028-02".parse().unwrap();
    assert_eq!(leap.end().0 - leap.start().0, 29 * DAY);
    for wrong in ["", "2027", "2027-1", "2027-13", "2027-00", "1969-12", "+027-01", "2027-01-01"] {
        assert!(wrong.parse::<Month>().is_err(), "{wrong}");
    }
}

#[test]
fn what_is_held_over_the_end_of_a_month_counts_in_both() {
    let month = Month::of(NOW);
    let mut months = Months::default();
    let came = Wall(month.end().0 - 1000);
    months.add(Tally::came(one(10), came));
    months.add(Tally::went(one(10), month.end().after(Period(500))));
    let (before, after) = (
        months.figures(month, month.end()),
        months.figures(Month::of(month.end()), month.end().after(Period::days(1))),
    );
    assert_eq!((before.byte_ms, before.came, before.went), (10_000, one(10), Amount::default()));
    assert_eq!((after.byte_ms, after.opening, after.went), (5000, one(10), one(10)));
    assert_eq!(months.held(), Amount::default());
}

#[test]
fn a_statement_is_its_holders_and_agreed_to_by_its_owner() {
    let mut months = Months::default();
    months.add(Tally::came(one(10), NOW));
    let statement = stated(&months, Month::of(NOW), NOW.after(Period(7)));
    let signed = Signed::sign(&statement, &key(1));
    assert_eq!(UsageStatement::verify(&signed).unwrap().figures.byte_ms, 70);
    let agree = |operator: u8, statement: &Signed<UsageStatement>| {
        let operator_id = key(operator).public().into();
        let said = Countersigned { operator: operator_id, statement: statement.clone() };
        Countersigned::verify(&Signed::sign(&said, &key(operator)))
    };
    assert_eq!(agree(3, &signed).unwrap(), statement);
    assert!(matches!(agree(4, &signed), Err(StatementError::Signer { .. })));
    // It is about no other statement than one of the same owner: the holder could sign one that names a friend.
    let friends = UsageStatement { operator: key(4).public().into(), ..statement.clone() };
    assert!(agree(4, &Signed::sign(&friends, &key(1))).is_ok(), "a word that verifies");
    let earlier = UsageStatement { until: NOW.after(Period(1)), ..statement.clone() };
    assert!(earlier.is_about(&statement) && !friends.is_about(&statement));
    let others = [
        UsageStatement { holder: key(7).public().into(), ..statement.clone() },
        UsageStatement { vault: VaultId([7; 32]), ..statement.clone() },
        UsageStatement { month: Month(7), ..statement.clone() },
    ];
    assert!(others.iter().all(|other| !other.is_about(&statement)));
    let late = UsageStatement { until: Month::of(NOW).end().after(Period(1)), ..statement };
    assert!(matches!(agree(3, &Signed::sign(&late, &key(1))), Err(StatementError::Time(_))));
    let who = (key(1).public().into(), VaultId([2; 32]), key(3).public().into());
    let next = Month(Month::of(NOW).0 + 1);
    assert_eq!(
        UsageStatement::of(who, &months, next, Done::default(), NOW),
        None,
        "it has not begun"
    );
}

#[test]
fn more_than_receipts_show_is_a_difference() {
    let mut months = Months::default();
    months.add(Tally::came(one(10), NOW));
    months.add(Tally::came(one(20), NOW.after(Period(50))));
    let statement = stated(&months, Month::of(NOW), NOW.after(Period(100)));
    let mut recount = Recount::of(&statement);
    assert!(recount.add(&receipt(10, NOW)));
    assert!(!recount.add(&receipt(9, NOW.after(Period(100)))), "it came later");
    let found = recount.differences(&statement);
    let what: Vec<_> = found.iter().map(|difference| difference.what).collect();
    assert_eq!(what, ["shards", "bytes", "byte_ms"]);
    assert_eq!((found[2].stated, found[2].least, found[2].most), (2000, 1000, 1000));
    // The other one went meanwhile, by the holder's word; it cannot have been longer here than the month is.
    let gone = UsageStatement { gone_since: one(20), ..statement.clone() };
    assert_eq!(recount.differences(&gone), []);
    assert!(recount.add(&receipt(20, NOW.after(Period(50)))));
    assert_eq!(recount.differences(&statement), []);
}

#[test]
fn what_a_holder_says_that_it_had_and_has_no_more_is_borne_out_as_far_as_the_vault_let_it_go() {
    let mut months = Months::default();
    months.add(Tally::came(one(64), NOW));
    // A tebibyte came and went, by its word.
    let claimed = Amount { shards: 1 << 18, bytes: 1 << 40 };
    months.add(Tally::came(claimed, NOW));
    months.add(Tally::went(claimed, NOW.after(Period(90))));
    let statement = stated(&months, Month::of(NOW), NOW.after(Period(100)));
    let mut recount = Recount::of(&statement);
    assert!(recount.add(&receipt(64, NOW)));
    assert_eq!(recount.differences(&statement), [], "no receipt speaks against it");
    let unshown = recount.unshown(&statement).unwrap();
    assert_eq!((unshown.stated, unshown.let_go), (claimed, Amount::default()));
    // The vault let as many go: neither more shards nor longer ones.
    recount.let_go(1 << 18);
    assert_eq!(recount.unshown(&statement), None, "so long they may have been");
    let record = |version: u32, shard_len: u32| Record {
        stripe: Stripe {
            vault: VaultId([2; 32]),
            codec: CODEC_REED_SOLOMON,
            k: 1,
            n: 1,
            shard_len,
            shards: vec![ShardId([4; 32])],
        },
        session: SessionId([5; 32]),
        policy: Policy::survive_one("provider"),
        holders: vec![key(1).public().into()],
        version,
        device: key(6).public().into(),
    };
    recount.know(&record(1, 64), true);
    assert!(recount.unshown(&statement).is_some());
    recount.know(&record(1, 4 << 20), true);
    assert_eq!(recount.unshown(&statement), None);
    // A promise that was made anew counts as gone and come again.
    let mut renewed = Months::default();
    renewed.add(Tally::came(one(64), NOW));
    renewed.add(Tally::went(one(64), NOW.after(Period(5))));
    renewed.add(Tally::came(one(64), NOW.after(Period(5))));
    let statement = stated(&renewed, Month::of(NOW), NOW.after(Period(100)));
    let unshown = |version: u32, is_promised: bool| {
        let mut recount = Recount::of(&statement);
        recount.know(&record(version, 64), is_promised);
        recount.unshown(&statement)
    };
    assert!(unshown(1, true).is_some() && unshown(2, true).is_none());
    assert!(unshown(2, false).is_some(), "somebody else's promise was made anew");
}

/// A shard's stay: its bytes, when it came, and for how long it stayed, if it went.
type Stay = (u32, u64, Option<u64>);

fn stays() -> impl Strategy<Value = Vec<Stay>> {
    let day = 0..200 * DAY;
    prop::collection::vec((1u32..1 << 22, day, prop::option::of(0..100 * DAY)), 0..30)
}

proptest! {
    #[test]
    fn a_month_is_the_sum_of_its_stays_in_any_order(
        stays in stays(),
        order in any::<u64>(),
    ) {
        // Each event on its own, in any order.
        let mut events: Vec<(bool, u64, Wall)> = Vec::new();
        for &(len, came, stayed) in &stays {
            events.push((true, len.into(), NOW.after(Period(came))));
            if let Some(stayed) = stayed {
                events.push((false, len.into(), NOW.after(Period(came + stayed))));
            }
        }
        events.sort_by_key(|event| blake3::hash(&[order.to_le_bytes(), event.2.0.to_le_bytes()].concat()).as_bytes().to_owned());
        let mut months = Months::default();
        for (comes, bytes, at) in events {
            months.add(if comes { Tally::came(one(bytes), at) } else { Tally::went(one(bytes), at) });
        }
        // As it is read again after a restart.
        let mut read = Months::default();
        months.months().for_each(|month| read.insert(month, months.get(month)));
        prop_assert_eq!(&read, &months);
        for month in (0..12).map(|next| Month(Month::of(NOW).0 + next)) {
            let inside = |time: u64| time.clamp(month.start().0, month.end().0);
            let end = |came: u64, stayed: Option<u64>| stayed.map_or(u64::MAX, |s| NOW.0 + came + s);
            let sum: u128 = stays.iter().map(|&(len, came, stayed)| {
                let span = inside(end(came, stayed)) - inside(NOW.0 + came);
                u128::from(len) * u128::from(span)
            }).sum();
            let figures = months.figures(month, month.end());
            prop_assert_eq!(figures.byte_ms, sum);
            // Whoever has the receipts of those that are still there bears it out.
            let statement = stated(&months, month, Wall(u64::MAX));
            let mut recount = Recount::of(&statement);
            for &(len, came, _) in stays.iter().filter(|(_, _, stayed)| stayed.is_none()) {
                let _ = recount.add(&receipt(len, NOW.after(Period(came))));
            }
            prop_assert_eq!(recount.differences(&statement), []);
        }
        let held: u64 = stays.iter().filter(|stay| stay.2.is_none()).map(|stay| u64::from(stay.0)).sum();
        prop_assert_eq!(months.held().bytes, held);
    }

    #[test]
    fn every_moment_lies_in_its_month(ms in 0..253_402_300_800_000u64) {
        let month = Month::of(Wall(ms));
        prop_assert!(month.start().0 <= ms && ms < month.end().0);
        prop_assert_eq!(month.to_string().parse::<Month>().unwrap(), month);
    }

    #[test]
    fn statements_are_read_or_refused_and_never_panic(bytes: Vec<u8>) {
        let _ = Signed::<UsageStatement>::from_bytes(&bytes).map(|s| UsageStatement::verify(&s));
        let _ = Signed::<Countersigned>::from_bytes(&bytes).map(|s| Countersigned::verify(&s));
    }
}
