//! ListPartitionReassignments (46): which partitions move to other brokers (KIP-455). None does: there
//! is one broker.

use millstream_broker::acl::Operation;
use millstream_wire::{
    ErrorCode, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use crate::api::authorize::Resource;
use crate::dispatch::Call;

pub(crate) async fn handle(
    call: Call,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let (error, error_message) = call.require(Operation::Describe, Resource::Cluster).err().unzip();
    ListPartitionReassignmentsResponse {
        error_code: error.unwrap_or(ErrorCode::None).code(),
        error_message,
        ..Default::default()
    }
}
