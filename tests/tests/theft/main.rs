//! Everything that the owner has was stolen: the operator's key, the vault's, every device's. An attacker's program uses them
//! all, against real nodes. After each attack every snapshot comes back.

mod clock;
mod given_up;
mod history;
mod locks;
mod panel;
mod recovery;
mod space;
mod thief;

use harness::{Mesh, bytes, strewn, tree_of, write};
use std::path::{Path, PathBuf};

const POLICY: &str = "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n";

/// A vault with two snapshots on two nodes at each of three providers; what was backed up lies in two folders.
struct Owned {
    mesh: Mesh,
    /// Snapshots and what they are of.
    snapshots: Vec<(String, PathBuf)>,
}

impl Owned {
    fn new() -> Self {
        let sites = [("x", "x1"), ("x", "x2"), ("y", "y1"), ("y", "y2"), ("z", "z1"), ("z", "z2")];
        Self::on(Mesh::start(&sites))
    }

    fn on(mesh: Mesh) -> Self {
        mesh.create_vault("v", POLICY);
        let mut owned = Self { mesh, snapshots: Vec::new() };
        for name in ["first", "second"] {
            owned.back_up(name);
        }
        owned
    }

    fn back_up(&mut self, name: &str) {
        let source = self.mesh.dir().join(name);
        for file in 0..3 {
            write(source.join(file.to_string()), bytes(&format!("{name} {file}"), 400_000));
        }
        let snapshot = self.mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
        self.snapshots.push((snapshot, source));
    }

    /// Every snapshot comes back on this host, with the identity.
    fn assert_all_restore(&self, home: &Path) {
        let identity = self.mesh.identity("v");
        for (snapshot, source) in &self.snapshots {
            let target = tempfile::tempdir_in(self.mesh.dir()).unwrap();
            let target = target.path().join("back");
            let words = ["--json", "restore", snapshot].map(std::ffi::OsStr::new);
            let more = [target.as_os_str(), "--identity".as_ref(), identity.as_os_str()];
            let _ = strewn(home, words.into_iter().chain(more)).ok();
            assert!(tree_of(&target) == tree_of(source), "{snapshot} came back altered");
        }
    }

    /// An empty machine gets the vault with the identity and the address of one node.
    fn recover(&self, node: usize) -> PathBuf {
        let home = tempfile::tempdir_in(self.mesh.dir()).unwrap().keep();
        let listen =
            std::fs::read_to_string(self.mesh.nodes[node].home.join("run/listen")).unwrap();
        let address = listen.lines().find(|line| line.contains("/tcp/")).expect("it listens");
        let identity = self.mesh.identity("v");
        let words =
            ["--json", "recover", "--from", address, "--identity"].map(std::ffi::OsStr::new);
        let _ = strewn(&home, words.into_iter().chain([identity.as_os_str()])).ok();
        home
    }
}
