//! Repair without the owner: providers are lost one after the other, nobody does anything, and everything is restored.

use harness::{Mesh, Node, ROOM, bytes, files, tree_of, within, write};
use protocol::erasure::{Codec, Slot};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// For a machine that does other work.
const REPAIR: Duration = Duration::from_secs(300);

/// What the vault's stripes and the mesh are like, as a status tells it.
fn status(mesh: &Mesh) -> Value {
    mesh.strewn(["--json", "status", "--vault", "v"]).messages("summary").pop().expect("a status")
}

#[test]
fn a_lost_provider_is_made_good_by_the_others_and_then_another_one_may_be_lost() {
    let sites = [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];
    let mut mesh = Mesh::start_with_spare(&sites, &[("o", "o1"), ("o", "o2")]);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    let source = mesh.dir().join("source");
    files(&source, "repair", 6, 5_000_000);
    let _ = mesh.backup(&source).summary();
    mesh.set(&[ROOM, ("patience", "\"20s\"")]);
    let before = status(&mesh);
    let stripes = before["vault"]["health"]["stripes"].as_u64().unwrap();
    assert_eq!(before["vault"]["health"]["healthy"], stripes, "{before}");

    // Nobody does anything but the nodes that are left.
    mesh.destroy("a");
    let mut last = Value::Null;
    let is_good = within(REPAIR, || {
        last = status(&mesh);
        last["vault"]["health"]["healthy"] == stripes
    });
    assert!(is_good, "{last}\n{}", mesh.nodes[0].log());
    assert!(mesh.nodes[6..].iter().all(|node| !node.shard_files().is_empty()));
    // The nodes say so themselves; whoever is asked first may not have ended its last repair yet.
    let repaired = |node: &Value| node["repair"]["repaired"].as_u64().unwrap_or_default();
    let lost = |node: &Value| node["repair"]["lost"].as_array().map_or(0, Vec::len);
    let is_told = within(REPAIR, || {
        last = status(&mesh);
        let nodes = last["nodes"].as_array().unwrap();
        nodes.iter().map(repaired).sum::<u64>() >= 1 && nodes.iter().any(|node| lost(node) == 2)
    });
    assert!(is_told, "{last}");
    // Whoever looks at everything finds nothing wrong but that what lay on all nodes lies on those that are left.
    let ran = mesh.strewn(["--json", "check", "--read-data"]);
    let checked = ran.messages("summary").pop().unwrap();
    let problems = checked["problems"].as_object().unwrap();
    assert!(problems.keys().all(|kind| kind == "holder_silent"), "{checked}");

    mesh.destroy("g");
    let target = mesh.dir().join("restored");
    let _ = mesh.restore("latest", &target, &[]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}

/// Bytes of shards that nodes have, and the CPU that they used.
fn totals(nodes: &[Node]) -> (u64, Duration) {
    let files = nodes.iter().flat_map(Node::shard_files);
    let len = |file| fs::metadata(file).map_or(0, |file| file.len());
    (files.map(len).sum(), nodes.iter().map(Node::cpu_time).sum())
}

/// How long one of six shards of so many bytes takes to compute from four, each time anew.
fn decoding(shard_len: usize, times: u32) -> Duration {
    let codec = Codec::new(4, 6).expect("4 of 6");
    let data = bytes("decoding", 4 * shard_len);
    let mut parity = vec![0; 2 * shard_len];
    codec.encode(&data, &mut parity).expect("whole shards");
    let mut shards: Vec<Vec<u8>> =
        data.chunks(shard_len).chain(parity.chunks(shard_len)).map(<[u8]>::to_vec).collect();
    let begun = Instant::now();
    for _ in 0..times {
        // The first is computed from the next four.
        let slots = shards.iter_mut().zip(0..);
        let slots = slots.map(|(bytes, index)| Slot { bytes, present: (1..5).contains(&index) });
        codec.reconstruct(&mut slots.collect::<Vec<_>>()).expect("four shards");
    }
    begun.elapsed() / times
}

/// How long files take that are written, synced and as long as shards.
fn writing(folder: &Path, len: usize, times: u32) -> Duration {
    let content = bytes("writing", len);
    let begun = Instant::now();
    for number in 0..times {
        let mut file = fs::File::create(folder.join(format!("written-{number}"))).expect("a file");
        file.write_all(&content).and_then(|()| file.sync_all()).expect("room on the disk");
    }
    begun.elapsed() / times
}

/// How fast a lost node's shards are made anew by real processes, beside what the erasure code and the disk could do.
#[test]
#[ignore = "a measurement, which takes minutes and two gibibytes of disk"]
fn what_repairing_takes() {
    let sites = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1"), ("f", "1")];
    let mut mesh = Mesh::start_with_spare(&sites, &[("g", "1")]);
    mesh.create_vault("v", "[survive]\nany = [ { node = 2 } ]\n[lock]\nperiod = \"90d\"\n");
    let source = mesh.dir().join("source");
    write(source.join("file"), bytes("much", 600 << 20));
    let _ = mesh.backup(&source).summary();
    mesh.set(&[ROOM, ("patience", "\"20s\""), ("repair-per-second", "\"64GiB\"")]);
    let (lost, _) = totals(&mesh.nodes[..1]);
    let shards = mesh.nodes[0].shard_files().len();
    mesh.nodes[0].destroy();
    let left = &mesh.nodes[1..];
    let (before, _) = totals(left);
    let more = || totals(left).0 - before;
    assert!(within(REPAIR, || more() > 0), "repair begins");
    let (begun, cpu) = (Instant::now(), totals(left).1);
    let first = more();
    let mut last = (first, Instant::now());
    // What lay with all nodes has no place.
    while last.1.elapsed() < Duration::from_secs(10) && more() < lost {
        let now = more();
        if now > last.0 {
            last = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let end = if more() >= lost { Instant::now() } else { last.1 };
    let (took, used) = (end - begun, totals(left).1.saturating_sub(cpu));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let made = more() - first;
    println!(
        "{shards} shards, {:.0} MiB, were lost; {:.0} MiB were made anew",
        mib(lost),
        mib(more())
    );
    println!(
        "{:.0} MiB in {took:.1?} are {:.1} MiB/s; {used:.1?} of CPU at all nodes are {:.2} s for a GiB",
        mib(made),
        mib(made) / took.as_secs_f64(),
        used.as_secs_f64() / (mib(made) / 1024.0)
    );
    let len = 4 << 20;
    let (decoded, written) = (decoding(len, 50), writing(mesh.dir(), len, 50));
    let rate = |each: Duration| mib(len as u64) / each.as_secs_f64();
    println!("4 of 6 decodes {:.0} MiB/s of what is missing on one core", rate(decoded));
    println!("files of 4 MiB are written and synced at {:.0} MiB/s", rate(written));
}
