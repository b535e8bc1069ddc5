//! Connections of a command to the nodes of a mesh.

mod node;
mod served;

use node::Begun;
pub use node::{Node, ask_stranger, join};
pub(super) use served::given;

use super::{ClientError, Result, met, operator, partners};
use crate::address::ip_of;
use crate::config::Config;
use crate::home::{Home, read_file, read_key, read_signed};
use crate::net::{Net, NetConfig, NetEvent, NetLimits};
use crate::service::{split_address, wall};
use libp2p::Multiaddr;
use protocol::agreement::Agreement;
use protocol::certificate::{
    CertificateError, ConsolePass, DeviceCertificate, NodeCertificate, NodeRecord, Roster, Trust,
    VaultCertificate,
};
use protocol::evidence::Evidences;
use protocol::id::{NodeId, OperatorId};
use protocol::label::Site;
use protocol::message::{Greeting, Request, Response};
use protocol::partner::{PartnerList, Partners};
use protocol::sign::{SecretKey, Signed};
use protocol::succession::{Line, Lines, Said};
use protocol::time::Period;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Who only reads waits for a node no longer than the others took once more, and not less than this,
const GRACE: Duration = Duration::from_millis(150);
/// once so large a part of the nodes has answered.
const MOST: (usize, usize) = (2, 3);

/// A node that is known and does not answer.
#[derive(Debug, Clone)]
pub struct Silent {
    /// Where it lies.
    pub site: Site,
    /// Why.
    pub reason: String,
}

/// The nodes of a mesh.
#[derive(Debug, Default)]
pub struct Mesh {
    /// Those that answer.
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Those that had not answered yet when reading began: dialed again when they are needed.
    pub late: BTreeMap<NodeId, Arc<Node>>,
    /// Those that do not.
    pub silent: BTreeMap<NodeId, Silent>,
    /// What all of them say of themselves, those that answer first.
    records: Vec<Signed<NodeRecord>>,
    /// Partners' nodes that are not what was agreed, and how: what they state counts as unknown.
    pub mislabelled: BTreeMap<NodeId, String>,
    /// What was agreed with its operator's partners, by the newest list that was told.
    pub agreed: Vec<Agreement>,
    /// What these partners are called here.
    pub partners: BTreeMap<OperatorId, String>,
    /// Where nodes were reached, with their keys.
    reached: Arc<Mutex<BTreeMap<NodeId, BTreeSet<IpAddr>>>>,
}

/// As whom a command comes.
#[derive(Debug)]
pub struct Caller {
    /// Its key.
    pub key: SecretKey,
    /// Who vouches for it.
    pub greeting: Greeting,
    /// Whose it is.
    operator: OperatorId,
    /// Whom it believes: its operator, that one's partners, and those whose nodes the vault's roster lists.
    trust: RwLock<Trust>,
    /// With whom it stores: its operator and that one's partners.
    relies: RwLock<Trust>,
    /// What was agreed with its operator's partners.
    agreed: RwLock<Vec<Agreement>>,
    /// What its operator's partners are called.
    names: RwLock<BTreeMap<OperatorId, String>>,
    /// Whose keys speak for them, and for its operator.
    lines: RwLock<Lines>,
    /// Nodes that it believes because somebody named them, whosever they are.
    named: BTreeSet<NodeId>,
    /// Whether it takes in what nodes have of its operator's list of partners, and keeps it.
    asks: bool,
    /// Whether it does not, whatever it is.
    keeps_nothing: bool,
}

impl Caller {
    /// As a device of a vault.
    #[must_use]
    pub fn device(vault: &super::vault::Vault) -> Self {
        let certificate = vault.papers.certificate.clone();
        let caller = Self::of_device(
            vault.device.clone(),
            certificate,
            vault.device_certificate.clone(),
            vault.operator,
        );
        // What lies with who is no partner any more is to be read still.
        caller.believe(vault.papers.roster.verify().iter().flat_map(operators_of));
        caller
    }

