//! Links that are long, lose packets, or are cut: backups over them end well, or go on where they were.
//!
//! These tests need root (network namespaces, TUN devices) and `ip` (Debian: iproute2).

use harness::{End, Link, LinkKind, Mesh, Ran, bytes, strewn, tree_of, within, write};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Half of 80 ms.
const FAR: Duration = Duration::from_millis(40);
const POLICY: &str = "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n";
const NEAR_AND_FAR: [(&str, End); 3] = [("near", End::Near), ("f", End::Far), ("g", End::Far)];

/// Files of `mib` MiB together that nothing makes smaller.
fn noise(at: &Path, seed: &str, mib: usize) {
    for file in 0..mib.div_ceil(8) {
        let len = (mib - file * 8).min(8) << 20;
        write(at.join(file.to_string()), bytes(&format!("{seed} {file}"), len));
    }
}

fn assert_restores(mesh: &Mesh, source: &Path) {
    let target = mesh.dir().join("back");
    let _ = mesh.restore("latest", &target, &[]).ok();
    assert!(tree_of(&target) == tree_of(source), "it came back altered");
    fs::remove_dir_all(target).unwrap();
}

#[test]
fn a_long_link_that_loses_packets_is_only_slow() {
    let Some(link) = Link::new(LinkKind { delay: FAR, loss: 100, rate: 0 }) else { return };
    let mesh = Mesh::start_on(&link, &NEAR_AND_FAR);
    mesh.create_vault("v", POLICY);
    let source = mesh.dir().join("source");
    noise(&source, "lossy", 12);
    let _ = mesh.backup(&source).ok();
    assert_restores(&mesh, &source);
}

#[test]
fn a_backup_that_lost_its_network_goes_on_where_it_was() {
    let kind = LinkKind { delay: FAR, loss: 0, rate: 200_000_000 };
    let Some(link) = Link::new(kind) else { return };
    let mut mesh = Mesh::start_on(&link, &NEAR_AND_FAR);
    mesh.create_vault("v", POLICY);
    let source = mesh.dir().join("source");
    noise(&source, "cut", 96);
    let before = link.carried();
    let backup = ["--json", "backup", source.to_str().unwrap()];
    let child = mesh.command(backup).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    // Both far nodes get half of what there is, each.
    assert!(within(Duration::from_secs(120), || link.carried() - before > 60 << 20));
    link.set_up(false);
    let begin = Instant::now();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_ne!(ran.code, 0, "no policy holds over a link that is cut: {}", ran.out);
    assert!(begin.elapsed() < Duration::from_secs(180), "it ends in bounded time");
    let error = ran.messages("exit_error").pop().expect("it says why");
    assert!(error["message"].as_str().is_some_and(|why| !why.is_empty()));
    link.set_up(true);
    mesh.settle();
    let again = link.carried();
    let _ = mesh.backup(&source).summary();
    let sent = (link.carried() - again) >> 20;
    // 96 in all, 60 of which had arrived; packs under way are sent again.
    assert!(sent < 72, "{sent} MiB were sent again");
    assert_restores(&mesh, &source);
}

#[test]
fn two_owners_push_at_each_other_over_a_long_link() {
    let mib = std::env::var("STREWN_PUSH_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(64);
    let kind = LinkKind { delay: FAR, loss: 0, rate: 1_000_000_000 };
    let Some(link) = Link::new(kind) else { return };
    let mesh = Mesh::start_on(&link, &[("near", End::Near), ("far", End::Far)]);
    mesh.create_vault("v", POLICY);
    let (near, far) = (mesh.nodes[0].home.clone(), mesh.nodes[1].home.clone());
    fs::copy(near.join("operator.key"), far.join("operator.key")).unwrap();
    let policy = mesh.dir().join("v.toml");
    let create = ["vault", "create", "w", "--policy", policy.to_str().unwrap()];
    let _ = strewn(&far, create).ok();
    let sources = ["near", "far"].map(|end| mesh.dir().join("sources").join(end));
    for source in &sources {
        noise(source, source.to_str().unwrap(), mib);
    }
    let begin = Instant::now();
    let ran = std::thread::scope(|scope| {
        let backup = |home: &Path, source: &Path| {
            strewn(
                home,
                ["--json", "backup"].map(OsStr::new).into_iter().chain([source.as_os_str()]),
            )
        };
        let pushed = [(&near, &sources[0]), (&far, &sources[1])]
            .map(|(home, source)| scope.spawn(move || backup(home, source)));
        pushed.map(|pushed| pushed.join().unwrap())
    });
    let took = begin.elapsed();
    for ran in ran {
        assert_eq!(ran.summary()["bytes"], mib << 20);
    }
    assert!(!mesh.nodes.iter().any(|node| node.log().contains("nothing moves")), "a lane stalled");
    println!("{mib} MiB each way in {took:.1?}");
    assert_restores(&mesh, &sources[0]);
}

/// Not a test: `cargo test --release -p strewn-tests --test network -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn how_much_of_a_long_link_is_used() {
    let mib = std::env::var("STREWN_PUSH_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(512);
    for (delay, rate) in [(FAR, 1_000_000_000), (Duration::ZERO, 1_000_000_000), (FAR, 0)] {
        let Some(link) = Link::new(LinkKind { delay, loss: 0, rate }) else { return };
        let far = ["a", "b", "c", "d", "e", "f"].map(|provider| (provider, End::Far));
        let mesh = Mesh::start_on(&link, &[&[("near", End::Near)][..], &far].concat());
        mesh.create_vault("v", "[survive]\nany = [ { node = 2 } ]\n[lock]\nperiod = \"90d\"\n");
        let source = mesh.dir().join("source");
        noise(&source, "long", mib);
        // Or else its pages are written to the disk while the nodes write to it.
        rustix::fs::sync();
        let (namespace, address) = link.end(End::Far);
        println!("{namespace} {address}: delay {delay:?} each way, {rate} bit/s");
        let measure = |what: &str, work: &mut dyn FnMut()| {
            let (before, begin) = (link.carried(), Instant::now());
            work();
            let (took, carried) = (begin.elapsed().as_secs_f64(), link.carried() - before);
            let used = carried as f64 * 8.0 / took / 1e6;
            println!("{what}: {took:.2} s, {} MiB carried, {used:.0} Mbit/s", carried >> 20);
        };
        measure("backup", &mut || drop(mesh.backup(&source).ok()));
        let target = mesh.dir().join("back");
        measure("restore", &mut || drop(mesh.restore("latest", &target, &[]).ok()));
    }
}
