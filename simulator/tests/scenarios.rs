//! The shipped scenarios end as they say they do, wrong files are told what is wrong with them, and a study in parts is the
//! same as in one.

use simulator::scenario::{Arrangement, Scenario, library, read};
use simulator::study::{COLUMNS, MergeError, Runs, Study, csv, merge};

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
    let text = csv(&runs.rows);
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), COLUMNS.join(","));
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