    /// As a device with this key, by the word of a vault that this operator vouches for.
    #[must_use]
    pub fn of_device(
        key: SecretKey,
        vault: Signed<VaultCertificate>,
        device: Signed<DeviceCertificate>,
        operator: OperatorId,
    ) -> Self {
        Self::new(key, Greeting::Device { vault, device }, operator)
    }

    fn new(key: SecretKey, greeting: Greeting, operator: OperatorId) -> Self {
        let [trust, relies] = [(); 2].map(|()| RwLock::new(Trust::new([operator])));
        Self {
            key,
            greeting,
            operator,
            trust,
            relies,
            agreed: RwLock::default(),
            names: RwLock::default(),
            lines: RwLock::default(),
            named: BTreeSet::new(),
            asks: false,
            keeps_nothing: false,
        }
    }

    /// Believes also these operators.
    pub fn believe(&self, operators: impl IntoIterator<Item = OperatorId>) {
        let mut trust = self.trust.write().unwrap_or_else(PoisonError::into_inner);
        *trust = std::mem::take(&mut *trust).and_operators(operators);
    }

    /// Believes its operator's partners, and stores with them.
    fn rely(&self, partners: &Partners) {
        let operators = partners.by_operator.keys().copied();
        self.believe(operators.clone());
        let agreed = partners.by_operator.values().filter_map(|known| known.agreement.clone());
        *self.agreed.write().unwrap_or_else(PoisonError::into_inner) = agreed.collect();
        let names = partners.by_operator.iter().map(|(who, known)| (*who, known.name.clone()));
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names.collect();
        for operator in partners.by_operator.keys().copied().chain([self.operator]) {
            partners
                .lines
                .get(operator)
                .cloned()
                .into_iter()
                .for_each(|line| self.learn_line(line));
        }
        let mut relies = self.relies.write().unwrap_or_else(PoisonError::into_inner);
        *relies = Trust::new([self.operator]).and_operators(operators);
    }

    /// Takes in who speaks for an operator. The line known first stays.
    fn learn_line(&self, line: Line) {
        let mut lines = self.lines.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = lines.learn(line) {
            tracing::error!(%error, "two keys are said to speak for one operator");
        }
    }

    /// How a partner's node differs from what was agreed.
    fn contradicts(&self, site: &Site) -> Option<String> {
        let agreed = self.agreed.read().unwrap_or_else(PoisonError::into_inner);
        agreed.iter().find_map(|agreement| agreement.contradicted_by(site))
    }

    /// Whether it stores with an operator.
    fn relies_on(&self, operator: OperatorId) -> bool {
        self.relies.read().unwrap_or_else(PoisonError::into_inner).check(operator).is_ok()
    }

    /// Believes also these nodes, because somebody named them.
    #[must_use]
    pub fn believing_nodes(self, nodes: &[Multiaddr]) -> Self {
        let named = nodes.iter().filter_map(split_address).map(|(node, _)| node).collect();
        Self { named, ..self }
    }

    /// Believes also its operator's partners, as far as they are known here. Without the operator's key, nodes may know of others.
    fn with_partners(mut self, home: &Home) -> Result<Self> {
        if let Some(line) = operator::line(home)?.filter(|line| line.operator() == self.operator) {
            self.learn_line(line);
        }
        if let Some((_, partners)) = partners::stored(home, self.operator)? {
            self.rely(&partners);
        }
        self.asks = !self.keeps_nothing && !home.path("operator.key").exists();
        Ok(self)
    }

    /// Takes in no list of partners that nodes have: which one counts is to be asked yet.
    #[must_use]
    pub fn keeping_nothing(self) -> Self {
        Self { keeps_nothing: true, ..self }
    }

    /// Takes in a list of partners that a node has, and keeps it, unless it comes before the one here.
    fn learn(&self, home: &Home, list: &Signed<PartnerList>) -> Result<()> {
        let partners = PartnerList::verify(list, self.operator).map_err(ClientError::content)?;
        if let Some(said) = list.said().map_err(ClientError::content)? {
            self.check_said(&said)?;
        }
        if partners::keep(home, self.operator, list)? {
            self.rely(&partners);
        }
        Ok(())
    }

