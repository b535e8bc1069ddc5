//! `partner`: operators introduce themselves to each other, and agree on what they swap.

mod nodes;

use super::data::time;
use super::node::{label_error, own_addresses};
use super::operator::Speaks;
use super::{leaving, statement, vouch};
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::{Column, Output, printable};
use crate::cli::partner::{PartnerCommand, ProposeArgs};
use crate::client::ClientError;
use crate::client::mesh::{Caller, Mesh};
use crate::client::operator;
use crate::client::partners::{
    self, Book, Line as Pasted, PartnersError, Terms, Told, find, holders, read_line,
};
use crate::home::{Home, read_key};
use crate::size::ByteSize;
use nodes::{Place, SilentNode, places, silent};
use protocol::agreement::Agreement;
use protocol::id::{NodeId, OperatorId};
use protocol::label::{Labels, Site};
use protocol::partner::{CONTACT_ADDRESSES_MAX, CONTACTS_MAX, Contact, Introduction, Known};
use protocol::sign::Signed;
use protocol::succession::Line as KeyLine;
use protocol::time::{Period, Wall};
use serde::Serialize;
use std::collections::BTreeSet;

/// Where and how soon a change of the list counts.
const TAKEN_UP: &str = "The node of this host takes it up in a few seconds, the operator's other nodes within a minute or two.";

/// Does what is asked.
pub async fn run(home: &Home, command: PartnerCommand, output: &Output) -> Result<Exit, CliError> {
    match command {
        PartnerCommand::Ticket { name } => ticket(home, name, output).await,
        PartnerCommand::Add { ticket, name } => add(home, &ticket, name, output).await,
        PartnerCommand::List => list(home, output).await,
        PartnerCommand::Show { partner } => show(home, &partner, output).await,
        PartnerCommand::Remove { partner } => remove(home, &partner, output).await,
        PartnerCommand::Propose(args) => propose(home, args, output).await,
        PartnerCommand::Accept { line } => accept(home, &line, output).await,
        PartnerCommand::Share { partner } => share(home, &partner, output).await,
        PartnerCommand::Vouch(args) => vouch::vouch(home, args, output).await,
        PartnerCommand::Leave { partner } => leaving::leave(home, &partner, output).await,
        PartnerCommand::Statement(args) => statement::show(home, &args, output).await,
        PartnerCommand::Balance { month } => statement::balance(home, month, output).await,
    }
}

/// What the operator's nodes say, as far as they can be reached.
pub(super) struct Reached {
    pub(super) mesh: Option<Mesh>,
    told: Told,
}

async fn reach(home: &Home, own: OperatorId, output: &Output) -> Result<Reached, CliError> {
    if !home.path("node.key").exists() {
        return Ok(Reached { mesh: None, told: Told::default() });
    }
    match Mesh::connect(home, Caller::console(home)?).await {
        Ok(mesh) => {
            let told = partners::ask(&mesh, own).await;
            Ok(Reached { mesh: Some(mesh), told })
        }
        Err(ClientError::NoNode(_)) => {
            output.warn("no node of this operator answers: what is known here alone is used");
            Ok(Reached { mesh: None, told: Told::default() })
        }
        Err(error) => Err(error.into()),
    }
}

/// The operator whose host this is: by its key and line, or by the certificate of this host's node.
fn operator_of(home: &Home) -> Result<OperatorId, CliError> {
    let line = operator::line(home)?.ok_or_else(super::node::no_node)?;
    Ok(line.operator())
}

/// The book and what the nodes say, for whoever has the operator's key.
pub(super) async fn open(home: &Home, output: &Output) -> Result<(Book, Reached), CliError> {
    let own = operator_of(home)?;
    let reached = reach(home, own, output).await?;
    let book = Book::open(home, &reached.told)?;
    Ok((book, reached))
}

