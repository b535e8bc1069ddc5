//! Microsoft's attested document: JSON in PKCS #7, signed by a certificate of metadata.azure.com that comes with it. It names the
//! subscription and the machine, and no region.

use super::aws::base64;
use super::pkcs7::{self, Failed, Signers};
use super::{CloudError, Machine, SKEW_MS, labels, nonce};
use jiff::fmt::strtime;
use protocol::evidence::{Cloud, Document};
use protocol::id::NodeId;
use protocol::time::Wall;
use serde::Deserialize;
use x509_cert::Certificate;

const NAME: &str = "azure";
/// Whose certificate it is signed with, or one of a name below it.
const SIGNER: &str = "metadata.azure.com";
/// How it writes moments.
const MOMENT: &str = "%m/%d/%y %H:%M:%S %z";

/// As the metadata service answers.
#[derive(Deserialize)]
struct Answer {
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attested {
    nonce: String,
    time_stamp: Moments,
    vm_id: String,
    subscription_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Moments {
    created_on: String,
    expires_on: String,
}

fn malformed(what: impl std::fmt::Display) -> CloudError {
    CloudError::Malformed { cloud: NAME, what: what.to_string() }
}

fn moment(text: &str) -> Result<u64, CloudError> {
    let broken = strtime::parse(MOMENT, text).map_err(malformed)?;
    let seconds = broken.to_timestamp().map_err(malformed)?.as_second();
    u64::try_from(seconds).map_err(malformed)
}

/// What it says.
pub(super) fn check(
    roots: &[Certificate],
    document: &Document,
    node: NodeId,
    at: Wall,
) -> Result<Machine, CloudError> {
    if roots.is_empty() {
        let what = "the authorities that issue certificates of metadata.azure.com, as PEM,";
        return Err(CloudError::NoRoots { cloud: NAME, what });
    }
    let answer: Option<Answer> = serde_json::from_slice(&document.text.0).ok();
    let text = answer.as_ref().map_or(&document.text.0[..], |a| a.signature.as_bytes());
    let der = base64(text).ok_or_else(|| malformed("its signature is not base64"))?;
    let signers = Signers::IssuedBy(roots, SIGNER, at);
    let text = pkcs7::open(&der, &signers).map_err(|failed| match failed {
        Failed::Malformed(what) => malformed(what),
        Failed::Unsigned => CloudError::Unsigned(NAME),
    })?;
    let attested: Attested = serde_json::from_slice(&text).map_err(malformed)?;
    let from = moment(&attested.time_stamp.created_on)?;
    let until = moment(&attested.time_stamp.expires_on)?;
    let ms = |seconds: u64| seconds.saturating_mul(1000);
    let begin = ms(from).saturating_sub(SKEW_MS);
    if !(begin..ms(until).saturating_add(SKEW_MS)).contains(&at.0) {
        return Err(CloudError::Time { from, until });
    }
    let wanted = nonce(node);
    if attested.nonce != wanted {
        return Err(CloudError::Other { found: attested.nonce, wanted });
    }
    let labels = labels(Cloud::Azure, &[("account", &attested.subscription_id)])?;
    Ok(Machine { labels, instance: attested.vm_id, is_bound: true })
}
