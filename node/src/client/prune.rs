//! What no kept snapshot needs: of everything that the index lists, what the snapshots that are not forgotten do not lead to.
//! Nothing is guessed: where one of them cannot be followed to its end, or one that is held widely could be known to silent nodes
//! alone ([`protocol::log::is_all_told`]), nothing is given up.
//!
//! ```text
//! snapshots ─► which chunks, where (marks) ─► judge ─► [write again ─► judge] ─► say in the log ─► new snapshots? ─► requests
//! ```
//! Of a chunk that lies in several packs the newest place is needed that its holders say is kept as the policy asks; while none
//! is, all are. With [`MaxUnused`] packs of which little is needed are written again before they are given up, and so are
//! blocks of the index that list little: at no time is something given up before what takes its place is with its holders, in the
//! index, and in the log.
//!
//! What is given up is said in the vault's log before any holder is asked, and then it is looked for snapshots that came
//! meanwhile: who backs up writes its snapshot first, and then looks for what was given up. So one of the two sees the other.
//!
//! Where all of a stripe that stays is held as the policy asks, copies beside that are too many ([`super::surplus`]): their holders are
//! discharged of them in the same go.
//!
//! What stays besides: packs of sessions that may be running (they have made no snapshot, and wrote something lately), and blocks
//! of the index that list anything that stays.

mod marks;

use super::backup::{Needed, Writer, sites};
use super::given_up::say;
use super::index::{Index, Location, PackInfo, PendingBlock};
use super::items::root_of;
use super::ledger::Ledger;
use super::mesh::{Caller, Mesh};
use super::packs::{Need, Packs};
use super::recipients::Identities;
use super::release::Asked;
use super::surplus::Surplus;
use super::vault::Vault;
use super::walk::Walker;
use super::{ClientError, Result};
use crate::cli::progress::Counters;
use crate::home::Home;
use crate::service::wall;
use marks::Marks;
use protocol::given_up::{Abandoned, has_ended, unneeded};
use protocol::id::{ChunkId, EntryId, NodeId, SessionId, StripeId};
use protocol::item::ChunkRef;
use protocol::label::Site;
use protocol::log::{Body, is_all_told};
use protocol::placement::Standing;
use protocol::release::{RELEASE_STRIPES_MAX, RELEASE_VALIDITY_MAX, ReleaseRequest};
use protocol::repack::{
    Content, Fate, Listed, MaxUnused, places_to_keep, settle, to_list_again, to_repack,
};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Wall;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Mutex;

/// How often snapshots may come while something is given up, before it is tried another day.
const ROUNDS: usize = 8;

/// What the marks come to.
#[derive(Debug, Default)]
pub struct Judged {
    /// Stripes of packs that stay.
    pub kept: usize,
    /// Those that nobody needs, of packs and of the index.
    pub unneeded: BTreeSet<StripeId>,
    /// How many of these are the index's.
    pub of_index: usize,
    /// Bytes of the others' data, without parity.
    pub bytes: u64,
    /// Packs to write again.
    again: Vec<u64>,
    /// Bytes of these that are needed,
    pub again_needed: u64,
    /// and of all their data.
    pub again_bytes: u64,
    /// Blocks of the index to write again.
    lists: BTreeSet<StripeId>,
}

impl Judged {
    /// How many packs are to be written again.
    #[must_use]
    pub fn again(&self) -> usize {
        self.again.len()
    }

    /// How many blocks of the index are to be written again.
    #[must_use]
    pub fn lists(&self) -> usize {
        self.lists.len()
    }
}

/// What can be given up.
pub struct Prune<'a> {
    /// The mesh.
    pub mesh: Arc<Mesh>,
    /// Snapshots that are kept.
    pub snapshots: usize,
    /// What can be given up, and what is to be written again before that.
    pub judged: Judged,
    /// Copies too many of what stays.
    pub surplus: Surplus,
    vault: Arc<Vault>,
    /// How much that nobody needs may stay in packs; `None` writes nothing again.
    repack: Option<MaxUnused>,
    identities: &'a Identities,
    progress: Arc<Counters>,
    ledger: Arc<Mutex<Ledger>>,
    index: Arc<Index>,
    /// With the keys of all sessions that the identity opens.
    packs: Arc<Packs>,
    /// Kept snapshots that were followed.
    followed: BTreeSet<EntryId>,
    /// What they need.
    marks: Marks,
    /// Needed chunks that lie in several packs.
    doubles: BTreeSet<ChunkId>,
    /// Packs that were asked about: whether they are kept as the policy asks.
    well_kept: BTreeMap<u64, bool>,
    /// Packs of which all that is needed was written again.
    moved: BTreeSet<u64>,
}

