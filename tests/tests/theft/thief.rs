//! Who has a copy of the owner's folder, and says with its keys whatever a test wants.

use harness::Mesh;
use node::client::ClientError;
use node::client::inventory::{Held, Inventory, devices};
use node::client::mesh::{Caller, Mesh as Connections};
use node::client::release::{Asked, Came, send};
use node::client::vault::{self, Vault};
use node::home::{Home, read_key};
use node::service::wall;
use protocol::id::StripeId;
use protocol::message::{RefusalCode, Request, Response};
use protocol::release::{RELEASE_VALIDITY_MAX, ReleaseRequest};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Wall;
use std::process::Command;
use std::sync::Arc;

/// The thief, connected to all nodes as the owner's device.
pub(crate) struct Thief {
    pub(crate) home: Home,
    pub(crate) vault: Vault,
    pub(crate) key: SecretKey,
    pub(crate) operator: SecretKey,
    pub(crate) mesh: Arc<Connections>,
}

impl Thief {
    /// Copies what the owner has, but for what the owner's node stores.
    pub(crate) async fn new(mesh: &Mesh) -> Self {
        let dir = tempfile::tempdir_in(mesh.dir()).unwrap().keep();
        for part in ["vaults", "strewn.toml", "operator.key", "node.key", "node.cert", "run"] {
            let copied =
                Command::new("cp").arg("-a").arg(mesh.owner().join(part)).arg(&dir).status();
            assert!(copied.unwrap().success(), "{part}");
        }
        let home = Home::new(dir);
        let vault = vault::load(&home, "v").unwrap();
        let operator = read_key(&home.path("operator.key")).unwrap().expect("the operator's key");
        let key = vault.key().cloned().expect("the vault's key");
        let connections = Connections::connect(&home, Caller::device(&vault)).await.unwrap();
        Self { home, vault, key, operator, mesh: Arc::new(connections) }
    }

    /// Says it to every node. How many did it, and why the others did not.
    pub(crate) async fn say(&self, request: &Request) -> (usize, Vec<RefusalCode>) {
        let (mut done, mut refused) = (0, Vec::new());
        for (_, answer) in self.mesh.ask_all(request).await {
            match answer {
                Ok(Response::Done | Response::Appended(_)) => done += 1,
                Err(ClientError::Refused { refusal, .. }) => refused.push(refusal.code),
                // Of a provider that is gone already.
                Err(ClientError::Net(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        (done, refused)
    }

    /// All stripes of the vault.
    pub(crate) async fn stripes(&self) -> Vec<Held> {
        let devices = devices(&self.mesh, &self.vault).await;
        let mut inventory = Inventory::new(&self.mesh, self.vault.id, devices);
        let mut all = Vec::new();
        while let Some(held) = inventory.next().await {
            all.push(held);
        }
        assert!(!all.is_empty());
        all
    }

    /// Asks every node to give up everything, by a request that was made then.
    pub(crate) async fn release_all(&self, issued: Wall) -> Vec<Came> {
        let stripes: Vec<StripeId> = self.stripes().await.iter().map(|held| held.stripe).collect();
        let expires = issued.after(RELEASE_VALIDITY_MAX);
        let request = ReleaseRequest { vault: self.vault.id, issued, expires, stripes };
        let asked = Asked::Everywhere(Signed::sign(&request, &self.key));
        let came = send(&self.mesh, &asked, &[]).await;
        assert!(!came.is_empty());
        came
    }

    /// Asks every node to give up everything: every shard is locked, and stays so.
    pub(crate) async fn assert_all_locked(&self) {
        let came = self.release_all(wall()).await;
        assert!(came.iter().all(|came| came.cooling == 0), "{came:?}");
        let locked: u64 = came.iter().map(|came| came.locked).sum();
        let shards: usize = self.stripes().await.iter().map(|held| held.promised.len()).sum();
        assert_eq!(locked, shards as u64, "{came:?}");
        let days = |millis: u64| millis / 86_400_000;
        assert!(
            came.iter().filter(|came| came.locked > 0).all(|came| days(came.locked_for) == 89),
            "{came:?}"
        );
    }
}
