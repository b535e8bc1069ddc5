//! `partner vouch`, `node show`, `node carry`: how what shows that labels are true gets from one operator into another one's certificate.

use super::data::time;
use super::node::{label_error, no_node};
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::{Output, printable};
use crate::cli::partner::{CloudArg, VouchArgs};
use crate::client::mesh::{Caller, Mesh};
use crate::client::{operator, partners};
use crate::cloud::{self, Machine, Roots};
use crate::home::{Home, read_file, read_signed, write_signed};
use crate::line::{from_line, to_line};
use crate::service::wall;
use protocol::certificate::{Authority, NodeCertificate};
use protocol::evidence::{Cloud, Document, Evidence, VOUCHES_MAX, Vouch};
use protocol::id::{NodeId, OperatorId};
use protocol::label::{Labels, Site};
use protocol::sign::Signed;
use protocol::succession::{Lines, Speaker};
use protocol::time::Wall;
use serde::Serialize;
use std::path::Path;

/// Before a vouch.
const VOUCH: &str = "strewnvouch1";
/// Before a node's certificate.
pub(super) const CERTIFICATE: &str = "strewncert1";
/// Longest of these lines, in characters behind that.
const LINE_LEN_MAX: usize = 48 << 10;
/// Fewest digits that name a node.
const PREFIX_MIN: usize = 4;

fn wrong(error: impl std::fmt::Display) -> CliError {
    CliError::new(error.to_string())
}

fn speaker(home: &Home, what: &str) -> Result<Speaker, CliError> {
    operator::speaker(home)?.ok_or_else(|| {
        CliError::new(format!("the operator's key is needed to {what}, and it is not here"))
            .next("do it on the host where `strewn init` was run")
    })
}

/// The one node of the mesh that is meant, by its certificate.
async fn find(home: &Home, meant: &str) -> Result<NodeCertificate, CliError> {
    let mesh = Mesh::connect(home, Caller::console(home)?).await?;
    let is_meant =
        |node: &&NodeId| meant.len() >= PREFIX_MIN && node.to_string().starts_with(meant);
    let found: Vec<&NodeId> = mesh.nodes.keys().filter(is_meant).collect();
    match found.as_slice() {
        [node] => {
            let certificate = &mesh.nodes[*node].certificate;
            NodeCertificate::verify(certificate, wall()).map_err(wrong)
        }
        [] => Err(CliError::new(format!("no node that answers begins with {meant:?}"))
            .next("`strewn --json peers` shows them whole")
            .exit(Exit::NotThere)),
        _ => Err(CliError::new(format!("several nodes begin with {meant:?}: name more digits"))),
    }
}

fn read_document(
    cloud: Cloud,
    file: &Path,
    signature: Option<&Path>,
) -> Result<Document, CliError> {
    let read = |path: &Path| -> Result<Vec<u8>, CliError> {
        read_file(path)?.ok_or_else(|| {
            CliError::new(format!("{} is not there", path.display())).exit(Exit::NotThere)
        })
    };
    let signature = signature.map(read).transpose()?.unwrap_or_default();
    Ok(Document { cloud, text: read(file)?.into(), signature: signature.into() })
}

/// What of a node's labels a document bears out, of those that are asked for.
fn attested(machine: &Machine, stated: &Labels, asked: &Labels) -> Result<Labels, CliError> {
    let shown = cloud::borne_out(machine, stated).map_err(CliError::new)?;
    let left_out = asked.iter().find(|(level, _)| shown.get(level).is_none());
    if let Some((level, name)) = left_out {
        return Err(CliError::new(format!("the document says nothing of {level}={name}")));
    }
    if asked.is_empty() { Ok(shown) } else { Ok(asked.clone()) }
}

