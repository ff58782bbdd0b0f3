//! What to do about an error.

use std::io;

use millstream_broker::config::ConfigError;
use millstream_client::Error;
use millstream_wire::ErrorCode;

/// Advice for the first error in the chain for which there is any.
pub(super) fn for_error(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let of_client = cause.downcast_ref::<Error>().and_then(advice);
        of_client.or_else(|| cause.downcast_ref::<ConfigError>().and_then(setting))
    })
}

fn setting(error: &ConfigError) -> Option<String> {
    match error {
        ConfigError::Unknown { hint: None, .. } => {
            Some("docs/configuration.md lists all settings".to_owned())
        }
        _ => None,
    }
}

fn advice(error: &Error) -> Option<String> {
    match error {
        Error::Unreachable { address, kind, bootstrap: true, .. } => Some(match kind {
            io::ErrorKind::ConnectionRefused => format!(
                "nothing listens at {address}; start one with `millstream serve`, or say where \
                 your cluster is with --bootstrap HOST:PORT"
            ),
            // What TLS finds wrong.
            io::ErrorKind::InvalidData => {
                "does --ca name the authority that signed the broker's certificate, and is that for \
                 the host that you connect to?"
                    .to_owned()
            }
            _ => "say where your cluster is with --bootstrap HOST:PORT".to_owned(),
        }),
        Error::Unreachable { address, bootstrap: false, .. } => Some(format!(
            "the cluster tells its clients to connect to {address}; if that can't be reached from \
             here, its advertised address has to be changed (`millstream serve --advertise`)"
        )),
        Error::Protocol { .. } => Some(
            "is this the port of a Kafka listener, without TLS? HTTP ports and TLS listeners \
             answer like this; for TLS, --ca FILE.pem says whom to trust"
                .to_owned(),
        ),
        Error::Disconnected { .. } => Some(
            "the broker closed the connection; does it expect TLS (--ca FILE.pem), a certificate \
             (--cert FILE.pem), or a login (--login USER)?"
                .to_owned(),
        ),
        Error::Refused { what, code, message } => refused(what, *code, message.is_some()),
        Error::Undelivered { last, .. } => advice(last),
        _ => None,
    }
}

fn refused(what: &str, code: ErrorCode, is_explained: bool) -> Option<String> {
    let topic = what.strip_prefix("topic ");
    match code {
        ErrorCode::UnknownTopicOrPartition => Some(match topic {
            Some(topic) => format!(
                "see `millstream topic list` for those that are there; `millstream topic create \
                 {topic}` makes it"
            ),
            None => "see `millstream topic list` and `millstream topic describe TOPIC`".to_owned(),
        }),
        ErrorCode::TopicAlreadyExists => {
            Some("to leave it as it is without an error, add --if-not-exists".to_owned())
        }
        ErrorCode::InvalidTopicException if !is_explained => Some(
            "a topic's name has up to 249 letters, digits, dots, underscores and dashes".to_owned(),
        ),
        ErrorCode::GroupIdNotFound => {
            Some("see `millstream group list` for those that are there".to_owned())
        }
        ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId => Some(
            "stop the group's members first; `millstream group describe` shows them".to_owned(),
        ),
        ErrorCode::InvalidConfig if topic.is_some() => {
            Some("`millstream topic describe TOPIC --all` lists the settings".to_owned())
        }
        ErrorCode::OffsetOutOfRange => {
            Some("see `millstream topic describe TOPIC` for the offsets that are there".to_owned())
        }
        ErrorCode::SecurityDisabled => Some(
            "access rules count where the broker is started with `--set \
             authorizer.class.name=standard --set super.users=User:...`"
                .to_owned(),
        ),
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed => Some(
            "somebody who may alter the cluster can allow it to you with `millstream acl add`; \
             docs/protocol.md says which request needs which right"
                .to_owned(),
        ),
        ErrorCode::DelegationTokenAuthDisabled => Some(
            "there are tokens where the broker has a secret to make them from: \
             delegation.token.secret.key (docs/security.md)"
                .to_owned(),
        ),
        ErrorCode::DelegationTokenRequestNotAllowed => Some(
            "tokens are for who has logged in, and not by a token: --login USER, by a listener with \
             SASL or TLS certificates"
                .to_owned(),
        ),
        ErrorCode::DelegationTokenOwnerMismatch => {
            Some("its owner and its renewers may do so; `millstream token list` names them".to_owned())
        }
        ErrorCode::MessageTooLarge => Some(
            "the topic takes no batches of this size; raise it with `millstream topic alter TOPIC \
             --set max.message.bytes=...`"
                .to_owned(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_client::Address;

    #[track_caller]
    fn check(error: Error, expected: &str) {
        let error = anyhow::Error::new(error).context("while doing something");
        let hint = for_error(&error).unwrap_or_default();
        assert!(hint.contains(expected), "{hint}");
    }

    #[test]
    fn errors_say_what_to_do() {
        let unreachable = |kind, bootstrap| Error::Unreachable {
            address: Address::new("127.0.0.1", 9092),
            kind,
            why: "why".to_owned(),
            bootstrap,
        };
        let refused =
            |what: &str, code| Error::Refused { what: what.to_owned(), code, message: None };
        check(
            unreachable(io::ErrorKind::ConnectionRefused, true),
            "nothing listens at 127.0.0.1:9092; start one with `millstream serve`",
        );
        check(unreachable(io::ErrorKind::TimedOut, true), "--bootstrap HOST:PORT");
        check(unreachable(io::ErrorKind::TimedOut, false), "--advertise");
        check(
            refused("topic news", ErrorCode::UnknownTopicOrPartition),
            "millstream topic create news",
        );
        check(refused("group g", ErrorCode::NonEmptyGroup), "stop the group's members first");
        check(refused("group g", ErrorCode::InvalidGroupId), "");
        check(refused("access rules", ErrorCode::SecurityDisabled), "authorizer.class.name");
        check(refused("topic t", ErrorCode::TopicAuthorizationFailed), "millstream acl add");
    }
}
