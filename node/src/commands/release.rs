//! `release`, `hold`.

use super::data::time;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::release::{GuardianArg, HoldCommand, ReleaseCommand};
use crate::client::mesh::{Caller, Mesh};
use crate::client::operator;
use crate::client::release::{Asked, Audience, Came, send};
use crate::client::{ClientError, vault};
use crate::home::{Home, read_signed, write_new};
use crate::service::wall;
use crate::size::{counted, format_duration};
use protocol::hold::HoldOrder;
use protocol::id::NodeId;
use protocol::message::Request;
use protocol::release::{Approval, Veto};
use protocol::sign::{Signed, Statement};
use protocol::succession::Speaker;
use protocol::time::Period;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// A span as people say it.
fn span(period: Period) -> String {
    format_duration(Duration::from_millis(period.0))
}

/// Tells of nodes that could not be asked.
fn warn_of_silent(mesh: &Mesh, output: &Output) {
    if !mesh.silent.is_empty() {
        let silent = counted(mesh.silent.len(), "node");
        output.warn(format!("{silent} did not answer: nothing is known of what they do"));
    }
}

pub(super) fn show(came: &[Came], output: &Output) {
    for came in came {
        let mut parts = Vec::new();
        if came.cooling > 0 {
            let within = span(Period(came.cooling_for));
            parts.push(format!("{} go within {within}", came.cooling));
        }
        if came.locked > 0 {
            let locked = span(Period(came.locked_for));
            parts.push(format!("{} are locked, for {locked} at most", came.locked));
        }
        if came.refused > 0 {
            parts.push(format!("it does not count for {}", came.refused));
        }
        if parts.is_empty() && came.why.is_none() {
            parts.push("it holds nothing of it".into());
        }
        parts.extend(came.why.clone());
        output.line(format!("  node {}: {}", came.node, parts.join("; ")));
    }
}

/// A signed statement that somebody was handed as a file.
fn read_file<T: Statement>(path: &Path) -> Result<Signed<T>, CliError> {
    read_signed(path)?.ok_or_else(|| {
        CliError::new(format!("there is no file {}", path.display())).exit(Exit::NotThere)
    })
}

/// A request for a release that somebody was handed as a file.
fn read_request(path: &Path) -> Result<Asked, CliError> {
    Asked::read(path)?.ok_or_else(|| {
        CliError::new(format!("there is no file {}", path.display())).exit(Exit::NotThere)
    })
}

fn guardian_key(home: &Home, guardian: &GuardianArg) -> Result<Speaker, CliError> {
    let path = guardian.key.clone().unwrap_or_else(|| home.path(operator::KEY));
    operator::speaker_at(&path)?.ok_or_else(|| {
        CliError::new(format!("there is no key in {}", path.display()))
            .next("name the guardian's key with --key FILE")
            .exit(Exit::NotThere)
    })
}

fn no_request(error: impl std::fmt::Display) -> CliError {
    CliError::new(format!("this is no request for a release: {error}"))
}

/// About releases.
pub async fn release(
    home: &Home,
    command: ReleaseCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    match command {
        ReleaseCommand::List { vault } => list(home, vault.vault.as_deref(), output).await,
        ReleaseCommand::Request { request, approval, vault } => {
            let request = read_request(&request)?;
            let approvals: Result<Vec<Signed<Approval>>, CliError> =
                approval.iter().map(|path| read_file(path)).collect();
            let approvals = approvals?;
            let verified = request.verify(&approvals).map_err(no_request)?;
            let vault = vault::choose(home, vault.vault.as_deref())?;
            let asked = verified.request();
            if asked.vault != vault.id {
                let what =
                    format!("the request is of vault {}, not of {}", asked.vault, vault.name);
                return Err(CliError::new(what).next("name the vault with --vault"));
            }
            let mesh = Mesh::connect(home, Caller::device(&vault)).await?;
            let came = send(&mesh, &request, &approvals).await;
            let release = verified.id();
            let counts = came.iter().any(|came| came.cooling + came.locked > 0);
            warn_of_silent(&mesh, output);
            if output.style().json {
                let silent = mesh.silent.len();
                let body = json!({ "release": release, "nodes": came, "silent": silent });
                output.json("summary", &body);
            } else {
                if counts {
                    output.good(format!("release {release} was brought to the holders"));
                } else {
                    output.bad(format!("release {release} counts at no node"));
                }
                show(&came, output);
            }
            Ok(if counts { Exit::Done } else { Exit::Failed })
        }
        ReleaseCommand::Approve { request, out, guardian } => {
            let verified = read_request(&request)?.verify(&[]).map_err(no_request)?;
            let key = guardian_key(home, &guardian)?;
            let (release, asked) = (verified.id(), verified.request());
            let approval = Approval { guardian: key.operator(), release, expires: asked.expires };
            write_new(&out, &Signed::speak(&approval, &key).to_bytes(), 0o644)?;
            if output.style().json {
                let body = json!({
                    "release": release, "vault": asked.vault, "stripes": asked.stripes.len(),
                    "issued": asked.issued, "expires": asked.expires, "node": verified.at(),
                });
                output.json("summary", &body);
            } else {
                let stripes = counted(asked.stripes.len(), "stripe");
                let at = verified.at().map_or_else(String::new, |node| {
                    format!(", at node {} alone, where others have them too", node.short())
                });
                output.good(format!("approved: release {release}"));
                output.line(format!(
                    "  {stripes} of vault {}{at}, asked {}",
                    asked.vault,
                    time(asked.issued)
                ));
            }
            Ok(Exit::Done)
        }
        ReleaseCommand::Guardian { guardian } => {
            let id = guardian_key(home, &guardian)?.operator();
            if output.style().json {
                output.json("summary", &json!({ "guardian": id }));
            } else {
                output.result(id.to_string());
            }
            Ok(Exit::Done)
        }
        ReleaseCommand::Veto { release, vault, guardian } => {
            let key = guardian_key(home, &guardian)?;
            let audience = Audience::gather(home, vault.vault.as_deref()).await?;
            let shown = audience.standstills().await;
            let mut running = shown.iter().filter_map(|(_, told)| told.as_ref().ok());
            if !running.any(|told| told.running.iter().any(|one| one.release == release)) {
                output.warn("no node that answers shows such a release: compare its id with `strewn release list`");
            }
            let veto = Veto { guardian: key.operator(), release };
            let veto = Signed::speak(&veto, &key);
            let request = Request::Veto { vault: audience.vault, veto };
            let said = audience.say(&request).await;
            warn_of_silent(&audience.mesh, output);
            told(said, &format!("release {release} is stopped"), output)
        }
    }
}

