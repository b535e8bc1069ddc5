//! What need not be sent: only what lies where the policy asks.

use super::{degraded, forget, lose_first, mesh};
use harness::{bytes, tree_of, write};

#[test]
fn what_was_written_below_the_policy_is_sent_again_once_it_can_be_met() {
    let mut mesh = mesh(&["aws"]);
    let source = mesh.dir().join("source");
    write(source.join("file"), bytes("file", 300_000));
    let first = degraded(&mesh, &source).summary();
    assert_eq!(first["degraded"], true);
    // As long as it cannot be met, sending it again would make nothing better.
    let second = degraded(&mesh, &source).summary();
    assert_eq!((&second["degraded"], &second["new_bytes"]), (&true.into(), &0.into()));

    mesh.add("gcp", "g1", &[]);
    mesh.add("hetzner", "h1", &[]);
    mesh.settle();
    let third = mesh.backup(&source).summary();
    assert_eq!(third["degraded"], false);
    assert!(third["new_bytes"].as_u64().unwrap() >= 300_000, "{third}");
    // And once is enough.
    let fourth = mesh.backup(&source).summary();
    assert_eq!((&fourth["degraded"], &fourth["new_bytes"]), (&false.into(), &0.into()));
    assert_eq!(fourth["stripes"], 0);

    lose_first(&mut mesh);
    let (back, again) = (mesh.dir().join("back"), mesh.dir().join("again"));
    let _ = mesh.restore("latest", &back, &[]).ok();
    assert_eq!(tree_of(&back), tree_of(&source));
    // A host that never saw any of it finds it as well.
    forget(&mesh);
    let _ = mesh.restore("latest", &again, &[]).ok();
    assert_eq!(tree_of(&again), tree_of(&source));
}

#[test]
fn an_index_below_the_policy_is_written_again_as_well() {
    let mut mesh = mesh(&["aws", "gcp"]);
    let source = mesh.dir().join("source");
    write(source.join("file"), bytes("file", 100_000));
    mesh.nodes[1].kill();
    let _ = degraded(&mesh, &source).summary();
    mesh.nodes[1].start();
    mesh.settle();
    forget(&mesh);
    let again = mesh.backup(&source).summary();
    assert_eq!(again["degraded"], false);
    assert!(again["new_bytes"].as_u64().unwrap() >= 100_000, "{again}");
    lose_first(&mut mesh);
    forget(&mesh);
    let _ = mesh.restore("latest", &mesh.dir().join("back"), &[]).ok();
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&source));
}

#[test]
fn a_holder_that_is_away_for_a_moment_makes_nothing_be_sent_again() {
    let mut mesh = mesh(&["aws", "gcp", "hetzner", "ovh"]);
    let source = mesh.dir().join("source");
    write(source.join("file"), bytes("file", 300_000));
    let first = mesh.backup(&source).summary();
    assert!(first["new_bytes"].as_u64().unwrap() >= 300_000, "{first}");
    mesh.nodes[3].kill();
    let without = mesh.backup(&source).summary();
    assert_eq!((&without["new_bytes"], &without["stripes"]), (&0.into(), &0.into()));
    assert_eq!(without["degraded"], false);
    assert!(without["notes"][0].as_str().unwrap().contains("do not answer now"), "{without}");
    // Also when all that is known comes from those who answer.
    forget(&mesh);
    let without = mesh.backup(&source).summary();
    assert_eq!((&without["new_bytes"], &without["stripes"]), (&0.into(), &0.into()));
}
