//! `ls`, `cat`, `find`, `diff`: looking into snapshots.

mod cat;
mod diff;
mod find;
mod line;
mod ls;

pub use cat::cat;
pub use diff::diff;
pub use find::find;
pub use ls::ls;

use crate::cli::Exit;
use crate::cli::browse::OpenArgs;
use crate::cli::error::CliError;
use crate::cli::names::shown;
use crate::client::browse::Browser;
use crate::client::ledger::Logged;
use crate::client::recipients::Identities;
use crate::client::vault;
use crate::home::Home;
use protocol::item::SourceKind;

/// Opens a vault to look into its snapshots.
pub(super) async fn open(home: &Home, args: &OpenArgs) -> Result<Browser, CliError> {
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    let identities = Identities::find(args.identity.as_deref())?;
    Ok(Browser::open(home, vault, &identities).await?)
}

fn is_git(browser: &Browser, snapshot: &Logged) -> bool {
    browser.info_of(snapshot).is_some_and(|info| info.kind == SourceKind::Git)
}

fn not_there(snapshot: &Logged, path: &[u8]) -> CliError {
    let id = snapshot.id.short();
    CliError::new(format!("there is nothing at {} in snapshot {id}", shown(path)))
        .next(format!("`strewn ls {id}` lists what is there; paths are relative to the source"))
        .exit(Exit::NotThere)
}