async fn ticket(home: &Home, name: Option<String>, output: &Output) -> Result<Exit, CliError> {
    let (book, reached) = open(home, output).await?;
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = name.unwrap_or_else(host);
    let contacts = contacts(home, reached.mesh.as_ref(), book.operator())?;
    if contacts.is_empty() {
        return Err(CliError::new(
            "a partner could not find this operator: no node has an address",
        )
        .next("start a node with `strewn node run`, or set external in strewn.toml"));
    }
    let line = book.introduce(name.clone(), contacts)?;
    let fingerprint = book.line().fingerprint();
    if output.style().json {
        let body = serde_json::json!({
            "ticket": line, "name": name, "operator": book.operator(), "fingerprint": fingerprint,
        });
        output.json("summary", &body);
        return Ok(Exit::Done);
    }
    output.result(line);
    output.hint(format!(
        "\nThis is {fingerprint}. The partner says: strewn partner add LINE\nCompare both fingerprints that it prints by voice."
    ));
    Ok(Exit::Done)
}

/// This host's node and others of the operator.
fn contacts(home: &Home, mesh: Option<&Mesh>, own: OperatorId) -> Result<Vec<Contact>, CliError> {
    let mut contacts: Vec<Contact> = Vec::new();
    let mut add = |node: NodeId, mut addresses: Vec<String>| {
        addresses.truncate(CONTACT_ADDRESSES_MAX);
        let is_new = contacts.iter().all(|contact| contact.node != node);
        if is_new && !addresses.is_empty() && contacts.len() < CONTACTS_MAX {
            contacts.push(Contact { node, addresses });
        }
    };
    if let Some(node) = read_key(&home.path("node.key"))? {
        add(node.public().into(), own_addresses(home)?);
    }
    let nodes = mesh.iter().flat_map(|mesh| mesh.nodes.values());
    for node in nodes.filter(|node| node.site.operator == own) {
        let record = node.record.verify().map_err(|e| CliError::new(e.to_string()))?;
        add(node.id, record.addresses);
    }
    Ok(contacts)
}

async fn add(
    home: &Home,
    line: &str,
    name: Option<String>,
    output: &Output,
) -> Result<Exit, CliError> {
    let Pasted::Introduction(signed, _) = read_line(line)? else {
        return Err(CliError::new("this line is about an agreement")
            .next("take it in with `strewn partner accept`"));
    };
    let (mut book, reached) = open(home, output).await?;
    let own = book.operator();
    let partner = signed.verify().map_err(|e| CliError::new(e.to_string()))?.operator;
    let before = book.partners().find(|known| known.introduction.operator == partner);
    let before = before.map(|known| known.line.key());
    let known = book.add(home, signed, name)?;
    let is_since_change = partners::is_agreed_since_change(known);
    let changed = before.filter(|key| *key != known.line.key());
    let shown = Shown::of(own, known, &reached.told);
    let yours = book.line().fingerprint();
    let was_heir = changed.is_some_and(|key| book.line().heirs().of().contains(&key));
    if output.style().json {
        output.json("summary", &shown);
        return Ok(Exit::Done);
    }
    output.good(format!("{} is a partner", printable(&shown.name)));
    output.line(format!("  theirs  {}", shown.fingerprint));
    output.line(format!("  yours   {yours}"));
    if changed.is_some() {
        output.warn("another key speaks for this partner now. What was agreed stays; what its earlier key signs from now on does not count");
    }
    if was_heir {
        output.warn("its earlier key is an heir of this operator and stays one: name the heirs anew with `strewn operator heirs`");
    }
    shown.speaks.print(output);
    if let Some(terms) = &shown.agreement {
        output.line(format!("agreed with it now, version {}:", terms.version));
        terms.lines(output);
        if is_since_change {
            output.warn("this was agreed after another key began to speak for the partner, which was known here only now: it may have been agreed with whoever has the earlier one. Ask its people, and propose anew where they do not know it");
        } else if changed.is_some() {
            output.line("Ask its people whether that is what they agreed to: until now its earlier key could agree here.");
        }
    }
    output.line(format!(
        "\nCompare both fingerprints by voice{}: they stand for operator and key. {TAKEN_UP}",
        if shown.agreement.is_some() { "" } else { " before anything is agreed" }
    ));
    if shown.agreement.is_none() {
        output.line("Next: `strewn partner propose`");
    }
    Ok(Exit::Done)
}

