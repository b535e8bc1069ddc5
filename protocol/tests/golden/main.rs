//! The formats as they are for ever: bytes that an older version wrote are read, and written again alike.
//!
//! A fixture is never changed, a new version of a format adds a new one. `STREWN_NEW_FIXTURES=1 cargo test`
//! writes those that are missing.

mod audits;
mod exchange;
mod partners;
mod proofs;
mod succession;

use protocol::certificate::VaultCertificate;
use protocol::chunk::{Chunker, Compressor, decode_chunk};
use protocol::codec::Blob;
use protocol::discharge::Discharge;
use protocol::erasure::Codec;
use protocol::given_up::GivenUp;
use protocol::hold::{Arrival, HoldOrder, Holds};
use protocol::id::{ChunkId, EntryId, NodeId, OperatorId, SessionId, StripeId, VaultId};
use protocol::index::{IndexBlock, IndexedPack};
use protocol::item::{
    Attribute, ChunkRef, FORMAT, Item, ItemReader, ItemWriter, Meta, NodeKind, Root, SourceKind,
    Stamp, Timestamp, decode_refs, encode_refs,
};
use protocol::life::Life;
use protocol::lock_clock::{BootId, LockClock, LockTime, Reading, TimeStatement};
use protocol::log::{Body, Entry, entry_id};
use protocol::message::{
    Greeting, Hearsay, Outcome, Released, Request, Response, Running, Standstill, Stops,
};
use protocol::pack::{
    PACK_LEN_MAX, PACK_LEN_MIN, PackBuilder, PackEntry, PackHeader, PackKind, PackOpener, padme,
    shard_len,
};
use protocol::peer::{HoldRow, ReleaseRow};
use protocol::policy::{Guardians, Lock};
use protocol::recovery::{RecoveryCard, RecoverySecret, RecoveryTag};
use protocol::release::{Approval, Release, ReleaseRequest, Veto, accepts, release_id};
use protocol::retention::Forget;
use protocol::seal::{SealKey, SessionKey, VaultSecret};
use protocol::share::{Part, combine, split};
use protocol::sign::{SecretKey, Signed, Statement};
use protocol::tag::Tags;
use protocol::time::{Mono, Period, Wall};
use std::path::Path;

const SECRET: VaultSecret = VaultSecret([0x11; 32]);
const SESSION: SessionKey = SessionKey([0x22; 32]);

