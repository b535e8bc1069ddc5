//! Whether an owner can place stripes on all nodes of a mesh under its policy and code; where not, what is in the way and which code
//! would do. It is asked of the protocol's solver and planner, as owners ask them.

use super::STRIPE_LEN;
use crate::client::shard_len;
use crate::setup::{NodeSetup, PeerSetup, Setup, certify, operator_key};
use protocol::label::Level;
use protocol::placement::{Candidate, PlanLimits, Unplaceable, ViolationKind, plan, solve};
use protocol::policy::Policy;
use protocol::succession::Speaker;
use std::collections::BTreeSet;

/// Most further codes that are tried for an error's text: each may take the solver a second.
const TRIES_MAX: usize = 64;

/// What keeps stripes from being placed.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Whether it is the code; otherwise these nodes cannot keep the policy, whatever the code.
    pub(super) is_code: bool,
    pub(super) what: String,
    pub(super) expected: String,
}

/// An owner's question, while all nodes are there.
struct Asked<'a> {
    policy: &'a Policy,
    candidates: Vec<Candidate>,
}

impl Asked<'_> {
    fn check(&self, (k, n): (usize, usize)) -> Result<(), Unplaceable> {
        let len = shard_len(STRIPE_LEN as usize, k) as u64;
        solve(self.policy, k, n, len, &self.candidates, &[], 0).map(|_| ())
    }

    fn planned(&self) -> Result<(usize, usize), Unplaceable> {
        // As an owner plans: room is asked for when shards are put.
        let roomy = self.candidates.iter().map(|c| Candidate { free: u64::MAX, ..c.clone() });
        let roomy: Vec<Candidate> = roomy.collect();
        plan(self.policy, &roomy, PlanLimits::default()).map(|plan| (plan.k, plan.n))
    }

    /// The first of some codes that can be placed.
    fn first(&self, codes: impl Iterator<Item = (usize, usize)>) -> Option<(usize, usize)> {
        for code in codes.take(TRIES_MAX) {
            match self.check(code) {
                Ok(()) => return Some(code),
                // What takes too long to find out is nothing to recommend, and the next one would take as long.
                Err(Unplaceable::SearchLimit(_)) => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// Codes that would do and are like this one, in words: with as many data shards, and with as many shards.
    fn like(&self, (k, n): (usize, usize)) -> Vec<String> {
        let most = self.candidates.len().min(256);
        let wider = self.first((n + 1..=most).map(|n| (k, n)));
        let narrower = || self.first((k..n.min(most + 1)).rev().map(|n| (k, n)));
        let same_k = wider.or_else(narrower);
        // The nearest first: survive clauses want fewer data shards, conceal clauses more.
        let near = (1..n).flat_map(|by| [k.checked_sub(by), Some(k + by)]);
        let near = near.flatten().filter(|other| (1..=n).contains(other));
        let same_n = if n <= most { self.first(near.map(|k| (k, n))) } else { None };
        let told = |code: Option<(usize, usize)>, same: &str| {
            code.map(|(k, n)| format!("[{k}, {n}] with {same}"))
        };
        let same_k = told(same_k, "as many data shards");
        let same_n = told(same_n, "as many shards");
        same_k.into_iter().chain(same_n).collect()
    }
}

/// Whether an owner can place anything while all nodes are there. Where the search was given up it is left to the run.
pub(super) fn check_placeable(
    policy: &Policy,
    code: Option<(u16, u16)>,
    nodes: &[NodeSetup],
) -> Result<(), Wrong> {
    let candidate = |(index, node): (usize, &NodeSetup)| {
        let speaker = Speaker::first(operator_key(&node.operator));
        let id = Setup::node_key(index).public().into();
        let certificate = certify(id, &speaker, node.labels.clone());
        let site = certificate.verify().expect("signed by its operator just now").site();
        Candidate { site, free: node.quota.unwrap_or(PeerSetup::default().quota) }
    };
    let asked = Asked { policy, candidates: nodes.iter().enumerate().map(candidate).collect() };
    let given = code.map(|(k, n)| (usize::from(k), usize::from(n)));
    let tried = given.map_or_else(|| asked.planned(), Ok).and_then(|code| asked.check(code));
    let error = match tried {
        Ok(()) | Err(Unplaceable::SearchLimit(_)) => return Ok(()),
        Err(error) => error,
    };
    if let Some((k, n)) = given
        && let Ok((better_k, better_n)) = asked.planned()
    {
        let reason = reason(policy, &error, (k, n), nodes.len());
        let what =
            format!("[{k}, {n}] cannot keep this policy on these {} nodes: {reason}", nodes.len());
        let mut would = asked.like((k, n));
        would.push(format!("[{better_k}, {better_n}], which the planner picks"));
        return Err(Wrong { is_code: true, what, expected: would.join("; ") });
    }
    let mut levels: BTreeSet<&str> = BTreeSet::from([Level::OPERATOR, Level::NODE]);
    levels
        .extend(nodes.iter().flat_map(|node| node.labels.iter()).map(|(level, _)| level.as_str()));
    let levels: Vec<&str> = levels.into_iter().collect();
    let what =
        format!("these nodes cannot keep this policy, and nothing would be backed up: {error}");
    let expected = format!("clauses that they can keep; they differ in {}", levels.join(", "));
    Err(Wrong { is_code: false, what, expected })
}

/// What is in the way of a code, in a sentence or two.
fn reason(policy: &Policy, error: &Unplaceable, (k, n): (usize, usize), nodes: usize) -> String {
    match error {
        Unplaceable::Nodes { needed, .. } if *needed > nodes => {
            format!("each shard needs a node of its own, and {n} are asked for")
        }
        Unplaceable::Domains { clause, level, found, .. } if !level.asks_evidence() => {
            domains(policy, clause, level, *found, (k, n))
        }
        Unplaceable::Clause(violation) if violation.kind == ViolationKind::Survive => {
            let whatever = if violation.domains.is_empty() {
                ""
            } else {
                ", and no choice of nodes does better"
            };
            format!("{violation}{whatever}. Of {n} shards {} may be lost", n - k)
        }
        error => error.to_string(),
    }
}

/// Too few domains of a level that a clause names, or too few shards that may be lost.
fn domains(
    policy: &Policy,
    clause: &str,
    level: &Level,
    found: usize,
    (k, n): (usize, usize),
) -> String {
    let named = policy.survive.any.iter().find(|of| of.to_string() == clause);
    let count = named.and_then(|of| of.0.get(level)).map_or(0, |&count| count as usize);
    let bears = n - k;
    let are = if found == 1 { "is" } else { "are" };
    if count > bears {
        return format!(
            "clause {clause}: {count} {level}{} hold at least {count} of the shards, and of {n} no more than {bears} may be lost",
            if count == 1 { "" } else { "s" }
        );
    }
    // Of d domains with n shards the largest hold at least count·n/d; with one shard in each it is enough.
    let enough = |d: &usize| (count * n).div_ceil(*d) <= bears;
    let needed = (count + 1..=n).find(enough).unwrap_or(n);
    format!(
        "clause {clause} needs {needed} {level}s, so that those it names hold no more than the {bears} of {n} shards that may be lost, and there {are} {found}"
    )
}

#[cfg(test)]
mod tests {
    use crate::scenario::read;

    /// What is said of a code, for eight accounts with two nodes each at four providers.
    fn told(clause: &str, code: &str) -> String {
        let text = format!(
            "name = \"codes\"\ntitle = \"Codes\"\nduration = \"6d\"\n\
             [topology]\ngenerate = \"4 providers x 2 accounts x 2 nodes\"\n\
             [[arrangement]]\nname = \"mesh\"\ntitle = \"A mesh\"\nexpect = [\"survived\"]\n\
             code = {code}\npolicy = {{ survive = {{ any = [{clause}] }} }}\n"
        );
        read("codes.toml", &text).map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    }

    /// The codes that are recommended.
    fn recommended(told: &str) -> Vec<String> {
        let expected = told.split("expected: ").nth(1).unwrap();
        expected.split("; ").map(|of| of.split_inclusive(']').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_code_is_told_its_clause_what_is_missing_and_what_would_do() {
        let of = |clause: &str, code: &str, reason: &str| {
            let told = told(clause, code);
            assert!(told.starts_with("codes.toml:10:8: "), "{told}");
            assert!(told.contains(reason), "{told}");
            let others = recommended(&told);
            assert!(others.len() > 1, "{told}");
            for other in &others {
                assert_eq!(self::told(clause, other), "fine", "{told}");
            }
        };
        let account = "{ account = 2 }";
        of(
            account,
            "[7, 8]",
            "clause account=2: 2 accounts hold at least 2 of the shards, and of 8 no more than 1 may be lost",
        );
        of("{ provider = 1 }", "[7, 8]", "clause provider=1 needs 8 providers, so that");
        of(
            "{ provider = 1 }",
            "[4, 5]",
            "clause provider=1 needs 5 providers, so that those it names hold no more than the 1 of 5 shards that may be lost, and there are 4",
        );
        of("{ provider = 1, node = 1 }", "[6, 9]", "clause ");
        assert_eq!(told(account, "[6, 8]"), "fine");
        // Nothing would help: it is not the code.
        let none = told("{ provider = 4 }", "[2, 8]");
        assert!(
            none.starts_with("codes.toml:11:10: these nodes cannot keep this policy"),
            "{none}"
        );
    }

    #[test]
    fn a_conceal_clause_wants_more_data_shards() {
        let told = told("{ node = 1 }] }, conceal = { any = [{ provider = 1 }", "[2, 8]");
        assert!(told.contains("conceal clause provider=1"), "{told}");
        assert!(recommended(&told).contains(&"[3, 8]".to_owned()), "{told}");
    }
}
