//! A mesh of real node processes on loopback, set up as the README says: `init`, `invite`, `join`.

use crate::link::{End, Link};
use crate::program::{Ran, command, namespace_file, strewn, within};
use rustix::process::{Pid, Signal};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// How long a process may take to come up on a machine that does other work.
const START: Duration = Duration::from_secs(60);

/// Arguments of a node that is left free: what has no room for a shard of the content takes none until it has [`ROOM`]. A policy leaves
/// no shard to those who have none otherwise.
pub const SPARE: [&str; 2] = ["--quota", "1MiB"];
/// The setting that gives room to who was left free.
pub const ROOM: (&str, &str) = ("quota", "10737418240");

/// One node: its state folder, and its process while it runs.
#[derive(Debug)]
pub struct Node {
    /// Its state folder.
    pub home: PathBuf,
    /// Its provider.
    pub provider: String,
    environment: Vec<(String, String)>,
    process: Option<Child>,
}

impl Node {
    fn new(home: PathBuf, provider: &str) -> Self {
        Self { home, provider: provider.into(), environment: Vec::new(), process: None }
    }

    /// From its next start on its process has this variable.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Starts its process, and waits until it listens.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(&mut self) {
        self.launch();
        self.wait_until_up();
    }

    fn launch(&mut self) {
        // An earlier process may have been killed.
        let _ = fs::remove_file(self.home.join("run/listen"));
        let log = File::options().create(true).append(true).open(self.home.join("log"));
        let child = command(&self.home)
            .args(["node", "run"])
            .envs(self.environment.clone())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn();
        self.process = Some(child.expect("the program starts"));
    }

    fn wait_until_up(&self) {
        let listen = self.home.join("run/listen");
        assert!(
            within(START, || listen.exists()),
            "{} does not start:\n{}",
            self.home.display(),
            self.log()
        );
    }

    /// Whether its process runs.
    pub fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Ends its process in the middle of whatever it does: SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its process stops in the middle of whatever it does, and answers nobody: SIGSTOP.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self) {
        signal(self.process.as_ref().expect("it runs"), Signal::STOP);
    }

    /// It goes on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn thaw(&self) {
        signal(self.process.as_ref().expect("it runs"), Signal::CONT);
    }

    /// Kills it and deletes everything that it had.
    ///
    /// # Panics
    /// When that cannot be deleted.
    pub fn destroy(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.home).expect("its folder can be deleted");
    }

    /// Changes a setting of the node section, which it reads when it starts.
    ///
    /// # Panics
    /// When there are no settings.
    pub fn set(&self, setting: &str, value: &str) {
        let file = self.home.join("strewn.toml");
        let text = fs::read_to_string(&file).expect("its settings");
        let others = text.lines().filter(|line| !line.starts_with(&format!("{setting} =")));
        let mut lines: Vec<String> = others.map(str::to_owned).collect();
        let at = lines.iter().position(|line| line == "[node]").expect("its settings");
        lines.insert(at + 1, format!("{setting} = {value}"));
        fs::write(&file, lines.join("\n")).expect("its settings");
    }

    /// Where it listens over TCP, with its name behind it.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn address(&self) -> String {
        let listen = fs::read_to_string(self.home.join("run/listen")).expect("it was started");
        listen.lines().find(|line| line.contains("/tcp/")).expect("it listens").to_owned()
    }

    /// What it said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// The most memory that its process had, in MiB.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let child = self.process.as_ref().expect("it runs");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        let kib: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("KiB");
        kib / 1024
    }

    /// The CPU time that its process used. Nothing when it does not run.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.process.as_ref().map_or(Duration::ZERO, |process| cpu_time(process.id()))
    }

    /// The files of the shards that it holds.
    #[must_use]
    pub fn shard_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.home.join("node/shards")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The CPU time of a process: fields 14 and 15 of `/proc/PID/stat`, proc(5). Nothing when there is none.
#[must_use]
pub fn cpu_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
    let per_second = rustix::param::clock_ticks_per_second();
    Duration::from_secs_f64(ticks.sum::<u64>() as f64 / per_second as f64)
}

/// Sends a process a signal.
///
/// # Panics
/// When it has ended and was waited for.
pub fn signal(process: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(process), signal).expect("it is there");
}

