//! `partner statement` and `partner balance`: months as nodes state them, for people and programs.

use super::data::time;
use super::partner::known;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::{Column, Output, printable};
use crate::cli::partner::StatementArgs;
use crate::client::operator;
use crate::client::partners::{PartnersError, find};
use crate::client::statements::{
    Entry, Fetched, Verified as Counted, countersign, fetch, recount, vaults,
};
use crate::home::Home;
use crate::service::wall;
use crate::size::{ByteSize, counted};
use protocol::id::{NodeId, OperatorId, PublicKey, VaultId};
use protocol::partner::Known;
use protocol::tally::{Figures, Month, Unshown, UsageStatement};
use protocol::time::Wall;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a month came to, as programs read it.
#[derive(Debug, Serialize)]
struct Sums {
    byte_days: u64,
    /// Exact, as text: it may be longer than a number of JSON.
    byte_milliseconds: String,
    opening_bytes: u64,
    opening_shards: u64,
    put_bytes: u64,
    put_shards: u64,
    dropped_bytes: u64,
    dropped_shards: u64,
    received: u64,
    sent: u64,
    audits_passed: u64,
    audits_failed: u64,
}

impl Sums {
    fn of(figures: &Figures) -> Self {
        let Figures { opening, came, went, byte_ms, done } = *figures;
        Self {
            byte_days: figures.byte_days(),
            byte_milliseconds: byte_ms.to_string(),
            opening_bytes: opening.bytes,
            opening_shards: opening.shards,
            put_bytes: came.bytes,
            put_shards: came.shards,
            dropped_bytes: went.bytes,
            dropped_shards: went.shards,
            received: done.received,
            sent: done.sent,
            audits_passed: done.proved,
            audits_failed: done.unproved,
        }
    }
}

/// A figure that receipts do not bear out.
#[derive(Debug, Serialize)]
struct Differs {
    what: &'static str,
    stated: String,
    at_least: String,
    at_most: String,
}

/// A stripe whose receipt does not count.
#[derive(Debug, Serialize)]
struct Wrong {
    stripe: String,
    why: String,
}

/// What counting receipts again came to.
#[derive(Debug, Serialize)]
struct Verified {
    good: bool,
    receipts: u64,
    /// Who signed for service, and for what.
    served: Vec<ServedLine>,
    differences: Vec<Differs>,
    /// Where more went, by the holder's word, than the vault let go.
    unshown: Option<NotShown>,
    receipts_wrong: Vec<Wrong>,
    /// Receipts for service that count for nothing, or that the holder was given and does not show.
    services_wrong: Vec<String>,
}

/// What somebody signed that the holder did for it.
#[derive(Debug, Serialize)]
struct ServedLine {
    by: PublicKey,
    received: u64,
    sent: u64,
    audits_passed: u64,
    audits_failed: u64,
}

/// What went by a holder's word, and what can have gone by what the vault did.
#[derive(Debug, Serialize)]
struct NotShown {
    stated_shards: u64,
    stated_bytes: u64,
    let_go_shards: u64,
    let_go_bytes: u64,
}

impl Verified {
    fn of(verified: &Counted) -> Self {
        let counted = &verified.counted;
        let differences = counted.differences.iter().map(|difference| Differs {
            what: difference.what,
            stated: difference.stated.to_string(),
            at_least: difference.least.to_string(),
            at_most: difference.most.to_string(),
        });
        let wrong = counted
            .wrong
            .iter()
            .map(|(stripe, why)| Wrong { stripe: stripe.to_string(), why: why.clone() });
        let served = verified.served.iter().map(|&(by, done)| ServedLine {
            by,
            received: done.received,
            sent: done.sent,
            audits_passed: done.proved,
            audits_failed: done.unproved,
        });
        Self {
            good: verified.is_good(),
            receipts: counted.receipts,
            served: served.collect(),
            differences: differences.collect(),
            unshown: counted.unshown.map(|Unshown { stated, let_go }| NotShown {
                stated_shards: stated.shards,
                stated_bytes: stated.bytes,
                let_go_shards: let_go.shards,
                let_go_bytes: let_go.bytes,
            }),
            receipts_wrong: wrong.collect(),
            services_wrong: verified.services_wrong.clone(),
        }
    }
}

