//! A vault comes back to a machine that has nothing but the recovery identity and the address of one node.

use harness::{Mesh, Ran, Signal, bytes, program, signal, strewn, tree_of, within, write};
use node::client::mesh::{Caller, Mesh as Connections};
use node::client::recipients::{Identities, seal};
use node::home::{Home, create_key, read_key, read_signed};
use node::net::{Net, NetConfig, NetEvent, NetLimits};
use node::service::wall;
use protocol::certificate::{DeviceCertificate, VaultCertificate};
use protocol::codec::Blob;
use protocol::id::VaultId;
use protocol::message::{Request, Response, frame_len_max};
use protocol::recovery::{RecoveryCard, RecoverySecret};
use protocol::seal::VaultSecret;
use protocol::sign::{SecretKey, Signed};
use protocol::time::{Period, Wall};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const POLICY: &str = "[survive]\nany = [ { provider = 1, node = 1 } ]\n[lock]\nperiod = \"30d\"\nrelease_cooldown = \"1d\"\n";
const SIX: [(&str, &str); 6] =
    [("x", "x1"), ("x", "x2"), ("y", "y1"), ("y", "y2"), ("z", "z1"), ("z", "z2")];

fn six() -> Mesh {
    let mesh = Mesh::start(&SIX);
    mesh.create_vault("v", POLICY);
    mesh
}

fn folder(dir: &Path, files: u64) {
    for n in 0..files {
        write(dir.join(format!("{}/file-{n}", n % 3)), bytes(&format!("file {n}"), 300_000));
    }
}

/// Where a node listens over TCP: with its name behind it, and without.
fn addresses(mesh: &Mesh, node: usize) -> (String, String) {
    let listen = fs::read_to_string(mesh.nodes[node].home.join("run/listen")).unwrap();
    let full = listen.lines().find(|line| line.contains("/tcp/")).unwrap().to_owned();
    let bare = full.split("/p2p/").next().unwrap();
    let port = bare.rsplit('/').next().unwrap();
    (full.clone(), format!("127.0.0.1:{port}"))
}

fn recover(home: &Path, identity: &Path, from: &[&str], further: &[&str]) -> Ran {
    let mut arguments = vec![OsStr::new("--json"), OsStr::new("recover"), OsStr::new("--identity")];
    arguments.push(identity.as_os_str());
    for address in from {
        arguments.extend([OsStr::new("--from"), OsStr::new(address)]);
    }
    arguments.extend(further.iter().map(OsStr::new));
    strewn(home, arguments)
}

fn restore(home: &Path, identity: &Path, snapshot: &str, target: &Path) -> Ran {
    let arguments: [&OsStr; 5] = [
        "restore".as_ref(),
        snapshot.as_ref(),
        target.as_os_str(),
        "--identity".as_ref(),
        identity.as_os_str(),
    ];
    strewn(home, arguments)
}

fn error(ran: &Ran) -> (String, String) {
    let error = ran.messages("exit_error").pop().expect("an error");
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("message"), text("next"))
}

fn new_identity(mesh: &Mesh) -> PathBuf {
    mesh.create_vault("other", POLICY);
    mesh.identity("other")
}

