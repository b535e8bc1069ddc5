//! `init`, `node run`, `invite`, `join`: how a host becomes a node.

use crate::cli::Exit;
use crate::cli::args::{InitArgs, InviteArgs, JoinArgs, NodeArgs};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::signals::Signals;
use crate::client::{mesh, operator};
use crate::config::{Config, NodeConfig};
use crate::home::{Home, create_key, random, read_file, read_key, read_signed, write_signed};
use crate::service::{self, full_address, split_address, wall};
use crate::store::{Batch, Doubt, Store, StoreOptions};
use crate::ticket::Ticket;
use libp2p::Multiaddr;
use protocol::certificate::{
    Authority, Invitation, JoinRequest, NodeCertificate, NodeRecord, Trust,
};
use protocol::id::NodeId;
use protocol::label::{LabelError, Labels};
use protocol::message::{Greeting, Response};
use protocol::peer::{StartError, thawed, thawed_promises};
use protocol::sign::{SecretKey, Signed};
use protocol::succession::Speaker;
use protocol::time::Period;
use serde::Serialize;

/// How long a certificate signed by the operator counts.
const VALIDITY: Period = Period::days(5 * 365);

#[derive(Serialize)]
struct Made {
    node: NodeId,
    operator: String,
    labels: String,
}

pub(super) fn label_error(error: LabelError) -> CliError {
    CliError::new(error.to_string())
}

fn check_new(home: &Home) -> Result<(), CliError> {
    if home.path("node.key").exists() && home.path("node.cert").exists() {
        return Err(CliError::new(format!(
            "there is a node in {} already",
            home.path("").display()
        ))
        .next("name another folder with --home, or run this one with `strewn node run`"));
    }
    Ok(())
}

fn write_config(home: &Home, args: NodeArgs, bootstrap: Vec<Multiaddr>) -> Result<(), CliError> {
    let mut node = NodeConfig { external: args.external, bootstrap, ..NodeConfig::default() };
    if !args.listen.is_empty() {
        node.listen = args.listen;
    }
    if let Some(quota) = args.quota {
        node.quota = quota;
    }
    Ok(Config { node, ..Config::default() }.write(home)?)
}

/// Makes operator and node keys, certificate and settings.
pub fn init(home: &Home, args: InitArgs, output: &Output) -> Result<Exit, CliError> {
    check_new(home)?;
    let labels = Labels::new(args.label).map_err(label_error)?;
    let speaker = match operator::speaker(home)? {
        Some(speaker) => speaker,
        None => Speaker::first(create_key(&home.path("operator.key"), "the key of the operator")?),
    };
    let made = setup(home, &speaker, labels, args.node, Vec::new())?;
    if output.style().json {
        output.json("summary", &made);
    } else {
        output.good(format!("this host is node {}", made.node.short()));
        output.line(format!(
            "  labels    {}",
            if made.labels.is_empty() { "none" } else { &made.labels }
        ));
        output.line(format!("  operator  {}", made.operator));
        output.line(format!(
            "\nThe operator's key is {}.\nIt is needed to invite nodes and to make vaults; at other times it can be kept elsewhere.\n",
            home.path("operator.key").display()
        ));
        output.line("Next: `strewn node run` here, and `strewn invite` to let other hosts join.");
    }
    Ok(Exit::Done)
}

/// Makes a node certified by its operator's key.
fn setup(
    home: &Home,
    speaker: &Speaker,
    labels: Labels,
    args: NodeArgs,
    bootstrap: Vec<Multiaddr>,
) -> Result<Made, CliError> {
    let node = create_key(&home.path("node.key"), "the key of a node")?;
    let certificate = NodeCertificate {
        node: node.public().into(),
        operator: speaker.operator(),
        labels,
        issued: wall(),
        expires: wall().after(VALIDITY),
        authority: Authority::Operator,
    };
    write_config(home, args, bootstrap)?;
    write_signed(&home.path("node.cert"), &Signed::speak(&certificate, speaker))?;
    Ok(Made {
        node: certificate.node,
        operator: speaker.operator().key().fingerprint(),
        labels: certificate.labels.to_string(),
    })
}

/// Makes a node for a demonstration: as `init`, with an operator's key from elsewhere.
pub(super) fn setup_for(
    home: &Home,
    operator: &SecretKey,
    labels: Labels,
    args: NodeArgs,
    bootstrap: Vec<Multiaddr>,
) -> Result<(), CliError> {
    setup(home, &Speaker::first(operator.clone()), labels, args, bootstrap).map(drop)
}

