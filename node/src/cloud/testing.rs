//! A test authority: documents in the clouds' formats, signed with keys made here.

use super::*;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use der::asn1::{Any, BitString, ObjectIdentifier, OctetString, SetOfVec, Uint};
use der::{Decode, Encode, EncodePem};
use protocol::label::Label;
use sha2::{Digest, Sha256};
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;
use x509_cert::attr::Attribute;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};
use x509_cert::{TbsCertificate, Version};

const NOW: Wall = Wall(1_800_000_000_000);
const NODE: NodeId = NodeId([7; 32]);

fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new(text).unwrap()
}

fn algorithm(text: &str) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: oid(text), parameters: Some(Any::null()) }
}

const SHA256_WITH_RSA: &str = "1.2.840.113549.1.1.11";
const DATA: &str = "1.2.840.113549.1.7.1";

/// Keys take a while to make: three for all tests.
fn key(number: usize) -> &'static KeyPair {
    static KEYS: [OnceLock<KeyPair>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    KEYS[number].get_or_init(|| KeyPair::generate(KeySize::Rsa2048).unwrap())
}

fn sign(key: &KeyPair, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
    signature
}

fn certificate(name: &str, key: &KeyPair, issuer: &str, by: &KeyPair, days: u64) -> Certificate {
    let time = |seconds: u64| {
        Time::GeneralTime(
            der::asn1::GeneralizedTime::from_unix_duration(Duration::from_secs(seconds)).unwrap(),
        )
    };
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let tbs = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&[days as u8 + 1]).unwrap(),
        signature: algorithm(SHA256_WITH_RSA),
        issuer: Name::from_str(&format!("CN={issuer}")).unwrap(),
        validity: Validity {
            not_before: time(NOW.0 / 1000 - 86_400),
            not_after: time(NOW.0 / 1000 + days * 86_400),
        },
        subject: Name::from_str(&format!("CN={name}")).unwrap(),
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(public.as_ref()).unwrap(),
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: None,
    };
    let signature = sign(by, &tbs.to_der().unwrap());
    Certificate {
        tbs_certificate: tbs,
        signature_algorithm: algorithm(SHA256_WITH_RSA),
        signature: BitString::from_bytes(&signature).unwrap(),
    }
}

fn attribute(kind: &str, value: Any) -> Attribute {
    Attribute { oid: oid(kind), values: SetOfVec::try_from(vec![value]).unwrap() }
}

/// PKCS #7 as the metadata services give it: base64 in lines, with signed attributes.
fn wrapped(content: &[u8], signer: &Certificate, key: &KeyPair, include: bool) -> String {
    let attributes = SetOfVec::try_from(vec![
        attribute("1.2.840.113549.1.9.3", Any::encode_from(&oid(DATA)).unwrap()),
        attribute(
            "1.2.840.113549.1.9.4",
            Any::encode_from(&OctetString::new(Sha256::digest(content).to_vec()).unwrap()).unwrap(),
        ),
    ])
    .unwrap();
    let signature = sign(key, &attributes.to_der().unwrap());
    let tbs = &signer.tbs_certificate;
    let info = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: tbs.issuer.clone(),
            serial_number: tbs.serial_number.clone(),
        }),
        digest_alg: algorithm("2.16.840.1.101.3.4.2.1"),
        signed_attrs: Some(attributes),
        signature_algorithm: algorithm("1.2.840.113549.1.1.1"),
        signature: OctetString::new(signature).unwrap(),
        unsigned_attrs: None,
    };
    let certificates = include.then(|| {
        CertificateSet(
            SetOfVec::try_from(vec![CertificateChoices::Certificate(signer.clone())]).unwrap(),
        )
    });
    let signed = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::try_from(vec![algorithm("2.16.840.1.101.3.4.2.1")]).unwrap(),
        encap_content_info: EncapsulatedContentInfo {
            econtent_type: oid(DATA),
            econtent: Some(Any::encode_from(&OctetString::new(content).unwrap()).unwrap()),
        },
        certificates,
        crls: None,
        signer_infos: SignerInfos(SetOfVec::try_from(vec![info]).unwrap()),
    };
    let content = Any::encode_from(&signed).unwrap();
    let der = ContentInfo { content_type: oid("1.2.840.113549.1.7.2"), content }.to_der().unwrap();
    let text = BASE64.encode(&der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    lines.join("\n")
}