#[test]
fn the_owner_lost_everything_but_the_identity_and_one_provider_is_down() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, 9);
    let first = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
    let one = mesh.dir().join("one");
    fs::rename(source.join("0"), source.join("moved")).unwrap();
    folder(&source.join("more"), 2);
    let second = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
    let identity = mesh.identity("v");

    // A machine that has another vault of that name and is interrupted in the middle.
    let home = mesh.dir().join("new");
    fs::create_dir_all(home.join("vaults/v")).unwrap();
    let (_, bare) = addresses(&mesh, 1);
    let other = new_identity(&mesh);
    let nothing = recover(&home, &other, &[&bare], &[]).ended(12);
    let (message, next) = error(&nothing);
    assert!(
        message.contains("keeps no vault") && next.contains("another node"),
        "{message} {next}"
    );
    assert!(!home.join("vaults/v/device.key").exists(), "a wrong identity leaves nothing");

    // The owner's host, which is a node of provider x, is gone, and so is all of provider z.
    mesh.nodes[0].destroy();
    mesh.nodes.iter_mut().filter(|node| node.provider == "z").for_each(harness::Node::kill);
    let ran = recover(&home, &identity, &[&bare], &[]).ok();
    let summary = ran.messages("summary").pop().unwrap();
    assert_eq!((summary["name"].as_str(), summary["nodes"].as_u64()), (Some("v"), Some(3)));
    let listed = ran.messages("snapshot");
    let ids: Vec<&str> = listed.iter().filter_map(|snapshot| snapshot["id"].as_str()).collect();
    assert_eq!(ids, [&first, &second]);

    let back = mesh.dir().join("back");
    let _ = restore(&home, &identity, &second, &back).ok();
    assert_eq!(tree_of(&source), tree_of(&back));
    let _ = restore(&home, &identity, &first, &one).ok();
    assert_eq!(fs::read(one.join("0/file-0")).unwrap(), bytes("file 0", 300_000));
    assert!(one.join("0/file-0").exists() && !one.join("more").exists());

    // Nothing is overwritten, and the machine knows that it has the vault.
    let again = recover(&home, &identity, &[&bare], &[]).ended(1);
    assert!(error(&again).0.contains("already"), "{again:?}");

    // It writes, with a device of its own, and what it writes comes back in the same way.
    for node in &mut mesh.nodes[4..] {
        node.start();
    }
    write(source.join("after"), b"the loss");
    let third = strewn(&home, ["--json", "backup", source.to_str().unwrap()]).summary();
    assert_eq!(third["degraded"], false);
    let elsewhere = mesh.dir().join("elsewhere");
    let (full, _) = addresses(&mesh, 2);
    let ran = recover(&elsewhere, &identity, &[&full], &["--name", "saved"]).ok();
    assert_eq!(ran.messages("snapshot").len(), 3);
    let back = mesh.dir().join("back-elsewhere");
    let _ = restore(&elsewhere, &identity, third["snapshot"].as_str().unwrap(), &back).ok();
    assert_eq!(tree_of(&source), tree_of(&back));
}

#[test]
fn what_goes_wrong_is_said_with_what_to_do() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, 2);
    let _ = mesh.backup(&source).summary();
    let identity = mesh.identity("v");
    let home = mesh.dir().join("new");
    let (_, bare) = addresses(&mesh, 0);

    let nobody = recover(&home, &identity, &["127.0.0.1:9"], &[]).ended(10);
    let (message, next) = error(&nobody);
    assert!(message.contains("refused") && next.contains("--from"), "{message} {next}");
    let wrong = recover(&home, &identity, &["nowhere at all"], &[]).ended(2);
    assert!(wrong.err.contains("is no address"), "{wrong:?}");
    let _ = recover(&home, &mesh.dir().join("none"), &[&bare], &[]).ended(12);
    let other = recover(&home, &identity, &[&bare], &["--vault", "ffff"]).ended(10);
    assert!(error(&other).0.contains("v ("), "{other:?}");
    assert!(!home.join("vaults").exists(), "what fails leaves no vault");

    // One that does not answer stops no other.
    mesh.nodes[5].freeze();
    let (frozen, _) = addresses(&mesh, 5);
    let ran = recover(&home, &identity, &[&frozen, &bare], &[]).ok();
    assert_eq!(ran.messages("snapshot").len(), 1);
    mesh.nodes[5].thaw();

    // A node whose database is gone makes the cards again from its journal, like everything else.
    mesh.nodes[1].kill();
    fs::remove_file(mesh.nodes[1].home.join("node/state.redb")).unwrap();
    mesh.nodes[1].start();
    let (_, bare) = addresses(&mesh, 1);
    let ran = recover(&mesh.dir().join("after"), &identity, &[&bare], &[]).ok();
    assert_eq!(ran.messages("snapshot").len(), 1);
}

