//! Who speaks for this host's operator: its key, the line that leads to it, and how another takes its place.
//!
//! ```text
//! operator.key       the key that speaks, where this host has it
//! succession         the line from the operator's first key to that one; not there while the first one speaks and no heirs are named
//! operator.key.next  a key that is to speak once enough have signed
//! operator.key.N     the one that spoke before step N
//! ```
//! The line is written before keys change their names, so that a host that stops in between ends it with the next command. Keys are
//! never removed here.

use super::{ClientError, Result};
use crate::home::{
    Home, HomeError, create_key, read_file, read_key, read_signed, write_file, write_signed,
};
use crate::line::{LineError, from_line, to_line};
use crate::service::wall;
use protocol::certificate::{Authority, NodeCertificate, VAULT_VALIDITY_MAX, VaultCertificate};
use protocol::codec::Blob;
use protocol::evidence::Evidence;
use protocol::id::OperatorId;
use protocol::label::{Label, Labels, Level};
use protocol::sign::{SecretKey, Signed};
use protocol::succession::{Change, Draft, Heirs, LINE_LEN_MAX, Line, Speaker, SuccessionError};
use protocol::time::Period;
use std::fs::{File, rename};
use std::path::{Path, PathBuf};

/// In the state folder, the line of the operator's keys.
pub const FILE: &str = "succession";
/// The key that speaks.
pub const KEY: &str = "operator.key";
/// The one that is to speak next.
const NEXT: &str = "operator.key.next";
/// Before a succession that heirs are to sign.
pub(crate) const DRAFT: &str = "strewnheir1";
/// Longest such line, in characters behind that.
const DRAFT_LEN_MAX: usize = 2 * LINE_LEN_MAX;
/// How long a certificate counts at most that is signed anew: as long as one that is signed for the first time.
const NODE_VALIDITY: Period = Period::days(5 * 365);

/// Why the operator's key cannot be dealt with as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The state folder.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Not the line asked for.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A succession.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// It is about somebody else.
    #[error("this is the succession of operator {found}, and this host's is {own}")]
    Other {
        /// This host's.
        own: OperatorId,
        /// The one it is about.
        found: OperatorId,
    },
    /// The line is shorter than the one here.
    #[error("the line has {found} steps, and this host's has {known} already")]
    Behind {
        /// How far it goes,
        found: usize,
        /// and how far the one here goes.
        known: usize,
    },
    /// The new key is not here.
    #[error("the key that is to speak is not on this host: {NEXT} is another one, or not there")]
    NoNext,
    /// Another one waits for signatures.
    #[error("a key waits already for signatures, in {0}")]
    Waits(PathBuf),
    /// It is not known whose host this is.
    #[error("it is not known which operator's host this is: there is neither its key nor a node")]
    Nobody,
}

impl From<HomeError> for OperatorError {
    fn from(error: HomeError) -> Self {
        Self::Client(error.into())
    }
}

/// Results of what is done with the operator's key.
pub type Done<T> = std::result::Result<T, OperatorError>;

fn sibling(key: &Path, name: &str) -> PathBuf {
    key.parent().map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
}

fn line_beside(key: &Path) -> Result<Option<Line>> {
    let path = sibling(key, FILE);
    let Some(bytes) = read_file(&path)? else { return Ok(None) };
    let line = Line::from_bytes(&bytes);
    let content = |error: SuccessionError| HomeError::Content { path, what: error.to_string() };
    Ok(Some(line.map_err(content)?))
}

/// Who speaks by the key in this file, with the line that lies beside it; `None` where there is no key.
pub fn speaker_at(path: &Path) -> Result<Option<Speaker>> {
    let Some(line) = line_beside(path)? else {
        return Ok(read_key(path)?.map(Speaker::first));
    };
    let next = sibling(path, NEXT);
    if read_key(&next)?.is_some_and(|key| key.public() == line.key()) {
        take_over(path, &next, line.number())?;
    }
    let Some(key) = read_key(path)? else { return Ok(None) };
    let speaker = Speaker::new(key, line.clone()).map_err(|_| HomeError::Content {
        path: path.into(),
        what: format!(
            "it does not speak for operator {} any more: key {} of the line in `{FILE}` does",
            line.operator().key().fingerprint(),
            line.number()
        ),
    })?;
    Ok(Some(speaker))
}

