//! `vault split`, `vault combine`: the recovery identity in parts that people keep.

use crate::cli::Exit;
use crate::cli::error::{CliError, During};
use crate::cli::output::Output;
use crate::cli::recovery::{CombineArgs, SplitArgs};
use crate::client::recipients::{self, Identities};
use crate::client::vault::{self, Vault};
use crate::home::{Home, random, read_file, write_file};
use protocol::recovery::RecoveryTag;
use protocol::share::{self, Part, PartError, ShareError};
use std::io::{IsTerminal, Read};
use std::path::Path;
use zeroize::Zeroizing;

/// What a part begins with.
const MARK: &str = "strewnpart1";
/// Most that is read from standard input, in bytes.
const INPUT_MAX: u64 = 1 << 20;

/// Refuses an identity that does not open the vault: it would be found out when nothing else is left.
pub(super) fn check_opens(vault: &Vault, identities: &Identities) -> Result<(), CliError> {
    let tags: Vec<RecoveryTag> =
        identities.recipients().iter().map(|text| RecoveryTag::of(text)).collect();
    if vault.recipients.iter().any(|text| tags.contains(&RecoveryTag::of(text))) {
        return Ok(());
    }
    Err(CliError::new(format!("this identity does not open vault {}", vault.name))
        .next("`strewn vault list` shows the vaults of this host; choose one with --vault")
        .exit(Exit::WrongIdentity))
}

/// Splits the identity.
pub fn split(home: &Home, args: &SplitArgs, output: &Output) -> Result<Exit, CliError> {
    let text = recipients::find_text(args.identity.as_deref())?;
    let identities = Identities::parse(&text)?;
    // Comments would be shared and typed like everything else.
    let secret = recipients::secret_lines(&text).unwrap_or(text);
    let none = args.vault.vault.is_none() && home.vaults()?.is_empty();
    let vault = if none { None } else { Some(vault::choose(home, args.vault.vault.as_deref())?) };
    if let Some(vault) = &vault {
        check_opens(vault, &identities)?;
    }
    let (need, of) = (args.need, args.parts);
    let seed = Zeroizing::new(random()?);
    let parts = share::split(&secret, vault.as_ref().map(|vault| vault.id), need, of, &seed)?;
    // What cannot be put together again is found out now.
    let again: Vec<Part> = parts.iter().rev().take(usize::from(need)).cloned().collect();
    let is_same = share::combine(&again).is_ok_and(|text| *text == *secret);
    if !is_same {
        return Err(CliError::new("the parts do not give the identity back: do not use them"));
    }
    let name = vault.as_ref().map_or("no vault", |vault| vault.name.as_str());
    let page = |part: &Part| {
        Zeroizing::new(format!(
            "Strewn recovery part {} of {of}: any {need} of them give the identity of vault {name} ({}).\nSet {}. To use it: strewn vault combine\n\n{}\n",
            part.index(),
            part.vault(),
            part.set(),
            *part.to_line(),
        ))
    };
    if let Some(dir) = &args.out {
        write_all(dir, of, &parts, &page)?;
    }
    if output.style().json {
        let lines: Option<Vec<Zeroizing<String>>> =
            args.out.is_none().then(|| parts.iter().map(Part::to_line).collect());
        let lines: Option<Vec<&str>> =
            lines.as_ref().map(|lines| lines.iter().map(|line| line.as_str()).collect());
        let set = parts.first().map(Part::set);
        let vault = vault.as_ref().map(|vault| vault.id);
        let body = serde_json::json!({
            "need": need, "of": of, "set": set, "vault": vault, "parts": lines, "out": args.out,
        });
        output.json("summary", &body);
        return Ok(Exit::Done);
    }
    match &args.out {
        Some(dir) => output.good(format!("{of} parts are in {}", dir.display())),
        None => parts.iter().for_each(|part| output.result(page(part).as_str())),
    }
    output.line(format!(
        "\nAny {need} parts give the identity, fewer give nothing. Keep each with somebody else, and test them now:\nstrewn vault combine FILE FILE …. Splitting again makes another set and takes nothing from this one."
    ));
    Ok(Exit::Done)
}

fn write_all(
    dir: &Path,
    of: u8,
    parts: &[Part],
    page: &dyn Fn(&Part) -> Zeroizing<String>,
) -> Result<(), CliError> {
    let file = |part: &Part| dir.join(format!("part-{}-of-{of}.txt", part.index()));
    if let Some(taken) = parts.iter().map(file).find(|file| file.exists()) {
        return Err(CliError::new(format!("{} is there already", taken.display()))
            .next("give a folder without parts with --out"));
    }
    for part in parts {
        write_file(&file(part), page(part).as_bytes(), 0o600)?;
    }
    Ok(())
}