/// As whom a stolen vault key comes: a device that the thief made for himself.
fn thief(mesh: &Mesh) -> (Caller, SecretKey, VaultId) {
    let folder = mesh.owner().join("vaults/v");
    let vault = read_key(&folder.join("vault.key")).unwrap().unwrap();
    let certificate: Signed<VaultCertificate> =
        read_signed(&folder.join("vault.cert")).unwrap().unwrap();
    let said = certificate.verify().unwrap();
    let device = SecretKey::from_seed(&[66; 32]);
    let word = DeviceCertificate {
        vault: said.vault,
        device: device.public().into(),
        issued: said.issued,
        expires: said.expires,
    };
    let word = Signed::sign(&word, &vault);
    (Caller::of_device(device, certificate, word, said.operator), vault, said.vault)
}

fn recipient(identity: &Path) -> String {
    let text = fs::read_to_string(identity).unwrap();
    Identities::parse(&text).unwrap().recipients()[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_vault_key_cannot_put_another_card_in_place_of_the_first() {
    let mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, 3);
    let snapshot = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
    let identity = mesh.identity("v");
    let recipient = recipient(&identity);

    let (caller, vault, id) = thief(&mesh);
    let nodes: Vec<_> = (0..6).map(|node| addresses(&mesh, node).0.parse().unwrap()).collect();
    let home = Home::new(mesh.dir().join("thief"));
    let connections = Connections::connect_at(&home, caller, &nodes).await.unwrap();
    let lie = seal(std::slice::from_ref(&recipient), b"something else").unwrap();
    let stolen = RecoverySecret {
        certificate: Signed::sign(
            &VaultCertificate {
                vault: id,
                operator: vault.public().into(),
                issued: wall(),
                expires: wall().after(Period::days(1)),
            },
            &vault,
        ),
        key: vault.clone(),
        secret: VaultSecret([0; 32]),
        name: "v".into(),
    };
    let other = seal(std::slice::from_ref(&recipient), &stolen.encode()).unwrap();
    for (version, sealed) in [(u64::MAX - 2, vec![7; 1000]), (u64::MAX - 1, lie), (u64::MAX, other)]
    {
        let card = RecoveryCard::new(id, version, std::slice::from_ref(&recipient), sealed);
        let card = Request::Card(Signed::sign(&card, &vault));
        for (_, answer) in connections.ask_all(&card).await {
            assert_eq!(answer.unwrap(), Response::Done);
        }
        let home = mesh.dir().join(format!("after-{version}"));
        let (_, bare) = addresses(&mesh, 3);
        let ran = recover(&home, &identity, &[&bare], &[]).ok();
        assert_eq!(ran.messages("snapshot").len(), 1);
        let back = mesh.dir().join(format!("back-{version}"));
        let _ = restore(&home, &identity, &snapshot, &back).ok();
        assert_eq!(tree_of(&source), tree_of(&back));
    }
}

/// A node that gives whoever asks what it was told to.
fn liar(answer: Vec<Vec<u8>>) -> String {
    let port = harness::free_port();
    let listen = vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()];
    let config = NetConfig { listen, limits: NetLimits::default() };
    let (net, mut events) = Net::start(config, &SecretKey::from_seed(&[67; 32])).unwrap();
    let sealed = answer.into_iter().map(Blob).collect();
    let (kind, body) = Response::Recovery { sealed }.encode();
    tokio::spawn(async move {
        let _net = net;
        while let Some(event) = events.recv().await {
            if let NetEvent::Lane { mut lane, .. } = event
                && lane.recv_frame(frame_len_max).await.is_ok()
            {
                let _ = lane.send_frame(kind, &body).await;
            }
        }
    });
    format!("127.0.0.1:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_lie_are_found_out_and_stop_nobody() {
    let mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, 2);
    let _ = mesh.backup(&source).summary();
    let identity = mesh.identity("v");
    let recipient = recipient(&identity);
    let to_us = |plain: &[u8]| seal(std::slice::from_ref(&recipient), plain).unwrap();
    let (_, honest) = addresses(&mesh, 2);

    // A vault of the liar's own, with everything signed as it should be.
    let (vault, operator) = (SecretKey::from_seed(&[68; 32]), SecretKey::from_seed(&[69; 32]));
    let certificate = |issued: Wall| VaultCertificate {
        vault: vault.public().into(),
        operator: operator.public().into(),
        issued,
        expires: issued.after(Period::days(1)),
    };
    let secret = |issued: Wall| RecoverySecret {
        certificate: Signed::sign(&certificate(issued), &operator),
        key: vault.clone(),
        secret: VaultSecret([0; 32]),
        name: "v".into(),
    };
    let mut unsigned = secret(wall()).encode().to_vec();
    unsigned[150] ^= 1;
    for (number, (answer, said)) in [
        (vec![vec![7; 100]; 20_000], "none can be used"),
        (vec![Vec::new(); 200_000], "none can be used"),
        (vec![to_us(b"no secret of a vault"); 500], "none can be used"),
        (vec![to_us(&unsigned)], "none can be used"),
        (vec![to_us(&secret(Wall(1_000_000)).encode())], "the clock of this machine"),
        (Vec::new(), "keeps no vault"),
    ]
    .into_iter()
    .enumerate()
    {
        let address = liar(answer);
        let home = mesh.dir().join(format!("lied-to-{number}"));
        let ran = recover(&home, &identity, &[&address], &[]);
        let (message, next) = error(&ran);
        assert!(ran.code != 0 && message.contains(said) && !next.is_empty(), "{message} {next}");
        assert!(!home.join("vaults").exists());
        // With an honest one beside it everything comes back.
        let ran = recover(&home, &identity, &[&address, &honest], &[]).ok();
        assert_eq!(ran.messages("snapshot").len(), 1);
    }
    let address = liar(vec![to_us(&secret(wall()).encode())]);
    let home = mesh.dir().join("lied-to");
    let ran = recover(&home, &identity, &[&address, &honest], &[]).ended(1);
    assert_eq!(ran.messages("summary").len(), 1, "{ran:?}");
    assert_eq!(ran.messages("snapshot").len(), 1);
    let alone = recover(&mesh.dir().join("alone"), &identity, &[&address], &[]).ended(10);
    assert!(error(&alone).1.contains("--from"), "{alone:?}");
}

