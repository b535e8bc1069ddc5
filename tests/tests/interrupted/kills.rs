//! `kill -9` of the client, of one node or of two, at random moments of backups and restores, round after round; what
//! was acknowledged is looked at after each.

use super::mesh;
use harness::{Found, Mesh, bytes, tree_of, write};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Rounds of each of the two tests.
fn rounds() -> u64 {
    let rounds = std::env::var("STREWN_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    rounds.unwrap_or(100)
}

/// What everything random follows from: another one each time, unless it is given.
fn seed() -> String {
    std::env::var("STREWN_SEED").unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("after 1970").as_millis().to_string()
    })
}

type Tree = BTreeMap<PathBuf, Found>;

/// What is known of a mesh from outside.
struct World {
    mesh: Mesh,
    seed: String,
    round: u64,
    source: PathBuf,
    /// Snapshots that are listed, and what they are of.
    announced: Vec<(String, Tree)>,
    /// What a backup takes here when nobody disturbs it.
    usual: Duration,
}

impl World {
    fn new(name: &str) -> Self {
        let seed = format!("{name} {}", seed());
        println!("STREWN_SEED={:?} repeats this", &seed[name.len() + 1..]);
        let mesh = mesh(3);
        let source = mesh.dir().join("source");
        let usual = Duration::ZERO;
        let mut world = Self { mesh, seed, round: 0, source, announced: Vec::new(), usual };
        world.change();
        let begin = Instant::now();
        let first = world.mesh.backup(&world.source).summary();
        world.usual = begin.elapsed();
        let tree = tree_of(&world.source);
        world.announced.push((first["snapshot"].as_str().unwrap().into(), tree));
        world
    }

    /// A number below `end`: in the same round for the same purpose the same.
    fn drawn(&self, what: &str, end: u64) -> u64 {
        let bytes = bytes(&format!("{} {} {what}", self.seed, self.round), 8);
        u64::from_le_bytes(bytes.try_into().expect("eight bytes")) % end
    }

    /// Another content of the source: some new files, some removed, and one large enough for a second pack.
    fn change(&self) {
        for file in 0..4 {
            let len = 1000 + self.drawn(&format!("length {file}"), 300_000) as usize;
            let name = self.drawn(&format!("name {file}"), 12);
            write(
                self.source.join(format!("d{}/{name}", name % 3)),
                bytes(&format!("{}{file}", self.round), len),
            );
        }
        let _ = fs::remove_file(self.source.join(format!("d1/{}", self.drawn("gone", 12))));
        write(self.source.join("same"), bytes("same", 500_000));
        let large = 18_000_000 * u64::from(self.round.is_multiple_of(8)) as usize;
        write(self.source.join("large"), bytes(&self.round.to_string(), large));
    }

    /// Waits for a random moment, and kills nodes; whether the client is to be killed instead.
    fn strike(&mut self, client_too: bool) -> bool {
        let usual = self.usual.as_micros() as u64;
        std::thread::sleep(Duration::from_micros(self.drawn("when", usual * 6 / 5)));
        let victims =
            self.drawn("how many", if client_too { 3 } else { 2 }) + u64::from(!client_too);
        for victim in 0..victims {
            let node = self.drawn(&format!("who {victim}"), 6) as usize;
            self.mesh.nodes[node].kill();
        }
        victims == 0
    }

    /// A backup that is disturbed. One that said it was done counts; one that did not counts or does not.
    fn back_up(&mut self, client_too: bool) {
        self.change();
        let mut backup = self.mesh.spawn(["backup", self.source.to_str().unwrap()]);
        if self.strike(client_too) {
            backup.kill().unwrap();
        }
        let is_done = backup.wait().unwrap().success();
        self.mesh.start_again();
        self.mesh.settle();
        let listed = self.listed();
        let is_new = |id: &&String| !self.announced.iter().any(|(known, _)| known == *id);
        let new: Vec<String> = listed.iter().filter(is_new).cloned().collect();
        assert!(new.len() <= 1 && (!is_done || new.len() == 1), "{}: {new:?}", self.place());
        for id in new {
            let tree = tree_of(&self.source);
            self.assert_restores(&id, &tree);
            self.announced.push((id, tree));
        }
    }