/// A partner as people and programs read of it.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    operator: OperatorId,
    /// What people compare: of the operator and the line of its keys.
    fingerprint: String,
    /// What it calls itself.
    calls_itself: String,
    added: Wall,
    /// Which key speaks for it.
    speaks: Speaks,
    nodes: Vec<NodeId>,
    agreement: Option<Agreed>,
    /// The operator's own nodes that hold for it.
    holders: Vec<NodeId>,
    /// Bytes held for it on the nodes that answer,
    held: u64,
    /// and at most.
    share: u64,
    /// How it stands at the nodes that answer.
    standing: Vec<leaving::Standing>,
    /// Its nodes that answer, and what shows where they lie.
    places: Vec<Place>,
    /// Its nodes that do not.
    silent: Vec<SilentNode>,
}

/// What is agreed, seen from one side.
#[derive(Debug, Serialize)]
struct Agreed {
    version: u64,
    gives: u64,
    takes: u64,
    start: Wall,
    end: Wall,
    notice: Period,
    max_lock: Period,
    labels: Labels,
    asks: Labels,
}

impl Agreed {
    fn of(own: OperatorId, agreement: &Agreement) -> Self {
        let Agreement { first, second, .. } = agreement.clone();
        let (ours, theirs) = if first.operator == own { (first, second) } else { (second, first) };
        Self {
            version: agreement.version,
            gives: ours.gives,
            takes: theirs.gives,
            start: agreement.start,
            end: agreement.end(),
            notice: agreement.notice,
            max_lock: agreement.lock_max,
            labels: ours.labels,
            asks: theirs.labels,
        }
    }

    fn lines(&self, output: &Output) {
        self.texts().iter().for_each(|text| output.line(text));
    }

    /// Beside a line that is for the other side.
    fn hints(&self, output: &Output) {
        self.texts().iter().for_each(|text| output.hint(text));
    }

    fn texts(&self) -> [String; 4] {
        let with = |labels: &Labels| {
            if labels.is_empty() { String::new() } else { format!(" in {labels}") }
        };
        [
            format!("  gives     {}{}", ByteSize(self.gives), printable(&with(&self.labels))),
            format!("  takes     {}{}", ByteSize(self.takes), printable(&with(&self.asks))),
            format!("  locks     {} at most", self.max_lock),
            format!(
                "  from      {} to {}, notice {}",
                time(self.start),
                time(self.end),
                self.notice
            ),
        ]
    }
}

impl Shown {
    fn of(own: OperatorId, known: &Known, told: &Told) -> Self {
        let operator = known.introduction.operator;
        let held = told.held.get(&operator);
        Self {
            name: known.name.clone(),
            operator,
            fingerprint: known.line.fingerprint(),
            calls_itself: known.introduction.name.clone(),
            added: known.added,
            speaks: Speaks::of(&known.line),
            nodes: known.introduction.contacts.iter().map(|contact| contact.node).collect(),
            agreement: known.agreement.as_ref().map(|agreement| Agreed::of(own, agreement)),
            holders: known.holders.clone(),
            held: held.map_or(0, |held| held.bytes),
            share: held.map_or(0, |held| held.share),
            standing: Vec::new(),
            places: Vec::new(),
            silent: Vec::new(),
        }
    }
}

/// All partners, also on a host without the operator's key.
pub(super) async fn known(
    home: &Home,
    output: &Output,
) -> Result<(OperatorId, Vec<Known>, Reached), CliError> {
    let own = operator_of(home)?;
    let reached = reach(home, own, output).await?;
    let told = &reached.told;
    let all = match Book::open(home, told) {
        Ok(book) => book.partners().cloned().collect(),
        Err(PartnersError::Client(ClientError::NoOperator(_))) => {
            let stored = partners::stored(home, own)?;
            stored.map_or(Vec::new(), |(_, known)| known.by_operator.into_values().collect())
        }
        Err(error) => return Err(error.into()),
    };
    Ok((own, all, reached))
}

