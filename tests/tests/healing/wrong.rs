//! A holder that serves wrong bytes under right names.

use super::{PATIENCE, REPAIR, assert_heals, health, is_whole, summary};
use harness::{Mesh, ROOM, bytes, files, tree_of, within};
use node::client::inventory::{Held, Inventory, devices};
use node::client::mesh::{Caller, Mesh as Connections};
use node::client::vault;
use node::home::{Home, read_key};
use protocol::id::NodeId;
use serde_json::Map;
use std::fs;
use std::path::Path;

/// The stripe with the content.
async fn content(mesh: &Mesh) -> Held {
    let home = Home::new(mesh.owner().to_owned());
    let vault = vault::load(&home, "v").unwrap();
    let connections = Connections::connect(&home, Caller::device(&vault)).await.unwrap();
    let devices = devices(&connections, &vault).await;
    let mut inventory = Inventory::new(&connections, vault.id, devices);
    let mut all = Vec::new();
    while let Some(held) = inventory.next().await {
        all.push(held);
    }
    let largest = all.into_iter().max_by_key(|held| held.record.stripe.shard_len);
    largest.expect("a stripe")
}

fn id(mesh: &Mesh, node: usize) -> NodeId {
    let home = Home::new(mesh.nodes[node].home.clone());
    read_key(&home.path("node.key")).unwrap().expect("a node's key").public().into()
}

/// Puts other bytes in place of a shard's, and leaves all that is around them.
fn alter(file: &Path) {
    const HEADER: usize = 64;
    let mut content = fs::read(file).unwrap();
    let len = u32::from_le_bytes(content[12..16].try_into().unwrap()) as usize;
    content[HEADER..HEADER + len].copy_from_slice(&bytes("a lie", len));
    fs::write(file, content).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_repairs_nor_restores_take_wrong_bytes_and_who_serves_them_is_named() {
    let sites = [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];
    // One more than is needed: two that repair at once may each put a copy somewhere.
    let spare = [("o", "o1"), ("o", "o2"), ("p", "p1"), ("p", "p2")];
    let mut mesh = Mesh::start_with_spare(&sites, &spare);
    mesh.create_vault(
        "v",
        "[survive]\nany = [ { provider = 1, node = 1 } ]\n[lock]\nperiod = \"90d\"\n",
    );
    let source = mesh.dir().join("source");
    files(&source, "wrong", 2, 5_000_000);
    let _ = mesh.backup(&source).summary();
    mesh.set(&[ROOM, PATIENCE]);
    let before = health(mesh.owner());
    let stripes = before["stripes"].as_u64().expect("stripes");
    assert!(is_whole(&before, stripes), "{before}");
    let held = content(&mesh).await;
    assert_eq!((held.record.stripe.k, held.record.stripe.n), (3, 6));

    // Who has the first shard is asked first by everybody. Its disk takes nothing more, so that it mends nothing.
    let liar = (0..sites.len()).find(|&node| id(&mesh, node) == held.record.holders[0]);
    let liar = liar.expect("a holder");
    let name = id(&mesh, liar);
    mesh.nodes[liar].kill();
    mesh.nodes[liar].set("reserve", "\"1000TiB\"");
    mesh.start_again();
    mesh.settle();
    // It reads a shard when it starts, and the next one in an hour.
    let has_read = within(REPAIR, || {
        let nodes = mesh.strewn(["--json", "peers"]).messages("node");
        let found = nodes.iter().find(|node| node["node"] == name.to_string());
        found.is_some_and(|node| node["scrub"]["read"].as_u64() > Some(0))
    });
    assert!(has_read, "{}", mesh.nodes[liar].log());
    let altered = mesh.nodes[liar].shard_files();
    for file in &altered {
        alter(file);
    }

    // A restore does without it, and whoever looks is told who it was.
    let target = mesh.dir().join("restored");
    let _ = mesh.restore("latest", &target, &[]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
    let ran = mesh.strewn(["--json", "check", "--read-data"]).ended(1);
    let found = ran.messages("summary").pop().expect("a summary");
    assert_eq!(found["problems"]["shard_damaged"], altered.len(), "{found}");
    assert_eq!(found["problems"].as_object().map(Map::len), Some(1), "{found}");
    let named = |text: &str| text.contains(&name.to_string()[..8]);
    let errors = ran.messages("error");
    assert!(errors.iter().all(|error| named(error["message"].as_str().unwrap())), "{errors:?}");

    // So does a repair, with as many right shards left as are needed and not one more: whether it asks the liar at all is left to chance.
    let lost = if mesh.nodes[liar].provider == "g" { "a" } else { "g" };
    mesh.destroy(lost);
    assert_heals(&mesh, mesh.owner(), stripes);
    // What was rebuilt is right, and it is enough without the liar.
    mesh.nodes[liar].kill();
    let found = summary(mesh.owner(), &["check", "--read-data"]);
    assert!(found["data"]["shards"].as_u64() >= Some(5), "{found}");
    assert!(found["problems"]["shard_damaged"].is_null(), "{found}");
    mesh.destroy("o");
    let again = mesh.dir().join("again");
    let _ = mesh.restore("latest", &again, &[]).ok();
    assert_eq!(tree_of(&again), tree_of(&source));
}
