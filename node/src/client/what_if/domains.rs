//! Which domains somebody means who names labels.

use crate::client::{ClientError, Result};
use protocol::label::{Domain, Label, NoDomain, Site};

/// The domains that these labels mean; keys may be shortened.
pub(super) fn domains(lose: &[Label], sites: &[&Site]) -> Result<Vec<Domain>> {
    let domain = |label: &Label| {
        Domain::meant(label, sites.iter().copied())
            .map_err(|NoDomain { label, known }| ClientError::NoDomain { label, known })
    };
    lose.iter().map(domain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::{NodeId, OperatorId};
    use protocol::label::Labels;

    fn site(node: u8, labels: &str) -> Site {
        let labels = Labels::new(labels.split_whitespace().map(|l| l.parse().unwrap())).unwrap();
        Site::new(NodeId([node; 32]), OperatorId([0xab; 32]), labels)
    }

    #[test]
    fn what_is_lost_is_named_as_people_write_it() {
        let sites = [site(1, "provider=aws account=1"), site(0x11, "provider=gcp"), site(3, "")];
        let sites: Vec<&Site> = sites.iter().collect();
        let meant = |text: &str| -> std::result::Result<String, String> {
            let lose = [text.parse::<Label>().unwrap()];
            let found = domains(&lose, &sites).map_err(|e| e.to_string())?;
            Ok(found[0].short())
        };
        assert_eq!(meant("provider=aws").unwrap(), "provider=aws");
        assert_eq!(meant("node=0101").unwrap(), "node=01010101");
        assert_eq!(meant("operator=abab").unwrap(), "operator=abababab");
        // What is not stated is one domain.
        assert_eq!(meant("provider=unknown").unwrap(), "provider=unknown");
        let wrong = meant("provider=awz").unwrap_err();
        assert!(wrong.contains("provider=aws, provider=gcp"), "{wrong}");
        assert!(meant("node=01").is_err());
    }
}
