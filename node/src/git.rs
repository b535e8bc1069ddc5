//! Running the `git` program: found, new enough, and deaf to everything around it.
//!
//! No variable, system or user configuration reaches it, and what a repository's configuration could
//! have it execute (hooks, file system monitor, lazy fetches) is switched off: a backup reads
//! repositories that other people can write to. What is said to git is the callers' business.

mod settings;

pub(crate) use settings::Settings;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The oldest version that works: `git bundle create --stdin` keeps references that point at the
/// same object since then.
const VERSION_MIN: (u32, u32) = (2, 31);

/// Bytes of git's complaints that are kept: the last ones.
const MESSAGE_LEN_MAX: u64 = 4096;

/// Why git did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// The program is not there.
    #[error("the program `git` cannot be run ({0}); install Git {min}.{sub} or newer", min = VERSION_MIN.0, sub = VERSION_MIN.1)]
    NotFound(#[source] io::Error),
    /// The program is too old.
    #[error("Git {found} is too old: {min}.{sub} or newer is needed", min = VERSION_MIN.0, sub = VERSION_MIN.1)]
    TooOld {
        /// What `git version` says.
        found: String,
    },
    /// A command failed.
    #[error("`git {command}` failed: {message}")]
    Failed {
        /// The subcommand.
        command: String,
        /// What it said.
        message: String,
    },
    /// A command said what this software does not understand.
    #[error("`git {command}` answered unexpectedly: {answer:?}")]
    Answer {
        /// The subcommand.
        command: String,
        /// The beginning of its answer.
        answer: String,
    },
    /// A temporary file or pipe failed.
    #[error("running git: {0}")]
    Io(#[from] io::Error),
}

/// The program, with an empty home of its own.
#[derive(Debug)]
pub(crate) struct Git {
    home: TempDir,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// What a command reads.
pub(crate) enum Input<'a> {
    Nothing,
    Bytes(&'a [u8]),
    File(File),
}

impl Git {
    /// Finds the program and checks its version, once.
    pub(crate) fn find() -> Result<Self, GitError> {
        static IS_GOOD: OnceLock<()> = OnceLock::new();
        let home = tempfile::Builder::new().prefix("strewn-git-").tempdir()?;
        let git = Self { home };
        if IS_GOOD.get().is_some() {
            return Ok(git);
        }
        let output = git
            .command()
            .arg("version")
            .stdin(Stdio::null())
            .output()
            .map_err(GitError::NotFound)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let found = text.trim().trim_start_matches("git version ");
        match parse_version(found) {
            Some(version) if version >= VERSION_MIN => {
                IS_GOOD.get_or_init(|| ());
                Ok(git)
            }
            Some(_) => Err(GitError::TooOld { found: found.into() }),
            None => Err(unexpected("version", &output.stdout)),
        }
    }

    /// A directory that lives as long as this value.
    pub(crate) fn scratch(&self) -> &Path {
        self.home.path()
    }

    /// Git without arguments.
    fn command(&self) -> Command {
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"GIT_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("LC_ALL", "C")
            .env_remove("LANGUAGE")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .arg("--no-pager");
        for setting in [
            "safe.directory=*",
            "advice.graftFileDeprecated=false",
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "gc.auto=0",
            "maintenance.auto=false",
            "advice.detachedHead=false",
            // What is restored goes to the disk at once, at the end; all else is temporary.
            "core.fsync=none",
            // One thread gives the same pack for the same objects, so that a bundle that was
            // interrupted on its way out is mostly known the second time.
            "pack.threads=1",
        ] {
            command.args(["-c", setting]);
        }
        command
    }

    /// Git in the repository at `git_dir`.
    pub(crate) fn at(&self, git_dir: &Path) -> Command {
        let mut command = self.command();
        let mut option = std::ffi::OsString::from("--git-dir=");
        option.push(git_dir);
        command.arg(option);
        command
    }

    /// Git to make a repository with: no repository yet.
    pub(crate) fn anywhere(&self) -> Command {
        self.command()
    }

    /// Starts a command whose output is read as it comes.
    pub(crate) fn start(
        &self,
        command: &mut Command,
        input: Input<'_>,
    ) -> Result<Running, GitError> {
        let stdin = match input {
            Input::Nothing => Stdio::null(),
            Input::File(file) => file.into(),
            // A file, not a pipe: nobody has to write and read at the same time.
            Input::Bytes(bytes) => {
                let mut file = tempfile::tempfile_in(self.scratch())?;
                io::Write::write_all(&mut file, bytes)?;
                file.rewind()?;
                file.into()
            }
        };
        let stderr = tempfile::tempfile_in(self.scratch())?;
        let name = subcommand(command);
        let child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone()?)
            .spawn()
            .map_err(GitError::NotFound)?;
        let mut running = Running { name, child, stdout: None, stderr };
        running.stdout = running.child.stdout.take();
        Ok(running)
    }

    /// Runs a command to its end, whatever its exit code.
    pub(crate) fn ask(&self, command: &mut Command, input: Input<'_>) -> Result<Answer, GitError> {
        let mut running = self.start(command, input)?;
        let mut stdout = Vec::new();
        running.read_to_end(&mut stdout)?;
        let (code, stderr) = running.finish()?;
        Ok(Answer { code, stdout, stderr })
    }

    /// Runs a command that must succeed.
    pub(crate) fn run(&self, command: &mut Command, input: Input<'_>) -> Result<Answer, GitError> {
        let answer = self.ask(command, input)?;
        if answer.code == Some(0) { Ok(answer) } else { Err(failed(command, &answer)) }
    }
}

/// What it means that a command failed.
pub(crate) fn failed(command: &Command, answer: &Answer) -> GitError {
    GitError::Failed { command: subcommand(command), message: told(answer) }
}

/// A command under way; killed when dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: File,
}

