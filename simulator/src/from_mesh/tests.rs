use super::*;
use crate::scenario::{ScenarioError, read_with};
use crate::study;
use proptest::prelude::*;

/// What `strewn status --json` printed of a mesh of five nodes at three providers, one of them silent.
const STATUS: &str = include_str!("status.json");

/// Six nodes of two operators at three providers, `stripes` of each pattern.
fn status(patterns: &[(u16, &[u32], u64)]) -> String {
    let node = |index: u32| {
        serde_json::json!({
            "node": format!("{:02x}", index + 0xa0).repeat(32),
            "operator": if index < 4 { "11" } else { "22" }.repeat(32),
            "labels": { "provider": format!("p{}", index / 2), "account": format!("a{index}") },
            "state": "up", "quota": 1 << 30, "used": 1 << 20, "room": 1 << 29,
        })
    };
    let pattern = |(k, holders, stripes): &(u16, &[u32], u64)| {
        serde_json::json!({
            "k": k, "n": holders.len(), "holders": holders, "silent": [],
            "stripes": stripes, "shard_bytes": stripes << 22,
        })
    };
    let survey = serde_json::json!({
        "version": 1, "nodes": (0..6).map(node).collect::<Vec<_>>(), "nodes_left_out": 0,
        "vault": {
            "name": "work", "operator": "11".repeat(32),
            "policy": {
                "survive": { "any": [{ "provider": 1 }] }, "conceal": { "any": [] },
                "lock": { "period": "90d", "release_cooldown": "7d", "guardians": { "need": 1, "of": ["22".repeat(32)] } },
            },
            "stripes": patterns.iter().map(|(_, _, stripes)| stripes).sum::<u64>(),
            "patterns": patterns.iter().map(pattern).collect::<Vec<_>>(),
            "patterns_left_out": 0, "stripes_left_out": 0, "unrecorded": 0,
        },
    });
    serde_json::json!({ "message_type": "summary", "survey": survey }).to_string()
}

fn scenario(mesh: &FromMesh, events: &str) -> Result<Scenario, ScenarioError> {
    let head =
        "name = \"mine\"\ntitle = \"t\"\nduration = \"8d\"\n[workload]\nchanged_per_mille = 0\n";
    read_with("mine.toml", &format!("{head}{events}"), Some(mesh))
}

const LOSES: &str = "[[event]]\nat = \"1d\"\nwhat = \"destroy\"\nin = \"provider=p0\"\n";

#[test]
fn a_loss_within_the_policy_is_survived_and_made_good() {
    let mesh = FromMesh::read(&status(&[(2, &[0, 2, 4], 900), (2, &[1, 3, 5], 100)])).unwrap();
    let scenario = scenario(&mesh, LOSES).unwrap();
    let arrangement = scenario.arrangement(NAME).unwrap();
    assert!(arrangement.title.contains("240 stripes stand for 1000"), "{}", arrangement.title);
    let Kind::Mesh(played) = &arrangement.kind else { panic!() };
    let stripes: Vec<u32> =
        played.real.as_ref().unwrap().placed.iter().map(|placed| placed.stripes).collect();
    assert_eq!(stripes.iter().sum::<u32>(), STRIPES_MAX);
    assert!(stripes.contains(&216) || stripes.contains(&215), "{stripes:?}");
    let lost = ["provider=p0".to_owned()];
    let toll = mesh.toll(&lost).unwrap();
    assert_eq!((toll.left, toll.below_policy), (1000, 1000));
    let row = study::play(&scenario, arrangement, 1).row;
    // Two providers are left, and stripes of 2 of 3 shards over them bear the loss of neither: it stays below the policy.
    assert_eq!((row.verdict, row.readable), (Verdict::Degraded, 240), "{row:?}");
    assert_eq!(row.violation, None);
}

#[test]
fn what_lies_badly_is_played_as_it_lies() {
    // All shards of two stripes at one provider, as after a backup with --allow-degraded.
    let mesh = FromMesh::read(&status(&[(2, &[0, 2, 4], 98), (1, &[0, 1], 2)])).unwrap();
    let scenario = scenario(&mesh, LOSES).unwrap();
    let toll = mesh.toll(&["provider=p0".into()]).unwrap();
    assert_eq!((toll.stripes, toll.left), (100, 98));
    // Before anybody moves them.
    let text = "[[event]]\nat = \"2h\"\nwhat = \"destroy\"\nin = \"provider=p0\"\n";
    let at_once = self::scenario(&mesh, text).unwrap();
    let row = study::play(&at_once, at_once.arrangement(NAME).unwrap(), 1).row;
    assert_eq!((row.verdict, row.stripes, row.readable), (Verdict::Destroyed, 100, 98), "{row:?}");
    let Kind::Mesh(played) = &scenario.arrangement(NAME).unwrap().kind else { panic!() };
    let real = played.real.as_ref().unwrap();
    assert_eq!((real.placed[0].holders.as_slice(), real.asked), ([0, 1].as_slice(), 2));
    assert_eq!(played.guardians.as_ref().unwrap().of, ["22222222"]);
    assert_eq!(played.code, Some((2, 3)));
}