/// Nodes that know each other. Commands run in the state folder of the first one, which is the owner's.
#[derive(Debug)]
pub struct Mesh {
    dir: TempDir,
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// A port that nobody listens on here, neither over TCP nor over UDP, and that no other node of these tests was given. None
/// from which the system takes those of outgoing connections (32,768 and up on Linux): a node that starts again would find
/// its own taken.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(397);
    loop {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + number).expect("below 32,768");
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", port)).is_ok()
        {
            return port;
        }
    }
}

fn listen(address: &str) -> [String; 4] {
    let port = free_port();
    [
        "--listen".into(),
        format!("/ip4/{address}/tcp/{port}"),
        "--listen".into(),
        format!("/ip4/{address}/udp/{port}/quic-v1"),
    ]
}

fn labels(provider: &str, account: &str) -> [String; 4] {
    [
        "--label".into(),
        format!("provider={provider}"),
        "--label".into(),
        format!("account={account}"),
    ]
}

impl Mesh {
    /// One node per (provider, account). They keep their addresses when they are started again.
    ///
    /// # Panics
    /// When a step fails.
    #[must_use]
    pub fn start(sites: &[(&str, &str)]) -> Self {
        Self::start_in(&std::env::temp_dir(), sites)
    }

    /// The same, each with further arguments of `init` or `join`.
    ///
    /// # Panics
    /// When a step fails.
    #[must_use]
    pub fn start_with(sites: &[(&str, &str)], further: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let mut mesh = Self { dir, nodes: Vec::new() };
        for (provider, account) in sites {
            mesh.add(provider, account, further);
        }
        mesh.settle();
        mesh
    }

    /// The same, with all state below a folder.
    ///
    /// # Panics
    /// When a step fails.
    #[must_use]
    pub fn start_in(folder: &Path, sites: &[(&str, &str)]) -> Self {
        let dir = TempDir::new_in(folder).expect("a temporary folder");
        let mut mesh = Self { dir, nodes: Vec::new() };
        for (provider, account) in sites {
            mesh.add(provider, account, &[]);
        }
        mesh.settle();
        mesh
    }

    /// One node per (provider, account), and further ones that are left free until they get [`ROOM`].
    ///
    /// # Panics
    /// When a step fails.
    #[must_use]
    pub fn start_with_spare(sites: &[(&str, &str)], spare: &[(&str, &str)]) -> Self {
        let mut mesh = Self::start(sites);
        for (provider, account) in spare {
            mesh.add(provider, account, &SPARE);
        }
        mesh.settle();
        mesh
    }

