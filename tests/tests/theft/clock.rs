//! A holder whose system clock was set forward.

use super::Owned;
use super::thief::Thief;
use std::process::Command;

/// Adds so many seconds to what a program takes for the time of day, and nothing to time that passes.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    const char *ahead = getenv("CLOCK_AHEAD");
    if (result == 0 && clock == CLOCK_REALTIME && ahead) time->tv_sec += atol(ahead);
    return result;
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_forward_frees_nothing() {
    let mut owned = Owned::new();
    let (source, library) = (owned.mesh.dir().join("clock.c"), owned.mesh.dir().join("clock.so"));
    std::fs::write(&source, CLOCK).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.unwrap().success());
    // Locks last 90 days, and by these nodes' clocks 200 have passed.
    for node in &mut owned.mesh.nodes[2..] {
        node.kill();
        node.set_environment("LD_PRELOAD", library.to_str().unwrap());
        node.set_environment("CLOCK_AHEAD", &(200 * 86_400).to_string());
        node.start();
    }
    owned.mesh.settle();
    let thief = Thief::new(&owned.mesh).await;
    let claimed = thief.mesh.nodes.values().map(|node| {
        let record = node.record.verify().unwrap();
        record.version
    });
    let ahead = claimed.filter(|version| *version > node::service::wall().0 + 199 * 86_400_000);
    assert_eq!(ahead.count(), 4, "the clocks are set forward");
    thief.assert_all_locked().await;
    owned.assert_all_restore(owned.mesh.owner());
    owned.assert_all_restore(&owned.recover(4));
}