impl<'a> Prune<'a> {
    /// Follows all snapshots that are kept.
    ///
    /// # Errors
    /// When too many nodes are silent, a log has forked, or a snapshot cannot be followed to its end.
    pub async fn plan(
        home: &Home,
        vault: Vault,
        identities: &'a Identities,
        repack: Option<MaxUnused>,
        progress: &Arc<Counters>,
    ) -> Result<Self> {
        let mesh = Arc::new(Mesh::connect(home, Caller::device(&vault)).await?);
        let ledger = Ledger::read(&mesh, &vault).await?;
        let index = Arc::new(Index::open(&vault.caches())?);
        let mut plan = Self {
            packs: Arc::new(Packs::new(Arc::clone(&mesh), &vault)),
            vault: Arc::new(vault),
            mesh,
            snapshots: 0,
            judged: Judged::default(),
            surplus: Surplus::default(),
            repack,
            identities,
            progress: Arc::clone(progress),
            ledger: Arc::new(Mutex::new(ledger)),
            index,
            followed: BTreeSet::new(),
            marks: Marks::default(),
            doubles: BTreeSet::new(),
            well_kept: BTreeMap::new(),
            moved: BTreeSet::new(),
        };
        plan.follow().await?;
        plan.judge().await?;
        let ledger = Arc::clone(&plan.ledger).lock_owned().await;
        let (unneeded, given_up) = (&plan.judged.unneeded, ledger.given_up());
        let is_kept = |stripe| !unneeded.contains(&stripe) && !given_up.contains(stripe);
        plan.surplus = Surplus::find(&plan.mesh, &plan.vault, &ledger, is_kept).await?;
        Ok(plan)
    }

    /// Gives nodes of others receipts for what they did.
    pub async fn close(&self) {
        self.mesh.acknowledge(&self.vault).await;
    }

    /// From now on this is told how far it is.
    pub fn follow_with(&mut self, progress: &Arc<Counters>) {
        self.progress = Arc::clone(progress);
    }

    /// Everything that was said is known, and nobody contradicts it.
    fn check_told(&self, ledger: &Ledger) -> Result<()> {
        let unread = ledger.unread().iter().filter_map(|id| self.mesh.nodes.get(id));
        let silent: Vec<&Site> = self.mesh.silent.values().map(|silent| &silent.site).collect();
        let silent: Vec<&Site> = unread.map(|node| &node.site).chain(silent).collect();
        if !is_all_told(&self.vault.policy, &silent) {
            let names: Vec<String> =
                silent.iter().map(|site| format!("node {}", NodeId::short(&site.node))).collect();
            return Err(ClientError::Untold(names.join(", ")));
        }
        match ledger.forked().first() {
            None => Ok(()),
            Some(device) => {
                let what = format!("the log of device {} has forked", device.short());
                Err(ClientError::Content(what))
            }
        }
    }

    /// Follows kept snapshots that were not followed yet, and says whether there were any.
    async fn follow(&mut self) -> Result<bool> {
        let ledger = Arc::clone(&self.ledger).lock_owned().await;
        self.check_told(&ledger)?;
        let mut packs = Packs::new(Arc::clone(&self.mesh), &self.vault);
        // Snapshots that came meanwhile belong to sessions that came with them.
        packs.open_sessions(&ledger, self.identities)?;
        packs.sync_index(&ledger, &self.index).await?;
        self.packs = Arc::new(packs);
        let (index, progress) = (Arc::clone(&self.index), Arc::clone(&self.progress));
        let mut walker = Walker::new(Arc::clone(&self.packs), index, progress);
        self.snapshots = 0;
        let mut are_new = false;
        for logged in ledger.snapshots() {
            if ledger.is_forgotten(logged) {
                continue;
            }
            self.snapshots += 1;
            if !self.followed.insert(logged.id) {
                continue;
            }
            are_new = true;
            let root = root_of(&self.packs, logged)?;
            let mut see = |chunk: &ChunkRef| {
                self.mark(chunk.id, ledger.given_up())?;
                Ok(true)
            };
            walker.walk(root, &mut see).await?;
        }
        self.settle_doubles(ledger.given_up()).await?;
        Ok(are_new)
    }

