//! Holders of a vault bring each other up to date, and nobody else; and take from each other only what they would take from a
//! device.

use super::cast::*;
use super::desk::{Desk, code, decode};
use super::meeting::{ask_through, meet};
use crate::certificate::DeviceRevocation;
use crate::codec::Blob;
use crate::id::SessionId;
use crate::log::{Body, Entry, entry_id};
use crate::message::{Holdings, LogEnd, LoggedEntry, RefusalCode, Request, Response, VaultDigest};
use crate::peer::{Facts, LinkId, MemoryFacts, PeerConfig, Table};
use crate::sign::Signed;
use crate::time::Period;
use proptest::prelude::*;

const HOLDERS: [u8; 4] = [NODE, NEIGHBOUR, THIRD, FOURTH];
const FOURTH: u8 = 5;
const FIFTH: u8 = 6;

fn desk(node: u8) -> Desk {
    Desk::of(node, MemoryFacts::default(), PeerConfig::default(), at(Period(0)))
}

/// A node to which the vault is introduced, whose roster lists these nodes.
fn holder(node: u8, listed: &[u8]) -> (Desk, LinkId) {
    let mut desk = desk(node);
    let link = desk.device(VAULT, DEVICE);
    assert_eq!(desk.ask(link, Request::Introduce(papers(VAULT, 1, listed))), Response::Done);
    (desk, link)
}

/// A log of so many entries; from one of them on it is another one.
fn log(len: u64, device: u8, fork: Option<u64>) -> Vec<Signed<Entry>> {
    let mut log: Vec<Signed<Entry>> = Vec::new();
    for seq in 0..len {
        let text = u8::from(fork.is_some_and(|from| seq >= from));
        log.push(entry_by(VAULT, device, seq, log.last().map(entry_id), text));
    }
    log
}

fn append(desk: &mut Desk, link: LinkId, entries: &[Signed<Entry>]) {
    for entry in entries {
        let answer = desk.ask(link, Request::Append(entry.clone()));
        assert!(matches!(answer, Response::Appended(_)), "{answer:?}");
    }
}

fn revoke(device: u8) -> Request {
    let (vault, device) = (public(VAULT).into(), public(device).into());
    let order = DeviceRevocation { vault, device, issued: EPOCH };
    Request::Revoke(Signed::sign(&order, &secret(VAULT)))
}

/// What a node has of the vault, in hashes, as it tells a node that is listed.
fn digest(desk: &mut Desk, by: u8) -> Option<VaultDigest> {
    let link = desk.node(by);
    let Response::Vaults(vaults) = desk.ask(link, Request::Vaults) else { panic!() };
    assert!(vaults.len() <= 1);
    vaults.into_iter().next()
}

fn entries(desk: &Desk, device: u8) -> Vec<LoggedEntry> {
    let log = [public(VAULT).0, public(device).0].concat();
    let rows = desk.facts.scan(Table::Entry, &log, None, usize::MAX).unwrap();
    rows.iter().map(|(_, bytes)| decode(bytes)).collect()
}

