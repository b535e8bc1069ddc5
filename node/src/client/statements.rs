//! Months as holders state them: what this operator's nodes held for partners, and what partners' nodes held for its vaults. The rules are
//! [`protocol::tally`]'s; here statements are fetched, compared with receipts, countersigned and kept.

use super::inventory::devices;
use super::ledger::Ledger;
use super::mesh::{Caller, Mesh, Node};
use super::partners::Done;
use super::vault::{Vault, choose};
use super::{ClientError, Result, operator};
use crate::home::{Home, write_signed};
use protocol::id::{DeviceId, NodeId, OperatorId, StripeId, VaultId};
use protocol::message::{Request, Response, Stated};
use protocol::sign::Signed;
use protocol::tally::{
    Countersigned, Difference, Month, Recount, StatementError, Unshown, UsageStatement,
};
use protocol::told::Told;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// In the state folder: what was agreed to, by month.
const FOLDER: &str = "statements";
/// Receipts that count for nothing which are named: more show nothing new.
const WRONG_MAX: usize = 100;
/// Records of a holder that count for nothing, after which no more are asked for: it could show such for ever.
const USELESS_MAX: u64 = 1 << 14;

/// What a node says of a vault and a month.
#[derive(Debug)]
pub struct Entry {
    /// Who says it.
    pub node: Arc<Node>,
    /// With whom it is a swap.
    pub partner: OperatorId,
    /// Whether this operator's node held it for the partner; or else the partner's for this operator's vault.
    pub is_given: bool,
    /// It.
    pub statement: UsageStatement,
    /// As the node signed it.
    pub signed: Signed<UsageStatement>,
    /// Up to when the owner has agreed to what was said earlier.
    pub agreed: Option<UsageStatement>,
}

/// What all nodes that answer say of a month, and who says nothing that counts, and why.
#[derive(Debug, Default)]
pub struct Fetched {
    /// What they say.
    pub entries: Vec<Entry>,
    /// Who does not.
    pub failed: Vec<(NodeId, String)>,
}

/// Asks all nodes. Those of `own` say what they hold for others, and others what they hold for it.
pub async fn fetch(mesh: &Mesh, own: OperatorId, month: Month) -> Fetched {
    let mut fetched = Fetched::default();
    for (node, answer) in mesh.ask_all(&Request::Statements { month }).await {
        let stated = match answer {
            Ok(Response::Statements(stated)) => stated,
            Ok(_) => {
                fetched.failed.push((node.id, "an unexpected answer".into()));
                continue;
            }
            Err(error) => {
                fetched.failed.push((node.id, error.to_string()));
                continue;
            }
        };
        for stated in stated {
            match check(&node, own, month, &stated) {
                Ok(entry) => fetched.entries.push(entry),
                Err(why) => fetched.failed.push((node.id, why)),
            }
        }
    }
    fetched
        .entries
        .sort_by_key(|entry| (entry.partner, entry.is_given, entry.node.id, entry.statement.vault));
    fetched
}

fn check(
    node: &Arc<Node>,
    own: OperatorId,
    month: Month,
    stated: &Stated,
) -> std::result::Result<Entry, String> {
    let wrong = |error: StatementError| error.to_string();
    let statement = UsageStatement::verify(&stated.statement).map_err(wrong)?;
    if statement.holder != node.id || statement.month != month {
        return Err("its statement is another node's, or of another month".into());
    }
    let is_given = node.site.operator == own;
    let partner = if is_given { statement.operator } else { node.site.operator };
    if (statement.operator == own) == is_given {
        return Err(format!(
            "it states something of vault {} that it was not asked",
            statement.vault
        ));
    }
    let agreed = stated.countersigned.as_ref().map(Countersigned::verify).transpose();
    let agreed = agreed.map_err(wrong)?.filter(|agreed| agreed.is_about(&statement));
    let signed = stated.statement.clone();
    Ok(Entry { node: Arc::clone(node), partner, is_given, statement, signed, agreed })
}

/// What the receipts that a holder shows come to.
#[derive(Debug)]
pub struct Counted {
    /// Receipts that concern the month.
    pub receipts: u64,
    /// What they come to.
    pub recount: Recount,
    /// What they do not bear out.
    pub differences: Vec<Difference>,
    /// More went, by the holder's word, than the vault let go.
    pub unshown: Option<Unshown>,
    /// Stripes of which the holder shows no receipt that counts, though it is to hold them; and why.
    pub wrong: Vec<(StripeId, String)>,
}

impl Counted {
    /// Whether they bear out all that was said.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.differences.is_empty() && self.unshown.is_none()
    }
}

