//! Streams groups (KIP-1071): the instances of one Kafka Streams application. The coordinator knows the
//! application's topology, makes the topics that it needs for itself, and assigns its tasks.
//!
//! A *task* is a subtopology and a partition. A member may have it as *active*, and then reads, works
//! and writes for it; as *standby*, and then follows its state; or as *warm-up*, and then catches up
//! with its state so as to take over. Members of one *process* share a disk: each task is there once.
//!
//! Epochs are those of consumer groups, and members go from one to the next in the same way
//! ([`reconcile`]). The *topology's* epoch is the application's own number for it. The group is ready
//! when the topics are as the topology needs them ([`topics`]); before that there are no tasks.
//!
//! All of it is stored but for the times until which members must be heard of, whether a member has
//! asked the application to shut down, and what members were told of each other's addresses ([`soft`]).
//!
//! Invariants:
//!
//! * No task is active at two members at once, nor twice in one process in any role.
//! * Epochs only rise.
//! * When nothing changes, the group is ready and all members are heard of, every task is active, and
//!   each that has state has as many standbys as are wanted and as there are other processes.

pub(super) mod assign;
pub(super) mod beat;
mod check;
mod describe;
pub(super) mod draft;
pub(super) mod member;
mod offsets;
pub(super) mod reconcile;
mod serve;
pub(super) mod soft;
pub(super) mod state;
pub(super) mod tasks;
pub(super) mod topics;
pub(super) mod topology;

pub use describe::{DescribedStreamsMember, StreamsDescription};
pub use member::Endpoint;
pub use tasks::{Assignment, Tasks};
pub use topics::{Status, StatusCode};
pub use topology::{Copartition, InternalTopic, Subtopology, Topology};
