//! Reading the data: every shard of a stripe is fetched from its holder and hashed, what is missing is computed, and the
//! pack is opened chunk by chunk. All of a stripe is in memory, a few stripes at once, whatever the vault's size.

use super::findings::Kind;
use crate::cli::progress::Counters;
use crate::client::buffers::Buffers;
use crate::client::inventory::Held;
use crate::client::mesh::Mesh;
use crate::client::packs::Packs;
use crate::client::{ClientError, Result};
use protocol::chunk::{Chunker, decode_chunk};
use protocol::erasure::{Codec, Slot};
use protocol::id::{ChunkId, NodeId, SessionId, StripeId};
use protocol::message::RefusalCode;
use protocol::pack::{PackEntry, PackHeader, PackOpener};
use protocol::record::Stripe;
use protocol::seal::SessionKey;
use serde::Serialize;
use std::sync::Arc;

/// What was read.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct DataRead {
    /// Stripes.
    pub stripes: u64,
    /// Shards fetched and hashed.
    pub shards: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Chunks opened and compared with their names.
    pub chunks: u64,
    /// Packs whose key this identity does not open, or without an identity: hashed and not opened.
    pub closed: u64,
}

/// What reading a stripe came to.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) findings: Vec<(Kind, String)>,
    pub(super) data: DataRead,
    /// Whether fewer intact shards than needed were found.
    pub(super) unreadable: bool,
    /// Chunks that are not what their names say.
    pub(super) damaged: Vec<ChunkId>,
}

/// What to read with.
pub(super) struct Readers {
    pub(super) mesh: Arc<Mesh>,
    pub(super) packs: Arc<Packs>,
    pub(super) buffers: Buffers,
    pub(super) progress: Arc<Counters>,
}

/// A hash of what the index says of a pack's chunks.
pub(super) fn digest(entries: &[PackEntry]) -> [u8; 32] {
    *blake3::hash(&protocol::codec::encode(entries)).as_bytes()
}

impl Readers {
    /// Reads and checks one stripe. `listed` is the digest of what the index says of it.
    pub(super) async fn read(&self, held: &Held, listed: Option<[u8; 32]>) -> Result<Read> {
        let stripe = &held.record.stripe;
        let (k, n, len) = (usize::from(stripe.k), usize::from(stripe.n), stripe.shard_len as usize);
        let mut read =
            Read { data: DataRead { stripes: 1, ..DataRead::default() }, ..Read::default() };
        let mut bytes = self.buffers.take_filled(n * len);
        let holders = held.holders(&self.mesh);
        let holders = &holders;
        let fetches = bytes.chunks_exact_mut(len).enumerate().map(|(i, place)| async move {
            // Who is named is asked where nobody says that it has it.
            let named = held.record.holders.get(i).copied();
            let holder = holders.get(i).copied().flatten().or(named)?;
            let node = self.mesh.nodes.get(&holder)?;
            let fetched = node.get(stripe.shards[i], 0, place).await;
            let fits = tokio::task::block_in_place(|| *blake3::hash(place).as_bytes())
                == stripe.shards[i].0;
            if fits && fetched.is_ok() {
                node.note_sent(len);
            }
            self.progress.bytes(len as u64);
            Some((node.id, fetched.map(|()| fits)))
        });
        let fetched: Vec<Option<(NodeId, Result<bool>)>> = futures::future::join_all(fetches).await;
        let mut present = vec![false; n];
        for (i, fetched) in fetched.into_iter().enumerate() {
            // Who is silent was found out before.
            let Some((node, fetched)) = fetched else { continue };
            let name = format!(
                "shard {i} of stripe {} ({}) at node {}",
                held.stripe.short(),
                stripe.shards[i].short(),
                node.short()
            );
            match fetched {
                Ok(true) => {
                    present[i] = true;
                    read.data.shards += 1;
                    read.data.bytes += len as u64;
                }
                Ok(false) => {
                    read.findings
                        .push((Kind::ShardDamaged, format!("{name}: it serves other bytes")));
                }
                Err(ClientError::Refused { refusal, .. })
                    if refusal.code == RefusalCode::NotHeld =>
                {
                    read.findings.push((Kind::ShardMissing, format!("{name}: {refusal}")));
                }
                Err(error) => read.findings.push((Kind::ShardDamaged, format!("{name}: {error}"))),
            }
        }
        let found = present.iter().filter(|&&present| present).count();
        if found < k {
            read.unreadable = true;
            read.findings.push((
                Kind::StripeUnreadable,
                format!("stripe {}: {found} intact shards, {k} needed", held.stripe.short()),
            ));
        } else {
            let pack = Whole { stripe, session: held.record.session, name: held.stripe, listed };
            tokio::task::block_in_place(|| {
                let key_of = |header: &PackHeader| self.packs.key_of(header);
                let (chunker, buffers) = (self.packs.chunker(), &self.buffers);
                pack.check(&mut bytes, &present, key_of, chunker, buffers, &mut read)
            })?;
        }
        self.buffers.give(bytes);
        Ok(read)
    }
}

