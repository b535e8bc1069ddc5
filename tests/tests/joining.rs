//! How hosts become nodes of a mesh, and what becomes of tickets that are none.

use harness::{Mesh, Ran, strewn};
use std::path::Path;
use std::time::Duration;

fn ticket(mesh: &Mesh, further: &[&str]) -> String {
    let invite = ["--quiet", "invite"].iter().chain(further);
    mesh.strewn(invite).ok().out.trim().to_string()
}

fn join(home: &Path, ticket: &str, further: &[&str]) -> Ran {
    let arguments = ["join", ticket, "--listen", "/ip4/127.0.0.1/tcp/0"];
    strewn(home, arguments.iter().chain(further))
}

#[test]
fn a_ticket_admits_one_node_once() {
    let mut mesh = Mesh::start(&[("aws", "a")]);
    let [first, second] = ["first", "second"].map(|name| mesh.dir().join(name));
    let once = ticket(&mesh, &[]);
    let _ = join(&first, &once, &["--label", "provider=gcp"]).ok();
    let used = join(&second, &once, &[]).ended(1);
    assert!(used.err.contains("ticket") && used.err.contains("strewn invite"), "{}", used.err);
    // What failed is no obstacle to what is right.
    let _ = join(&second, &ticket(&mesh, &[]), &[]).ok();
    let again = join(&second, &ticket(&mesh, &[]), &[]).ended(1);
    assert!(again.err.contains("there is a node"), "{}", again.err);

    let late = ticket(&mesh, &["--expires", "1s"]);
    std::thread::sleep(Duration::from_millis(1500));
    let expired = join(&mesh.dir().join("third"), &late, &[]).ended(1);
    assert!(expired.err.contains("expired"), "{}", expired.err);

    let lonely = ticket(&mesh, &[]);
    mesh.nodes[0].kill();
    let nobody = join(&mesh.dir().join("third"), &lonely, &[]).ended(1);
    assert!(nobody.err.contains("127.0.0.1"), "{}", nobody.err);
}

#[test]
fn a_damaged_ticket_is_refused_before_anybody_is_asked() {
    let mesh = Mesh::start(&[("aws", "a")]);
    let good = ticket(&mesh, &[]);
    let home = mesh.dir().join("new");
    let mut wrong =
        vec![String::new(), "x".into(), good[..good.len() / 2].into(), format!("{good}A")];
    for at in (0..good.len()).step_by(good.len() / 12) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
        wrong.push(String::from_utf8(bytes).unwrap());
    }
    for ticket in wrong.iter().filter(|ticket| **ticket != good) {
        let refused = join(&home, ticket, &[]).ended(1);
        assert!(refused.err.contains("strewn invite"), "{ticket}: {}", refused.err);
    }
    let _ = join(&home, &good, &[]).ok();
}

#[test]
fn an_invitations_labels_are_not_the_newcomers_to_choose() {
    let mesh = Mesh::start(&[("aws", "a")]);
    let invited = ticket(&mesh, &["--label", "provider=gcp"]);
    let home = mesh.dir().join("new");
    let _ = join(&home, &invited, &["--label", "provider=hetzner"]).ended(1);
    let invited = ticket(&mesh, &["--label", "provider=gcp"]);
    let joined = join(&home, &invited, &["--label", "account=x", "--json"]).summary();
    let labels = joined["labels"].as_str().unwrap();
    assert!(labels.contains("provider=gcp") && labels.contains("account=x"), "{labels}");
}

#[test]
fn nodes_that_were_killed_find_each_other_again() {
    let mut mesh = Mesh::start(&[("aws", "a"), ("gcp", "b"), ("hetzner", "c")]);
    for _ in 0..3 {
        mesh.nodes.iter_mut().for_each(harness::Node::kill);
        let down = mesh.strewn(["peers"]).ended(10);
        assert!(down.err.contains("strewn node run"), "{}", down.err);
        mesh.nodes.iter_mut().for_each(harness::Node::start);
        mesh.settle();
    }
    let peers = mesh.strewn(["--json", "peers"]).ok().messages("node");
    let mut providers: Vec<&str> =
        peers.iter().map(|node| node["labels"]["provider"].as_str().unwrap()).collect();
    providers.sort_unstable();
    assert_eq!(providers, ["aws", "gcp", "hetzner"]);
}

#[test]
fn one_state_folder_runs_one_node() {
    let mesh = Mesh::start(&[("aws", "a")]);
    let second = mesh.strewn(["node", "run"]).ended(11);
    assert!(second.err.contains("already") || second.err.contains("another"), "{}", second.err);
}
