//! What `operator` tells people.

use super::*;
use crate::cli::output::Style;
use protocol::evidence::Vouch;
use protocol::label::Labels;
use protocol::sign::SecretKey;
use std::io::Write;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What people read when this is done, after a theft or when heirs were named.
fn told(is_theft: bool) -> String {
    let speaker = Speaker::first(SecretKey::from_seed(&[1; 32]));
    let key = OperatorId([2; 32]);
    let done = Done {
        operator: speaker.operator(),
        speaks: Speaks::of(speaker.line()),
        renewed: Renewed::default(),
        certificates: Vec::new(),
        unsigned: vec![Unsigned {
            node: NodeId([3; 32]),
            labels: "region=eu".into(),
            declared: vec!["region=eu".into()],
            issued: Wall(0),
            certificate: "strewncert1x".into(),
        }],
        silent: vec![NodeId([4; 32])],
        partners: vec![Listed {
            name: "beta".into(),
            operator: key,
            fingerprint: key.key().fingerprint(),
            added: Wall(0),
        }],
        vouched: vec![Vouched {
            node: NodeId([5; 32]),
            labels: "provider=aws region=eu".into(),
            with_document: false,
        }],
    };
    let all = Written::default();
    let (out, err) = (Box::new(all.clone()), Box::new(all.clone()));
    tell(&speaker, &done, (is_theft, is_theft), &Output::with_writers(Style::default(), out, err));
    let text = all.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

#[test]
fn after_a_theft_partners_are_named_where_the_earlier_key_still_speaks() {
    let text = told(true);
    assert!(text.contains("can agree on its side: beta"), "{text}");
    assert!(text.contains("whose line beta adds again"), "{text}");
    assert!(text.contains("strewn partner vouch 0505"), "{text}");
    assert!(text.contains("--label provider=aws,region=eu"), "{text}");
    assert!(text.contains("strewn operator renew strewncert1x"), "who signs looks first: {text}");
}

#[test]
fn whoever_names_heirs_hears_of_nodes_that_got_no_certificate_and_why() {
    let text = told(false);
    assert!(text.contains("It states region=eu by itself"), "{text}");
    assert!(text.contains("strewn operator renew --declared-too strewncert1x"), "{text}");
    assert!(text.contains("Node 04040404 does not answer"), "{text}");
    assert!(!text.contains("can agree on its side"), "the same key speaks: {text}");
}

#[test]
fn what_the_operator_vouches_for_is_found_in_others_certificates() {
    let [own, other] = [1, 2].map(|seed| SecretKey::from_seed(&[seed; 32]));
    let labels = Labels::new(["provider=aws".parse().unwrap()]).unwrap();
    let (node, issued) = (NodeId([3; 32]), wall());
    let expires = issued.after(Period::days(1));
    let vouch = |by: &SecretKey| {
        let by_id = by.public().into();
        let labels = labels.clone();
        Signed::sign(&Vouch { by: by_id, node, labels, document: None, issued, expires }, by)
    };
    let certificate = NodeCertificate {
        node,
        operator: other.public().into(),
        labels: labels.clone(),
        issued,
        expires,
        authority: protocol::certificate::Authority::Shown {
            vouches: vec![vouch(&own), vouch(&SecretKey::from_seed(&[9; 32]))],
        },
    };
    let found = vouched(own.public().into(), &[Signed::sign(&certificate, &other)]);
    assert_eq!(found.iter().map(|vouched| vouched.node).collect::<Vec<_>>(), [node]);
}
