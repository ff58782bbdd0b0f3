//! The records of internal topics and the consumers' protocol against bytes written by hand from
//! the formats' descriptions: no other implementation checks these.

use std::fmt::Debug;

use bytes::Bytes;
use millstream_wire::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol,
};
use millstream_wire::consumer_protocol_assignment::TopicPartition;
use millstream_wire::group_metadata_value::MemberMetadata;
use millstream_wire::stored::{
    StoredKey, decode_key, decode_value, encode_key, encode_value, prefix,
};
use millstream_wire::transaction_log_value::PartitionsSchema;
use millstream_wire::{
    ConsumerGroupMemberMetadataValue, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    DecodeError, GroupMetadataKey, GroupMetadataValue, Message, OffsetCommitKey, OffsetCommitValue,
    TransactionLogKey, TransactionLogValue,
};

#[track_caller]
fn check_key<K: StoredKey + Debug>(key: &K, parts: &[&[u8]]) {
    let bytes = Bytes::from(parts.concat());
    assert_eq!(encode_key(key).as_ref(), Ok(&bytes));
    assert_eq!(decode_key::<K>(&bytes).as_ref(), Ok(key));
}

#[track_caller]
fn check_value<M: Message>(value: &M, version: i16, parts: &[&[u8]]) {
    let bytes = Bytes::from(parts.concat());
    assert_eq!(encode_value(value, version).as_ref(), Ok(&bytes));
    assert_eq!(decode_value::<M>(&bytes).as_ref(), Ok(value));
}

#[test]
fn offset_commits() {
    let key = OffsetCommitKey { group: "g".into(), topic: "orders".into(), partition: 2 };
    check_key(&key, &[b"\0\x01", b"\0\x01g", b"\0\x06orders", b"\0\0\0\x02"]);

    let value = OffsetCommitValue {
        offset: 258,
        leader_epoch: 7,
        metadata: "m".into(),
        commit_timestamp: 3,
        ..OffsetCommitValue::default()
    };
    let offset = b"\0\0\0\0\0\0\x01\x02";
    let time = b"\0\0\0\0\0\0\0\x03";
    check_value(&value, 3, &[b"\0\x03", offset, b"\0\0\0\x07", b"\0\x01m", time]);
    // Flexible: a compact string, and no tagged fields.
    check_value(&value, 4, &[b"\0\x04", offset, b"\0\0\0\x07", b"\x02m", time, b"\0"]);
    let expiring = OffsetCommitValue { leader_epoch: -1, expire_timestamp: 3, ..value };
    check_value(&expiring, 1, &[b"\0\x01", offset, b"\0\x01m", time, time]);
}

#[test]
fn classic_groups() {
    let key = GroupMetadataKey { group: "g".into() };
    check_key(&key, &[b"\0\x02", b"\0\x01g"]);

    let member = MemberMetadata {
        member_id: "m".into(),
        group_instance_id: None,
        client_id: "c".into(),
        client_host: "h".into(),
        rebalance_timeout: 1,
        session_timeout: 2,
        subscription: Bytes::from_static(b"s"),
        assignment: Bytes::new(),
    };
    let value = GroupMetadataValue {
        protocol_type: "consumer".into(),
        generation: 5,
        protocol: Some("range".into()),
        leader: None,
        current_state_timestamp: 9,
        members: vec![member],
    };
    check_value(
        &value,
        3,
        &[
            b"\0\x03",
            b"\0\x08consumer",
            b"\0\0\0\x05",
            b"\0\x05range",
            b"\xff\xff",
            b"\0\0\0\0\0\0\0\x09",
            b"\0\0\0\x01",
            b"\0\x01m\xff\xff\0\x01c\0\x01h",
            b"\0\0\0\x01\0\0\0\x02",
            b"\0\0\0\x01s\0\0\0\0",
        ],
    );
}

