//! ApiVersions (18): which APIs and features there are.
//!
//! v3: the client's software. v4: features with minimum 0. v5: the cluster and node that the client
//! means (KIP-1242). Answered in whatever version the client can read; see `dispatch` for one that
//! is too new.

use millstream_wire::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use millstream_wire::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, ErrorCode, StrBytes};

use crate::dispatch::{Call, SERVED};
use crate::features;

/// Clients built on librdkafka switch features off unless Produce seems to go back to version 0,
/// although nobody sends versions below 3 any more (KAFKA-18659).
const PRODUCE_MIN_ADVERTISED: i16 = 0;

const SOFTWARE_SINCE: i16 = 3;
const ADDRESSEE_SINCE: i16 = 5;
/// Since which clients can read that a feature may be switched off (KAFKA-17492).
const MIN_ZERO_SINCE: i16 = 4;
/// Levels change by configuration alone, when the broker starts.
const FEATURES_EPOCH: i64 = 0;
const NO_NODE: i32 = -1;

pub(crate) async fn handle(call: Call, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let names = [&request.client_software_name, &request.client_software_version];
    if call.version >= SOFTWARE_SINCE && !names.iter().all(|name| is_software_name(name)) {
        return refused(ErrorCode::InvalidRequest);
    }
    if call.version >= SOFTWARE_SINCE {
        call.note_software(&request.client_software_name, &request.client_software_version);
    }
    if call.version >= ADDRESSEE_SINCE {
        // Who knows where it wants to be knows both.
        if request.cluster_id.is_some() != (request.node_id != NO_NODE) {
            return refused(ErrorCode::InvalidRequest);
        }
        if is_misrouted(&call, &request) {
            return refused(ErrorCode::RebootstrapRequired);
        }
    }
    ApiVersionsResponse {
        api_keys: SERVED.iter().map(|served| advertise(served.api)).collect(),
        ..with_features(&call)
    }
}

fn with_features(call: &Call) -> ApiVersionsResponse {
    let features = features::all(&call.broker().config());
    let supported = features.iter().filter(|_| call.version >= MIN_ZERO_SINCE);
    let finalized = features.iter().filter(|feature| feature.level > 0);
    ApiVersionsResponse {
        supported_features: supported
            .map(|feature| SupportedFeatureKey {
                name: StrBytes::from_static(feature.name),
                min_version: 0,
                max_version: feature.max,
            })
            .collect(),
        finalized_features_epoch: FEATURES_EPOCH,
        finalized_features: finalized
            .map(|feature| FinalizedFeatureKey {
                name: StrBytes::from_static(feature.name),
                max_version_level: feature.level,
                min_version_level: feature.level,
            })
            .collect(),
        ..ApiVersionsResponse::default()
    }
}

/// The answer, in version 0, to a version that is not known here: which versions are (KIP-511).
pub(crate) fn unsupported(_call: &Call) -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![advertise(ApiKey::ApiVersions)],
        ..ApiVersionsResponse::default()
    }
}

fn refused(error: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse { error_code: error.code(), ..ApiVersionsResponse::default() }
}

fn advertise(api: ApiKey) -> ApiVersion {
    let versions = SERVED.iter().find(|served| served.api == api);
    let (min, max) =
        versions.map_or((0, -1), |served| (*served.versions.start(), *served.versions.end()));
    let min_version = if api == ApiKey::Produce { PRODUCE_MIN_ADVERTISED } else { min };
    ApiVersion { api_key: api.code(), min_version, max_version: max }
}

/// Letters, digits, dots and dashes, neither first nor last a dot or dash (KIP-511).
fn is_software_name(name: &StrBytes) -> bool {
    let bytes = name.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let ends = [bytes.first(), bytes.last()];
    bytes.iter().all(inner) && ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
}

/// Whether the client meant another broker, or one of another cluster (KIP-1242).
fn is_misrouted(call: &Call, request: &ApiVersionsRequest) -> bool {
    let node = call.broker().node();
    request.cluster_id.as_ref().is_some_and(|cluster| {
        cluster.as_str() != node.cluster_id.to_string() || request.node_id != node.id.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pitfall 2.
    #[test]
    fn software_names_are_checked() {
        let cases = [
            ("apache-kafka-java", true),
            ("3.9.1", true),
            ("x", true),
            ("", false),
            ("-x", false),
            ("x.", false),
            ("a b", false),
            ("a_b", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_software_name(&StrBytes::from(name)), expected, "{name:?}");
        }
    }

    /// Pitfall 4.
    #[test]
    fn what_is_advertised_is_what_is_served() {
        for served in SERVED {
            let advertised = advertise(served.api);
            assert_eq!(advertised.max_version, *served.versions.end());
            assert!(served.api.versions().contains(served.versions.start()), "{served:?}");
            assert!(served.api.versions().contains(served.versions.end()), "{served:?}");
        }
        assert_eq!(advertise(ApiKey::Produce).min_version, 0);
    }
}
