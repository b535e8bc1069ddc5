use super::*;
use crate::codec::Blob;
use crate::id::StripeId;
use crate::record::Receipt;
use crate::sign::SecretKey;
use proptest::prelude::*;

const NOW: Wall = Wall(1_800_000_000_000);
const VAULT: VaultId = VaultId([9; 32]);

fn key(name: u8) -> SecretKey {
    SecretKey::from_seed(&[name; 32])
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn name(bytes: &[u8]) -> ShardId {
    ShardId(*blake3::hash(bytes).as_bytes())
}

/// What an honest auditor asks of the holder about these shards.
fn question(shards: &[Vec<u8>]) -> AuditQuestion {
    let (holder, auditor, nonce) = (key(1), key(2), [7; 32]);
    let shards = shards.iter().map(|bytes| name(bytes)).collect();
    let commitment = commitment(auditor.public(), &nonce);
    let opening = AuditOpening { vault: VAULT, shards, commitment };
    let turn = AuditTurn {
        holder: holder.public().into(),
        auditor: auditor.public(),
        opening: opening.digest(),
        nonce: [8; 32],
        drawn: NOW,
    };
    AuditQuestion { opening, turn: Signed::sign(&turn, &holder), nonce }
}

fn receipt(shard: ShardId, len: u32) -> Signed<Receipt> {
    let receipt = Receipt {
        holder: key(1).public().into(),
        vault: VAULT,
        stripe: StripeId([3; 32]),
        index: 0,
        shard,
        len,
        keep: Period::days(30),
        received: NOW,
    };
    Signed::sign(&receipt, &key(1))
}

/// What the holder answers who has these bytes instead of the shards, where it has any.
fn transcript(shards: &[Vec<u8>], has: &[Option<Vec<u8>>]) -> Transcript {
    let question = question(shards);
    let asked = question.verify().unwrap();
    let proofs: Vec<Option<Vec<u8>>> = shards
        .iter()
        .zip(has)
        .map(|(shard, has)| {
            let (id, has) = (name(shard), has.as_ref()?);
            let groups = asked.groups(id, shard.len() as u32);
            prove_bytes(name(has), &groups, has).ok()
        })
        .collect();
    let answer = AuditAnswer {
        holder: asked.holder,
        question: asked.digest,
        proofs: proofs.iter().map(|p| p.as_ref().map(|p| *blake3::hash(p).as_bytes())).collect(),
        answered: NOW,
    };
    Transcript {
        question,
        answer: Signed::sign(&answer, &key(1)),
        proofs: proofs.into_iter().flatten().map(Blob).collect(),
        receipts: shards.iter().map(|s| receipt(name(s), s.len() as u32)).collect(),
    }
}

fn verdicts(transcript: &Transcript) -> Vec<Verdict> {
    transcript.judge().unwrap().found.into_iter().map(|found| found.verdict).collect()
}

#[test]
fn who_has_the_bytes_proves_it_and_who_has_not_is_shown_not_to() {
    let shards = [noise(300_032, 1), noise(64, 2), noise(16_384, 3)];
    let all = transcript(&shards, &shards.clone().map(Some));
    assert_eq!(verdicts(&all), [Verdict::Proved, Verdict::Proved, Verdict::Proved]);
    let judged = all.judge().unwrap();
    assert_eq!((judged.holder, judged.auditor), (key(1).public().into(), key(2).public()));

    let other = noise(64, 9);
    let some = transcript(&shards, &[None, Some(other), Some(shards[2].clone())]);
    let wrong = Verdict::Wrong(ProofFault::Wrong);
    assert_eq!(verdicts(&some), [Verdict::Missing, wrong, Verdict::Proved]);
    assert_eq!(Transcript::from_bytes(&some.to_bytes()).unwrap(), some);
}

#[test]
fn neither_side_chooses_what_is_asked() {
    let shard = noise(1 << 20, 4);
    let honest = question(std::slice::from_ref(&shard));
    let asked = honest.verify().unwrap();
    let (id, len) = (name(&shard), shard.len() as u32);
    assert_eq!(asked.groups(id, len).last(), Some(&63));
    // The auditor shows another nonce than it had settled on.
    let changed = AuditQuestion { nonce: [6; 32], ..honest.clone() };
    assert_eq!(changed.verify(), Err(AuditError::Nonce));
    // Another shard is put in place of the one that was opened.
    let mut moved = honest.clone();
    moved.opening.shards = vec![ShardId([5; 32])];
    assert_eq!(moved.verify(), Err(AuditError::Other("opening")));
    // Another auditor comes with it, or it comes to another holder, or too late.
    let (holder, auditor) = (asked.holder, asked.auditor);
    assert_eq!(asked.check_for(holder, auditor, NOW), Ok(()));
    assert_eq!(asked.check_for(holder, key(3).public(), NOW), Err(AuditError::Other("auditor")));
    assert_eq!(
        asked.check_for(key(3).public().into(), auditor, NOW),
        Err(AuditError::Other("holder"))
    );
    let late = Wall(NOW.0 + TURN_LIFE.0 + 1);
    assert_eq!(asked.check_for(holder, auditor, late), Err(AuditError::Late));
}

#[test]
fn a_transcript_that_was_altered_convicts_nobody() {
    let shards = [noise(100_032, 1), noise(128, 2)];
    let good = transcript(&shards, &shards.clone().map(Some));
    let changes: [fn(&mut Transcript); 7] = [
        |t| t.proofs[0].0[20_000] ^= 1,
        |t| t.proofs.swap(0, 1),
        |t| drop(t.proofs.pop()),
        |t| t.receipts.swap(0, 1),
        |t| t.question.nonce[0] ^= 1,
        |t| t.question.opening.shards.swap(0, 1),
        |t| t.receipts[0] = receipt(ShardId([0; 32]), 64),
    ];
    for change in changes {
        let mut altered = good.clone();
        change(&mut altered);
        assert!(altered.judge().is_err());
    }
    // An answer to another question of the same holder.
    let other = transcript(&shards[..1], &[None]);
    let mut altered = good;
    altered.answer = other.answer;
    assert_eq!(altered.judge(), Err(TranscriptError::Other("question")));
}

#[test]
fn a_question_out_of_bounds_is_none() {
    let mut none = question(&[noise(64, 1)]);
    none.opening.shards.clear();
    assert_eq!(none.verify(), Err(AuditError::Count(0)));
    none.opening.shards = vec![ShardId([0; 32]); AUDIT_SHARDS_MAX + 1];
    assert_eq!(none.verify(), Err(AuditError::Count(AUDIT_SHARDS_MAX + 1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_groups_asked_for_are_proved_and_any_change_shows(
        blocks in 1usize..3000,
        groups in prop::collection::btree_set(0u64..12, 1..4),
        flip in any::<prop::sample::Index>(),
    ) {
        let shard = noise(blocks * 64, 1);
        let (id, len) = (name(&shard), shard.len() as u32);
        let count = u64::from(len).div_ceil(u64::from(GROUP_LEN));
        let mut groups: Vec<u64> = groups.into_iter().map(|group| group % count).collect();
        groups.push(count - 1);
        groups.sort_unstable();
        groups.dedup();
        let proof = prove_bytes(id, &groups, &shard).unwrap();
        prop_assert_eq!(check_proof(id, len, &groups, &proof), Ok(()));
        let mut altered = proof.clone();
        altered[flip.index(proof.len())] ^= 1;
        prop_assert_eq!(check_proof(id, len, &groups, &altered), Err(ProofFault::Wrong));
        prop_assert_eq!(check_proof(id, len, &groups, &proof[1..]).is_ok(), false);
        let cut = &proof[..flip.index(proof.len())];
        prop_assert!(check_proof(id, len, &groups, cut).is_err());
        let more = [&proof[..], &[0]].concat();
        prop_assert_eq!(check_proof(id, len, &groups, &more), Err(ProofFault::TooLong));
        // Another length is another shard: the last group shows it.
        let longer = check_proof(id, len + GROUP_LEN, &groups, &proof);
        prop_assert!(longer.is_err());
        let damaged = { let mut bytes = shard.clone(); bytes[flip.index(shard.len())] ^= 1; bytes };
        let refused = prove_bytes(id, &groups, &damaged);
        prop_assert!(matches!(refused, Err(ProveError::Damaged)));
    }

    #[test]
    fn random_bytes_are_no_transcript_and_no_panic(bytes: Vec<u8>, proof: Vec<u8>) {
        let _ = Transcript::from_bytes(&bytes);
        let framed = [&TRANSCRIPT_MAGIC[..], &bytes].concat();
        prop_assert!(Transcript::from_bytes(&framed).is_err());
        prop_assert!(check_proof(ShardId([1; 32]), 1 << 20, &[0, 63], &proof).is_err());
    }
}
