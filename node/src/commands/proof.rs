//! `prove`, `verify-proof`.

use super::data::time;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::{Column, Output};
use crate::cli::progress::Progress;
use crate::cli::proof::{OperatorName, ProveArgs, VerifyProofArgs};
use crate::client::prove;
use crate::client::recipients::Identities;
use crate::client::vault;
use crate::home::Home;
use crate::service::wall;
use crate::size::{counted, format_duration};
use protocol::audit::{TRANSCRIPT_LEN_MAX, TRANSCRIPT_MAGIC};
use protocol::certificate::Trust;
use protocol::label::Domain;
use protocol::leave::paper;
use protocol::proof::{MAGIC, PART_LEN_MAX, ProofError, Shown, Verifier};
use serde_json::json;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, IsTerminal, Read, Write};
use std::path::Path;

/// Writes a proof.
pub async fn prove(home: &Home, args: ProveArgs, output: &Output) -> Result<Exit, CliError> {
    let is_refused = output.style().json || std::io::stdout().is_terminal();
    if args.output.is_none() && is_refused {
        return Err(CliError::new("a proof is no text").next("write it to a file: --output FILE"));
    }
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    let identities = Identities::find_any(args.identity.as_deref())?;
    let (mut to, name): (Box<dyn Write + Send>, _) = match &args.output {
        Some(path) => {
            let failed = |e| CliError::new(format!("{}: {e}", path.display()));
            (Box::new(BufWriter::new(File::create_new(path).map_err(failed)?)), Some(path))
        }
        None => (Box::new(BufWriter::new(std::io::stdout())), None),
    };
    let progress = Progress::start(output, "gathering receipts");
    let counters = progress.counters();
    let proved =
        prove::prove(home, vault, &args.snapshot, identities.as_ref(), &counters, &mut to).await;
    drop(progress);
    if let (Err(_), Some(path)) = (&proved, name) {
        // What was begun is no proof.
        let _ = std::fs::remove_file(path);
    }
    let proved = proved?;
    output.json("summary", &proved);
    if name.is_some() {
        let what = if proved.is_exact { "all that it needs" } else { "all of the vault" };
        let stripes = counted(proved.stripes as usize, "stripe");
        output.good(format!(
            "snapshot {}: the receipts of {stripes}, {what}",
            proved.snapshot.short()
        ));
    }
    Ok(Exit::Done)
}

fn no_proof(path: &Path, why: impl std::fmt::Display) -> CliError {
    CliError::new(format!("{} is no proof: {why}", path.display()))
}

/// What was signed about a snapshot's placement, of a node that leaves, or in an audit.
enum Opened {
    Placement(Box<dyn Read>),
    Leave(Box<dyn Read>),
    Audit(Vec<u8>),
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    match error.kind() {
        ErrorKind::UnexpectedEof => no_proof(path, ProofError::CutOff),
        _ => CliError::new(format!("{}: {error}", path.display())),
    }
}

fn open(path: &Path) -> Result<Opened, CliError> {
    let failed = |e: std::io::Error| failed(path, &e);
    let mut from: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(failed)?))
    };
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic).map_err(failed)?;
    if magic == *MAGIC {
        return Ok(Opened::Placement(from));
    }
    if magic == *paper::MAGIC {
        return Ok(Opened::Leave(from));
    }
    if magic == *TRANSCRIPT_MAGIC {
        let mut bytes = magic.to_vec();
        // One byte more than there may be: what is cut off here decodes no more.
        from.take(TRANSCRIPT_LEN_MAX as u64).read_to_end(&mut bytes).map_err(failed)?;
        return Ok(Opened::Audit(bytes));
    }
    let error = no_proof(path, "it does not begin like one, or is of a later version");
    Err(error.next("`strewn prove SNAPSHOT > FILE` makes one"))
}

