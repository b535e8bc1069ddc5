//! A holder whose system clock was set forward.

use super::Owned;
use super::thief::Thief;
use node::service::wall;
use protocol::time::Period;
use std::process::Command;

const AHEAD: Period = Period::days(200);

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
        node.set_environment("CLOCK_AHEAD", &(AHEAD.0 / 1000).to_string());
        node.start();
    }
    // (`settle` asks as the operator of a node, whose passes count for an hour.)
    let mut thief = Thief::new(&owned.mesh).await;
    let begin = std::time::Instant::now();
    while thief.mesh.nodes.len() < 6 {
        assert!(begin.elapsed().as_secs() < 120, "the nodes do not find each other");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        thief = Thief::new(&owned.mesh).await;
    }
    let claimed = thief.mesh.nodes.values().map(|node| {
        let record = node.record.verify().unwrap();
        record.version
    });
    let ahead = claimed.filter(|version| *version > wall().0 + AHEAD.0 / 2);
    assert_eq!(ahead.count(), 4, "the clocks are set forward");
    // By their clocks the request is fresh, and the locks are long over.
    let came = thief.release_all(wall().after(AHEAD)).await;
    assert!(came.iter().all(|came| came.cooling == 0), "{came:?}");
    let locked = came.iter().filter(|came| came.locked > 0 && came.refused == 0);
    assert!(locked.clone().all(|came| came.locked_for / 86_400_000 == 89), "{came:?}");
    assert_eq!(locked.count(), 4, "{came:?}");
    owned.assert_all_restore(owned.mesh.owner());
    owned.assert_all_restore(&owned.recover(4));
}
