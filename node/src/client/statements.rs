//! Months as holders state them: what this operator's nodes held for partners, and what partners' nodes held for its vaults. The rules are
//! [`protocol::tally`]'s; here statements are fetched, compared with receipts, countersigned and kept.

mod services;

use super::ledger::Ledger;
use super::mesh::{Caller, Mesh, Node};
use super::partners::Done;
use super::vault::{Vault, choose};
use super::{ClientError, Result, operator};
use crate::home::{Home, write_signed};
use protocol::id::{DeviceId, NodeId, OperatorId, PublicKey, StripeId, VaultId};
use protocol::message::{HeldRecord, Request, Response, Stated};
use protocol::served::ServiceReceipt;
use protocol::sign::Signed;
use protocol::tally::{
    Countersigned, Difference, Done as Served, Month, Recount, StatementError, Unshown,
    UsageStatement,
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

/// A statement whose receipts were counted, as its holder made it for that.
#[derive(Debug)]
pub struct Verified {
    /// What it states.
    pub statement: UsageStatement,
    /// As it signed that.
    pub signed: Signed<UsageStatement>,
    /// What the receipts come to.
    pub counted: Counted,
    /// Who signed for service, and for what.
    pub served: Vec<(PublicKey, Served)>,
    /// What is wrong with receipts for service.
    pub services_wrong: Vec<String>,
}

impl Verified {
    /// Whether they bear out all that was said.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let Counted { differences, unshown, .. } = &self.counted;
        differences.is_empty() && unshown.is_none() && self.services_wrong.is_empty()
    }
}

/// Vaults of this host, by which receipts can be asked for.
pub fn vaults(home: &Home) -> Result<BTreeMap<VaultId, Vault>> {
    let names = home.vaults()?;
    let vaults = names.iter().map(|name| choose(home, Some(name)).map(|vault| (vault.id, vault)));
    vaults.collect()
}

/// Has the holders of a vault state a month again, and counts the receipts that there are for each of these statements.
pub async fn recount(
    home: &Home,
    vault: &Vault,
    statements: &[&UsageStatement],
) -> Result<Vec<std::result::Result<Verified, String>>> {
    let mesh = Mesh::connect(home, Caller::device(vault)).await?;
    let givers = services::Givers::of(&mesh, vault).await?;
    let ledger = Ledger::read(&mesh, vault).await?;
    let heard = match statements.first() {
        Some(statement) => services::heard(&mesh, vault, statement).await,
        None => Vec::new(),
    };
    let mut verified = Vec::new();
    for statement in statements {
        // What can have gone there: nothing else ends what is held.
        let mut let_go = ledger.given_up().stripes();
        let_go.extend(ledger.discharged().stripes(statement.holder));
        verified.push(match mesh.nodes.get(&statement.holder) {
            Some(node) => {
                let verified = verify(node, &givers, statement, &heard, let_go).await;
                verified.map_err(|error| error.to_string())
            }
            None => Err("it does not answer".into()),
        });
    }
    Ok(verified)
}

async fn verify(
    node: &Node,
    givers: &services::Givers,
    statement: &UsageStatement,
    heard: &[Signed<ServiceReceipt>],
    let_go: BTreeSet<StripeId>,
) -> Result<Verified> {
    let service = services::count(node, statement, givers, heard).await?;
    let signed = service.signed;
    let statement = UsageStatement::verify(&signed).map_err(ClientError::content)?;
    let mut counted = count(node, &givers.devices, &statement, let_go).await?;
    counted.differences.extend(service.differences);
    let services_wrong = service.wrong.into_iter().collect();
    Ok(Verified { statement, signed, counted, served: service.by_giver, services_wrong })
}

