//! `operator`: which key speaks for this host's operator, and how another takes its place.

use super::data::time;
use super::vouch::CERTIFICATE;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::operator::{HeirsArgs, ListArgs, OperatorCommand};
use crate::cli::output::{Output, printable};
use crate::client::mesh::{Caller, Mesh};
use crate::client::operator::{
    OperatorError, Renewed, begin, declared, draft_line, line, name_heirs, read_draft, renew,
    renew_here, speaker_for, take, without_declared,
};
use crate::client::partners::{self, Book, Lists};
use crate::home::{Home, create_key, read_key};
use crate::line::{from_line, to_line};
use crate::service::wall;
use protocol::certificate::{CLOCK_SKEW_MAX, NodeCertificate};
use protocol::id::{NodeId, OperatorId, PublicKey};
use protocol::partner::PartnerList;
use protocol::sign::Signed;
use protocol::succession::{Draft, Heirs, Line, STEPS_MAX, Speaker};
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
        OperatorCommand::Succeed { grace, list } => {
            let known = line(home)?.ok_or(OperatorError::Nobody)?;
            // What has to be asked is asked before there is a key that waits.
            let settled = if known.heirs().is_empty() {
                Some(settle(home, &known, true, list, output).await?)
            } else {
                None
            };
            let draft = begin(home, None, grace)?;
            go_on(home, draft, settled, list, output).await
        }
        OperatorCommand::Sign { line, key } => sign(home, &line, key, output),
        OperatorCommand::Take { lines, list } => put_together(home, &lines, list, output).await,
        OperatorCommand::Renew { certificate, declared_too, without_declared } => {
            let declared = match (declared_too, without_declared) {
                (true, _) => Declared::Signed,
                (_, true) => Declared::LeftOut,
                _ => Declared::Refused,
            };
            renew_one(home, &certificate, declared, output)
        }
    }
}