#[test]
fn transactions() {
    let key = TransactionLogKey { transactional_id: "t".into() };
    check_key(&key, &[b"\0\0", b"\0\x01t"]);

    let value = TransactionLogValue {
        producer_id: 4,
        producer_epoch: 1,
        transaction_timeout_ms: 60_000,
        transaction_status: 1,
        transaction_partitions: Some(vec![PartitionsSchema {
            topic: "o".into(),
            partition_ids: vec![3],
        }]),
        transaction_last_update_timestamp_ms: 5,
        transaction_start_timestamp_ms: 6,
        ..TransactionLogValue::default()
    };
    let start = b"\0\0\0\0\0\0\0\x04\0\x01\0\0\xea\x60\x01";
    let times = b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06";
    let partitions = b"\0\0\0\x01\0\x01o\0\0\0\x01\0\0\0\x03";
    check_value(&value, 0, &[b"\0\0", start, partitions, times]);
    // Tag 2, two bytes: the transaction version.
    let value = TransactionLogValue { client_transaction_version: 2, ..value };
    let partitions = b"\x02\x02o\x02\0\0\0\x03\0";
    check_value(&value, 1, &[b"\0\x01", start, partitions, times, b"\x01\x02\x02\0\x02"]);
}

#[test]
fn a_nullable_struct_in_a_tagged_field_follows_a_varint() {
    let mut value = ConsumerGroupMemberMetadataValue {
        instance_id: None,
        rack_id: None,
        server_assignor: None,
        subscribed_topic_regex: None,
        ..ConsumerGroupMemberMetadataValue::default()
    };
    let fields = b"\0\0\x01\x01\x01\0\xff\xff\xff\xff\0";
    check_value(&value, 0, &[b"\0\0", fields, b"\0"]);
    value.classic_member_metadata = Some(ClassicMemberMetadata {
        session_timeout_ms: 1,
        supported_protocols: vec![ClassicProtocol {
            name: "r".into(),
            metadata: Bytes::from_static(b"m"),
        }],
    });
    // Tag 0, twelve bytes: 1 for "there", the timeout, one protocol, no tagged fields.
    let classic = b"\x01\0\x0c\x01\0\0\0\x01\x02\x02r\x02m\0\0";
    check_value(&value, 0, &[b"\0\0", fields, classic]);
    let null = Bytes::from([b"\0\0", fields.as_slice(), b"\x01\0\x01\0"].concat());
    let decoded = decode_value::<ConsumerGroupMemberMetadataValue>(&null).unwrap();
    assert_eq!(decoded.classic_member_metadata, None);
}

#[test]
fn consumers_tell_each_other_what_they_want_and_get() {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["a".into()],
        user_data: None,
        ..ConsumerProtocolSubscription::default()
    };
    check_value(&subscription, 0, &[b"\0\0", b"\0\0\0\x01\0\x01a", b"\xff\xff\xff\xff"]);
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: vec![TopicPartition { topic: "a".into(), partitions: vec![0, 1] }],
        user_data: Some(Bytes::from_static(b"u")),
    };
    let partitions = b"\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x01";
    check_value(&assignment, 1, &[b"\0\x01", partitions, b"\0\0\0\x01u"]);
}

#[test]
fn what_is_of_another_type_or_too_new_is_an_error() {
    let key = encode_key(&GroupMetadataKey { group: "g".into() }).unwrap();
    assert_eq!(prefix(&key), Ok(2));
    let wrong = decode_key::<OffsetCommitKey>(&key);
    assert_eq!(wrong, Err(DecodeError::Invalid { field: "type" }));
    let new = Bytes::from_static(b"\0\x63rest");
    assert_eq!(
        decode_value::<OffsetCommitValue>(&new),
        Err(DecodeError::UnsupportedVersion { message: "OffsetCommitValue", version: 99 })
    );
    let short = Bytes::from_static(b"\0");
    assert!(matches!(prefix(&short), Err(DecodeError::Truncated { .. })));
    let long = Bytes::from([key.as_ref(), b"x"].concat());
    assert_eq!(
        decode_key::<GroupMetadataKey>(&long),
        Err(DecodeError::Trailing { message: "GroupMetadataKey" })
    );
}
