//! Records that say different things of one stripe.

use super::mesh;
use harness::{bytes, tree_of, write};
use node::client::mesh::{Caller, Mesh as Connections};
use node::client::vault;
use node::home::Home;
use protocol::message::{Request, Response};
use protocol::record::Record;
use protocol::sign::Signed;

/// The newest record, which one node alone has, names holders that have nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_with_wrong_holders_hides_nothing_that_an_older_one_finds() {
    let mesh = mesh(&["aws", "gcp", "hetzner"]);
    let source = mesh.dir().join("source");
    write(source.join("file"), bytes("file", 300_000));
    let _ = mesh.backup(&source).summary();
    let home = Home::new(mesh.owner().to_path_buf());
    let vault = vault::load(&home, "v").unwrap();
    let nodes = Connections::connect(&home, Caller::device(&vault)).await.unwrap().nodes;
    // Nodes used to be asked in this order, and the first one was believed.
    let first = nodes.values().next().unwrap();
    let request = Request::Inventory { vault: vault.id, after: None };
    let Ok(Response::Inventory { records, .. }) = first.request(&request).await else {
        panic!("no inventory");
    };
    assert!(records.len() > 1);
    for held in records {
        let mut record: Record = held.record.verify().unwrap();
        let others: Vec<usize> =
            (0..record.holders.len()).filter(|&i| record.holders[i] != first.id).collect();
        record.holders.swap(others[0], others[1]);
        record.version += 1;
        let replace = Request::Replace(Signed::sign(&record, &vault.device));
        assert_eq!(first.request(&replace).await.unwrap(), Response::Done);
    }
    super::forget(&mesh);
    let _ = mesh.restore("latest", &mesh.dir().join("back"), &[]).ok();
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&source));
}
