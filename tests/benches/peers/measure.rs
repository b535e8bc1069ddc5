//! What a command costs: time, CPU of its processes and of those that serve it, and memory.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What one step took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    pub(crate) wall: Duration,
    /// Of the command and of all that it started.
    pub(crate) cpu: Duration,
    /// Of the nodes meanwhile.
    pub(crate) cpu_nodes: Duration,
    /// The most memory of the command, in MiB.
    pub(crate) peak_mib: u64,
    /// Bytes that were added to what is stored, before erasure coding.
    pub(crate) stored: u64,
}

/// Runs a command to its good end; what it wrote on standard output. `servers` gives the CPU time that those who serve it
/// have used.
pub(crate) fn run(mut command: Command, servers: impl Fn() -> Duration) -> (Measured, String) {
    // What others wrote before is not to be paid by whoever flushes next.
    rustix::fs::sync();
    let (own, theirs) = (children_cpu(), servers());
    let begin = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let peak_mib = watch(&mut child);
    let output = child.wait_with_output().expect("it ends");
    let wall = begin.elapsed();
    assert!(output.status.success(), "{command:?} failed");
    let cpu = children_cpu().saturating_sub(own);
    let cpu_nodes = servers().saturating_sub(theirs);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    (Measured { wall, cpu, cpu_nodes, peak_mib, stored: 0 }, out)
}

/// Looks at a process until it ends. Its output must fit a pipe.
fn watch(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while let Ok(None) = child.try_wait() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) / 1024);
        std::thread::sleep(Duration::from_millis(4));
    }
    peak
}

/// CPU of all children that were waited for: fields 16 and 17 of `/proc/self/stat`, proc(5).
fn children_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let after = stat.rsplit_once(')').expect("a name in brackets").1;
    let ticks = after.split_whitespace().skip(13).take(2).map(|n| n.parse::<u64>().expect("ticks"));
    Duration::from_secs_f64(
        ticks.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64,
    )
}