    /// Refuses a node that nobody vouches for whom it believes.
    fn check(
        &self,
        signed: &Signed<NodeCertificate>,
        certificate: &NodeCertificate,
    ) -> std::result::Result<(), CertificateError> {
        self.check_said(&certificate.said(signed)?)?;
        if self.named.contains(&certificate.node) {
            return Ok(());
        }
        let trust = self.trust.read().unwrap_or_else(PoisonError::into_inner);
        trust.check(certificate.operator)
    }

    /// Refuses what was said with a key that is known to be succeeded.
    fn check_said(&self, said: &Said) -> std::result::Result<(), CertificateError> {
        let lines = self.lines.read().unwrap_or_else(PoisonError::into_inner);
        Ok(lines.check(said, wall())?)
    }

    /// As the operator of this host's node, looking.
    pub fn console(home: &Home) -> Result<Self> {
        let none = || {
            ClientError::NoNode(": there is no node here; run strewn init or strewn join".into())
        };
        let node = read_key(&home.path("node.key"))?.ok_or_else(none)?;
        let certificate: Signed<NodeCertificate> =
            read_signed(&home.path("node.cert"))?.ok_or_else(none)?;
        let certificate = NodeCertificate::verify(&certificate, wall())?;
        let key = SecretKey::from_seed(&crate::home::random()?);
        let pass = ConsolePass {
            console: key.public(),
            node: node.public().into(),
            issued: wall(),
            expires: wall().after(Period::seconds(24 * 3600)),
        };
        let greeting = Greeting::Console(Signed::sign(&pass, &node));
        Ok(Self::new(key, greeting, certificate.operator))
    }
}

/// The operators of the nodes that a roster lists.
pub fn operators_of(roster: &Roster) -> BTreeSet<OperatorId> {
    let certificates = roster.nodes.iter().filter_map(|signed| signed.verify().ok());
    certificates.map(|certificate| certificate.operator).collect()
}

/// Where to begin: settings, the node of this host, and nodes met before.
pub fn first_addresses(home: &Home, config: &Config) -> Result<Vec<Multiaddr>> {
    let mut addresses = Vec::new();
    for file in ["run/listen", met::FILE] {
        let text = read_file(&home.path(file))?.unwrap_or_default();
        let lines = String::from_utf8_lossy(&text).into_owned();
        addresses.extend(lines.lines().filter_map(|line| line.parse::<Multiaddr>().ok()));
    }
    addresses.extend(config.client.nodes.iter().chain(&config.node.bootstrap).cloned());
    Ok(addresses)
}

impl Mesh {
    /// Connects to all nodes that can be learned of.
    pub async fn connect(home: &Home, caller: Caller) -> Result<Self> {
        Self::begin(home, caller, false).await
    }

    /// Connects to nodes enough to read: who is gone without a word holds nobody up.
    pub async fn connect_to_read(home: &Home, caller: Caller) -> Result<Self> {
        Self::begin(home, caller, true).await
    }

    /// Connects to all nodes that can be learned of from those at these addresses alone.
    pub async fn connect_at(home: &Home, caller: Caller, addresses: &[Multiaddr]) -> Result<Self> {
        let limits = Config::load(home)?.client.limits();
        let mesh = Self::connect_to(home, caller, addresses, limits, false).await?;
        met::remember(home, &mesh.records)?;
        Ok(mesh)
    }

    async fn begin(home: &Home, caller: Caller, is_reading: bool) -> Result<Self> {
        let config = Config::load(home)?;
        let addresses = first_addresses(home, &config)?;
        let limits = config.client.limits();
        let mesh = Self::connect_to(home, caller, &addresses, limits, is_reading).await?;
        met::remember(home, &mesh.records)?;
        Ok(mesh)
    }

