//! A stream as a source: standard input, or the output of a command, as one file.
//!
//! A command that fails leaves no snapshot: half a dump is none.

use super::{Previous, Report, Sink, SinkError, Source, SourceError};
use protocol::codec::Blob;
use protocol::item::{Meta, SourceKind, Stamp, Timestamp};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest name of a file, in bytes, that file systems take.
const NAME_MAX: usize = 255;
/// Dumps are nobody else's business.
const MODE: u32 = 0o600;

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A program with its arguments.
    Command(Vec<OsString>),
}

/// A name that a file cannot have.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the name of a file: no slashes, at most 255 bytes")]
pub struct StreamNameError(String);

/// A stream to be backed up.
#[derive(Debug)]
pub struct Stream {
    name: String,
    input: Input,
    /// Whether standard input was read.
    is_gone: AtomicBool,
}

impl Stream {
    /// What comes from `input`, as a file called `name`.
    pub fn new(name: &str, input: Input) -> Result<Self, StreamNameError> {
        let fits = !matches!(name, "" | "." | "..")
            && name.len() <= NAME_MAX
            && !name.contains(['/', '\0']);
        if !fits {
            return Err(StreamNameError(name.chars().take(NAME_MAX).collect()));
        }
        Ok(Self { name: name.into(), input, is_gone: AtomicBool::new(false) })
    }

    /// Whether it can be read once more.
    pub fn is_repeatable(&self) -> bool {
        matches!(self.input, Input::Command(_))
    }
}

/// A stream on its way.
#[derive(Debug)]
pub struct StreamSource {
    stream: Arc<Stream>,
}

impl StreamSource {
    /// Nothing is read, and no command started, before the backup runs.
    #[must_use]
    pub fn new(stream: Arc<Stream>) -> Self {
        Self { stream }
    }

    fn take(
        &self,
        content: &mut dyn Read,
        sink: &mut dyn Sink,
        meta: Meta,
    ) -> Result<(), SourceError> {
        match sink.file(meta, Stamp::default(), content) {
            Ok(_) => Ok(()),
            Err(SinkError::Read(error)) => Err(self.failed(error)),
            Err(SinkError::Stopped(why)) => Err(SourceError::Stopped(why)),
        }
    }

    fn failed(&self, error: io::Error) -> SourceError {
        SourceError::Open { path: PathBuf::from(&self.stream.name), error }
    }
}

impl Source for StreamSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Stream
    }

    fn name(&self) -> String {
        self.stream.name.clone()
    }

    fn run(&mut self, _: &mut dyn Previous, sink: &mut dyn Sink) -> Result<Report, SourceError> {
        let meta = meta(&self.stream.name);
        match &self.stream.input {
            Input::Stdin => {
                if self.stream.is_gone.swap(true, Relaxed) {
                    return Err(SourceError::InputGone(self.stream.name.clone()));
                }
                self.take(&mut io::stdin().lock(), sink, meta)?;
            }
            Input::Command(command) => {
                let shown = show(command);
                let mut running = Running::start(command).map_err(|error| SourceError::Open {
                    path: command.first().map(PathBuf::from).unwrap_or_default(),
                    error,
                })?;
                if let Some(mut output) = running.0.stdout.take() {
                    self.take(&mut output, sink, meta)?;
                }
                let status = running.0.wait().map_err(|error| self.failed(error))?;
                if !status.success() {
                    return Err(SourceError::Command { command: shown, status });
                }
            }
        }
        Ok(Report::default())
    }
}

fn meta(name: &str) -> Meta {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let secs = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    Meta {
        path: Blob(name.into()),
        mode: MODE,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Timestamp { secs, nanos: now.subsec_nanos() },
    }
}

/// The command as people know it. Arguments are left out: they may have passwords in them.
fn show(command: &[OsString]) -> String {
    command.first().map_or_else(String::new, |program| {
        String::from_utf8_lossy(OsStr::as_bytes(program)).into_owned()
    })
}

/// A command that runs; dropped before its end, it is ended.
struct Running(Child);

impl Running {
    fn start(command: &[OsString]) -> io::Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(io::Error::other("no command was given"));
        };
        let mut command = Command::new(program);
        // What it says on standard error is for the user.
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().map(Self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or nobody reads what it writes any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::Vault;

    fn command(words: &[&str]) -> StreamSource {
        let input = Input::Command(words.iter().map(OsString::from).collect());
        StreamSource::new(Arc::new(Stream::new("db.sql", input).unwrap()))
    }

    #[test]
    fn what_a_command_writes_is_one_file() {
        let mut vault = Vault::default();
        let mut source = command(&["sh", "-c", "printf 'select 1;'; head -c 5000 /dev/zero"]);
        let snapshot = vault.back_up(&mut source, None);
        assert_eq!(snapshot.paths(), ["db.sql"]);
        let content = vault.text(&snapshot, "db.sql");
        assert_eq!((content.len(), &content[..9]), (5009, "select 1;"));
        let dir = tempfile::tempdir().unwrap();
        vault.restore(&snapshot, &dir.path().join("to"));
        assert_eq!(std::fs::read_to_string(dir.path().join("to/db.sql")).unwrap(), content);
        // A command can be run again.
        let snapshot = vault.back_up(&mut source, None);
        assert_eq!(vault.text(&snapshot, "db.sql"), content);
    }

    #[test]
    fn a_command_that_fails_leaves_nothing() {
        for (words, said) in [
            (&["sh", "-c", "echo half a dump; exit 7"][..], "sh: exit status: 7"),
            (&["sh", "-c", "echo half a dump; kill -9 $$"][..], "sh: signal: 9"),
        ] {
            let error = Vault::default().try_back_up(&mut command(words), None).err().unwrap();
            assert!(error.to_string().starts_with(said), "{error}");
        }
        let none = Vault::default().try_back_up(&mut command(&["/nonexistent"]), None);
        assert!(
            matches!(none, Err(SourceError::Open { path, .. }) if path.ends_with("nonexistent"))
        );
    }

    #[test]
    fn a_command_ends_when_the_backup_does() {
        let mut vault = Vault::default();
        vault.stop_at = Some("db.sql".into());
        let begin = std::time::Instant::now();
        assert!(vault.try_back_up(&mut command(&["sleep", "600"]), None).is_err());
        assert!(begin.elapsed() < std::time::Duration::from_secs(60));
    }

    #[test]
    fn only_names_of_files_are_names() {
        for bad in ["", ".", "..", "a/b", "/a", "a\0", &"a".repeat(256)] {
            assert!(Stream::new(bad, Input::Stdin).is_err(), "{bad:?}");
        }
        assert!(Stream::new("a name.sql", Input::Stdin).is_ok());
    }
}