/// Signs that labels of a partner's node are true, and prints the line by which the node carries that.
pub async fn vouch(home: &Home, args: VouchArgs, output: &Output) -> Result<Exit, CliError> {
    let speaker = speaker(home, "vouch")?;
    let by = speaker.operator();
    let certificate = find(home, &args.node).await?;
    if certificate.operator == by {
        return Err(CliError::new(
            "this is a node of this operator's own: its certificate says already what it says",
        )
        .next("ask a partner to vouch for it"));
    }
    let asked = Labels::new(args.label).map_err(label_error)?;
    for (level, name) in asked.iter() {
        if certificate.labels.get(level) != Some(name) {
            return Err(CliError::new(format!(
                "its certificate does not state {level}={name}, but {}",
                printable(&certificate.labels.to_string())
            )));
        }
    }
    let (labels, document, machine) = match (&args.document, args.cloud) {
        (Some(file), Some(CloudArg(cloud))) => {
            let document = read_document(cloud, file, args.signature.as_deref())?;
            let roots = Roots::load(home).map_err(wrong)?;
            let machine = roots.check(&document, certificate.node, wall()).map_err(wrong)?;
            let labels = attested(&machine, &certificate.labels, &asked)?;
            (labels, Some(document), Some(machine))
        }
        _ if asked.is_empty() => {
            return Err(CliError::new("nothing is vouched for").next("name what is true of the node with --label, or give a cloud's document with --document"));
        }
        _ => (asked, None, None),
    };
    let issued = wall();
    let vouch = Vouch {
        by,
        node: certificate.node,
        labels,
        document,
        issued,
        expires: issued.after(args.period),
    };
    vouch.check().map_err(wrong)?;
    let line = to_line(VOUCH, &Signed::speak(&vouch, &speaker));
    if output.style().json {
        let body = serde_json::json!({
            "vouch": line, "node": vouch.node, "labels": vouch.labels, "expires": vouch.expires,
            "instance": machine.as_ref().map(|machine| &machine.instance),
            "bound": machine.as_ref().map(|machine| machine.is_bound),
        });
        output.json("summary", &body);
        return Ok(Exit::Done);
    }
    output.result(line);
    output.hint(format!(
        "\n{} of node {} until {}",
        vouch.labels,
        vouch.node.short(),
        time(vouch.expires)
    ));
    match machine {
        Some(machine) if machine.is_bound => output.hint(format!("The cloud has signed that, and the node's name, for machine {}.", printable(&machine.instance))),
        Some(machine) => output.hint(format!(
            "The cloud has signed that of machine {}, and not which node runs on it: that is now your word.",
            printable(&machine.instance)
        )),
        None => {}
    }
    output.hint("Its operator says, with its key: strewn node carry LINE");
    Ok(Exit::Done)
}

/// What stands in a line for `node carry`.
enum Carried {
    Vouch(Signed<Vouch>, Vouch),
    Certificate(Signed<NodeCertificate>, NodeCertificate),
}

fn read_carried(line: &str) -> Result<Carried, CliError> {
    if line.trim().starts_with(CERTIFICATE) {
        let signed = from_line(CERTIFICATE, LINE_LEN_MAX, line).map_err(wrong)?;
        let certificate = NodeCertificate::verify(&signed, wall()).map_err(wrong)?;
        Ok(Carried::Certificate(signed, certificate))
    } else {
        let signed = from_line(VOUCH, LINE_LEN_MAX, line).map_err(wrong)?;
        let vouch = Vouch::verify(&signed).map_err(wrong)?;
        Ok(Carried::Vouch(signed, vouch))
    }
}

fn own_certificate(home: &Home) -> Result<Option<NodeCertificate>, CliError> {
    let Some(signed) = read_signed::<NodeCertificate>(&home.path("node.cert"))? else {
        return Ok(None);
    };
    NodeCertificate::verify(&signed, wall()).map(Some).map_err(wrong)
}

/// The certificate with a further vouch: that of the same operator for the same labels goes, and what has ended.
fn with_vouch(
    certificate: NodeCertificate,
    signed: Signed<Vouch>,
    new: &Vouch,
) -> Result<NodeCertificate, CliError> {
    let mut vouches = match certificate.authority {
        Authority::Shown { vouches } => vouches,
        _ => Vec::new(),
    };
    vouches.retain(|known| {
        Vouch::verify(known).is_ok_and(|known| {
            known.expires > wall() && (known.by != new.by || known.labels != new.labels)
        })
    });
    vouches.push(signed);
    if vouches.len() > VOUCHES_MAX {
        return Err(CliError::new(format!("a certificate shows {VOUCHES_MAX} vouches at most")));
    }
    Ok(NodeCertificate { issued: wall(), authority: Authority::Shown { vouches }, ..certificate })
}

