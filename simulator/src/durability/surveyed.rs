//! The nodes of a model, taken from a mesh that exists ([`crate::from_mesh`]) and not from its file: those that answer and stay.

use super::input::Price;
use crate::from_mesh::FromMesh;
use protocol::label::{Labels, Site};
use protocol::survey::NodeState;
use std::collections::BTreeMap;

/// What nodes with these labels, of this operator where one is named, cost and send.
#[derive(Debug, Clone)]
pub(super) struct Offer<'a> {
    pub(super) operator: &'a str,
    pub(super) labels: &'a Labels,
    pub(super) price: Price,
    pub(super) mbit: f64,
}

impl Offer<'_> {
    fn is_for(&self, operator: &str, labels: &Labels) -> bool {
        (self.operator.is_empty() || self.operator == operator)
            && self.labels.iter().all(|(level, name)| labels.get(level) == Some(name))
    }
}

/// Sites, names of operators by key, and what each node costs and sends.
pub(super) type Nodes = (Vec<Site>, BTreeMap<String, String>, Vec<(Price, f64)>);

/// The nodes that answer and stay, each at the first offer that is for it, or else for nothing and at so many megabits a second.
pub(super) fn nodes(mesh: &FromMesh, offers: &[Offer<'_>], mbit: f64) -> Nodes {
    let stays = mesh.survey().nodes.iter().filter(|node| node.state == NodeState::Up);
    let (mut sites, mut operators, mut priced) = (Vec::new(), BTreeMap::new(), Vec::new());
    for node in stays {
        let operator = mesh.operator(node.operator);
        let offer = offers.iter().find(|offer| offer.is_for(operator, &node.labels));
        priced.push(offer.map_or((Price::default(), mbit), |offer| (offer.price, offer.mbit)));
        operators.insert(node.operator.to_string(), operator.to_owned());
        sites.push(node.site());
    }
    (sites, operators, priced)
}

#[cfg(test)]
mod tests {
    use crate::durability::input::Input;
    use crate::from_mesh::FromMesh;

    const MODEL: &str = r#"
        name = "mine"
        [repair]
        transfer = "1d"
        [[nodes]]
        labels = { provider = "aws" }
        price = { storage_tb = 20 }
        mbit = 500
        [[cause]]
        name = "account closed"
        level = "account"
        per_year = 0.01
    "#;

    #[test]
    fn nodes_policy_and_code_are_those_of_the_mesh() {
        let mesh = FromMesh::read(include_str!("../from_mesh/status.json")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, MODEL).unwrap();
        let input = Input::read_for(&path, &mesh).unwrap();
        // The fifth does not answer.
        assert_eq!((mesh.survey().nodes.len(), input.sites.len()), (5, 4));
        let fast =
            input.offers.iter().filter(|(price, mbit)| price.storage_tb > 19.0 && *mbit > 499.0);
        assert_eq!(fast.count(), 2);
        assert_eq!(Some((input.k as u16, input.n as u16)), mesh.code());
        assert_eq!(input.stripes, mesh.vault().unwrap().stripes);
        let names = input
            .sites
            .iter()
            .map(|site| input.name_of(&site.domain(&protocol::label::Level::node())));
        assert!(names.clone().all(|name| name.len() == 13), "{:?}", names.collect::<Vec<_>>());
        // Alone it has no code.
        assert!(Input::parse(MODEL).unwrap_err().to_string().contains("[code]"));
    }
}
