//! The one place that turns errors into a sentence for a person: what happened, why, and what to do now.

use super::exit::Exit;
use crate::client::ClientError;
use crate::client::backup::LeftOut;
use crate::client::operator::OperatorError;
use crate::client::partners::PartnersError;
use crate::config::ConfigError;
use crate::home::HomeError;
use crate::restore::tree::TreeError;
use crate::service::ServiceError;
use crate::store::StoreError;
use crate::ticket::TicketError;
use protocol::agreement::AgreementError;
use protocol::succession::SuccessionError;
use std::error::Error;
use std::fmt;

/// What a command failed with.
#[derive(Debug)]
pub struct CliError {
    what: String,
    cause: Option<String>,
    next: Option<String>,
    exit: Exit,
}

impl CliError {
    /// What happened, without a full stop: "the vault cannot be opened".
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None, next: None, exit: Exit::Failed }
    }

    /// Why: an error with everything that led to it.
    #[must_use]
    pub fn cause(mut self, error: &(dyn Error + 'static)) -> Self {
        self.cause = Some(chain(error));
        self
    }

    /// What to do now: a command or an advice.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }

    /// With which code the program ends; [`Exit::Failed`] unless said otherwise.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Puts what was tried before what happened; next step and exit code stay.
    #[must_use]
    pub fn during(mut self, what: impl Into<String>) -> Self {
        let happened = std::mem::replace(&mut self.what, what.into());
        self.cause = Some(match self.cause.take() {
            Some(cause) => format!("{happened}: {cause}"),
            None => happened,
        });
        self
    }

    /// With which code the program ends.
    #[must_use]
    pub fn code(&self) -> Exit {
        self.exit
    }

    /// What happened and why, on one line.
    #[must_use]
    pub fn message(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {cause}", self.what),
            None => self.what.clone(),
        }
    }

    /// What to do now.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.next.as_deref()
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        match &self.next {
            Some(next) => write!(f, "\n  → {next}"),
            None => Ok(()),
        }
    }
}

/// An error and its sources, without those that the one before them has in its own text already.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

/// Adds what was tried to any error.
pub trait During<T> {
    /// Turns the error into a [`CliError`] that says what was tried.
    fn during(self, what: impl Into<String>) -> Result<T, CliError>;
}

impl<T, E: Into<CliError>> During<T> for Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T, CliError> {
        self.map_err(|error| error.into().during(what))
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let what = Self::new(chain(&error));
        match &error {
            ClientError::NoNode(_) => what
                .next("start a node with `strewn node run`, or name one in strewn.toml under [client] nodes")
                .exit(Exit::NotThere),
            ClientError::NoVault(_) => {
                what.next("`strewn vault list` shows the vaults of this host").exit(Exit::NotThere)
            }
            ClientError::VaultExists(_) => what.next("choose another name"),
            ClientError::NoDomain { .. } => what.next("`strewn peers` shows the nodes and their labels"),
            ClientError::NoOperator(_) => what.next("do it on the host where `strewn init` was run"),
            ClientError::Unplaceable { why, is_degraded, .. } => {
                let mut steps: Vec<String> = why.iter().filter_map(LeftOut::next).collect();
                if steps.is_empty() {
                    steps.push("start nodes where they are missing".into());
                }
                // Who said it already is not sent round in a circle.
                if !is_degraded {
                    steps.push("or go on with --allow-degraded".into());
                }
                what.next(steps.join("; "))
            }
            ClientError::Violation(_) => {
                what.next("start nodes where they are missing, or go on with --allow-degraded")
            }
            ClientError::Tree(TreeError::Busy(_)) => {
                what.next("wait until it has ended").exit(Exit::Locked)
            }
            ClientError::Tree(TreeError::NotEmpty(_)) => {
                what.next("`strewn restore --help` says what --overwrite if-changed, if-newer and never do")
            }
            ClientError::Revoked => {
                what.next("what it wrote before is there; `strewn device request` makes a new device of it")
            }
            ClientError::Locked => what.next("wait until it has ended").exit(Exit::Locked),
            ClientError::Identity(_) => what.exit(Exit::WrongIdentity),
            ClientError::NoSnapshot(_) => what.next("`strewn snapshots` lists them").exit(Exit::NotThere),
            ClientError::Unsent(_) => {
                what.next("back up again: what holders have is not sent a second time")
            }
            ClientError::Destroyed { .. }
            | ClientError::NoRecord(_)
            | ClientError::LogGap { .. } => {
                what.next("`strewn status` shows which nodes are silent: start them again")
            }
            _ => what,
        }
    }
}

