//! What a load sends, encoded before the clock starts.

use std::ops::Range;

use anyhow::Context as _;
use bytes::Bytes;
use millstream_record::batch::HEADER_SIZE;
use millstream_record::{BatchBuilder, BatchHeader, Crc};
use millstream_types::{ProducerEpoch, ProducerId, Timestamp};
use millstream_wire::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_wire::{ProduceRequest, Records, StrBytes, encode_request};
use serde::{Deserialize, Serialize};

/// Flexible, topics by name: what both brokers and all current clients speak.
pub(crate) const PRODUCE_VERSION: i16 = 12;

/// All in-sync replicas, which is the one node.
const ACKS_ALL: i16 = -1;

/// What a client waits for the answer.
const TIMEOUT_MS: i32 = 30_000;

/// `max.request.size` of the Java client: how many partitions' batches go into one request.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Room that a record takes beside its value: lengths, deltas, an empty key and no headers.
const RECORD_OVERHEAD_MAX: usize = 24;

/// Where a batch's checksum ends, and what it is of begins.
const CRC_END: usize = 21;

/// No batch of a paced load has more records.
pub(crate) const RECORDS_MAX: usize = 64;

/// What one throughput load looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// The most bytes of a batch, its header included.
    pub(crate) batch_bytes: usize,
    /// Bytes of each record's value.
    pub(crate) record_bytes: usize,
    /// Partitions of the topic.
    pub(crate) partitions: i32,
    /// Connections.
    pub(crate) producers: usize,
}

/// A shape, encoded for one topic.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// Whole requests; together they have each partition once.
    pub(crate) frames: Vec<Bytes>,
    /// Bytes of each batch.
    pub(crate) batch_bytes: u64,
    /// Records in each batch.
    pub(crate) records: u64,
}

/// Batches of one to [`RECORDS_MAX`] records of the same size, for loads that send what has come.
#[derive(Clone, Debug)]
pub(crate) struct Batches {
    topic: String,
    /// The one at `n` has `n + 1` records.
    by_count: Vec<Bytes>,
}

impl Shape {
    /// A name for people and for samples.
    pub(crate) fn label(&self) -> String {
        format!(
            "{} records, {} batches, {}, {}",
            size(self.record_bytes),
            size(self.batch_bytes),
            count(usize::try_from(self.partitions).unwrap_or_default(), "partition"),
            count(self.producers, "producer"),
        )
    }