/// Runs the node until it is told to stop.
pub async fn run(home: &Home) -> Result<Exit, CliError> {
    let mut signals = Signals::new(false)?;
    service::run(home, async move { signals.next().await }).await?;
    Ok(Exit::Done)
}

pub(super) fn no_node() -> CliError {
    CliError::new("there is no node here").next("run `strewn init` first").exit(Exit::NotThere)
}

#[derive(Serialize)]
struct InDoubt<'a> {
    /// Why; nothing when all is well.
    doubt: Option<&'a str>,
    /// Whether the tables are still to be made again.
    rebuilding: bool,
    /// Whether it was taken away now.
    cleared: bool,
}

/// Says why what the node stores is in doubt, which is a failure as it is for `status`, or takes that away.
pub fn doubt(home: &Home, clear: bool, output: &Output) -> Result<Exit, CliError> {
    let dir = home.path("node");
    if !home.path("node.key").exists() {
        return Err(no_node());
    }
    let found = if clear { Doubt::clear(&dir)? } else { Doubt::read(&dir)? };
    let (doubt, rebuilding) = match &found {
        Some(doubt) => (Some(doubt.reason.as_str()), doubt.rebuilding),
        None => (None, false),
    };
    let cleared = clear && found.is_some();
    let exit = if doubt.is_none() || cleared { Exit::Done } else { Exit::Failed };
    if output.style().json {
        output.json("summary", &InDoubt { doubt, rebuilding, cleared });
        return Ok(exit);
    }
    match doubt {
        None => output.good("what this node stores is not in doubt"),
        Some(reason) if cleared => {
            output.good(format!("cleared: {reason}"));
            output.line("Next: `strewn node run`");
        }
        Some(reason) => {
            output.bad(format!("in doubt: {reason}"));
            output.line(if rebuilding {
                "The tables are made again when the node starts. Until this is cleared nothing is dropped."
            } else {
                "Nothing is dropped until this is cleared.\nNext: `strewn check` on a host that writes to the vaults; then stop the node and say `strewn node doubt --clear`"
            });
        }
    }
    Ok(exit)
}

/// Lets a frozen lock clock go on, and a node that was set back to an older disk.
pub fn thaw(home: &Home, output: &Output) -> Result<Exit, CliError> {
    let certificate =
        read_signed::<NodeCertificate>(&home.path("node.cert"))?.ok_or_else(no_node)?;
    let certificate = NodeCertificate::verify(&certificate, wall())
        .map_err(|error| CliError::new(format!("this node's certificate: {error}")))?;
    let store = Store::open(&home.path("node"), StoreOptions::default())?;
    let thawed = thawed(&store, certificate.operator).map_err(StartError::from);
    let thawed = thawed.map_err(service::ServiceError::from)?;
    let promises = thawed_promises(&store).map_err(StartError::from);
    let promises = promises.map_err(service::ServiceError::from)?;
    let (was_frozen, was_set_back) = (thawed.is_some(), promises.is_some());
    let writes: Vec<_> = thawed.into_iter().chain(promises).collect();
    if !writes.is_empty() {
        store.commit_now(Batch { writes, shard: None })?;
    }
    if output.style().json {
        let summary = serde_json::json!({ "thawed": was_frozen, "was_set_back": was_set_back });
        output.json("summary", &summary);
        return Ok(Exit::Done);
    }
    if was_frozen {
        output.good("the lock clock goes on from where it stands");
    }
    if was_set_back {
        output.good(
            "the promises go on above what other nodes have seen; every lock here begins anew",
        );
    }
    if was_frozen || was_set_back {
        output.line("Next: `strewn node run`");
    } else {
        output
            .good("the lock clock is not frozen, and nobody has found that this node was set back");
    }
    Ok(Exit::Done)
}

/// Where others reach this host's node, by its settings or since it runs.
pub(super) fn own_addresses(home: &Home) -> Result<Vec<String>, CliError> {
    let listen = read_file(&home.path("run/listen"))?.unwrap_or_default();
    let config = Config::load(home)?;
    let external = config.node.external.iter().map(ToString::to_string);
    let listening = String::from_utf8_lossy(&listen);
    let running = listening
        .lines()
        .filter_map(|line| split_address(&line.parse().ok()?))
        .map(|(_, address)| address.to_string());
    Ok(if config.node.external.is_empty() { running.collect() } else { external.collect() })
}

