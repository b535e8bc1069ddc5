//! Arguments of the commands that look into snapshots.

use super::args::VaultArg;
use crate::client::browse::find::Kind;
use clap::Args;
use protocol::item::Timestamp;
use protocol::time::{Period, Wall};
use std::path::PathBuf;

/// Which vault, and what opens it.
#[derive(Debug, Default, Args)]
pub struct OpenArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// The recovery identity: an age identity file or an SSH private key [or: $`STREWN_IDENTITY_FILE`, $`STREWN_IDENTITY`]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a path the whole snapshot is listed. Of a folder that is named, what lies directly in it is listed; with
--recursive everything below it.

Of a Git repository its references are listed, as `git ls-remote` does; a path is then a reference or a beginning of
several: HEAD, refs/heads. --items lists what the snapshot consists of instead: packs, bundles, configuration, hooks.

Names that are no text, or that would play with the terminal, are shown with escapes; --json has them exactly.

Exit code 10 when there is nothing at a path.")]
pub struct LsArgs {
    /// The first digits of a snapshot's id, or `latest`
    pub snapshot: String,
    /// Files and folders, relative to the source
    pub path: Vec<PathBuf>,
    /// Show permissions, owner, size and time (UTC) too
    #[arg(short, long)]
    pub long: bool,
    /// Of folders that are named, list everything below them
    #[arg(short, long)]
    pub recursive: bool,
    /// Of a Git repository, list what the snapshot consists of
    #[arg(long)]
    pub items: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub open: OpenArgs,
}

/// Arguments of `cat`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only what the file consists of is fetched, while it is written. To a terminal only text is written: control characters
of somebody's file could do anything to it. Into a file or a pipe everything is.

With --json the content comes in messages `content` with `offset` and `base64`.

Examples:
  strewn cat latest etc/fstab
  strewn cat 1a2b3c4d db.sql | psql

Exit code 10 when there is no such file.")]
pub struct CatArgs {
    /// The first digits of a snapshot's id, or `latest`
    pub snapshot: String,
    /// The file, relative to the source
    pub path: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub open: OpenArgs,
}

/// Arguments of `find`.
#[derive(Debug, Args)]
#[command(after_help = "\
A pattern without a slash matches names in all folders, one with a slash the end of a path, one that begins with a
slash a whole path from the top of the source. `*` and `?` match within a name, `**` any folders, `[a-z]` one of these,
`{a,b}` one or the other.

Of Git repositories the names of references are searched, unless kinds or times are asked for.

Snapshots that are the same in all are searched once and named together. Those that were forgotten are left out, unless --all
is given or they are named.

Examples:
  strewn find '*.pem' --newer 30d
  strewn find 'etc/**/ssh*' --type file --snapshot latest")]
pub struct FindArgs {
    /// What to look for (repeatable: any of them)
    #[arg(required = true)]
    pub pattern: Vec<String>,
    /// Only in this snapshot: the first digits of its id, or `latest` (repeatable) [default: all that are not forgotten]
    #[arg(long, value_name = "ID")]
    pub snapshot: Vec<String>,
    /// Also in snapshots that were forgotten
    #[arg(long)]
    pub all: bool,
    /// Upper and lower case are the same
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Only what is of this kind (repeatable)
    #[arg(long = "type", value_name = "KIND")]
    pub kind: Vec<Kind>,
    /// Only what was modified at this time (UTC) or later: 2026-11-25, 2026-11-25T12:00, or 7d ago
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub newer: Option<When>,
    /// Only what was modified before this time
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub older: Option<When>,
    /// Show permissions, owner, size and time (UTC) too
    #[arg(short, long)]
    pub long: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub open: OpenArgs,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each change is a line that begins with
  +  it is new                M  its content is another
  -  it is gone               T  it is something else now, a folder where a file was
  U  only permissions, owner, time or extended attributes are others (with --metadata)

Of Git repositories the references are compared: which are new, gone, or point elsewhere (M), and what else of the
repository changed. No content is read: files are the same when they consist of the same chunks.")]
pub struct DiffArgs {
    /// The first digits of the earlier snapshot's id
    pub before: String,
    /// The first digits of the later snapshot's id, or `latest`
    pub after: String,
    /// Show changes of metadata too
    #[arg(long)]
    pub metadata: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub open: OpenArgs,
}

/// Arguments of `mount`.
#[derive(Debug, Args)]
#[command(after_help = "\
Below the mount point are
  snapshots/ID       each snapshot, and snapshots/latest
  hosts/HOST/ID      the same by host
  tags/TAG/ID        the same by tag

It stays in the foreground until Ctrl-C, or until somebody unmounts it. It is read-only; only what is read is fetched.
Devices are shown and cannot be opened. A Git repository is shown as what its snapshot consists of: packs as
they were, and bundles.

Needs FUSE: as root nothing else, for others the package fuse3.")]
pub struct MountArgs {
    /// An empty folder
    pub mountpoint: PathBuf,
    /// Let other users look into it too, as far as permissions in the snapshots let them
    #[arg(long)]
    pub allow_other: bool,
    /// Show also snapshots that were forgotten
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub open: OpenArgs,
}

/// A time that a person names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This point.
    At(Timestamp),
    /// So long ago.
    Ago(Period),
}

impl When {
    /// The point in time, seen from now.
    #[must_use]
    pub fn from(self, now: Wall) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(Period(ago)) => {
                let millis = now.0.saturating_sub(ago);
                let nanos = (millis % 1000) as u32 * 1_000_000;
                Timestamp { secs: (millis / 1000) as i64, nanos }
            }
        }
    }
}

fn when(text: &str) -> Result<When, String> {
    if let Ok(period) = text.parse() {
        return Ok(When::Ago(period));
    }
    let time = text.parse::<jiff::Timestamp>().or_else(|_| {
        let time = text.parse::<jiff::civil::DateTime>();
        time.and_then(|time| jiff::tz::TimeZone::UTC.to_timestamp(time))
    });
    match time {
        Ok(time) => {
            // Before 1970 the parts of a second are counted the other way.
            let nanos = time.as_nanosecond();
            let secs = nanos.div_euclid(1_000_000_000) as i64;
            Ok(When::At(Timestamp { secs, nanos: nanos.rem_euclid(1_000_000_000) as u32 }))
        }
        Err(_) => Err(format!(
            "{text:?} is no time: write 2026-11-25, 2026-11-25T12:00, 2026-11-25T12:00:00+01:00, or 7d for so long ago"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        let at = |secs, nanos| Ok(When::At(Timestamp { secs, nanos }));
        assert_eq!(when("1970-01-02"), at(86_400, 0));
        assert_eq!(when("1970-01-01T00:01"), at(60, 0));
        assert_eq!(when("1970-01-01 00:01:02"), at(62, 0));
        assert_eq!(when("1970-01-01T01:00:00+01:00"), at(0, 0));
        assert_eq!(when("1969-12-31T23:59:59.5Z"), at(-1, 500_000_000));
        assert_eq!(when("2w"), Ok(When::Ago(Period::days(14))));
        for wrong in ["", "yesterday", "2026-13-01", "7"] {
            assert!(when(wrong).is_err(), "{wrong}");
        }
        let ago = When::Ago(Period::seconds(2)).from(Wall(5_250));
        assert_eq!(ago, Timestamp { secs: 3, nanos: 250_000_000 });
    }
}
