//! DescribeCluster (60): the nodes. v1: brokers or controllers. v2: fenced brokers.

use millstream_wire::describe_cluster_response::DescribeClusterBroker;
use millstream_wire::{DescribeClusterRequest, DescribeClusterResponse, ErrorCode, StrBytes};

use crate::api::authorize::NOT_ASKED;
use crate::dispatch::Call;

const BROKERS: i8 = 1;

pub(crate) async fn handle(call: Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::MismatchedEndpointType.code(),
            error_message: Some("this listener serves brokers, not controllers".into()),
            ..DescribeClusterResponse::default()
        };
    }
    let node = call.broker().node();
    let (host, port) = call.advertised();
    let asked = request.include_cluster_authorized_operations;
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: StrBytes::from(node.cluster_id.to_string()),
        controller_id: node.id.0,
        brokers: vec![DescribeClusterBroker {
            broker_id: node.id.0,
            host,
            port,
            ..DescribeClusterBroker::default()
        }],
        cluster_authorized_operations: if asked { call.cluster_operations() } else { NOT_ASKED },
        ..DescribeClusterResponse::default()
    }
}
