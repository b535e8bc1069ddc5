//! `operator`: which key speaks for this host's operator, and how another takes its place.

use super::data::time;
use super::vouch::CERTIFICATE;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::operator::{HeirsArgs, OperatorCommand};
use crate::cli::output::Output;
use crate::client::mesh::{Caller, Mesh};
use crate::client::operator::{
    Renewed, begin, draft_line, line, name_heirs, read_draft, renew, renew_here, speaker_for, take,
};
use crate::client::partners::{self, Book, Told};
use crate::home::{Home, create_key, read_key};
use crate::line::{from_line, to_line};
use protocol::certificate::NodeCertificate;
use protocol::id::{NodeId, OperatorId, PublicKey};
use protocol::sign::Signed;
use protocol::succession::{Draft, Heirs, Line, Speaker};
use protocol::time::{Period, Wall};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Longest certificate in a line, in characters.
const CERTIFICATE_LEN_MAX: usize = 80 << 10;

/// Does what is asked.
pub async fn run(home: &Home, command: OperatorCommand, output: &Output) -> Result<Exit, CliError> {
    match command {
        OperatorCommand::Show { line: None } => show(home, output),
        OperatorCommand::Show { line: Some(line) } => show_draft(&line, output),
        OperatorCommand::Heir { file } => heir(&file, output),
        OperatorCommand::Heirs(args) => heirs(home, args, output).await,
        OperatorCommand::Succeed { grace } => {
            let draft = begin(home, None, grace)?;
            go_on(home, draft, output).await
        }
        OperatorCommand::Sign { line, key } => sign(home, &line, key, output),
        OperatorCommand::Take { lines } => put_together(home, &lines, output).await,
        OperatorCommand::Renew { certificate } => renew_one(home, &certificate, output),
    }
}

/// Which key speaks for an operator, as people and programs read of it.
#[derive(Debug, Serialize)]
pub(super) struct Speaks {
    /// 0 for the first one, which the operator is called by.
    number: usize,
    key: PublicKey,
    /// So many of these name the next one; 0 where the key itself does.
    need: usize,
    heirs: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Named {
    key: PublicKey,
    fingerprint: String,
}

impl Speaks {
    pub(super) fn of(line: &Line) -> Self {
        let heirs = line.heirs();
        let named = heirs.of().iter().map(|&key| Named { key, fingerprint: key.fingerprint() });
        Self { number: line.number(), key: line.key(), need: heirs.need(), heirs: named.collect() }
    }

