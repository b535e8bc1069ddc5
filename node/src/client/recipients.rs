//! Who can read a vault: age recipients and identities, SSH keys among them.

use super::{ClientError, Result};
use age::secrecy::ExposeSecret;
use std::io::{Read, Write};
use std::path::Path;
use zeroize::Zeroizing;

/// Longest blob that is opened, in bytes: session keys and vault secrets are tiny.
const SEALED_MAX: usize = 64 << 10;
/// Longest identity file, in bytes.
const IDENTITY_MAX: u64 = 64 << 10;

fn parse(text: &str) -> Result<Box<dyn age::Recipient + Send>> {
    // Never repeated: errors end in logs.
    if text.to_uppercase().contains("AGE-SECRET-KEY-") || text.contains("PRIVATE KEY") {
        return Err(ClientError::Recipient(
            "this is a secret key, not a recipient: give the public one, age1… or ssh-…".into(),
        ));
    }
    if let Ok(recipient) = text.parse::<age::x25519::Recipient>() {
        return Ok(Box::new(recipient));
    }
    if let Ok(recipient) = text.parse::<age::ssh::Recipient>() {
        return Ok(Box::new(recipient));
    }
    Err(ClientError::Recipient(format!(
        "{text:?} is no recipient: give age1…, ssh-ed25519 … or ssh-rsa …"
    )))
}

/// Checks that all of these are recipients.
pub fn check(recipients: &[String]) -> Result<()> {
    recipients.iter().try_for_each(|text| parse(text).map(drop))
}

/// Seals bytes so that each of the recipients can open them.
pub fn seal(recipients: &[String], plain: &[u8]) -> Result<Vec<u8>> {
    let parsed: Vec<_> = recipients.iter().map(|text| parse(text)).collect::<Result<_>>()?;
    let failed = |e: &dyn std::fmt::Display| ClientError::Recipient(e.to_string());
    let all = parsed.iter().map(|recipient| &**recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(all).map_err(|e| failed(&e))?;
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(|e| failed(&e))?;
    writer.write_all(plain).map_err(|e| failed(&e))?;
    writer.finish().map_err(|e| failed(&e))?;
    Ok(sealed)
}

/// Makes a recovery identity: the secret text, and the recipient.
#[must_use]
pub fn generate() -> (String, String) {
    let identity = age::x25519::Identity::generate();
    (identity.to_string().expose_secret().to_owned(), identity.to_public().to_string())
}

/// The text of an identity: from a file, or else from `STREWN_IDENTITY_FILE`, or else in `STREWN_IDENTITY`.
pub fn find_text(file: Option<&Path>) -> Result<Zeroizing<String>> {
    if let Some(path) = file {
        return read_text(path);
    }
    if let Some(path) = std::env::var_os("STREWN_IDENTITY_FILE") {
        return read_text(Path::new(&path));
    }
    if let Ok(text) = std::env::var("STREWN_IDENTITY") {
        return Ok(Zeroizing::new(text));
    }
    Err(ClientError::Identity(
        "the recovery identity is needed: give --identity FILE, or set STREWN_IDENTITY_FILE or STREWN_IDENTITY".into(),
    ))
}

fn read_text(path: &Path) -> Result<Zeroizing<String>> {
    let failed = |e: std::io::Error| ClientError::Identity(format!("{}: {e}", path.display()));
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)
        .map_err(failed)?
        .take(IDENTITY_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

/// Of a text what is secret in it: an SSH key, or age's identities one a line; `None` where there is none.
#[must_use]
pub fn secret_lines(text: &str) -> Option<Zeroizing<String>> {
    let mut secret = Zeroizing::new(String::new());
    if let Some((_, key)) = text.split_once("-----BEGIN ") {
        secret.push_str("-----BEGIN ");
        for line in key.lines().map(str::trim) {
            secret.push_str(line);
            secret.push('\n');
            if line.starts_with("-----END ") {
                return Some(secret);
            }
        }
        return None;
    }
    let is_identity = |word: &&str| {
        word.get(..16).is_some_and(|begin| begin.eq_ignore_ascii_case("AGE-SECRET-KEY-1"))
    };
    for word in text.split_whitespace().filter(is_identity) {
        if !secret.is_empty() {
            secret.push('\n');
        }
        secret.push_str(word);
    }
    (!secret.is_empty()).then_some(secret)
}

/// What opens a vault.
pub struct Identities {
    all: Vec<Box<dyn age::Identity + Send + Sync>>,
    recipients: Vec<String>,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identities({})", self.all.len())
    }
}

impl Identities {
    /// From a file, or else from `STREWN_IDENTITY_FILE`, or else from the text in `STREWN_IDENTITY`.
    pub fn find(file: Option<&Path>) -> Result<Self> {
        Self::parse(&find_text(file)?)
    }

    /// As [`Identities::find`], and `None` where none was given at all.
    pub fn find_any(file: Option<&Path>) -> Result<Option<Self>> {
        let is_set = |name| std::env::var_os(name).is_some();
        if file.is_some() || is_set("STREWN_IDENTITY_FILE") || is_set("STREWN_IDENTITY") {
            Self::find(file).map(Some)
        } else {
            Ok(None)
        }
    }

    /// From the text of an age identity file or of an OpenSSH private key without passphrase.
    pub fn parse(text: &str) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| ClientError::Identity(format!("no identity: {e}"));
        if text.contains("-----BEGIN") {
            let identity =
                age::ssh::Identity::from_buffer(text.as_bytes(), None).map_err(|e| failed(&e))?;
            if !matches!(identity, age::ssh::Identity::Unencrypted(_)) {
                return Err(ClientError::Identity(
                    "this SSH key has a passphrase or is of an unknown kind: use one without, or an age identity".into(),
                ));
            }
            let recipient = age::ssh::Recipient::try_from(identity.clone())
                .map_err(|e| failed(&format!("{e:?}")))?;
            let recipients = vec![recipient.to_string()];
            return Ok(Self { all: vec![Box::new(identity)], recipients });
        }
        let file = age::IdentityFile::from_buffer(text.as_bytes()).map_err(|e| failed(&e))?;
        let all = file.into_identities().map_err(|e| failed(&e))?;
        if all.is_empty() {
            return Err(ClientError::Identity(
                "no identity: the text has no AGE-SECRET-KEY-1…".into(),
            ));
        }
        let parsed =
            text.lines().filter_map(|line| line.trim().parse::<age::x25519::Identity>().ok());
        let recipients = parsed.map(|identity| identity.to_public().to_string()).collect();
        Ok(Self { all, recipients })
    }

    /// The public halves, as recipients are written.
    #[must_use]
    pub fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// Opens what [`seal`] sealed.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>> {
        let wrong = |e: &dyn std::fmt::Display| {
            ClientError::Identity(format!(
                "this identity does not open the vault ({e}): use one of its recipients'"
            ))
        };
        if sealed.len() > SEALED_MAX {
            return Err(wrong(&"too long"));
        }
        let decryptor = age::Decryptor::new(sealed).map_err(|e| wrong(&e))?;
        let all = self.all.iter().map(|identity| &**identity as &dyn age::Identity);
        let mut plain = Vec::new();
        decryptor
            .decrypt(all)
            .map_err(|e| wrong(&e))?
            .take(SEALED_MAX as u64)
            .read_to_end(&mut plain)
            .map_err(|e| wrong(&e))?;
        Ok(plain)
    }
}

#[cfg(test)]
mod tests;
