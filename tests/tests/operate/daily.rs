//! The daily job: profiles, and limits of bandwidth.

use super::{folder, six};
use harness::{tree_of, write};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn plain_backup_runs_the_profiles_and_one_that_fails_stops_no_other() {
    let mesh = six();
    let (one, two, none) =
        (mesh.dir().join("one"), mesh.dir().join("two"), mesh.dir().join("none"));
    folder(&one, "one", 1, 10_000);
    folder(&two, "two", 1, 10_000);
    let nothing = mesh.strewn(["--json", "backup"]).ended(2);
    let next = nothing.messages("exit_error").pop().unwrap()["next"].to_string();
    assert!(next.contains("[[backup]]"), "{next}");

    let settings = mesh.owner().join("strewn.toml");
    let before = fs::read_to_string(&settings).unwrap();
    let profile = |name: &str, sources: &[&std::path::Path]| {
        let sources: Vec<String> =
            sources.iter().map(|s| format!("{:?}", s.display().to_string())).collect();
        format!(
            "[[backup]]\nname = \"{name}\"\nvault = \"v\"\nsources = [{}]\ntags = [\"{name}\"]\n",
            sources.join(", ")
        )
    };
    let all = profile("broken", &[&none, &one]) + &profile("daily", &[&two]);
    write(&settings, before.clone() + &all);
    let ran = mesh.strewn(["--json", "backup"]).ended(1);
    assert_eq!(ran.messages("summary").len(), 2, "{}", ran.err);
    assert!(ran.err.contains("none"), "{}", ran.err);
    let sources = |tag: &str| {
        let listed = mesh.strewn(["--json", "snapshots", "--tag", tag]).ok().messages("snapshot");
        listed.iter().map(|s| s["info"]["source"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(sources("broken"), [one.display().to_string()]);
    assert_eq!(sources("daily"), [two.display().to_string()]);

    let _ = mesh.strewn(["backup", "--profile", "daily", "--tag", "again"]).ok();
    assert_eq!(sources("again"), [two.display().to_string()]);
    assert_eq!(sources("daily").len(), 2);
    let unknown = mesh.strewn(["--json", "backup", "--profile", "weekly"]).ended(2);
    assert!(unknown.err.contains("broken, daily"), "{}", unknown.err);
    let _ = mesh.strewn(["backup", "--profile", "daily", one.to_str().unwrap()]).ended(2);
    write(&settings, before + "[[backup]]\nname = \"x\"\nsources = [\"/a\"]\nexclud = []\n");
    let wrong = mesh.strewn(["--json", "backup"]).ended(1);
    assert!(wrong.err.contains("exclud"), "{}", wrong.err);
}

#[test]
fn a_limit_is_kept_both_ways() {
    const MIB: u64 = 1 << 20;
    let mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, "one", 3, 4 << 20);
    let backup = ["--json", "--limit-upload", "6MiB", "backup", source.to_str().unwrap()];
    let begin = Instant::now();
    let summary = mesh.strewn(backup).summary();
    let took = begin.elapsed();
    let sent = summary["stored_bytes"].as_u64().unwrap();
    assert!(sent >= 18 * MIB, "{summary}");
    // But for what a limit lets pass at once.
    let least = |bytes: u64| Duration::from_secs_f64((bytes - MIB) as f64 / (6 * MIB) as f64);
    assert!(took >= least(sent), "{took:?} for {sent} bytes");

    let settings = mesh.owner().join("strewn.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let limited = text.replace("[client]\n", "[client]\nlimit-download = \"6MiB\"\n");
    assert_ne!(limited, text);
    write(&settings, limited);
    let begin = Instant::now();
    let back = mesh.dir().join("back");
    let _ = mesh.restore("latest", &back, &[]).ok();
    assert!(begin.elapsed() >= least(12 * MIB), "{:?}", begin.elapsed());
    assert_eq!(tree_of(&back), tree_of(&source));
    let _ = mesh.strewn(["--limit-upload", "1KiB", "snapshots"]).ended(2);
}
