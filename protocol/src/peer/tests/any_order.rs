//! Whatever is asked, by whomever, in whatever order, and whatever the disk does: no promise leaves
//! before it is durable (the desk checks each one), nothing panics and nothing is left behind.

use super::cast::*;
use super::desk::Desk;
use crate::audit::AuditOpening;
use crate::message::{Greeting, Request};
use crate::peer::{Held, Input, LaneId, LinkId, PeerConfig, Table};
use crate::record::Record;
use crate::recovery::RecoveryTag;
use crate::sign::Signed;
use crate::time::Period;
use proptest::prelude::*;

/// What happens next. Numbers choose among the few things that there are.
#[derive(Debug, Clone)]
enum Step {
    Connect(u8),
    Greet(usize, Box<Greeting>),
    Ask(usize, Box<Request>),
    Arrive { lane: usize, stripe: u8, index: u16 },
    ArrivalFails(usize),
    Durable,
    NotDurable,
    Disconnect(usize),
    Pass(u64),
    Restart,
}

fn operator() -> impl Strategy<Value = u8> {
    prop_oneof![9 => Just(OPERATOR), 1 => Just(FOREIGN_OPERATOR)]
}

fn vault() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(VAULT), 1 => Just(OTHER_VAULT)]
}

fn device() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(DEVICE), 2 => Just(SECOND_DEVICE), 1 => Just(OTHER_DEVICE)]
}

fn key() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(DEVICE), 1 => Just(SECOND_DEVICE), 1 => Just(OTHER_DEVICE),
        2 => Just(NEIGHBOUR), 1 => Just(THIRD), 1 => Just(STRANGER)]
}

fn greeting() -> impl Strategy<Value = Greeting> {
    prop_oneof![
        4 => (operator(), vault(), device()).prop_map(|(o, v, d)| device_greeting(o, v, d)),
        2 => (operator(), key()).prop_map(|(operator, node)| node_greeting(operator, node)),
        2 => (operator(), key()).prop_map(|(o, node)| join(invitation(o, NODE, &[]), node, &[])),
        1 => key().prop_map(|console| console_greeting(NODE, console)),
        1 => (0u8..3).prop_map(|name| Greeting::Recover { tag: RecoveryTag::of(&recipient(name)) }),
    ]
}

fn recipient(name: u8) -> String {
    format!("age1{name}")
}

