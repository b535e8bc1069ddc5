//! The memory of a program that simulates: how much it had, and that it keeps what it has.

/// By this variable mimalloc, which programs that simulate allocate with, knows when it starts how long memory that is free may be so before the system
/// gets it back.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

/// Has the allocator keep what is freed: a simulation needs it again a moment later, and to get it anew from the system takes a tenth of its time. The program
/// begins anew for that, unless the variable is set, so that this is the first thing to be done. Where that cannot be it goes on as it is.
pub fn keep() {
    if std::env::var_os(PURGE_DELAY).is_some() {
        return;
    }
    #[cfg(unix)]
    if let Ok(program) = std::env::current_exe() {
        use std::os::unix::process::CommandExt;
        let mut anew = std::process::Command::new(program);
        let mut words = std::env::args_os();
        if let Some(name) = words.next() {
            anew.arg0(name);
        }
        // It does not come back from there, but with an error.
        let _ = anew.args(words).env(PURGE_DELAY, "-1").exec();
    }
}

/// The most memory that this process had so far, in KiB, as Linux tells; 0 elsewhere.
#[must_use]
pub fn most() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    most.and_then(|most| most.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
