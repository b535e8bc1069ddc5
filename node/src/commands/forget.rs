//! `forget`.

use super::data::time;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::forget::ForgetArgs;
use crate::cli::output::{Column, Output};
use crate::client::forget::{Group, Judged, Plan, entries};
use crate::client::restore::Reader;
use crate::client::vault;
use crate::home::Home;
use crate::size::counted;
use protocol::id::EntryId;
use protocol::sign::SecretKey;
use serde_json::json;

/// Says which snapshots rules keep, and writes down what they do not.
pub async fn forget(home: &Home, args: ForgetArgs, output: &Output) -> Result<Exit, CliError> {
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    if args.apply {
        key_of(&vault)?;
    }
    let mut reader = Reader::open(home, vault, None).await?;
    let forgotten = if args.snapshot.is_empty() {
        by_rules(&reader, &args, output)
    } else {
        by_name(&reader, &args.snapshot)?
    };
    let snapshots = reader.ledger.snapshots();
    let wanted = snapshots.iter().filter(|logged| !reader.ledger.is_forgotten(logged)).count();
    let kept = wanted - forgotten.len();
    let what = counted(forgotten.len(), "snapshot");
    let question = format!("Forget {what}, and keep {kept}?");
    let key = reader.vault.key().cloned().filter(|_| !forgotten.is_empty());
    let key = key.filter(|_| args.apply || output.ask(&question));
    let is_applied = args.apply || key.is_some();
    if let Some(key) = &key {
        for body in entries(&reader.vault, key, &forgotten) {
            let _ = reader.ledger.append(&reader.mesh, &reader.vault, body, false).await?;
        }
    }
    if output.style().json {
        let body = json!({ "kept": kept, "forgotten": forgotten, "applied": is_applied });
        output.json("summary", &body);
        return Ok(Exit::Done);
    }
    if forgotten.is_empty() {
        output.good("nothing is to be forgotten");
    } else if is_applied {
        output.good(format!("{what} forgotten, {kept} kept; nothing was deleted"));
    } else {
        output.line(format!("{what} would be forgotten, {kept} kept; --apply does it"));
    }
    Ok(Exit::Done)
}

pub(super) fn key_of(vault: &vault::Vault) -> Result<SecretKey, CliError> {
    vault.key().cloned().ok_or_else(|| {
        CliError::new(format!("the key of vault {} is not here", vault.name)).next(
            "do it on the host where the vault was made; here it can be tried without --apply",
        )
    })
}

fn by_name(reader: &Reader, names: &[String]) -> Result<Vec<EntryId>, CliError> {
    let mut ids = Vec::new();
    for name in names {
        let logged = reader.ledger.find_snapshot(name)?;
        if !ids.contains(&logged.id) && !reader.ledger.is_forgotten(logged) {
            ids.push(logged.id);
        }
    }
    Ok(ids)
}

fn by_rules(reader: &Reader, args: &ForgetArgs, output: &Output) -> Vec<EntryId> {
    let rules = args.keep.rules();
    if rules.is_empty() {
        output.warn("no rule says what to keep, so everything is kept");
    }
    let plan = Plan::new(&reader.vault, &reader.ledger, &rules);
    for group in &plan.groups {
        show(group, output);
    }
    if !plan.unreadable.is_empty() {
        let count = counted(plan.unreadable.len(), "snapshot");
        output.warn(format!("the summary of {count} cannot be opened: kept"));
    }
    plan.forgotten()
}

fn reasons(judged: &Judged) -> Vec<String> {
    judged.reasons.iter().map(ToString::to_string).collect()
}

fn show(group: &Group, output: &Output) {
    if output.style().json {
        let snapshots = group.snapshots.iter().map(|judged| {
            json!({
                "id": judged.id, "witnessed": judged.witnessed, "tags": judged.tags,
                "keep": !judged.reasons.is_empty(), "reasons": reasons(judged),
            })
        });
        let snapshots: Vec<_> = snapshots.collect();
        let body = json!({
            "source": group.source, "host": group.host, "device": group.device, "snapshots": snapshots,
        });
        output.json("group", &body);
        return;
    }
    let (source, host, device) = (&group.source, &group.host, group.device.short());
    output.line(format!("{source} on {host} (device {device}):"));
    let rows = group.snapshots.iter().map(|judged| {
        let word = if judged.reasons.is_empty() { "forget" } else { "keep" };
        vec![
            word.into(),
            judged.id.short(),
            time(judged.witnessed),
            judged.tags.join(","),
            reasons(judged).join(", "),
        ]
    });
    let columns = [
        Column::text(""),
        Column::text("id"),
        Column::text("witnessed (UTC)"),
        Column::text("tags"),
        Column::text("why"),
    ];
    output.table(&columns, rows);
}