impl Running {
    /// Waits for the end, and gives the exit code and the end of what was said on stderr.
    pub(crate) fn finish(&mut self) -> io::Result<(Option<i32>, String)> {
        self.stdout = None;
        let status = self.child.wait()?;
        let len = self.stderr.seek(SeekFrom::End(0))?;
        self.stderr.seek(SeekFrom::Start(len.saturating_sub(MESSAGE_LEN_MAX)))?;
        let mut message = Vec::new();
        (&self.stderr).take(MESSAGE_LEN_MAX).read_to_end(&mut message)?;
        Ok((status.code(), String::from_utf8_lossy(&message).trim().to_owned()))
    }

    /// Waits for the end, which must be a success.
    pub(crate) fn check(&mut self) -> Result<(), GitError> {
        let (code, stderr) = self.finish()?;
        if code == Some(0) {
            return Ok(());
        }
        let answer = Answer { code, stdout: Vec::new(), stderr };
        Err(GitError::Failed { command: self.name.clone(), message: told(&answer) })
    }
}

impl Read for Running {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(buffer))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes what `git init --bare` makes at `dir`, for objects of this format.
pub(crate) fn make_bare(dir: &Path, object_format: &str) -> io::Result<()> {
    for folder in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    let version = u8::from(object_format != "sha1");
    let extension = match version {
        0 => String::new(),
        _ => format!("[extensions]\n\tobjectformat = {object_format}\n"),
    };
    let config = format!(
        "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n{extension}"
    );
    fs::write(dir.join("config"), config)?;
    fs::write(dir.join("HEAD"), "ref: refs/heads/main\n")
}

/// An answer that cannot be understood.
pub(crate) fn unexpected(command: &str, answer: &[u8]) -> GitError {
    let answer = String::from_utf8_lossy(answer).chars().take(200).collect();
    GitError::Answer { command: command.into(), answer }
}

fn told(answer: &Answer) -> String {
    match (&*answer.stderr, answer.code) {
        ("", Some(code)) => format!("exit code {code}"),
        ("", None) => "ended by a signal".into(),
        (message, _) => message.into(),
    }
}

fn subcommand(command: &Command) -> String {
    let mut args = command.get_args();
    while let Some(arg) = args.next() {
        let arg = arg.to_string_lossy();
        if arg == "-c" {
            args.next();
        } else if !arg.starts_with('-') {
            return arg.into_owned();
        }
    }
    String::new()
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_every_vendor_are_understood() {
        assert_eq!(parse_version("2.47.3"), Some((2, 47)));
        assert_eq!(parse_version("2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(parse_version("2.31.0.windows.1"), Some((2, 31)));
        assert_eq!(parse_version("strange"), None);
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let git = Git::find().unwrap();
        let error = git
            .run(git.at(Path::new("/nonexistent")).args(["rev-parse", "--git-dir"]), Input::Nothing)
            .unwrap_err();
        let GitError::Failed { command, message } = error else { panic!("{error}") };
        assert_eq!(command, "rev-parse");
        assert!(message.contains("not a git repository"), "{message}");
    }

    #[test]
    fn a_command_that_is_given_up_does_not_stay() {
        let git = Git::find().unwrap();
        let mut init = git.anywhere();
        git.run(init.args(["init", "-q", "--bare", "r"]), Input::Nothing).unwrap();
        let (reader, _writer) = io::pipe().unwrap();
        let input = Input::File(File::from(std::os::fd::OwnedFd::from(reader)));
        let mut command = git.at(&git.scratch().join("r"));
        let running = git.start(command.args(["cat-file", "--batch"]), input).unwrap();
        let pid = running.child.id();
        drop(running);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