fn document(cloud: Cloud, text: &str, signature: &str) -> Document {
    let (text, signature) = (text.as_bytes().to_vec().into(), signature.as_bytes().to_vec().into());
    Document { cloud, text, signature }
}

fn labels_of(text: &str) -> Labels {
    Labels::new(text.split(' ').map(|label| label.parse::<Label>().unwrap())).unwrap()
}

const IDENTITY: &str = r#"{
  "accountId" : "123456789012",
  "architecture" : "x86_64",
  "availabilityZone" : "eu-west-1b",
  "imageId" : "ami-5fb8c835",
  "instanceId" : "i-1234567890abcdef0",
  "instanceType" : "t3.micro",
  "pendingTime" : "2026-11-19T16:32:11Z",
  "privateIp" : "10.158.112.84",
  "region" : "eu-west-1",
  "version" : "2017-09-30"
}"#;

fn amazon(number: usize) -> Certificate {
    certificate("ec2.amazonaws.com", key(number), "ec2.amazonaws.com", key(number), 30)
}

/// Keys that lie in a folder, as a host has them.
fn roots() -> Roots {
    let dir = tempfile::tempdir().unwrap();
    let write = |cloud: &str, name: &str, text: &str| {
        let folder = dir.path().join(cloud);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    };
    let pem = |certificate: &Certificate| certificate.to_pem(der::pem::LineEnding::LF).unwrap();
    write("aws", "eu-west-1.pem", &pem(&amazon(0)));
    write("azure", "issuer.pem", &pem(&authority()));
    write("gcp", "keys.json", &jwk(key(0), "one"));
    Roots::load_from(dir.path()).unwrap()
}

fn authority() -> Certificate {
    certificate("Test TLS Issuing CA", key(1), "Test Root", key(1), 60)
}

fn jwk(key: &KeyPair, id: &str) -> String {
    // RSAPublicKey (RFC 8017): modulus and exponent.
    let numbers = Vec::<Uint>::from_der(key.public_key().as_ref()).unwrap();
    let number = |at: usize| BASE64URL_NOPAD.encode(numbers[at].as_bytes());
    serde_json::json!({ "keys": [
        { "kid": "elliptic", "kty": "EC", "crv": "P-256" },
        {
            "kid": id, "kty": "RSA", "alg": "RS256", "use": "sig",
            "n": number(0), "e": number(1),
        },
    ]})
    .to_string()
}

/// The same message as Amazon writes it: lengths left open, and longer strings in pieces.
fn left_open(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = der;
    while let Some((&tag, after)) = rest.split_first() {
        let (len, head) = match after[0] {
            len @ 0..=0x7f => (usize::from(len), 1),
            0x81 => (usize::from(after[1]), 2),
            0x82 => (usize::from(after[1]) << 8 | usize::from(after[2]), 3),
            _ => panic!("no document is that long"),
        };
        let content = &after[head..head + len];
        match tag {
            0x04 if len > 300 => {
                out.extend([0x24, 0x80]);
                for piece in content.chunks(100) {
                    out.extend([0x04, piece.len() as u8]);
                    out.extend(piece);
                }
                out.extend([0, 0]);
            }
            _ if tag & 0x20 != 0 => {
                out.extend([tag, 0x80]);
                out.extend(left_open(content));
                out.extend([0, 0]);
            }
            _ => {
                out.push(tag);
                out.extend(&after[..head + len]);
            }
        }
        rest = &after[head + len..];
    }
    out
}