/// Puts vouches into a node's certificate, or takes such a certificate in.
pub async fn carry(home: &Home, line: &str, output: &Output) -> Result<Exit, CliError> {
    let here = own_certificate(home)?;
    let (signed, certificate) = match read_carried(line)? {
        Carried::Certificate(signed, certificate) => {
            let here = here.ok_or_else(no_node)?;
            if certificate.node != here.node || certificate.operator != here.operator {
                return Err(CliError::new(
                    "the certificate is another node's, or another operator's",
                ));
            }
            (signed, certificate)
        }
        Carried::Vouch(signed, vouch) => {
            let speaker = speaker(home, "sign a certificate that shows it")?;
            let certificate = match here {
                Some(here) if here.node == vouch.node => here,
                _ => find(home, &vouch.node.to_string()).await?,
            };
            if certificate.operator != speaker.operator() {
                return Err(CliError::new("the vouch is for another operator's node"));
            }
            let stated =
                vouch.labels.iter().find(|(l, name)| certificate.labels.get(l) != Some(name));
            if let Some((level, name)) = stated {
                return Err(CliError::new(format!(
                    "the node does not state {level}={name}: the vouch says nothing of it"
                )));
            }
            let certificate = with_vouch(certificate, signed, &vouch)?;
            (Signed::speak(&certificate, &speaker), certificate)
        }
    };
    NodeCertificate::verify(&signed, wall()).map_err(wrong)?;
    let is_here = own_certificate(home)?.is_some_and(|here| here.node == certificate.node);
    if is_here {
        write_signed(&home.path("node.cert"), &signed)?;
    }
    let line = to_line(CERTIFICATE, &signed);
    if output.style().json {
        let body = serde_json::json!({ "node": certificate.node, "certificate": line, "written": is_here });
        output.json("summary", &body);
    } else if is_here {
        output.good("this node's certificate shows it");
        output.line("A node that runs takes it up in a few seconds; where others vouch for nodes it counts from the next backup on for all who hold for a vault.");
    } else {
        output.result(line);
        output.hint(format!(
            "\nOn the host of node {}: strewn node carry LINE",
            certificate.node.short()
        ));
    }
    Ok(Exit::Done)
}

/// A vouch, as a status shows it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ShownVouch {
    by: OperatorId,
    labels: Labels,
    cloud: Option<&'static str>,
    /// What the keys of clouds that are configured here make of its document.
    checked: Option<String>,
    /// Why it does not count, if that is known here.
    void: Option<String>,
    from: Wall,
    until: Wall,
}

/// Who speaks for this operator and its partners, as far as this host knows.
fn lines(home: &Home) -> Result<Lines, CliError> {
    let mut lines = Lines::default();
    let Some(own) = operator::line(home)? else { return Ok(lines) };
    if let Some((_, known)) = partners::stored(home, own.operator())? {
        lines = known.lines;
    }
    // A list from before another key spoke shows less.
    lines.learn(own).map_err(wrong)?;
    Ok(lines)
}

/// Why a vouch does not count: its time is over, or that of the key that signed it.
fn void(signed: &Signed<Vouch>, vouch: &Vouch, lines: &Lines, now: Wall) -> Option<String> {
    if vouch.expires <= now {
        return Some("its time is over".into());
    }
    let said = signed.said().ok().flatten()?;
    lines.check(&said, now).err().map(|error| error.to_string())
}

/// What others say of a node; documents are verified again where there are keys for it.
pub(super) fn vouches(
    home: &Home,
    certificate: &NodeCertificate,
) -> Result<Vec<ShownVouch>, CliError> {
    let roots = Roots::load(home).map_err(wrong)?;
    let lines = lines(home)?;
    let signed = match &certificate.authority {
        Authority::Shown { vouches } => vouches.as_slice(),
        _ => &[],
    };
    let verified = signed.iter().filter_map(|signed| Some((signed, Vouch::verify(signed).ok()?)));
    let shown = verified.map(|(signed, vouch)| ShownVouch {
        void: void(signed, &vouch, &lines, wall()),
        by: vouch.by,
        cloud: vouch.document.as_ref().map(|document| cloud::name(document.cloud)),
        checked: vouch.document.as_ref().map(|document| {
            match roots.check(document, vouch.node, vouch.issued) {
                Ok(machine) => match attested(&machine, &vouch.labels, &vouch.labels) {
                    Ok(_) => format!("signed by the cloud for machine {}", machine.instance),
                    Err(error) => format!("CONTRADICTED: {error}"),
                },
                Err(error) => error.to_string(),
            }
        }),
        labels: vouch.labels,
        from: vouch.issued,
        until: vouch.expires,
    });
    Ok(shown.collect())
}

