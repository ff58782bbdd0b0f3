//! Every message in every version against two independent implementations of the protocol: the
//! crates `kafka-protocol` and `kafka-wire`. Where they and we differ is written down, with the
//! reason, and nothing else may.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_wire_core::{ApiVersion, DecodeLimits};
use millstream_wire::ApiKey;
use millstream_wire::arbitrary::{Random, cases};

/// Another implementation's idea of one message.
struct Oracle {
    /// The other crate.
    by: &'static str,
    message: &'static str,
    versions: RangeInclusive<i16>,
    /// The default message, encoded.
    default_bytes: fn(i16) -> Result<Bytes, String>,
    /// Decodes (all of the bytes) and encodes again.
    recode: fn(Bytes, i16) -> Result<Bytes, String>,
}

const KAFKA_PROTOCOL: &str = "kafka-protocol 0.18";
const KAFKA_WIRE: &str = "kafka-wire 0.1";

fn kafka_protocol<M>(message: &'static str) -> Oracle
where
    M: kafka_protocol::protocol::Message
        + kafka_protocol::protocol::Encodable
        + kafka_protocol::protocol::Decodable
        + Default,
{
    Oracle {
        by: KAFKA_PROTOCOL,
        message,
        versions: M::VERSIONS.min..=M::VERSIONS.max,
        default_bytes: |version| {
            let mut bytes = BytesMut::new();
            M::default().encode(&mut bytes, version).map_err(|error| error.to_string())?;
            Ok(bytes.freeze())
        },
        recode: |mut bytes, version| {
            let message = M::decode(&mut bytes, version).map_err(|error| error.to_string())?;
            if !bytes.is_empty() {
                return Err(format!("{} bytes left", bytes.len()));
            }
            let mut again = BytesMut::new();
            message.encode(&mut again, version).map_err(|error| error.to_string())?;
            Ok(again.freeze())
        },
    }
}

fn kafka_wire<M: kafka_wire::KafkaMessage + Default>(message: &'static str) -> Oracle {
    assert_eq!(message, M::NAME);
    Oracle {
        by: KAFKA_WIRE,
        message,
        versions: M::SUPPORTED_VERSIONS.min().value()..=M::SUPPORTED_VERSIONS.max().value(),
        default_bytes: |version| {
            let bytes = M::default().encode_to_bytes(ApiVersion::new(version));
            bytes.map_err(|error| error.to_string())
        },
        recode: |bytes, version| {
            let version = ApiVersion::new(version);
            let message = M::decode_from_bytes(bytes, version, DecodeLimits::default());
            let message = message.map_err(|error| error.to_string())?;
            message.encode_to_bytes(version).map_err(|error| error.to_string())
        },
    }
}

/// The messages that each crate knows, by their names, which are the same in all three.
macro_rules! oracles {
    (both: $($both:ident),+; kafka_wire: $($newer:ident),+ $(,)?) => {
        vec![
            $(
                kafka_protocol::<kafka_protocol::messages::$both>(stringify!($both)),
                kafka_wire::<kafka_wire::$both>(stringify!($both)),
            )+
            $(kafka_wire::<kafka_wire::$newer>(stringify!($newer)),)+
        ]
    };
}

fn oracles() -> Vec<Oracle> {
    oracles![
        both:
        ProduceRequest, ProduceResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
        ListOffsetsResponse, MetadataRequest, MetadataResponse, OffsetCommitRequest,
        OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, FindCoordinatorRequest,
        FindCoordinatorResponse, JoinGroupRequest, JoinGroupResponse, HeartbeatRequest,
        HeartbeatResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest,
        SyncGroupResponse, DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest,
        ListGroupsResponse, SaslHandshakeRequest, SaslHandshakeResponse, ApiVersionsRequest,
        ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
        DeleteTopicsResponse, DeleteRecordsRequest, DeleteRecordsResponse, InitProducerIdRequest,
        InitProducerIdResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
        AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddOffsetsToTxnRequest,
        AddOffsetsToTxnResponse, EndTxnRequest, EndTxnResponse, WriteTxnMarkersRequest,
        WriteTxnMarkersResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
        DescribeAclsRequest, DescribeAclsResponse, CreateAclsRequest, CreateAclsResponse,
        DeleteAclsRequest, DeleteAclsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
        AlterConfigsRequest, AlterConfigsResponse, AlterReplicaLogDirsRequest,
        AlterReplicaLogDirsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
        SaslAuthenticateRequest, SaslAuthenticateResponse, CreatePartitionsRequest,
        CreatePartitionsResponse, CreateDelegationTokenRequest, CreateDelegationTokenResponse,
        RenewDelegationTokenRequest, RenewDelegationTokenResponse, ExpireDelegationTokenRequest,
        ExpireDelegationTokenResponse, DescribeDelegationTokenRequest,
        DescribeDelegationTokenResponse, DeleteGroupsRequest, DeleteGroupsResponse,
        ElectLeadersRequest, ElectLeadersResponse, IncrementalAlterConfigsRequest,
        IncrementalAlterConfigsResponse, AlterPartitionReassignmentsRequest,
        AlterPartitionReassignmentsResponse, ListPartitionReassignmentsRequest,
        ListPartitionReassignmentsResponse, OffsetDeleteRequest, OffsetDeleteResponse,
        DescribeClientQuotasRequest, DescribeClientQuotasResponse, AlterClientQuotasRequest,
        AlterClientQuotasResponse, DescribeUserScramCredentialsRequest,
        DescribeUserScramCredentialsResponse, AlterUserScramCredentialsRequest,
        AlterUserScramCredentialsResponse, DescribeQuorumRequest, DescribeQuorumResponse,
        UpdateFeaturesRequest, UpdateFeaturesResponse, DescribeClusterRequest,
        DescribeClusterResponse, DescribeProducersRequest, DescribeProducersResponse,
        UnregisterBrokerRequest, UnregisterBrokerResponse, DescribeTransactionsRequest,
        DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
        GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, PushTelemetryRequest,
        PushTelemetryResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
        DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
        ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, ShareGroupDescribeRequest,
        ShareGroupDescribeResponse, ShareFetchRequest, ShareFetchResponse,
        ShareAcknowledgeRequest, ShareAcknowledgeResponse, AddRaftVoterRequest,
        AddRaftVoterResponse, RemoveRaftVoterRequest, RemoveRaftVoterResponse,
        DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse,
        AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse,
        DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse,
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, DefaultPrincipalData,
        EndTxnMarker, KRaftVersionRecord, LeaderChangeMessage, SnapshotFooterRecord,
        SnapshotHeaderRecord, VotersRecord, RequestHeader, ResponseHeader;
        kafka_wire:
        StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, StreamsGroupDescribeRequest,
        StreamsGroupDescribeResponse, StreamsGroupTopologyDescriptionUpdateRequest,
        StreamsGroupTopologyDescriptionUpdateResponse, AbortedTxn, ControlRecordTypeSchema
    ]
}

/// One way in which another implementation differs from us.
struct Difference {
    by: &'static str,
    message: &'static str,
    versions: RangeInclusive<i16>,
    reason: &'static str,
}

/// Messages that another crate reads or writes otherwise.
const DIFFERENCES: [Difference; 3] = [
    Difference {
        by: KAFKA_PROTOCOL,
        message: "LeaderChangeMessage",
        versions: 0..=1,
        reason: "its decoder takes the field `Version` for the message's version, for the voters",
    },
    Difference {
        by: KAFKA_PROTOCOL,
        message: "VotersRecord",
        versions: 0..=0,
        reason: "its decoder takes the field `Version` for the message's version, for the voters",
    },
    Difference {
        by: KAFKA_WIRE,
        message: "StreamsGroupDescribeResponse",
        versions: 1..=1,
        reason: "it was generated before the field `AssignorName` was added to this version",
    },
];

impl Difference {
    fn is_about(&self, oracle: &Oracle, version: i16) -> bool {
        self.by == oracle.by && self.message == oracle.message && self.versions.contains(&version)
    }
}

/// Calls `compare` with every message that we and another crate know, in every version, and fails
/// unless the differences it finds are exactly the known ones.
#[track_caller]
fn check(compare: impl Fn(&Oracle, i16) -> Result<(), String>, known: &[Difference]) {
    let mut unexpected = Vec::new();
    let mut seen = vec![false; known.len()];
    for oracle in &oracles() {
        let case = cases().into_iter().find(|case| case.name == oracle.message);
        let case = case.expect("the table of oracles names our messages");
        let first = case.version_min.max(*oracle.versions.start());
        let last = case.version_max.min(*oracle.versions.end());
        for version in first..=last {
            let Err(difference) = compare(oracle, version) else { continue };
            let at = known.iter().position(|known| known.is_about(oracle, version));
            match at {
                Some(at) => seen[at] = true,
                None => unexpected
                    .push(format!("{} {} v{version}: {difference}", oracle.by, oracle.message)),
            }
        }
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    for (known, seen) in known.iter().zip(seen) {
        assert!(seen, "{} {} agrees now: {}", known.by, known.message, known.reason);
    }
}

#[test]
fn default_messages_are_the_same_bytes() {
    let compare = |oracle: &Oracle, version| {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == oracle.message).unwrap();
        let ours = (case.default_bytes)(version).map_err(|error| error.to_string())?;
        let theirs = (oracle.default_bytes)(version)?;
        if ours == theirs { Ok(()) } else { Err(format!("ours {ours:?}, theirs {theirs:?}")) }
    };
    check(compare, &[]);
}

#[test]
fn arbitrary_messages_are_read_and_written_alike() {
    const ROUNDS: u64 = 200;
    let compare = |oracle: &Oracle, version| {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == oracle.message).unwrap();
        for round in 0..ROUNDS {
            let sample = (case.sample)(&mut Random::new(round), version, version).unwrap();
            let ours = sample.bytes();
            match (oracle.recode)(ours.clone(), version) {
                Ok(theirs) if theirs == ours => {}
                outcome => return Err(format!("{} {outcome:?} is not {ours:?}", sample.text)),
            }
        }
        Ok(())
    };
    check(compare, &DIFFERENCES);
}