impl From<PartnersError> for CliError {
    fn from(error: PartnersError) -> Self {
        let error = match error {
            PartnersError::Client(error) => return error.into(),
            error => error,
        };
        let next = match &error {
            PartnersError::Line(_) => "copy the whole line again that the partner has sent",
            PartnersError::Unknown(_) => {
                "`strewn partner list` shows them, `strewn partner add` adds one"
            }
            PartnersError::NameTaken(_) => "give it another name with --name",
            PartnersError::Shorter => {
                "ask the partner for a new line (strewn partner ticket), and compare fingerprints by voice"
            }
            PartnersError::Ahead => "set the clocks of both hosts, and have the line made anew",
            PartnersError::Which(_) => {
                "look at who these are; then say --partners here, or --partners nodes to sign what nodes have"
            }
            PartnersError::NothingAgreed => "`strewn partner remove` removes a partner",
            PartnersError::NoHolders => "start the node of this host with `strewn node run`",
            PartnersError::Agreement(AgreementError::Version { found, known })
                if found <= known =>
            {
                "this side knows a later version than the partner, which may have removed this operator and added it again: propose from this side, with `strewn partner propose`, and have the partner accept"
            }
            PartnersError::Agreement(AgreementError::Version { .. }) => {
                "the partner knows a later version than this side: have it send the line of that one, or propose anew from its side"
            }
            _ => return Self::new(chain(&error)),
        };
        Self::new(chain(&error)).next(next)
    }
}

impl From<OperatorError> for CliError {
    fn from(error: OperatorError) -> Self {
        let error = match error {
            OperatorError::Client(error) => return error.into(),
            error => error,
        };
        let next = match &error {
            OperatorError::Line(_) => "copy the whole line again that was sent",
            OperatorError::Succession(SuccessionError::Missing { .. }) => {
                "have further heirs sign: strewn operator sign LINE"
            }
            OperatorError::Waits(_) => {
                "go on with the line that was printed for it; or remove the file, and begin anew"
            }
            OperatorError::NoNext => "do it on the host where `strewn operator succeed` was said",
            OperatorError::Nobody => {
                "do it in the state folder of the operator, or of one of its nodes"
            }
            _ => return Self::new(chain(&error)),
        };
        Self::new(chain(&error)).next(next)
    }
}

impl From<HomeError> for CliError {
    fn from(error: HomeError) -> Self {
        Self::new(chain(&error))
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::new(chain(&error)).next("mend strewn.toml, or remove the line to have the default")
    }
}

impl From<TicketError> for CliError {
    fn from(error: TicketError) -> Self {
        Self::new(error.to_string()).next("`strewn invite` on a node of the mesh makes a new one")
    }
}

impl From<ServiceError> for CliError {
    fn from(error: ServiceError) -> Self {
        let what = Self::new(chain(&error));
        match &error {
            ServiceError::NoNode(_) => what.exit(Exit::NotThere),
            ServiceError::Store(StoreError::Locked(_)) => what.exit(Exit::Locked),
            _ => what,
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let what = Self::new(chain(&error));
        match &error {
            StoreError::Locked(_) => what.next("stop the node of this host").exit(Exit::Locked),
            StoreError::Rebuilding(_) => what.next("`strewn node run`"),
            _ => what,
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