/// Makes a ticket.
pub fn invite(home: &Home, args: InviteArgs, output: &Output) -> Result<Exit, CliError> {
    let speaker = operator::speaker(home)?.ok_or_else(|| {
        CliError::new("the operator's key is needed to invite, and it is not here")
            .next("do it on the host where `strewn init` was run")
    })?;
    let node = read_key(&home.path("node.key"))?.ok_or_else(no_node)?;
    let addresses = own_addresses(home)?;
    if addresses.is_empty() {
        return Err(CliError::new(
            "nobody could find this node with a ticket: it has no address yet",
        )
        .next("start it with `strewn node run`, or set external in strewn.toml"));
    }
    let bearer = SecretKey::from_seed(&random()?);
    let invitation = Invitation {
        operator: speaker.operator(),
        admitter: node.public().into(),
        bearer: bearer.public(),
        labels: Labels::new(args.label).map_err(label_error)?,
        issued: wall(),
        expires: wall().after(args.expires),
    };
    let ticket = Ticket {
        invitation: Signed::speak(&invitation, &speaker),
        bearer_seed: *bearer.seed(),
        admitter: node.public().into(),
        addresses,
    };
    let line = ticket.to_line();
    if output.style().json {
        output.json(
            "summary",
            &serde_json::json!({ "ticket": line, "expires": invitation.expires.0 }),
        );
    } else {
        output.result(line);
        output.hint(format!(
            "\nOn the new host: strewn join TICKET --label provider=…  (once, within {}; this node must be running)",
            args.expires
        ));
    }
    Ok(Exit::Done)
}

/// Joins with a ticket.
pub async fn join(home: &Home, args: JoinArgs, output: &Output) -> Result<Exit, CliError> {
    check_new(home)?;
    let ticket = Ticket::from_line(&args.ticket)?;
    let key = match read_key(&home.path("node.key"))? {
        Some(key) => key,
        None => create_key(&home.path("node.key"), "the key of a node")?,
    };
    let node = NodeId::from(key.public());
    let bearer = SecretKey::from_seed(&ticket.bearer_seed);
    let labels = Labels::new(args.label).map_err(label_error)?;
    let request = JoinRequest { bearer: bearer.public(), node, labels };
    let greeting = Greeting::Join {
        invitation: ticket.invitation.clone(),
        request: Signed::sign(&request, &bearer),
    };
    let addresses: Vec<Multiaddr> =
        ticket.addresses.iter().filter_map(|a| a.parse().ok()).collect();
    let answer = mesh::join(&key, ticket.admitter, &addresses, &greeting).await?;
    let (certificate, members) = match answer {
        Response::Admitted { certificate, members } => (certificate, members),
        Response::Refused(refusal) => {
            return Err(CliError::new(format!("not admitted: {refusal}"))
                .next("`strewn invite` on a node of the mesh makes a new ticket"));
        }
        _ => return Err(CliError::new("not admitted: an unexpected answer")),
    };
    let wrong =
        |e: protocol::certificate::CertificateError| CliError::new(format!("not admitted: {e}"));
    let verified = NodeCertificate::verify(&certificate, wall()).map_err(wrong)?;
    let invitation = ticket.invitation.verify().map_err(|e| wrong(e.into()))?;
    Trust::new([invitation.operator]).check(verified.operator).map_err(wrong)?;
    if verified.node != node {
        return Err(CliError::new("not admitted: the certificate is another node's"));
    }
    let mut bootstrap: Vec<Multiaddr> =
        addresses.iter().map(|address| full_address(address, ticket.admitter)).collect();
    for record in members.iter().filter_map(|signed| NodeRecord::verify(signed, wall()).ok()) {
        let (record, _) = record;
        let known = record.addresses.iter().filter_map(|a| a.parse().ok());
        bootstrap.extend(known.map(|address| full_address(&address, record.node)));
    }
    bootstrap.dedup();
    bootstrap.truncate(64);
    write_config(home, args.node, bootstrap)?;
    write_signed(&home.path("node.cert"), &certificate)?;
    let made = Made {
        node,
        operator: verified.operator.key().fingerprint(),
        labels: verified.labels.to_string(),
    };
    if output.style().json {
        output.json("summary", &made);
    } else {
        output.good(format!("this host is node {} ({})", made.node.short(), made.labels));
        output.line(format!("  operator  {}\n\nNext: `strewn node run`", made.operator));
    }
    Ok(Exit::Done)
}
