//! What is noted of requests: rights that were missing, and changes.

use millstream_broker::acl::Operation;
use millstream_broker::audited::{Event, Kind, Level, Outcome};
use millstream_wire::ErrorCode;
use tracing::info;

use crate::api::authorize::Resource;
use crate::dispatch::Call;

/// What was changed, and its name: as access rules call it, or `Broker`, `ClientMetrics`, `Quota`, `Acl`.
pub(crate) type Changed<'a> = (&'static str, &'a str);

/// Names and values that are known of a change; never a secret.
pub(crate) type Details = Vec<(String, String)>;

impl Call {
    fn event(&self, kind: Kind, outcome: Outcome) -> Event {
        let event = self.sender.event(&self.dispatch, kind, outcome);
        event.through(self.api.name(), &self.client_id)
    }

    /// Notes that the client has no right to do `operation` to `resource`.
    pub(crate) fn note_denial(&self, operation: Operation, resource: Resource<'_>) {
        let (kind, name) = (resource.kind().name(), resource.name());
        let address = self.address();
        if let Some(left_out) = self.dispatch.denials.may_say(address, self.now()) {
            // Names are the client's to choose: they are shown with everything escaped.
            let user = self.principal().name();
            let (api, operation) = (self.api.name(), operation.name());
            let name = name.get(..name.floor_char_boundary(100)).unwrap_or_default();
            info!(?user, ?address, api, operation, kind, ?name, left_out, "refused: no right");
        }
        if self.broker().audits(Level::Denied) {
            let event = self.event(Kind::Access, Outcome::Refused);
            let event = event.what(operation.name(), (kind, name));
            self.broker().audit(event.because(resource.denied().name()));
        }
    }

    /// Notes that the client has done `operation` to something, or has tried to. Not what it has no right to:
    /// that is noted before.
    pub(crate) fn note_change(
        &self,
        operation: Operation,
        changed: Changed<'_>,
        error: ErrorCode,
        details: impl FnOnce() -> Details,
    ) {
        if is_denial(error) || !self.broker().audits(Level::Changes) {
            return;
        }
        let outcome = if error == ErrorCode::None { Outcome::Done } else { Outcome::Refused };
        let event =
            self.event(Kind::Change, outcome).what(operation.name(), changed).with(details());
        self.broker().audit(match outcome {
            Outcome::Done => event,
            Outcome::Refused => event.because(error.name()),
        });
    }
}

/// Whether an error says that a right is missing.
fn is_denial(error: ErrorCode) -> bool {
    let denials = [
        ErrorCode::TopicAuthorizationFailed,
        ErrorCode::GroupAuthorizationFailed,
        ErrorCode::ClusterAuthorizationFailed,
        ErrorCode::TransactionalIdAuthorizationFailed,
        ErrorCode::DelegationTokenAuthorizationFailed,
    ];
    denials.contains(&error)
}

/// One detail.
pub(crate) fn detail(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}
