//! Tickets: one line that can be pasted, with which one node can join.
//!
//! ```text
//! "strewn1" base32(codec bytes of Ticket ‖ first 4 bytes of their BLAKE3 hash), lower case, no padding
//! ```

use data_encoding::{Encoding, Specification};
use protocol::certificate::Invitation;
use protocol::codec;
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
pub enum TicketError {
    /// It begins otherwise.
    #[error("this is no ticket: a ticket begins with strewn1")]
    Prefix,
    /// Something was lost or changed on the way.
    #[error("the ticket is damaged: copy it again, the whole line")]
    Damaged,
}

fn base32() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("a constant alphabet")
}

impl Ticket {
    /// The line.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut bytes = codec::encode(self);
        let sum = *blake3::hash(&bytes).as_bytes();
        bytes.extend_from_slice(&sum[..4]);
        format!("{PREFIX}{}", base32().encode(&bytes))
    }

    /// The inverse of [`Ticket::to_line`].
    pub fn from_line(line: &str) -> Result<Self, TicketError> {
        let text = line.trim().strip_prefix(PREFIX).ok_or(TicketError::Prefix)?;
        if text.len() > LEN_MAX {
            return Err(TicketError::Damaged);
        }
        let bytes = base32().decode(text.as_bytes()).map_err(|_| TicketError::Damaged)?;
        let (bytes, sum) = bytes.split_last_chunk::<4>().ok_or(TicketError::Damaged)?;
        if blake3::hash(bytes).as_bytes()[..4] != *sum {
            return Err(TicketError::Damaged);
        }
        codec::decode(bytes, LEN_MAX).map_err(|_| TicketError::Damaged)
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
        assert_eq!(Ticket::from_line("hello"), Err(TicketError::Prefix));
        assert_eq!(Ticket::from_line(&line[..line.len() - 3]), Err(TicketError::Damaged));
        let swapped = line.replace('a', "b");
        assert_eq!(Ticket::from_line(&swapped), Err(TicketError::Damaged));
    }
}