async fn list(home: &Home, output: &Output) -> Result<Exit, CliError> {
    let (own, all, reached) = known(home, output).await?;
    let shown: Vec<Shown> = all.iter().map(|known| Shown::of(own, known, &reached.told)).collect();
    if output.style().json {
        for partner in &shown {
            output.json("partner", partner);
        }
        return Ok(Exit::Done);
    }
    let columns = [
        Column::text("partner"),
        Column::text("operator"),
        Column::number("held for it"),
        Column::number("gives"),
        Column::number("takes"),
        Column::text("until"),
    ];
    let rows = shown.iter().map(|partner| {
        let terms = partner.agreement.as_ref();
        let size = |bytes: Option<u64>| bytes.map_or_else(String::new, |b| ByteSize(b).to_string());
        vec![
            printable(&partner.name).into_owned(),
            partner.fingerprint.clone(),
            ByteSize(partner.held).to_string(),
            size(terms.map(|terms| terms.gives)),
            size(terms.map(|terms| terms.takes)),
            terms.map_or_else(|| "nothing agreed".into(), |terms| time(terms.end)),
        ]
    });
    output.table(&columns, rows);
    Ok(Exit::Done)
}

async fn show(home: &Home, what: &str, output: &Output) -> Result<Exit, CliError> {
    match read_line(what) {
        Ok(line) => {
            show_line(operator_of(home)?, &line, output);
            return Ok(Exit::Done);
        }
        Err(error) if what.trim().starts_with("strewn") && what.len() > 64 => {
            return Err(error.into());
        }
        Err(_) => {}
    }
    let (own, all, reached) = known(home, output).await?;
    let known = find(all.iter(), what).ok_or_else(|| PartnersError::Unknown(what.into()))?;
    let mut shown = Shown::of(own, known, &reached.told);
    if let Some(mesh) = &reached.mesh {
        shown.standing = leaving::gather(mesh, own, shown.operator).await;
        shown.places = places(home, mesh, shown.operator)?;
        shown.silent = silent(home, mesh, known).await;
    }
    if output.style().json {
        output.json("summary", &shown);
        return Ok(Exit::Done);
    }
    output.heading(printable(&shown.name));
    output.line(format!("  theirs    {}", shown.fingerprint));
    let yours =
        operator::line(home)?.map_or_else(|| own.key().fingerprint(), |line| line.fingerprint());
    output.line(format!("  yours     {yours}"));
    output.line(format!("  added     {}", time(shown.added)));
    shown.speaks.print(output);
    match &shown.agreement {
        Some(terms) => {
            terms.lines(output);
            output.line(format!(
                "  held      {} of {} on the nodes that answer",
                ByteSize(shown.held),
                ByteSize(shown.share)
            ));
        }
        None => output.line("  nothing is agreed: nothing new is held for it"),
    }
    leaving::print(&shown.name, shown.operator, &shown.standing, output);
    for place in &shown.places {
        output.line(format!("  node      {} {}", place.node.short(), printable(&place.text)));
        vouch::print_vouches(&place.vouches, output);
        if let Some(what) = &place.contradicted {
            output.bad(format!("{}: what it states counts as unknown", printable(what)));
        }
    }
    for gone in &shown.silent {
        output.bad(format!("  node      {} {}", gone.node.short(), printable(&gone.why)));
    }
    Ok(Exit::Done)
}

