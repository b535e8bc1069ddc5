//! The status of a mesh is enough to rehearse its losses elsewhere, and the rehearsal says what the mesh itself says.

use harness::{Mesh, bytes, write};
use serde_json::Value;
use simulator::from_mesh::{FromMesh, NAME};
use simulator::scenario::read_with;
use simulator::{Verdict, study};
use std::time::Duration;

/// By the mesh, if these domains are lost: all stripes, those left, of these below the policy, those lost already.
fn by_the_mesh(mesh: &Mesh, lose: &[&str]) -> [u64; 4] {
    let mut arguments = vec!["--json", "what-if"];
    arguments.extend(lose.iter().flat_map(|label| ["--lose", label]));
    let answer = mesh.strewn(arguments).messages("summary").pop().expect("an answer");
    let count = |field: &str| answer[field].as_u64().expect("a count");
    ["stripes", "stripes_left", "stripes_below_policy", "stripes_lost_already"].map(count)
}

fn by_its_status(status: &FromMesh, lose: &[&str]) -> [u64; 4] {
    let lose: Vec<String> = lose.iter().map(ToString::to_string).collect();
    let toll = status.toll(&lose).unwrap();
    assert_eq!(toll.left_out, 0);
    [toll.stripes, toll.left, toll.below_policy, toll.lost_already]
}

/// How it ends when it is played, and of how many stripes how many can be read then.
fn played(status: &FromMesh, lose: &[&str]) -> (Verdict, u64, u64) {
    let head = "name = \"loss\"\ntitle = \"A loss\"\nduration = \"4d\"\n";
    let event =
        |label: &&str| format!("[[event]]\nat = \"1d\"\nwhat = \"destroy\"\nin = \"{label}\"\n");
    let events: String = lose.iter().map(event).collect::<Vec<_>>().concat();
    let text = format!("{head}{events}");
    let scenario = read_with("loss.toml", &text, Some(status)).unwrap();
    let row = study::play(&scenario, scenario.arrangement(NAME).unwrap(), 1).row;
    assert_eq!(row.violation, None);
    (row.verdict, row.stripes, row.readable)
}

#[test]
fn what_is_rehearsed_from_a_status_is_what_the_mesh_says() {
    let sites = [("aws", "a1"), ("aws", "a2"), ("gcp", "g1"), ("gcp", "g2"), ("ovh", "o1")];
    let mut mesh = Mesh::start(&sites);
    let policy = "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n";
    mesh.create_vault("v", policy);
    let source = mesh.dir().join("source");
    write(source.join("file"), bytes("file", 3_000_000));
    let _ = mesh.backup(&source).summary();
    let losses: [&[&str]; 4] = [
        &["provider=aws"],
        &["account=g1"],
        &["provider=aws", "provider=gcp"],
        &["provider=gcp", "account=o1"],
    ];

    let ran = mesh.strewn(["--json", "status"]);
    let status = FromMesh::read(&ran.out).unwrap();
    let said: Value = ran.summary();
    let vault = status.vault().unwrap();
    assert_eq!(vault.stripes, said["vault"]["health"]["stripes"].as_u64().unwrap());
    assert_eq!((vault.name.as_str(), vault.policy.survive.any.len()), ("v", 1));
    assert_eq!(status.survey().nodes.len(), sites.len());
    for lose in losses {
        assert_eq!(by_its_status(&status, lose), by_the_mesh(&mesh, lose), "{lose:?}");
    }
    // What exposure says must fall together is what destroys, and what is less does not.
    let exposure = said["vault"]["exposure"].as_array().unwrap();
    let provider = exposure.iter().find(|line| line["level"] == "provider").unwrap();
    assert_eq!(provider["destroy"], 2);
    let stripes = vault.stripes;
    let (_, all, left) = played(&status, &["provider=aws"]);
    assert_eq!((all, left), (stripes, stripes));
    let example: Vec<&str> = provider["destroy_example"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d.as_str().unwrap())
        .collect();
    let (verdict, all, left) = played(&status, &example);
    let [_, left_by_mesh, ..] = by_the_mesh(&mesh, &example);
    assert_eq!((verdict, all, left), (Verdict::Destroyed, stripes, left_by_mesh));

    // With a node that does not answer both count it as lost.
    mesh.nodes[4].kill();
    let silent = || {
        let ran = mesh.strewn(["--json", "status"]);
        FromMesh::read(&ran.out).unwrap()
    };
    let mut status = silent();
    let is_seen = |status: &FromMesh| {
        status.survey().nodes.iter().filter(|node| !node.state.answers()).count() == 1
    };
    assert!(harness::within(Duration::from_secs(30), || {
        status = silent();
        is_seen(&status)
    }));
    for lose in losses {
        assert_eq!(by_its_status(&status, lose), by_the_mesh(&mesh, lose), "{lose:?}");
    }
}