#[test]
fn who_was_away_or_was_wiped_gets_everything_and_countersigns_it_anew() {
    let (mut there, link) = holder(NEIGHBOUR, &HOLDERS);
    append(&mut there, link, &log(40, DEVICE, None));
    let second = there.device(VAULT, SECOND_DEVICE);
    append(&mut there, second, &log(3, SECOND_DEVICE, None));
    assert_eq!(there.ask(link, Request::Card(card(VAULT, 1, &["age1a"], 1))), Response::Done);
    assert_eq!(there.ask(link, Request::Card(card(VAULT, 2, &["age1a"], 2))), Response::Done);
    assert_eq!(there.ask(link, revoke(OTHER_DEVICE)), Response::Done);
    let mut here = desk(NODE);
    here.pass(Period::seconds(500));
    meet(&mut here, &mut there);
    assert_eq!(digest(&mut here, THIRD), digest(&mut there, THIRD));
    assert_eq!(here.rows(Table::Entry), 43);
    for logged in entries(&here, DEVICE) {
        let ack = logged.ack.verify().unwrap();
        assert_eq!((ack.holder, ack.witnessed), (public(NODE).into(), here.now.wall));
        assert_eq!(ack.entry, entry_id(&logged.entry));
    }
    // It serves whoever recovers.
    let (_, answer) = here.greet(
        STRANGER,
        crate::message::Greeting::Recover { tag: crate::recovery::RecoveryTag::of("age1a") },
    );
    let Response::Recovery { sealed } = answer else { panic!("{answer:?}") };
    assert_eq!(sealed, [Blob(vec![1; 100]), Blob(vec![2; 100])]);
    // Then only hashes are sent, and what is new is asked for alone.
    assert_eq!(meet(&mut here, &mut there), [Request::Vaults]);
    let more = log(41, DEVICE, None);
    append(&mut there, link, &more[40..]);
    let (vault, device) = (public(VAULT).into(), public(DEVICE).into());
    let asked = meet(&mut here, &mut there);
    let entries = Request::Entries { vault, device, from: 40 };
    assert_eq!(asked, [Request::Vaults, Request::Logs(vault), entries]);
    // Who has more asks once, and not again.
    assert_eq!(meet(&mut there, &mut here), [Request::Vaults]);
    let more = log(42, DEVICE, None);
    append(&mut there, link, &more[41..]);
    assert_eq!(meet(&mut there, &mut here), [Request::Vaults, Request::Logs(vault)]);
    assert_eq!(meet(&mut there, &mut here), [Request::Vaults]);
}

#[test]
fn who_is_in_no_roster_gets_nothing_and_takes_nothing() {
    let (mut there, link) = holder(NEIGHBOUR, &[NEIGHBOUR, THIRD]);
    append(&mut there, link, &log(2, DEVICE, None));
    let mut here = desk(NODE);
    assert_eq!(meet(&mut here, &mut there), [Request::Vaults]);
    let link = there.node(NODE);
    let (vault, device) = (public(VAULT).into(), public(DEVICE).into());
    let requests = [
        Request::Holdings(vault),
        Request::Namings(vault),
        Request::Logs(vault),
        Request::Entries { vault, device, from: 0 },
        Request::Forks { vault, device },
    ];
    for request in requests.clone() {
        assert_eq!(code(&there.ask(link, request)), RefusalCode::UnknownVault);
    }
    let link = there.device(VAULT, SECOND_DEVICE);
    for request in requests.into_iter().chain([Request::Vaults]) {
        assert_eq!(code(&there.ask(link, request)), RefusalCode::NotAllowed);
    }
    // Also when it is told of it all the same; and that is asked for once.
    let papers = papers(VAULT, 1, &[NEIGHBOUR, THIRD]);
    let mut tell = |_: &mut Desk, request| match request {
        Request::Vaults => {
            Response::Vaults(vec![VaultDigest { vault, papers: [1; 32], logs: [1; 32] }])
        }
        Request::Holdings(_) => {
            let papers = papers.clone();
            let state = crate::message::VaultState { papers, devices: vec![], revoked: vec![] };
            Response::Holdings(Some(Box::new(Holdings { state, cards: vec![] })))
        }
        Request::Namings(_) => Response::Namings(vec![papers.descriptor.clone()]),
        Request::Logs(_) => Response::Logs(vec![]),
        _ => Response::Done,
    };
    let asked = ask_through(&mut here, &mut there, &mut tell);
    let once = [Request::Holdings(vault), Request::Namings(vault), Request::Logs(vault)];
    assert_eq!(asked[1..], once);
    assert_eq!(ask_through(&mut here, &mut there, &mut tell), [Request::Vaults]);
    assert_eq!((here.rows(Table::Vault), here.rows(Table::Listed)), (0, 0));
}

