//! Tahoe-LAFS with six storage servers on this machine, any four of which are enough: the peer that also spreads shares.

use crate::measure::{Measured, run};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SERVERS: usize = 6;
const NEEDED: usize = 4;
/// How long a grid may take to find itself.
const START: Duration = Duration::from_secs(120);

pub(crate) struct Tahoe {
    dir: tempfile::TempDir,
    program: PathBuf,
    processes: Vec<Child>,
}

impl Drop for Tahoe {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Tahoe {
    /// Makes and starts a grid with the program at `program`.
    pub(crate) fn new(dir: &Path, program: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("tahoe-").tempdir_in(dir).expect("a folder");
        let mut grid = Self { dir, program: program.into(), processes: Vec::new() };
        let port = harness::free_port();
        grid.create("introducer", &["create-introducer".into(), at("port", port), at_public(port)]);
        grid.start("introducer");
        let furl = grid.dir.path().join("introducer/private/introducer.furl");
        wait(|| fs::read_to_string(&furl).is_ok_and(|text| !text.trim().is_empty()));
        let furl = fs::read_to_string(furl).expect("it is there");
        let introducer = format!("--introducer={}", furl.trim());
        for server in 0..SERVERS {
            let (name, port) = (format!("server-{server}"), harness::free_port());
            let create =
                ["create-node".into(), introducer.clone(), at("port", port), at_public(port)];
            grid.create(&name, &create);
            let config = grid.dir.path().join(&name).join("tahoe.cfg");
            let text = fs::read_to_string(&config).expect("a configuration");
            let quiet = |line: &str| {
                if line.starts_with("web.port") { "web.port =" } else { line }.to_owned()
            };
            let lines: Vec<String> = text.lines().map(quiet).collect();
            fs::write(config, lines.join("\n")).expect("it can be written");
            grid.start(&name);
        }
        let web = harness::free_port();
        let shares = [("needed", NEEDED), ("happy", SERVERS), ("total", SERVERS)];
        let mut create = vec!["create-client".into(), introducer, at("webport", web)];
        create.extend(shares.map(|(what, count)| format!("--shares-{what}={count}")));
        grid.create("client", &create);
        grid.start("client");
        // Six shares on six servers is what it is asked for: it refuses until it has found them all.
        let probe = grid.dir.path().join("probe");
        fs::write(&probe, [7; 1000]).expect("a file");
        wait(|| {
            let mut put = grid.command(&["put"]);
            put.arg(&probe).stderr(Stdio::null()).stdout(Stdio::null());
            put.status().is_ok_and(|status| status.success())
        });
        grid
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--node-directory").arg(self.dir.path().join("client")).args(arguments);
        command
    }

    fn create(&self, name: &str, arguments: &[String]) {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg(self.dir.path().join(name)).stdout(Stdio::null());
        assert!(command.status().is_ok_and(|status| status.success()), "{command:?} failed");
    }

    fn start(&mut self, name: &str) {
        let log = File::create(self.dir.path().join(format!("{name}.log"))).expect("a log");
        let mut command = Command::new(&self.program);
        command.args(["run", "--allow-stdin-close"]).arg(self.dir.path().join(name));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.processes.push(command.spawn().expect("it starts"));
    }

    fn cpu_time(&self) -> Duration {
        self.processes.iter().map(|process| harness::cpu_time(process.id())).sum()
    }

    /// Stores a file, and says how to read it.
    pub(crate) fn put(&self, file: &Path) -> (Measured, String) {
        let mut command = self.command(&["put"]);
        command.arg(file).stderr(Stdio::null());
        let (measured, out) = run(command, || self.cpu_time());
        (measured, out.trim().to_owned())
    }

    pub(crate) fn get(&self, capability: &str, original: &Path) -> Measured {
        let back = self.dir.path().join("back");
        let mut command = self.command(&["get", capability]);
        command.arg(&back).stderr(Stdio::null());
        let (measured, _) = run(command, || self.cpu_time());
        let is_same = fs::read(&back).expect("a file") == fs::read(original).expect("a file");
        assert!(is_same, "Tahoe-LAFS altered it");
        measured
    }
}

fn at(what: &str, port: u16) -> String {
    format!("--{what}=tcp:{port}:interface=127.0.0.1")
}

fn at_public(port: u16) -> String {
    format!("--location=tcp:127.0.0.1:{port}")
}

fn wait(mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < START, "the grid does not find itself");
        std::thread::sleep(Duration::from_millis(500));
    }
}
