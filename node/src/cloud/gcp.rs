//! Google's instance identity token: a JSON web token (RFC 7519) signed with RS256 by one of Google's keys, which are a JWK set (RFC 7517).

use super::{CloudError, Machine, SKEW_MS, audience, labels};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use data_encoding::BASE64URL_NOPAD;
use protocol::evidence::{Cloud, Document};
use protocol::id::NodeId;
use protocol::time::Wall;
use serde::Deserialize;
use serde::de::DeserializeOwned;

const NAME: &str = "gcp";
/// Who issues such tokens.
const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];

/// One of Google's keys.
#[derive(Debug)]
pub(super) struct Key {
    id: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<WrittenKey>,
}

#[derive(Deserialize)]
struct WrittenKey {
    kid: String,
    kty: String,
    n: Option<String>,
    e: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
    google: Google,
}

#[derive(Deserialize)]
struct Google {
    compute_engine: ComputeEngine,
}

#[derive(Deserialize)]
struct ComputeEngine {
    project_id: String,
    zone: String,
    instance_id: String,
}

/// The keys in a JWK set.
pub(super) fn keys(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: KeySet =
        serde_json::from_slice(bytes).map_err(|e| format!("no JWK set of Google's: {e}"))?;
    let mut keys = Vec::new();
    for key in set.keys.into_iter().filter(|key| key.kty == "RSA") {
        let number = |text: Option<String>| {
            let text = text.ok_or_else(|| format!("key {} is no RSA key", key.kid))?;
            BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|e| format!("key {}: {e}", key.kid))
        };
        let (modulus, exponent) = (number(key.n)?, number(key.e)?);
        keys.push(Key { id: key.kid, modulus, exponent });
    }
    Ok(keys)
}

fn malformed(what: impl std::fmt::Display) -> CloudError {
    CloudError::Malformed { cloud: NAME, what: what.to_string() }
}

fn part<T: DeserializeOwned>(text: &str) -> Result<T, CloudError> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(malformed)?;
    serde_json::from_slice(&bytes).map_err(malformed)
}

/// What it says.
pub(super) fn check(
    roots: &[Key],
    document: &Document,
    node: NodeId,
    at: Wall,
) -> Result<Machine, CloudError> {
    if roots.is_empty() {
        let what = "Google's keys, a JWK set as JSON,";
        return Err(CloudError::NoRoots { cloud: NAME, what });
    }
    let token = std::str::from_utf8(&document.text.0).map_err(malformed)?.trim();
    let (signed, signature) =
        token.rsplit_once('.').ok_or_else(|| malformed("it is not a token"))?;
    let (header, claims) = signed.split_once('.').ok_or_else(|| malformed("it is not a token"))?;
    let header: Header = part(header)?;
    // A token does not choose how it is verified.
    if header.alg != "RS256" {
        return Err(malformed("it is signed by another algorithm than RS256"));
    }
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(malformed)?;
    let has_signed = |key: &Key| {
        let key = RsaPublicKeyComponents { n: &key.modulus, e: &key.exponent };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).is_ok()
    };
    if !roots.iter().any(|key| key.id == header.kid && has_signed(key)) {
        return Err(CloudError::Unsigned(NAME));
    }
    let claims: Claims = part(claims)?;
    if !ISSUERS.contains(&claims.iss.as_str()) {
        return Err(malformed("it is issued by somebody else than accounts.google.com"));
    }
    let ms = |seconds: u64| seconds.saturating_mul(1000);
    let from = ms(claims.iat).saturating_sub(SKEW_MS);
    if !(from..ms(claims.exp).saturating_add(SKEW_MS)).contains(&at.0) {
        return Err(CloudError::Time { from: claims.iat, until: claims.exp });
    }
    let wanted = audience(node);
    if claims.aud != wanted {
        return Err(CloudError::Other { found: claims.aud, wanted });
    }
    let ComputeEngine { project_id, zone, instance_id } = claims.google.compute_engine;
    let (region, _) = zone.rsplit_once('-').ok_or_else(|| malformed("its zone has no region"))?;
    let stated = [("account", project_id.as_str()), ("region", region), ("datacenter", &zone)];
    Ok(Machine { labels: labels(Cloud::Gcp, &stated)?, instance: instance_id, is_bound: true })
}