/// A statement as people and programs read it.
#[derive(Debug, Serialize)]
struct Row {
    partner: String,
    operator: OperatorId,
    /// `given` to the partner, or `taken` from it.
    direction: &'static str,
    node: NodeId,
    vault: VaultId,
    month: String,
    until: Wall,
    figures: Sums,
    /// Up to when the owner has agreed.
    agreed_until: Option<Wall>,
    verified: Option<Verified>,
    /// Why its receipts were not counted, where that was asked.
    not_verified: Option<String>,
}

impl Row {
    fn of(entry: &Entry, names: &BTreeMap<OperatorId, String>) -> Self {
        let UsageStatement { vault, month, until, figures, .. } = &entry.statement;
        let fingerprint = || entry.partner.key().fingerprint();
        Self {
            partner: names.get(&entry.partner).cloned().unwrap_or_else(fingerprint),
            operator: entry.partner,
            direction: if entry.is_given { "given" } else { "taken" },
            node: entry.node.id,
            vault: *vault,
            month: month.to_string(),
            until: *until,
            figures: Sums::of(figures),
            agreed_until: entry.agreed.as_ref().map(|agreed| agreed.until),
            verified: None,
            not_verified: None,
        }
    }

    /// The verdict in a word.
    fn verdict(&self) -> &'static str {
        match &self.verified {
            Some(verified) if verified.good => "yes",
            Some(verified) if verified.differences.is_empty() && verified.unshown.is_some() => {
                "up to"
            }
            Some(_) => "no",
            None => "",
        }
    }

    fn csv(&self) -> String {
        let sums = &self.figures;
        let name = format!("\"{}\"", self.partner.replace('"', "\"\""));
        let texts = [name, self.operator.to_string(), self.direction.into(), self.node.to_string()];
        let more = [self.vault.to_string(), self.month.clone(), self.until.0.to_string()];
        let numbers = [
            sums.byte_days,
            sums.opening_bytes,
            sums.put_bytes,
            sums.dropped_bytes,
            sums.received,
            sums.sent,
            sums.audits_passed,
            sums.audits_failed,
        ];
        let numbers = numbers.map(|number| number.to_string());
        let agreed = self.agreed_until.map_or_else(String::new, |until| until.0.to_string());
        let last = [sums.byte_milliseconds.clone(), agreed, self.verdict().into()];
        let fields = texts.into_iter().chain(more).chain(numbers).chain(last);
        fields.collect::<Vec<_>>().join(",")
    }
}

/// The names of [`Row::csv`]'s fields.
const CSV: &str = "partner,operator,direction,node,vault,month,until_ms,byte_days,opening_bytes,put_bytes,dropped_bytes,received,sent,\
audits_passed,audits_failed,byte_milliseconds,agreed_until_ms,verified";

/// What nodes say of a month, and the partners that are known.
async fn gather(
    home: &Home,
    month: Month,
    output: &Output,
) -> Result<(Fetched, Vec<Known>), CliError> {
    let (own, partners, reached) = known(home, output).await?;
    let mesh =
        reached.mesh.ok_or_else(|| CliError::new("no node answers that could state anything"))?;
    let fetched = fetch(&mesh, own, month).await;
    for (node, why) in &fetched.failed {
        output.warn(format!("node {} states nothing: {why}", node.short()));
    }
    for (node, silent) in &mesh.silent {
        let whose = mesh.partners.get(&silent.site.operator);
        let whose = whose.map_or_else(String::new, |name| format!(" of {}", printable(name)));
        output.warn(format!("node {}{whose} does not answer: its part is missing", node.short()));
    }
    Ok((fetched, partners))
}