/// The next key takes the place of the one that spoke, which keeps a name of its own.
fn take_over(key: &Path, next: &Path, number: usize) -> Result<()> {
    if key.exists() {
        rename(key, sibling(key, &format!("{KEY}.{number}")))?;
    }
    rename(next, key)?;
    if let Some(folder) = key.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Who speaks for this host's operator; `None` on hosts without its key.
pub fn speaker(home: &Home) -> Result<Option<Speaker>> {
    speaker_at(&home.path(KEY))
}

/// The same, or an error that says what the key is needed for.
pub fn speaker_for(home: &Home, what: &'static str) -> Result<Speaker> {
    speaker(home)?.ok_or(ClientError::NoOperator(what))
}

/// The line of this host's operator, as far as this host has it: also where the key is lost.
pub fn line(home: &Home) -> Result<Option<Line>> {
    if let Some(line) = line_beside(&home.path(KEY))? {
        return Ok(Some(line));
    }
    let first = |key: SecretKey| Line::first(key.public().into());
    if let Some(key) = read_key(&home.path(KEY))? {
        return Ok(Some(first(key)));
    }
    let Some(signed) = read_signed::<NodeCertificate>(&home.path("node.cert"))? else {
        return Ok(None);
    };
    let certificate = signed.verify().map_err(ClientError::content)?;
    Ok(Some(certificate.line(&signed)?))
}

/// Makes a key and the step by which it speaks. What it takes to count is signatures: of the key that speaks now, which are there at once,
/// or of the heirs.
pub fn begin(home: &Home, heirs: Option<Heirs>, grace: Period) -> Done<Draft> {
    let line = line(home)?.ok_or(OperatorError::Nobody)?;
    let path = home.path(NEXT);
    if path.exists() {
        return Err(OperatorError::Waits(path));
    }
    let trial = SecretKey::from_seed(&crate::home::random()?);
    let heirs = heirs.unwrap_or_else(|| line.heirs().clone());
    let change = Change { heirs, issued: wall(), grace };
    // What cannot be meant leaves no key behind.
    let _ = Draft::new(line.clone(), change.clone(), &trial)?;
    let key = create_key(&path, "the key that is to speak for the operator")?;
    let mut draft = Draft::new(line, change, &key)?;
    sign_if_it_counts(home, &mut draft)?;
    Ok(draft)
}

/// The step by which the same key speaks on, with other heirs.
pub fn name_heirs(home: &Home, heirs: Heirs) -> Done<Draft> {
    let speaker = speaker_for(home, "naming heirs")?;
    let change = Change { heirs, issued: wall(), grace: Period(0) };
    let mut draft = Draft::new(speaker.line().clone(), change, speaker.key())?;
    sign_if_it_counts(home, &mut draft)?;
    Ok(draft)
}

/// Where no heirs are named the operator's own key says who comes next.
fn sign_if_it_counts(home: &Home, draft: &mut Draft) -> Done<()> {
    if draft.line().heirs().is_empty()
        && let Some(speaker) = speaker(home)?
    {
        draft.sign(speaker.key())?;
    }
    Ok(())
}

/// The line by which a draft goes from one person to another.
#[must_use]
pub fn draft_line(draft: &Draft) -> String {
    to_line(DRAFT, &Blob(draft.to_bytes()))
}

/// The inverse of [`draft_line`]; all signatures that are there were verified.
pub fn read_draft(line: &str) -> Done<Draft> {
    let bytes: Blob = from_line(DRAFT, DRAFT_LEN_MAX, line.trim())?;
    Ok(Draft::from_bytes(&bytes.0)?)
}

/// Enough have signed: the line counts on this host from now on, and the key that it names speaks.
pub fn take(home: &Home, draft: Draft) -> Done<Speaker> {
    let known = line(home)?.ok_or(OperatorError::Nobody)?;
    let line = draft.finish()?;
    if line.operator() != known.operator() {
        let (own, found) = (known.operator(), line.operator());
        return Err(OperatorError::Other { own, found });
    }
    // One that is behind would take back what is known of heirs.
    if line != known && !known.is_continued_by(&line)? {
        return Err(OperatorError::Behind { found: line.number(), known: known.number() });
    }
    let has = |name: &str| -> Result<bool> {
        Ok(read_key(&home.path(name))?.is_some_and(|key| key.public() == line.key()))
    };
    if !has(NEXT)? && !has(KEY)? {
        return Err(OperatorError::NoNext);
    }
    write_file(&home.path(FILE), &line.to_bytes(), 0o644)?;
    Ok(speaker_for(home, "taking over")?)
}

fn label(level: &Level, name: &str) -> Label {
    Label { level: level.clone(), name: name.into() }
}

/// The labels that a node states by itself: its operator has not signed them yet.
#[must_use]
pub fn declared(known: &NodeCertificate) -> Vec<Label> {
    let site = known.site();
    let by_itself = site.shown().filter(|(.., evidence)| *evidence == Evidence::Declared);
    by_itself.map(|(level, name, _)| label(level, name)).collect()
}

/// The certificate without what its node states by itself.
pub fn without_declared(known: NodeCertificate) -> Done<NodeCertificate> {
    let declared = declared(&known);
    let all = known.labels.iter().map(|(level, name)| label(level, name));
    let kept = all.filter(|label| !declared.contains(label));
    let labels = Labels::new(kept).map_err(ClientError::content)?;
    Ok(NodeCertificate { labels, ..known })
}

/// A certificate of the same operator, signed anew, for no longer than it was made for. What its node stated by itself becomes its operator's word:
/// whoever signs has seen it ([`declared`]).
#[must_use]
pub fn renew(speaker: &Speaker, known: NodeCertificate) -> Signed<NodeCertificate> {
    let authority = match known.authority {
        Authority::Shown { vouches } => Authority::Shown { vouches },
        _ => Authority::Operator,
    };
    let issued = wall();
    let validity = Period(known.expires.0.saturating_sub(known.issued.0)).min(NODE_VALIDITY);
    let certificate =
        NodeCertificate { authority, issued, expires: issued.after(validity), ..known };
    Signed::speak(&certificate, speaker)
}

/// What of this host was signed anew.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Renewed {
    /// Whether it has a node, whose certificate is a new one.
    pub node: bool,
    /// Vaults, by name.
    pub vaults: Vec<String>,
}

