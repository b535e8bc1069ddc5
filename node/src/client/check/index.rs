//! The index: every block of it that the log names, and what these list.

use super::data::digest;
use super::{Check, Kind};
use crate::client::Result;
use crate::client::ledger::Ledger;
use protocol::id::SessionId;
use protocol::index::IndexedPack;
use protocol::log::Body;
use std::collections::BTreeSet;

impl Check {
    /// Every index pack that the log names, and that there is a record of every stripe that it names in turn. One that was
    /// given up is missed only where nothing else lists what it does.
    pub(super) async fn check_index(&mut self, ledger: &Ledger) -> Result<u64> {
        let mut read = 0;
        for logged in ledger.all() {
            let Body::Index { stripes, session } = &logged.entry.body else { continue };
            let mut blocks = Vec::new();
            for &stripe in stripes {
                let is_given_up = self.given_up.contains(&stripe);
                match self.stripes.get(&stripe) {
                    None if is_given_up => continue,
                    None => {
                        let what = format!(
                            "index stripe {}: no node that answers has its record",
                            stripe.short()
                        );
                        self.findings.add(Kind::RecordMissing, what);
                        continue;
                    }
                    // It is on the list already.
                    Some(known) if !known.readable => continue,
                    Some(_) => {}
                }
                match self.packs.read_index(stripe).await {
                    Ok(block) => {
                        read += 1;
                        blocks.push((stripe, block));
                    }
                    Err(_) if is_given_up => {}
                    Err(error) => {
                        let what = format!("index stripe {}: {error}", stripe.short());
                        self.findings.add(Kind::IndexUnreadable, what);
                    }
                }
            }
            for pack in blocks.iter().flat_map(|(_, block)| &block.packs) {
                self.check_listed(pack, *session);
            }
            let (device, seq) = (logged.entry.device, logged.entry.seq);
            self.index.merge(device, seq, &blocks, &self.given_up)?;
        }
        self.index.set_aside(&self.given_up)?;
        let mut packs = Vec::new();
        self.index.each_pack(|number, pack| {
            if !self.given_up.contains(&pack.stripe) {
                packs.push(number);
            }
        })?;
        let mut alone = BTreeSet::new();
        for pack in packs {
            alone.extend(self.index.listing(pack)?.stripe());
        }
        for stripe in alone.intersection(&self.given_up) {
            let what =
                format!("index stripe {} was given up, and it alone lists packs", stripe.short());
            self.findings.add(Kind::GivenUp, what);
        }
        Ok(read)
    }

    /// A pack as a block of the index lists it: there is a record, and it is told the same everywhere.
    fn check_listed(&mut self, pack: &IndexedPack, session: SessionId) {
        let (stripe, listed) = (pack.stripe.short(), digest(&pack.chunks));
        match self.stripes.get_mut(&pack.stripe) {
            None if self.given_up.contains(&pack.stripe) => {}
            None => {
                let session = session.short();
                let what = format!(
                    "stripe {stripe} of session {session}: no node that answers has its record"
                );
                self.findings.add(Kind::RecordMissing, what);
            }
            Some(known) => {
                let len = u64::from(pack.k) * u64::from(pack.shard_len);
                if known.len != len || known.listed.is_some_and(|other| other != listed) {
                    let what = format!("stripe {stripe}: the index says otherwise what it is");
                    self.findings.add(Kind::IndexUnreadable, what);
                }
                known.listed = Some(listed);
            }
        }
    }
}