fn names(partners: &[Known]) -> BTreeMap<OperatorId, String> {
    partners.iter().map(|known| (known.introduction.operator, known.name.clone())).collect()
}

pub(super) async fn show(
    home: &Home,
    args: &StatementArgs,
    output: &Output,
) -> Result<Exit, CliError> {
    let month = args.month.unwrap_or_else(|| Month::of(wall()));
    if args.csv && output.style().json {
        return Err(
            CliError::new("--csv and --json together: one form at a time").exit(Exit::Usage)
        );
    }
    if args.countersign {
        let _ = operator::speaker_for(home, "agreeing to statements")?;
    }
    let (mut fetched, partners) = gather(home, month, output).await?;
    if let Some(name) = &args.partner {
        let meant =
            find(partners.iter(), name).ok_or_else(|| PartnersError::Unknown(name.clone()))?;
        let meant = meant.introduction.operator;
        fetched.entries.retain(|entry| entry.partner == meant);
    }
    let names = names(&partners);
    let mut rows: Vec<Row> = fetched.entries.iter().map(|entry| Row::of(entry, &names)).collect();
    if args.verify || args.countersign {
        verify(home, &mut fetched.entries, &mut rows, &names).await?;
    }
    if args.countersign {
        for (entry, row) in fetched.entries.iter().zip(&mut rows) {
            if row.verified.as_ref().is_some_and(|verified| verified.good) {
                countersign(home, entry).await?;
                row.agreed_until = Some(entry.statement.until);
            }
        }
    }
    print(&rows, args.csv, output);
    if args.countersign {
        let signed = rows.iter().filter(|row| row.verified.as_ref().is_some_and(|v| v.good));
        let folder = home.path("statements").join(month.to_string());
        output.hint(format!(
            "{} of {} signed, given back to the nodes, and kept in {}",
            signed.count(),
            counted(rows.len(), "statement"),
            folder.display()
        ));
    }
    let is_borne_out = |row: &Row| row.verified.as_ref().is_none_or(|verified| verified.good);
    Ok(if rows.iter().all(is_borne_out) { Exit::Done } else { Exit::Failed })
}

/// Counts the receipts of what was taken, vault by vault.
async fn verify(
    home: &Home,
    entries: &mut [Entry],
    rows: &mut [Row],
    names: &BTreeMap<OperatorId, String>,
) -> Result<(), CliError> {
    let vaults = vaults(home)?;
    let mut by_vault: BTreeMap<VaultId, Vec<usize>> = BTreeMap::new();
    for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.is_given) {
        by_vault.entry(entry.statement.vault).or_default().push(place);
    }
    for (vault, places) in by_vault {
        let Some(vault) = vaults.get(&vault) else {
            for place in places {
                rows[place].not_verified = Some("no device of its vault is on this host".into());
            }
            continue;
        };
        let statements: Vec<&UsageStatement> =
            places.iter().map(|&place| &entries[place].statement).collect();
        let counted = recount(home, vault, &statements).await?;
        for (place, counted) in places.into_iter().zip(counted) {
            match counted {
                Ok(counted) => {
                    // What was counted is what is shown, and what is agreed to.
                    let entry = &mut entries[place];
                    entry.statement = counted.statement.clone();
                    entry.signed = counted.signed.clone();
                    rows[place] = Row::of(entry, names);
                    rows[place].verified = Some(Verified::of(&counted));
                }
                Err(why) => rows[place].not_verified = Some(why),
            }
        }
    }
    Ok(())
}

