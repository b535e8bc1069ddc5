//! The mesh of an arrangement: its nodes, policy, guardians and code, each checked, and that stripes can be placed at all.

use super::error::{ScenarioError, Source};
use super::read::{Common, patience};
use super::text::{ArrangementText, GuardiansText};
use super::{Mesh, STRIPE_LEN, topology};
use crate::client::shard_len;
use crate::plan::GuardianSetup;
use crate::setup::{NodeSetup, PeerSetup, Setup, certify, operator_key};
use protocol::label::Level;
use protocol::placement::{Candidate, PlanLimits, Unplaceable, plan, solve};
use protocol::policy::Policy;
use protocol::succession::Speaker;
use std::collections::BTreeSet;
use toml::Spanned;

/// The mesh of an arrangement.
pub(super) fn mesh(
    text: &ArrangementText,
    common: Common<'_>,
    source: &Source<'_>,
) -> Result<Mesh, ScenarioError> {
    let span = text.policy.as_ref().map_or(0..0, Spanned::span);
    let nodes = match (&text.topology, common.nodes) {
        (Some(own), _) => topology::nodes(own, source)?,
        (None, Some(common)) => common.to_vec(),
        (None, None) => {
            let expected =
                "[topology] for all meshes of the file, or [arrangement.topology] for this one";
            return Err(source.error(&span, "this mesh has no nodes", expected));
        }
    };
    let policy = text.policy.as_ref().map(|policy| policy.get_ref().clone());
    let policy = policy.map(Policy::try_from).transpose();
    let policy = policy
        .map_err(|error| {
            source.error(
                &span,
                &error.to_string(),
                "a policy as `strewn vault create --policy` takes it",
            )
        })?
        .ok_or_else(|| source.error(&span, "no policy", "[arrangement.policy]"))?;
    if policy.lock.guardians.is_some() {
        let expected = "[arrangement.guardians] with the names of operators of this mesh";
        return Err(source.error(
            &span,
            "guardians are keys in a policy, and nobody here has one",
            expected,
        ));
    }
    let guardians = text.guardians.as_ref();
    let guardians = guardians.map(|text| guardians_of(text, &nodes, source)).transpose()?;
    let code = match &text.code {
        None => None,
        Some(code) => {
            let [k, n] = *code.get_ref();
            if k == 0 || n < k || n > 256 {
                return Err(source.error(
                    &code.span(),
                    &format!("{k} of {n} is no code"),
                    "code = [k, n], 1 ≤ k ≤ n ≤ 256",
                ));
            }
            Some((k, n))
        }
    };
    let patience = match &text.patience {
        Some(text) => patience(text, source)?,
        None => common.patience,
    };
    if let Err((is_code, what, expected)) = check_placeable(&policy, code, &nodes) {
        let code = text.code.as_ref().map(Spanned::span).filter(|_| is_code);
        return Err(source.error(&code.unwrap_or(span), &what, &expected));
    }
    Ok(Mesh { nodes, policy, guardians, code, patience, real: None })
}

/// Guardians are operators of the mesh, each once, and no more of them have to agree than there are.
fn guardians_of(
    spanned: &Spanned<GuardiansText>,
    nodes: &[NodeSetup],
    source: &Source<'_>,
) -> Result<GuardianSetup, ScenarioError> {
    let GuardiansText { need, of } = spanned.get_ref();
    let operators: BTreeSet<&str> = nodes.iter().map(|node| node.operator.as_str()).collect();
    let mut names = BTreeSet::new();
    for name in of {
        let wrong = |what: String, expected: &str| source.error(&name.span(), &what, expected);
        if !operators.contains(name.get_ref().as_str()) {
            let all: Vec<&str> = operators.into_iter().collect();
            let what = format!("no node has an operator {:?}", name.get_ref());
            return Err(wrong(what, &all.join(", ")));
        }
        if !names.insert(name.get_ref()) {
            return Err(wrong(format!("{:?} is a guardian twice", name.get_ref()), "each once"));
        }
    }
    if *need == 0 || *need as usize > of.len() {
        let what = format!("{need} of {} guardians cannot be had", of.len());
        let expected = "need = 2, of = [\"a\", \"b\", \"c\"]";
        return Err(source.error(&spanned.span(), &what, expected));
    }
    let of = of.iter().map(|name| name.get_ref().clone()).collect();
    Ok(GuardianSetup { need: *need, of })
}

/// Whether an owner can place anything while all nodes are there; else whether it is the code that is wrong, what is, and what
/// would be right. Where the search was given up it is left to the run.
fn check_placeable(
    policy: &Policy,
    code: Option<(u16, u16)>,
    nodes: &[NodeSetup],
) -> Result<(), (bool, String, String)> {
    let candidate = |(index, node): (usize, &NodeSetup)| {
        let speaker = Speaker::first(operator_key(&node.operator));
        let id = Setup::node_key(index).public().into();
        let certificate = certify(id, &speaker, node.labels.clone());
        let site = certificate.verify().expect("signed by its operator just now").site();
        Candidate { site, free: node.quota.unwrap_or(PeerSetup::default().quota) }
    };
    let candidates: Vec<Candidate> = nodes.iter().enumerate().map(candidate).collect();
    // As an owner plans: room is asked for when shards are put.
    let roomy: Vec<Candidate> =
        candidates.iter().map(|c| Candidate { free: u64::MAX, ..c.clone() }).collect();
    let planned = || plan(policy, &roomy, PlanLimits::default()).map(|plan| (plan.k, plan.n));
    let placed = |(k, n): (usize, usize)| {
        let len = shard_len(STRIPE_LEN as usize, k) as u64;
        solve(policy, k, n, len, &candidates, &[], 0).map(|_| ())
    };
    let given = code.map(|(k, n)| (usize::from(k), usize::from(n)));
    let error = match given.map_or_else(planned, Ok).and_then(placed) {
        Ok(()) | Err(Unplaceable::SearchLimit(_)) => return Ok(()),
        Err(error) => error,
    };
    if let Some((k, n)) = given
        && let Ok((better_k, better_n)) = planned()
    {
        let what = format!("a code of {k} of {n} cannot be placed under this policy: {error}");
        let expected =
            format!("[{better_k}, {better_n}], which the planner picks, or another code");
        return Err((true, what, expected));
    }
    let mut levels: BTreeSet<&str> = BTreeSet::from([Level::OPERATOR, Level::NODE]);
    levels
        .extend(nodes.iter().flat_map(|node| node.labels.iter()).map(|(level, _)| level.as_str()));
    let levels: Vec<&str> = levels.into_iter().collect();
    let what =
        format!("these nodes cannot keep this policy, and nothing would be backed up: {error}");
    let expected = format!("clauses that they can keep; they differ in {}", levels.join(", "));
    Err((false, what, expected))
}