    /// Where a needed chunk may be kept, the newest place first.
    fn places(&self, chunk: ChunkId, given_up: &Abandoned) -> Result<Vec<Location>> {
        let newest = self.index.find(chunk)?.ok_or(ClientError::NoChunk(chunk))?;
        let mut places = Vec::new();
        for place in std::iter::once(newest).chain(self.index.find_older(chunk)?) {
            let fate = if given_up.contains(self.index.pack(place.pack)?.stripe) {
                Fate::GivenUp
            } else if self.moved.contains(&place.pack) {
                Fate::WrittenAgain
            } else {
                Fate::Stays
            };
            places.push((place, fate));
        }
        Ok(places_to_keep(&places))
    }

    fn mark(&mut self, chunk: ChunkId, given_up: &Abandoned) -> Result<()> {
        match self.places(chunk, given_up)?[..] {
            [place] => self.marks.set(&place),
            _ => _ = self.doubles.insert(chunk),
        }
        Ok(())
    }

    /// Marks chunks that lie in several packs where they are to be kept.
    async fn settle_doubles(&mut self, given_up: &Abandoned) -> Result<()> {
        let mut places = Vec::with_capacity(self.doubles.len());
        for chunk in &std::mem::take(&mut self.doubles) {
            places.push(self.places(*chunk, given_up)?);
        }
        let packs: BTreeSet<u64> = places.iter().flatten().map(|place| place.pack).collect();
        self.ask_about(&packs, given_up).await?;
        for places in places {
            let is_well = |place: &Location| self.well_kept.get(&place.pack) == Some(&true);
            for place in settle(&places, is_well) {
                self.marks.set(place);
            }
        }
        Ok(())
    }

    /// Asks the holders of these packs, and of the blocks that list them, whether they are kept as the policy asks.
    async fn ask_about(&mut self, packs: &BTreeSet<u64>, given_up: &Abandoned) -> Result<()> {
        let mut of_packs = Vec::new();
        for &pack in packs.iter().filter(|pack| !self.well_kept.contains_key(pack)) {
            let listing = self.index.listing(pack)?.stripe();
            of_packs.push((pack, [Some(self.index.pack(pack)?.stripe), listing]));
        }
        let stripes: BTreeSet<StripeId> =
            of_packs.iter().flat_map(|(_, stripes)| stripes).flatten().copied().collect();
        let found = self.packs.holders_of(&stripes.into_iter().collect::<Vec<_>>()).await;
        let sites = sites(&self.vault, &self.mesh)?;
        let is_well = |stripe: &Option<StripeId>| {
            let Some(stripe) = stripe.filter(|stripe| !given_up.contains(*stripe)) else {
                return false;
            };
            found.get(&stripe).is_some_and(|(holders, is_sure)| {
                let standing = Standing::of_stripe(&self.vault.policy, &sites, holders);
                *is_sure && standing == Standing::Good
            })
        };
        let answers: Vec<(u64, bool)> =
            of_packs.iter().map(|(pack, stripes)| (*pack, stripes.iter().all(is_well))).collect();
        self.well_kept.extend(answers);
        Ok(())
    }

