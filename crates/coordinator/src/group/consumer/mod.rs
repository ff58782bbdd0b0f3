//! Consumer groups (KIP-848): the coordinator assigns partitions, and each member goes to what it is
//! to own at its own pace.
//!
//! Three epochs say how far everybody is. The *group's* rises with each change of members, of what
//! they subscribe to, and of those topics. The *target's* is the group's epoch that the assignor has
//! worked with. Each *member's* is the target's epoch that it has reached.
//!
//! Unlike in classic groups all of it is stored; what is only in memory are the times until which
//! members must be heard of ([`times`]).
//!
//! Invariants:
//!
//! * No partition is owned by two members at once.
//! * Epochs only rise.
//! * When nothing changes and all members are heard of, every partition of every topic that is
//!   subscribed to, by somebody who may know of it ([`hidden`]), is owned.

pub(super) mod assign;
pub(super) mod beat;
pub(super) mod check;
mod classic;
mod describe;
pub(super) mod draft;
mod embedded;
mod hidden;
pub(super) mod member;
mod migrate;
mod offsets;
mod pattern;
pub(super) mod reconcile;
mod serve;
pub(super) mod state;
pub(super) mod times;
mod world;

pub use assign::Assignor;
pub use member::Partitions;
pub use pattern::Pattern;
pub use world::{Asker, GroupOverrides, NoWorld, Rights, StreamsOverrides, World};