/// Shows what stands in a line.
fn show_line(own: OperatorId, line: &Pasted, output: &Output) {
    let (kind, agreement) = match line {
        Pasted::Introduction(signed, introduction) => {
            return show_introduction(signed, introduction, output);
        }
        Pasted::Proposal(_, agreement) => ("proposal", agreement),
        Pasted::Agreed(_, agreement) => ("agreement", agreement),
    };
    let terms = Agreed::of(own, agreement);
    let sides = [agreement.first.operator, agreement.second.operator];
    if output.style().json {
        let body = serde_json::json!({ "line": kind, "first": sides[0], "second": sides[1], "terms": terms });
        output.json("summary", &body);
        return;
    }
    output.heading(format!("{kind}, version {}", agreement.version));
    for (name, operator) in [("proposed", sides[0]), ("for", sides[1])] {
        let whose = if operator == own { " (this operator)" } else { "" };
        output.line(format!("  {name:<8}  {}{whose}", operator.key().fingerprint()));
    }
    terms.lines(output);
}

fn show_introduction(signed: &Signed<Introduction>, introduction: &Introduction, output: &Output) {
    let line = signed.line().ok().flatten();
    let line = line.unwrap_or_else(|| KeyLine::first(introduction.operator));
    let fingerprint = line.fingerprint();
    if output.style().json {
        let body = serde_json::json!({
            "line": "introduction", "name": introduction.name,
            "operator": introduction.operator, "fingerprint": fingerprint,
        });
        output.json("summary", &body);
        return;
    }
    output.heading(printable(&introduction.name));
    output.line(format!("  theirs    {fingerprint}"));
}

async fn remove(home: &Home, name: &str, output: &Output) -> Result<Exit, CliError> {
    let (mut book, reached) = open(home, output).await?;
    let own = book.operator();
    let shown = Shown::of(own, &book.remove(home, name)?, &reached.told);
    if output.style().json {
        output.json("summary", &shown);
        return Ok(Exit::Done);
    }
    output.good(format!("{} is a partner no more", printable(&shown.name)));
    output.line(format!(
        "What is held for it stays as it was promised: {}. Nothing new is taken.",
        ByteSize(shown.held)
    ));
    Ok(Exit::Done)
}

async fn propose(home: &Home, args: ProposeArgs, output: &Output) -> Result<Exit, CliError> {
    let (book, reached) = open(home, output).await?;
    let terms = Terms {
        gives: args.give.0,
        takes: args.take.0,
        term: args.term,
        notice: args.notice,
        lock_max: args.max_lock,
        labels: Labels::new(args.labels).map_err(label_error)?,
        asks: Labels::new(args.asks).map_err(label_error)?,
    };
    let (agreement, line) = book.propose(&args.partner, terms)?;
    let shown = Agreed::of(book.operator(), &agreement);
    warn_of_labels(&book, reached.mesh.as_ref(), &agreement, output);
    if output.style().json {
        output.json("summary", &serde_json::json!({ "proposal": line, "terms": shown }));
        return Ok(Exit::Done);
    }
    output.result(line);
    output.hint("");
    shown.hints(output);
    output.hint(
        "\nThe partner says: strewn partner accept LINE, and sends the line back that it prints",
    );
    Ok(Exit::Done)
}

async fn accept(home: &Home, line: &str, output: &Output) -> Result<Exit, CliError> {
    let line = read_line(line)?;
    let (mut book, reached) = open(home, output).await?;
    let own = book.operator();
    let holders = reached.mesh.as_ref().map(|mesh| holders(mesh, own)).unwrap_or_default();
    let (agreement, answer) = match line {
        Pasted::Introduction(..) => {
            return Err(CliError::new("this line introduces an operator")
                .next("add it with `strewn partner add`"));
        }
        Pasted::Proposal(signed, agreement) => {
            let answer = book.accept(home, signed, holders)?;
            (agreement, Some(answer))
        }
        Pasted::Agreed(signed, agreement) => {
            book.conclude(home, signed, holders)?;
            (agreement, None)
        }
    };
    let shown = Agreed::of(own, &agreement);
    warn_of_labels(&book, reached.mesh.as_ref(), &agreement, output);
    if output.style().json {
        output.json("summary", &serde_json::json!({ "agreement": answer, "terms": shown }));
        return Ok(Exit::Done);
    }
    let (other, name) = other_side(&book, own, &agreement);
    if let Some(line) = &answer {
        output.result(line);
        output.hint("");
        shown.hints(output);
        output.hint(format!("\nIt counts here now. Send the line to {name}, who says: strewn partner accept LINE\n{TAKEN_UP}"));
    } else if agreement.first.operator == other {
        // This side accepted it: the line is its own answer.
        output.good(format!("this side has accepted it; the line is for {name}, who says: strewn partner accept LINE"));
        shown.lines(output);
    } else {
        output.good("agreed: both sides hold the same document");
        shown.lines(output);
        output.line(TAKEN_UP);
    }
    Ok(Exit::Done)
}