    /// What nobody needs and what is to be written again, by what was followed.
    async fn judge(&mut self) -> Result<()> {
        let ledger = Arc::clone(&self.ledger).lock_owned().await;
        let mut packs = Vec::new();
        self.index.each_pack(|number, pack| packs.push((number, pack)))?;
        let ended = ended_sessions(&ledger);
        let needed = self.needed_stripes()?;
        let listed = packs.iter().map(|(_, pack)| (pack.stripe, pack.session));
        let unneeded = unneeded(listed, &needed, &ended);
        let stays = |stripe: StripeId| {
            needed.contains(&stripe)
                || !unneeded.contains(&stripe) && !ledger.given_up().contains(stripe)
        };
        let len = |pack: &PackInfo| u64::from(pack.k) * u64::from(pack.shard_len);
        let (mut kept, mut bytes) = (BTreeSet::new(), BTreeMap::new());
        for (_, pack) in &packs {
            if unneeded.contains(&pack.stripe) {
                bytes.insert(pack.stripe, len(pack));
            } else {
                kept.insert(pack.stripe);
            }
        }
        let mut judged = Judged {
            kept: kept.len(),
            bytes: bytes.values().sum(),
            unneeded: unneeded.clone(),
            ..Judged::default()
        };
        let mut contents: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        if let Some(max) = self.repack {
            self.index.each_place(|_, place| {
                let (bytes, chunks) = contents.entry(place.pack).or_default();
                *bytes += u64::from(place.len);
                *chunks += 1;
            })?;
            let content = |(number, pack): &(u64, PackInfo)| {
                let is_ours =
                    ended.contains(&pack.session) && self.packs.session(pack.session).is_ok();
                let all = contents.get(number).map_or(0, |(bytes, _)| *bytes);
                let needed = self.marks.bytes(*number);
                (is_ours && stays(pack.stripe)).then_some((*number, Content { all, needed }))
            };
            let of_packs: Vec<(u64, Content)> = packs.iter().filter_map(content).collect();
            judged.again = to_repack(&of_packs, max);
            let again: BTreeSet<u64> = judged.again.iter().copied().collect();
            judged.again_needed = again.iter().map(|pack| self.marks.bytes(*pack)).sum();
            let again = packs.iter().filter(|(number, _)| again.contains(number));
            judged.again_bytes = again.map(|(_, pack)| len(pack)).sum();
        }
        // Blocks of the index, by what of them still counts.
        let mut blocks: BTreeMap<StripeId, Listed> = BTreeMap::new();
        for logged in ledger.all() {
            let Body::Index { stripes, .. } = &logged.entry.body else { continue };
            // Nobody knows what is in those that were not read.
            if self.index.is_merged(logged.entry.device, logged.entry.seq)? {
                let nothing = |stripe: &StripeId| (*stripe, Listed { packs: 0, chunks: 0 });
                blocks.extend(stripes.iter().map(nothing));
            }
        }
        for (number, _) in packs.iter().filter(|(_, pack)| stays(pack.stripe)) {
            if let Some(stripe) = self.index.listing(*number)?.stripe() {
                let chunks = contents.get(number).map_or(0, |(_, chunks)| *chunks);
                let listed = blocks.entry(stripe).or_insert(Listed { packs: 0, chunks: 0 });
                *listed = Listed { packs: listed.packs + 1, chunks: listed.chunks + chunks };
            }
        }
        let (empty, rest): (Vec<_>, Vec<_>) =
            blocks.into_iter().partition(|(_, listed)| listed.packs == 0);
        judged.of_index = empty.len();
        judged.unneeded.extend(empty.into_iter().map(|(stripe, _)| stripe));
        if self.repack.is_some() {
            judged.lists = to_list_again(&rest).into_iter().collect();
        }
        self.judged = judged;
        Ok(())
    }

    fn needed_stripes(&self) -> Result<BTreeSet<StripeId>> {
        self.marks.packs().map(|pack| Ok(self.index.pack(pack)?.stripe)).collect()
    }

    /// Writes again what is to be written again. Nothing is given up by that.
    async fn write_again(&mut self) -> Result<()> {
        if self.judged.again.is_empty() && self.judged.lists.is_empty() {
            return Ok(());
        }
        let (vault, mesh) = (Arc::clone(&self.vault), Arc::clone(&self.mesh));
        let (ledger, index) = (Arc::clone(&self.ledger), Arc::clone(&self.index));
        let mut writer = Writer::over(vault, mesh, ledger, index).await?;
        let again: BTreeSet<u64> = std::mem::take(&mut self.judged.again).into_iter().collect();
        if !again.is_empty() {
            let mut needed: Needed = BTreeMap::new();
            self.index.each_place(|chunk, location| {
                if again.contains(&location.pack) && self.marks.has(&location) {
                    let needs = needed.entry(location.pack).or_default();
                    needs.push(Need { chunk, location, what: () });
                }
            })?;
            let chunks: Vec<ChunkId> = needed.values().flatten().map(|need| need.chunk).collect();
            self.progress.begin_again();
            self.progress.expect(again.len() as u64, self.judged.again_needed);
            writer.repack(&self.packs, needed, &self.progress).await?;
            for chunk in chunks {
                let place = self.index.find(chunk)?.ok_or(ClientError::NoChunk(chunk))?;
                self.marks.set(&place);
            }
            for pack in &again {
                self.marks.clear(*pack);
            }
            self.moved.extend(again);
            self.judge().await?;
        }
        let blocks = self.blocks_again().await?;
        writer.list_again(&blocks).await?;
        self.judge().await
    }