/// Vaults of this host, by which receipts can be asked for.
pub fn vaults(home: &Home) -> Result<BTreeMap<VaultId, Vault>> {
    let names = home.vaults()?;
    let vaults = names.iter().map(|name| choose(home, Some(name)).map(|vault| (vault.id, vault)));
    vaults.collect()
}

/// Counts the receipts of a vault that each of these statements' holders shows.
pub async fn recount(
    home: &Home,
    vault: &Vault,
    statements: &[&UsageStatement],
) -> Result<Vec<std::result::Result<Counted, String>>> {
    let mesh = Mesh::connect(home, Caller::device(vault)).await?;
    let devices = devices(&mesh, vault).await;
    let ledger = Ledger::read(&mesh, vault).await?;
    let mut counted = Vec::new();
    for statement in statements {
        // What can have gone there: nothing else ends what is held.
        let mut let_go = ledger.given_up().stripes();
        let_go.extend(ledger.discharged().stripes(statement.holder));
        counted.push(match mesh.nodes.get(&statement.holder) {
            Some(node) => count(node, &devices, statement, let_go).await.map_err(|e| e.to_string()),
            None => Err("it does not answer".into()),
        });
    }
    Ok(counted)
}

/// Goes through all that a node shows of a vault.
async fn count(
    node: &Node,
    devices: &BTreeSet<DeviceId>,
    statement: &UsageStatement,
    mut let_go: BTreeSet<StripeId>,
) -> Result<Counted> {
    let (mut recount, mut receipts, mut wrong) = (Recount::of(statement), 0, Vec::new());
    let mut useless = 0;
    let (vault, mut after) = (statement.vault, None);
    loop {
        let Response::Inventory { records, more } =
            node.request(&Request::Inventory { vault, after }).await?
        else {
            return Err(ClientError::node(node.id, "an unexpected answer"));
        };
        let before = after;
        tokio::task::block_in_place(|| {
            for held in &records {
                useless += 1;
                let Ok(record) = held.record.verify() else { continue };
                let stripe = record.stripe.id();
                // A stripe that comes twice would be counted twice.
                if after.is_some_and(|after| stripe <= after) {
                    continue;
                }
                after = Some(stripe);
                let told = Told::check(held, node.id, vault, devices);
                if let Ok(told) = &told {
                    // A device of the vault wrote it: there is no end of others.
                    useless -= 1;
                    recount.know(&told.record, told.promised.is_some());
                }
                let receipt = held.receipt.as_ref().and_then(|signed| signed.verify().ok());
                let why = match (told, receipt) {
                    (Ok(told), Some(receipt)) if told.promised.is_some() => {
                        receipts += u64::from(recount.add(&receipt));
                        let_go.remove(&stripe);
                        continue;
                    }
                    (Err(error), _) => error.to_string(),
                    (Ok(_), Some(_)) => "its receipt does not fit the record".into(),
                    (Ok(told), None) if told.record.index_of(node.id).is_some() => {
                        "the record names it, and it shows no receipt".into()
                    }
                    (Ok(_), None) => continue,
                };
                if wrong.len() < WRONG_MAX {
                    wrong.push((stripe, why));
                }
            }
        });
        if useless > USELESS_MAX {
            let text = format!("more than {USELESS_MAX} of its records are not the vault's");
            return Err(ClientError::node(node.id, text));
        }
        if !more || after <= before {
            break;
        }
    }
    recount.let_go(let_go.len() as u64);
    let (differences, unshown) = (recount.differences(statement), recount.unshown(statement));
    Ok(Counted { receipts, recount, differences, unshown, wrong })
}

/// Agrees to what a node says, gives it back to the node and keeps it.
///
/// # Errors
/// Without the operator's key, or when the node does not take it.
pub async fn countersign(home: &Home, entry: &Entry) -> Done<()> {
    let speaker = operator::speaker_for(home, "agreeing to statements")?;
    let said = Countersigned { operator: speaker.operator(), statement: entry.signed.clone() };
    let signed = Signed::speak(&said, &speaker);
    let statement = Countersigned::verify(&signed)?;
    let folder = home.path(FOLDER).join(statement.month.to_string());
    let name = format!("{}-{}", statement.holder, statement.vault);
    // Kept before it is given away: this side never has less in hand than the other.
    write_signed(&folder.join(name), &signed)?;
    match entry.node.request(&Request::Countersign(Box::new(signed))).await? {
        Response::Done => Ok(()),
        _ => Err(ClientError::node(entry.node.id, "an unexpected answer").into()),
    }
}