/// The stored bytes; `written` is what this version writes.
fn stored(name: &str, written: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if !path.exists() && std::env::var_os("STREWN_NEW_FIXTURES").is_some() {
        std::fs::write(&path, written).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn noise(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(b"golden").finalize_xof().fill(&mut out);
    out
}

fn text() -> Vec<u8> {
    (0..200).flat_map(|i| format!("line {i} of a text that compresses\n").into_bytes()).collect()
}

#[test]
fn keys_are_derived_as_ever() {
    let keys = [
        SECRET.chunk_id_key(),
        SECRET.gear_key(),
        SealKey(SECRET.index_key().0),
        SECRET.catalog_key(),
        SESSION.pack_key(&[0x33; 32]),
        SESSION.root_key(),
        SealKey(SealKey([0x44; 32]).commitment()),
    ];
    let expected = [
        "0490cae9a9247b31daf9f647b0a63ab8e18455e41eeeafb1730370e633870fdc",
        "feef89b0b2151cc409681a9e2fff9dce3a52946db919dd69946f02e691416243",
        "9945b59c13398449382afa2f4a20af4bcd63c938ae458149b2d7ccc67388a752",
        "e7a99c0ec468baa108bced293c067bda2af96f54218207293392f936fa060341",
        "05ee97445822d496c7b53585ce6885be0f45f5955c4e6d3bad0bbd9b6a116691",
        "fdbfbca3f82b20a3a6f5ac09f23f4b968241c126273a1ac79aa8a8a79526bef9",
        "a878658e686e5a5fec8e31028b49ce68f406c7d98073a59f8021ed5a6e5e87f9",
    ];
    assert_eq!(keys.map(|key| hex(&key.0)), expected);
}

#[test]
fn sealed_blobs_open() {
    let key = SealKey([0x44; 32]);
    let written = key.seal_blob("strewn golden", [0x55; 24], b"a summary");
    let stored = stored("blob-v1.bin", &written);
    assert_eq!(hex(&stored), hex(&written));
    assert_eq!(key.open_blob("strewn golden", &stored).unwrap(), b"a summary");
}

#[test]
fn tags_open_and_log_entries_are_read() {
    let key = SealKey([0x44; 32]);
    let tags = Tags::new(["release".into(), "before the move".into()]).unwrap();
    let sealed = stored("tags-v1.bin", &tags.seal(&key, [0x55; 24]));
    assert_eq!(hex(&sealed), hex(&tags.seal(&key, [0x55; 24])));
    assert_eq!(Tags::open(&key, &sealed).unwrap(), tags);

    let device = SecretKey::from_seed(&[0x77; 32]);
    let vault = SecretKey::from_seed(&[0x7a; 32]);
    let forget = Forget {
        vault: vault.public().into(),
        issued: NOW,
        snapshots: vec![EntryId([0x99; 32]), EntryId([0x9a; 32])],
    };
    let given_up = GivenUp {
        vault: vault.public().into(),
        number: 3,
        keep: false,
        stripes: vec![StripeId([0x9b; 32]), StripeId([0x9c; 32])],
    };
    let discharge = discharge(vault.public().into());
    let bodies = [
        Body::Session { session: SessionId([0x66; 32]), sealed_key: Blob(vec![1; 200]) },
        Body::Index { session: SessionId([0x66; 32]), stripes: vec![StripeId([0x88; 32])] },
        Body::Snapshot {
            session: SessionId([0x66; 32]),
            summary: Blob(vec![2; 100]),
            root: Blob(vec![3; 100]),
        },
        Body::Tags { snapshot: EntryId([0x99; 32]), tags: Blob(sealed) },
        Body::Forget(Signed::sign(&forget, &vault)),
        Body::GivenUp(Signed::sign(&given_up, &vault)),
        Body::Discharged(Signed::sign(&discharge, &vault)),
    ];
    let mut previous = None;
    for (body, seq) in bodies.into_iter().zip(0..) {
        let entry = Entry {
            vault: VaultId([0xaa; 32]),
            device: device.public().into(),
            seq,
            previous,
            claimed: Wall(1_793_000_000_000),
            body,
        };
        let written = Signed::sign(&entry, &device);
        let stored = stored(&format!("entry-{seq}-v1.bin"), &written.to_bytes());
        assert_eq!(hex(&stored), hex(&written.to_bytes()));
        let read = Signed::<Entry>::from_bytes(&stored).unwrap();
        assert_eq!(read.verify().unwrap(), entry);
        previous = Some(entry_id(&read));
    }
}

/// A statement as it was stored, which this version signs alike.
fn statement<T: Statement + PartialEq + std::fmt::Debug>(name: &str, said: &T, key: &SecretKey) {
    let written = Signed::sign(said, key).to_bytes();
    let stored = stored(name, &written);
    assert_eq!(hex(&stored), hex(&written), "{name}");
    assert_eq!(Signed::<T>::from_bytes(&stored).unwrap().verify().unwrap(), *said);
}

const NOW: Wall = Wall(1_793_000_000_000);

#[test]
fn releases_approvals_vetoes_and_holds_are_read() {
    let (vault, operator) = (SecretKey::from_seed(&[0x77; 32]), SecretKey::from_seed(&[0x78; 32]));
    let (id, guardian) = (VaultId::from(vault.public()), OperatorId::from(operator.public()));
    let stripes = vec![StripeId([1; 32]), StripeId([2; 32])];
    let expires = NOW.after(Period::days(30));
    let request = ReleaseRequest { vault: id, issued: NOW, expires, stripes };
    statement("release-request-v1.bin", &request, &vault);
    let release = release_id(&Signed::sign(&request, &vault));
    statement("release-approval-v1.bin", &Approval { guardian, release, expires }, &operator);
    statement("release-veto-v1.bin", &Veto { guardian, release }, &operator);
    let on = HoldOrder { vault: id, guardian, number: 7, period: Some(Period::days(14)) };
    statement("hold-on-v1.bin", &on, &operator);
    statement("hold-off-v1.bin", &HoldOrder { number: 8, period: None, ..on.clone() }, &operator);
    let mut holds = Holds::default();
    let (guardians, at) = (&[guardian], LockTime(3_600_000));
    let arrival = Arrival { vault: id, guardians, is_further: false, at, wall: NOW };
    holds.follow(&Signed::sign(&on, &operator), &arrival).unwrap();
    let written = protocol::codec::encode(&holds);
    let read = stored("holds-v1.bin", &written);
    assert_eq!(hex(&read), hex(&written));
    assert_eq!(protocol::codec::decode_canonical::<Holds>(&read, 1000).unwrap(), holds);

    let lock =
        Lock { guardians: Some(Guardians { need: 1, of: vec![guardian] }), ..Lock::default() };
    let now = Reading { at: LockTime(3_600_000), is_frozen: false };
    let life = Life::receive(StripeId([1; 32]), &lock, now, Period::days(400)).unwrap();
    let written = protocol::codec::encode(&life);
    let read = stored("life-v1.bin", &written);
    assert_eq!(hex(&read), hex(&written));
    assert_eq!(protocol::codec::decode_canonical::<Life>(&read, 1000).unwrap(), life);
}

/// A value as it was stored or sent, which this version writes alike.
fn value<T>(name: &str, said: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let written = protocol::codec::encode(said);
    let read = stored(name, &written);
    assert_eq!(hex(&read), hex(&written), "{name}");
    assert_eq!(protocol::codec::decode_canonical::<T>(&read, 1 << 20).unwrap(), *said, "{name}");
}

fn discharge(vault: VaultId) -> Discharge {
    let (expires, stripes) = (NOW.after(Period::days(30)), vec![StripeId([1; 32])]);
    let request = ReleaseRequest { vault, issued: NOW, expires, stripes };
    Discharge { node: NodeId([0x9d; 32]), request }
}

#[test]
fn discharges_are_read_asked_and_kept_as_ever() {
    let (vault, operator) = (SecretKey::from_seed(&[0x77; 32]), SecretKey::from_seed(&[0x78; 32]));
    let discharge = discharge(vault.public().into());
    statement("discharge-v1.bin", &discharge, &vault);
    let discharge = Signed::sign(&discharge, &vault);
    let (guardian, release) = (OperatorId::from(operator.public()), release_id(&discharge));
    let approval = Approval { guardian, release, expires: NOW };
    let approvals = vec![Signed::sign(&approval, &operator)];
    let row = ReleaseRow {
        request: discharge.clone(),
        approvals: approvals.clone(),
        until: LockTime(7 * 86_400_000),
        guardians: vec![guardian],
    };
    value("discharge-row-v1.bin", &row);
    value("request-discharge-v1.bin", &Request::Discharge { discharge, approvals, from: 2 });
}

#[test]
fn what_a_node_lacks_is_asked_as_ever() {
    value("request-lacking-v1.bin", &Request::Lacking { known: Blob((0..16).collect()) });
}

#[test]
fn hearsay_is_asked_and_told_as_ever() {
    let nodes = [NodeId([1; 32]), NodeId([2; 32])];
    value("request-hearsay-v1.bin", &Request::Hearsay { of: nodes.into() });
    let ages = vec![Some(Period::days(1)), None];
    let said = Hearsay { ages, room: 1 << 40, leaves: true };
    value("response-hearsay-v1.bin", &Response::Hearsay(said));
}

#[test]
fn lives_that_end_and_what_is_said_about_it_are_read() {
    let (vault, operator) = (SecretKey::from_seed(&[0x77; 32]), SecretKey::from_seed(&[0x78; 32]));
    let (id, guardian) = (VaultId::from(vault.public()), OperatorId::from(operator.public()));
    let stripes = vec![StripeId([1; 32]), StripeId([2; 32])];
    let expires = NOW.after(Period::days(30));
    let request = ReleaseRequest { vault: id, issued: NOW, expires, stripes: stripes.clone() };
    let request = Signed::sign(&request, &vault);
    let release = release_id(&request);
    let approval = Signed::sign(&Approval { guardian, release, expires }, &operator);
    let veto = Signed::sign(&Veto { guardian, release }, &operator);
    let order = HoldOrder { vault: id, guardian, number: 7, period: Some(Period::days(14)) };
    let order = Signed::sign(&order, &operator);

    let lock = Lock { guardians: None, ..Lock::default() };
    let day = |n: u64| Reading { at: LockTime(n * 86_400_000), is_frozen: false };
    let mut life = Life::receive(stripes[0], &lock, day(0), Period::days(400)).unwrap();
    let verified = Release::verify(&request, &[], &[]).unwrap();
    let accepted = accepts((id, stripes[0]), &lock, &verified, NOW).unwrap();
    life.release(&accepted, day(90), &Holds::default()).unwrap();
    value("life-cooling-v1.bin", &life);
    assert!(life.tick(day(97), &Holds::default()).is_some());
    value("life-dropped-v1.bin", &life);

    let mut row = HoldRow::default();
    let (guardians, at) = (&[guardian], day(1).at);
    let arrival = Arrival { vault: id, guardians, is_further: false, at, wall: NOW };
    row.holds.follow(&order, &arrival).unwrap();
    row.orders.insert(guardian, order.clone());
    value("hold-row-v1.bin", &row);
    let (approvals, guardians) = (vec![approval.clone()], vec![guardian]);
    let row = ReleaseRow { request: request.clone(), approvals, until: day(97).at, guardians };
    value("release-row-v1.bin", &row);

    let requests = [
        Request::Extend { vault: id, stripes: stripes.clone() },
        Request::Release { request, approvals: vec![approval], from: 1 },
        Request::Veto { vault: id, veto: veto.clone() },
        Request::Hold(order.clone()),
        Request::Releases(id),
        Request::Stops { vault: id, releases: vec![release] },
    ];
    for (request, number) in requests.iter().zip(0..) {
        value(&format!("request-lives-{number}-v1.bin"), request);
    }
    let remaining = Period::days(7);
    let running = Running { release, issued: NOW, stripes: 2, remaining, vetoed: vec![guardian] };
    let outcomes = vec![
        (stripes[0], Outcome::NotHeld),
        (stripes[0], Outcome::Cooling { remaining }),
        (stripes[0], Outcome::Locked { remaining }),
        (stripes[0], Outcome::Other(release)),
        (stripes[0], Outcome::Refused("why".into())),
    ];
    let standstill = Standstill {
        running: vec![running],
        holds: vec![(guardian, remaining)],
        stands: Some("doubt".into()),
    };
    let responses = [
        Response::Extended(vec![None, Some(remaining)]),
        Response::Released(Released { outcomes, next: Some(5) }),
        Response::Releases(Box::new(standstill)),
        Response::Stops(Stops { vetoes: vec![veto], holds: vec![order] }),
    ];
    for (response, number) in responses.iter().zip(0..) {
        value(&format!("response-lives-{number}-v1.bin"), response);
    }
}

#[test]
fn recovery_cards_bring_back_what_they_sealed() {
    let (operator, key) = (SecretKey::from_seed(&[0x7c; 32]), SecretKey::from_seed(&[0x7a; 32]));
    let certificate = VaultCertificate {
        vault: key.public().into(),
        operator: operator.public().into(),
        issued: NOW,
        expires: NOW.after(Period::days(3650)),
    };
    let certificate = Signed::sign(&certificate, &operator);
    let secret = RecoverySecret { certificate, key, secret: SECRET, name: "work".into() };
    let sealed = stored("recovery-secret-v1.bin", &secret.encode());
    assert_eq!(hex(&sealed), hex(&secret.encode()));
    let (read, vouching) = RecoverySecret::decode(&sealed).unwrap();
    assert_eq!(vouching, operator.public().into());
    assert_eq!((read.vault(), &read.secret, read.name.as_str()), (secret.vault(), &SECRET, "work"));
    let device = read.drill_device().unwrap().0.public();
    assert_eq!(hex(&device.0), "c9ceecbf40a04966014dcb3f482b958a4fd9467fec9b4505379284281deabcdd");

    let recipients = ["ssh-ed25519 AAAAC3Nza someone@example.org".into(), "age1qx".into()];
    let card = RecoveryCard::new(secret.vault(), 7, &recipients, vec![1; 200]);
    statement("recovery-card-v1.bin", &card, &secret.key);
    let tag = RecoveryTag::of("age1qx");
    assert_eq!(hex(&tag.0), "f7d1059076271bd0ac636e921b02f6d20c82ca1e6b08a801dc97c5e946b2cab6");
    for (name, written) in [
        ("greeting-recover-v1.bin", Greeting::Recover { tag }.encode().1),
        ("request-card-v1.bin", Request::Card(Signed::sign(&card, &secret.key)).encode().1),
        ("response-recovery-v1.bin", Response::Recovery { sealed: vec![card.sealed] }.encode().1),
    ] {
        assert_eq!(hex(&stored(name, &written)), hex(&written), "{name}");
    }
}

#[test]
fn parts_of_an_identity_are_read() {
    let text = "AGE-SECRET-KEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0SR2X5HX";
    let parts = split(text, Some(VaultId([0xaa; 32])), 2, 3, &[0x5a; 32]).unwrap();
    let written: Vec<String> = parts.iter().map(|part| part.to_line().to_string()).collect();
    let stored = String::from_utf8(stored("parts-v1.txt", written.join("\n").as_bytes())).unwrap();
    assert_eq!(stored, written.join("\n"));
    let read: Vec<Part> = stored.lines().map(|line| Part::from_line(line).unwrap()).collect();
    assert_eq!((read[1].index(), read[1].need(), read[1].vault().as_str()), (2, 2, "aaaaaaaa"));
    for two in [&read[..2], &read[1..]] {
        assert_eq!(combine(two).unwrap().as_str(), text);
    }
}

#[test]
fn a_lock_clock_goes_on_where_it_was() {
    let (operator, boot) = (OperatorId([0x44; 32]), BootId([0x55; 16]));
    let mut clock = LockClock::new(operator, boot, Mono(1000));
    clock.tick(Mono(5_000_000), 0);
    let stored = stored("lock-clock-v1.bin", &clock.to_bytes());
    assert_eq!(hex(&stored), hex(&clock.to_bytes()));
    let read = LockClock::resume(&stored, operator, boot, Mono(5_000_000)).unwrap();
    assert_eq!(read.reading(), Reading { at: LockTime(4_999_000), is_frozen: false });
    assert_eq!(read.to_bytes(), stored);

    let node = SecretKey::from_seed(&[0x79; 32]);
    let said = TimeStatement {
        node: node.public().into(),
        asker: NodeId([5; 32]),
        nonce: [6; 16],
        wall: NOW,
    };
    statement("time-statement-v1.bin", &said, &node);
}

#[test]
fn chunks_are_cut_and_named_as_ever() {
    let chunker = Chunker::new(&SECRET);
    let data = noise(4 << 20);
    let (mut lens, mut rest) = (Vec::new(), &data[..]);
    while let Some(len) = chunker.cut(rest, true) {
        lens.push(len);
        rest = &rest[len..];
    }
    assert_eq!(
        lens,
        [
            216_471, 285_321, 167_098, 175_840, 203_096, 90_093, 180_494, 191_225, 186_526,
            191_972, 239_191, 172_705, 185_666, 72_403, 393_936, 226_537, 173_311, 171_436,
            179_389, 69_737, 177_714, 165_673, 78_470
        ]
    );
    assert_eq!(
        chunker.id(&data[..379_232]).to_string(),
        "7a424a813a14d3496c109b2591c51c9614b6d7ec17b710d09583a7204ff88feb"
    );
    assert_eq!(
        chunker.id(b"").to_string(),
        "132da2a8fb68aabb4442a47b58bca6133e476dfd66998e2052bf30df216d2b26"
    );
}

#[test]
fn encoded_chunks_decode() {
    // What zstd writes may change with its version, so only that the old can be read is promised.
    let (mut written, mut out) = (Vec::new(), Vec::new());
    Compressor::default().encode(&text(), &mut written);
    assert_eq!(written[0], 1);
    let zstd = stored("chunk-zstd-v1.bin", &written);
    assert_eq!(decode_chunk(&zstd, text().len() as u32, &mut out).unwrap(), text());
    Compressor::default().encode(&[1, 2, 3], &mut written);
    assert_eq!(written, [0, 1, 2, 3]);
}

fn check_pack(name: &str, kind: PackKind, chunks: &[&[u8]], k: usize) {
    let session = SessionId([0x66; 32]);
    let mut pack = PackBuilder::new(kind, session, &SESSION, [0x33; 32], PACK_LEN_MIN, Vec::new());
    for (i, chunk) in chunks.iter().enumerate() {
        pack.append(ChunkId([i as u8; 32]), chunk.len() as u32 - 1, chunk);
    }
    let written = pack.finish(k).seal();
    let mut stored = stored(name, &written.bytes);
    assert_eq!(hex(&stored), hex(&written.bytes));

    let header = PackHeader::decode(&stored).unwrap();
    assert_eq!((header.kind, header.session, header.nonce), (kind, session, [0x33; 32]));
    let opener = PackOpener::for_pack(&header, &SESSION).unwrap();
    let entries = opener.open_table(&stored).unwrap();
    assert_eq!(entries.len(), chunks.len());
    for (number, entry) in entries.iter().enumerate() {
        let sealed = &mut stored[entry.offset as usize..(entry.offset + entry.len) as usize];
        assert_eq!(opener.open_chunk(number as u32, sealed).unwrap(), chunks[number]);
    }
}

#[test]
fn packs_open() {
    let long = [&[0][..], &noise(3000)].concat();
    check_pack("pack-content-v1.bin", PackKind::Content, &[b"\0first", &long, b"\0last"], 2);
    check_pack("pack-index-v1.bin", PackKind::Index, &[b"\0a piece of an index block"], 3);
}

#[test]
fn lengths_are_padded_as_ever() {
    // Padmé of Nikitin et al., PETS 2019, as their reference code in Python computes it.
    let values = [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
        (9, 10),
        (100, 104),
        (1000, 1024),
        (1025, 1088),
        (4097, 4352),
        (65_537, 67_584),
        (1_000_001, 1_015_808),
        (1_048_576, 1_048_576),
        (1_048_577, 1_081_344),
        (9_999_999, 10_223_616),
        (16_777_215, 16_777_216),
    ];
    for (len, padded) in values {
        assert_eq!(padme(len), padded, "{len}");
    }
    let full = [1, 2, 3, 4, 10, 17, 256].map(|k| shard_len(PACK_LEN_MAX, k));
    assert_eq!(full, [16_777_216, 8_388_608, 5_592_448, 4_194_304, 1_677_760, 986_944, 65_536]);
}

#[test]
fn index_blocks_decode() {
    let entry = |i: u8| PackEntry {
        id: ChunkId([i; 32]),
        offset: 128 + u32::from(i) * 100_000,
        len: 100_000,
        plain_len: 300_000,
    };
    let pack = |i: u8| IndexedPack {
        stripe: StripeId([i; 32]),
        session: SessionId([i + 1; 32]),
        nonce: [i + 2; 32],
        k: 4,
        shard_len: 4 << 20,
        chunks: (0..i).map(entry).collect(),
    };
    let block = IndexBlock { packs: vec![pack(3), pack(1), pack(0)] };
    let stored = stored("index-v1.bin", &block.encode());
    assert_eq!(hex(&stored), hex(&block.encode()));
    assert_eq!(IndexBlock::decode(&stored).unwrap(), block);
}

fn refs(lens: &[u32]) -> Vec<ChunkRef> {
    let chunk = |(i, &len): (usize, &u32)| ChunkRef { id: ChunkId([i as u8; 32]), len };
    lens.iter().enumerate().map(chunk).collect()
}

fn meta(path: &[u8]) -> Meta {
    Meta {
        path: Blob(path.to_vec()),
        mode: 0o2755,
        uid: 1000,
        gid: 70_000,
        mtime: Timestamp { secs: -1, nanos: 999_999_999 },
    }
}

const STAMP: Stamp =
    Stamp { ctime: Timestamp { secs: 1_793_000_000, nanos: 5 }, inode: u64::MAX, device: 64_769 };

fn check_items(name: &str, items: &[Item]) {
    let (mut writer, mut written) = (ItemWriter::default(), Vec::new());
    for item in items {
        writer.write(item, &mut written).unwrap();
    }
    let stored = stored(name, &written);
    assert_eq!(hex(&stored), hex(&written));
    let mut reader = ItemReader::default();
    reader.push(&stored);
    for item in items {
        assert_eq!(reader.next_item().unwrap().as_ref(), Some(item));
    }
    reader.finish().unwrap();
}

#[test]
fn item_streams_of_format_1_are_read() {
    let stamp = STAMP;
    check_items(
        "items-v1.bin",
        &[
            Item::Header { format: 1, kind: SourceKind::Git },
            Item::Directory { meta: meta(b"src") },
            Item::File {
                meta: meta(b"src/large"),
                stamp,
                size: 1_400_000,
                chunks: refs(&[1 << 20]),
                more: true,
            },
            Item::Extent { chunks: refs(&[351_423, 1]), more: false },
            Item::File { meta: meta(b"src/\xff\xfe"), stamp, size: 0, chunks: vec![], more: false },
            Item::Symlink { meta: meta(b"src.link"), target: Blob(b"../src".to_vec()) },
            Item::End { items: 4, bytes: 1_400_000, failed: 1 },
        ],
    );
}

#[test]
fn item_streams_of_format_2_are_read() {
    let stamp = STAMP;
    let attribute = |name: &[u8], value: &[u8]| {
        Item::Attribute(Attribute { name: Blob(name.to_vec()), value: Blob(value.to_vec()) })
    };
    let node =
        |path: &[u8], kind, major, minor| Item::Node { meta: meta(path), kind, major, minor };
    let disk = |path: &[u8]| Item::File {
        meta: meta(path),
        stamp,
        size: 1 << 40,
        chunks: vec![],
        more: true,
    };
    let rest = [
        Item::Hole { len: (1 << 40) - 4097, more: true },
        Item::Extent { chunks: refs(&[4096]), more: true },
        Item::Hole { len: 1, more: false },
    ];
    let mut items = vec![
        Item::Header { format: FORMAT, kind: SourceKind::Directory },
        attribute(b"system.posix_acl_default", &[2, 0, 0, 0]),
        Item::Directory { meta: meta(b"") },
        node(b"block", NodeKind::BlockDevice, 8, 17),
        node(b"character", NodeKind::CharacterDevice, 1, 300),
        Item::Shared { group: 0, left: 1 },
        attribute(b"user.\xff", b""),
        attribute(b"user.\xff2", b"value"),
        disk(b"disk"),
    ];
    items.extend(rest.clone());
    items.extend([
        node(b"fifo", NodeKind::Fifo, 0, 0),
        Item::Shared { group: 0, left: 0 },
        disk(b"same disk"),
    ]);
    items.extend(rest);
    items.push(Item::End { items: 6, bytes: 1 << 40, failed: 0 });
    check_items("items-v2.bin", &items);
    check_items(
        "items-stream-v2.bin",
        &[
            Item::Header { format: FORMAT, kind: SourceKind::Stream },
            Item::File { meta: meta(b"db.sql"), stamp, size: 7, chunks: refs(&[7]), more: false },
            Item::End { items: 1, bytes: 7, failed: 0 },
        ],
    );
}

#[test]
fn roots_decode() {
    let root = Root { depth: 1, chunks: refs(&[1, 250, 251, 65_536, 1 << 20]) };
    let stored_root = stored("root-v1.bin", &root.encode());
    assert_eq!(hex(&stored_root), hex(&root.encode()));
    assert_eq!(Root::decode(&stored_root).unwrap(), root);
    let stored_refs = stored("refs-v1.bin", &encode_refs(&root.chunks));
    assert_eq!(hex(&stored_refs), hex(&encode_refs(&root.chunks)));
    assert_eq!(decode_refs(&stored_refs).unwrap(), root.chunks);
}

#[test]
fn parity_is_computed_as_ever() {
    // The expected parity was computed by the definition, apart from this code.
    let data: Vec<u8> = (0..64u32).map(|i| (i * i * 7 + 3) as u8).collect();
    let mut parity = [0; 32];
    Codec::new(4, 6).unwrap().encode(&data, &mut parity).unwrap();
    assert_eq!(hex(&parity), "03317691076196fdc39dd6818771364203f6b63187c156ddc3bd162107d1f605");

    let (k, n, len) = (10, 14, 100_000);
    let mut parity = vec![0; (n - k) * len];
    Codec::new(k, n).unwrap().encode(&noise(k * len), &mut parity).unwrap();
    assert_eq!(
        blake3::hash(&parity).to_string(),
        "01846af01d1509480312af527180323590da33521cf6ee91bf789cd584872323"
    );
}