    /// What stays of the blocks of the index that list little, in full ones.
    async fn blocks_again(&self) -> Result<Vec<PendingBlock>> {
        let given_up = self.ledger.lock().await.given_up().stripes();
        let mut numbers = BTreeMap::new();
        self.index.each_pack(|number, pack| _ = numbers.insert(pack.stripe, number))?;
        let mut blocks = vec![PendingBlock::default()];
        for &stripe in &self.judged.lists {
            for pack in self.packs.read_index(stripe).await?.packs {
                let Some(&number) = numbers.get(&pack.stripe) else { continue };
                let is_gone =
                    self.judged.unneeded.contains(&pack.stripe) || given_up.contains(&pack.stripe);
                if is_gone || self.index.listing(number)?.stripe() != Some(stripe) {
                    continue;
                }
                if !blocks.last().is_some_and(|block| block.block.fits(pack.chunks.len())) {
                    blocks.push(PendingBlock::default());
                }
                if let Some(block) = blocks.last_mut() {
                    block.numbers.push(number);
                    block.block.packs.push(pack);
                }
            }
        }
        blocks.retain(|block| !block.numbers.is_empty());
        Ok(blocks)
    }

    /// Writes again what is to be, says in the log what is given up, and gives the vault's requests for its release. From then on no
    /// host of the vault extends it or takes it for known.
    ///
    /// # Errors
    /// When that cannot be written or said, or new snapshots come again and again meanwhile.
    pub async fn apply(&mut self, key: &SecretKey) -> Result<Vec<Asked>> {
        self.write_again().await?;
        for _ in 0..ROUNDS {
            let mut needed = self.needed_stripes()?;
            for pack in self.marks.packs() {
                needed.extend(self.index.listing(pack)?.stripe());
            }
            {
                let mut ledger = self.ledger.lock().await;
                let words = (&self.judged.unneeded, &needed);
                say(&mut ledger, &self.mesh, &self.vault, key, words).await?;
                ledger.refresh(&self.mesh, &self.vault).await;
            }
            if !self.follow().await? {
                let mut asked = self.requests(key);
                let mut ledger = self.ledger.lock().await;
                let surplus = self.surplus.say(&mut ledger, &self.mesh, &self.vault, key);
                asked.extend(surplus.await?);
                return Ok(asked);
            }
            self.judge().await?;
        }
        Err(ClientError::Content("new snapshots come again and again: try later".into()))
    }

    fn requests(&self, key: &SecretKey) -> Vec<Asked> {
        let (issued, expires) = (wall(), wall().after(RELEASE_VALIDITY_MAX).0 - 60_000);
        let request = |stripes: &[StripeId]| {
            let (vault, stripes) = (self.vault.id, stripes.to_vec());
            let expires = Wall(expires);
            let request = ReleaseRequest { vault, issued, expires, stripes };
            Asked::Everywhere(Signed::sign(&request, key))
        };
        let stripes: Vec<StripeId> = self.judged.unneeded.iter().copied().collect();
        stripes.chunks(RELEASE_STRIPES_MAX).map(request).collect()
    }
}

/// Sessions whose every snapshot is there.
fn ended_sessions(ledger: &Ledger) -> BTreeSet<SessionId> {
    let now = wall();
    let mut sessions: BTreeMap<SessionId, (bool, Wall)> = BTreeMap::new();
    for logged in ledger.all() {
        let (session, is_snapshot) = match &logged.entry.body {
            Body::Session { session, .. } | Body::Index { session, .. } => (*session, false),
            Body::Snapshot { session, .. } => (*session, true),
            _ => continue,
        };
        let (has_snapshot, newest) = sessions.entry(session).or_default();
        *has_snapshot |= is_snapshot;
        *newest = (*newest).max(logged.witnessed());
    }
    sessions.retain(|_, (has_snapshot, newest)| has_ended(*has_snapshot, *newest, now));
    sessions.into_keys().collect()
}