/// Goes through all that a node shows of a vault.
async fn count(
    node: &Node,
    devices: &BTreeSet<DeviceId>,
    statement: &UsageStatement,
    mut let_go: BTreeSet<StripeId>,
) -> Result<Counted> {
    let mut counting = Counting::of(statement, USELESS_MAX);
    let vault = statement.vault;
    loop {
        let request = Request::Inventory { vault, after: counting.after };
        let Response::Inventory { records, more } = node.request(&request).await? else {
            return Err(ClientError::node(node.id, "an unexpected answer"));
        };
        let counted = tokio::task::block_in_place(|| counting.take(&records, devices, &mut let_go));
        let is_news = counted.map_err(|text| ClientError::node(node.id, text))?;
        if !more || !is_news {
            return Ok(counting.end(&let_go));
        }
    }
}

/// What the pages of records that a holder shows come to so far.
struct Counting<'a> {
    statement: &'a UsageStatement,
    recount: Recount,
    receipts: u64,
    wrong: Vec<(StripeId, String)>,
    /// Records that count for nothing, and how many of them are borne.
    useless: u64,
    useless_max: u64,
    /// The last stripe that was shown.
    after: Option<StripeId>,
}

impl<'a> Counting<'a> {
    fn of(statement: &'a UsageStatement, useless_max: u64) -> Self {
        let (recount, wrong) = (Recount::of(statement), Vec::new());
        Self { statement, recount, receipts: 0, wrong, useless: 0, useless_max, after: None }
    }

    /// Counts a page, and says whether it shows anything new. What it shows is taken off what the vault let go.
    fn take(
        &mut self,
        records: &[HeldRecord],
        devices: &BTreeSet<DeviceId>,
        let_go: &mut BTreeSet<StripeId>,
    ) -> std::result::Result<bool, String> {
        let UsageStatement { holder, vault, .. } = *self.statement;
        let before = self.after;
        for held in records {
            self.useless += 1;
            let Ok(record) = held.record.verify() else { continue };
            let stripe = record.stripe.id();
            // A stripe that comes twice would be counted twice.
            if self.after.is_some_and(|after| stripe <= after) {
                continue;
            }
            self.after = Some(stripe);
            let told = Told::check(held, holder, vault, devices);
            if let Ok(told) = &told {
                // A device of the vault wrote it: there is no end of others.
                self.useless -= 1;
                self.recount.know(&told.record, told.promised.is_some());
            }
            let receipt = held.receipt.as_ref().and_then(|signed| signed.verify().ok());
            let why = match (told, receipt) {
                (Ok(told), Some(receipt)) if told.promised.is_some() => {
                    self.receipts += u64::from(self.recount.add(&receipt));
                    let_go.remove(&stripe);
                    continue;
                }
                (Err(error), _) => error.to_string(),
                (Ok(_), Some(_)) => "its receipt does not fit the record".into(),
                (Ok(told), None) if told.record.index_of(holder).is_some() => {
                    "the record names it, and it shows no receipt".into()
                }
                (Ok(_), None) => continue,
            };
            if self.wrong.len() < WRONG_MAX {
                self.wrong.push((stripe, why));
            }
        }
        if self.useless > self.useless_max {
            return Err(format!(
                "more than {} of its records are not the vault's",
                self.useless_max
            ));
        }
        Ok(self.after > before)
    }