/// The newest versions of messages that `kafka-protocol` knows only without them: it was generated
/// from Kafka 4.1. `kafka-wire` has them all.
const MISSING_VERSIONS: [(&str, i16); 23] = [
    ("AddRaftVoterRequest", 1),
    ("AddRaftVoterResponse", 1),
    ("ApiVersionsRequest", 5),
    ("ApiVersionsResponse", 5),
    ("DeleteGroupsRequest", 3),
    ("DeleteGroupsResponse", 3),
    ("DescribeLogDirsRequest", 5),
    ("DescribeLogDirsResponse", 5),
    ("DescribeShareGroupOffsetsRequest", 1),
    ("DescribeShareGroupOffsetsResponse", 1),
    ("InitProducerIdRequest", 6),
    ("ListOffsetsRequest", 11),
    ("ListOffsetsResponse", 11),
    ("OffsetCommitRequest", 10),
    ("OffsetFetchRequest", 10),
    ("ShareAcknowledgeRequest", 2),
    ("ShareAcknowledgeResponse", 2),
    ("ShareFetchRequest", 2),
    ("ShareFetchResponse", 2),
    ("TxnOffsetCommitRequest", 6),
    ("TxnOffsetCommitResponse", 6),
    ("WriteTxnMarkersRequest", 2),
    ("WriteTxnMarkersResponse", 2),
];