/// Which key speaks for an operator, as people and programs read of it.
#[derive(Debug, Serialize)]
pub(super) struct Speaks {
    /// 0 for the first one, which the operator is called by.
    number: usize,
    key: PublicKey,
    /// What people compare: of operator and line together.
    fingerprint: String,
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
        Self {
            number: line.number(),
            key: line.key(),
            fingerprint: line.fingerprint(),
            need: heirs.need(),
            heirs: named.collect(),
        }
    }

    pub(super) fn print(&self, output: &Output) {
        if self.number > 0 {
            let key = self.key.fingerprint();
            output.line(format!("  speaks    {key}, step {} of its line", self.number));
            output.line(format!(
                "  compare   {} by voice: it is of operator and line together",
                self.fingerprint
            ));
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
    let line = line(home)?.ok_or(OperatorError::Nobody)?;
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

    fn texts(&self) -> Vec<String> {
        let mut texts = vec![format!("  operator  {}", self.fingerprint)];
        let key = self.key.fingerprint();
        if self.changes_key {
            texts.push(format!("  speaks    {key} from now on, step {} of its line", self.number));
            texts.push(format!("  grace     {} for what earlier keys signed", self.grace));
        } else {
            texts.push(format!("  speaks    {key} as before, step {} of its line", self.number));
        }
        if self.heirs.is_empty() {
            texts.push("  heirs     none".into());
        } else {
            texts.push(format!("  heirs     {} of these name the next key", self.need));
            texts.extend(self.heirs.iter().map(|heir| format!("            {}", heir.fingerprint)));
        }
        texts.push(format!("  made      {}", time(self.issued)));
        texts.push(format!("  signed    by {} of the {} it takes", self.signatures, self.needed));
        texts
    }
}

fn show_draft(line: &str, output: &Output) -> Result<Exit, CliError> {
    let drafted = Drafted::of(&read_draft(line)?);
    if output.style().json {
        output.json("summary", &drafted);
    } else {
        output.heading("a succession");
        drafted.texts().iter().for_each(|text| output.line(text));
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
    output.hint(format!("\nKeep {} offline. Its fingerprint is {fingerprint}.\nThe operator says: strewn operator heirs --need N KEY…", file.display()));
    Ok(Exit::Done)
}

async fn heirs(home: &Home, args: HeirsArgs, output: &Output) -> Result<Exit, CliError> {
    let list = args.list;
    let heirs = Heirs::new(args.need(), args.keys).map_err(OperatorError::from)?;
    let draft = name_heirs(home, heirs)?;
    go_on(home, draft, None, list, output).await
}

/// Has it count where enough have signed, and shows the line that others have to sign otherwise.
async fn go_on(
    home: &Home,
    draft: Draft,
    settled: Option<Settled>,
    list: ListArgs,
    output: &Output,
) -> Result<Exit, CliError> {
    let (have, need) = draft.signatures();
    if have >= need {
        return apply(home, draft, settled, list, output).await;
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
    output.hint("");
    drafted.texts().iter().for_each(|text| output.hint(text));
    output.hint("");
    output.hint(next);
}

fn sign(home: &Home, line: &str, key: Option<PathBuf>, output: &Output) -> Result<Exit, CliError> {
    let mut draft = read_draft(line)?;
    let path = key.unwrap_or_else(|| home.path(crate::client::operator::KEY));
    let key = read_key(&path)?.ok_or_else(|| {
        CliError::new(format!("there is no key in {}", path.display()))
            .next("name the heir's key with --key FILE")
            .exit(Exit::NotThere)
    })?;
    let issued = draft.succession().issued;
    if issued > wall().after(CLOCK_SKEW_MAX) {
        let text = format!(
            "the succession is dated {}, which is more than a day ahead of this host's clock",
            time(issued)
        );
        return Err(CliError::new(text)
            .next("set the clock of the host that made the line, and have it made anew there"));
    }
    draft.sign(&key).map_err(OperatorError::from)?;
    hand_on(&draft, "Send the line back, or on to the next heir.", output);
    Ok(Exit::Done)
}

async fn put_together(
    home: &Home,
    lines: &[String],
    list: ListArgs,
    output: &Output,
) -> Result<Exit, CliError> {
    let mut drafts = lines.iter().map(|line| read_draft(line));
    let mut draft = drafts.next().ok_or_else(|| CliError::new("no line").exit(Exit::Usage))??;
    for other in drafts {
        draft.join(other?).map_err(OperatorError::from)?;
    }
    apply(home, draft, None, list, output).await
}

/// A node's certificate, signed anew.
#[derive(Debug, Serialize)]
struct Renewal {
    node: NodeId,
    /// What it states.
    labels: String,
    certificate: String,
}

impl Renewal {
    fn of(speaker: &Speaker, known: NodeCertificate) -> Self {
        let (node, labels) = (known.node, known.labels.to_string());
        Self { node, labels, certificate: to_line(CERTIFICATE, &renew(speaker, known)) }
    }
}

/// One that somebody has to look at before it is.
#[derive(Debug, Serialize)]
struct Unsigned {
    node: NodeId,
    labels: String,
    /// What of that it states by itself.
    declared: Vec<String>,
    issued: Wall,
    /// As it is.
    certificate: String,
}

/// A partner on the list that was signed anew.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    operator: OperatorId,
    fingerprint: String,
    added: Wall,
}

#[derive(Debug, Serialize)]
struct Done {
    operator: OperatorId,
    speaks: Speaks,
    renewed: Renewed,
    /// Of the operator's other nodes that are known: what each is to be given.
    certificates: Vec<Renewal>,
    /// Of those that somebody has to look at first.
    unsigned: Vec<Unsigned>,
    /// Those that do not answer.
    silent: Vec<NodeId>,
    /// Who is on the list of partners that the key has signed.
    partners: Vec<Listed>,
    /// Nodes for whose labels the operator vouches, by the key that spoke.
    vouched: Vec<Vouched>,
}

/// A node of another operator that shows this one's word.
#[derive(Debug, Serialize)]
struct Vouched {
    node: NodeId,
    labels: String,
    /// Whether a cloud's document stands behind it.
    with_document: bool,
}

/// For which nodes of others an operator vouches.
fn vouched(own: OperatorId, certificates: &[Signed<NodeCertificate>]) -> Vec<Vouched> {
    let known = certificates.iter().filter_map(|signed| signed.verify().ok());
    let vouches = known.flat_map(|known| known.vouches().collect::<Vec<_>>());
    let own = vouches.filter(|vouch| vouch.by == own && vouch.expires > wall());
    let shown = own.map(|vouch| Vouched {
        node: vouch.node,
        labels: vouch.labels.to_string(),
        with_document: vouch.document.is_some(),
    });
    shown.collect()
}

/// What is settled before another key speaks: afterwards nodes may not show it.
struct Settled {
    /// The certificates of the operator's other nodes.
    others: Vec<Signed<NodeCertificate>>,
    /// Those that do not answer.
    silent: Vec<NodeId>,
    /// The list of partners that is to be signed.
    list: Option<Signed<PartnerList>>,
    /// For whom the operator vouches.
    vouched: Vec<Vouched>,
}

/// Asks the nodes, and keeps nothing of what they say: whoever had the key may have told them.
async fn settle(
    home: &Home,
    known: &Line,
    changes_key: bool,
    args: ListArgs,
    output: &Output,
) -> Result<Settled, CliError> {
    let own = known.operator();
    let mesh = match Caller::console(home) {
        Ok(caller) => Mesh::connect(home, caller.keeping_nothing()).await.ok(),
        Err(_) => None,
    };
    let (mut others, mut told) = (Vec::new(), None);
    let (mut silent, mut vouches) = (Vec::new(), Vec::new());
    if let Some(mesh) = &mesh {
        told = Some(partners::ask(mesh, own).await);
        let here = read_key(&home.path("node.key"))?.map(|key| key.public());
        others = mesh.certificates();
        vouches = vouched(own, &others);
        let gone = mesh.silent.iter().filter(|(_, silent)| silent.site.operator == own);
        silent = gone.map(|(node, _)| *node).collect();
        others.retain(|signed| {
            signed
                .verify()
                .is_ok_and(|known| known.operator == own && Some(known.node.key()) != here)
        });
    } else {
        output.warn("no node of this operator answers: `strewn operator renew` signs the certificates of others later");
    }
    let lists = Lists::gather(home, known, told.as_ref())?;
    let list = lists.choose(args.partners.map(Into::into), changes_key)?;
    Ok(Settled { others, silent, list, vouched: vouches })
}

/// Signs the list of partners anew, by which nodes hear who speaks. An empty one in place of one that is elsewhere would remove all partners.
fn say_again(
    home: &Home,
    list: Option<Signed<PartnerList>>,
    output: &Output,
) -> Result<Vec<Listed>, CliError> {
    let Some(list) = list else {
        output.warn("no list of partners is here and no node has told one: nodes hear of it by its next change, such as `strewn partner add`");
        return Ok(Vec::new());
    };
    let book = Book::say_again(home, list)?;
    let listed = book.partners().map(|known| Listed {
        name: known.name.clone(),
        operator: known.introduction.operator,
        fingerprint: known.line.fingerprint(),
        added: known.added,
    });
    Ok(listed.collect())
}

/// It counts: the key speaks, and what this host has is signed anew.
async fn apply(
    home: &Home,
    draft: Draft,
    settled: Option<Settled>,
    list: ListArgs,
    output: &Output,
) -> Result<Exit, CliError> {
    let changes_key = draft.succession().key != draft.line().key();
    let is_theft = changes_key && draft.succession().grace == Period(0);
    let Settled { others, silent, list, vouched } = if let Some(settled) = settled {
        settled
    } else {
        let known = line(home)?.ok_or(OperatorError::Nobody)?;
        settle(home, &known, changes_key, list, output).await?
    };
    let speaker = take(home, draft)?;
    let renewed = renew_here(home, &speaker)?;
    let partners = say_again(home, list, output)?;
    let (mut certificates, mut unsigned) = (Vec::new(), Vec::new());
    for signed in others {
        let Ok(known) = signed.verify() else { continue };
        let declared = declared(&known);
        // After a theft the thief's nodes are among them.
        if !is_theft && declared.is_empty() {
            certificates.push(Renewal::of(&speaker, known));
        } else if changes_key || !declared.is_empty() {
            unsigned.push(Unsigned {
                node: known.node,
                labels: known.labels.to_string(),
                declared: declared.iter().map(ToString::to_string).collect(),
                issued: known.issued,
                certificate: to_line(CERTIFICATE, &signed),
            });
        }
    }
    let (operator, speaks) = (speaker.operator(), Speaks::of(speaker.line()));
    let done =
        Done { operator, speaks, renewed, certificates, unsigned, silent, partners, vouched };
    if output.style().json {
        output.json("summary", &done);
        return Ok(Exit::Done);
    }
    tell(&speaker, &done, (changes_key, is_theft), output);
    Ok(Exit::Done)
}

fn tell(speaker: &Speaker, done: &Done, (changes_key, is_theft): (bool, bool), output: &Output) {
    let fingerprint = speaker.operator().key().fingerprint();
    output.good(if changes_key {
        format!("another key speaks for operator {fingerprint}")
    } else {
        format!("operator {fingerprint} has named its heirs")
    });
    done.speaks.print(output);
    for partner in &done.partners {
        let (name, added) = (printable(&partner.name), time(partner.added));
        output.line(format!("  partner   {name}, {}, added {added}", partner.fingerprint));
    }
    if is_theft && !done.partners.is_empty() {
        output.warn("look at each partner: whoever had the key may have added some. `strewn partner remove` removes one");
    }
    for certificate in &done.certificates {
        let labels = printable(&certificate.labels);
        output.line(format!("\nOn the host of node {} ({labels}):", certificate.node.short()));
        output.line(format!("strewn node carry {}", certificate.certificate));
    }
    if !done.unsigned.is_empty() {
        output.line("\nThese nodes answer, and their certificates were not signed anew. Sign those that are yours, and whose labels are true, and give each its line with `strewn node carry`:");
    }
    for node in &done.unsigned {
        let labels = printable(&node.labels);
        output.line(format!("\nnode {}, certified {}: {labels}", node.node, time(node.issued)));
        if !node.declared.is_empty() {
            let declared = node.declared.join(", ");
            output.line(format!(
                "It states {} by itself: where that is not true say --without-declared instead.",
                printable(&declared)
            ));
        }
        // After a theft whoever signs is to look first: without it he is asked.
        let flag = if node.declared.is_empty() || is_theft { "" } else { "--declared-too " };
        output.line(format!("strewn operator renew {flag}{}", node.certificate));
    }
    for node in &done.silent {
        output.line(format!(
            "\nNode {} does not answer. `strewn --json node show` there prints its certificate; here: strewn operator renew LINE",
            node.short()
        ));
    }
    if changes_key {
        tell_of_others(done, is_theft, output);
    }
    if !done.renewed.vaults.is_empty() {
        output.line(format!(
            "\nBack up, so that holders get the new word for: {}",
            done.renewed.vaults.join(", ")
        ));
    }
    if speaker.line().number() + 2 >= STEPS_MAX {
        let left = STEPS_MAX - speaker.line().number();
        output.warn(format!("a line of keys has {STEPS_MAX} steps at most, and {left} are left: after the last one nothing ends a stolen key"));
    }
    let names: Vec<String> = done.partners.iter().map(|known| known.name.clone()).collect();
    let names = if names.is_empty() { "each partner".into() } else { names.join(" and ") };
    output.line(format!(
        "Next: `strewn partner ticket`, whose line {} adds again",
        printable(&names)
    ));
}

/// What others still take the earlier key for, and what ends with it.
fn tell_of_others(done: &Done, is_theft: bool, output: &Output) {
    let names: Vec<String> = done.partners.iter().map(|known| known.name.clone()).collect();
    if !names.is_empty() {
        output.warn(format!(
            "until a partner has added the new line of `strewn partner ticket`, whoever has the earlier key speaks for this operator there, and can agree on its side: {}",
            names.join(", ")
        ));
    }
    let when = if is_theft { "now" } else { "when the grace is over" };
    for Vouched { node, labels, with_document } in &done.vouched {
        let (labels, document) =
            (labels.replace(' ', ","), if *with_document { ", with its document" } else { "" });
        output.line(format!(
            "\nWhat the earlier key vouched for node {} ends {when}. Vouch again{document}: strewn partner vouch {node} --label {}",
            node.short(),
            printable(&labels)
        ));
    }
}

/// What becomes of labels that a node states by itself.
#[derive(Debug, Clone, Copy)]
enum Declared {
    Signed,
    LeftOut,
    Refused,
}

fn renew_one(home: &Home, line: &str, what: Declared, output: &Output) -> Result<Exit, CliError> {
    let speaker = speaker_for(home, "signing a certificate")?;
    let wrong = |error: &dyn std::fmt::Display| CliError::new(error.to_string());
    let signed: Signed<NodeCertificate> =
        from_line(CERTIFICATE, CERTIFICATE_LEN_MAX, line).map_err(|e| wrong(&e))?;
    let known = signed.verify().map_err(|e| wrong(&e))?;
    if known.operator != speaker.operator() {
        return Err(CliError::new("the certificate is of another operator's node"));
    }
    let declared: Vec<String> = declared(&known).iter().map(ToString::to_string).collect();
    let known = match what {
        Declared::LeftOut => without_declared(known)?,
        Declared::Refused if !declared.is_empty() => {
            let declared = declared.join(", ");
            let text = format!("the node states {} by itself", printable(&declared));
            return Err(CliError::new(text).next(
                "look whether that is true, and say --declared-too; --without-declared leaves it out",
            ));
        }
        Declared::Signed | Declared::Refused => known,
    };
    let certificate = Renewal::of(&speaker, known);
    if output.style().json {
        output.json("summary", &certificate);
        return Ok(Exit::Done);
    }
    output.result(&certificate.certificate);
    output.hint(format!(
        "\nOn the host of node {}: strewn node carry LINE\nIt states: {}",
        certificate.node.short(),
        printable(&certificate.labels)
    ));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests;
