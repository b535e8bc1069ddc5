//! What the source remembers of the last committed snapshot: the chain of every repository in it, by the path before its
//! items.
//!
//! Encoded by `protocol::codec`, the version first, so that the next byte says which of the shapes below follows. Version 2
//! knew neither bases nor commits without large files; what it left goes on as a chain of bundles.

use super::chain::{Base, Bundle, CHAIN_LEN_MAX, Chain, Link, Pack, oid_len};
use data_encoding::HEXLOWER;
use protocol::codec::{self, Blob};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most repositories in a source, submodules and theirs included, whose chains are remembered.
const CHAINS_MAX: usize = 10_000;

/// Bytes of object ids that are remembered. Remembering fewer makes the next bundle larger, not
/// wrong.
const TIPS_LEN_MAX: usize = 8 << 20;

/// Encoded bytes of [`State`] that are read back.
const STATE_LEN_MAX: usize = TIPS_LEN_MAX + (64 << 20);

const VERSION: u8 = 3;

const VERSION_BEFORE: u8 = 2;

/// The chains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) chains: BTreeMap<Vec<u8>, Chain>,
}

#[derive(Serialize, Deserialize)]
struct StateBytes<C> {
    version: u8,
    chains: Vec<C>,
}

#[derive(Serialize, Deserialize)]
struct ChainBytes {
    prefix: Blob,
    object_format: String,
    base: Option<BaseBytes>,
    bundles: Vec<LinkBytes>,
    plain_tip: Blob,
}

#[derive(Serialize, Deserialize)]
struct BaseBytes {
    packs: Vec<Pack>,
    rest: Option<Bundle>,
    tips: Blob,
}

#[derive(Serialize, Deserialize)]
struct LinkBytes {
    bundle: Bundle,
    tips: Blob,
}

/// Of version 2.
#[derive(Serialize, Deserialize)]
struct ChainBytesBefore {
    prefix: Blob,
    object_format: String,
    bundles: Vec<LinkBytes>,
}

impl From<ChainBytesBefore> for ChainBytes {
    fn from(before: ChainBytesBefore) -> Self {
        let ChainBytesBefore { prefix, object_format, bundles } = before;
        Self { prefix, object_format, base: None, bundles, plain_tip: Blob(Vec::new()) }
    }
}

impl State {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut room = TIPS_LEN_MAX;
        let mut encode_tips = |tips: &BTreeSet<String>| {
            let mut bytes = Vec::new();
            for raw in tips.iter().filter_map(|oid| HEXLOWER.decode(oid.as_bytes()).ok()) {
                if raw.len() > room {
                    break;
                }
                room -= raw.len();
                bytes.extend_from_slice(&raw);
            }
            Blob(bytes)
        };
        let mut encode_chain = |(prefix, chain): (&Vec<u8>, &Chain)| ChainBytes {
            prefix: Blob(prefix.clone()),
            object_format: chain.object_format.clone(),
            base: chain.base.as_ref().map(|base| BaseBytes {
                packs: base.body.packs.clone(),
                rest: base.body.rest,
                tips: encode_tips(&base.tips),
            }),
            bundles: chain
                .bundles
                .iter()
                .map(|link| LinkBytes { bundle: link.body, tips: encode_tips(&link.tips) })
                .collect(),
            plain_tip: encode_tips(&chain.plain_tip.iter().cloned().collect()),
        };
        let chains = self.chains.iter().take(CHAINS_MAX).map(&mut encode_chain).collect();
        codec::encode(&StateBytes { version: VERSION, chains })
    }

    /// As version 2 wrote it, without what that did not know.
    #[cfg(test)]
    pub(super) fn encode_before(&self) -> Vec<u8> {
        let state: StateBytes<ChainBytes> = codec::decode(&self.encode(), STATE_LEN_MAX).unwrap();
        let before = |ChainBytes { prefix, object_format, bundles, .. }| ChainBytesBefore {
            prefix,
            object_format,
            bundles,
        };
        let chains = state.chains.into_iter().map(before).collect();
        codec::encode(&StateBytes { version: VERSION_BEFORE, chains })
    }

    /// `None` for what neither this version nor the one before wrote; the chains then start anew.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let chains: Vec<ChainBytes> = match *bytes.first()? {
            VERSION => codec::decode::<StateBytes<_>>(bytes, STATE_LEN_MAX).ok()?.chains,
            VERSION_BEFORE => {
                let before: StateBytes<ChainBytesBefore> =
                    codec::decode(bytes, STATE_LEN_MAX).ok()?;
                before.chains.into_iter().map(Into::into).collect()
            }
            _ => return None,
        };
        if chains.len() > CHAINS_MAX {
            return None;
        }
        let chains = chains.into_iter().map(|c| Some((c.prefix.0.clone(), decode_chain(c)?)));
        Some(Self { chains: chains.collect::<Option<_>>()? })
    }
}