#[test]
fn a_roster_that_lists_nobody_does_not_part_the_holders() {
    let (mut there, link) = holder(NEIGHBOUR, &HOLDERS);
    append(&mut there, link, &log(2, DEVICE, None));
    let empty = papers(VAULT, 2, &[]);
    assert_eq!(there.ask(link, Request::Introduce(empty)), Response::Done);
    let (mut here, link) = holder(NODE, &HOLDERS);
    meet(&mut here, &mut there);
    assert_eq!((here.rows(Table::Entry), here.rows(Table::Roster)), (2, 2));
    append(&mut here, link, &log(3, DEVICE, None)[2..]);
    meet(&mut there, &mut here);
    assert_eq!(there.rows(Table::Entry), 3);
    let reader = here.node(THIRD);
    let log = Request::Log { vault: public(VAULT).into(), after: None };
    assert!(matches!(here.ask(reader, log), Response::Log { entries, .. } if entries.len() == 3));
}

#[test]
fn who_joins_after_a_theft_learns_whom_the_vault_named_before() {
    let (mut there, link) = holder(NEIGHBOUR, &HOLDERS);
    let introduce = |desk: &mut Desk, link, papers| {
        assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
    };
    introduce(&mut there, link, guarded_papers(VAULT, 2, &HOLDERS));
    introduce(&mut there, link, papers(VAULT, 3, &HOLDERS));
    let mut here = desk(NODE);
    meet(&mut here, &mut there);
    assert_eq!(here.rows(Table::Descriptor), 2, "the newest, and the one that named guardians");
    assert_eq!(digest(&mut here, THIRD), digest(&mut there, THIRD));
    assert_eq!(meet(&mut here, &mut there), [Request::Vaults]);
    assert_eq!(meet(&mut there, &mut here), [Request::Vaults]);
    let node = here.node(THIRD);
    let put = here.put(node, &guarded_record(1), 0, &shard_bytes(1, 0));
    assert!(matches!(put, Response::Receipt(_)), "{put:?}");
    // What names nobody, is another vault's, or comes after what is the newest here is not taken.
    let (mut fourth, link) = holder(FOURTH, &HOLDERS);
    for (shown, taken) in [
        (papers(VAULT, 0, &HOLDERS).descriptor, 1),
        (guarded_papers(VAULT, 9, &HOLDERS).descriptor, 1),
        (guarded_papers(OTHER_VAULT, 0, &HOLDERS).descriptor, 1),
        (guarded_papers(VAULT, 0, &HOLDERS).descriptor, 2),
    ] {
        introduce(&mut fourth, link, papers(VAULT, 1, &HOLDERS));
        let vault = public(VAULT).into();
        let mut tell = |_: &mut Desk, request| match request {
            Request::Vaults => {
                Response::Vaults(vec![VaultDigest { vault, papers: [taken; 32], logs: [1; 32] }])
            }
            Request::Namings(_) => Response::Namings(vec![shown.clone()]),
            Request::Holdings(_) => {
                let papers = papers(VAULT, 1, &HOLDERS);
                let state = crate::message::VaultState { papers, devices: vec![], revoked: vec![] };
                Response::Holdings(Some(Box::new(Holdings { state, cards: vec![] })))
            }
            _ => Response::Logs(vec![]),
        };
        ask_through(&mut fourth, &mut there, &mut tell);
        assert_eq!(fourth.rows(Table::Descriptor), usize::from(taken));
    }
}

