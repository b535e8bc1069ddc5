//! The shipped scenarios end as they say they do, wrong files are told what is wrong with them, and a study in parts is the
//! same as in one.

use protocol::time::Period;
use simulator::Verdict;
use simulator::scenario::{Arrangement, Kind, Scenario, library, read};
use simulator::study::{COLUMNS, MergeError, Runs, Study, merge, table};

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
    let part = |part| study(&scenario, (1, 101), (part, 3)).run(threads(), &|_| ());
    let written = |runs: &Runs| serde_json::to_vec_pretty(runs).unwrap();
    let parts: Vec<Runs> =
        [3, 1, 2].map(|n| serde_json::from_slice(&written(&part(n))).unwrap()).into();
    assert_eq!(written(&merge(parts.clone()).unwrap()), written(&whole));
    let twice = vec![parts[0].clone(), parts[1].clone(), parts[0].clone()];
    assert!(matches!(merge(twice), Err(MergeError::Twice(_))));
    let missing = merge(vec![parts[0].clone(), parts[1].clone()]);
    assert!(matches!(missing, Err(MergeError::Missing { total: 202, .. })), "{missing:?}");
    let other = Runs { text: "another".into(), ..parts[0].clone() };
    assert_eq!(merge(vec![parts[1].clone(), other]), Err(MergeError::Other(2)));
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
        let json = serde_json::json!(row);
        assert_eq!(fields[1], json["arrangement"].as_str().unwrap());
        assert_eq!(fields[2], json["seed"].to_string());
        assert_eq!(fields[3], format!("{:?}", row.verdict).to_lowercase());
        assert_eq!(fields[6], json["readable"].to_string());
        assert_eq!(fields[8], row.unreadable.0.to_string());
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