/// About holds.
pub async fn hold(home: &Home, command: HoldCommand, output: &Output) -> Result<Exit, CliError> {
    let (period, vault, guardian) = match command {
        HoldCommand::On { period, vault, guardian } => (Some(period), vault, guardian),
        HoldCommand::Off { vault, guardian } => (None, vault, guardian),
    };
    let key = guardian_key(home, &guardian)?;
    let audience = Audience::gather(home, vault.vault.as_deref()).await?;
    let (vault, guardian) = (audience.vault, key.operator());
    let order = HoldOrder { vault, guardian, number: wall().0, period };
    if period == Some(Period(0)) {
        return Err(CliError::new("a hold of no time at all").exit(Exit::Usage));
    }
    let said = audience.say(&Request::Hold(Signed::speak(&order, &key))).await;
    warn_of_silent(&audience.mesh, output);
    let what = match period {
        Some(period) => {
            let period = period.min(protocol::hold::HOLD_MAX);
            format!("nothing of the vault expires there for {period}")
        }
        None => "the hold has ended".into(),
    };
    told(said, &what, output)
}

/// One node that has heard it is enough: it tells the others.
fn told(
    said: Vec<(NodeId, Result<(), ClientError>)>,
    what: &str,
    output: &Output,
) -> Result<Exit, CliError> {
    let heard = said.iter().filter(|(_, done)| done.is_ok()).count();
    let refused: Vec<(NodeId, String)> = said
        .into_iter()
        .filter_map(|(node, done)| Some((node, CliError::from(done.err()?).message())))
        .collect();
    if output.style().json {
        output.json("summary", &json!({ "heard": heard, "failed": refused }));
    } else {
        for (node, why) in &refused {
            output.warn(format!("node {}: {why}", node.short()));
        }
        if heard > 0 {
            output
                .good(format!("{what}; {} heard it, and tell the others", counted(heard, "node")));
        }
    }
    if heard == 0 {
        return Err(CliError::new("no node that holds the vault took it")
            .next("say with --key FILE which guardian speaks, and with --vault of which vault"));
    }
    Ok(Exit::Done)
}

async fn list(home: &Home, vault: Option<&str>, output: &Output) -> Result<Exit, CliError> {
    let audience = Audience::gather(home, vault).await?;
    let mut is_any = false;
    for (node, standstill) in audience.standstills().await {
        let standstill = match standstill {
            Ok(standstill) => standstill,
            Err(error) => {
                let what = CliError::from(error).message();
                output.warn(format!("node {}: {what}", node.short()));
                continue;
            }
        };
        if output.style().json {
            let running = standstill.running.iter().map(|running| {
                json!({
                    "release": running.release, "issued": running.issued, "stripes": running.stripes,
                    "remaining": running.remaining.0, "vetoed": running.vetoed,
                })
            });
            let running: Vec<_> = running.collect();
            let holds = standstill.holds.iter();
            let holds: Vec<_> =
                holds.map(|(who, left)| json!({ "guardian": who, "remaining": left.0 })).collect();
            let body = json!({
                "node": node, "running": running, "holds": holds, "stands": standstill.stands,
            });
            output.json("node", &body);
            continue;
        }
        let mut lines = Vec::new();
        for running in &standstill.running {
            let state = match running.vetoed.first() {
                Some(guardian) => format!("stopped by guardian {}", guardian.short()),
                None => format!("the last of it goes in {}", span(running.remaining)),
            };
            let stripes = counted(running.stripes as usize, "stripe");
            let issued = time(running.issued);
            lines.push(format!(
                "  release {}, of {stripes}, asked {issued}: {state}",
                running.release
            ));
        }
        for (guardian, left) in &standstill.holds {
            lines.push(format!(
                "  guardian {} holds all of it for {}",
                guardian.short(),
                span(*left)
            ));
        }
        lines.extend(standstill.stands.map(|why| format!("  nothing is dropped here: {why}")));
        if !lines.is_empty() {
            is_any = true;
            output.line(format!("node {}:", node.short()));
            for line in &lines {
                output.line(line);
            }
        }
    }
    warn_of_silent(&audience.mesh, output);
    if !is_any && audience.mesh.silent.is_empty() && !output.style().json {
        output.good("nothing is about to be dropped");
    }
    Ok(Exit::Done)
}
