//! Arguments of `repair`.

use clap::Subcommand;

/// About repair.
#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    /// Say what is lost, what is being rebuilt, and what cannot be
    #[command(after_help = "\
Nodes rebuild by themselves what lost nodes held, what disks altered, and what holders were shown not to have: nobody has to do
anything. Here is how far they are, by the word of those that answer.

A node is LOST when it was silent for the patience (`patience` in strewn.toml). A holder is NOT TRUSTED with shards that it promises
and did not prove to two nodes, of two operators where there are; it is trusted again when it proves them. The time until all is done is
reckoned from what was repaired since something was short. What cannot be repaired now is tried again; the reason says what is missing:
mostly nodes, room or providers.

Exit code 1 while anything is short, lost, or not proved.")]
    Status,
}
