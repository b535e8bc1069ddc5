//! All snapshots of a vault as folders (FUSE), to be read by any program: `snapshots/ID`, `snapshots/latest`, and links
//! to them by host and by tag. Only what is read is fetched.
//!
//! The snapshots are those that there are when it is mounted. Devices are shown and cannot be opened, set-user-ID bits
//! are shown and do nothing.

mod filesystem;
mod tree;
mod upper;
mod view;

use super::browse::Browser;
use filesystem::Snapshots;
use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use rustix::mount::UnmountFlags;
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;
use view::View;

/// A mount, until it is unmounted. When this is dropped, it is as well.
#[derive(Debug)]
pub struct Mounted {
    /// Where.
    pub at: PathBuf,
    /// Snapshots in it.
    pub snapshots: usize,
    unmounter: SessionUnmounter,
    ended: oneshot::Receiver<io::Result<()>>,
}

/// How an unmount went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// Nobody used it.
    Cleanly,
    /// Somebody still had files open in it; they get errors from now on.
    InUse,
}

/// Mounts the snapshots that are not forgotten, and `with_forgotten` all of them. With `for_all`, other users can look into it as far as
/// permissions in snapshots let them.
/// Trouble while it is mounted is told to `warn`.
pub fn mount(
    browser: Browser,
    at: &Path,
    for_all: bool,
    with_forgotten: bool,
    warn: impl Fn(&str) + Send + Sync + 'static,
) -> io::Result<Mounted> {
    let at = at.canonicalize()?;
    let view = View::new(browser, with_forgotten, Box::new(warn));
    let snapshots = view.len();
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("strewn".into()),
        MountOption::Subtype("strewn".into()),
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoAtime,
    ];
    if for_all {
        config.acl = SessionACL::All;
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    let filesystem = Snapshots::new(view, tokio::runtime::Handle::current());
    let mut session = tokio::task::block_in_place(|| Session::new(filesystem, &at, &config))?;
    let unmounter = session.unmount_callable();
    let (end, ended) = oneshot::channel();
    std::thread::Builder::new().name("mount".into()).spawn(move || {
        // Nobody listens any more when the program ends.
        let _ = end.send(session.run());
    })?;
    Ok(Mounted { at, snapshots, unmounter, ended })
}

impl Mounted {
    /// Returns when somebody else has unmounted it.
    pub async fn ended(&mut self) -> io::Result<()> {
        (&mut self.ended).await.unwrap_or_else(|_| Err(io::Error::other("it ended for no reason")))
    }

    /// Unmounts it, also when it is in use.
    pub fn unmount(mut self) -> io::Result<Unmounted> {
        match self.unmounter.unmount() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                rustix::mount::unmount(&self.at, UnmountFlags::DETACH)?;
                Ok(Unmounted::InUse)
            }
            unmounted => unmounted.map(|()| Unmounted::Cleanly),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // When it is unmounted already, there is nothing to do.
        let _ = self.unmounter.unmount();
    }
}
