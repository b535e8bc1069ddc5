//! The shipped scenarios end as they say they do, wrong files are told what is wrong with them, and a study in parts is the
//! same as in one.

use protocol::time::Period;
use simulator::Verdict;
use simulator::from_mesh::FromMesh;
use simulator::plan::Moment;
use simulator::scenario::{Arrangement, Kind, Scenario, library, read};
use simulator::study::{
    COLUMNS, MergeError, Row, Runs, Study, course, json, merge, play, table, through,
};

fn study(scenario: &Scenario, seeds: (u64, u64), shard: (usize, usize)) -> Study<'_> {
    let arrangements: Vec<&Arrangement> = scenario.arrangements.iter().collect();
    Study { scenario, text: "text".into(), arrangements, seeds, shard }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn every_shipped_scenario_ends_as_it_says() {
    let mut wrong = Vec::new();
    for scenario in library().unwrap() {
        for row in study(&scenario, (1, 1), (1, 1)).run(threads(), &|_| ()).rows {
            if !row.unexpected.is_empty() {
                wrong.push(format!("{} {}: {}", row.scenario, row.arrangement, row.unexpected));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Two copies, and losses that a seed draws: quick, and different for every seed.
const COPIES: &str = r#"
name = "drawn"
title = "Accounts that come and go"
duration = "30d"

[[rate]]
mean = "20d"
what = "delete"
in = ["account=a", "account=b"]

[[arrangement]]
name = "one"
title = "One copy"
expect = ["survived", "destroyed"]
[[arrangement.copy]]
labels = ["account=a"]

[[arrangement]]
name = "two"
title = "Two, copies \"apart\""
expect = ["survived"]
[[arrangement.copy]]
labels = ["account=a"]
[[arrangement.copy]]
labels = ["account=b"]
every = "1d"
"#;

#[test]
fn a_study_in_parts_is_the_same_as_in_one_byte_for_byte() {
    let scenario = read("drawn.toml", COPIES).unwrap();
    let whole = study(&scenario, (1, 101), (1, 1)).run(1, &|_| ());
    let part = |seeds, part, parts| {
        let runs = study(&scenario, seeds, (part, parts)).run(threads(), &|_| ());
        (format!("part{part}.json"), runs)
    };
    let written = |runs: &Runs| serde_json::to_vec_pretty(runs).unwrap();
    let read_back = |(name, runs): (String, Runs)| -> (String, Runs) {
        (name, serde_json::from_slice(&written(&runs)).unwrap())
    };
    let parts: Vec<(String, Runs)> = [3, 1, 2].map(|n| read_back(part((1, 101), n, 3))).into();
    assert_eq!(written(&merge(parts.clone()).unwrap()), written(&whole));
    let told = |parts: &[(String, Runs)]| merge(parts.to_vec()).unwrap_err().to_string();
    let twice = [parts[0].clone(), parts[1].clone(), parts[0].clone()];
    assert!(matches!(merge(twice.to_vec()), Err(MergeError::Twice { shard: (3, 3), .. })));
    assert_eq!(told(&parts[..2]), "of 3 parts these are missing: 2");
    let other = |runs: Runs| [parts[0].clone(), parts[1].clone(), ("mine.json".into(), runs)];
    let another = Runs { text: "another".into(), ..parts[2].1.clone() };
    assert_eq!(
        told(&other(another)),
        "mine.json is of another study than part3.json: its scenario's text has the hash another, there has the hash text"
    );
    // As many runs, of other seeds.
    assert_eq!(
        told(&other(part((201, 301), 2, 3).1)),
        "mine.json is of another study than part3.json: its seeds are 201..301, there are 1..101"
    );
    // As many runs, of another arrangement with twice the seeds.
    let mut one = study(&scenario, (1, 202), (2, 3));
    one.arrangements.pop();
    assert!(told(&other(one.run(1, &|_| ()))).contains("its seeds are 1..202"));
    let mut renamed = parts[2].1.clone();
    renamed.arrangements.reverse();
    assert!(told(&other(renamed)).contains("mine.json is damaged"));
    let mut cut = parts[2].1.clone();
    cut.rows.pop();
    assert_eq!(told(&other(cut)), "mine.json is damaged: run 199 is missing");
    let ends: std::collections::BTreeSet<_> =
        whole.rows.iter().map(|row| format!("{:?}", row.verdict)).collect();
    assert!(ends.len() > 2, "seeds that all end alike test nothing: {ends:?}");
}

#[test]
fn csv_says_what_json_says() {
    let scenario = read("drawn.toml", COPIES).unwrap();
    let runs = study(&scenario, (1, 20), (1, 1)).run(1, &|_| ());
    let text = table(&runs.rows).csv();
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), COLUMNS.map(|(name, _)| name).join(","));
    for (line, row) in lines.zip(&runs.rows) {
        let fields: Vec<&str> = line.split(',').collect();
        let json = json(row);
        assert_eq!(fields[1], json["arrangement"].as_str().unwrap());
        assert_eq!(fields[2], json["seed"].to_string());
        assert_eq!(fields[3], format!("{:?}", row.verdict).to_lowercase());
        assert_eq!(fields[6], json["readable"].to_string());
        assert_eq!(fields[8], json["unreadable_ms"].to_string());
        assert_eq!(fields[3], json["verdict"]);
        assert_eq!(fields[4], json["as_expected"].to_string());
        let names = json.as_object().unwrap().keys().map(String::as_str);
        let columns = COLUMNS.map(|(name, _)| name);
        assert!(
            names.clone().count() == columns.len() && names.clone().all(|n| columns.contains(&n))
        );
    }
    assert_eq!(text.lines().count(), 41);
}

#[test]
fn wrong_files_are_told_the_line_and_what_is_expected() {
    let told = |from: &str, to: &str| {
        assert!(COPIES.contains(from), "{from}");
        read("mine.toml", &COPIES.replacen(from, to, 1)).unwrap_err().to_string()
    };
    assert_eq!(
        told("account=b\"]\n\n", "account=c\"]\n\n"),
        "mine.toml:9:20: no arrangement has a domain \"account=c\"\n  9 | in = [\"account=a\", \"account=c\"]\n    |                    ^\n  expected: account=a, account=b"
    );
    assert_eq!(
        told("\"delete\"", "\"explode\""),
        "mine.toml:8:8: \"explode\" has no rate\n  8 | what = \"explode\"\n    |        ^\n  expected: destroy, delete, dark or restart"
    );
    assert_eq!(
        told("\"30d\"", "\"30 days\""),
        "mine.toml:4:12: \"30 days\" is not a span of time: write 90d, 12h, 15m, 30s or 250ms\n  4 | duration = \"30 days\"\n    |            ^"
    );
    assert_eq!(
        told("[\"survived\", \"destroyed\"]", "[\"saved\"]"),
        "mine.toml:14:11: \"saved\" is no verdict\n  14 | expect = [\"saved\"]\n     |           ^\n  expected: survived, degraded, unreachable, destroyed"
    );
    let unknown = told("mean = ", "means = ");
    assert!(unknown.starts_with("mine.toml:7:1: unknown field `means`\n"), "{unknown}");
    let wrong = |from: &str, to: &str, what: &str, expected: &str| {
        let told = told(from, to);
        assert!(told.contains(what) && told.contains(expected), "{told}");
    };
    wrong("mean = ", "period = \"1h\"\nmean = ", "delete has no `period`", "mean, from");
    wrong("mean = ", "from = \"30d\"\nmean = ", "30d is after the end", "before the end");
    wrong("mean = ", "from = \"9d\"\nuntil = \"8d\"\nmean = ", "8d is not after", "after `from`");
    wrong("every = \"1d\"", "lock_period = \"1d\"", "a lock that this copy has not", "lock = ");
    wrong("every = \"1d\"", "lock = \"none\"\nlock_period = \"1d\"", "has not", "compliance");
    let no_time = "lock = \"compliance\"\nlock_period = \"0d\"";
    wrong("every = \"1d\"", no_time, "mine.toml:27:15: a lock that ends at once", "left out");
    let stops = "[[event]]\nat = \"1d\"\nwhat = \"stop-backups\"\nuntil = \"cooling\"\n\n[[rate]]";
    wrong("[[rate]]", stops, "stop-backups waits for no moment", "at, what");
    wrong("[[rate]]", &stops.replace("until = ", "in = "), "has no `in`", "at, what");
    wrong(
        "[\"account=a\", \"account=b\"]",
        "\"account=a\"",
        "invalid type",
        "expected: a list, in brackets",
    );
    let status = FromMesh::read("[1,2").unwrap_err().to_string();
    assert!(status.contains("strewn status --json") && !status.contains("struct"), "{status}");
    let empty = read("mine.toml", " \n").unwrap_err().to_string();
    assert!(empty.contains("is empty") && empty.contains("--toml"), "{empty}");
}

/// What a mesh's file is told, with something of it said otherwise.
fn told_of_mesh(from: &str, to: &str) -> String {
    assert!(REPAIRED.contains(from), "{from}");
    read("mine.toml", &REPAIRED.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn a_mesh_that_can_keep_nothing_is_refused() {
    let misspelt = told_of_mesh("{ account = 1 }", "{ acount = 1 }");
    assert!(misspelt.contains("clause acount=1: 1 acounts reachable, 3 needed"), "{misspelt}");
    assert!(misspelt.contains("account, node, operator, provider"), "{misspelt}");
    let many = told_of_mesh("{ account = 1 }", "{ account = 9 }");
    assert!(many.contains("clause account=9: 8 accounts reachable"), "{many}");
    let wide = told_of_mesh("[2, 3]", "[6, 80]");
    assert!(wide.starts_with("mine.toml:21:8: [6, 80] cannot keep this policy on these 16 nodes: each shard needs a node of its own, and 80 are asked for\n"), "{wide}");
    assert!(
        wide.contains(
            "expected: [6, 16] with as many data shards; [14, 16], which the planner picks"
        ),
        "{wide}"
    );
    let guardians = "code = [2, 3]\nguardians = { need = 1, of = [\"nobody\"] }";
    let guarded = told_of_mesh("code = [2, 3]", guardians);
    assert!(guarded.contains("no node has an operator \"nobody\""), "{guarded}");
}

#[test]
fn no_sentence_of_a_topology_brings_the_reader_down() {
    let generate = "\"4 providers x 2 accounts x 2 nodes\"";
    for sentence in ["2 ärzte x 2 nodes", "2 s x 2 nodes", "2 x 2 nodes", "2 nodes x 2 nodes"] {
        let told = told_of_mesh(generate, &format!("{sentence:?}"));
        assert!(told.starts_with("mine.toml:11:12: "), "{told}");
    }
    assert!(told_of_mesh(generate, "\"2 ärzte x 2 nodes\"").contains("is not a level: lower-case"));
    let with = |more: &str| told_of_mesh(generate, &format!("{generate}\n{more}"));
    assert!(with("spread = { \"é\" = 2 }").starts_with("mine.toml:12:18: \"é\" is not a level"));
    assert!(with("spread = { region = 0 }").contains("nodes cannot be spread over 0 domains"));
    assert!(with("names = [\"a\", \"a\"]").starts_with("mine.toml:12:15: \"a\" is no name"));
    assert!(with("names = [\"p2\"]").contains("\"p2\" is no name"));
    let node = "[[topology.node]]\noperator = \"\"\nlabels = []";
    assert!(with(node).contains("nobody runs this node"), "{}", with(node));
    let negative = with(&node.replace("\"\"", "\"us\"\ncount = -3"));
    assert!(negative.contains("expected: a whole number, not below 0"), "{negative}");
}

#[test]
fn a_run_says_what_struck_it_what_failed_and_how_old_the_last_backup_is() {
    let text = REPAIRED
        .replace("every = \"7d\"", "every = \"1d\"")
        .replace("stripes = 12", "stripes = 2\nchanged_per_mille = 1000")
        .replace("at = \"1d\"", "at = \"36h\"");
    let more = r#"
[[event]]
at = "37h"
what = "destroy"
in = "account=p1/1"

[[event]]
at = "2d"
what = "destroy"
in = "account=p2/1"

[[event]]
at = "60h"
what = "dark"
in = "account=p2/1"
period = "6h"

[[event]]
at = "61h"
what = "recover"

[[event]]
at = "3d"
what = "steal-keys"

[[arrangement]]
name = "repairs"
"#;
    let text = text.replacen("\n[[arrangement]]\nname = \"repairs\"\n", more, 1);
    // Fourteen of sixteen nodes hold everything: after the first loss no backup finds a place, and what is there falls with the second.
    let text = text.replacen("code = [2, 3]\n", "code = [14, 16]\n", 1);
    let text = text.replacen("code = [2, 3]\n", "code = [1, 3]\n", 1);
    let scenario = read("mine.toml", &text).unwrap();
    let arrangement = &scenario.arrangements[0];
    let row = play(&scenario, arrangement, 1).row;
    assert_eq!(row.violation, None);
    assert_eq!(row.lost, ["account=p1/1 vanished", "account=p2/1 vanished"]);
    assert_eq!(
        through(&scenario, arrangement, &row),
        ["account=p1/1", "account=p2/1", "the owner's stolen keys"]
    );
    assert_eq!((row.backups, row.backups_failed), (Some(2), Some(4)), "{row:?}");
    // Node 0, which `recover` asks, is gone.
    assert_eq!((row.restores, row.restores_failed), (0, 2), "{row:?}");
    let kept = play(&scenario, &scenario.arrangements[1], 1).row;
    assert_eq!((kept.backups, kept.backups_failed), (Some(6), Some(0)), "{kept:?}");
    assert_eq!(kept.work_lost, Some(Period::seconds(11 * 3600)), "{kept:?}");
}

#[test]
fn a_mesh_whose_backups_were_stopped_writes_nothing_more() {
    let text = REPAIRED.replace("every = \"7d\"", "every = \"1d\"");
    let stop = "[[event]]\nat = \"30h\"\nwhat = \"stop-backups\"\n\n[[event]]\nat = \"3d\"\n";
    let text = text.replacen("[[event]]\nat = \"1d\"\n", stop, 1);
    let scenario = read("mine.toml", &text).unwrap();
    let arrangement = &scenario.arrangements[0];
    let row = play(&scenario, arrangement, 1).row;
    assert_eq!((row.backups, row.backups_failed), (Some(2), Some(0)), "{row:?}");
    // The last one began an hour into the second day.
    assert_eq!(row.work_lost, Some(Period::seconds((72 - 25) * 3600)), "{row:?}");
    let told = through(&scenario, arrangement, &row);
    assert_eq!(told, ["the end of all backups", "account=p1/1"]);
}

#[test]
fn a_moment_came_when_what_waited_for_it_was_done() {
    let event = "[[event]]\nat = \"25h\"\nwhat = \"destroy\"\nin = \"account=p2/1\"\nuntil = \"repairing\"\n\n";
    let text = REPAIRED.replacen("[[arrangement]]", &(event.to_owned() + "[[arrangement]]"), 1);
    let scenario = read("mine.toml", &text).unwrap();
    let Kind::Mesh(mesh) = &scenario.arrangements[0].kind else { panic!() };
    let measures = simulator::run(&scenario.plan(mesh, 1), 1).measures;
    // The world notes by itself when nodes are lost.
    let [(_, first), (at, second)] = measures.lost.as_slice() else { panic!("{measures:?}") };
    assert!(first.contains("p1/1") && second.contains("p2/1"), "{measures:?}");
    assert_eq!(measures.waited.len(), 1);
    assert_eq!(measures.waited[0].came, Some(*at));
    assert!(*at > measures.waited[0].from);
}

#[test]
fn what_waits_for_a_moment_says_when_it_struck_or_that_it_never_did() {
    let wait = |at: &str, what: &str, until: &str| {
        format!("[[event]]\nat = \"{at}\"\nwhat = {what}\nuntil = \"{until}\"\n\n")
    };
    let dark = "\"dark\"\nin = \"account=p2/1\"\nperiod = \"2h\"";
    let events = wait("25h", dark, "repairing") + &wait("26h", "\"steal-keys\"", "cooling");
    let text = REPAIRED.replacen("[[arrangement]]", &(events + "[[arrangement]]"), 1);
    let scenario = read("mine.toml", &text).unwrap();
    let [repairs, keeps] = [0, 1].map(|i| play(&scenario, &scenario.arrangements[i], 1).row);
    let [struck, waits] = repairs.awaited.as_slice() else { panic!("{repairs:?}") };
    assert_eq!((struck.what.as_str(), struck.until), ("account=p2/1", Moment::Repairing));
    assert_eq!(struck.from, Period::seconds(25 * 3600));
    assert!(struck.came.is_some_and(|came| came > struck.from), "{struck:?}");
    assert_eq!((waits.what.as_str(), waits.came), ("the owner's stolen keys", None));
    let told = json(&repairs);
    assert_eq!(told["awaited"][0]["came_ms"], struck.came.unwrap().0);
    assert_eq!(told["awaited"][1]["came_ms"], serde_json::Value::Null);
    assert_eq!(told["awaited"][1]["until"], "cooling");
    let cell = format!(
        "account=p2/1 repairing {}; the owner's stolen keys cooling never",
        struck.came.unwrap().0
    );
    assert!(table(std::slice::from_ref(&repairs)).csv().contains(&cell));
    assert!(keeps.awaited.iter().all(|awaited| awaited.came.is_none()), "{keeps:?}");
    let of = |i: usize, row: &Row| -> Vec<(String, bool, bool)> {
        let course = course(&scenario, &scenario.arrangements[i], row).into_iter();
        course.map(|of| (of.name, of.at.is_some(), of.has_struck)).collect()
    };
    let [lost, dark, keys] = ["account=p1/1", "account=p2/1", "the owner's stolen keys"];
    let told = |name: &str, came| (name.to_owned(), came, came);
    assert_eq!(of(0, &repairs), [told(lost, true), told(dark, true), told(keys, false)]);
    assert_eq!(of(1, &keeps), [told(lost, true), told(dark, false), told(keys, false)]);
    assert_eq!(through(&scenario, &scenario.arrangements[1], &keeps), [lost]);
}

#[test]
fn a_mesh_into_which_nothing_was_written_has_not_survived() {
    // The nodes promise no lock of that length.
    let lock = "any = [{ account = 1 }]\n[arrangement.policy.lock]\nperiod = \"30000d\"\n";
    let text = REPAIRED.replacen("any = [{ account = 1 }]\n", lock, 1);
    let scenario = read("mine.toml", &text).unwrap();
    let row = play(&scenario, &scenario.arrangements[0], 1).row;
    assert_eq!((row.backups, row.backups_failed), (Some(0), Some(1)), "{row:?}");
    assert!(row.unexpected.contains("no backup succeeded"), "{row:?}");
}

/// Sixteen nodes, one account of two lost, and no back-up afterwards that would bring the mesh back to its policy.
const REPAIRED: &str = r#"
name = "repaired"
title = "An account that is lost"
duration = "6d"

[workload]
every = "7d"
stripes = 12

[topology]
generate = "4 providers x 2 accounts x 2 nodes"

[[event]]
at = "1d"
what = "destroy"
in = "account=p1/1"

[[arrangement]]
name = "repairs"
title = "A day's patience"
code = [2, 3]
expect = ["survived"]
[arrangement.policy.survive]
any = [{ account = 1 }]

[[arrangement]]
name = "keeps"
title = "Nobody rebuilds anything"
patience = "never"
code = [2, 3]
expect = ["degraded"]
[arrangement.policy.survive]
any = [{ account = 1 }]
"#;

#[test]
fn nodes_make_good_what_was_lost_unless_their_patience_has_no_end() {
    let scenario = read("repaired.toml", REPAIRED).unwrap();
    let patience = |name: &str| match &scenario.arrangement(name).unwrap().kind {
        Kind::Mesh(mesh) => mesh.patience,
        Kind::Copies(_) => panic!(),
    };
    assert_eq!((patience("repairs"), patience("keeps")), (Some(Period::days(1)), None));
    let rows = study(&scenario, (1, 1), (1, 1)).run(threads(), &|_| ()).rows;
    let [repairs, keeps] = rows.as_slice() else { panic!() };
    assert_eq!((repairs.unexpected.as_str(), repairs.verdict), ("", Verdict::Survived));
    assert_eq!((keeps.unexpected.as_str(), keeps.verdict), ("", Verdict::Degraded));
    let told = |patience: &str| {
        let text = REPAIRED.replace("\"never\"", &format!("\"{patience}\""));
        read("repaired.toml", &text).unwrap_err().to_string()
    };
    let short = told("5h");
    assert!(short.starts_with("repaired.toml:29:12: 5h is no patience\n"), "{short}");
    assert!(short.contains("6h or more"), "{short}");
    assert!(told("soon").contains("\"soon\" is not a span of time"), "{}", told("soon"));
}

#[test]
fn the_studies_of_the_documentation_read() {
    let text = include_str!("../studies/accounts-that-fall.toml");
    let scenario = read("accounts-that-fall.toml", text).unwrap();
    assert_eq!(scenario.arrangements.len(), 6);
}
