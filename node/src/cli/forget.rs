//! Arguments of `forget`.

use super::args::VaultArg;
use clap::Args;
use protocol::retention::{Rules, Span, UNLIMITED};
use protocol::tag::check_tag;
use std::collections::BTreeSet;

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is deleted: with --apply the vault's log gets an entry that names the snapshots, signed by the vault's key, and lists
leave them out. `strewn snapshots --all` still shows them, and they can be restored by their ids. Nothing is changed without --apply,
or a yes to the question on a terminal.

The rules are those of restic: of each hour, day, week (from Monday on), month and year the newest snapshot is kept, for the
last N of them that have any, and the oldest one while a rule is not used up; what any rule keeps is kept. They apply to each
source of each host and device by itself. Times are those that the holders witnessed, in UTC. A snapshot that claims
another time, or whose log entry is not held widely, is kept and marked.

Who writes many snapshots with a stolen device key crowds out older ones of that device, by every rule but --keep-within
and --keep-tag: look at what is to be forgotten before you say --apply.

Examples:
  strewn forget --keep-daily 14 --keep-weekly 8 --keep-yearly unlimited
  strewn forget --keep-within 1y6m --keep-tag release --apply
  strewn forget 1a2b3c4d --apply")]
pub struct ForgetArgs {
    /// Forget these, whatever the rules: the first digits of their ids
    #[arg(conflicts_with_all = ["keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly", "keep_within", "keep_tag"])]
    pub snapshot: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// Say it in the vault's log; needs the vault's key
    #[arg(long)]
    pub apply: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub keep: KeepArgs,
}

/// What is kept.
#[derive(Debug, Args, Default)]
pub struct KeepArgs {
    /// The last N snapshots, or `unlimited`
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count, help_heading = "What is kept")]
    pub keep_last: u32,
    /// One of each of the last N hours that have any
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count, help_heading = "What is kept")]
    pub keep_hourly: u32,
    /// One of each of the last N days that have any
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count, help_heading = "What is kept")]
    pub keep_daily: u32,
    /// One of each of the last N weeks that have any
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count, help_heading = "What is kept")]
    pub keep_weekly: u32,
    /// One of each of the last N months that have any
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count, help_heading = "What is kept")]
    pub keep_monthly: u32,
    /// One of each of the last N years that have any
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count, help_heading = "What is kept")]
    pub keep_yearly: u32,
    /// All that came within this span before the newest: 30d, 6m (months), 1y5m7d2h
    #[arg(long, value_name = "SPAN", help_heading = "What is kept")]
    pub keep_within: Option<Span>,
    /// All with these tags, separated by commas; '' is what has none (repeatable)
    #[arg(long, value_name = "TAGS", value_parser = tags, help_heading = "What is kept")]
    pub keep_tag: Vec<TagSet>,
}

/// Tags that belong together. (A name of its own, because clap takes lists for repeated values.)
pub type TagSet = BTreeSet<String>;

impl KeepArgs {
    /// The rules.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        Rules { counts, within: self.keep_within, tags: self.keep_tag.clone() }
    }
}

fn count(text: &str) -> Result<u32, String> {
    match text {
        "unlimited" => Ok(UNLIMITED),
        _ => text.parse().map_err(|_| "a number, or `unlimited`".into()),
    }
}

fn tags(text: &str) -> Result<TagSet, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| check_tag(word).map(|()| word.to_owned()).map_err(|e| e.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::cli::args::Command;
    use clap::Parser;

    fn parse(words: &[&str]) -> Result<ForgetArgs, String> {
        let cli = Cli::try_parse_from(["strewn", "forget"].iter().chain(words));
        match cli.map_err(|error| error.to_string())?.command {
            Command::Forget(args) => Ok(args),
            _ => unreachable!("it says forget"),
        }
    }

    #[test]
    fn rules_are_said_as_in_restic() {
        let words = ["--keep-last", "3", "--keep-daily", "unlimited", "--keep-within", "1y5m7d2h"];
        let args = parse(&words).unwrap();
        let rules = args.keep.rules();
        assert_eq!(rules.counts, [3, 0, UNLIMITED, 0, 0, 0]);
        assert_eq!(rules.within, Some(Span { years: 1, months: 5, days: 7, hours: 2 }));
        assert!(!args.apply && rules.tags.is_empty());
        let tags = parse(&["--keep-tag", "a,b", "--keep-tag", ""]).unwrap().keep.rules().tags;
        assert_eq!(tags, [["a".to_owned(), "b".to_owned()].into(), BTreeSet::new()]);
        assert!(parse(&[]).unwrap().keep.rules().is_empty());
        for wrong in
            [&["--keep-last", "-1"][..], &["--keep-within", "1w"], &["1a", "--keep-last", "1"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
