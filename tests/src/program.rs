//! The program under test, and what it answers.

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The program, which cargo builds before the tests of this package.
///
/// # Panics
/// When it is not where cargo puts it.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // Tests lie in target/PROFILE/deps, programs beside that.
        let test = std::env::current_exe().expect("a test has a path");
        let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
        let program = folder.join("strewn-for-tests");
        assert!(program.is_file(), "{} is missing", program.display());
        program
    })
}

/// How the program ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Itself, when it ended with this code.
    ///
    /// # Panics
    /// When it did not, with what it said.
    #[must_use]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "standard output:\n{}\nstandard error:\n{}",
            self.out, self.err
        );
        self
    }

    /// Itself, when it ended well.
    ///
    /// # Panics
    /// When it did not, with what it said.
    #[must_use]
    pub fn ok(self) -> Self {
        self.ended(0)
    }

    /// The JSON messages of a type on standard output and error.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[must_use]
    pub fn messages(&self, message_type: &str) -> Vec<Value> {
        let lines = self.out.lines().chain(self.err.lines());
        let values = lines.map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        });
        values.filter(|value: &Value| value["message_type"] == message_type).collect()
    }

    /// The summary of a command that ended well.
    ///
    /// # Panics
    /// When it ended otherwise or has no summary.
    #[must_use]
    pub fn summary(self) -> Value {
        let ran = self.ok();
        ran.messages("summary").pop().expect("a summary")
    }
}

/// Runs the program on a state folder, to its end.
///
/// # Panics
/// When it cannot be started.
pub fn strewn<S: AsRef<OsStr>>(home: &Path, arguments: impl IntoIterator<Item = S>) -> Ran {
    let output = command(home).args(arguments).output();
    output.expect("the program starts").into()
}

/// The program on a state folder, in an environment without anything of the user's.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = match std::fs::read_to_string(namespace_file(home)) {
        Ok(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &namespace]).arg(program());
            command
        }
        Err(_) => Command::new(program()),
    };
    command.arg("--home").arg(home).stdin(Stdio::null());
    for name in ["STREWN_HOME", "STREWN_IDENTITY", "STREWN_IDENTITY_FILE", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

/// Names the network namespace that the programs on a state folder run in, where it is not this one.
pub(crate) fn namespace_file(home: &Path) -> PathBuf {
    home.with_extension("namespace")
}

/// Waits until something is so, and says whether it came to be. It asks ever more rarely: a node takes 120 handshakes a minute from one
/// address, which here are those of all nodes and commands.
pub fn within(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if begin.elapsed() > time {
            return false;
        }
        let pause = begin.elapsed() / 4;
        std::thread::sleep(pause.clamp(Duration::from_millis(20), Duration::from_secs(2)));
    }
}