#[test]
fn versions_that_only_one_oracle_checks_are_known() {
    let mut missing = BTreeSet::new();
    for oracle in oracles() {
        let case = cases().into_iter().find(|case| case.name == oracle.message).unwrap();
        let versions = case.version_min..=case.version_max;
        for version in versions.filter(|version| !oracle.versions.contains(version)) {
            missing.insert((oracle.by, oracle.message, version));
        }
    }
    let known = MISSING_VERSIONS.into_iter();
    assert_eq!(missing, known.map(|(message, v)| (KAFKA_PROTOCOL, message, v)).collect());
}

#[test]
fn messages_that_no_oracle_knows_are_stored_ones() {
    let known: BTreeSet<&str> = oracles().iter().map(|oracle| oracle.message).collect();
    for case in cases().iter().filter(|case| !known.contains(case.name)) {
        let is_stored = case.name.ends_with("Key") || case.name.ends_with("Value");
        // Newer than both crates.
        let is_new = case.name.starts_with("UnregisterController");
        assert!(is_stored || is_new, "{}", case.name);
    }
}

#[test]
fn header_versions_are_the_same() {
    let mut compared = 0;
    for api in ApiKey::ALL {
        let Ok(theirs) = kafka_protocol::messages::ApiKey::try_from(api.code()) else { continue };
        for version in api.versions() {
            let ours = (api.request_header_version(version), api.response_header_version(version));
            let theirs =
                (theirs.request_header_version(version), theirs.response_header_version(version));
            assert_eq!(ours, theirs, "{} v{version}", api.name());
            compared += 1;
        }
    }
    assert!(compared > 200, "{compared}");
}