#[test]
fn both_sides_of_a_fork_reach_everybody() {
    let (mut here, link) = holder(NODE, &HOLDERS);
    append(&mut here, link, &log(4, DEVICE, None));
    let (mut there, link) = holder(NEIGHBOUR, &HOLDERS);
    append(&mut there, link, &log(6, DEVICE, Some(2)));
    let (mut third, link) = holder(THIRD, &HOLDERS);
    append(&mut third, link, &log(3, DEVICE, Some(2)));
    meet(&mut here, &mut there);
    assert_eq!((here.rows(Table::Entry), here.rows(Table::Fork)), (4, 1));
    // A shorter log that is another one is found too.
    meet(&mut there, &mut here);
    assert_eq!((there.rows(Table::Entry), there.rows(Table::Fork)), (6, 1));
    meet(&mut third, &mut there);
    assert_eq!((third.rows(Table::Entry), third.rows(Table::Fork)), (6, 1));
    // And somebody who has none of it gets both.
    let mut fourth = desk(FOURTH);
    meet(&mut fourth, &mut third);
    assert_eq!((fourth.rows(Table::Entry), fourth.rows(Table::Fork)), (6, 1));
    for _ in 0..3 {
        meet(&mut here, &mut there);
    }
    assert_eq!(
        meet(&mut here, &mut there),
        [Request::Vaults],
        "nothing is asked for in vain again"
    );
}

#[test]
fn a_revoked_device_and_one_holder_append_nothing_and_a_wiped_node_gets_its_log_all_the_same() {
    let all = log(5, DEVICE, None);
    let holders = |count: u64| {
        let device = |node: u8| {
            let (mut desk, link) = holder(node, &HOLDERS);
            append(&mut desk, link, &all[..count as usize]);
            let second = desk.device(VAULT, SECOND_DEVICE);
            assert_eq!(desk.ask(second, revoke(DEVICE)), Response::Done);
            desk
        };
        [NEIGHBOUR, THIRD].map(device)
    };
    let [mut second, mut third] = holders(3);
    // The thief has the device's key and a holder, who lets it write.
    let (mut colluding, link) = holder(FOURTH, &HOLDERS);
    append(&mut colluding, link, &all);
    let second_device = colluding.device(VAULT, SECOND_DEVICE);
    assert_eq!(colluding.ask(second_device, revoke(DEVICE)), Response::Done);
    for _ in 0..3 {
        meet(&mut second, &mut colluding);
        meet(&mut third, &mut colluding);
        assert_eq!((second.rows(Table::Entry), third.rows(Table::Entry)), (3, 3));
    }
    // Nodes that no roster lists do not help it; another holder would, as the policy says that two must fall.
    let vault = public(VAULT).into();
    let papers = digest(&mut second, THIRD).unwrap().papers;
    for (helper, taken) in [(FIFTH, 3), (THIRD, 5)] {
        let asked = ask_through(&mut second, &mut desk(helper), |_, request| match request {
            Request::Vaults => Response::Vaults(vec![VaultDigest { vault, papers, logs: [1; 32] }]),
            Request::Logs(_) => {
                let head = crate::log::Head { seq: 4, entry: entry_id(&all[4]) };
                let (device, head) = (public(DEVICE).into(), Some(head));
                Response::Logs(vec![LogEnd { device, head, forks: vec![] }])
            }
            Request::Entries { .. } => Response::Entries(all[3..].to_vec()),
            _ => Response::Done,
        });
        assert_eq!(asked.len(), 3, "{asked:?}");
        assert_eq!(second.rows(Table::Entry), taken);
    }
    let [mut second, _] = holders(3);
    // A node that was wiped gets what two of them show, and no more.
    let mut wiped = desk(NODE);
    meet(&mut wiped, &mut colluding);
    assert_eq!((wiped.rows(Table::Entry), wiped.rows(Table::Revoked)), (0, 1));
    meet(&mut wiped, &mut second);
    assert_eq!(wiped.rows(Table::Entry), 3, "as many as two show at different providers");
    meet(&mut wiped, &mut third);
    meet(&mut wiped, &mut colluding);
    assert_eq!(wiped.rows(Table::Entry), 3);
}