    /// Encodes the requests that produce this shape to `topic`: one batch to a partition, and as many
    /// partitions to a request as the Java client would put in.
    ///
    /// # Errors
    ///
    /// When a batch or a request can't be encoded.
    pub(crate) fn encode(&self, topic: &str, now: Timestamp) -> anyhow::Result<Encoded> {
        let (batch, records) = self.batch(BatchBuilder::new(), now, None)?;
        let together = (REQUEST_BYTES_MAX / batch.len()).max(1);
        let partitions: Vec<i32> = (0..self.partitions).collect();
        let frames = partitions
            .chunks(together)
            .map(|chunk| {
                let batches = chunk.iter().map(|partition| (*partition, batch.clone()));
                produce_frame(topic, None, batches)
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Encoded { frames, batch_bytes: batch.len() as u64, records })
    }

    /// The same with a key to each record, and so many different batches to each partition: sent again
    /// and again, the keys stay the same.
    ///
    /// # Errors
    ///
    /// When a batch or a request can't be encoded.
    pub(crate) fn encode_keyed(
        &self,
        topic: &str,
        now: Timestamp,
        batches: u64,
    ) -> anyhow::Result<Encoded> {
        let mut encoded = Encoded { frames: Vec::new(), batch_bytes: 0, records: 0 };
        for number in 0..batches {
            let (batch, records) = self.batch(BatchBuilder::new(), now, Some(number))?;
            (encoded.batch_bytes, encoded.records) = (batch.len() as u64, records);
            let batches = (0..self.partitions).map(|partition| (partition, batch.clone()));
            encoded.frames.push(produce_frame(topic, None, batches)?);
        }
        Ok(encoded)
    }

    /// The same for a producer with an id, of a transaction where it has a transactional id.
    ///
    /// # Errors
    ///
    /// When a batch or a request can't be encoded.
    pub(crate) fn encode_numbered(
        &self,
        topic: &str,
        now: Timestamp,
        transactional_id: Option<&str>,
    ) -> anyhow::Result<Numbered> {
        let mut builder = BatchBuilder::new().producer(ProducerId(0), ProducerEpoch(0), 0);
        if transactional_id.is_some() {
            builder = builder.transactional();
        }
        let (batch, records) = self.batch(builder, now, None)?;
        let together = (REQUEST_BYTES_MAX / batch.len()).max(1);
        let partitions: Vec<i32> = (0..self.partitions).collect();
        let requests = partitions.chunks(together).map(|chunk| {
            let batches = chunk.iter().map(|partition| (*partition, batch.clone()));
            let frame = produce_frame(topic, transactional_id, batches)?.to_vec();
            let head = batch.get(..HEADER_SIZE).context("a batch")?;
            let mut places = Vec::new();
            let mut from = 0;
            for partition in chunk {
                let rest = frame.get(from..).unwrap_or_default();
                let at = rest.windows(HEADER_SIZE).position(|bytes| bytes == head);
                let at = from + at.context("a batch in its request")?;
                places.push((*partition, at..at + batch.len()));
                from = at + batch.len();
            }
            Ok(NumberedRequest { frame, places })
        });
        let requests = requests.collect::<anyhow::Result<_>>()?;
        Ok(Numbered { requests, batch_bytes: batch.len() as u64, records })
    }

    /// One batch and how many records it has; with keys that no batch of another number has.
    fn batch(
        &self,
        mut builder: BatchBuilder,
        now: Timestamp,
        keys_of: Option<u64>,
    ) -> anyhow::Result<(Bytes, u64)> {
        let mut number = 0_u64;
        loop {
            let value = value(self.record_bytes, number);
            let key = keys_of.map(|batch| (batch << 32 | number).to_be_bytes());
            let size =
                builder.append(now, key.as_ref().map(<[u8; 8]>::as_slice), Some(&value), &[]);
            number += 1;
            if size + self.record_bytes + RECORD_OVERHEAD_MAX > self.batch_bytes {
                break;
            }
        }
        Ok((builder.build().context("building a batch")?, number))
    }
}

/// Requests of one producer, which have its id and the sequence numbers put in before they are sent.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    /// Together they have each partition once.
    pub(crate) requests: Vec<NumberedRequest>,
    /// Bytes of each batch.
    pub(crate) batch_bytes: u64,
    /// Records in each batch.
    pub(crate) records: u64,
}

/// One of [`Numbered`].
#[derive(Clone, Debug)]
pub(crate) struct NumberedRequest {
    frame: Vec<u8>,
    /// Where the batch of each partition is.
    places: Vec<(i32, Range<usize>)>,
}

impl NumberedRequest {
    /// The partitions that it writes to.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.places.iter().map(|(partition, _)| *partition)
    }

    /// The request of this producer, with the first sequence number of each partition's batch.
    ///
    /// # Errors
    ///
    /// When it holds no batches after all.
    pub(crate) fn fill(
        &mut self,
        (id, epoch): (i64, i16),
        sequence: impl Fn(i32) -> i32,
    ) -> anyhow::Result<&[u8]> {
        for (partition, place) in &self.places {
            let batch = self.frame.get_mut(place.clone()).context("a batch in its request")?;
            let header = BatchHeader {
                producer_id: ProducerId(id),
                producer_epoch: ProducerEpoch(epoch),
                base_sequence: sequence(*partition),
                ..BatchHeader::decode(batch)?
            };
            let (head, records) = batch.split_at_mut(HEADER_SIZE);
            head.copy_from_slice(&header.encode());
            // Of all that comes after it.
            let crc = Crc::new().and(head.get(CRC_END..).unwrap_or_default()).and(records);
            head.copy_from_slice(&BatchHeader { crc: crc.value(), ..header }.encode());
        }
        Ok(&self.frame)
    }
}