/// Reads a proof, part by part, none longer than that.
fn read(
    path: &Path,
    mut from: Box<dyn Read>,
    len_max: usize,
    mut handle: impl FnMut(&[u8]) -> Result<(), ProofError>,
) -> Result<(), CliError> {
    let failed = |e: std::io::Error| failed(path, &e);
    let mut body = Vec::new();
    loop {
        let mut len = [0; 4];
        match from.read(&mut len[..1]).map_err(failed)? {
            0 => break,
            _ => from.read_exact(&mut len[1..]).map_err(failed)?,
        }
        let len = u32::from_le_bytes(len) as usize;
        if len > len_max {
            return Err(no_proof(path, format!("a part of {len} bytes")));
        }
        body.resize(len, 0);
        from.read_exact(&mut body).map_err(failed)?;
        handle(&body).map_err(|error| no_proof(path, error))?;
    }
    Ok(())
}

/// Checks what others signed for a node that leaves.
fn verify_leave(
    path: &Path,
    from: Box<dyn Read>,
    trust: Option<Trust>,
    output: &Output,
) -> Result<Exit, CliError> {
    let mut verifier = paper::Verifier::new(wall(), trust);
    read(path, from, paper::PART_LEN_MAX, |body| verifier.handle_part(body))?;
    let shown = verifier.finish().map_err(|error| no_proof(path, error))?;
    let exit = if shown.is_good() { Exit::Done } else { Exit::Failed };
    if output.style().json {
        let [none, one, enough] = shown.vouched;
        let operators: Vec<_> = shown
            .operators
            .iter()
            .map(|(operator, stripes)| json!({ "operator": operator, "stripes": stripes }))
            .collect();
        let body = json!({
            "good": shown.is_good(), "leaves": shown.node, "operator": shown.operator, "made": shown.made,
            "stripes": shown.stripes, "operators": operators, "since": shown.since,
            "by_no_other_operator": none, "by_one_other_operator": one, "by_two_other_operators": enough,
        });
        output.json("summary", &body);
        return Ok(exit);
    }
    let stripes = counted(shown.stripes as usize, "stripe");
    output.line(format!("node {} leaves, and lists {stripes}", shown.node));
    output.line(format!("  as of {} UTC", time(shown.made)));
    let fingerprint = shown.operator.key().fingerprint();
    output.line(format!("  it belongs to operator {} ({fingerprint})", shown.operator));
    for (operator, stripes) in &shown.operators {
        let fingerprint = operator.key().fingerprint();
        let stripes = counted(*stripes as usize, "stripe");
        output.line(format!("  operator {operator} ({fingerprint}) vouches for {stripes}"));
    }
    if let Some(since) = shown.since {
        output.line(format!("  the first of them looked at {} UTC", time(since)));
    }
    if shown.is_good() {
        output.good("PROVED: two other operators found that nothing it lists misses it");
        return Ok(exit);
    }
    let [none, one, _] = shown.vouched;
    for (count, who) in [(none, "no other operator"), (one, "one other operator alone")] {
        if count > 0 {
            output.line(format!("  {} by the word of {who}", counted(count as usize, "stripe")));
        }
    }
    output.bad("NOT PROVED: not all that it lists has the word of two other operators");
    Ok(exit)
}

