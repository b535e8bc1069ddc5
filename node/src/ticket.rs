//! Tickets: one line (`line`) that can be pasted, with which one node can join.

use crate::line::{LineError, from_line, to_line};
use protocol::certificate::Invitation;
use protocol::id::NodeId;
use protocol::sign::Signed;
use serde::{Deserialize, Serialize};

const PREFIX: &str = "strewn1";
/// Longest ticket, in characters.
const LEN_MAX: usize = 16 << 10;

/// What a ticket carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The operator's permission.
    pub invitation: Signed<Invitation>,
    /// The secret half of the bearer key.
    pub bearer_seed: [u8; 32],
    /// The node that admits.
    pub admitter: NodeId,
    /// Where it is.
    pub addresses: Vec<String>,
}

/// Text that is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no ticket: {0}")]
pub struct TicketError(#[from] LineError);

impl Ticket {
    /// The line.
    #[must_use]
    pub fn to_line(&self) -> String {
        to_line(PREFIX, self)
    }

    /// The inverse of [`Ticket::to_line`].
    pub fn from_line(line: &str) -> Result<Self, TicketError> {
        Ok(from_line(PREFIX, LEN_MAX, line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::label::Labels;
    use protocol::sign::SecretKey;
    use protocol::time::Wall;

    #[test]
    fn a_ticket_survives_pasting_and_shows_damage() {
        let operator = SecretKey::from_seed(&[1; 32]);
        let invitation = Invitation {
            operator: operator.public().into(),
            admitter: NodeId([2; 32]),
            bearer: SecretKey::from_seed(&[3; 32]).public(),
            labels: Labels::default(),
            issued: Wall(1),
            expires: Wall(2),
        };
        let ticket = Ticket {
            invitation: Signed::sign(&invitation, &operator),
            bearer_seed: [3; 32],
            admitter: NodeId([2; 32]),
            addresses: vec!["/ip4/192.0.2.1/tcp/7440".into()],
        };
        let line = ticket.to_line();
        assert_eq!(Ticket::from_line(&format!("  {line}\n")).unwrap(), ticket);
        assert_eq!(Ticket::from_line("hello"), Err(TicketError(LineError::Prefix(PREFIX))));
        assert_eq!(
            Ticket::from_line(&line[..line.len() - 3]),
            Err(TicketError(LineError::Damaged))
        );
        let swapped = line.replace('a', "b");
        assert_eq!(Ticket::from_line(&swapped), Err(TicketError(LineError::Damaged)));
    }
}
