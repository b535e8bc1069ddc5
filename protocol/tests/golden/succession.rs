//! Lines of operators' keys, and what is said under them.

use super::{NOW, hex, stored};
use protocol::id::{NodeId, OperatorId};
use protocol::partner::{Contact, Introduction};
use protocol::sign::{SecretKey, Signed};
use protocol::succession::{Change, Draft, Heirs, Line, Speaker};
use protocol::time::Period;

#[test]
fn lines_of_keys_are_read_as_ever() {
    let key = |seed| SecretKey::from_seed(&[seed; 32]);
    let operator = OperatorId::from(key(0xa0).public());
    let heirs = Heirs::new(2, [0xa1, 0xa2, 0xa3].map(|seed| key(seed).public())).unwrap();
    let change = Change { heirs, issued: NOW, grace: Period(0) };
    let mut named = Draft::new(Line::first(operator), change.clone(), &key(0xa0)).unwrap();
    named.sign(&key(0xa0)).unwrap();
    let named = named.finish().unwrap();
    let change = Change { grace: Period::days(30), ..change };
    let mut draft = Draft::new(named, change, &key(0xa4)).unwrap();
    draft.sign(&key(0xa3)).unwrap();
    let written = draft.to_bytes();
    let read = stored("succession-draft-v1.bin", &written);
    assert_eq!(hex(&read), hex(&written));
    let mut draft = Draft::from_bytes(&read).unwrap();
    draft.sign(&key(0xa1)).unwrap();
    let line = draft.finish().unwrap();
    let written = line.to_bytes();
    let read = stored("succession-line-v1.bin", &written);
    assert_eq!(hex(&read), hex(&written));
    assert_eq!(Line::from_bytes(&read).unwrap(), line);

    let contact = Contact { node: NodeId([0xa5; 32]), addresses: vec!["/memory/1".into()] };
    let introduction =
        Introduction { operator, name: "Them".into(), contacts: vec![contact], issued: NOW };
    let speaker = Speaker::new(key(0xa4), line.clone()).unwrap();
    let signed = Signed::speak(&introduction, &speaker);
    let written = signed.to_bytes();
    let read = stored("introduction-spoken-v2.bin", &written);
    assert_eq!(hex(&read), hex(&written));
    let read = Signed::<Introduction>::from_bytes(&read).unwrap();
    assert_eq!(Introduction::verify(&read).unwrap(), introduction);
    assert_eq!(read.line().unwrap().unwrap(), line);
}
