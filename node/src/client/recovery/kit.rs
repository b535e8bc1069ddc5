//! The recovery kit: a page with all that a recovery needs, for people to keep on paper.
//!
//! The same text is read again by a drill: the identity, the vault's id and the nodes' addresses stand in it as they are
//! typed, so that whatever else is on the page does not matter.

use crate::client::mesh::Mesh;
use crate::client::recipients::secret_lines;
use crate::client::vault::Vault;
use crate::service::{full_address, wall};
use crate::size::format_time;
use libp2p::Multiaddr;
use protocol::id::{NodeId, OperatorId, VaultId};
use protocol::label::Site;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// Nodes on the page.
const NODES_MAX: usize = 6;
/// Longest page that is read, in bytes.
const TEXT_LEN_MAX: usize = 256 << 10;
/// Most addresses that are read from a page.
const ADDRESSES_MAX: usize = 32;

/// What is on the page.
#[derive(Debug)]
pub struct Kit {
    /// The vault.
    pub vault: VaultId,
    /// Its name.
    pub name: String,
    /// Who vouches for it.
    pub operator: OperatorId,
    /// Who can read it.
    pub recipients: Vec<String>,
    /// Where nodes are, those in different domains first.
    pub addresses: Vec<String>,
    /// When it was made.
    pub made: String,
    /// The identity, where it was given.
    identity: Option<Zeroizing<String>>,
}

impl Kit {
    /// The kit of a vault, with these addresses.
    #[must_use]
    pub fn new(vault: &Vault, addresses: Vec<String>, identity: Option<Zeroizing<String>>) -> Self {
        Self {
            vault: vault.id,
            name: vault.name.clone(),
            operator: vault.operator,
            recipients: vault.recipients.clone(),
            addresses,
            made: format_time(wall()),
            identity,
        }
    }

    /// The identity, where it was given.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_ref().map(|text| text.as_str())
    }

    /// What to type on an empty machine.
    #[must_use]
    pub fn command(&self) -> String {
        let from = self.addresses.first().map_or("ADDRESS", String::as_str);
        let vault = &self.vault.key().fingerprint()[..9];
        format!("strewn recover --identity identity.txt --from {from} --vault {vault}")
    }

    /// The page as text.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let blank = "_".repeat(74);
        let identity = self.identity().unwrap_or(&blank);
        let hint = if self.identity.is_none() {
            "\n(write it here by hand, or keep it, or its parts, in another place)"
        } else {
            ""
        };
        Zeroizing::new(format!(
            "STREWN RECOVERY KIT\n\n\
             Vault     {}\n\
             Check     {}\n\
             Id        {}\n\
             Operator  {}\n\
             Opened by {}\n\
             Made      {} UTC\n\n\
             The recovery identity:\n{identity}{hint}\n\n\
             Nodes:\n{}\n\n\
             On an empty machine: install strewn, put the identity into a file identity.txt, and type\n\n\
             {}\n\n\
             Compare vault and operator with what it shows. If a node does not answer, take the next one.\n\
             Whoever has the identity and reaches a node reads everything: keep this page as you would keep the\n\
             backup itself, and not beside it. Try it: strewn recovery drill --kit FILE\n",
            self.name,
            self.vault.key().fingerprint(),
            self.vault,
            self.operator.key().fingerprint(),
            self.recipients.join("\n          "),
            self.made,
            if self.addresses.is_empty() {
                "(none answered)".into()
            } else {
                self.addresses.join("\n")
            },
            self.command(),
        ))
    }

    /// The page for a printer: all of it in one file that loads nothing.
    #[must_use]
    pub fn html(&self) -> Zeroizing<String> {
        let mut codes = Zeroizing::new(String::new());
        let addresses = self.addresses.join("\n");
        let pictures = [("The identity", self.identity()), ("The nodes", Some(addresses.as_str()))];
        for (title, text) in pictures {
            if let Some(svg) = text.filter(|text| !text.is_empty()).and_then(picture) {
                let _ = write!(codes, "<figure>{}<figcaption>{title}</figcaption></figure>", *svg);
            }
        }
        Zeroizing::new(format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>Recovery kit of {}</title>\n<style>\n\
             @page {{ margin: 15mm }}\n\
             body {{ font: 10.5pt/1.45 monospace; max-width: 180mm; margin: 8mm auto; color: #000; background: #fff }}\n\
             pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font: inherit }}\n\
             figure {{ display: inline-block; margin: 4mm 8mm 0 0; text-align: center }}\n\
             svg {{ width: 62mm; height: 62mm }}\n\
             </style></head><body>\n<pre>{}</pre>\n{}\n</body></html>\n",
            *escaped(&self.name),
            *escaped(&self.text()),
            *codes,
        ))
    }
}

/// A QR code; `None` where the text is too long for one.
fn picture(text: &str) -> Option<Zeroizing<String>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M)
        .or_else(|_| QrCode::with_error_correction_level(text, EcLevel::L))
        .ok()?;
    let drawn = code.render::<svg::Color<'_>>().min_dimensions(200, 200).build();
    // The XML declaration has no place inside a page.
    let svg = drawn.find("<svg").map(|at| drawn[at..].to_owned());
    drop(Zeroizing::new(drawn));
    svg.map(Zeroizing::new)
}

