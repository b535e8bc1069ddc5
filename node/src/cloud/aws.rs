//! Amazon's instance identity document. It has no nonce and does not end: it shows that somebody was on the machine once.

use super::pkcs7::{self, Failed, Signers};
use super::{CloudError, Machine, labels};
use aws_lc_rs::signature::{RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use data_encoding::BASE64;
use protocol::evidence::{Cloud, Document};
use serde::Deserialize;
use x509_cert::Certificate;

const NAME: &str = "aws";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    account_id: String,
    region: String,
    availability_zone: String,
    instance_id: String,
}

fn malformed(what: impl std::fmt::Display) -> CloudError {
    CloudError::Malformed { cloud: NAME, what: what.to_string() }
}

/// Text in base64, as the metadata service gives it, in lines; with or without the frame that OpenSSL wants around it.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(|c| *c == b'\n').filter(|line| !line.starts_with(b"-----"));
    let text: Vec<u8> = lines.flatten().copied().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64.decode(&text).ok()
}

/// What it says.
pub(super) fn check(roots: &[Certificate], document: &Document) -> Result<Machine, CloudError> {
    if roots.is_empty() {
        let what = "Amazon's certificate of the region, as PEM,";
        return Err(CloudError::NoRoots { cloud: NAME, what });
    }
    let text = if document.signature.0.is_empty() {
        let der = base64(&document.text.0).ok_or_else(|| {
            malformed(
                "it is not base64: fetch instance-identity/rsa2048, or document and signature",
            )
        })?;
        pkcs7::open(&der, &Signers::These(roots)).map_err(|failed| match failed {
            Failed::Malformed(what) => malformed(what),
            Failed::Unsigned => CloudError::Unsigned(NAME),
        })?
    } else {
        let signature = base64(&document.signature.0)
            .ok_or_else(|| malformed("its signature is not base64"))?;
        // Amazon's keys for this form have 1024 bits.
        let has_signed = |root: &Certificate| {
            let key = root.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes();
            UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, key)
                .verify(&document.text.0, &signature)
                .is_ok()
        };
        if !roots.iter().any(has_signed) {
            return Err(CloudError::Unsigned(NAME));
        }
        document.text.0.clone()
    };
    let identity: Identity = serde_json::from_slice(&text).map_err(malformed)?;
    let stated = [
        ("account", identity.account_id.as_str()),
        ("region", identity.region.as_str()),
        ("datacenter", identity.availability_zone.as_str()),
    ];
    let labels = labels(Cloud::Aws, &stated)?;
    Ok(Machine { labels, instance: identity.instance_id, is_bound: false })
}