#[test]
fn amazons_document_says_whose_machine_it_is() {
    let roots = roots();
    let apart = document(Cloud::Aws, IDENTITY, &BASE64.encode(&sign(key(0), IDENTITY.as_bytes())));
    let inside = document(Cloud::Aws, &wrapped(IDENTITY.as_bytes(), &amazon(0), key(0), false), "");
    let text = String::from_utf8(inside.text.0.clone()).unwrap().replace('\n', "");
    let open = BASE64.encode(&left_open(&BASE64.decode(text.as_bytes()).unwrap()));
    assert!(open.starts_with("MIAGCSqGSIb3DQEHAqCAMIA"), "{open}");
    let framed = format!("-----BEGIN PKCS7-----\n{open}\n-----END PKCS7-----\n");
    let framed = document(Cloud::Aws, &framed, "");
    for document in [&apart, &inside, &framed] {
        let machine = roots.check(document, NODE, NOW).unwrap();
        let all = "provider=aws account=123456789012 region=eu-west-1 datacenter=eu-west-1b";
        assert_eq!(machine.labels, labels_of(all));
        assert_eq!((machine.instance.as_str(), machine.is_bound), ("i-1234567890abcdef0", false));
        let stated = labels_of("account=123456789012 provider=aws jurisdiction=ie");
        assert_eq!(
            borne_out(&machine, &stated),
            Ok(labels_of("account=123456789012 provider=aws"))
        );
        let other = borne_out(&machine, &labels_of("provider=hetzner")).unwrap_err();
        assert!(other.contains("hetzner") && other.contains("aws"), "{other}");
    }
    // Signed by another key, or changed since.
    let foreign =
        document(Cloud::Aws, &wrapped(IDENTITY.as_bytes(), &amazon(0), key(2), false), "");
    // A certificate that comes with the document counts for nothing, whatever it calls itself.
    let made_up = document(Cloud::Aws, &wrapped(IDENTITY.as_bytes(), &amazon(2), key(2), true), "");
    let changed = IDENTITY.replace("123456789012", "999999999999");
    let changed = Document { text: changed.into_bytes().into(), ..apart.clone() };
    for wrong in [foreign, made_up, changed] {
        assert!(matches!(roots.check(&wrong, NODE, NOW), Err(CloudError::Unsigned("aws"))));
    }
    assert!(matches!(Roots::default().check(&apart, NODE, NOW), Err(CloudError::NoRoots { .. })));
    let endless = BASE64.encode(&[0x30, 0x80].repeat(2000));
    let short = BASE64.encode(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]);
    for text in ["", "not base64!", "AAAA", IDENTITY, &endless, &short] {
        let wrong = document(Cloud::Aws, text, "");
        assert!(
            matches!(roots.check(&wrong, NODE, NOW), Err(CloudError::Malformed { .. })),
            "{text}"
        );
    }
}

/// `openssl smime -sign -binary -nodetach -nocerts -md sha256 -stream -outform PEM`: another hand than the one above.
#[test]
fn a_document_that_openssl_signed_is_read() {
    let signed = include_str!("../../tests/fixtures/cloud/identity-openssl.pem");
    let certificate = include_bytes!("../../tests/fixtures/cloud/identity-openssl-certificate.pem");
    let roots = Roots { aws: certificates("it", certificate).unwrap(), ..Roots::default() };
    let machine = roots.check(&document(Cloud::Aws, signed, ""), NODE, NOW).unwrap();
    assert_eq!(machine.labels.get(&Level::new("account").unwrap()), Some("123456789012"));
    let other = Roots { aws: vec![amazon(0)], ..Roots::default() };
    let checked = other.check(&document(Cloud::Aws, signed, ""), NODE, NOW);
    assert!(matches!(checked, Err(CloudError::Unsigned("aws"))), "{checked:?}");
}

fn token(claims: &serde_json::Value, header: &serde_json::Value, by: &KeyPair) -> Document {
    let part = |value: &serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = BASE64URL_NOPAD.encode(&sign(by, signed.as_bytes()));
    document(Cloud::Gcp, &format!("{signed}.{signature}\n"), "")
}

#[test]
fn googles_token_is_for_one_node_and_an_hour() {
    let roots = roots();
    let seconds = NOW.0 / 1000;
    let claims = serde_json::json!({
        "aud": audience(NODE), "azp": "1", "sub": "1", "iss": "https://accounts.google.com",
        "iat": seconds - 60, "exp": seconds + 3540,
        "google": { "compute_engine": {
            "instance_creation_timestamp": 1_700_000_000, "instance_id": "152986662232938449",
            "instance_name": "n", "project_id": "some-project", "project_number": 739_419_398_126_u64,
            "zone": "europe-west3-b",
        }},
    });
    let header = serde_json::json!({ "alg": "RS256", "kid": "one", "typ": "JWT" });
    let good = token(&claims, &header, key(0));
    let machine = roots.check(&good, NODE, NOW).unwrap();
    let all = "provider=gcp account=some-project region=europe-west3 datacenter=europe-west3-b";
    assert_eq!((machine.labels, machine.is_bound), (labels_of(all), true));

    let at = |wall: u64| roots.check(&good, NODE, Wall(wall));
    assert!(matches!(at(NOW.0 + 2 * 3_600_000), Err(CloudError::Time { .. })));
    assert!(matches!(at(NOW.0 - 3_600_000), Err(CloudError::Time { .. })));
    let other = roots.check(&good, NodeId([8; 32]), NOW);
    assert!(matches!(other, Err(CloudError::Other { .. })), "{other:?}");
    assert!(matches!(
        roots.check(&token(&claims, &header, key(2)), NODE, NOW),
        Err(CloudError::Unsigned("gcp"))
    ));
    let change = |name: &str, value: &str| {
        let (mut claims, mut header) = (claims.clone(), header.clone());
        let of = if name == "alg" || name == "kid" { &mut header } else { &mut claims };
        of[name] = value.into();
        roots.check(&token(&claims, &header, key(0)), NODE, NOW)
    };
    assert!(change("iss", "https://accounts.google.com").is_ok());
    assert!(matches!(change("iss", "https://example.org"), Err(CloudError::Malformed { .. })));
    assert!(matches!(change("alg", "none"), Err(CloudError::Malformed { .. })));
    assert!(matches!(change("kid", "two"), Err(CloudError::Unsigned("gcp"))));
    for text in ["", "a.b", "a.b.c", "..."] {
        let wrong = document(Cloud::Gcp, text, "");
        assert!(
            matches!(roots.check(&wrong, NODE, NOW), Err(CloudError::Malformed { .. })),
            "{text}"
        );
    }
}

