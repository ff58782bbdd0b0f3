//! Transactions: who may write under a transactional id, and how what was written ends.
//!
//! One [`Transactions`] keeps all transactional ids of one partition of `__transaction_state`. Its
//! host
//!
//! 1. calls [`Transactions::handle`] for a request, or [`Transactions::tick`] when
//!    [`Transactions::next_deadline`] has come;
//! 2. appends [`Effects::records`] to the partition, as one batch, and at once calls
//!    [`Transactions::replay`] with each, in order; or, if the append fails,
//!    [`Transactions::append_failed`];
//! 3. if that was a decision, writes the markers of [`Transactions::order_of`] (after a tick: of all
//!    [`Transactions::orders`]) and reports them with [`Command::Marked`];
//! 4. answers [`Effects::reply`] when all of it is durable. [`Reply::NeedsProducerId`] is for the
//!    host itself: it draws an id and gives the command again. An init that has aborted a running
//!    transaction ([`InitError::Concurrent`], with records) can be given again after step 3.
//!
//! A restart reads the partition into a [`Loading`], from which [`Loading::finish`] makes the
//! transactions; the host then enlists [`Transactions::ongoing`] in their partitions and writes the
//! markers of [`Transactions::orders`].
//!
//! ```text
//!            init              the first partition                end            all markers
//!   (none) ------> Empty ----------------------------> Ongoing ------> Prepare* -------------> Complete*
//!                    ^                                  ^   | an init, or too old:                |   |
//!                    |                                  |   +-> PrepareAbort, next epoch          |   |
//!                    |                                  +-----------------------------------------+   |
//!                    +------------------------------- init --------------------------------------------+
//! ```
//!
//! Invariants:
//!
//! * State changes only in `replay`, in the running coordinator as in a restarted one. A failed
//!   append changes nothing, however often: epochs do not creep (KAFKA-9666).
//! * At most one identity (producer id and epoch) may write under a transactional id, and identities
//!   only grow: whoever is fenced stays fenced.
//! * A decision never changes: what is prepared to commit commits.
//! * The epoch [`i16::MAX`] is given to nobody, so that every producer can be fenced.
//! * All that decides about a request is in the newest record of its id.
//!
//! `tests/model` looks at two producers that fence each other in every order, and names what it
//! checks.
//!
//! # What the first protocol allows
//!
//! Producers of the second protocol (KIP-890) get another epoch with every transaction, and a write
//! enlists its own partition. With the first one, an epoch spans many transactions, and these are
//! the consequences, here as in every broker that speaks it:
//!
//! * A write that was delayed in the network past the end of its transaction has the epoch of the
//!   next one and becomes part of that, or is left without a marker where no next one comes; the
//!   host refuses what was not enlisted, but can't tell two transactions of one epoch apart.
//! * An end that was delayed may end the next transaction of the same epoch.
//! * The retry of an end is told from an end of nothing only by the result: a commit of an empty
//!   transaction after a committed one succeeds.
//! * A producer that has lost the reply to its end, and begins anew with init, never learns how that
//!   transaction ended.
//!
//! Both protocols may be mixed under one transactional id. Whatever fences (an init, a timeout)
//! bumps the epoch in either, so that its markers shut the writer out of the partitions.

mod add;
mod command;
mod end;
mod init;
mod record;
mod reply;
mod settings;
mod shard;
#[cfg(test)]
mod tests;

pub use crate::host::{HostFailure, ReplayError, StoredRecord, partition_of};
pub use command::{AddPartitions, Command, End, Init, ListFilter};
pub use reply::{
    AddPartitionsError, Description, EndError, InitError, Listed, MarkedError, MarkerOrder,
    OngoingTransaction, Producer, Reply, TransactionState,
};
pub use settings::TxnSettings;
pub use shard::{Loading, Transactions};

/// What follows from a command or from the passing of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "records are to be appended and replayed, the reply to be sent"]
pub struct Effects {
    /// To append as one batch, and then to replay, in order.
    pub records: Vec<StoredRecord>,
    /// To send when the records are durable; none after a tick.
    pub reply: Option<Reply>,
}
