//! What placing a stripe costs, by size of the mesh: `cargo bench -p strewn-protocol --bench placement`.
//!
//! The solver runs once a stripe, in the backup's path; the planner once a session; exposure once a
//! status, over every different placement.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use protocol::id::{NodeId, OperatorId};
use protocol::label::{Labels, Level, Site};
use protocol::placement::{Candidate, Exposure, PlanLimits, check_placement, plan, solve};
use protocol::policy::{Policy, PolicyText};
use std::hint::black_box;

/// Nodes over so many providers, three accounts each, in five regions.
fn mesh(nodes: usize, providers: usize) -> Vec<Candidate> {
    let node = |i: usize| {
        let provider = i % providers;
        let labels = [
            format!("provider=p{provider}"),
            format!("account=p{provider}-{}", i / providers % 3),
            format!("region=r{}", i % 5),
        ];
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(i as u64).to_le_bytes());
        let labels = Labels::new(labels.iter().map(|label| label.parse().expect("a label")));
        Candidate {
            site: Site::new(NodeId(id), OperatorId([1; 32]), labels.expect("labels")),
            free: 1 << 40,
        }
    };
    (0..nodes).map(node).collect()
}

fn policy(text: &str) -> Policy {
    let text: PolicyText = toml::from_str(text).expect("a policy");
    Policy::try_from(text).expect("a policy that can be meant")
}

fn policies() -> [(&'static str, Policy); 3] {
    [
        ("provider=1", policy("[survive]\nany = [ { provider = 1 } ]")),
        ("provider=1,account=2", policy("[survive]\nany = [ { provider = 1 }, { account = 2 } ]")),
        (
            "provider=1,region=2 conceal account=2",
            policy(
                "[survive]\nany = [ { provider = 1 }, { region = 2 } ]\n\
                 [conceal]\nany = [ { account = 2 } ]",
            ),
        ),
    ]
}

fn placement(c: &mut Criterion) {
    for (name, policy) in policies() {
        let mut group = c.benchmark_group(name);
        for (nodes, providers) in [(9, 3), (30, 5), (300, 6)] {
            let candidates = mesh(nodes, providers);
            let Ok(code) = plan(&policy, &candidates, PlanLimits::default()) else {
                continue;
            };
            group.bench_function(BenchmarkId::new("plan", nodes), |b| {
                b.iter(|| plan(&policy, black_box(&candidates), PlanLimits::default()));
            });
            let mut tie = 0;
            group.bench_function(BenchmarkId::new("solve", nodes), |b| {
                b.iter(|| {
                    tie += 1;
                    solve(&policy, code.k, code.n, 1 << 20, black_box(&candidates), &[], tie)
                });
            });
            let chosen = solve(&policy, code.k, code.n, 1 << 20, &candidates, &[], 0)
                .expect("what was planned can be placed");
            let sites: Vec<&Site> = chosen.iter().map(|&i| &candidates[i].site).collect();
            group.bench_function(BenchmarkId::new("check", nodes), |b| {
                b.iter(|| check_placement(&policy, code.k, black_box(&sites)));
            });
            let levels: Vec<Level> =
                ["provider", "account"].map(|level| level.parse().expect("a level")).into();
            group.bench_function(BenchmarkId::new("exposure", nodes), |b| {
                b.iter(|| Exposure::of(code.k, black_box(&sites), &levels));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, placement);
criterion_main!(benches);
