//! The SSH keys in `test_keys/` were made for these tests and are used nowhere else.

use super::*;
use protocol::recovery::RecoveryTag;

const ED25519_KEY: &str = include_str!("test_keys/ed25519.key");
const ED25519_PUB: &str = include_str!("test_keys/ed25519.pub");
const RSA_KEY: &str = include_str!("test_keys/rsa.key");
const RSA_PUB: &str = include_str!("test_keys/rsa.pub");
const LOCKED_KEY: &str = include_str!("test_keys/locked.key");
const ECDSA_PUB: &str = include_str!("test_keys/ecdsa.pub");

fn sealed_to(recipients: &[&str]) -> Vec<u8> {
    let texts: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    seal(&texts, b"session key").unwrap()
}

#[test]
fn each_recipient_alone_opens_what_was_sealed_to_all() {
    let (secret, public) = generate();
    let sealed = sealed_to(&[&public, ED25519_PUB, RSA_PUB]);
    for key in [secret.as_str(), ED25519_KEY, RSA_KEY] {
        assert_eq!(Identities::parse(key).unwrap().open(&sealed).unwrap(), b"session key");
    }
}

#[test]
fn another_identity_opens_nothing() {
    let (sealed, other) = (sealed_to(&[&generate().1]), generate().0);
    for key in [other.as_str(), ED25519_KEY, RSA_KEY] {
        let error = Identities::parse(key).unwrap().open(&sealed).unwrap_err().to_string();
        assert!(error.contains("does not open the vault"), "{error}");
    }
}

#[test]
fn any_alteration_is_noticed() {
    let (secret, public) = generate();
    let sealed = sealed_to(&[&public]);
    let key = Identities::parse(&secret).unwrap();
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        assert!(key.open(&altered).is_err(), "byte {at}");
        assert!(key.open(&sealed[..at]).is_err(), "cut at {at}");
    }
    assert!(key.open(&vec![0; SEALED_MAX + 1]).is_err());
}

#[test]
fn what_is_no_recipient_is_refused_and_a_secret_never_repeated() {
    let (secret, public) = generate();
    for wrong in ["", "age1", "me@example.org", "ssh-ed25519 AAAA", &public[1..], ECDSA_PUB] {
        assert!(check(&[wrong.into()]).is_err(), "{wrong}");
    }
    for secret in [secret.as_str(), &secret.to_lowercase(), ED25519_KEY] {
        let error = check(&[secret.into()]).unwrap_err().to_string();
        assert!(error.contains("secret") && !error.contains(&secret[20..40]), "{error}");
    }
}

#[test]
fn what_is_no_identity_is_refused() {
    let (_, public) = generate();
    for wrong in ["", "# only a comment", public.as_str(), ED25519_PUB, &ED25519_KEY[..200]] {
        assert!(matches!(Identities::parse(wrong), Err(ClientError::Identity(_))), "{wrong}");
    }
    let locked = Identities::parse(LOCKED_KEY).unwrap_err().to_string();
    assert!(locked.contains("passphrase"), "{locked}");
    let dir = tempfile::tempdir().unwrap();
    let endless = dir.path().join("endless");
    std::fs::write(&endless, vec![b'#'; 1 << 20]).unwrap();
    assert!(Identities::find(Some(&endless)).is_err());
    assert!(Identities::find(Some(Path::new("/none/such"))).is_err());
}

#[test]
fn an_identity_knows_how_its_recipient_is_written() {
    let (secret, public) = generate();
    let file = format!("# created: today\n# public key: {public}\n{secret}\n");
    for (key, recipient) in [
        (secret.as_str(), public.as_str()),
        (&file, &public),
        (ED25519_KEY, ED25519_PUB),
        (RSA_KEY, RSA_PUB),
    ] {
        let all = Identities::parse(key).unwrap().recipients().to_vec();
        assert_eq!(all.len(), 1);
        assert_eq!(RecoveryTag::of(&all[0]), RecoveryTag::of(recipient));
    }
    let both = format!("{secret}\n{}\n", generate().0);
    assert_eq!(Identities::parse(&both).unwrap().recipients().len(), 2);
}

#[test]
fn what_is_secret_in_a_text_is_found() {
    let (one, two) = (generate().0, generate().0);
    let file = format!("# created: today\n{one}\n\n  {} # the other\n", two.to_lowercase());
    let found = secret_lines(&file).unwrap();
    assert_eq!(*found, format!("{one}\n{}", two.to_lowercase()));
    let page = format!("The key:\n   {}\nand more", ED25519_KEY.replace('\n', "\n   "));
    let key = secret_lines(&page).unwrap();
    assert_eq!(Identities::parse(&key).unwrap().recipients().len(), 1);
    for nothing in
        ["", "AGE-SECRET", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "größer als nichts"]
    {
        assert!(secret_lines(nothing).is_none(), "{nothing}");
    }
}
