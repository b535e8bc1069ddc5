//! Drives several `protocol::Peer` under virtual time.