impl Batches {
    /// # Errors
    ///
    /// When a batch can't be encoded.
    pub(crate) fn new(topic: &str, record_bytes: usize, now: Timestamp) -> anyhow::Result<Self> {
        Self::made(topic, record_bytes, now, false)
    }

    /// The same with keys, of which each batch has the same.
    ///
    /// # Errors
    ///
    /// When a batch can't be encoded.
    pub(crate) fn keyed(topic: &str, record_bytes: usize, now: Timestamp) -> anyhow::Result<Self> {
        Self::made(topic, record_bytes, now, true)
    }

    fn made(
        topic: &str,
        record_bytes: usize,
        now: Timestamp,
        is_keyed: bool,
    ) -> anyhow::Result<Self> {
        let batch = |records: u64| -> anyhow::Result<Bytes> {
            let mut builder = BatchBuilder::new();
            for number in 0..records {
                let key = number.to_be_bytes();
                let key = is_keyed.then_some(key.as_slice());
                builder.append(now, key, Some(&value(record_bytes, number)), &[]);
            }
            builder.build().context("building a batch")
        };
        let by_count = (1..=RECORDS_MAX as u64).map(batch).collect::<anyhow::Result<_>>()?;
        Ok(Self { topic: topic.to_owned(), by_count })
    }

    /// One request with so many records for each of these partitions.
    ///
    /// # Errors
    ///
    /// When a partition gets none, or more than [`RECORDS_MAX`].
    pub(crate) fn request(&self, counts: &[(i32, usize)]) -> anyhow::Result<Bytes> {
        let batches = counts.iter().map(|(partition, count)| {
            let batch = count.checked_sub(1).and_then(|at| self.by_count.get(at));
            Ok((*partition, batch.context("a batch of so many records")?.clone()))
        });
        let batches: Vec<_> = batches.collect::<anyhow::Result<_>>()?;
        produce_frame(&self.topic, None, batches.into_iter())
    }
}

/// `1 KiB`, `100 B`, `1 MB`.
fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1_000_000 => format!("{} MB", bytes / 1_000_000),
        bytes if bytes >= 1024 => format!("{} KiB", bytes / 1024),
        bytes => format!("{bytes} B"),
    }
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
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

