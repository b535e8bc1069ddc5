//! `device request`, `device add`, `device accept`: how a second host comes to write to a vault.

use super::data::time;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::ops::DeviceCommand;
use crate::cli::output::{Column, Output};
use crate::client::device::{self, DeviceError, DeviceLine};
use crate::client::mesh::{Caller, Mesh, first_addresses};
use crate::client::vault;
use crate::config::Config;
use crate::home::Home;
use crate::service::wall;
use crate::size::counted;
use protocol::time::Period;

/// Does what is asked.
pub async fn run(home: &Home, command: DeviceCommand, output: &Output) -> Result<Exit, CliError> {
    match command {
        DeviceCommand::Request => request(home, output),
        DeviceCommand::Add { request, vault, valid } => {
            add(home, &request, vault.vault.as_deref(), valid, output).await
        }
        DeviceCommand::List { vault } => list(home, vault.vault.as_deref(), output).await,
        DeviceCommand::Revoke { device, vault } => {
            revoke(home, &device, vault.vault.as_deref(), output).await
        }
        DeviceCommand::Accept { line, name } => accept(home, &line, name.as_deref(), output),
    }
}

fn request(home: &Home, output: &Output) -> Result<Exit, CliError> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (device, line) = device::request(home, &host)?;
    if output.style().json {
        output.json("summary", &serde_json::json!({ "device": device, "request": line }));
        return Ok(Exit::Done);
    }
    output.result(line);
    output.line(format!(
        "\nThis host would be device {}. On the host where the vault was made: strewn device add LINE --vault NAME",
        device.key().fingerprint()
    ));
    Ok(Exit::Done)
}

async fn add(
    home: &Home,
    line: &str,
    name: Option<&str>,
    valid: Period,
    output: &Output,
) -> Result<Exit, CliError> {
    let request = device::read_request(line)?;
    let mut vault = vault::choose(home, name)?;
    if vault.key().is_none() {
        return Err(DeviceError::NoKey(vault.name).into());
    }
    // The nodes are to know the vault and whom it lists before the new device comes.
    let addresses = match Mesh::connect(home, Caller::device(&vault)).await {
        Ok(mesh) => {
            device::introduce(&mut vault, &mesh).await?;
            device::addresses(&mesh)
        }
        Err(error) => {
            output.warn(format!("{error}; the new host must be able to reach one later"));
            let config = Config::load(home)?;
            first_addresses(home, &config)?.iter().map(ToString::to_string).collect()
        }
    };
    let grant = device::grant(&vault, &request, valid, addresses)?;
    if output.style().json {
        let body = serde_json::json!({
            "device": request.device, "host": request.host, "vault": vault.id, "grant": grant,
        });
        output.json("summary", &body);
        return Ok(Exit::Done);
    }
    output.result(grant);
    output.line(format!(
        "\nWith it device {} ({:?}) writes to vault {} for {valid}: compare with what it was shown there.\nOn that host: strewn device accept LINE; it must show vault {}",
        request.device.key().fingerprint(),
        request.host,
        vault.name,
        vault.id.key().fingerprint(),
    ));
    Ok(Exit::Done)
}

fn accept(home: &Home, line: &str, name: Option<&str>, output: &Output) -> Result<Exit, CliError> {
    let vault = device::accept(home, line, name)?;
    if output.style().json {
        let body = serde_json::json!({
            "vault": vault.id, "name": vault.name, "device": vault.device_id(),
            "fingerprint": vault.id.key().fingerprint(), "recipients": vault.recipients,
        });
        output.json("summary", &body);
        return Ok(Exit::Done);
    }
    output.good(format!("this host writes to vault {} ({})", vault.name, vault.id.short()));
    // Whoever saw the request could have answered it with a vault of his own.
    output.line(format!(
        "\nVault {}, readable by {}\nCompare with what `strewn device add` showed before the first backup.",
        vault.id.key().fingerprint(),
        vault.recipients.join(", "),
    ));
    output
        .line("\nNext: strewn backup FOLDER. Restoring needs the recovery identity of the vault.");
    Ok(Exit::Done)
}

async fn list(home: &Home, name: Option<&str>, output: &Output) -> Result<Exit, CliError> {
    let vault = vault::choose(home, name)?;
    let lines = device::list(home, &vault).await?;
    let row = |line: &DeviceLine| {
        output.json("device", line);
        let state = match (line.revoked, line.expires <= wall()) {
            (true, _) => "revoked",
            (false, true) => "expired",
            (false, false) if line.drill => "reads",
            (false, false) => "writes",
        };
        let host = match &line.host {
            None if line.drill => "recovery drills".into(),
            host => host.clone().unwrap_or_default(),
        };
        vec![
            line.device.short(),
            if line.here { format!("{host} (this host)").trim().into() } else { host },
            state.into(),
            line.entries.to_string(),
            line.last.map_or_else(|| "never".into(), time),
            time(line.expires),
        ]
    };
    let rows: Vec<_> = lines.iter().map(row).collect();
    let columns = [
        Column::text("device"),
        Column::text("host"),
        Column::text(""),
        Column::number("log entries"),
        Column::text("last (UTC)"),
        Column::text("certified until (UTC)"),
    ];
    output.table(&columns, rows);
    Ok(Exit::Done)
}

async fn revoke(
    home: &Home,
    device: &str,
    name: Option<&str>,
    output: &Output,
) -> Result<Exit, CliError> {
    let vault = vault::choose(home, name)?;
    let revoked = device::revoke(home, &vault, device).await?;
    output.json("summary", &revoked);
    for (node, why) in &revoked.failed {
        output.warn(format!("node {} did not take it: {why}", node.short()));
    }
    if revoked.silent > 0 {
        let silent = counted(revoked.silent, "node");
        output.warn(format!("{silent} did not answer: the next backup of any host tells them"));
    }
    if revoked.nodes == 0 {
        return Err(CliError::new("no node took the revocation").next("try again later"));
    }
    let nodes = counted(revoked.nodes, "node");
    output.good(format!(
        "{nodes} take nothing more from device {}; what it wrote before stays, and it can still read",
        revoked.device.short()
    ));
    Ok(Exit::Done)
}

impl From<DeviceError> for CliError {
    fn from(error: DeviceError) -> Self {
        let what = Self::new(error.to_string());
        match error {
            DeviceError::Client(error) => error.into(),
            DeviceError::Request(_) => {
                what.next("`strewn device request` on the new host makes one").exit(Exit::Usage)
            }
            DeviceError::Grant(_) => what
                .next("`strewn device add` on the host with the vault's key makes one")
                .exit(Exit::Usage),
            DeviceError::Certificate(_) | DeviceError::Content(_) => {
                what.next("begin again with `strewn device request`")
            }
            DeviceError::NotAsked(_) => what
                .next("run it on the host that asked, or begin here with `strewn device request`"),
            DeviceError::Unknown(..) => {
                what.next("`strewn device list` shows them").exit(Exit::Usage)
            }
            DeviceError::Own => what.next("revoke it from another host that has the vault's key"),
            DeviceError::NoKey(_) => what.next("do it on the host where the vault was made"),
            DeviceError::Known(_) => what.next("nothing is to be done: back up"),
        }
    }
}