#[test]
fn the_kit_and_three_of_five_parts_are_enough_and_drills_show_it() {
    let mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, 5);
    let _ = mesh.backup(&source).summary();
    let identity = mesh.identity("v");
    let path = |name: &str| mesh.dir().join(name).to_str().unwrap().to_owned();
    let secret = fs::read_to_string(&identity).unwrap().trim().to_owned();

    // The kit, on paper and for a printer.
    let kit = mesh.strewn(["--quiet", "vault", "kit"]).ok().out;
    assert!(!kit.contains(&secret) && kit.contains("____") && kit.contains("strewn recover"));
    fs::write(mesh.dir().join("kit.txt"), &kit).unwrap();
    let made = mesh.strewn([
        "--json",
        "vault",
        "kit",
        "--identity",
        &path("v.identity"),
        "--html",
        &path("kit.html"),
    ]);
    let made = made.summary();
    let listed = made["addresses"].as_array().unwrap();
    assert_eq!(listed.len(), 6);
    let providers: BTreeSet<usize> = listed[..3]
        .iter()
        .map(|address| {
            (0..6).find(|&node| addresses(&mesh, node).0 == address.as_str().unwrap()).unwrap() / 2
        })
        .collect();
    assert_eq!(providers.len(), 3, "the first three are at different providers");
    let html = fs::read_to_string(path("kit.html")).unwrap();
    assert!(html.contains(&secret) && html.matches("<svg").count() == 2);
    let mode = fs::metadata(path("kit.html")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = new_identity(&mesh);
    let other = other.to_str().unwrap();
    let wrong = ["--json", "vault", "kit", "--vault", "v", "--identity", other];
    let _ = mesh.strewn(wrong).ended(12);

    // Split among five, and put together from any three.
    let split = |out: &str| {
        let identity = path("v.identity");
        let out = path(out);
        let arguments = ["--json", "vault", "split", "--vault", "v", "--need", "3", "--parts", "5"];
        let further = ["--identity", &identity, "--out", &out];
        mesh.strewn(arguments.iter().chain(&further)).ok()
    };
    let _ = split("parts");
    let _ = split("others");
    let part = |set: &str, number: u8| format!("{}/part-{number}-of-5.txt", path(set));
    let combine = |parts: &[String]| {
        let begin = ["--json".to_owned(), "vault".into(), "combine".into()];
        mesh.strewn(begin.iter().chain(parts))
    };
    let p = |number| part("parts", number);
    let combined = combine(&[p(5), p(1), p(3)]).summary();
    assert_eq!(combined["identity"], secret.as_str());
    let few = combine(&[p(1), p(2)]).ended(1);
    assert!(error(&few).0.contains("2 of the 3 parts"), "{few:?}");
    let mixed = combine(&[p(1), part("others", 2), p(3)]).ended(1);
    assert!(error(&mixed).0.contains("part 2 was made in another split"), "{mixed:?}");
    let text = fs::read_to_string(p(2)).unwrap();
    let typo = text.lines().find(|line| line.starts_with("strewnpart1-")).unwrap();
    let at = "strewnpart1-".len() + 2 * 9;
    let new = if &typo[at..=at] == "7" { "8" } else { "7" };
    let typo = format!("{}{new}{}", &typo[..at], &typo[at + 1..]);
    let typo = combine(&[p(1), typo.clone(), p(3)]).ended(1);
    let (message, next) = error(&typo);
    assert!(message.contains("part 2: group 3 is mistyped") && next.contains("paper"), "{message}");
    assert!(!typo.err.contains("strewnpart1-") && !typo.err.contains(&secret));

    // A drill with the kit and the identity that came of the parts.
    let status =
        || mesh.strewn(["--json", "status", "--vault", "v"]).ok().messages("summary").pop();
    assert!(status().unwrap()["vault"]["last_drill"].is_null());
    let again = path("combined");
    let _ = mesh.strewn(["vault", "combine", &p(2), &p(4), &p(5), "--out", &again]).ok();
    let drill = ["--json", "recovery", "drill", "--kit", &path("kit.txt"), "--identity", &again];
    for _ in 0..2 {
        let done = mesh.strewn(drill).summary();
        assert_eq!((done["good"].as_bool(), done["snapshots"].as_u64()), (Some(true), Some(1)));
        assert!(source.join(done["path"].as_str().unwrap()).exists(), "{done}");
    }
    assert!(status().unwrap()["vault"]["last_drill"].as_u64().is_some());
    let shown = mesh.strewn(["status", "--vault", "v"]).ok().out;
    assert!(shown.contains("last recovery drill: today"), "{shown}");
    // Elsewhere, with the identity alone, and what was restored stays when that is wanted.
    let (_, bare) = addresses(&mesh, 4);
    let keep = path("kept");
    let home = mesh.dir().join("elsewhere");
    let drill =
        ["--json", "recovery", "drill", "--identity", &again, "--from", &bare, "--keep", &keep];
    let done = strewn(&home, drill).summary();
    let path = done["path"].as_str().unwrap();
    assert_eq!(
        fs::read(Path::new(&keep).join(path)).unwrap(),
        fs::read(source.join(path)).unwrap()
    );
    assert!(!home.join("vaults").exists());
    // Three drills, one device.
    assert_eq!(devices(&mesh), 2);
    let listed = mesh.strewn(["--json", "device", "list", "--vault", "v"]).ok().messages("device");
    assert_eq!(listed.iter().filter(|device| device["drill"] == true).count(), 1, "{listed:?}");
    let _ = strewn(&home, ["recovery", "drill", "--identity", &again]).ended(2);
    // A command line that makes no sense says so in the language that it asks for.
    let wrong = mesh.strewn(["--json", "recovery", "dril"]).ended(2);
    let said = wrong.messages("exit_error").pop().unwrap();
    assert!(said["code"] == 2 && said["message"].as_str().unwrap().contains("dril"), "{said}");
}

