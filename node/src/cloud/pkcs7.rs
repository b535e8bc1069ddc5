//! Signed messages as clouds wrap their documents: PKCS #7 (CMS, RFC 5652) with one RSA signer and SHA-256, whose certificate is one that
//! was configured, or is in the message and was issued by one that was. Nothing else of CMS and X.509 is needed, and nothing else counts.
//! Amazon writes it in BER, with lengths left open, so it is brought into the one form that DER has before it is read.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use protocol::time::Wall;
use sha2::{Digest, Sha256};
use x509_cert::Certificate;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Why nobody signed it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It cannot be read.
    Malformed(String),
    /// It can, and nobody counts who signed it.
    Unsigned,
}

/// Who may have signed a message.
pub(super) enum Signers<'a> {
    /// These.
    These(&'a [Certificate]),
    /// Whoever of this name, or of a name below it, has a certificate that one of these issued and that counts at this time.
    IssuedBy(&'a [Certificate], &'a str, Wall),
}

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 32;
/// A string of bytes, and one in pieces.
const OCTETS: u8 = 0x04;
const OCTETS_IN_PIECES: u8 = 0x24;
/// Marks elements that others are in.
const CONSTRUCTED: u8 = 0x20;

/// An element: its tag and what is in it, both as DER has them.
struct Element {
    tag: u8,
    content: Vec<u8>,
}

impl Element {
    /// Reads one (X.690, section 8.1), and what comes after it.
    fn read(input: &[u8], depth: usize) -> Option<(Self, &[u8])> {
        let (&tag, rest) = input.split_first()?;
        let (&len, rest) = rest.split_first()?;
        // Tags of several bytes are for what does not occur here.
        if tag & 0x1f == 0x1f || depth > DEPTH_MAX {
            return None;
        }
        let (mut inside, after) = match len {
            // Until two zeros: found by reading.
            0x80 => (rest, None),
            0..=0x7f => rest.split_at_checked(len.into()).map(|(i, after)| (i, Some(after)))?,
            _ => {
                let (len, rest) = rest.split_at_checked(usize::from(len & 0x7f))?;
                let len = len.iter().try_fold(0usize, |sum, &byte| {
                    sum.checked_mul(256)?.checked_add(byte.into())
                })?;
                rest.split_at_checked(len).map(|(i, after)| (i, Some(after)))?
            }
        };
        if tag & CONSTRUCTED == 0 {
            let content = inside.to_vec();
            return Some((Self { tag, content }, after?));
        }
        let mut content = Vec::new();
        let after = loop {
            if let (None, [0, 0, after @ ..]) = (after, inside) {
                break after;
            }
            if let (Some(after), []) = (after, inside) {
                break after;
            }
            let (child, next) = Self::read(inside, depth + 1)?;
            inside = next;
            if tag != OCTETS_IN_PIECES {
                child.write(&mut content);
            } else if child.tag == OCTETS {
                content.extend(child.content);
            } else {
                return None;
            }
        };
        let tag = if tag == OCTETS_IN_PIECES { OCTETS } else { tag };
        Some((Self { tag, content }, after))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.tag);
        let len = self.content.len();
        if len < 0x80 {
            out.push(len as u8);
        } else {
            let bytes = len.to_be_bytes();
            let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
            out.push(0x80 | (bytes.len() - first) as u8);
            out.extend_from_slice(&bytes[first..]);
        }
        out.extend_from_slice(&self.content);
    }
}

/// A message in BER, with every length stated and every string in one piece.
fn definite(ber: &[u8]) -> Option<Vec<u8>> {
    let (element, after) = Element::read(ber, 0)?;
    let mut der = Vec::with_capacity(ber.len());
    element.write(&mut der);
    after.is_empty().then_some(der)
}