    async fn connect_to(
        home: &Home,
        caller: Caller,
        addresses: &[Multiaddr],
        limits: NetLimits,
        is_reading: bool,
    ) -> Result<Self> {
        let (net, mut events) = Net::start(NetConfig { listen: Vec::new(), limits }, &caller.key)?;
        let mut mesh = Self::default();
        let reached = Arc::clone(&mesh.reached);
        // Nobody opens lanes to a command; what else comes is let go of.
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let NetEvent::Connected { key, outbound: true, address, .. } = event
                    && let Some(address) = ip_of(&address)
                {
                    let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
                    reached.entry(key.into()).or_default().insert(address);
                }
            }
        });
        let mut first: BTreeMap<NodeId, Vec<Multiaddr>> = BTreeMap::new();
        for (node, address) in addresses.iter().filter_map(split_address) {
            first.entry(node).or_default().push(address);
        }
        let caller = Arc::new(caller.with_partners(home)?);
        let mut asked: BTreeSet<NodeId> = BTreeSet::new();
        let mut members: BTreeMap<NodeId, (Site, Signed<NodeRecord>)> = BTreeMap::new();
        let mut reasons: BTreeMap<NodeId, String> = BTreeMap::new();
        // Those of whose operator nothing is known yet.
        let mut unknown: Vec<Signed<NodeRecord>> = Vec::new();
        let mut tasks = JoinSet::new();
        let mut last = String::new();
        for (node, addresses) in first {
            asked.insert(node);
            tasks.spawn(Node::connect(net.clone(), Arc::clone(&caller), node, addresses));
        }
        let begin = Instant::now();
        let mut patience = None;
        loop {
            let next = match patience.filter(|_| is_most(mesh.nodes.len(), asked.len())) {
                Some(until) if is_reading => {
                    match tokio::time::timeout_at(until, tasks.join_next()).await {
                        Ok(next) => next,
                        Err(_) => break,
                    }
                }
                _ => tasks.join_next().await,
            };
            let Some(done) = next else { break };
            let Ok((id, connected)) = done else { continue };
            match connected {
                Ok(Begun { node, members: found, partners }) => {
                    patience = Some((Instant::now() + begin.elapsed().max(GRACE)).into());
                    mesh.nodes.insert(id, Arc::new(node));
                    let again = match partners {
                        Some(list) => {
                            caller.learn(home, &list).map(|()| std::mem::take(&mut unknown))
                        }
                        None => Ok(Vec::new()),
                    };
                    let again = again.unwrap_or_else(|error: ClientError| {
                        tracing::warn!(%error, "a node's list of partners does not count");
                        Vec::new()
                    });
                    for signed in again.into_iter().chain(found) {
                        let Ok((record, certificate)) = NodeRecord::verify(&signed, wall()) else {
                            continue;
                        };
                        if caller.check(&record.certificate, &certificate).is_err() {
                            unknown.push(signed);
                            continue;
                        }
                        members.insert(record.node, (certificate.site(), signed));
                        if asked.insert(record.node) {
                            let addresses =
                                record.addresses.iter().filter_map(|a| a.parse().ok()).collect();
                            tasks.spawn(Node::connect(
                                net.clone(),
                                Arc::clone(&caller),
                                record.node,
                                addresses,
                            ));
                        }
                    }
                }
                Err(error) => {
                    last = format!(": {error}");
                    reasons.insert(id, error.to_string());
                }
            }
        }
        if mesh.nodes.is_empty() {
            return Err(ClientError::NoNode(last));
        }
        tasks.abort_all();
        mesh.records.extend(mesh.nodes.values().map(|node| node.record.clone()));
        for (id, (site, record)) in members {
            if mesh.nodes.contains_key(&id) {
                continue;
            }
            mesh.records.push(record.clone());
            if let Some(reason) = reasons.remove(&id) {
                mesh.silent.insert(id, Silent { site, reason });
                continue;
            }
            let node = Node::new(net.clone(), Arc::clone(&caller), record, None)?;
            node.rest();
            mesh.late.insert(id, Arc::new(node));
            mesh.silent.insert(id, Silent { site, reason: "no answer yet".into() });
        }
        mesh.judge_labels(&caller);
        mesh.agreed.clone_from(&caller.agreed.read().unwrap_or_else(PoisonError::into_inner));
        mesh.partners.clone_from(&caller.names.read().unwrap_or_else(PoisonError::into_inner));
        Ok(mesh)
    }

    /// How well labels are shown to be true, for who stores with these nodes: as its vaults' holders will see it, whose rosters list them.
    fn judge_labels(&mut self, caller: &Caller) {
        let met = self.nodes.values().map(|node| &node.site);
        let sites: Vec<Site> =
            met.chain(self.silent.values().map(|silent| &silent.site)).cloned().collect();
        let operators = sites.iter().map(|site| site.operator).chain([caller.operator]);
        let believed =
            self.believed(caller, operators.filter(|operator| caller.relies_on(*operator)));
        let now = wall();
        let mut judged: BTreeMap<NodeId, Site> = BTreeMap::new();
        for site in sites {
            let seen = match caller.contradicts(&site) {
                Some(what) => {
                    self.mislabelled.insert(site.node, what);
                    Site { evidence: Evidences::contradicted(), ..site }
                }
                None => site.seen_by(&believed, now),
            };
            judged.insert(seen.node, seen);
        }
        let nodes = self.nodes.values_mut().chain(self.late.values_mut());
        // Nobody else has them yet.
        for node in nodes.filter_map(Arc::get_mut) {
            if let Some(site) = judged.get(&node.id) {
                node.site = site.clone();
            }
        }
        for (node, silent) in &mut self.silent {
            if let Some(site) = judged.remove(node) {
                silent.site = site;
            }
        }
    }

    /// These operators, with the lines of their keys as they are known, or as their nodes show them: rosters will list these.
    fn believed(&self, caller: &Caller, operators: impl Iterator<Item = OperatorId>) -> Lines {
        let (mut believed, known) = (Lines::default(), caller.lines.read());
        let known = known.unwrap_or_else(PoisonError::into_inner);
        let mut learn = |line: Line| {
            if let Err(error) = believed.learn(line) {
                tracing::error!(%error, "two keys are said to speak for one operator");
            }
        };
        for operator in operators {
            learn(known.get(operator).cloned().unwrap_or_else(|| Line::first(operator)));
        }
        for node in self.nodes.values().filter(|node| caller.relies_on(node.site.operator)) {
            let certificate = node.certificate.verify();
            if let Some(Ok(line)) = certificate.ok().map(|known| known.line(&node.certificate)) {
                learn(line);
            }
        }
        believed
    }

    /// Where a node was reached.
    #[must_use]
    pub fn reached(&self, node: NodeId) -> BTreeSet<IpAddr> {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.get(&node).cloned().unwrap_or_default()
    }

    /// The certificates of the nodes that answer.
    #[must_use]
    pub fn certificates(&self) -> Vec<Signed<NodeCertificate>> {
        self.nodes.values().map(|node| node.certificate.clone()).collect()
    }

    /// Asks all nodes at once.
    pub async fn ask_all(&self, request: &Request) -> Vec<(Arc<Node>, Result<Response>)> {
        Self::ask_these(self.nodes.values(), request).await
    }

    /// Asks all nodes of an operator at once.
    pub async fn ask_of(
        &self,
        operator: OperatorId,
        request: &Request,
    ) -> Vec<(Arc<Node>, Result<Response>)> {
        let nodes = self.nodes.values().filter(|node| node.site.operator == operator);
        Self::ask_these(nodes, request).await
    }

    async fn ask_these(
        nodes: impl Iterator<Item = &Arc<Node>>,
        request: &Request,
    ) -> Vec<(Arc<Node>, Result<Response>)> {
        let request = Arc::new(request.clone());
        let mut tasks = JoinSet::new();
        for node in nodes {
            let (node, request) = (Arc::clone(node), Arc::clone(&request));
            tasks.spawn(async move {
                let response = node.request(&request).await;
                (node, response)
            });
        }
        tasks.join_all().await
    }
}

/// Whether those who answered are so many that what is held widely is among them.
pub(super) fn is_most(answered: usize, asked: usize) -> bool {
    answered * MOST.1 >= asked * MOST.0
}