/// A stripe of which enough shards are at hand, and what is known of it.
struct Whole<'a> {
    stripe: &'a Stripe,
    name: StripeId,
    /// What its record says.
    session: SessionId,
    /// What the index says of its chunks.
    listed: Option<[u8; 32]>,
}

impl Whole<'_> {
    /// Computes what is missing, compares it with its names, and opens the pack.
    fn check<'k>(
        &self,
        bytes: &mut [u8],
        present: &[bool],
        key_of: impl Fn(&PackHeader) -> Option<&'k SessionKey>,
        chunker: &Chunker,
        buffers: &Buffers,
        read: &mut Read,
    ) -> Result<()> {
        let (k, n) = (usize::from(self.stripe.k), usize::from(self.stripe.n));
        let len = self.stripe.shard_len as usize;
        let codec = Codec::new(k, n).map_err(ClientError::content)?;
        if present.contains(&false) {
            let shards = bytes.chunks_exact_mut(len).zip(present);
            let mut slots: Vec<Slot<'_>> =
                shards.map(|(bytes, &present)| Slot { bytes, present }).collect();
            codec.reconstruct(&mut slots).map_err(ClientError::content)?;
        }
        let (data, parity) = bytes.split_at_mut(k * len);
        let mut again = buffers.take_filled(parity.len());
        codec.encode(data, &mut again).map_err(ClientError::content)?;
        let shards = data.chunks_exact(len).chain(again.chunks_exact(len)).enumerate();
        let named = shards.zip(&self.stripe.shards);
        let odd = named.filter(|((_, shard), name)| *blake3::hash(shard).as_bytes() != name.0);
        let odd: Vec<String> = odd.map(|((i, _), _)| i.to_string()).collect();
        buffers.give(again);
        let mut wrong = |what: String| {
            let what = format!("stripe {}: {what}", self.name.short());
            read.findings.push((Kind::PackDamaged, what));
        };
        if !odd.is_empty() {
            wrong(format!("its shards do not fit together: {} cannot be rebuilt", odd.join(", ")));
        }
        let header = match PackHeader::decode(data) {
            Ok(header) => header,
            Err(error) => {
                wrong(error.to_string());
                return Ok(());
            }
        };
        if header.session != self.session {
            wrong("its record names another session".into());
        }
        let Some(key) = key_of(&header) else {
            read.data.closed += 1;
            return Ok(());
        };
        let opened = PackOpener::for_pack(&header, key)
            .and_then(|opener| Ok((opener.open_table(data)?, opener)));
        let (entries, opener) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                wrong(error.to_string());
                return Ok(());
            }
        };
        if self.listed.is_some_and(|listed| listed != digest(&entries)) {
            wrong("the index says otherwise what is in it".into());
        }
        let mut room = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            let sealed = data.get_mut(entry.offset as usize..(entry.offset + entry.len) as usize);
            let is_intact = sealed.is_some_and(|sealed| {
                let encoded = opener.open_chunk(number as u32, sealed);
                let Ok(encoded) = encoded else { return false };
                decode_chunk(encoded, entry.plain_len, &mut room)
                    .is_ok_and(|plain| chunker.check(entry.id, plain).is_ok())
            });
            if is_intact {
                read.data.chunks += 1;
            } else {
                wrong(format!("chunk {} is not what its name says", entry.id.short()));
                read.damaged.push(entry.id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::chunk::Compressor;
    use protocol::id::{ShardId, VaultId};
    use protocol::pack::{PACK_LEN_MIN, PackBuilder, PackKind};
    use protocol::record::CODEC_REED_SOLOMON;
    use protocol::seal::VaultSecret;

    const SECRET: VaultSecret = VaultSecret([1; 32]);
    const KEY: SessionKey = SessionKey([2; 32]);
    const SESSION: SessionId = SessionId([3; 32]);

    /// A stripe of 2+2 with two chunks, the second one under the name of other bytes when asked for.
    fn stripe(is_misnamed: bool) -> (Stripe, Vec<u8>, Vec<PackEntry>) {
        let chunker = Chunker::new(&SECRET);
        let mut pack =
            PackBuilder::new(PackKind::Content, SESSION, &KEY, [4; 32], PACK_LEN_MIN, Vec::new());
        for plain in [&b"the first"[..], b"the second"] {
            let (mut encoded, named) = (Vec::new(), if is_misnamed { b"other" } else { plain });
            Compressor::default().encode(plain, &mut encoded);
            pack.append(chunker.id(named), plain.len() as u32, &encoded);
        }
        let sealed = pack.finish(2).seal();
        let mut bytes = sealed.bytes;
        let len = bytes.len() / 2;
        let mut parity = vec![0; 2 * len];
        Codec::new(2, 4).unwrap().encode(&bytes, &mut parity).unwrap();
        bytes.extend(parity);
        let stripe = Stripe {
            vault: VaultId([5; 32]),
            codec: CODEC_REED_SOLOMON,
            k: 2,
            n: 4,
            shard_len: len as u32,
            shards: bytes.chunks_exact(len).map(|s| ShardId(*blake3::hash(s).as_bytes())).collect(),
        };
        (stripe, bytes, sealed.entries)
    }

    fn check(
        stripe: &Stripe,
        bytes: &mut [u8],
        present: &[bool],
        listed: &[PackEntry],
        key: Option<&SessionKey>,
    ) -> Read {
        let (name, listed) = (stripe.id(), Some(digest(listed)));
        let whole = Whole { stripe, name, session: SESSION, listed };
        let (chunker, mut read) = (Chunker::new(&SECRET), Read::default());
        whole.check(bytes, present, |_| key, &chunker, &Buffers::default(), &mut read).unwrap();
        read
    }

    #[test]
    fn a_sound_pack_is_opened_from_any_shards() {
        let (stripe, bytes, entries) = stripe(false);
        for present in [[true; 4], [false, true, true, false], [false, false, true, true]] {
            let mut found = bytes.clone();
            let shards = found.chunks_exact_mut(stripe.shard_len as usize).zip(present);
            shards.filter(|(_, present)| !present).for_each(|(shard, _)| shard.fill(0));
            let read = check(&stripe, &mut found, &present, &entries, Some(&KEY));
            assert!(read.findings.is_empty(), "{:?}", read.findings);
            assert_eq!((read.data.chunks, read.data.closed), (2, 0));
        }
        let closed = check(&stripe, &mut bytes.clone(), &[true; 4], &entries, None);
        assert_eq!((closed.findings.len(), closed.data.chunks, closed.data.closed), (0, 0, 1));
    }

    #[test]
    fn a_pack_that_is_not_what_was_written_is_found_out() {
        let said =
            |read: &Read| read.findings.iter().map(|(_, what)| what.clone()).collect::<String>();
        // Written by a host with bad memory: every shard fits its name, and the content is another.
        let (odd, mut bytes, entries) = stripe(true);
        let read = check(&odd, &mut bytes, &[true; 4], &entries, Some(&KEY));
        assert_eq!((read.findings.len(), read.damaged.len()), (2, 2));
        let (sound, bytes, entries) = stripe(false);
        let read = check(&sound, &mut bytes.clone(), &[true; 4], &entries[..1], Some(&KEY));
        assert!(said(&read).contains("the index says otherwise"), "{}", said(&read));
        let other = SessionKey([9; 32]);
        let read = check(&sound, &mut bytes.clone(), &[true; 4], &entries, Some(&other));
        assert!(said(&read).contains("another key"), "{}", said(&read));
        // Parity that belongs to something else is no help when it is needed.
        let mut named = sound.clone();
        let len = named.shard_len as usize;
        let mut bytes = bytes;
        bytes[3 * len..].fill(7);
        named.shards[3] = ShardId(*blake3::hash(&bytes[3 * len..]).as_bytes());
        let read = check(&named, &mut bytes, &[true; 4], &entries, Some(&KEY));
        assert!(said(&read).contains("3 cannot be rebuilt"), "{}", said(&read));
    }
}
