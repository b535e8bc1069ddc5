//! `partner leave`, and how partners stand: who is to be left, what is to be moved, what bounds there are.

use super::data::time;
use super::partner::open;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::{Output, printable};
use crate::client::mesh::Mesh;
use crate::client::partners::standings;
use crate::home::Home;
use crate::size::{ByteSize, counted};
use protocol::id::{NodeId, OperatorId, VaultId};
use protocol::message::{PartnerStanding, Request, Response};
use protocol::notice::Cause;
use protocol::time::{Period, Wall};
use serde::Serialize;
use std::collections::BTreeMap;

/// How a partner stands at a node, or this operator at one of the partner's.
#[derive(Debug, Serialize)]
pub(super) struct Standing {
    node: NodeId,
    /// Whether it is the partner's node, which says how this operator stands there.
    theirs: bool,
    /// Why nothing new is put with the other side.
    frozen: Option<&'static str>,
    frozen_for: Option<Period>,
    /// In how long what lies there is moved off.
    moves_in: Option<Period>,
    /// Who gave notice, and when.
    notices: Vec<Noticed>,
    ends: Option<Wall>,
    over: bool,
    vaults: Vec<VaultShown>,
    /// Stripes that are to lie elsewhere and do not yet,
    waiting: u64,
    /// and those of them for which there is no place now.
    stuck: u64,
    /// Whether all stripes of the node were gone through.
    counted: bool,
    per_second: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Noticed {
    leaver: OperatorId,
    given: Wall,
}

#[derive(Debug, Serialize)]
struct VaultShown {
    vault: VaultId,
    bytes: u64,
    quota: Option<u64>,
}

impl Standing {
    fn of(node: NodeId, theirs: bool, said: &PartnerStanding) -> Self {
        let why = |cause| match cause {
            Cause::Unproved => "shards that were promised were shown not to be there",
            Cause::Absent => "all nodes are lost",
        };
        let notices = said.notices.iter().filter_map(|signed| signed.verify().ok());
        let notices = notices.map(|notice| Noticed { leaver: notice.leaver, given: notice.given });
        let vaults = said.vaults.iter();
        let vaults = vaults.map(|held| VaultShown {
            vault: held.vault,
            bytes: held.bytes,
            quota: held.quota,
        });
        Self {
            node,
            theirs,
            frozen: said.frozen.map(|frozen| why(frozen.cause)),
            frozen_for: said.frozen.map(|frozen| frozen.ago),
            moves_in: said.frozen.and_then(|frozen| frozen.moves_in),
            notices: notices.collect(),
            ends: said.ends,
            over: said.is_over,
            vaults: vaults.collect(),
            waiting: said.waiting,
            stuck: said.stuck,
            counted: said.is_counted,
            per_second: said.per_second,
        }
    }
}

/// How a partner stands at this operator's nodes, and this operator at the partner's.
pub(super) async fn gather(mesh: &Mesh, own: OperatorId, partner: OperatorId) -> Vec<Standing> {
    let mut shown = Vec::new();
    for (node, said) in standings(mesh, own).await {
        let theirs = node.site.operator == partner;
        let about = if theirs { own } else { partner };
        let meant = said.iter().filter(|standing| standing.operator == about);
        if theirs || node.site.operator == own {
            shown.extend(meant.map(|standing| Standing::of(node.id, theirs, standing)));
        }
    }
    shown
}

/// One notice, however many nodes have heard of it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OneNotice {
    given: Wall,
    leaver: OperatorId,
    ends: Option<Wall>,
}

/// Each notice once, and how many nodes have it.
fn notices(shown: &[Standing]) -> BTreeMap<OneNotice, usize> {
    let mut notices = BTreeMap::new();
    for standing in shown {
        for &Noticed { leaver, given } in &standing.notices {
            *notices.entry(OneNotice { given, leaver, ends: standing.ends }).or_default() += 1;
        }
    }
    notices
}

/// Says it to people: bounds, and whatever is not as it should be. `name` is what the partner is called here.
pub(super) fn print(name: &str, partner: OperatorId, shown: &[Standing], output: &Output) {
    let name = printable(name);
    let own = || shown.iter().filter(|standing| !standing.theirs);
    for standing in own() {
        for held in &standing.vaults {
            let of =
                held.quota.map_or_else(String::new, |quota| format!(" of {}", ByteSize(quota)));
            output.line(format!(
                "  vault     {}: {}{of} on node {}",
                held.vault.short(),
                ByteSize(held.bytes),
                standing.node.short()
            ));
        }
    }
    if let Some(per_second) = own().filter_map(|standing| standing.per_second).min() {
        output.line(format!("  pace      {} a second, at each node", ByteSize(per_second)));
    }
    for standing in shown {
        let node = standing.node.short();
        let whom = if standing.theirs { "this operator" } else { &*name };
        if let (Some(why), Some(ago)) = (standing.frozen, standing.frozen_for) {
            let then = match standing.moves_in {
                Some(Period(0)) => "what lies there is moved off".into(),
                Some(left) => format!("what lies there is moved off in {left}"),
                None => "nothing is agreed".into(),
            };
            output.bad(format!(
                "  node {node} puts nothing new with {whom} for {ago}: {why}; {then}"
            ));
        }
    }
    for (OneNotice { given, leaver, ends }, nodes) in notices(shown) {
        let who = if leaver == partner { &*name } else { "this operator" };
        let end = ends.map_or_else(String::new, |end| format!("; it ends {}", time(end)));
        let nodes = counted(nodes, "node");
        output.line(format!("  notice    by {who} at {}, known to {nodes}{end}", time(given)));
    }
    for text in moves(&name, shown) {
        output.bad(text);
    }
}

