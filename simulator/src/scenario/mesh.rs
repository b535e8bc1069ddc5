//! The mesh of an arrangement: its nodes, policy, guardians and code, each checked, and that stripes can be placed at all.

use super::error::{ScenarioError, Source};
use super::placeable::check_placeable;
use super::read::{Common, patience};
use super::text::{ArrangementText, GuardiansText};
use super::{Mesh, topology};
use crate::plan::GuardianSetup;
use crate::setup::NodeSetup;
use protocol::policy::Policy;
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
    if let Err(wrong) = check_placeable(&policy, code, &nodes) {
        let code = text.code.as_ref().map(Spanned::span).filter(|_| wrong.is_code);
        return Err(source.error(&code.unwrap_or(span), &wrong.what, &wrong.expected));
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
