//! UpdateFeatures (57): raises or lowers what the cluster uses of its brokers' features (KIP-584).
//! Levels follow from the configuration here: a request may ask for what there is, and nothing else.
//!
//! v1: kinds of downgrades, and only checking. v2: one error for all.

use millstream_broker::acl::Operation;
use millstream_wire::update_features_request::FeatureUpdateKey;
use millstream_wire::update_features_response::UpdatableFeatureResult;
use millstream_wire::{ErrorCode, UpdateFeaturesRequest, UpdateFeaturesResponse};

use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::{Refusal, text};
use crate::features;

/// Upgrade, safe downgrade, unsafe downgrade (`FeatureUpdate.UpgradeType`).
const UPGRADE_TYPES: [i8; 3] = [1, 2, 3];

const TYPES_SINCE: i16 = 1;
const ONE_ERROR_SINCE: i16 = 2;

pub(crate) async fn handle(call: Call, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let checked = call
        .require(Operation::Alter, Resource::Cluster)
        .and_then(|()| request.feature_updates.iter().try_for_each(|update| check(&call, update)));
    let (error, error_message) = checked.err().unzip();
    let error_code = error.unwrap_or(ErrorCode::None).code();
    let mut response =
        UpdateFeaturesResponse { error_code, error_message, ..UpdateFeaturesResponse::default() };
    // All are done or none: where one is refused, the error of the whole stands for each.
    if call.version < ONE_ERROR_SINCE && error.is_none() {
        let done = request.feature_updates.into_iter().map(|update| UpdatableFeatureResult {
            feature: update.feature,
            error_code,
            error_message: None,
        });
        response.results = done.collect();
    }
    response
}

fn check(call: &Call, update: &FeatureUpdateKey) -> Result<(), Refusal> {
    let (name, level) = (&update.feature, update.max_version_level);
    let refuse = |why: &dyn std::fmt::Display| {
        let why = text(&format_args!("`{name}` can't be set to {level}: {why}"));
        Err((ErrorCode::InvalidUpdateVersion, why))
    };
    if call.version >= TYPES_SINCE && !UPGRADE_TYPES.contains(&update.upgrade_type) {
        return refuse(&format_args!("there is no kind of upgrade {}", update.upgrade_type));
    }
    let features = features::all(&call.broker().config());
    match features.iter().find(|feature| feature.name == name.as_str()) {
        _ if level < 0 => refuse(&"levels are 0 or more"),
        Some(feature) if level == feature.level => Ok(()),
        Some(feature) => refuse(&format_args!("it is {} here, {}", feature.level, feature.why)),
        None if level == 0 => Ok(()),
        None => refuse(&"this broker does not have that feature"),
    }
}