/// Checks a proof.
pub fn verify(args: &VerifyProofArgs, output: &Output) -> Result<Exit, CliError> {
    let ids = args.operator.iter().filter_map(|name| match name {
        OperatorName::Id(id) => Some(*id),
        OperatorName::Fingerprint(_) => None,
    });
    let fingerprints = args.operator.iter().filter_map(|name| match name {
        OperatorName::Id(_) => None,
        OperatorName::Fingerprint(fingerprint) => Some(fingerprint.clone()),
    });
    let trust = Trust::new(ids).and_fingerprints(fingerprints);
    let trust = (!args.operator.is_empty()).then_some(trust);
    let now = wall();
    let from = match open(&args.proof)? {
        Opened::Placement(from) => from,
        Opened::Leave(from) => return verify_leave(&args.proof, from, trust, output),
        Opened::Audit(bytes) => return super::audit::verify(&args.proof, &bytes, output),
    };
    let mut verifier = Verifier::new(now, trust);
    read(&args.proof, from, PART_LEN_MAX, |body| verifier.handle_part(body))?;
    let shown = verifier.finish().map_err(|error| no_proof(&args.proof, error))?;
    let is_kept = shown.kept_for(now).is_some();
    let exit = if shown.is_good() && is_kept { Exit::Done } else { Exit::Failed };
    if output.style().json {
        summary(&shown, is_kept, output);
        return Ok(exit);
    }
    output.line(format!("snapshot {} of vault {}", shown.snapshot, shown.vault));
    output.line(format!(
        "  {} and {} entries of the log, as of {} UTC",
        counted(shown.stripes as usize, "stripe"),
        shown.entries,
        time(shown.made)
    ));
    let fingerprint = shown.operator.key().fingerprint();
    output.line(format!("  the vault belongs to operator {} ({fingerprint})", shown.operator));
    for (operator, nodes) in &shown.operators {
        let nodes = counted(*nodes as usize, "node");
        let fingerprint = operator.key().fingerprint();
        output.line(format!("  operator {operator} ({fingerprint}) vouches for {nodes}"));
    }
    match (shown.kept_until, shown.kept_for(now)) {
        (Some(until), Some(left)) => output.line(format!(
            "  every holder keeps its shard until {} UTC at least ({} from now)",
            time(until),
            format_duration(std::time::Duration::from_millis(left.0))
        )),
        (Some(until), None) => {
            output.warn(format!("the first promise ended at {} UTC", time(until)));
        }
        (None, _) => {}
    }
    let rows = shown.exposure.levels.iter().map(|(level, found)| {
        let example: Vec<String> = found.destroy.iter().map(Domain::short).collect();
        let assemble = found.assemble.as_ref().map_or("never".into(), |set| set.len().to_string());
        vec![level.to_string(), found.destroy.len().to_string(), assemble, example.join(", ")]
    });
    let columns = [
        Column::text("level"),
        Column::number("to destroy"),
        Column::number("to assemble the ciphertext"),
        Column::text("for example"),
    ];
    output.table(&columns, rows);
    if shown.is_good() && !is_kept {
        output.bad("NOT PROVED: it lay as the policy asks, and promises have ended");
        return Ok(exit);
    }
    if shown.is_good() {
        output.good("PROVED: all of it lies as the policy asks");
        return Ok(exit);
    }
    for shortfall in &shown.shortfalls {
        output.line(format!("  {}: {}", shortfall.what, shortfall.why));
    }
    output.bad(format!(
        "NOT PROVED: {} of it not as the policy asks",
        counted(shown.short as usize, "part")
    ));
    Ok(exit)
}

fn summary(shown: &Shown, is_kept: bool, output: &Output) {
    let levels = shown.exposure.levels.iter().map(|(level, found)| {
        json!({
            "level": level.to_string(),
            "destroy": found.destroy.len(),
            "destroy_example": found.destroy.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "assemble": found.assemble.as_ref().map(Vec::len),
        })
    });
    let operators: Vec<_> = shown
        .operators
        .iter()
        .map(|(operator, nodes)| json!({ "operator": operator, "nodes": nodes }))
        .collect();
    let body = json!({
        "good": shown.is_good() && is_kept, "kept": is_kept, "vault": shown.vault, "snapshot": shown.snapshot, "made": shown.made,
        "operator": shown.operator, "operators": operators, "entries": shown.entries, "stripes": shown.stripes,
        "kept_until": shown.kept_until, "exposure": levels.collect::<Vec<_>>(),
        "short": shown.short, "shortfalls": shown.shortfalls,
    });
    output.json("summary", &body);
}
