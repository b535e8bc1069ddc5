//! The tools that are compared, each driven as its users drive it.

use crate::measure::{Measured, run};
use harness::{Mesh, tree_of};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where restored things go when they were compared. They are deleted at the very end: ext4 looks long for a free inode
/// while thousands were freed within the last half minute.
fn put_away(dir: &Path, restored: &Path) {
    let bin = dir.join("restored");
    fs::create_dir_all(&bin).expect("a folder");
    let number = fs::read_dir(&bin).expect("a folder").count();
    fs::rename(restored, bin.join(number.to_string())).expect("it can be moved");
}

/// restic with a repository in a folder.
pub(crate) struct Restic {
    dir: tempfile::TempDir,
}

fn size_of(folder: &Path) -> u64 {
    let mut size = 0;
    let mut left = vec![folder.to_path_buf()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let meta = entry.metadata().expect("it is there");
            if meta.is_dir() { left.push(entry.path()) } else { size += meta.len() }
        }
    }
    size
}

impl Restic {
    pub(crate) fn new(dir: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("restic-").tempdir_in(dir).expect("a folder");
        let restic = Self { dir };
        run(restic.command(&["init", "--quiet"]), || Duration::ZERO);
        restic
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command.env("RESTIC_PASSWORD", "secret").stderr(Stdio::inherit());
        command.arg("--repo").arg(self.dir.path().join("repository"));
        command.arg("--cache-dir").arg(self.dir.path().join("cache")).args(arguments);
        command
    }

    pub(crate) fn backup(&self, source: &Path) -> Measured {
        let repository = self.dir.path().join("repository");
        let before = size_of(&repository);
        let mut command = self.command(&["backup", "--quiet"]);
        command.arg(source);
        let (measured, _) = run(command, || Duration::ZERO);
        Measured { stored: size_of(&repository) - before, ..measured }
    }

    /// Bytes of the index, as stored.
    pub(crate) fn index_size(&self) -> u64 {
        size_of(&self.dir.path().join("repository/index"))
    }

    /// Restores the latest snapshot, or what of it lies at one path.
    pub(crate) fn restore(&self, source: &Path, only: Option<&Path>) -> Measured {
        let target = self.dir.path().join("back");
        let mut command = self.command(&["restore", "latest", "--quiet", "--target"]);
        command.arg(&target);
        if let Some(only) = only {
            command.arg("--include").arg(source.join(only));
        }
        let (measured, _) = run(command, || Duration::ZERO);
        let back = target.join(source.strip_prefix("/").expect("an absolute path"));
        let only = only.unwrap_or(Path::new(""));
        assert!(tree_of(&back.join(only)) == tree_of(&source.join(only)), "restic altered it");
        put_away(self.dir.path().parent().expect("a folder"), &target);
        measured
    }
}

/// Strewn with six nodes at six providers, any two of which may be lost.
pub(crate) struct Strewn {
    mesh: Mesh,
    runs: usize,
}

const POLICY: &str = "[survive]\nany = [ { provider = 2 } ]\n[lock]\nperiod = \"90d\"\n";
const PROVIDERS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

impl Strewn {
    pub(crate) fn new(dir: &Path) -> Self {
        let mesh = Mesh::start_in(dir, &PROVIDERS.map(|provider| (provider, provider)));
        mesh.create_vault("v", POLICY);
        Self { mesh, runs: 0 }
    }

    /// Bytes that the nodes hold, before erasure coding.
    fn stored(&self) -> u64 {
        let files = self.mesh.nodes.iter().flat_map(harness::Node::shard_files);
        files.map(|file| fs::metadata(file).expect("a shard").len()).sum::<u64>() * 4 / 6
    }

    fn cpu_of_nodes(&self) -> Duration {
        self.mesh.nodes.iter().map(harness::Node::cpu_time).sum()
    }

    /// Bytes of the index on the host that backs up.
    pub(crate) fn index_size(&self) -> u64 {
        size_of(&self.mesh.owner().join("vaults/v/cache"))
    }

    /// Backs up, and says which snapshots came of it.
    pub(crate) fn backup(&self, sources: &[PathBuf]) -> (Measured, Vec<String>) {
        let before = self.stored();
        let mut command = self.mesh.command(["--json", "backup"]);
        command.args(sources);
        let (measured, out) = run(command, || self.cpu_of_nodes());
        let snapshots = out.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            Some(line["snapshot"].as_str()?.to_owned())
        });
        (Measured { stored: self.stored() - before, ..measured }, snapshots.collect())
    }

    /// Restores snapshots, or what of them is called so.
    pub(crate) fn restore(
        &mut self,
        snapshots: &[String],
        sources: &[PathBuf],
        only: Option<&Path>,
    ) -> Measured {
        self.runs += 1;
        let back = self.mesh.dir().join(format!("back-{}", self.runs));
        let is_git = |source: &Path| source.extension().is_some_and(|end| end == "git");
        let is_wanted =
            |source: &Path| only.is_none_or(|only| !is_git(source) || source.ends_with(only));
        let wanted = snapshots.iter().zip(sources).filter(|(_, source)| is_wanted(source));
        let wanted: Vec<(&String, &PathBuf)> = wanted.collect();
        let place = |source: &Path| match wanted[..] {
            [_] => back.clone(),
            _ => back.join(source.file_name().expect("a name")),
        };
        let mut command = self.mesh.command(["--json", "restore"]);
        command.args(wanted.iter().map(|(snapshot, _)| snapshot)).arg(&back);
        command.arg("--identity").arg(self.mesh.identity("v"));
        let path = only.filter(|_| !wanted.iter().any(|(_, source)| is_git(source)));
        command.args(path.iter().flat_map(|path| ["--path".as_ref(), path.as_os_str()]));
        let (measured, _) = run(command, || self.cpu_of_nodes());
        for (_, source) in &wanted {
            let target = place(source);
            if is_git(source) {
                let refs = |at: &Path| harness::git(at, ["for-each-ref"]);
                assert_eq!(refs(&target), refs(source));
            } else if source.is_file() {
                let file = target.join(source.file_name().expect("a name"));
                let read = |file: &Path| fs::read(file).expect("a file");
                assert!(read(&file) == read(source), "Strewn altered it");
            } else {
                let path = path.unwrap_or(Path::new(""));
                assert!(
                    tree_of(&target.join(path)) == tree_of(&source.join(path)),
                    "Strewn altered it"
                );
            }
        }
        put_away(self.mesh.dir().parent().expect("a folder"), &back);
        measured
    }

    /// Ends two nodes, not the owner's.
    pub(crate) fn lose_two(&mut self) {
        self.mesh.nodes[4..].iter_mut().for_each(harness::Node::kill);
    }

    pub(crate) fn return_all(&mut self) {
        self.mesh.nodes[4..].iter_mut().for_each(harness::Node::start);
        self.mesh.settle();
    }

    /// The most memory that one of the nodes had, in MiB.
    pub(crate) fn peak_of_nodes(&self) -> u64 {
        self.mesh.nodes.iter().map(harness::Node::peak_memory).max().unwrap_or(0)
    }
}
