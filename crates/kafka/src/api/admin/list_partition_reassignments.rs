//! ListPartitionReassignments (46): which partitions move to other brokers (KIP-455). None does: there
//! is one broker.

use millstream_wire::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::dispatch::Call;

pub(crate) async fn handle(
    _call: Call,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse { error_message: None, ..Default::default() }
}
