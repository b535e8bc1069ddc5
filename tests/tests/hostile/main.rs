//! Bad input against real nodes: refused or closed, counted, and nobody else notices.

mod enemy;
mod floods;
mod frames;
mod greetings;
mod logs;
mod noise;
mod reads;
mod shards;
mod statements;
mod tickets;