    pub(super) fn print(&self, output: &Output) {
        if self.number > 0 {
            let key = self.key.fingerprint();
            output.line(format!("  speaks    {key}, step {} of its line", self.number));
        }
        if !self.heirs.is_empty() {
            output.line(format!("  heirs     {} of these name its next key", self.need));
            for heir in &self.heirs {
                output.line(format!("            {}", heir.fingerprint));
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    operator: OperatorId,
    fingerprint: String,
    speaks: Speaks,
    /// Whether the key that speaks is on this host.
    is_here: bool,
}

fn show(home: &Home, output: &Output) -> Result<Exit, CliError> {
    let line = line(home)?.ok_or(crate::client::operator::OperatorError::Nobody)?;
    let key = read_key(&home.path(crate::client::operator::KEY))?;
    let shown = Shown {
        operator: line.operator(),
        fingerprint: line.operator().key().fingerprint(),
        speaks: Speaks::of(&line),
        is_here: key.is_some_and(|key| key.public() == line.key()),
    };
    if output.style().json {
        output.json("summary", &shown);
        return Ok(Exit::Done);
    }
    output.heading(shown.operator.to_string());
    output.line(format!("  operator  {}", shown.fingerprint));
    shown.speaks.print(output);
    if shown.speaks.heirs.is_empty() {
        output
            .line("  heirs     none: the key itself names the next, and whoever stole it can, too");
    }
    if !shown.is_here {
        output.line("  The key that speaks is not on this host.");
    }
    Ok(Exit::Done)
}

/// What stands in a line that heirs sign.
#[derive(Debug, Serialize)]
struct Drafted {
    line: String,
    operator: OperatorId,
    fingerprint: String,
    number: u32,
    key: PublicKey,
    /// Whether another key is to speak.
    changes_key: bool,
    need: usize,
    heirs: Vec<Named>,
    issued: Wall,
    grace: Period,
    signatures: usize,
    needed: usize,
}

impl Drafted {
    fn of(draft: &Draft) -> Self {
        let said = draft.succession();
        let (signatures, needed) = draft.signatures();
        let named = said.heirs.of().iter();
        Self {
            line: draft_line(draft),
            operator: said.operator,
            fingerprint: said.operator.key().fingerprint(),
            number: said.number,
            key: said.key,
            changes_key: said.key != draft.line().key(),
            need: said.heirs.need(),
            heirs: named.map(|&key| Named { key, fingerprint: key.fingerprint() }).collect(),
            issued: said.issued,
            grace: said.grace,
            signatures,
            needed,
        }
    }

    fn print(&self, output: &Output) {
        output.line(format!("  operator  {}", self.fingerprint));
        let key = self.key.fingerprint();
        if self.changes_key {
            output.line(format!("  speaks    {key} from now on, step {} of its line", self.number));
            output.line(format!("  grace     {} for what earlier keys signed", self.grace));
        } else {
            output.line(format!("  speaks    {key} as before, step {} of its line", self.number));
        }
        if self.heirs.is_empty() {
            output.line("  heirs     none");
        } else {
            output.line(format!("  heirs     {} of these name the next key", self.need));
            for heir in &self.heirs {
                output.line(format!("            {}", heir.fingerprint));
            }
        }
        output.line(format!("  made      {}", time(self.issued)));
        output.line(format!("  signed    by {} of the {} it takes", self.signatures, self.needed));
    }
}

fn show_draft(line: &str, output: &Output) -> Result<Exit, CliError> {
    let drafted = Drafted::of(&read_draft(line)?);
    if output.style().json {
        output.json("summary", &drafted);
    } else {
        output.heading("a succession");
        drafted.print(output);
    }
    Ok(Exit::Done)
}

fn heir(file: &Path, output: &Output) -> Result<Exit, CliError> {
    if file.exists() {
        return Err(
            CliError::new(format!("{} is there already", file.display())).next("name another file")
        );
    }
    let key = create_key(file, "the key of an heir of an operator")?.public();
    let fingerprint = key.fingerprint();
    if output.style().json {
        output.json("summary", &Named { key, fingerprint });
        return Ok(Exit::Done);
    }
    output.result(key.to_string());
    output.line(format!("\nKeep {} offline. Its fingerprint is {fingerprint}.\nThe operator says: strewn operator heirs --need N KEY…", file.display()));
    Ok(Exit::Done)
}

async fn heirs(home: &Home, args: HeirsArgs, output: &Output) -> Result<Exit, CliError> {
    let heirs =
        Heirs::new(args.need, args.keys).map_err(crate::client::operator::OperatorError::from)?;
    let draft = name_heirs(home, heirs)?;
    go_on(home, draft, output).await
}

/// Has it count where enough have signed, and shows the line that others have to sign otherwise.
async fn go_on(home: &Home, draft: Draft, output: &Output) -> Result<Exit, CliError> {
    let (have, need) = draft.signatures();
    if have >= need {
        return apply(home, draft, output).await;
    }
    let next = "Each heir says: strewn operator sign LINE, and sends the line back that it prints.\nThen here: strewn operator take LINE…";
    hand_on(&draft, next, output);
    Ok(Exit::Done)
}

/// Shows a line that others are to get, and what they do with it.
fn hand_on(draft: &Draft, next: &str, output: &Output) {
    let drafted = Drafted::of(draft);
    if output.style().json {
        output.json("summary", &drafted);
        return;
    }
    output.result(&drafted.line);
    output.line("");
    drafted.print(output);
    output.line("");
    output.line(next);
}

fn sign(home: &Home, line: &str, key: Option<PathBuf>, output: &Output) -> Result<Exit, CliError> {
    let mut draft = read_draft(line)?;
    let path = key.unwrap_or_else(|| home.path(crate::client::operator::KEY));
    let key = read_key(&path)?.ok_or_else(|| {
        CliError::new(format!("there is no key in {}", path.display()))
            .next("name the heir's key with --key FILE")
            .exit(Exit::NotThere)
    })?;
    draft.sign(&key).map_err(crate::client::operator::OperatorError::from)?;
    hand_on(&draft, "Send the line back, or on to the next heir.", output);
    Ok(Exit::Done)
}

async fn put_together(home: &Home, lines: &[String], output: &Output) -> Result<Exit, CliError> {
    let mut drafts = lines.iter().map(|line| read_draft(line));
    let mut draft = drafts.next().ok_or_else(|| CliError::new("no line").exit(Exit::Usage))??;
    for other in drafts {
        draft.join(other?).map_err(crate::client::operator::OperatorError::from)?;
    }
    apply(home, draft, output).await
}

/// A node's certificate, signed anew.
#[derive(Debug, Serialize)]
struct Certificate {
    node: NodeId,
    certificate: String,
}

#[derive(Debug, Serialize)]
struct Done {
    operator: OperatorId,
    speaks: Speaks,
    renewed: Renewed,
    /// Of the operator's other nodes that are known: what each is to be given.
    certificates: Vec<Certificate>,
}

/// What the operator's nodes know, before another key speaks: afterwards they may not show it.
struct Reached {
    /// The certificates of its other nodes.
    others: Vec<NodeCertificate>,
    /// The newest list of partners that they have.
    told: Told,
}

async fn reach(home: &Home, own: OperatorId, output: &Output) -> Option<Reached> {
    let caller = Caller::console(home).ok()?;
    let Ok(mesh) = Mesh::connect(home, caller).await else {
        output.warn("no node of this operator answers: `strewn operator renew` signs the certificates of others later");
        return None;
    };
    let told = partners::ask(&mesh, own).await;
    let here = read_key(&home.path("node.key")).ok().flatten().map(|key| key.public());
    let certificates = mesh.certificates().into_iter().filter_map(|signed| signed.verify().ok());
    let is_other =
        |known: &NodeCertificate| known.operator == own && Some(known.node.key()) != here;
    Some(Reached { others: certificates.filter(is_other).collect(), told })
}

/// Signs the list of partners anew, by which nodes hear who speaks. An empty one in place of one that is elsewhere would remove all partners; and after a
/// theft the one that nodes have may be the thief's.
fn say_again(
    home: &Home,
    own: OperatorId,
    reached: Option<Told>,
    is_theft: bool,
    output: &Output,
) -> Result<(), CliError> {
    let here = partners::stored(home, own)?.map(|(_, known)| known.version);
    let told = match (here, reached) {
        (None, None) => {
            output.warn("no list of partners is here and no node has told one: nodes hear of it by its next change, such as `strewn partner add`");
            return Ok(());
        }
        (Some(version), Some(told)) if is_theft => {
            if told.version() > version {
                output.warn("nodes had a later list of partners than this host; after a theft the one here counts: look at `strewn partner list`");
            }
            Told::default()
        }
        (_, told) => told.unwrap_or_default(),
    };
    Ok(Book::open(home, &told)?.say_again(home)?)
}

/// It counts: the key speaks, and what this host has is signed anew.
async fn apply(home: &Home, draft: Draft, output: &Output) -> Result<Exit, CliError> {
    let changes_key = draft.succession().key != draft.line().key();
    let is_theft = changes_key && draft.succession().grace == Period(0);
    let (others, told) = match reach(home, draft.succession().operator, output).await {
        Some(Reached { others, told }) => (others, Some(told)),
        None => (Vec::new(), None),
    };
    let speaker = take(home, draft)?;
    let renewed = renew_here(home, &speaker)?;
    say_again(home, speaker.operator(), told, is_theft, output)?;
    let certificate = |known: NodeCertificate| Certificate {
        node: known.node,
        certificate: to_line(CERTIFICATE, &renew(&speaker, known)),
    };
    let certificates =
        if changes_key { others.into_iter().map(certificate).collect() } else { Vec::new() };
    let done = Done {
        operator: speaker.operator(),
        speaks: Speaks::of(speaker.line()),
        renewed,
        certificates,
    };
    if output.style().json {
        output.json("summary", &done);
        return Ok(Exit::Done);
    }
    tell(&speaker, &done, changes_key, output);
    Ok(Exit::Done)
}

fn tell(speaker: &Speaker, done: &Done, changes_key: bool, output: &Output) {
    let fingerprint = speaker.operator().key().fingerprint();
    output.good(if changes_key {
        format!("another key speaks for operator {fingerprint}")
    } else {
        format!("operator {fingerprint} has named its heirs")
    });
    done.speaks.print(output);
    for certificate in &done.certificates {
        output.line(format!("\nOn the host of node {}:", certificate.node.short()));
        output.line(format!("strewn node carry {}", certificate.certificate));
    }
    if !done.renewed.vaults.is_empty() {
        output.line(format!(
            "\nBack up, so that holders get the new word for: {}",
            done.renewed.vaults.join(", ")
        ));
    }
    output.line("Next: `strewn partner ticket`, whose line each partner adds again");
}

fn renew_one(home: &Home, line: &str, output: &Output) -> Result<Exit, CliError> {
    let speaker = speaker_for(home, "signing a certificate")?;
    let wrong = |error: &dyn std::fmt::Display| CliError::new(error.to_string());
    let signed: Signed<NodeCertificate> =
        from_line(CERTIFICATE, CERTIFICATE_LEN_MAX, line).map_err(|e| wrong(&e))?;
    let known = signed.verify().map_err(|e| wrong(&e))?;
    if known.operator != speaker.operator() {
        return Err(CliError::new("the certificate is of another operator's node"));
    }
    let labels = known.labels.to_string();
    let certificate = Certificate {
        node: known.node,
        certificate: to_line(CERTIFICATE, &renew(&speaker, known)),
    };
    if output.style().json {
        output.json("summary", &certificate);
        return Ok(Exit::Done);
    }
    output.result(&certificate.certificate);
    output.line(format!(
        "\nOn the host of node {}: strewn node carry LINE\nIt states: {}",
        certificate.node.short(),
        crate::cli::output::printable(&labels)
    ));
    Ok(Exit::Done)
}