fn decode_chain(bytes: ChainBytes) -> Option<Chain> {
    let ChainBytes { object_format, base, bundles, plain_tip, .. } = bytes;
    let oid_len = oid_len(&object_format)?;
    if bundles.len() > CHAIN_LEN_MAX {
        return None;
    }
    let decode_tips = |tips: Blob| -> BTreeSet<String> {
        tips.0.chunks(oid_len).map(|raw| HEXLOWER.encode(raw)).collect()
    };
    let base = match base {
        Some(BaseBytes { packs, rest, tips }) => {
            let body = Some(Base { packs, rest }).filter(|base| base.is_sound(&object_format))?;
            Some(Link { body, tips: decode_tips(tips) })
        }
        None => None,
    };
    let decode_link = |link: LinkBytes| Link { body: link.bundle, tips: decode_tips(link.tips) };
    let bundles = bundles.into_iter().map(decode_link).collect();
    let plain_tip = decode_tips(plain_tip).pop_first();
    Some(Chain { object_format, base, bundles, plain_tip })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(digit: char, size: u64) -> Pack {
        let name = digit.to_string().repeat(40);
        Pack { checksum: name.clone(), name, size, idx_size: 1072 }
    }

    fn chain() -> Chain {
        let oid = |digit: &str| BTreeSet::from([digit.repeat(40)]);
        let rest = Some(Bundle { size: 300, hash: [5; 32] });
        let base = Base { packs: vec![pack('a', 70_000), pack('b', 200)], rest };
        Chain {
            object_format: "sha1".into(),
            base: Some(Link { body: base, tips: oid("1") }),
            bundles: vec![Link { body: Bundle { size: 5, hash: [7; 32] }, tips: oid("2") }],
            plain_tip: Some("3".repeat(40)),
        }
    }

    /// What was written by the versions that these are named for.
    #[test]
    fn states_that_were_written_are_read() {
        let chain = chain();
        let now = State { chains: BTreeMap::from([(b"modules/m/".to_vec(), chain.clone())]) };
        let (a, b, one) = ("61".repeat(40), "62".repeat(40), "11".repeat(20));
        let golden = format!(
            "0301 0a 6d6f64756c65732f6d2f 04 73686131 01 \
             02 28 {a} fc70110100 fb3004 28 {a} 28 {b} c8 fb3004 28 {b} 01 fb2c01 {five} 14 {one} \
             01 05 {seven} 14 {two} 14 {three}",
            five = "05".repeat(32),
            seven = "07".repeat(32),
            two = "22".repeat(20),
            three = "33".repeat(20),
        );
        let golden = golden.replace(' ', "");
        assert_eq!(HEXLOWER.encode(&now.encode()), golden);
        assert_eq!(State::decode(&now.encode()), Some(now.clone()));

        let golden = format!(
            "0201 0a 6d6f64756c65732f6d2f 04 73686131 01 05 {} 14 {}",
            "07".repeat(32),
            "22".repeat(20)
        );
        let before = HEXLOWER.decode(golden.replace(' ', "").as_bytes()).unwrap();
        assert_eq!(now.encode_before(), before);
        let bundles = Chain { base: None, plain_tip: None, ..chain };
        let chains = BTreeMap::from([(b"modules/m/".to_vec(), bundles)]);
        assert_eq!(State::decode(&before), Some(State { chains }));
    }

    #[test]
    fn a_base_that_could_not_be_is_refused() {
        let state = |change: &dyn Fn(&mut Base)| {
            let mut chain = chain();
            change(&mut chain.base.as_mut().unwrap().body);
            State::decode(&State { chains: BTreeMap::from([(Vec::new(), chain)]) }.encode())
        };
        assert!(state(&|_| {}).is_some());
        assert!(state(&|base| base.packs.clear()).is_none());
        assert!(state(&|base| base.packs.reverse()).is_none());
        assert!(state(&|base| base.packs[0].name = "../../../etc/passwd".into()).is_none());
        assert!(state(&|base| base.packs[0].checksum.truncate(39)).is_none());
    }

    proptest! {
        #[test]
        fn the_state_round_trips(
            sizes in prop::collection::vec(any::<u64>(), 0..20),
            tips in prop::collection::btree_set("[0-9a-f]{40}", 0..50),
            packs in prop::collection::btree_set("[0-9a-f]{40}", 0..5),
            rest: Option<u64>,
            prefix: Vec<u8>,
        ) {
            let bundle = |size| Bundle { size, hash: [7; 32] };
            let link = |size| Link { body: bundle(size), tips: tips.clone() };
            let pack = |name: &String| Pack { name: name.clone(), ..pack('c', 7) };
            let base = Base { packs: packs.iter().map(pack).collect(), rest: rest.map(bundle) };
            let chain = Chain {
                object_format: "sha1".into(),
                base: (!packs.is_empty()).then(|| Link { body: base, tips: tips.clone() }),
                bundles: sizes.into_iter().map(link).collect(),
                plain_tip: tips.first().cloned(),
            };
            let empty = Chain { object_format: "sha1".into(), ..Chain::default() };
            let state = State { chains: BTreeMap::from([(Vec::new(), empty), (prefix, chain)]) };
            prop_assert_eq!(State::decode(&state.encode()).unwrap(), state);
        }

        #[test]
        fn hostile_bytes_never_panic(mut bytes: Vec<u8>, version in 0_u8..4) {
            let _ = State::decode(&bytes);
            bytes.insert(0, version);
            let _ = State::decode(&bytes);
        }
    }
}