    /// A restore that is disturbed, and done again.
    fn restore(&mut self, client_too: bool) {
        let which = self.drawn("which", self.announced.len() as u64) as usize;
        let (id, tree) = self.announced[which].clone();
        let target = self.mesh.dir().join("back");
        let identity = self.mesh.identity("v");
        let arguments = ["restore", &id, target.to_str().unwrap(), "--identity"];
        let arguments = arguments.into_iter().chain([identity.to_str().unwrap()]);
        let mut restore = self.mesh.spawn(arguments);
        if self.strike(client_too) {
            restore.kill().unwrap();
        }
        let is_done = restore.wait().unwrap().success();
        let found = if target.exists() { tree_of(&target) } else { Tree::new() };
        for (path, found) in &found {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_under_way = path.as_os_str().is_empty() || name.starts_with(".strewn-");
            let is_right = tree.get(path).is_some_and(|item| item.content == found.content);
            assert!(is_under_way || is_right, "{}: {}", self.place(), path.display());
        }
        self.mesh.start_again();
        self.mesh.settle();
        // It may have been killed when all was done.
        if !is_done && found != tree {
            let _ = self.mesh.restore(&id, &target, &[]).ok();
        }
        assert!(tree_of(&target) == tree, "{}: {id} came back altered", self.place());
        fs::remove_dir_all(target).unwrap();
    }

    /// After every round: nothing that was announced is gone, and nothing lies about.
    fn check(&mut self) {
        let listed = self.listed();
        for (id, _) in &self.announced {
            assert!(listed.contains(id), "{}: {id} is gone", self.place());
        }
        for node in &self.mesh.nodes {
            let incoming = fs::read_dir(node.home.join("node/incoming")).unwrap().count();
            assert_eq!(incoming, 0, "{}", self.place());
            assert!(!node.log().contains("a mistake of its own"), "{}", node.log());
        }
        // The older ones by turns.
        if self.round.is_multiple_of(4) {
            let turn = (self.round / 4) as usize % self.announced.len();
            let (id, tree) = &self.announced[turn];
            self.assert_restores(id, tree);
        }
    }

    fn listed(&self) -> Vec<String> {
        let snapshots = self.mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot");
        snapshots.iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    }

    fn assert_restores(&self, id: &str, tree: &Tree) {
        let target = self.mesh.dir().join("back");
        let _ = self.mesh.restore(id, &target, &[]).ok();
        assert!(tree_of(&target) == *tree, "{}: {id} came back altered", self.place());
        fs::remove_dir_all(target).unwrap();
    }

    fn place(&self) -> String {
        format!("round {} of {}", self.round, self.seed)
    }

    fn outlive(mut self, client_too: bool) {
        for round in 1..=rounds() {
            self.round = round;
            println!("{}", self.place());
            if self.drawn("what", 3) == 0 {
                self.restore(client_too);
            } else {
                self.back_up(client_too);
            }
            self.check();
        }
        // After all of that a backup is an ordinary thing, and everything announced outlives a provider.
        self.round += 1;
        self.change();
        let last = self.mesh.backup(&self.source).summary();
        self.announced.push((last["snapshot"].as_str().unwrap().into(), tree_of(&self.source)));
        self.mesh.destroy("a");
        let all = self.announced.len();
        println!("{all} snapshots");
        assert!(all > 2, "no round left a snapshot");
        for (id, tree) in self.announced.iter().step_by(all.div_ceil(12)) {
            self.assert_restores(id, tree);
        }
    }
}

#[test]
fn what_was_announced_outlives_killed_clients_and_nodes() {
    World::new("either").outlive(true);
}

#[test]
fn what_was_announced_outlives_killed_nodes() {
    World::new("nodes").outlive(false);
}