/// Signs anew what this host has of the operator: its node's certificate, and the word for its vaults.
pub fn renew_here(home: &Home, speaker: &Speaker) -> Done<Renewed> {
    let mut renewed = Renewed::default();
    let path = home.path("node.cert");
    if let Some(signed) = read_signed::<NodeCertificate>(&path)? {
        let known = signed.verify().map_err(ClientError::content)?;
        if known.operator == speaker.operator() {
            write_signed(&path, &renew(speaker, known))?;
            renewed.node = true;
        }
    }
    for name in home.vaults()? {
        let path = home.vault(&name)?.join("vault.cert");
        let Some(signed) = read_signed::<VaultCertificate>(&path)? else { continue };
        let known = signed.verify().map_err(ClientError::content)?;
        if known.operator == speaker.operator() {
            let issued = wall();
            // A later date makes it news to holders; beyond the longest it would count nowhere.
            let later = known.expires.after(Period(1));
            let expires = issued.after(super::vault::VALIDITY).max(later);
            let expires = expires.min(issued.after(VAULT_VALIDITY_MAX));
            let certificate = VaultCertificate { issued, expires, ..known };
            write_signed(&path, &Signed::speak(&certificate, speaker))?;
            renewed.vaults.push(name);
        }
    }
    Ok(renewed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::certificate::{Invitation, JoinRequest};

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().into());
        (dir, home)
    }

    fn heirs(keys: &[SecretKey; 3]) -> Heirs {
        Heirs::new(2, keys.iter().map(SecretKey::public)).unwrap()
    }

    #[test]
    fn a_key_that_was_lost_is_replaced_by_two_of_three_and_not_by_one() {
        let (_dir, home) = home();
        let first = create_key(&home.path(KEY), "a key").unwrap();
        let operator = OperatorId::from(first.public());
        let keys = [1, 2, 3].map(|seed| SecretKey::from_seed(&[seed; 32]));
        let speaker = take(&home, name_heirs(&home, heirs(&keys)).unwrap()).unwrap();
        assert_eq!(speaker.key().public(), first.public());
        std::fs::remove_file(home.path(KEY)).unwrap();
        assert!(speaker_for(&home, "this").is_err());

        let draft = begin(&home, None, Period(0)).unwrap();
        assert!(matches!(begin(&home, None, Period(0)), Err(OperatorError::Waits(_))));
        let line = draft_line(&draft);
        let mut one = read_draft(&line).unwrap();
        one.sign(&keys[2]).unwrap();
        let missing = take(&home, one.clone());
        assert!(matches!(
            missing,
            Err(OperatorError::Succession(SuccessionError::Missing { have: 1, need: 2 }))
        ));
        assert!(speaker_for(&home, "this").is_err());
        let mut two = read_draft(&line).unwrap();
        two.sign(&keys[0]).unwrap();
        two.join(read_draft(&draft_line(&one)).unwrap()).unwrap();
        let speaker = take(&home, two).unwrap();
        assert_eq!(speaker.operator(), operator);
        assert_ne!(speaker.key().public(), first.public());
        assert_eq!(speaker.line().heirs(), &heirs(&keys), "they stay heirs");
        assert!(!home.path(NEXT).exists());
        // The first key alone says nothing here any more.
        crate::home::write_secret(&home.path(KEY), "a key", &first.seed()).unwrap();
        assert!(speaker_for(&home, "this").is_err());
    }

    #[test]
    fn a_line_that_is_behind_takes_no_heirs_back() {
        let (_dir, home) = home();
        create_key(&home.path(KEY), "a key").unwrap();
        let keys = [1, 2, 3].map(|seed| SecretKey::from_seed(&[seed; 32]));
        let early = name_heirs(&home, heirs(&keys)).unwrap();
        take(&home, early.clone()).unwrap();
        let mut later = name_heirs(&home, Heirs::new(1, [keys[1].public()]).unwrap()).unwrap();
        for key in &keys[..2] {
            later.sign(key).unwrap();
        }
        let known = take(&home, later.clone()).unwrap().line().clone();
        assert_eq!(known.number(), 2);
        let behind = take(&home, early);
        assert!(matches!(behind, Err(OperatorError::Behind { found: 1, known: 2 })), "{behind:?}");
        assert_eq!(take(&home, later).unwrap().line(), &known, "twice is as once");
    }

    #[test]
    fn a_certificate_signed_anew_lasts_no_longer_and_says_what_the_node_said_by_itself() {
        let speaker = Speaker::first(SecretKey::from_seed(&[1; 32]));
        let (admitter, bearer) = (SecretKey::from_seed(&[2; 32]), SecretKey::from_seed(&[3; 32]));
        let labels = |text: &[&str]| Labels::new(text.iter().map(|l| l.parse().unwrap())).unwrap();
        let invitation = Invitation {
            operator: speaker.operator(),
            admitter: admitter.public().into(),
            bearer: bearer.public(),
            labels: labels(&["provider=aws"]),
            issued: wall(),
            expires: wall().after(Period::days(1)),
        };
        let node = SecretKey::from_seed(&[4; 32]).public().into();
        let request = JoinRequest { bearer: bearer.public(), node, labels: labels(&["region=eu"]) };
        let known = NodeCertificate {
            node,
            operator: speaker.operator(),
            labels: labels(&["provider=aws", "region=eu"]),
            issued: wall(),
            expires: wall().after(Period::days(30)),
            authority: Authority::Bearer {
                node: admitter.public().into(),
                invitation: Signed::speak(&invitation, &speaker),
                request: Signed::sign(&request, &bearer),
            },
        };
        assert_eq!(declared(&known), ["region=eu".parse().unwrap()]);
        assert_eq!(without_declared(known.clone()).unwrap().labels, labels(&["provider=aws"]));
        let renewed = renew(&speaker, known).verify().unwrap();
        assert_eq!(renewed.expires, renewed.issued.after(Period::days(30)));
        assert_eq!(declared(&renewed), []);
    }

    #[test]
    fn a_host_that_stopped_while_keys_changed_goes_on() {
        let (_dir, home) = home();
        let first = create_key(&home.path(KEY), "a key").unwrap();
        let draft = begin(&home, None, Period::days(30)).unwrap();
        let line = draft.finish().unwrap();
        // Nothing counts before the line is there.
        assert_eq!(speaker_for(&home, "this").unwrap().key().public(), first.public());
        write_file(&home.path(FILE), &line.to_bytes(), 0o644).unwrap();
        for _ in 0..2 {
            let speaker = speaker_for(&home, "this").unwrap();
            assert_eq!(speaker.key().public(), line.key());
            assert_eq!(speaker.operator(), OperatorId::from(first.public()));
        }
        let kept = read_key(&home.path(&format!("{KEY}.1"))).unwrap().unwrap();
        assert_eq!(kept.public(), first.public(), "no key is removed");
    }
}
