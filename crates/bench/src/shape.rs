//! What a load sends, encoded before the clock starts.

use anyhow::Context as _;
use bytes::Bytes;
use millstream_record::BatchBuilder;
use millstream_types::Timestamp;
use millstream_wire::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_wire::{ProduceRequest, Records, StrBytes, encode_request};
use serde::{Deserialize, Serialize};

/// Flexible, topics by name: what both brokers and all current clients speak.
pub(crate) const PRODUCE_VERSION: i16 = 12;

/// All in-sync replicas, which is the one node.
const ACKS_ALL: i16 = -1;

/// What a client waits for the answer.
const TIMEOUT_MS: i32 = 30_000;

/// Room that a record takes beside its value: lengths, deltas, an empty key and no headers.
const RECORD_OVERHEAD_MAX: usize = 24;

/// What one produce load looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// The most bytes of a batch, its header included.
    pub(crate) batch_bytes: usize,
    /// Bytes of each record's value.
    pub(crate) record_bytes: usize,
    /// Partitions of the topic.
    pub(crate) partitions: i32,
}

/// A shape, encoded for one topic.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// One whole request for each partition.
    pub(crate) frames: Vec<Bytes>,
    /// Bytes of the batch in each request.
    pub(crate) batch_bytes: u64,
    /// Records in each batch.
    pub(crate) records: u64,
}

impl Shape {
    /// One record to a request.
    pub(crate) const fn single(record_bytes: usize, partitions: i32) -> Self {
        Self { batch_bytes: 0, record_bytes, partitions }
    }

    /// A name for people and for samples.
    pub(crate) fn label(&self) -> String {
        let batch = match self.batch_bytes {
            0 => "single record".to_owned(),
            bytes if bytes >= 1_000_000 => format!("{} MB", bytes / 1_000_000),
            bytes => format!("{} KiB", bytes / 1024),
        };
        let record = match self.record_bytes {
            1024 => "1 KiB".to_owned(),
            bytes => format!("{bytes} B"),
        };
        let partitions = match self.partitions {
            1 => "1 partition".to_owned(),
            count => format!("{count} partitions"),
        };
        format!("{batch} batches, {record} records, {partitions}")
    }

    /// Encodes the requests that produce this shape to `topic`.
    ///
    /// # Errors
    ///
    /// When a batch or a request can't be encoded.
    pub(crate) fn encode(&self, topic: &str, now: Timestamp) -> anyhow::Result<Encoded> {
        let mut builder = BatchBuilder::new();
        let mut number = 0_u64;
        loop {
            let value = value(self.record_bytes, number);
            let size = builder.append(now, None, Some(&value), &[]);
            number += 1;
            if size + self.record_bytes + RECORD_OVERHEAD_MAX > self.batch_bytes {
                break;
            }
        }
        let batch = builder.build().context("building a batch")?;
        let frames = (0..self.partitions)
            .map(|partition| produce_frame(topic, partition, batch.clone()))
            .collect::<anyhow::Result<_>>()?;
        Ok(Encoded { frames, batch_bytes: batch.len() as u64, records: number })
    }
}

/// Bytes that do not compress and do not repeat from record to record.
fn value(len: usize, seed: u64) -> Vec<u8> {
    // SplitMix64: any mixing will do, it only has to be the same in each run.
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn produce_frame(topic: &str, partition: i32, batch: Bytes) -> anyhow::Result<Bytes> {
    let records = Some(Records::from(batch));
    let partition_data = PartitionProduceData { index: partition, records };
    let topic_data = TopicProduceData {
        name: StrBytes::from(topic.to_owned()),
        partition_data: vec![partition_data],
        ..TopicProduceData::default()
    };
    let request = ProduceRequest {
        acks: ACKS_ALL,
        timeout_ms: TIMEOUT_MS,
        topic_data: vec![topic_data],
        ..ProduceRequest::default()
    };
    let segments = encode_request(&request, PRODUCE_VERSION, 1, Some(StrBytes::from("bench")))?;
    Ok(Bytes::from(segments.concat()))
}

#[cfg(test)]
mod tests {
    use millstream_record::batch::{Check, Origin, ValidBatch};
    use millstream_wire::{Message as _, Reader, decode_request_header};

    use super::*;

    const CHECK: Check = Check {
        batch_bytes_max: 1 << 20,
        decompressed_bytes_max: 1 << 20,
        full: true,
        keys_required: false,
        origin: Origin::Client,
        timestamps: None,
    };

    #[track_caller]
    fn check(shape: Shape, records: u64) {
        let encoded = shape.encode("t", Timestamp(1_000)).unwrap();
        assert_eq!(encoded.records, records);
        assert_eq!(encoded.frames.len(), usize::try_from(shape.partitions).unwrap());
        for (partition, frame) in encoded.frames.iter().enumerate() {
            let frame = frame.slice(4..);
            let mut reader = Reader::new(&frame);
            let (_, header) = decode_request_header(&mut reader).unwrap();
            assert_eq!(header.request_api_version, PRODUCE_VERSION);
            let request = ProduceRequest::decode(&mut reader, PRODUCE_VERSION).unwrap();
            let data = &request.topic_data[0].partition_data[0];
            assert_eq!(data.index, i32::try_from(partition).unwrap());
            let bytes = data.records.as_ref().unwrap().to_bytes();
            assert_eq!(bytes.len() as u64, encoded.batch_bytes);
            assert!(shape.batch_bytes == 0 || bytes.len() <= shape.batch_bytes);
            let valid = ValidBatch::check(bytes, &CHECK).unwrap();
            assert_eq!(u64::try_from(valid.header().records_count).unwrap(), records);
        }
    }

    #[test]
    fn requests_hold_valid_batches_of_the_asked_size() {
        check(Shape::single(1024, 2), 1);
        check(Shape { batch_bytes: 16 * 1024, record_bytes: 1024, partitions: 3 }, 15);
        check(Shape { batch_bytes: 16 * 1024, record_bytes: 100, partitions: 1 }, 148);
        check(Shape { batch_bytes: 1_000_000, record_bytes: 1024, partitions: 1 }, 967);
    }
}