/// The message, when it was signed by one of those.
pub(super) fn open(ber: &[u8], signers: &Signers<'_>) -> Result<Vec<u8>, Failed> {
    let wrong = |e: der::Error| Failed::Malformed(e.to_string());
    let der = definite(ber).ok_or_else(|| Failed::Malformed("it is not BER".into()))?;
    let info = ContentInfo::from_der(&der).map_err(wrong)?;
    if info.content_type != SIGNED_DATA {
        return Err(Failed::Malformed("it is not a signed message".into()));
    }
    let signed: SignedData = info.content.decode_as().map_err(wrong)?;
    let content = signed.encap_content_info.econtent.as_ref();
    let content = content.ok_or_else(|| Failed::Malformed("it has no content".into()))?;
    let content = content.decode_as::<OctetString>().map_err(wrong)?.into_bytes();
    let mut included = Vec::new();
    for choice in signed.certificates.iter().flat_map(|set| set.0.iter()) {
        if let CertificateChoices::Certificate(certificate) = choice {
            included.push(certificate);
        }
    }
    for signer in signed.signer_infos.0.iter() {
        let believed: Vec<&Certificate> = match *signers {
            Signers::These(roots) => roots.iter().collect(),
            Signers::IssuedBy(roots, name, at) => {
                let counts = |certificate: &&&Certificate| {
                    is_named(certificate, name)
                        && counts_at(certificate, at)
                        && roots.iter().any(|root| has_issued(root, certificate))
                };
                included.iter().filter(counts).copied().collect()
            }
        };
        let mut named =
            believed.into_iter().filter(|certificate| is_meant(&signer.sid, certificate));
        if named.any(|certificate| has_signed(certificate, signer, &signed, &content)) {
            return Ok(content);
        }
    }
    Err(Failed::Unsigned)
}

fn is_meant(signer: &SignerIdentifier, certificate: &Certificate) -> bool {
    let tbs = &certificate.tbs_certificate;
    match signer {
        SignerIdentifier::IssuerAndSerialNumber(named) => {
            named.issuer == tbs.issuer && named.serial_number == tbs.serial_number
        }
        // Whoever it is, the signature shows.
        SignerIdentifier::SubjectKeyIdentifier(_) => true,
    }
}

fn has_signed(
    certificate: &Certificate,
    signer: &SignerInfo,
    signed: &SignedData,
    content: &[u8],
) -> bool {
    let algorithm = signer.signature_algorithm.oid;
    if signer.digest_alg.oid != SHA256 || algorithm != RSA && algorithm != SHA256_WITH_RSA {
        return false;
    }
    let Some(attributes) = &signer.signed_attrs else {
        return is_signature(certificate, content, signer.signature.as_bytes());
    };
    let one = |oid: ObjectIdentifier| {
        let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
        let attribute = found.next().filter(|attribute| attribute.values.len() == 1)?;
        found.next().is_none().then(|| attribute.values.get(0))?
    };
    let digest = one(MESSAGE_DIGEST).and_then(|any| any.decode_as::<OctetString>().ok());
    let kind = one(CONTENT_TYPE).and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let is_of_content =
        digest.is_some_and(|digest| digest.as_bytes() == Sha256::digest(content).as_slice());
    is_of_content
        && kind == Some(signed.encap_content_info.econtent_type)
        // Signed as a SET, whatever tag it has in the message.
        && attributes.to_der().is_ok_and(|attributes| {
            is_signature(certificate, &attributes, signer.signature.as_bytes())
        })
}

fn is_signature(certificate: &Certificate, message: &[u8], signature: &[u8]) -> bool {
    let key = &certificate.tbs_certificate.subject_public_key_info;
    let bits = key.subject_public_key.raw_bytes();
    key.algorithm.oid == RSA
        && UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bits)
            .verify(message, signature)
            .is_ok()
}

fn has_issued(root: &Certificate, certificate: &Certificate) -> bool {
    let tbs = &certificate.tbs_certificate;
    certificate.signature_algorithm.oid == SHA256_WITH_RSA
        && tbs.signature == certificate.signature_algorithm
        && tbs.issuer == root.tbs_certificate.subject
        && tbs
            .to_der()
            .is_ok_and(|message| is_signature(root, &message, certificate.signature.raw_bytes()))
}

fn counts_at(certificate: &Certificate, at: Wall) -> bool {
    let validity = &certificate.tbs_certificate.validity;
    let seconds = at.0 / 1000;
    (validity.not_before.to_unix_duration().as_secs()
        ..=validity.not_after.to_unix_duration().as_secs())
        .contains(&seconds)
}

fn is_named(certificate: &Certificate, name: &str) -> bool {
    let parts = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let mut names = parts.filter(|part| part.oid == COMMON_NAME).map(|part| part.value.value());
    names.any(|found| {
        found == name.as_bytes()
            || found.strip_suffix(name.as_bytes()).is_some_and(|rest| rest.ends_with(b"."))
    })
}