/// Nodes that are known and are not what their side promises: what they state will count as unknown.
fn unlike<'a>(
    agreement: &'a Agreement,
    sites: impl Iterator<Item = &'a Site>,
) -> BTreeSet<(OperatorId, NodeId, String)> {
    let differs = |site: &Site| Some((site.operator, site.node, agreement.contradicted_by(site)?));
    sites.filter_map(differs).collect()
}

fn warn_of_labels(book: &Book, mesh: Option<&Mesh>, agreement: &Agreement, output: &Output) {
    let sites = mesh.into_iter().flat_map(|mesh| {
        let answering = mesh.nodes.values().map(|node| &node.site);
        answering.chain(mesh.silent.values().map(|silent| &silent.site))
    });
    for (operator, node, what) in unlike(agreement, sites) {
        let whose = if operator == book.operator() { "this operator's" } else { "the partner's" };
        let what = printable(&what).into_owned();
        output.warn(format!("{whose} node {} is not what is promised: {what}", node.short()));
    }
}

/// Who is on the other side, and what it is called here.
fn other_side(book: &Book, own: OperatorId, agreement: &Agreement) -> (OperatorId, String) {
    let sides = [agreement.first.operator, agreement.second.operator];
    let other = if sides[0] == own { sides[1] } else { sides[0] };
    let known = book.partners().find(|known| known.introduction.operator == other);
    let name = known.map_or_else(|| other.key().fingerprint(), |known| known.name.clone());
    (other, name)
}

async fn share(home: &Home, name: &str, output: &Output) -> Result<Exit, CliError> {
    let (mut book, reached) = open(home, output).await?;
    let own = book.operator();
    let nodes = reached.mesh.as_ref().map(|mesh| holders(mesh, own)).unwrap_or_default();
    let shown = Shown::of(own, book.share(home, name, nodes)?, &reached.told);
    if output.style().json {
        output.json("summary", &shown);
        return Ok(Exit::Done);
    }
    output.good(format!(
        "what {} may store is divided among {}",
        printable(&shown.name),
        crate::size::counted(shown.holders.len(), "node")
    ));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::agreement::Side;

    #[test]
    fn nodes_that_lie_elsewhere_than_is_promised_are_named_before_it_counts() {
        let labels = |text: &str| Labels::new([text.parse().unwrap()]).unwrap();
        let side = |operator, at: &str| Side {
            operator: OperatorId([operator; 32]),
            gives: 1,
            labels: labels(at),
        };
        let agreement = Agreement {
            first: side(1, "provider=mars"),
            second: side(2, "provider=moon"),
            version: 1,
            start: Wall(0),
            term: Period::days(30),
            notice: Period::days(1),
            lock_max: Period::days(1),
        };
        let at = |node, operator, at: &str| {
            Site::new(NodeId([node; 32]), OperatorId([operator; 32]), labels(at))
        };
        let sites = [at(1, 1, "provider=mars"), at(2, 2, "provider=aws"), at(3, 3, "provider=x")];
        let found = unlike(&agreement, sites.iter());
        let nodes: Vec<NodeId> = found.iter().map(|(_, node, _)| *node).collect();
        assert_eq!(nodes, [NodeId([2; 32])]);
    }
}