/// What is still to be moved, on either side. Each node counts the stripes that it holds itself, and nodes hold the same ones: so the most that
/// one of them counts is told, and no sum.
fn moves(name: &str, shown: &[Standing]) -> Vec<String> {
    let sides = [
        (false, format!("of this operator's, off the nodes of {name}")),
        (true, format!("of {name}'s, off this operator's nodes")),
    ];
    let text = |(theirs, whose): &(bool, String)| {
        let side = || shown.iter().filter(|standing| standing.theirs == *theirs);
        let most = side().map(|standing| standing.waiting).max().filter(|most| *most > 0)?;
        let stuck = side().map(|standing| standing.stuck).max().unwrap_or(0);
        let uncounted = side().filter(|standing| !standing.counted).count();
        let stripes = counted(usize::try_from(most).unwrap_or(usize::MAX), "stripe");
        let place = match stuck {
            0 => "all have a place".into(),
            stuck => format!("{stuck} of them have no place now: nodes or room are missing"),
        };
        let more = match uncounted {
            0 => "",
            _ => " (not all nodes have counted yet)",
        };
        Some(format!("  to move   {stripes} or more {whose}; {place}{more}"))
    };
    sides.iter().filter_map(text).collect()
}

/// Gives notice to a partner.
pub(super) async fn leave(home: &Home, name: &str, output: &Output) -> Result<Exit, CliError> {
    let (book, reached) = open(home, output).await?;
    let (known, agreement, notice) = book.leave(name)?;
    let Some(mesh) = &reached.mesh else {
        return Err(CliError::new("no node answers that could take the notice")
            .next("start the node of this host with `strewn node run`"));
    };
    let own = book.operator();
    let partner = known.introduction.operator;
    let given = notice.verify().map_err(|e| CliError::new(e.to_string()))?.given;
    let ends = given.after(agreement.notice).min(agreement.end());
    let request = Request::GiveNotice(Box::new(notice));
    let (mut took, mut failed) = (Vec::new(), Vec::new());
    for operator in [own, partner] {
        for (node, answer) in mesh.ask_of(operator, &request).await {
            match answer {
                Ok(Response::Done) => took.push(node.id),
                Ok(_) => failed.push((node.id, "an unexpected answer".to_owned())),
                Err(error) => failed.push((node.id, error.to_string())),
            }
        }
    }
    for (node, why) in &failed {
        output.warn(format!("node {} did not take the notice: {why}", node.short()));
    }
    if took.is_empty() {
        return Err(CliError::new("no node took the notice"));
    }
    if output.style().json {
        let body = serde_json::json!({
            "partner": known.name, "operator": partner, "given": given, "ends": ends, "took": took,
        });
        output.json("summary", &body);
        return Ok(Exit::Done);
    }
    output.good(format!(
        "notice was given to {}: nothing new is taken after {}",
        printable(&known.name),
        time(ends)
    ));
    output.line(format!(
        "{} took it, and tell the others. What is to be moved shows `strewn partner show`.",
        counted(took.len(), "node")
    ));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(node: u8, theirs: bool, waiting: u64, stuck: u64) -> Standing {
        Standing {
            node: NodeId([node; 32]),
            theirs,
            frozen: None,
            frozen_for: None,
            moves_in: None,
            notices: vec![Noticed { leaver: OperatorId([2; 32]), given: Wall(7) }],
            ends: Some(Wall(9)),
            over: false,
            vaults: Vec::new(),
            waiting,
            stuck,
            counted: true,
            per_second: None,
        }
    }

    #[test]
    fn a_notice_is_told_once_and_stripes_are_not_summed_over_those_who_hold_the_same() {
        let shown = [standing(1, false, 7, 0), standing(2, false, 6, 6), standing(3, true, 0, 0)];
        let told = notices(&shown);
        assert_eq!(told.into_values().collect::<Vec<_>>(), [3]);
        let moves = moves("beta", &shown);
        assert_eq!(moves.len(), 1, "{moves:?}");
        assert!(moves[0].contains("7 stripes or more of this operator's, off the nodes of beta"));
        assert!(moves[0].contains("6 of them have no place now"), "{moves:?}");
    }
}