    /// What all of them come to, where so much was let go and is shown no more.
    fn end(mut self, let_go: &BTreeSet<StripeId>) -> Counted {
        self.recount.let_go(let_go.len() as u64);
        let (recount, receipts, wrong) = (self.recount, self.receipts, self.wrong);
        let differences = recount.differences(self.statement);
        let unshown = recount.unshown(self.statement);
        Counted { receipts, recount, differences, unshown, wrong }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::{PublicKey, SessionId, ShardId};
    use protocol::policy::Policy;
    use protocol::record::{CODEC_REED_SOLOMON, Receipt, Record, Stripe};
    use protocol::sign::SecretKey;
    use protocol::tally::{Amount, Figures};
    use protocol::time::{Period, Wall};

    const USELESS: u64 = 8;
    const HOLDER: u8 = 1;
    const VAULT: u8 = 2;
    const DEVICE: u8 = 3;
    const NOBODY: u8 = 4;
    const NOW: Wall = Wall(1_800_000_000_000);

    fn key(name: u8) -> SecretKey {
        SecretKey::from_seed(&[name; 32])
    }

    fn id<T: From<PublicKey>>(name: u8) -> T {
        key(name).public().into()
    }

    fn said(shards: u64) -> UsageStatement {
        let came = Amount { shards, bytes: 64 * shards };
        UsageStatement {
            holder: id(HOLDER),
            vault: id(VAULT),
            operator: id(NOBODY),
            month: Month::of(NOW),
            until: NOW.after(Period(1)),
            figures: Figures { came, byte_ms: u128::from(came.bytes), ..Figures::default() },
            gone_since: Amount::default(),
        }
    }

    /// What a holder shows of a stripe that this device wrote, in the order of their names.
    fn shown(device: u8, count: u8) -> Vec<HeldRecord> {
        let held = |name: u8| {
            let shards = vec![ShardId([name; 32]), ShardId([!name; 32])];
            let (codec, k, n) = (CODEC_REED_SOLOMON, 1, 2);
            let stripe = Stripe { vault: id(VAULT), codec, k, n, shard_len: 64, shards };
            let record = Record {
                stripe,
                session: SessionId([7; 32]),
                policy: Policy::survive_one("provider"),
                holders: [HOLDER, NOBODY].map(id).to_vec(),
                version: 1,
                device: id(device),
            };
            let receipt = Receipt {
                holder: id(HOLDER),
                vault: id(VAULT),
                stripe: record.stripe.id(),
                index: 0,
                shard: record.stripe.shards[0],
                len: 64,
                keep: record.policy.lock.period,
                received: NOW,
            };
            HeldRecord {
                record: Signed::sign(&record, &key(device)),
                receipt: Some(Signed::sign(&receipt, &key(HOLDER))),
            }
        };
        let mut shown: Vec<HeldRecord> = (1..=count).map(held).collect();
        shown.sort_by_key(|held| held.record.verify().unwrap().stripe.id());
        shown
    }

    fn devices() -> BTreeSet<DeviceId> {
        BTreeSet::from([id(DEVICE)])
    }

    #[test]
    fn what_devices_of_the_vault_wrote_is_counted_however_much_it_is() {
        let count = 3 * USELESS as u8;
        let statement = said(count.into());
        let mut counting = Counting::of(&statement, USELESS);
        for page in shown(DEVICE, count).chunks(5) {
            assert_eq!(counting.take(page, &devices(), &mut BTreeSet::new()), Ok(true));
        }
        // The last page again counts nothing, and is nothing new.
        let last = shown(DEVICE, count).pop().unwrap();
        assert_eq!(counting.take(&[last], &devices(), &mut BTreeSet::new()), Ok(false));
        let counted = counting.end(&BTreeSet::new());
        assert!(counted.differences.is_empty() && counted.wrong.is_empty(), "{counted:?}");
        assert_eq!(counted.receipts, u64::from(count));
    }

    #[test]
    fn who_shows_what_is_not_the_vaults_is_asked_for_no_more_than_is_borne() {
        let statement = said(0);
        let mut counting = Counting::of(&statement, USELESS);
        let strange = shown(NOBODY, USELESS as u8 + 1);
        let (most, one_more) = strange.split_at(USELESS as usize);
        assert_eq!(counting.take(most, &devices(), &mut BTreeSet::new()), Ok(true));
        assert_eq!(counting.wrong.len(), USELESS as usize);
        let refused = counting.take(one_more, &devices(), &mut BTreeSet::new()).unwrap_err();
        assert!(refused.starts_with("more than 8 of its records"), "{refused}");
        // The same stripe again and again is no better.
        let mut counting = Counting::of(&statement, USELESS);
        let again = vec![shown(DEVICE, 1).pop().unwrap(); USELESS as usize + 2];
        assert!(counting.take(&again, &devices(), &mut BTreeSet::new()).is_err());
    }
}
