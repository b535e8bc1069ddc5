//! `prune`.

use super::forget::key_of;
use super::release::show;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::cli::release::PruneArgs;
use crate::client::prune::{Judged, Prune};
use crate::client::recipients::Identities;
use crate::client::release::{Asked, Came, send};
use crate::client::surplus::Surplus;
use crate::client::vault;
use crate::home::{Home, write_new};
use crate::size::{ByteSize, counted};
use protocol::sign::SecretKey;
use serde_json::json;
use std::path::{Path, PathBuf};

/// What of it was to be written again, before it was.
struct Again {
    packs: usize,
    needed: u64,
    bytes: u64,
    lists: usize,
}

impl Again {
    fn of(judged: &Judged) -> Self {
        let (packs, lists) = (judged.again(), judged.lists());
        Self { packs, needed: judged.again_needed, bytes: judged.again_bytes, lists }
    }

    fn is_nothing(&self) -> bool {
        self.packs == 0 && self.lists == 0
    }
}

/// Asks for the release of what no kept snapshot needs.
pub async fn prune(home: &Home, args: PruneArgs, output: &Output) -> Result<Exit, CliError> {
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    if args.apply {
        key_of(&vault)?;
    }
    let key = vault.key().cloned();
    let is_guarded = vault.policy.lock.guardians.is_some();
    if args.apply && is_guarded && args.out.is_none() {
        return Err(CliError::new("guardians of the vault must agree to a release")
            .next("say with --out FILE where the request goes that they are to approve")
            .exit(Exit::Usage));
    }
    let identities = Identities::find(args.identity.as_deref())?;
    let progress = Progress::start(output, "following snapshots");
    let repack = args.repack.then_some(args.max_unused);
    let plan = Prune::plan(home, vault, &identities, repack, &progress.counters()).await;
    drop(progress);
    let mut plan = plan?;
    let again = Again::of(&plan.judged);
    let is_nothing =
        plan.judged.unneeded.is_empty() && again.is_nothing() && plan.surplus.is_nothing();
    show_plan(&plan, &again, output);
    let key = key.filter(|_| !is_nothing || args.apply);
    let can_ask = !args.apply && (!is_guarded || args.out.is_some());
    let key = key.filter(|_| args.apply || can_ask && output.ask("Ask for the release now?"));
    let is_applied = key.is_some();
    let (mut came, mut files) = (Vec::new(), Vec::new());
    if let Some(key) = key {
        let requests = apply(&mut plan, &key, output).await?;
        match &args.out {
            Some(out) => files = write_all(&requests, out)?,
            None => {
                for request in &requests {
                    came.extend(send(&plan.mesh, request, &[]).await);
                }
            }
        }
    }
    plan.close().await;
    if output.style().json {
        let Judged { kept, unneeded, of_index, bytes, .. } = &plan.judged;
        let body = json!({
            "snapshots": plan.snapshots, "stripes_kept": kept, "stripes_unneeded": unneeded.len(),
            "index_stripes_unneeded": of_index, "bytes_unneeded": bytes, "packs_again": again.packs,
            "bytes_again": again.needed, "bytes_of_packs_again": again.bytes,
            "index_again": again.lists, "copies_too_many": plan.surplus.copies,
            "bytes_of_copies": plan.surplus.bytes, "applied": is_applied, "requests": files, "nodes": came,
        });
        output.json("summary", &body);
    } else if is_nothing {
        output.good("nothing is to be given up");
    } else if is_applied {
        show_applied(&plan, &came, &files, output);
    } else {
        output.line("nothing was changed; --apply asks for it");
    }
    Ok(Exit::Done)
}

async fn apply(
    plan: &mut Prune<'_>,
    key: &SecretKey,
    output: &Output,
) -> Result<Vec<Asked>, CliError> {
    let progress = Progress::start(output, "writing again");
    plan.follow_with(&progress.counters());
    let requests = plan.apply(key).await;
    drop(progress);
    Ok(requests?)
}

/// Writes the requests to this file, and those that one does not hold to files beside it.
fn write_all(requests: &[Asked], out: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        let mut name = out.to_path_buf().into_os_string();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let file = PathBuf::from(name);
        write_new(&file, &request.to_bytes(), 0o644)?;
        files.push(file);
    }
    Ok(files)
}

fn data(judged: &Judged) -> String {
    format!("{} ({} of data)", counted(judged.unneeded.len(), "stripe"), ByteSize(judged.bytes))
}

fn show_plan(plan: &Prune<'_>, again: &Again, output: &Output) {
    let judged = &plan.judged;
    let (snapshots, kept) = (counted(plan.snapshots, "snapshot"), counted(judged.kept, "stripe"));
    output.line(format!("{snapshots} kept, which need {kept}"));
    if again.packs > 0 {
        let (packs, whole) = (counted(again.packs, "stripe"), ByteSize(again.bytes));
        let needed = ByteSize(again.needed);
        output
            .line(format!("of {packs} ({whole}) what is needed, {needed}, is to be written again"));
    }
    if again.lists > 0 {
        let lists = counted(again.lists, "block");
        output.line(format!("{lists} of the index are to be written again, as fewer"));
    }
    if !judged.unneeded.is_empty() {
        output.line(format!("nobody needs {}", data(judged)));
    }
    if !plan.surplus.is_nothing() {
        output.line(format!("{}: others have them as well", copies(&plan.surplus)));
    }
}

fn copies(surplus: &Surplus) -> String {
    let shards = counted(surplus.copies as usize, "surplus shard");
    format!("{shards} ({})", ByteSize(surplus.bytes))
}

/// What is asked for, in words.
fn what(plan: &Prune<'_>) -> String {
    let judged = (!plan.judged.unneeded.is_empty()).then(|| data(&plan.judged));
    let surplus = (!plan.surplus.is_nothing()).then(|| copies(&plan.surplus));
    let parts: Vec<String> = judged.into_iter().chain(surplus).collect();
    parts.join(" and ")
}

fn show_applied(plan: &Prune<'_>, came: &[Came], files: &[PathBuf], output: &Output) {
    let what = what(plan);
    if files.is_empty() {
        output.good(format!("asked for the release of {what}"));
        show(came, output);
        return;
    }
    output.good(format!("{what}: the request is written"));
    for file in files {
        output.line(format!("  {}", file.display()));
    }
    output.line("Next: each guardian says `strewn release approve FILE --out APPROVAL`; then `strewn release request FILE --approval APPROVAL …`");
}
