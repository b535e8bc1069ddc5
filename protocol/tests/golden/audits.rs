//! Audits: what each side says, the pieces that follow from it, and the file that is kept of it.

use super::{NOW, hex, noise, statement, stored, value};
use protocol::audit::{
    AUDIT_PERIOD, AuditAnswer, AuditOpening, AuditQuestion, AuditTurn, Finding, Outcome, Sweep,
    Transcript, Verdict, commitment, prove_bytes,
};
use protocol::certificate::{Authority, Invitation, JoinRequest, NodeCertificate};
use protocol::codec::Blob;
use protocol::id::{NodeId, ShardId, StripeId, VaultId};
use protocol::label::Labels;
use protocol::message::{Request, Response};
use protocol::peer::FindingRow;
use protocol::record::Receipt;
use protocol::sign::{SecretKey, Signed};
use protocol::time::Period;

#[test]
fn audits_are_asked_answered_and_judged_as_ever() {
    let (holder, auditor) = (SecretKey::from_seed(&[0x81; 32]), SecretKey::from_seed(&[0x82; 32]));
    let (vault, nonce) = (VaultId([3; 32]), [4; 32]);
    let shard = noise(100_032);
    let id = ShardId(*blake3::hash(&shard).as_bytes());
    let commitment = commitment(auditor.public(), &nonce);
    let opening = AuditOpening { vault, shards: vec![id, ShardId([5; 32])], commitment };
    value("request-audit-open.bin", &Request::AuditOpen(opening.clone()));
    let turn = AuditTurn {
        holder: holder.public().into(),
        auditor: auditor.public(),
        opening: opening.digest(),
        nonce: [6; 32],
        drawn: NOW,
    };
    statement("audit-turn-v1.bin", &turn, &holder);
    let question = AuditQuestion { opening, turn: Signed::sign(&turn, &holder), nonce };
    value("request-audit.bin", &Request::Audit(Box::new(question.clone())));
    let asked = question.verify().unwrap();
    let groups = asked.groups(id, shard.len() as u32);
    assert_eq!(groups.last(), Some(&6));
    let proof = prove_bytes(id, &groups, &shard).unwrap();
    let answer = AuditAnswer {
        holder: asked.holder,
        question: asked.digest,
        proofs: vec![Some(*blake3::hash(&proof).as_bytes()), None],
        answered: NOW,
    };
    statement("audit-answer-v1.bin", &answer, &holder);
    let receipt = |shard: ShardId, len: usize| {
        let receipt = Receipt {
            holder: holder.public().into(),
            vault,
            stripe: StripeId([7; 32]),
            index: 0,
            shard,
            len: len as u32,
            keep: Period::days(90),
            received: NOW,
        };
        Signed::sign(&receipt, &holder)
    };
    let receipts = vec![receipt(id, shard.len()), receipt(ShardId([5; 32]), 64)];
    let (answer, proofs) = (Signed::sign(&answer, &holder), vec![Blob(proof)]);
    value(
        "response-audited.bin",
        &Response::Audited { answer: answer.clone(), proofs: proofs.clone() },
    );
    let transcript = Transcript { question, answer, proofs, receipts };
    let written = transcript.to_bytes();
    let read = stored("audit-v1.bin", &written);
    assert_eq!(hex(&read), hex(&written));
    let asked = Request::Evidence { vault, after: Some((StripeId([7; 32]), asked.holder)) };
    value("request-evidence-v1.bin", &asked);
    let holder = NodeId::from(holder.public());
    let told = Response::Evidence(Some((StripeId([7; 32]), holder, Box::new(transcript))));
    value("response-evidence-v1.bin", &told);
    let judged = Transcript::from_bytes(&read).unwrap().judge().unwrap();
    let verdicts: Vec<Verdict> = judged.found.into_iter().map(|found| found.verdict).collect();
    assert_eq!(verdicts, [Verdict::Proved, Verdict::Missing]);
}

#[test]
fn what_auditors_say_is_read() {
    let auditor = SecretKey::from_seed(&[0x82; 32]);
    let outcomes =
        [Outcome::Proved, Outcome::NotPromised, Outcome::Missing, Outcome::Wrong, Outcome::Silent];
    let signed: Vec<Signed<Finding>> = outcomes
        .into_iter()
        .map(|outcome| {
            let finding = Finding {
                auditor: auditor.public().into(),
                holder: SecretKey::from_seed(&[0x81; 32]).public().into(),
                vault: VaultId([3; 32]),
                stripe: StripeId([7; 32]),
                shard: ShardId([5; 32]),
                outcome,
                when: NOW,
            };
            Signed::sign(&finding, &auditor)
        })
        .collect();
    statement("audit-finding-v1.bin", &signed[2].verify().unwrap(), &auditor);
    value("audit-findings-v1.bin", &signed);
    value("audit-finding-row-v1.bin", &FindingRow { number: 9, finding: signed[3].clone() });
    value("audit-sweep-v1.bin", &Sweep::new(NOW, AUDIT_PERIOD));
    value("request-findings-v1.bin", &Request::Findings { after: 9 });
    value("response-findings-v1.bin", &Response::Findings { until: 12, found: signed });
}

#[test]
fn certificates_by_invitation_are_read() {
    let key = |name: u8| SecretKey::from_seed(&[name; 32]);
    let (operator, admitter, bearer, node) = (key(0x83), key(0x84), key(0x85), key(0x86));
    let labels = |text: &[&str]| Labels::new(text.iter().map(|l| l.parse().unwrap())).unwrap();
    let invitation = Invitation {
        operator: operator.public().into(),
        admitter: admitter.public().into(),
        bearer: bearer.public(),
        labels: labels(&["provider=aws"]),
        issued: NOW,
        expires: NOW.after(Period::days(1)),
    };
    let request = JoinRequest {
        bearer: bearer.public(),
        node: node.public().into(),
        labels: labels(&["region=eu"]),
    };
    let invitation = Signed::sign(&invitation, &operator);
    let request = Signed::sign(&request, &bearer);
    let certificate = NodeCertificate {
        node: node.public().into(),
        operator: operator.public().into(),
        labels: labels(&["provider=aws", "region=eu"]),
        issued: NOW,
        expires: NOW.after(Period::days(365)),
        authority: Authority::Bearer { node: admitter.public().into(), invitation, request },
    };
    statement("node-certificate-bearer-v1.bin", &certificate, &admitter);
    let signed = Signed::sign(&certificate, &admitter);
    assert_eq!(NodeCertificate::verify(&signed, NOW).unwrap(), certificate);
}
