//! Which requests a broker offers, in which versions.

use bytes::Bytes;
use millstream_wire::{ApiVersionsResponse, DecodeError, ErrorCode, Message as _, Reader, Request};

/// What a broker answered to `ApiVersions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiVersions {
    pub(super) error: ErrorCode,
    /// Sorted by key.
    offered: Vec<Offered>,
}

/// One API and the versions in which it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The API's key.
    pub key: i16,
    /// The oldest version.
    pub oldest: i16,
    /// The newest version.
    pub newest: i16,
}

impl ApiVersions {
    /// Reads the answer to a request of `version`.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`].
    pub(super) fn decode(body: &Bytes, version: i16) -> Result<Self, DecodeError> {
        // A broker that doesn't know the version says so in version 0 (KIP-511); in every version
        // the error comes first.
        let unsupported = body.starts_with(&ErrorCode::UnsupportedVersion.code().to_be_bytes());
        let version = if unsupported { 0 } else { version };
        let answer = ApiVersionsResponse::decode(&mut Reader::new(body), version)?;
        let offered = answer.api_keys.iter().map(|api| Offered {
            key: api.api_key,
            oldest: api.min_version,
            newest: api.max_version,
        });
        let mut offered: Vec<_> = offered.collect();
        offered.sort_unstable_by_key(|api| api.key);
        Ok(Self { error: ErrorCode::or_unknown(answer.error_code), offered })
    }

    /// The newest version of `R` that the broker offers and this client knows, at most `ceiling`.
    #[must_use]
    pub fn newest<R: Request>(&self, ceiling: i16) -> Option<i16> {
        let at = self.offered.binary_search_by_key(&R::KEY, |api| api.key).ok()?;
        let offered = self.offered.get(at)?;
        let newest = offered.newest.min(*R::VERSIONS.end()).min(ceiling);
        (newest >= offered.oldest.max(*R::VERSIONS.start())).then_some(newest)
    }

    /// Everything that is offered, by key.
    #[must_use]
    pub fn offered(&self) -> &[Offered] {
        &self.offered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_wire::api_versions_response::ApiVersion;
    use millstream_wire::{FetchRequest, MetadataRequest};

    fn answer(error: ErrorCode, keys: &[(i16, i16, i16)], version: i16) -> Bytes {
        let api_keys = keys.iter().map(|&(api_key, min_version, max_version)| ApiVersion {
            api_key,
            min_version,
            max_version,
        });
        let answer = ApiVersionsResponse {
            error_code: error.code(),
            api_keys: api_keys.collect(),
            ..Default::default()
        };
        answer.to_bytes(version).unwrap()
    }

    #[track_caller]
    fn check(offered: (i16, i16), ceiling: i16, expected: Option<i16>) {
        let body = answer(ErrorCode::None, &[(3, 0, 9), (1, offered.0, offered.1)], 3);
        let versions = ApiVersions::decode(&body, 3).unwrap();
        assert_eq!(versions.newest::<FetchRequest>(ceiling), expected, "{offered:?} {ceiling}");
    }

    #[test]
    fn the_newest_version_that_both_know() {
        check((4, 11), i16::MAX, Some(11));
        check((0, 4), i16::MAX, Some(4));
        check((4, 99), i16::MAX, Some(*FetchRequest::VERSIONS.end()));
        check((4, 99), 12, Some(12));
        check((13, 18), 12, None);
        check((0, 3), i16::MAX, None);
        check((99, 100), i16::MAX, None);
    }

    #[test]
    fn what_is_not_offered_has_no_version() {
        let versions = ApiVersions::decode(&answer(ErrorCode::None, &[(1, 4, 11)], 0), 0).unwrap();
        assert_eq!(versions.newest::<MetadataRequest>(i16::MAX), None);
    }

    #[test]
    fn an_unsupported_version_is_answered_in_version_0() {
        let body = answer(ErrorCode::UnsupportedVersion, &[(18, 0, 2)], 0);
        let versions = ApiVersions::decode(&body, 4).unwrap();
        assert_eq!(versions.error, ErrorCode::UnsupportedVersion);
        assert_eq!(versions.newest::<millstream_wire::ApiVersionsRequest>(4), Some(2));
    }
}