#[test]
fn a_drill_that_is_told_to_end_leaves_nothing_behind() {
    let mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, 5);
    let _ = mesh.backup(&source).summary();
    let scratch = mesh.dir().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let (_, address) = addresses(&mesh, 4);
    let identity = mesh.identity("v");
    // Enough nodes are silent that it waits for them.
    mesh.nodes[1].freeze();
    let drill = ["recovery", "drill", "--identity", identity.to_str().unwrap(), "--from", &address];
    for how in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut command = mesh.command(drill);
        let mut drill = command.env("TMPDIR", &scratch).stderr(Stdio::null()).spawn().unwrap();
        let left = || fs::read_dir(&scratch).unwrap().count();
        assert!(within(Duration::from_secs(20), || left() > 0));
        signal(&drill, how);
        assert_eq!(drill.wait().unwrap().code(), Some(130), "{how:?}");
        assert_eq!(left(), 0, "{how:?}");
    }
    mesh.nodes[1].thaw();
}

/// Devices that the first node knows of the vault.
fn devices(mesh: &Mesh) -> usize {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let home = Home::new(mesh.owner().to_path_buf());
        let vault = node::client::vault::load(&home, "v").unwrap();
        let connections = Connections::connect(&home, Caller::device(&vault)).await.unwrap();
        let node = connections.nodes.values().next().unwrap();
        match node.request(&Request::Vault(vault.id)).await.unwrap() {
            Response::Vault(Some(state)) => state.devices.len(),
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn a_recovery_that_was_killed_is_done_again_and_nothing_on_the_host_is_overwritten() {
    let mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, 2);
    let _ = mesh.backup(&source).summary();
    let identity = mesh.identity("v");
    let (_, bare) = addresses(&mesh, 2);
    let before = devices(&mesh);
    let home = mesh.dir().join("killed");
    for wait in [20, 60, 120, 200, 300, 450] {
        let mut command = Command::new(program());
        command.arg("--home").arg(&home).args(["recover", "--from", &bare, "--identity"]);
        command.arg(&identity).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        let _ = child.kill();
        let _ = child.wait();
    }
    // Whatever was reached, the same command ends it, or says that it was done.
    let ran = recover(&home, &identity, &[&bare], &[]);
    assert!(ran.code == 0 || error(&ran).0.contains("already"), "{ran:?}");
    let back = mesh.dir().join("back");
    let _ = restore(&home, &identity, "latest", &back).ok();
    assert_eq!(tree_of(&source), tree_of(&back));
    assert_eq!(devices(&mesh), before + 1, "it is one device, however often it was killed");

    // The folder of another vault of that name, which was never finished.
    let home = mesh.dir().join("other");
    let key = home.join("vaults/v/vault.key");
    let _ = create_key(&key, "the signing key of a vault").unwrap();
    let kept = fs::read(&key).unwrap();
    let named = recover(&home, &identity, &[&bare], &["--name", "v"]).ended(1);
    assert!(error(&named).0.contains("already"), "{named:?}");
    let ran = recover(&home, &identity, &[&bare], &[]).ok();
    let summary = ran.messages("summary").pop().unwrap();
    assert!(summary["name"].as_str().unwrap().starts_with("recovered-"), "{summary}");
    assert_eq!(fs::read(&key).unwrap(), kept);
}