fn signed_record() -> impl Strategy<Value = Signed<Record>> {
    (vault(), device(), 0u8..3, 0usize..3, 1u32..4, any::<bool>()).prop_map(
        |(vault, device, stripe, place, version, short)| {
            let mut record = record(vault, device, stripe);
            record.holders.swap(0, place);
            record.version = version;
            if short {
                record.policy.lock.period = Period::days(1);
            }
            Signed::sign(&record, &secret(device))
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let entry = (vault(), device(), 0u64..3, proptest::option::of(0u8..2), 0u8..2).prop_map(
        |(vault, device, seq, previous, text)| {
            let previous = previous.map(|text| {
                // Entries 1 and 2 of a chain whose first is one of two.
                let first = entry_by(vault, device, 0, None, text);
                crate::log::entry_id(&first)
            });
            Request::Append(entry_by(vault, device, seq, previous, text))
        },
    );
    let id = |vault| public(vault).into();
    prop_oneof![
        6 => (signed_record(), 0u16..3, prop_oneof![9 => Just(SHARD_LEN), 1 => any::<u32>()])
            .prop_map(|(record, index, len)| Request::Put { record, index, len }),
        4 => entry,
        2 => (vault(), 0u64..4, any::<bool>()).prop_map(|(vault, version, guarded)| {
            let papers = if guarded { guarded_papers } else { papers };
            Request::Introduce(papers(vault, version, &[NODE, THIRD]))
        }),
        2 => signed_record().prop_map(Request::Replace),
        2 => (0u8..3, 0u16..3, 0u32..70, 0u32..70).prop_map(|(stripe, index, offset, len)| {
            Request::Get { shard: shard_id(&shard_bytes(stripe, index)), offset, len }
        }),
        1 => vault().prop_map(move |vault| Request::Vault(id(vault))),
        1 => vault().prop_map(|name| {
            let stripes = (0..3).map(|stripe| record(name, DEVICE, stripe).stripe.id()).collect();
            Request::Records { vault: public(name).into(), stripes }
        }),
        1 => vault()
            .prop_map(|vault| Request::Inventory { vault: public(vault).into(), after: None }),
        1 => vault().prop_map(|vault| Request::Log { vault: public(vault).into(), after: None }),
        1 => vault().prop_map(|name| {
            let stripes = (0..3).map(|stripe| record(name, DEVICE, stripe).stripe.id()).collect();
            Request::Extend { vault: public(name).into(), stripes }
        }),
        1 => (vault(), 0usize..4).prop_map(|(name, agree)| {
            let stripes: Vec<_> =
                (0..3).map(|stripe| record(name, DEVICE, stripe).stripe.id()).collect();
            let request = release_request(name, EPOCH, &stripes);
            let approvals = approve(&request, &GUARDIANS[..agree.min(3)]);
            Request::Release { request, approvals, from: agree as u32 / 3 }
        }),
        1 => (0usize..3).prop_map(|by| {
            let request = release_request(VAULT, EPOCH, &[record(VAULT, DEVICE, 1).stripe.id()]);
            veto(&request, GUARDIANS[by])
        }),
        1 => (0usize..3, 0u64..3, any::<bool>()).prop_map(|(by, number, on)| {
            hold(GUARDIANS[by], number, on.then_some(Period::days(1)))
        }),
        1 => vault().prop_map(|vault| Request::Releases(public(vault).into())),
        1 => vault().prop_map(|vault| {
            Request::Stops { vault: public(vault).into(), releases: vec![] }
        }),
        1 => (vault(), 0u8..3).prop_map(|(vault, stripe)| {
            let shards = vec![shard_id(&shard_bytes(stripe, 0))];
            Request::AuditOpen(AuditOpening { vault: public(vault).into(), shards, commitment: [0; 32] })
        }),
        1 => Just(Request::Status),
        2 => (vault(), device(), 0u8..7, 0u64..3).prop_map(|(vault, device, which, from)| {
            let (vault, device) = (public(vault).into(), public(device).into());
            match which {
                0 => Request::Vaults,
                1 => Request::Holdings(vault),
                2 => Request::Logs(vault),
                3 => Request::Entries { vault, device, from },
                4 => Request::Forks { vault, device },
                5 => Request::PromiseHead { nonce: [0; 16], known: None, witness: None },
                _ => Request::Promised,
            }
        }),
        2 => (vault(), 0u64..4, 0u8..3, 0u8..3).prop_map(|(vault, version, one, two)| {
            Request::Card(card(vault, version, &[&recipient(one), &recipient(two)], 1))
        }),
        1 => (key(), 0u64..3)
            .prop_map(|(node, version)| Request::Members(vec![node_record(OPERATOR, node, version)])),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => key().prop_map(Step::Connect),
        4 => (any::<usize>(), greeting().prop_map(Box::new)).prop_map(|(l, g)| Step::Greet(l, g)),
        12 => (any::<usize>(), request().prop_map(Box::new)).prop_map(|(l, r)| Step::Ask(l, r)),
        4 => (any::<usize>(), 0u8..3, 0u16..3)
            .prop_map(|(lane, stripe, index)| Step::Arrive { lane, stripe, index }),
        1 => any::<usize>().prop_map(Step::ArrivalFails),
        8 => Just(Step::Durable),
        2 => Just(Step::NotDurable),
        1 => any::<usize>().prop_map(Step::Disconnect),
        1 => (0u64..20_000).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// The desk with the connections that are up.
struct Story {
    desk: Desk,
    links: Vec<LinkId>,
}

impl Story {
    fn new() -> Self {
        let config = PeerConfig { inflight_max: 128, quota: 192, ..PeerConfig::default() };
        let (mut desk, link) = Desk::with_vault(config);
        let second = desk.device(VAULT, SECOND_DEVICE);
        Self { desk, links: vec![link, second] }
    }

    fn link(&self, choice: usize) -> Option<LinkId> {
        self.links.get(choice % self.links.len().max(1)).copied()
    }

    fn arriving(&self, choice: usize) -> Option<LaneId> {
        let lanes: Vec<LaneId> = self.desk.arriving.keys().copied().collect();
        lanes.get(choice % lanes.len().max(1)).copied()
    }

    fn take(&mut self, step: Step) {
        let desk = &mut self.desk;
        match step {
            Step::Connect(key) => {
                let link = desk.connect(public(key), false);
                self.links.push(link);
            }
            Step::Greet(link, greeting) => {
                if let Some(link) = self.link(link) {
                    self.desk.send_greeting(link, *greeting);
                }
            }
            Step::Ask(link, request) => {
                if let Some(link) = self.link(link) {
                    self.desk.send(link, *request);
                }
            }
            Step::Arrive { lane, stripe, index } => {
                if let Some(lane) = self.arriving(lane) {
                    self.desk.arrive(lane, &shard_bytes(stripe, index));
                }
            }
            Step::ArrivalFails(lane) => {
                if let Some(lane) = self.arriving(lane) {
                    self.desk.fail_arrival(lane);
                }
            }
            Step::Durable => {
                desk.settle_one();
            }
            Step::NotDurable => {
                desk.fail_one();
            }
            Step::Disconnect(link) => {
                if let Some(link) = self.link(link) {
                    self.desk.handle(Input::Disconnected(link));
                    self.links.retain(|&up| up != link);
                }
            }
            Step::Pass(ms) => desk.pass(Period(ms)),
            Step::Restart => {
                let facts = desk.facts.clone();
                let now = desk.now;
                let config = PeerConfig { inflight_max: 128, quota: 192, ..PeerConfig::default() };
                self.desk = Desk::of(NODE, facts, config, now);
                self.links.clear();
                for device in [DEVICE, SECOND_DEVICE] {
                    let link = self.desk.device(VAULT, device);
                    self.links.push(link);
                }
            }
        }
    }

    /// What is kept in memory is only what waits for something that the driver still owes.
    fn check_memory(&self) {
        let peer = &self.desk.peer;
        assert_eq!(peer.pending.len(), self.desk.undurable());
        assert_eq!(peer.receiving.len(), self.desk.arriving.len());
        assert!(peer.outputs.is_empty());
        let arriving: u64 = self.desk.arriving.len() as u64 * u64::from(SHARD_LEN);
        assert!(arriving <= peer.config.inflight_max);
        assert_eq!(peer.calls.len(), self.desk.called.len(), "no call is answered in this story");
        assert!(peer.links.count() <= self.links.len());
    }

    /// Once all is decided, what is counted is what is held, within the quota, one of a stripe.
    fn check_end(&mut self) {
        self.desk.settle();
        self.check_memory();
        let peer = &self.desk.peer;
        assert!(peer.overlay.is_empty());
        let rows = crate::peer::Facts::scan(&self.desk.facts, Table::Held, &[], None, usize::MAX);
        let held: Vec<Held> =
            rows.unwrap().iter().map(|(_, bytes)| super::desk::decode(bytes)).collect();
        let counted: u64 = peer.usage.values().map(|usage| usage.bytes).sum();
        assert_eq!(counted, held.iter().map(|held| u64::from(held.len)).sum::<u64>());
        assert!(counted <= peer.config.quota);
        let mut stripes: Vec<_> = held.iter().map(|held| held.stripe).collect();
        stripes.sort_unstable();
        stripes.dedup();
        assert_eq!(stripes.len(), held.len(), "two shards of one stripe");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_promise_leaves_before_it_is_durable(steps in proptest::collection::vec(step(), 0..80)) {
        let mut story = Story::new();
        for step in steps {
            story.take(step);
            story.check_memory();
        }
        story.check_end();
    }
}
