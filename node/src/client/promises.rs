//! What nodes say of each other's promises: which of them were set back to an older disk, by their own word or by what others
//! have in writing.

use super::mesh::Mesh;
use protocol::id::NodeId;
use protocol::message::{Contradiction, Promised, Request, Response};
use serde::Serialize;
use std::collections::BTreeMap;

/// A node whose promises do not go on from where they were.
#[derive(Debug, Clone, Serialize)]
pub struct SetBack {
    /// Which.
    pub node: NodeId,
    /// The number of the promise that it had signed.
    pub signed: u64,
    /// Whether it says so itself, and drops nothing until its operator thaws it.
    pub says_so: bool,
    /// Who has it in writing.
    pub witnesses: Vec<NodeId>,
    /// Whether what they have proves it, whoever they are.
    pub proved: bool,
}

impl SetBack {
    fn of(node: NodeId) -> Self {
        Self { node, signed: 0, says_so: false, witnesses: Vec::new(), proved: false }
    }

    /// For people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let by = match self.witnesses.as_slice() {
            [] => String::new(),
            [one] => format!(", by what node {} has in writing", one.short()),
            many => format!(", by what {} nodes have in writing", many.len()),
        };
        let what = "it had signed promise";
        let end = if self.says_so {
            "it drops nothing until `strewn node thaw`"
        } else if self.proved {
            "its own signatures prove it"
        } else {
            "nothing proves who of them is right"
        };
        format!("was set back to an older disk{by}: {what} {}; {end}", self.signed)
    }
}

/// The number of the promise that a contradiction is about, if both sides were signed by the node, and whether they prove it
/// to a third party.
fn check(node: NodeId, found: &Contradiction) -> Option<(u64, bool)> {
    let (before, after) = (found.before.verify().ok()?, found.after.verify().ok()?);
    let is_its_own = before.holder == node && after.holder == node && !after.keeps(&before);
    is_its_own.then(|| (before.head.seq, after.contradicts(&before)))
}

/// What nodes told, by who told it.
fn judge(told: &[(NodeId, Promised)]) -> Vec<SetBack> {
    let mut found: BTreeMap<NodeId, SetBack> = BTreeMap::new();
    for (teller, promised) in told {
        if let Some(shown) = promised.set_back {
            let line = found.entry(*teller).or_insert_with(|| SetBack::of(*teller));
            line.says_so = true;
            line.signed = line.signed.max(shown.seq);
        }
        for (node, contradiction) in promised.contradictions.iter().filter(|(_, c)| c.stands) {
            let Some((signed, proved)) = check(*node, contradiction) else { continue };
            let line = found.entry(*node).or_insert_with(|| SetBack::of(*node));
            line.signed = line.signed.max(signed);
            line.proved |= proved;
            line.witnesses.push(*teller);
        }
    }
    found.into_values().collect()
}

/// Asks all nodes. One that does not know the question is left out.
pub async fn set_back(mesh: &Mesh) -> Vec<SetBack> {
    let mut told = Vec::new();
    for (node, answer) in mesh.ask_all(&Request::Promised).await {
        if let Ok(Response::Promised(promised)) = answer {
            told.push((node.id, *promised));
        }
    }
    judge(&told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::lock_clock::BootId;
    use protocol::promise::{PromiseHead, PromiseStatement};
    use protocol::sign::{SecretKey, Signed};

    fn said(key: u8, run: u8, began: PromiseHead, head: PromiseHead) -> Signed<PromiseStatement> {
        let key = SecretKey::from_seed(&[key; 32]);
        let (holder, asker) = (key.public().into(), NodeId([9; 32]));
        let (nonce, run) = ([0; 16], BootId([run; 16]));
        Signed::sign(&PromiseStatement { holder, asker, nonce, run, began, head }, &key)
    }

    #[test]
    fn nobody_is_accused_by_what_it_did_not_sign() {
        let zero = PromiseHead::default();
        let (two, four) = (zero.next(b"1").next(b"2"), zero.next(b"1").next(b"x").next(b"y"));
        let holder = NodeId::from(SecretKey::from_seed(&[1; 32]).public());
        let tell = |before, after| {
            let found = Contradiction { before, after, stands: true };
            let promised = Promised {
                head: zero,
                set_back: None,
                awaits: false,
                witnesses: vec![],
                contradictions: vec![(holder, found)],
            };
            judge(&[(NodeId([7; 32]), promised)])
        };
        let proof = tell(said(1, 1, zero, four), said(1, 2, two, two));
        assert!(matches!(&proof[..], [SetBack { signed: 3, proved: true, says_so: false, .. }]));
        assert!(proof[0].sentence().contains("prove"));
        assert_eq!(tell(said(2, 1, zero, four), said(2, 2, two, two)).len(), 0);
        assert_eq!(tell(said(1, 1, zero, two), said(1, 2, two, four)).len(), 0);
        // Two runs in the other order are one node's word against another's.
        let word = tell(said(1, 2, two, four), said(1, 1, zero, two));
        assert!(matches!(&word[..], [SetBack { proved: false, .. }]));
    }
}
