//! What is not a law of all messages: strings, ropes, frames, headers, codes and stored records.

use std::collections::HashMap;

use bytes::Bytes;
use millstream_wire::fetch_response::{FetchableTopicResponse, PartitionData};
use millstream_wire::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_wire::produce_response::NodeEndpoint;
use millstream_wire::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, DecodeError, EncodeError, ErrorCode,
    FetchRequest, FetchResponse, HeartbeatRequest, Message, MetadataRequest, ProduceRequest,
    ProduceResponse, Reader, Records, Remedy, Request, RequestHeader, ResponseHeader, StrBytes,
    UnknownCode, decode_request_header, encode_request, encode_response,
};

fn produce(records: Records) -> ProduceRequest {
    let partition = PartitionProduceData { index: 3, records: Some(records) };
    let topic = TopicProduceData {
        name: "orders".into(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    ProduceRequest { acks: -1, topic_data: vec![topic], ..ProduceRequest::default() }
}

fn is_part_of(part: &[u8], whole: &[u8]) -> bool {
    whole.as_ptr_range().contains(&part.as_ptr())
}

#[test]
fn strings_are_utf8_and_found_by_str() {
    assert_eq!(StrBytes::from_utf8(Bytes::from_static(b"\xff")), None);
    let text = StrBytes::from_utf8(Bytes::from_static("größe".as_bytes())).unwrap();
    assert_eq!(text, "größe");
    assert_eq!((text.len(), text.to_string()), (7, "größe".to_owned()));
    assert_eq!(HashMap::from([(text.clone(), 1)]).get("größe"), Some(&1));
    assert!(!is_part_of(text.detached().as_bytes(), text.as_bytes()));
    assert_eq!(text.detached(), text);
}

#[test]
fn ropes_are_equal_however_they_are_cut() {
    let mut rope = Records::new();
    rope.push(Bytes::new());
    rope.push_batch(*b"0123456789abcdef", Bytes::from_static(b"gh"));
    rope.push(Bytes::from_static(b"i"));
    assert_eq!(rope, Records::from(Bytes::from_static(b"0123456789abcdefghi")));
    assert_ne!(rope, Records::from(Bytes::from_static(b"0123456789abcdefghj")));
    assert_eq!((rope.len(), rope.pieces().count()), (19, 3));
    assert_eq!(rope.to_bytes(), b"0123456789abcdefghi".as_slice());
    let one = Records::from(Bytes::from(vec![7; 10]));
    assert!(is_part_of(&one.to_bytes(), one.pieces().next().unwrap()));
    assert_eq!(Records::new().pieces().count(), 0);
}

#[test]
fn records_are_never_copied() {
    let stored = Bytes::from(vec![9; 70_000]);
    let mut records = Records::new();
    records.push_batch([1; 16], stored.clone());
    records.push_batch([2; 16], stored.clone());
    let partition = PartitionData { records: Some(records), ..PartitionData::default() };
    let topic = FetchableTopicResponse { partitions: vec![partition], ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
    let segments = encode_response::<FetchRequest>(&response, 12, 1).unwrap();
    let shared = segments.iter().filter(|segment| segment.as_ptr() == stored.as_ptr()).count();
    assert_eq!((segments.len(), shared), (5, 2));

    let request = produce(stored.into());
    let frame = request.to_bytes(9).unwrap();
    let decoded = ProduceRequest::from_bytes(&frame, 9).unwrap();
    let records = decoded.topic_data[0].partition_data[0].records.as_ref().unwrap();
    assert!(is_part_of(records.pieces().next().unwrap(), &frame));
    assert_eq!(decoded, request);
}

#[test]
fn requests_have_a_length_and_a_header() {
    let request = produce(Bytes::from_static(b"batch").into());
    for (version, header_version) in [(3, 1), (8, 1), (9, 2), (12, 2)] {
        let segments = encode_request(&request, version, 77, Some("me".into())).unwrap();
        let frame = Bytes::from(segments.concat());
        let (len, content) = frame.split_first_chunk::<4>().unwrap();
        assert_eq!(i32::from_be_bytes(*len) as usize, content.len());
        let content = frame.slice(4..);
        let mut reader = Reader::new(&content);
        let (api, header) = decode_request_header(&mut reader).unwrap();
        let expected = RequestHeader {
            request_api_key: 0,
            request_api_version: version,
            correlation_id: 77,
            client_id: Some("me".into()),
        };
        assert_eq!((api, header), (ApiKey::Produce, expected));
        assert_eq!(ProduceRequest::request_header_version(version), header_version);
        assert_eq!(ProduceRequest::decode(&mut reader, version).as_ref(), Ok(&request));
        assert_eq!(reader.remaining(), 0);
    }
}

#[test]
fn the_header_of_an_api_versions_response_never_changes() {
    let response = ApiVersionsResponse { error_code: 35, ..ApiVersionsResponse::default() };
    for version in ApiVersionsRequest::VERSIONS {
        let segments = encode_response::<ApiVersionsRequest>(&response, version, 5).unwrap();
        let frame = Bytes::from(segments.concat());
        let content = frame.slice(4..);
        let mut reader = Reader::new(&content);
        assert_eq!(ResponseHeader::decode(&mut reader, 0).unwrap().correlation_id, 5);
        assert_eq!(ApiVersionsResponse::decode(&mut reader, version).as_ref(), Ok(&response));
        assert_eq!(reader.remaining(), 0);
    }
    assert_eq!(ApiKey::Fetch.response_header_version(12), 1);
    assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
}

#[test]
fn headers_of_unknown_versions_can_be_read() {
    // ApiVersions v99, correlation 1, client id "x", no tagged fields, and a body not understood.
    let bytes = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 1, 0, 1, b'x', 0, 0xaa, 0xbb]);
    let mut reader = Reader::new(&bytes);
    let (api, header) = decode_request_header(&mut reader).unwrap();
    assert_eq!((api, header.request_api_version, reader.remaining()), (ApiKey::ApiVersions, 99, 2));
    assert_eq!(reader.rest(), [0xaa, 0xbb].as_slice());

    let unknown = Bytes::from_static(&[0x7f, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff]);
    let error = decode_request_header(&mut Reader::new(&unknown)).unwrap_err();
    assert_eq!(error, DecodeError::UnknownApi { key: 0x7f00, version: 2 });
    let short = Bytes::from_static(&[0, 18, 0]);
    assert!(matches!(
        decode_request_header(&mut Reader::new(&short)),
        Err(DecodeError::Truncated { .. })
    ));
}

#[test]
fn unknown_tagged_fields_are_passed_over() {
    let request = HeartbeatRequest { group_id: "g".into(), ..HeartbeatRequest::default() };
    let plain = request.to_bytes(4).unwrap();
    // Two tagged fields, out of order: tag 200 with two bytes, tag 3 with none.
    let mut tagged = plain[..plain.len() - 1].to_vec();
    tagged.extend([2, 0xc8, 0x01, 2, 0xde, 0xad, 3, 0]);
    assert_eq!(HeartbeatRequest::from_bytes(&tagged.clone().into(), 4), Ok(request));
    *tagged.last_mut().unwrap() = 1;
    let error = HeartbeatRequest::from_bytes(&tagged.into(), 4).unwrap_err();
    assert_eq!(error, DecodeError::Truncated { field: "tagged fields" });
}

#[test]
fn known_tagged_fields_have_the_length_that_they_say() {
    let node = NodeEndpoint { node_id: 7, host: "h".into(), port: 9092, rack: None };
    let response = ProduceResponse { node_endpoints: vec![node], ..ProduceResponse::default() };
    let bytes = response.to_bytes(10).unwrap();
    assert_eq!(ProduceResponse::from_bytes(&bytes, 10).as_ref(), Ok(&response));
    let size_at = bytes.len() - 14;
    assert_eq!(bytes[size_at], 13);
    for wrong in [12, 14, 0] {
        let mut damaged = bytes.to_vec();
        damaged[size_at] = wrong;
        damaged.push(0);
        let error = ProduceResponse::from_bytes(&damaged.into(), 10).unwrap_err();
        assert_eq!(error, DecodeError::Invalid { field: "ProduceResponse.NodeEndpoints" });
    }
}

#[test]
fn what_a_version_lacks_is_refused_or_dropped() {
    let strict = MetadataRequest { allow_auto_topic_creation: false, ..Default::default() };
    let field = "MetadataRequest.AllowAutoTopicCreation";
    assert_eq!(strict.to_bytes(3), Err(EncodeError::FieldNotInVersion { field, version: 3 }));
    assert!(strict.to_bytes(4).is_ok());

    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let field = "MetadataRequest.Topics";
    assert_eq!(all.to_bytes(0), Err(EncodeError::Null { field, version: 0 }));
    assert_eq!(all.to_bytes(1).unwrap(), [0xff; 4].as_slice());
    let null = Bytes::from_static(&[0xff; 4]);
    assert_eq!(MetadataRequest::from_bytes(&null, 0), Err(DecodeError::Null { field }));

    let limit = FetchRequest { max_bytes: 5, session_epoch: 0, ..FetchRequest::default() };
    let decoded = FetchRequest::from_bytes(&limit.to_bytes(4).unwrap(), 4).unwrap();
    assert_eq!((decoded.max_bytes, decoded.session_epoch), (5, -1));
}

#[test]
fn strings_are_no_longer_than_the_protocol_allows() {
    for version in [3, 4] {
        for (len, fits) in [(32_767, true), (32_768, false)] {
            let group_id = StrBytes::from("x".repeat(len));
            let request = HeartbeatRequest { group_id, ..HeartbeatRequest::default() };
            let outcome = request.to_bytes(version).map(|bytes| bytes.len() > len);
            let too_long = EncodeError::TooLong { field: "HeartbeatRequest.GroupId" };
            assert_eq!(outcome, if fits { Ok(true) } else { Err(too_long) });
        }
    }
    // A compact length of 32,768 with as many bytes.
    let mut bytes = vec![0x81, 0x80, 0x02];
    bytes.resize(40_000, b'x');
    let error = HeartbeatRequest::from_bytes(&bytes.into(), 4).unwrap_err();
    assert_eq!(error, DecodeError::Invalid { field: "HeartbeatRequest.GroupId" });
}

#[test]
fn arrays_stay_within_the_readers_budget() {
    let request = produce(Records::new());
    let bytes = request.to_bytes(9).unwrap();
    let decode = |budget| ProduceRequest::decode(&mut Reader::with_budget(&bytes, budget), 9).err();
    let (topic, partition) = (size_of::<TopicProduceData>(), size_of::<PartitionProduceData>());
    let topics = DecodeError::OverBudget { field: "ProduceRequest.TopicData" };
    let partitions = DecodeError::OverBudget { field: "TopicProduceData.PartitionData" };
    assert_eq!(decode(topic - 1), Some(topics));
    assert_eq!(decode(topic + partition - 1), Some(partitions));
    assert_eq!(decode(topic + partition), None);
}

#[test]
fn error_codes_have_names_and_remedies() {
    for code in -1..=136 {
        let error = ErrorCode::try_from(code).unwrap();
        assert_eq!((error.code(), ErrorCode::or_unknown(code)), (code, error));
    }
    for unknown in [-2, 137, i16::MAX] {
        assert_eq!(ErrorCode::try_from(unknown), Err(UnknownCode(unknown)));
        assert_eq!(ErrorCode::or_unknown(unknown), ErrorCode::UnknownServerError);
    }
    for (error, name, remedy) in [
        (ErrorCode::None, "NONE", Remedy::GiveUp),
        (ErrorCode::NotCoordinator, "NOT_COORDINATOR", Remedy::Refresh),
        (ErrorCode::RequestTimedOut, "REQUEST_TIMED_OUT", Remedy::Retry),
        (ErrorCode::TransactionAbortable, "TRANSACTION_ABORTABLE", Remedy::Abort),
    ] {
        assert_eq!((error.name(), error.remedy()), (name, remedy));
        assert_eq!(error.retriable(), matches!(remedy, Remedy::Refresh | Remedy::Retry));
    }
    assert_eq!((i16::from(ErrorCode::default()), ErrorCode::UnknownTopicId.code()), (0, 100));
}

#[test]
fn api_keys_are_those_that_clients_use() {
    assert!(ApiKey::ALL.is_sorted());
    for api in ApiKey::ALL {
        assert_eq!(ApiKey::try_from(api.code()), Ok(api));
    }
    // Removed from the protocol, between brokers and controllers only, not assigned.
    for key in [4, 52, 62, 83, 95, -1] {
        assert_eq!(ApiKey::try_from(key), Err(UnknownCode(key)));
    }
    assert_eq!((ApiKey::Metadata.name(), ApiKey::Metadata.versions()), ("Metadata", 0..=13));
    assert_eq!(ApiKey::ALL.len(), 74);
}