/// Puts the identity together again.
pub fn combine(args: &CombineArgs, output: &Output) -> Result<Exit, CliError> {
    let mut texts = Vec::new();
    for given in &args.part {
        texts.push((given.clone(), text_of(given)?));
    }
    if args.part.is_empty() {
        texts = typed(output)?;
    }
    let mut parts = Vec::new();
    for (number, (name, text)) in texts.iter().enumerate() {
        let part = Part::from_line(text);
        // Whatever was given is shown only if it is a file's name: a part is a secret.
        let shown = if begins_as_part(name) { String::new() } else { format!(" ({name})") };
        parts.push(part.during(format!("part {}{shown}", number + 1))?);
    }
    let secret = share::combine(&parts)?;
    let identities = Identities::parse(&secret)?;
    if let Some(file) = &args.out {
        if file.exists() {
            return Err(CliError::new(format!("{} is there already", file.display()))
                .next("give another name with --out"));
        }
        write_file(file, format!("{}\n", secret.trim_end()).as_bytes(), 0o600)?;
    }
    let vault = parts.first().map(Part::vault);
    if output.style().json {
        let identity = args.out.is_none().then_some(secret.as_str());
        let body = serde_json::json!({
            "identity": identity, "out": args.out, "vault": vault, "recipients": identities.recipients(),
        });
        output.json("summary", &body);
        return Ok(Exit::Done);
    }
    match &args.out {
        Some(file) => output.good(format!("the identity is in {}", file.display())),
        None => output.result(secret.as_str()),
    }
    output.line(format!("\nIt is the identity of {}.", identities.recipients().join(", ")));
    Ok(Exit::Done)
}

fn begins_as_part(text: &str) -> bool {
    text.trim().get(..MARK.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(MARK))
}

/// A part as it was given: itself, or a file with it.
fn text_of(given: &str) -> Result<Zeroizing<String>, CliError> {
    if begins_as_part(given) {
        return Ok(Zeroizing::new(given.to_owned()));
    }
    let missing = || {
        CliError::new(format!("{given}: neither a part nor a file with one"))
            .next("give lines that begin with strewnpart1-, or files that have one each")
    };
    let bytes = Zeroizing::new(read_file(Path::new(given))?.ok_or_else(missing)?);
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    parts_of(&text).into_iter().next().ok_or_else(missing)
}

/// The parts in a text: each goes on until an empty line or the next one.
fn parts_of(text: &str) -> Vec<Zeroizing<String>> {
    let mut parts: Vec<Zeroizing<String>> = Vec::new();
    let mut is_in = false;
    for line in text.lines().map(str::trim) {
        if begins_as_part(line) {
            parts.push(Zeroizing::new(line.to_owned()));
            is_in = true;
        } else if line.is_empty() {
            is_in = false;
        } else if is_in && let Some(part) = parts.last_mut() {
            part.push('-');
            part.push_str(line);
        }
    }
    parts
}

fn typed(output: &Output) -> Result<Vec<(String, Zeroizing<String>)>, CliError> {
    if std::io::stdin().is_terminal() {
        output.line("Type or paste the parts, an empty line after each, and end with Ctrl-D:");
    }
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().take(INPUT_MAX).read_to_string(&mut text)?;
    Ok(parts_of(&text).into_iter().map(|part| (MARK.to_owned(), part)).collect())
}

impl From<PartError> for CliError {
    fn from(error: PartError) -> Self {
        let what = Self::new(error.to_string());
        match error {
            PartError::Version(_) => what.next("use a newer strewn"),
            _ => what.next("compare it with the paper, group by group, and give the parts again"),
        }
    }
}

impl From<ShareError> for CliError {
    fn from(error: ShareError) -> Self {
        let what = Self::new(error.to_string());
        match error {
            ShareError::Numbers { .. } | ShareError::Length(_) => what.exit(Exit::Usage),
            ShareError::TooFew { .. } => what.next("ask another of the people who keep parts"),
            ShareError::Mixed { .. } => {
                what.next("the pages say of which set each part is: take parts of one set")
            }
            ShareError::Twice { .. } => what.next("give a different one in its place"),
            _ => what.next("ask another of the people who keep parts, and compare the pages"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_on_their_pages() {
        let text =
            "Part 1 of 3\n\nstrewnpart1-abc\n  def-ghi\n\nmore\nSTREWNPART1-x\nstrewnpart1-y";
        let parts: Vec<String> = parts_of(text).iter().map(|part| part.to_string()).collect();
        assert_eq!(parts, ["strewnpart1-abc-def-ghi", "STREWNPART1-x", "strewnpart1-y"]);
        assert!(parts_of("").is_empty());
    }
}