    /// One node per (provider, end), each at its end of the link.
    ///
    /// # Panics
    /// When a step fails.
    #[must_use]
    pub fn start_on(link: &Link, sites: &[(&str, End)]) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let mut mesh = Self { dir, nodes: Vec::new() };
        for (provider, end) in sites {
            mesh.add_on(link, *end, provider, &[]);
        }
        mesh.settle();
        mesh
    }

    /// Adds a node at an end of the link, with further arguments of `init` or `join`.
    ///
    /// # Panics
    /// When a step fails.
    pub fn add_on(&mut self, link: &Link, end: End, provider: &str, further: &[&str]) {
        let (namespace, address) = link.end(end);
        let home = self.dir.path().join(format!("node-{}", self.nodes.len()));
        fs::write(namespace_file(&home), namespace).expect("a file");
        self.add_at(address, provider, provider, further);
    }

    /// Adds a node with further arguments of `init` or `join`.
    ///
    /// # Panics
    /// When a step fails.
    pub fn add(&mut self, provider: &str, account: &str, further: &[&str]) {
        self.add_at("127.0.0.1", provider, account, further);
    }

    fn add_at(&mut self, address: &str, provider: &str, account: &str, further: &[&str]) {
        let index = self.nodes.len();
        let home = self.dir.path().join(format!("node-{index}"));
        let place = labels(provider, account);
        let further = further.iter().map(ToString::to_string);
        let arguments = listen(address).into_iter().chain(further);
        if index == 0 {
            let init = ["init".to_string()].into_iter().chain(place).chain(arguments);
            let _ = strewn(&home, init).ok();
        } else {
            let invite = ["--quiet", "invite"].map(str::to_string).into_iter().chain(place);
            let ticket = strewn(self.owner(), invite).ok().out.trim().to_string();
            let join = ["join".to_string(), ticket].into_iter().chain(arguments);
            let _ = strewn(&home, join).ok();
        }
        let mut node = Node::new(home, provider);
        node.start();
        self.nodes.push(node);
    }

    /// Waits until the owner reaches all nodes that run.
    ///
    /// # Panics
    /// When it does not.
    pub fn settle(&mut self) {
        let running = self.nodes.iter_mut().filter_map(|node| node.is_up().then_some(())).count();
        let mut said = String::new();
        let mut up = || {
            let peers = self.strewn(["--json", "peers"]);
            said.clone_from(&peers.out);
            peers.messages("node").iter().filter(|node| node["up"] == true).count()
        };
        let is_settled = within(START, || up() == running);
        assert!(is_settled, "the nodes do not find each other:\n{said}");
    }

    /// Starts the nodes that were killed, all at once.
    ///
    /// # Panics
    /// When one does not come up.
    pub fn start_again(&mut self) {
        let down: Vec<&mut Node> =
            self.nodes.iter_mut().filter_map(|node| (!node.is_up()).then_some(node)).collect();
        let mut started = Vec::new();
        for node in down {
            node.launch();
            started.push(node);
        }
        for node in started {
            node.wait_until_up();
        }
    }

    /// Changes settings of all nodes, which start again.
    ///
    /// # Panics
    /// When one does not come up.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        for node in &mut self.nodes {
            node.kill();
            for (setting, value) in settings {
                node.set(setting, value);
            }
        }
        self.start_again();
        self.settle();
    }

    /// What can be said while no node of a provider runs; then they run again.
    ///
    /// # Panics
    /// When one does not come up.
    pub fn without(&mut self, provider: &str, check: impl FnOnce(&Self)) {
        self.nodes.iter_mut().filter(|node| node.provider == provider).for_each(Node::kill);
        check(self);
        self.start_again();
        self.settle();
    }

    /// A folder for whatever a test needs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The owner's state folder.
    #[must_use]
    pub fn owner(&self) -> &Path {
        &self.nodes[0].home
    }

    /// Runs the program as the owner.
    pub fn strewn<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        strewn(self.owner(), arguments)
    }

    /// The program as the owner, to be started with further settings.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = command(self.owner());
        command.args(arguments);
        command
    }

    /// Starts the program as the owner, to be waited for or killed. What it says goes nowhere.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Child {
        let mut command = command(self.owner());
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the program starts")
    }

    /// Makes a vault with this policy. Its identity is in the file [`Mesh::identity`].
    ///
    /// # Panics
    /// When that fails.
    pub fn create_vault(&self, name: &str, policy: &str) {
        let file = self.dir().join(format!("{name}.toml"));
        fs::write(&file, policy).expect("a policy file");
        let arguments = ["--json", "vault", "create", name, "--policy"].map(OsStr::new);
        let made = self.strewn(arguments.into_iter().chain([file.as_os_str()])).summary();
        let identity = made["identity"].as_str().expect("a recovery identity");
        fs::write(self.identity(name), identity).expect("an identity file");
    }

    /// The file with a vault's recovery identity.
    #[must_use]
    pub fn identity(&self, vault: &str) -> PathBuf {
        self.dir().join(format!("{vault}.identity"))
    }

    /// Backs up into the only vault.
    pub fn backup(&self, source: &Path) -> Ran {
        self.strewn([OsStr::new("--json"), OsStr::new("backup"), source.as_os_str()])
    }

    /// Restores from the vault `v`, with its identity.
    pub fn restore(&self, snapshot: &str, target: &Path, further: &[&str]) -> Ran {
        let identity = self.identity("v");
        let mut arguments = vec![OsStr::new("--json"), OsStr::new("restore"), OsStr::new(snapshot)];
        arguments.extend([target.as_os_str(), OsStr::new("--identity"), identity.as_os_str()]);
        arguments.extend(further.iter().map(OsStr::new));
        self.strewn(arguments)
    }

    /// Destroys all nodes of a provider.
    pub fn destroy(&mut self, provider: &str) {
        self.nodes.iter_mut().filter(|node| node.provider == provider).for_each(Node::destroy);
    }
}