pub(super) fn print_vouches(vouches: &[ShownVouch], output: &Output) {
    for vouch in vouches {
        let cloud =
            vouch.cloud.map_or_else(String::new, |cloud| format!(", with a document of {cloud}"));
        let text = format!(
            "  vouched   {} by {}{cloud}, until {}",
            printable(&vouch.labels.to_string()),
            vouch.by.key().fingerprint(),
            time(vouch.until)
        );
        match &vouch.void {
            Some(why) => output.bad(format!("{text}; it does not count: {}", printable(why))),
            None => output.line(text),
        }
        if let Some(checked) = &vouch.checked {
            output.line(format!("            checked here: {}", printable(checked)));
        }
    }
}

/// Labels with the evidence that counts for each, for people.
pub(super) fn label_texts(site: &Site) -> String {
    let shown = site.shown().map(|(level, name, evidence)| match evidence {
        Evidence::Signed => format!("{level}={name}"),
        _ => format!("{level}={name} ({evidence})"),
    });
    let texts: Vec<String> = shown.collect();
    if texts.is_empty() { "none".into() } else { texts.join(" ") }
}

/// Shows this host's node: its labels, what shows that they are true, and what clouds have to sign so that it counts.
pub fn show(home: &Home, output: &Output) -> Result<Exit, CliError> {
    let certificate = own_certificate(home)?.ok_or_else(no_node)?;
    let (node, site) = (certificate.node, certificate.site());
    let vouches = vouches(home, &certificate)?;
    let (audience, nonce) = (cloud::audience(node), cloud::nonce(node));
    if output.style().json {
        let line = read_signed::<NodeCertificate>(&home.path("node.cert"))?
            .map(|signed| to_line(CERTIFICATE, &signed));
        let evidence: std::collections::BTreeMap<String, Evidence> =
            site.shown().map(|(level, _, evidence)| (level.to_string(), evidence)).collect();
        let body = serde_json::json!({
            "node": node, "operator": certificate.operator, "labels": certificate.labels, "evidence": evidence,
            "vouches": vouches, "expires": certificate.expires, "gcp_audience": audience, "azure_nonce": nonce,
            "certificate": line,
        });
        output.json("summary", &body);
        return Ok(Exit::Done);
    }
    output.heading(node.to_string());
    output.line(format!("  operator  {}", certificate.operator.key().fingerprint()));
    output.line(format!("  labels    {}", printable(&label_texts(&site))));
    output.line(format!("  until     {}", time(certificate.expires)));
    print_vouches(&vouches, output);
    output.line(format!(
        "\nFor a cloud's document, which a partner checks (strewn partner vouch --document):\n  gcp    audience={audience}&format=full\n  azure  nonce={nonce}\n  aws    has none: instance-identity/rsa2048"
    ));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::sign::SecretKey;
    use protocol::succession::{Change, Draft, Heirs};
    use protocol::time::Period;

    #[test]
    fn what_an_earlier_key_vouched_for_does_not_count_once_that_is_known() {
        let [first, second] = [1, 2].map(|seed| SecretKey::from_seed(&[seed; 32]));
        let now = Wall(1_800_000_000_000);
        let speaker = Speaker::first(first.clone());
        let vouch = Vouch {
            by: speaker.operator(),
            node: NodeId([7; 32]),
            labels: Labels::new(["provider=aws".parse().unwrap()]).unwrap(),
            document: None,
            issued: now,
            expires: now.after(Period::days(300)),
        };
        let signed = Signed::speak(&vouch, &speaker);
        let mut lines = Lines::default();
        assert_eq!(void(&signed, &vouch, &lines, now), None);
        assert!(void(&signed, &vouch, &lines, vouch.expires).is_some());
        let change = Change { heirs: Heirs::default(), issued: now, grace: Period(0) };
        let mut draft = Draft::new(speaker.line().clone(), change, &second).unwrap();
        draft.sign(&first).unwrap();
        lines.learn(draft.finish().unwrap()).unwrap();
        let why = void(&signed, &vouch, &lines, now).unwrap();
        assert!(why.contains("earlier key"), "{why}");
    }
}