/// The client id is the topic's name, so that quotas can tell producers apart.
fn produce_frame(
    topic: &str,
    transactional_id: Option<&str>,
    batches: impl Iterator<Item = (i32, Bytes)>,
) -> anyhow::Result<Bytes> {
    let partition_data = batches
        .map(|(index, batch)| PartitionProduceData { index, records: Some(Records::from(batch)) });
    let topic_data = TopicProduceData {
        name: StrBytes::from(topic.to_owned()),
        partition_data: partition_data.collect(),
        ..TopicProduceData::default()
    };
    let request = ProduceRequest {
        transactional_id: transactional_id.map(|id| StrBytes::from(id.to_owned())),
        acks: ACKS_ALL,
        timeout_ms: TIMEOUT_MS,
        topic_data: vec![topic_data],
    };
    let client_id = Some(StrBytes::from(topic.to_owned()));
    let segments = encode_request(&request, PRODUCE_VERSION, 1, client_id)?;
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

    /// The partitions of a request, and how many records each gets.
    #[track_caller]
    fn read(frame: &Bytes, batch_bytes_max: usize) -> Vec<(i32, usize)> {
        let frame = frame.slice(4..);
        let mut reader = Reader::new(&frame);
        let (_, header) = decode_request_header(&mut reader).unwrap();
        assert_eq!(header.request_api_version, PRODUCE_VERSION);
        let request = ProduceRequest::decode(&mut reader, PRODUCE_VERSION).unwrap();
        let data = request.topic_data[0].partition_data.iter();
        data.map(|data| {
            let bytes = data.records.as_ref().unwrap().to_bytes();
            assert!(bytes.len() <= batch_bytes_max);
            let valid = ValidBatch::check(bytes, &CHECK).unwrap();
            (data.index, usize::try_from(valid.header().records_count).unwrap())
        })
        .collect()
    }

    #[track_caller]
    fn check(shape: Shape, records: usize, together: &[usize]) {
        let encoded = shape.encode("t", Timestamp(1_000)).unwrap();
        assert_eq!(encoded.records, records as u64);
        let requests: Vec<_> =
            encoded.frames.iter().map(|frame| read(frame, shape.batch_bytes)).collect();
        let sizes: Vec<_> = requests.iter().map(Vec::len).collect();
        assert_eq!(sizes, together);
        let expected: Vec<_> = (0..shape.partitions).map(|index| (index, records)).collect();
        assert_eq!(requests.concat(), expected);
    }

    #[test]
    fn requests_hold_valid_batches_of_the_asked_size() {
        let shape = |batch_bytes, record_bytes, partitions| Shape {
            batch_bytes,
            record_bytes,
            partitions,
            producers: 1,
        };
        check(shape(16 * 1024, 1024, 3), 15, &[3]);
        check(shape(16 * 1024, 100, 1), 148, &[1]);
        check(shape(16 * 1024, 100, 100), 148, &[64, 36]);
        check(shape(1_000_000, 1024, 2), 967, &[1, 1]);
    }

    #[test]
    fn a_keyed_load_has_a_key_for_each_record_and_others_in_each_batch() {
        let shape = Shape { batch_bytes: 4096, record_bytes: 100, partitions: 2, producers: 1 };
        let encoded = shape.encode_keyed("t", Timestamp(1_000), 3).unwrap();
        assert_eq!(encoded.frames.len(), 3);
        let records = usize::try_from(encoded.records).unwrap();
        for frame in &encoded.frames {
            assert_eq!(read(frame, 4096), [(0, records), (1, records)]);
        }
        assert_ne!(encoded.frames[0], encoded.frames[1]);
    }

    #[test]
    fn a_numbered_request_is_its_producers() {
        let shape = Shape { batch_bytes: 4096, record_bytes: 100, partitions: 3, producers: 1 };
        let mut numbered = shape.encode_numbered("t", Timestamp(1_000), Some("id")).unwrap();
        assert_eq!(numbered.requests.len(), 1);
        let request = &mut numbered.requests[0];
        for (id, epoch, base) in [(5, 2, 0), (1 << 40, 7, 900)] {
            let filled = request.fill((id, epoch), |partition| base + partition).unwrap();
            let frame = Bytes::copy_from_slice(filled);
            let records = usize::try_from(numbered.records).unwrap();
            // The checksums are right.
            assert_eq!(read(&frame, 4096), [(0, records), (1, records), (2, records)]);
            for (partition, place) in &request.places {
                let header = BatchHeader::decode(&frame[place.clone()]).unwrap();
                assert_eq!((header.producer_id.0, header.producer_epoch.0), (id, epoch));
                assert_eq!(header.base_sequence, base + partition);
                assert!(header.attributes.is_transactional());
            }
        }
        assert_eq!(request.partitions().collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_paced_request_holds_what_has_come() {
        let batches = Batches::new("t", 100, Timestamp(1_000)).unwrap();
        let counts = [(7, 1), (0, 3), (5, RECORDS_MAX)];
        assert_eq!(read(&batches.request(&counts).unwrap(), 1 << 20), counts);
        batches.request(&[(1, 0)]).unwrap_err();
        batches.request(&[(1, RECORDS_MAX + 1)]).unwrap_err();
    }
}
