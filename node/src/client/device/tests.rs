//! Two state folders as two hosts.

use super::*;
use protocol::policy::Policy;

struct Host {
    _dir: tempfile::TempDir,
    home: Home,
}

fn host() -> Host {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("home"));
    Host { _dir: dir, home }
}

fn with_vault(name: &str) -> (Host, Vault) {
    let host = host();
    create_key(&host.home.path("operator.key"), "an operator").unwrap();
    let (_, recipient) = recipients::generate();
    let vault =
        vault::create(&host.home, name, &Policy::survive_one("provider"), &[recipient]).unwrap();
    (host, vault)
}

const YEAR: Period = Period::days(365);
const NODE: &str =
    "/ip4/192.0.2.1/tcp/7440/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

#[test]
fn a_host_that_asked_gets_the_vault_and_not_its_key() {
    let (_a, vault) = with_vault("work");
    let b = host();
    let (device, line) = request(&b.home, "build-7").unwrap();
    let asked = read_request(&line).unwrap();
    assert_eq!((asked.device, asked.host.as_str()), (device, "build-7"));
    let answer = grant(&vault, &asked, YEAR, vec![NODE.into(), "nonsense".into()]).unwrap();
    assert!(answer.len() < 4000, "{} characters are many to paste", answer.len());
    let taken = accept(&b.home, &format!("  {answer}\n"), None).unwrap();
    assert_eq!((taken.id, taken.name.as_str(), taken.device_id()), (vault.id, "work", device));
    assert!(taken.secret == vault.secret && taken.policy == vault.policy);
    assert!(taken.key().is_none() && vault.key().is_some());
    assert_eq!(Config::load(&b.home).unwrap().client.nodes.len(), 1);
    assert!(std::fs::read_dir(b.home.path("requests")).unwrap().next().is_none());
    // Once is enough, and the same answer leads to nothing new.
    assert!(matches!(accept(&b.home, &answer, Some("again")), Err(DeviceError::Known(_))));
}

#[test]
fn a_line_for_another_host_or_from_the_past_is_refused() {
    let (_a, vault) = with_vault("work");
    let (b, c) = (host(), host());
    let (_, line) = request(&b.home, "b").unwrap();
    let asked = read_request(&line).unwrap();
    let answer = grant(&vault, &asked, YEAR, Vec::new()).unwrap();
    assert!(matches!(accept(&c.home, &answer, None), Err(DeviceError::NotAsked(_))));
    let past = grant(&vault, &asked, Period(0), Vec::new()).unwrap();
    let expired = accept(&b.home, &past, None).unwrap_err();
    assert!(expired.to_string().contains("expired"), "{expired}");
    // Neither of the two used up the request.
    assert!(accept(&b.home, &answer, Some("here")).is_ok());
}

#[test]
fn a_name_that_is_taken_is_refused_and_another_one_can_be_chosen() {
    let (b, other) = with_vault("work");
    let (_a, vault) = with_vault("work");
    let (_, line) = request(&b.home, "b").unwrap();
    let answer = grant(&vault, &read_request(&line).unwrap(), YEAR, Vec::new()).unwrap();
    let taken = accept(&b.home, &answer, None).unwrap_err();
    assert!(matches!(taken, DeviceError::Client(ClientError::VaultExists(_))), "{taken}");
    assert_eq!(accept(&b.home, &answer, Some("theirs")).unwrap().id, vault.id);
    assert_eq!(vault::load(&b.home, "work").unwrap().id, other.id);
}

#[test]
fn papers_that_do_not_belong_together_are_refused() {
    let ((_a, vault), (_x, other)) = (with_vault("work"), with_vault("other"));
    let b = host();
    let (_, line) = request(&b.home, "b").unwrap();
    let asked = read_request(&line).unwrap();
    let answer: Grant =
        from_line(GRANT, GRANT_LEN_MAX, &grant(&vault, &asked, YEAR, Vec::new()).unwrap()).unwrap();
    let mixed = Grant { papers: other.papers.clone(), ..answer.clone() };
    let refused = accept(&b.home, &to_line(GRANT, &mixed), None).unwrap_err();
    assert!(matches!(refused, DeviceError::Certificate(CertificateError::Chain(_))), "{refused}");
    let foreign = Signed::sign(
        &DeviceCertificate {
            vault: other.id,
            device: asked.device,
            issued: wall(),
            expires: wall().after(YEAR),
        },
        other.key().unwrap(),
    );
    let mixed = Grant { device: foreign, ..answer };
    let refused = accept(&b.home, &to_line(GRANT, &mixed), None).unwrap_err();
    assert!(matches!(refused, DeviceError::Certificate(CertificateError::Chain(_))), "{refused}");
    assert_eq!(b.home.vaults().unwrap(), Vec::<String>::new());
}

#[test]
fn garbage_is_said_to_be_garbage() {
    let b = host();
    let (_, line) = request(&b.home, "b").unwrap();
    assert!(matches!(read_request("hello"), Err(DeviceError::Request(LineError::Prefix(_)))));
    let short = &line[..line.len() - 5];
    assert!(matches!(read_request(short), Err(DeviceError::Request(LineError::Damaged))));
    let swapped = accept(&b.home, &line, None).unwrap_err().to_string();
    assert!(swapped.contains("strewn device add"), "{swapped}");
    // A recipient that is no age recipient is not sealed to.
    let key = protocol::sign::SecretKey::from_seed(&[7; 32]);
    let device = DeviceId::from(key.public());
    let recipient = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0bb".to_owned();
    let odd = Signed::sign(&DeviceRequest { device, recipient, host: "x".into() }, &key);
    assert!(matches!(read_request(&to_line(REQUEST, &odd)), Err(DeviceError::Content(_))));
}

#[test]
fn without_the_vaults_key_nobody_is_let_in() {
    let (_a, vault) = with_vault("work");
    let b = host();
    let (_, line) = request(&b.home, "b").unwrap();
    let answer = grant(&vault, &read_request(&line).unwrap(), YEAR, Vec::new()).unwrap();
    let taken = accept(&b.home, &answer, None).unwrap();
    let (_, another) = request(&b.home, "b").unwrap();
    let refused = grant(&taken, &read_request(&another).unwrap(), YEAR, Vec::new()).unwrap_err();
    assert!(matches!(refused, DeviceError::NoKey(_)), "{refused}");
}