#[test]
fn who_shows_heads_that_lead_nowhere_is_left_alone_for_longer_each_time() {
    let (mut here, _) = holder(NODE, &HOLDERS);
    let mut liar = desk(NEIGHBOUR);
    let vault = public(VAULT).into();
    let mut lies = 0u64;
    let mut lie = |_: &mut Desk, request: Request| match request {
        Request::Vaults => {
            lies += 1;
            let papers = *blake3::hash(&lies.to_le_bytes()).as_bytes();
            let mut vaults = vec![VaultDigest { vault, papers, logs: papers }];
            for other in 50..90 {
                vaults.push(VaultDigest { vault: public(other).into(), ..vaults[0] });
            }
            Response::Vaults(vaults)
        }
        Request::Holdings(_) => {
            // Of another vault, signed by another.
            let papers = papers(OTHER_VAULT, 7, &HOLDERS);
            let state = crate::message::VaultState { papers, devices: vec![], revoked: vec![] };
            Response::Holdings(Some(Box::new(Holdings { state, cards: vec![] })))
        }
        Request::Namings(_) => {
            Response::Namings(vec![guarded_papers(OTHER_VAULT, 0, &HOLDERS).descriptor])
        }
        Request::Logs(_) => {
            let head = crate::log::Head { seq: u64::MAX, entry: crate::id::EntryId([1; 32]) };
            let end = |device: u8| LogEnd {
                device: public(device).into(),
                head: Some(head),
                forks: vec![crate::id::EntryId([2; 32])],
            };
            Response::Logs((100..200).map(end).collect())
        }
        Request::Entries { .. } | Request::Forks { .. } => {
            Response::Entries(log(3, OTHER_DEVICE, None))
        }
        _ => Response::Done,
    };
    let before = here.facts.clone();
    let asked = ask_through(&mut here, &mut liar, &mut lie);
    assert_eq!(asked.len(), 10, "it ends after eight useless answers: {asked:?}");
    let mut rested = Vec::new();
    for _ in 0..4 {
        let mut rest = 0;
        while ask_through(&mut here, &mut liar, &mut lie).is_empty() {
            here.pass(Period::seconds(30));
            rest += 30;
        }
        rested.push(rest);
    }
    assert_eq!(rested, [60, 120, 240, 480]);
    for table in [Table::Vault, Table::Roster, Table::Device, Table::Entry, Table::Fork] {
        let rows = |facts: &MemoryFacts| facts.scan(table, &[], None, usize::MAX).unwrap();
        assert_eq!(rows(&here.facts), rows(&before), "{table:?}");
    }
}

#[test]
fn pages_without_end_are_asked_for_so_many_times_only() {
    let (mut here, _) = holder(NODE, &HOLDERS);
    let mut there = desk(NEIGHBOUR);
    let vault = public(VAULT).into();
    let all = log(200, DEVICE, None);
    let papers = digest(&mut here, THIRD).unwrap().papers;
    // A holder that has the device's key goes on and on, an entry at a time.
    let asked = ask_through(&mut here, &mut there, |_, request| match request {
        Request::Vaults => Response::Vaults(vec![VaultDigest { vault, papers, logs: [1; 32] }]),
        Request::Logs(_) => {
            let head = crate::log::Head { seq: u64::MAX, entry: crate::id::EntryId([1; 32]) };
            let (device, head) = (public(DEVICE).into(), Some(head));
            Response::Logs(vec![LogEnd { device, head, forks: vec![] }])
        }
        Request::Entries { from, .. } => Response::Entries(vec![all[from as usize].clone()]),
        _ => Response::Done,
    });
    assert_eq!((asked.len(), here.rows(Table::Entry)), (64, 62));
}