fn escaped(text: &str) -> Zeroizing<String> {
    let mut safe = Zeroizing::new(String::with_capacity(text.len() + 64));
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

/// One address each of nodes that answer, so that each next one shares as few domains as can be with those before.
#[must_use]
pub fn spread(mesh: &Mesh) -> Vec<String> {
    let mut left: Vec<(NodeId, Site, String)> = mesh
        .nodes
        .values()
        .filter_map(|node| {
            let record = node.record.verify().ok()?;
            let all = record.addresses.iter().filter_map(|a| a.parse::<Multiaddr>().ok());
            let all: Vec<String> = all.map(|a| full_address(&a, node.id).to_string()).collect();
            let tcp = all.iter().find(|address| address.contains("/tcp/"));
            let address = tcp.or(all.first())?.clone();
            Some((node.id, node.site.clone(), address))
        })
        .collect();
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    let mut chosen = Vec::new();
    let domains = |site: &Site| -> Vec<(String, String)> {
        site.labels.iter().map(|(level, name)| (level.to_string(), name.to_owned())).collect()
    };
    while chosen.len() < NODES_MAX {
        let shared = |site: &Site| domains(site).iter().filter(|d| used.contains(*d)).count();
        let next = left.iter().enumerate().min_by_key(|(_, (id, site, _))| (shared(site), *id));
        let Some((at, _)) = next else { break };
        let (_, site, address) = left.swap_remove(at);
        used.extend(domains(&site));
        chosen.push(address);
    }
    chosen
}

/// What a page says: all that a recovery needs.
#[derive(Debug, Default)]
pub struct Page {
    /// The identity's text, if it is on the page.
    pub identity: Option<Zeroizing<String>>,
    /// Where to begin.
    pub addresses: Vec<Multiaddr>,
    /// The vault's id.
    pub vault: Option<VaultId>,
}

impl Page {
    /// Reads a kit, whatever else is on the page.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(TEXT_LEN_MAX.min(text.len()))];
        let mut page = Self { identity: secret_lines(text), ..Self::default() };
        for line in text.lines().map(str::trim) {
            if let Some(id) = line.strip_prefix("Id ") {
                page.vault = page.vault.or_else(|| id.trim().parse().ok());
            }
            // The command's own address is among those listed.
            if let Some(address) = line.starts_with('/').then(|| line.parse().ok()).flatten()
                && page.addresses.len() < ADDRESSES_MAX
            {
                page.addresses.push(address);
            }
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::recipients::generate;
    use protocol::sign::SecretKey;

    fn kit(identity: Option<&str>) -> Kit {
        let key = |seed| SecretKey::from_seed(&[seed; 32]).public();
        Kit {
            vault: key(1).into(),
            name: "work".into(),
            operator: key(2).into(),
            recipients: vec!["age1qx".into(), "ssh-ed25519 AAAA me@<b>".into()],
            addresses: vec!["/ip4/192.0.2.1/tcp/7440".into(), "/dns/b.example/tcp/1".into()],
            made: "2026-11-25 12:00:00".into(),
            identity: identity.map(|text| Zeroizing::new(text.into())),
        }
    }

    #[test]
    fn what_is_on_the_page_is_read_again() {
        let (identity, _) = generate();
        let kit = kit(Some(&identity));
        let page = Page::read(&kit.text());
        assert_eq!(page.identity.as_ref().map(|text| text.trim()), Some(identity.as_str()));
        assert_eq!(page.vault, Some(kit.vault));
        let addresses: Vec<String> = page.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, kit.addresses);
        let bare = Page::read(&super::tests::kit(None).text());
        assert!(bare.identity.is_none() && bare.addresses.len() == 2);
        assert!(Page::read("").addresses.is_empty());
        assert!(Page::read(&"é".repeat(TEXT_LEN_MAX)).identity.is_none());
    }

    #[test]
    fn an_ssh_key_is_read_from_a_page_and_stands_on_it() {
        let key = include_str!("../recipients/test_keys/ed25519.key");
        let page = Page::read(&kit(Some(key)).text());
        let read = page.identity.expect("a key");
        assert!(crate::client::recipients::Identities::parse(&read).is_ok());
    }

    #[test]
    fn the_printed_page_loads_nothing_and_has_both_codes() {
        let (identity, _) = generate();
        let html = kit(Some(&identity)).html();
        assert_eq!(html.matches("<svg").count(), 2);
        assert!(html.contains("default-src 'none'") && !html.contains("<?xml"));
        for loaded in ["<script", "<link", "<img", "src=", "url(", "href"] {
            assert!(!html.contains(loaded), "{loaded}");
        }
        assert!(html.contains("me@&lt;b&gt;"));
        assert_eq!(kit(None).html().matches("<svg").count(), 1);
        // Too long for a code, and on the page all the same.
        let long = "x".repeat(4000);
        let html = kit(Some(&long)).html();
        assert!(html.matches("<svg").count() == 1 && html.contains(&long));
    }
}
