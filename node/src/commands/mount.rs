//! `mount`.

use super::browse::open;
use crate::cli::Exit;
use crate::cli::browse::MountArgs;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::signals::Signals;
use crate::client::mount::{Unmounted, mount as mount_all};
use crate::home::Home;
use crate::size::counted;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Shows all snapshots as folders, until it is unmounted or interrupted.
pub async fn mount(home: &Home, args: MountArgs, output: &Output) -> Result<Exit, CliError> {
    let mut signals = Signals::new(true)?;
    check(&args.mountpoint)?;
    let browser = tokio::select! {
        browser = open(home, &args.open) => browser?,
        () = signals.next() => return Ok(Exit::Interrupted),
    };
    let mesh = Arc::clone(&browser.reader.mesh);
    let vault = Arc::clone(&browser.reader.vault);
    let warner = output.clone();
    let warn = move |text: &str| warner.warn(text);
    let mounted = mount_all(browser, &args.mountpoint, args.allow_other, args.all, warn);
    let mut mounted = mounted.map_err(|error| cannot(&args.mountpoint, &error))?;
    let at = mounted.at.display().to_string();
    output
        .json("mounted", &serde_json::json!({ "mountpoint": at, "snapshots": mounted.snapshots }));
    output.good(format!("{} at {at}", counted(mounted.snapshots, "snapshot")));
    output.line("  Ctrl-C ends it, or `umount`; it shows the snapshots that there are now");
    tokio::select! {
        ended = mounted.ended() => {
            ended?;
            mesh.acknowledge(&vault).await;
            return Ok(Exit::Done);
        }
        () = signals.next() => {}
    }
    let unmounted = tokio::task::block_in_place(|| mounted.unmount());
    mesh.acknowledge(&vault).await;
    match unmounted {
        Ok(Unmounted::Cleanly) => Ok(Exit::Done),
        Ok(Unmounted::InUse) => {
            output.warn(format!("{at} was in use: who has files open there gets errors now"));
            Ok(Exit::Done)
        }
        Err(error) => Err(CliError::new(format!("{at} cannot be unmounted"))
            .cause(&error)
            .next(format!("end the programs that use it, then: umount {at}"))),
    }
}

fn check(at: &Path) -> Result<(), CliError> {
    if at.is_dir() {
        return Ok(());
    }
    let what = if at.exists() { "is no folder" } else { "does not exist" };
    Err(CliError::new(format!("{} {what}", at.display()))
        .next("make an empty folder, and mount there")
        .exit(Exit::NotThere))
}

fn cannot(at: &Path, error: &io::Error) -> CliError {
    let next = if Path::new("/dev/fuse").exists() {
        "where you are not root, mounting needs fusermount3: install the package fuse3; --allow-other needs \
         user_allow_other in /etc/fuse.conf"
    } else {
        "mounting needs FUSE, and /dev/fuse is not there: load it (modprobe fuse), in a container pass the device on; \
         `strewn ls`, `cat` and `restore` work without it"
    };
    CliError::new(format!("{} cannot be mounted", at.display())).cause(error).next(next)
}