#[test]
fn microsofts_document_is_signed_by_the_metadata_service_alone() {
    let roots = roots();
    let moment = |seconds: i64| {
        let at = jiff::Timestamp::from_second(NOW.0 as i64 / 1000 + seconds).unwrap();
        at.strftime("%m/%d/%y %H:%M:%S -0000").to_string()
    };
    let text = |nonce: &str| {
        serde_json::json!({
            "licenseType": "", "nonce": nonce, "sku": "18_04-lts",
            "plan": { "name": "", "product": "", "publisher": "" },
            "timeStamp": { "createdOn": moment(-60), "expiresOn": moment(6 * 3600 - 60) },
            "vmId": "d3e0e374-fda6-4649-bbc9-7f20dc379f34",
            "subscriptionId": "8d10da13-8125-4ba9-a717-bf7490507b3d",
        })
        .to_string()
    };
    let leaf = |name: &str, by: usize, days| {
        let issuer = if by == 1 { "Test TLS Issuing CA" } else { "Somebody" };
        certificate(name, key(2), issuer, key(by), days)
    };
    let answer = |nonce: &str, leaf: &Certificate| {
        let signature = wrapped(text(nonce).as_bytes(), leaf, key(2), true);
        let answer = serde_json::json!({ "encoding": "pkcs7", "signature": signature });
        document(Cloud::Azure, &answer.to_string(), "")
    };
    let good = leaf("metadata.azure.com", 1, 20);
    let mine = nonce(NODE);
    let machine = roots.check(&answer(&mine, &good), NODE, NOW).unwrap();
    let all = "provider=azure account=8d10da13-8125-4ba9-a717-bf7490507b3d";
    assert_eq!((machine.labels, machine.is_bound), (labels_of(all), true));
    assert!(
        roots.check(&answer(&mine, &leaf("eastus.metadata.azure.com", 1, 20)), NODE, NOW).is_ok()
    );

    let of_others = [
        leaf("metadata.azure.com", 0, 20),
        leaf("example.org", 1, 20),
        leaf("notmetadata.azure.com", 1, 20),
    ];
    for wrong in of_others {
        let checked = roots.check(&answer(&mine, &wrong), NODE, NOW);
        assert!(matches!(checked, Err(CloudError::Unsigned("azure"))), "{checked:?}");
    }
    let ended = Wall(NOW.0 + 21 * 86_400_000);
    assert!(matches!(
        roots.check(&answer(&mine, &good), NODE, ended),
        Err(CloudError::Unsigned(_))
    ));
    let late = Wall(NOW.0 + 7 * 3_600_000);
    assert!(matches!(roots.check(&answer(&mine, &good), NODE, late), Err(CloudError::Time { .. })));
    let other = roots.check(&answer("0123456789", &good), NODE, NOW);
    assert!(matches!(other, Err(CloudError::Other { .. })), "{other:?}");
}

#[test]
fn keys_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Roots::load_from(dir.path()).is_ok(), "none are needed");
    for (cloud, file) in [("aws", "a.pem"), ("gcp", "keys.json")] {
        std::fs::create_dir(dir.path().join(cloud)).unwrap();
        std::fs::write(dir.path().join(cloud).join(file), "nothing").unwrap();
        let error = Roots::load_from(dir.path()).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        std::fs::remove_file(dir.path().join(cloud).join(file)).unwrap();
    }
}
