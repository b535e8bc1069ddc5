//! What one peer promises, told as stories. [`desk::Desk`] is the driver: it holds the peer's facts,
//! says when something is durable, and checks every promise that leaves against them. [`cast`] has
//! the people: who they are and what they sign.

mod any_order;
mod auditing;
mod audits;
mod bounds;
mod cast;
mod clock;
mod desk;
mod discharge;
mod exchange;
mod giving;
mod greetings;
mod labels;
mod leaving;
mod lives;
mod lives_any_order;
mod logs;
mod meeting;
mod members;
mod parting;
mod partner_bounds;
mod partners;
mod promises;
mod recovery;
mod repair;
mod restart;
mod scrub;
mod served;
mod shards;
mod standing_in;
mod stolen;
mod succession;
mod sums;
mod sums_any_order;
mod tallies;
mod tallies_any_order;
mod vaults;