#[test]
fn what_is_too_much_for_a_day_comes_the_next_day() {
    let (mut there, link) = holder(NEIGHBOUR, &HOLDERS);
    append(&mut there, link, &log(10, DEVICE, None));
    let (mut here, _) = holder(NODE, &HOLDERS);
    let now = here.now;
    // Entries of a gibibyte were brought just before.
    here.peer.spend_catching_up(now, public(VAULT).into(), 1 << 30).unwrap();
    for _ in 0..3 {
        meet(&mut here, &mut there);
        assert_eq!(here.rows(Table::Entry), 0);
    }
    // A device still writes: that is another budget.
    let link = here.device(VAULT, DEVICE);
    append(&mut here, link, &log(1, DEVICE, None));
    here.pass(Period::seconds(3600));
    there.pass(Period::seconds(3600));
    meet(&mut here, &mut there);
    assert_eq!(here.rows(Table::Entry), 10);
}

#[test]
fn long_logs_come_in_pages() {
    let (mut there, link) = holder(NEIGHBOUR, &HOLDERS);
    let mut previous: Option<Signed<Entry>> = None;
    for seq in 0..60 {
        let body = Body::Session { session: SessionId([7; 32]), sealed_key: Blob(vec![0; 60_000]) };
        let (vault, device) = (public(VAULT).into(), public(DEVICE).into());
        let previous_id = previous.as_ref().map(entry_id);
        let entry = Entry { vault, device, seq, previous: previous_id, claimed: EPOCH, body };
        let signed = Signed::sign(&entry, &secret(DEVICE));
        append(&mut there, link, std::slice::from_ref(&signed));
        previous = Some(signed);
    }
    let mut here = desk(NODE);
    let asked = meet(&mut here, &mut there);
    let pages = asked.iter().filter(|asked| matches!(asked, Request::Entries { .. })).count();
    assert_eq!((here.rows(Table::Entry), pages), (60, 4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whoever_meets_whom_in_the_end_all_have_all_and_nothing_accepted_is_lost(
        writes in prop::collection::vec((0usize..4, 0usize..2, 1u64..9), 0..20),
        meetings in prop::collection::vec((0usize..4, 0usize..4, any::<bool>()), 0..20),
    ) {
        let mut desks: Vec<(Desk, LinkId)> =
            HOLDERS.iter().map(|&node| holder(node, &HOLDERS)).collect();
        for (desk, _) in &mut desks {
            desk.device(VAULT, SECOND_DEVICE);
        }
        let devices = [DEVICE, SECOND_DEVICE];
        let logs = devices.map(|device| log(9, device, None));
        let mut meetings = meetings.into_iter();
        let mut most = [0; 2];
        for (node, device, upto) in writes {
            let (desk, link) = &mut desks[node];
            let known = entries(desk, devices[device]).len();
            for entry in logs[device][..upto as usize].iter().skip(known) {
                append(desk, *link, std::slice::from_ref(entry));
            }
            most[device] = most[device].max(upto as usize);
            if let Some((one, other, is_failing)) = meetings.next().filter(|(a, b, _)| a != b) {
                let counts: Vec<usize> = desks.iter().map(|(d, _)| d.rows(Table::Entry)).collect();
                let [(one, _), (other, _)] = desks.get_disjoint_mut([one, other]).unwrap();
                if is_failing {
                    // The answers to its last questions are lost.
                    ask_through(one, other, |_, _| Response::Done);
                }
                meet(one, other);
                for ((desk, _), count) in desks.iter().zip(counts) {
                    prop_assert!(desk.rows(Table::Entry) >= count);
                }
            }
        }
        for _ in 0..2 {
            for one in 0..4 {
                for other in (0..4).filter(|other| *other != one) {
                    let [(one, _), (other, _)] = desks.get_disjoint_mut([one, other]).unwrap();
                    meet(one, other);
                }
            }
        }
        for (desk, _) in &desks {
            for (device, most) in most.iter().enumerate() {
                prop_assert_eq!(entries(desk, devices[device]).len(), *most);
            }
            prop_assert_eq!(desk.rows(Table::Fork), 0);
        }
    }
}