fn print(rows: &[Row], csv: bool, output: &Output) {
    if output.style().json {
        for row in rows {
            output.json("statement", row);
        }
        return;
    }
    if csv {
        output.result(CSV);
        for row in rows {
            output.result(row.csv());
        }
        return;
    }
    let columns = [
        Column::text("partner"),
        Column::text(""),
        Column::text("node"),
        Column::text("vault"),
        Column::number("byte-days"),
        Column::number("put"),
        Column::number("dropped"),
        Column::number("sent"),
        Column::number("audits"),
        Column::text("agreed until"),
        Column::text("borne out"),
    ];
    let cells = rows.iter().map(|row| {
        let sums = &row.figures;
        let audits = format!(
            "{} of {}",
            sums.audits_passed,
            sums.audits_passed.saturating_add(sums.audits_failed)
        );
        vec![
            printable(&row.partner).into_owned(),
            row.direction.into(),
            row.node.short(),
            row.vault.short(),
            ByteSize(sums.byte_days).to_string(),
            ByteSize(sums.put_bytes).to_string(),
            ByteSize(sums.dropped_bytes).to_string(),
            ByteSize(sums.sent).to_string(),
            audits,
            row.agreed_until.map_or_else(String::new, time),
            row.verdict().into(),
        ]
    });
    output.table(&columns, cells);
    for row in rows {
        let which = format!("node {}, vault {}", row.node.short(), row.vault.short());
        if let Some(why) = &row.not_verified {
            output.line(format!("{which}: not verified: {why}"));
        }
        let Some(verified) = &row.verified else { continue };
        for differs in &verified.differences {
            output.bad(format!(
                "{which}: {} {} stated, its receipts show {} at least and {} at most",
                differs.stated, differs.what, differs.at_least, differs.at_most
            ));
        }
        if let Some(unshown) = &verified.unshown {
            output.bad(format!(
                "{which}: {} shards with {} bytes went by its word, and the vault let go {} with {} at most: up to that its figures are \
                 borne out, and they are not countersigned",
                unshown.stated_shards,
                unshown.stated_bytes,
                unshown.let_go_shards,
                unshown.let_go_bytes
            ));
        }
        for wrong in &verified.receipts_wrong {
            output.bad(format!("{which}: stripe {}: {}", wrong.stripe, wrong.why));
        }
        for wrong in &verified.services_wrong {
            output.bad(format!("{which}: {wrong}"));
        }
    }
}

/// What was given to a partner and taken from it.
#[derive(Debug, Serialize)]
struct Balance {
    partner: String,
    operator: OperatorId,
    month: String,
    given: Sums,
    taken: Sums,
}

pub(super) async fn balance(
    home: &Home,
    month: Option<Month>,
    output: &Output,
) -> Result<Exit, CliError> {
    let month = month.unwrap_or_else(|| Month::of(wall()));
    let (fetched, partners) = gather(home, month, output).await?;
    let names = names(&partners);
    let mut sums: BTreeMap<OperatorId, [Figures; 2]> = BTreeMap::new();
    for partner in &partners {
        let _ = sums.entry(partner.introduction.operator).or_default();
    }
    for entry in &fetched.entries {
        let side = &mut sums.entry(entry.partner).or_default()[usize::from(!entry.is_given)];
        *side = side.plus(&entry.statement.figures);
    }
    let rows: Vec<Balance> = sums
        .into_iter()
        .map(|(operator, [given, taken])| Balance {
            partner: names.get(&operator).cloned().unwrap_or_else(|| operator.key().fingerprint()),
            operator,
            month: month.to_string(),
            given: Sums::of(&given),
            taken: Sums::of(&taken),
        })
        .collect();
    if output.style().json {
        for row in &rows {
            output.json("balance", row);
        }
        return Ok(Exit::Done);
    }
    let columns = [
        Column::text("partner"),
        Column::number("given, byte-days"),
        Column::number("taken, byte-days"),
        Column::number("sent to it"),
        Column::number("read from it"),
    ];
    let cells = rows.iter().map(|row| {
        let size = |bytes: u64| ByteSize(bytes).to_string();
        vec![
            printable(&row.partner).into_owned(),
            size(row.given.byte_days),
            size(row.taken.byte_days),
            size(row.given.sent),
            size(row.taken.sent),
        ]
    });
    output.table(&columns, cells);
    Ok(Exit::Done)
}