#[test]
fn domains_are_named_as_people_see_them_or_said_to_be_missing() {
    let mesh = FromMesh::read(&status(&[(2, &[0, 2, 4], 12)])).unwrap();
    let with = |mesh: &FromMesh, label: &str| {
        let scenario = scenario(mesh, &LOSES.replace("provider=p0", label))?;
        let Kind::Mesh(played) = &scenario.arrangements[0].kind else { panic!() };
        Ok::<Who, ScenarioError>(played.real.as_ref().unwrap().called[label].clone())
    };
    assert_eq!(with(&mesh, "provider=p1").unwrap(), Who::Label("provider=p1".into()));
    assert_eq!(with(&mesh, "node=a3a3").unwrap(), Who::Node(3));
    assert_eq!(with(&mesh, "operator=2222").unwrap(), Who::Label("operator=22222222".into()));
    assert_eq!(with(&mesh, "region=unknown").unwrap(), Who::Label("region=unknown".into()));
    let error = with(&mesh, "provider=aws").unwrap_err();
    assert_eq!((error.line, error.column), (9, 6));
    assert!(error.what.contains("it has provider=p0, provider=p1, provider=p2"), "{error}");
    assert!(error.expected.contains("--as provider=aws"), "{error}");
    let renamed = mesh.calling("provider=aws", "provider=p2").unwrap();
    assert_eq!(with(&renamed, "provider=aws").unwrap(), Who::Label("provider=p2".into()));
    assert!(renamed.calling("provider=gcp", "provider=none").is_err());
}

#[test]
fn a_status_of_a_real_mesh_reads_and_is_played() {
    let mesh = FromMesh::read(STATUS).unwrap();
    let vault = mesh.vault().unwrap();
    assert!(vault.stripes > 0);
    let toll = mesh.toll(&["account=a1".into()]).unwrap();
    assert_eq!(toll.left, toll.stripes);
    let scenario = scenario(&mesh, &LOSES.replace("provider=p0", "account=a1")).unwrap();
    let row = study::play(&scenario, &scenario.arrangements[0], 1).row;
    assert!(row.violation.is_none() && row.readable == row.stripes, "{row:?}");
    // Written again it is the same: nothing of it is read and forgotten.
    let again = serde_json::json!({ "survey": mesh.survey() }).to_string();
    assert_eq!(FromMesh::read(&again).unwrap().survey(), mesh.survey());
}

#[test]
fn what_is_no_status_is_told_so() {
    let told = |text: &str| FromMesh::read(text).unwrap_err().to_string();
    let good = status(&[(2, &[0, 2, 4], 12)]);
    assert!(told("").contains("no survey"));
    assert!(told("[1, 2]").contains("no status"));
    assert!(told("{\"message_type\":\"warning\"}").contains("no survey"));
    assert!(told(&good.replace("\"version\":1", "\"version\":7")).contains("version 7"));
    assert!(told(&good.replace("\"silent\"", "\"quiet\"")).contains("quiet"));
    assert!(told(&good.replace("[0,2,4]", "[0,2,9]")).contains("not listed"));
    // Other messages before it do not matter.
    FromMesh::read(&format!("{{\"message_type\":\"warning\"}}\n{good}\n")).unwrap();
    let none = FromMesh::read(&status(&[])).unwrap();
    assert!(matches!(none.arrangement(&scenario_of_nothing()), Err(FromMeshError::Nothing)));
}

fn scenario_of_nothing() -> Scenario {
    let text = "name = \"n\"\ntitle = \"t\"\nduration = \"8d\"\n[[arrangement]]\nname = \"c\"\ntitle = \"t\"\n\
                expect = [\"survived\"]\n[[arrangement.copy]]\nlabels = [\"provider=p0\"]\n";
    crate::scenario::read("nothing.toml", text).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_damage_to_a_file_brings_the_reader_down(
        at: prop::sample::Index, with in "[0-9a-z\\[\\]{}\",:. -]{0,8}", cut in 0usize..12,
    ) {
        let good = status(&[(2, &[0, 2, 4], 12), (2, &[1, 3, 5], 500)]);
        let at = at.index(good.len());
        let damaged = format!("{}{with}{}", &good[..at], &good[(at + cut).min(good.len())..]);
        if let Ok(mesh) = FromMesh::read(&damaged) {
            // What is read can be asked.
            let _ = mesh.toll(&["provider=p0".into()]);
            let _ = mesh.arrangement(&scenario_of_nothing());
            let _ = mesh.notes();
        }
    }

    #[test]
    fn shares_are_in_proportion_and_none_is_left_out(
        counts in prop::collection::vec(1u64..1 << 40, 1..240),
    ) {
        let shares = shares(&counts, STRIPES_MAX);
        let total: u64 = counts.iter().sum();
        let sum = shares.iter().map(|&share| u64::from(share)).sum::<u64>();
        prop_assert_eq!(sum, total.min(u64::from(STRIPES_MAX)));
        prop_assert!(shares.iter().zip(&counts).all(|(&share, &count)| share >= 1 && u64::from(share) <= count));
    }
}
