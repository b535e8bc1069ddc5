//! How the system's allocator is set.

/// Has large memory, of packs and shards, go back to the system when it is freed. glibc would raise this threshold by itself,
/// up to 32 MiB, keep what each of its arenas had, and need a third more on large backups (mallopt(3)).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn give_back_large_memory() {
    const THRESHOLD: libc::c_int = 1 << 20;
    // SAFETY: a plain setting of the allocator, before any other thread runs.
    // If it is refused, more memory is used: nothing worse.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD) };
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back_large_memory() {}
