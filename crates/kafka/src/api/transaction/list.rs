//! ListTransactions (66): the transactional ids that are known (KIP-664).
//!
//! v1: only those whose transaction has run for some time. v2: only those that a regular expression
//! matches.

use millstream_broker::acl::Operation;
use millstream_broker::groups::Pattern;
use millstream_broker::txn::{ListFilter, TransactionState as State};
use millstream_types::ProducerId;
use millstream_wire::list_transactions_response::TransactionState;
use millstream_wire::{ErrorCode, ListTransactionsRequest, ListTransactionsResponse, StrBytes};

use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(
    call: Call,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let pattern = request.transactional_id_pattern.as_ref().filter(|text| !text.is_empty());
    let Ok(pattern) = pattern.map(|text| Pattern::new(text)).transpose() else {
        return failed(ErrorCode::InvalidRegularExpression);
    };
    let unknown = request.state_filters.iter().filter(|state| !State::is_known(state));
    let unknown_state_filters: Vec<_> = unknown.cloned().collect();
    if !request.state_filters.is_empty()
        && unknown_state_filters.len() == request.state_filters.len()
    {
        return ListTransactionsResponse {
            unknown_state_filters,
            ..ListTransactionsResponse::default()
        };
    }
    let filter = ListFilter {
        states: request.state_filters.iter().map(|state| state.as_str().to_owned()).collect(),
        producer_ids: request.producer_id_filters.into_iter().map(ProducerId).collect(),
        duration_ms: (request.duration_filter >= 0).then_some(request.duration_filter),
    };
    let wanted = |id: &str| {
        pattern.as_ref().is_none_or(|pattern| pattern.matches(id))
            && call.may(Operation::Describe, Resource::TransactionalId(id))
    };
    match call.broker().list_transactions(&filter, wanted).await {
        Err(error) => failed(error.code()),
        Ok(listed) => {
            let states = listed.into_iter().map(|listed| TransactionState {
                transactional_id: StrBytes::from(listed.id.as_ref().to_owned()),
                producer_id: listed.producer.0,
                transaction_state: StrBytes::from_static(listed.state.name()),
            });
            ListTransactionsResponse {
                unknown_state_filters,
                transaction_states: states.collect(),
                ..ListTransactionsResponse::default()
            }
        }
    }
}

fn failed(error: ErrorCode) -> ListTransactionsResponse {
    ListTransactionsResponse { error_code: error.code(), ..ListTransactionsResponse::default() }
}
