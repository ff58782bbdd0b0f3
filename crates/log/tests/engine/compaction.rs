//! Compaction against a model: the records as they were appended.
//!
//! Whatever is compacted, and however often, and wherever the power goes: a reader of committed data sees
//! the newest committed value of each key and no record that was aborted; every record that is left is
//! what it was, at its offset; what is younger than the lag, or not decided yet, is all there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_env::disk::{Fault, FaultAt, Operation};
use millstream_log::{
    AppendError, CompactionSettings, FirstSequence, Isolation, Log, Origin, Partition,
    PartitionConfig, ReadError,
};
use millstream_record::control::{ControlRecord, EndTransaction, Outcome};
use millstream_record::{BatchBuilder, BatchHeader, Compression, StoredBatch, ValidBatch};
use millstream_types::{Offset, ProducerEpoch, ProducerId, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::model::{number, runner};
use crate::offline::look;
use crate::world::{World, bytes, partition, read_all, run, settle};

const LIMIT: usize = 1 << 20;
const PARTITIONS: i32 = 2;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

/// A record as it was appended.
#[derive(Clone, Debug)]
struct Row {
    key: u8,
    value: Option<u16>,
    time: i64,
    producer: Option<i64>,
    fate: Fate,
}

/// A partition's records by offset, and its producers: the next sequence number and the last batch.
#[derive(Clone, Debug, Default)]
struct Model {
    rows: BTreeMap<i64, Row>,
    next: i64,
    sequences: BTreeMap<i64, (i32, ValidBatch)>,
    open: BTreeSet<i64>,
    start: i64,
}

#[derive(Clone, Debug)]
enum Op {
    /// Keys and values; of a producer, in a transaction or not.
    Append {
        to: i32,
        rows: Vec<(u8, Option<u16>)>,
        who: Who,
        codec: u8,
    },
    End {
        to: i32,
        producer: i64,
        commit: bool,
    },
    LayOut,
    Maintain,
    Compact,
    Pass {
        seconds: u64,
    },
    DeleteRecords {
        from: i32,
        share: f64,
    },
    Restart,
    /// Something happens to the disk while it is compacted.
    Fault {
        after: u64,
        fault: Fault,
    },
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Plain,
    Idempotent(i64),
    Transaction(i64),
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    dirty_ratio: f64,
    lag_min: u64,
    delete_retention: u64,
    keys: u64,
    stamps: bool,
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        2 => Just(Who::Plain),
        1 => (10..12_i64).prop_map(Who::Idempotent),
        2 => (20..23_i64).prop_map(Who::Transaction),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let to = 0..PARTITIONS;
    let value = proptest::option::weighted(0.8, any::<u16>());
    let rows = proptest::collection::vec((0..6_u8, value), 1..5);
    let fault =
        prop_oneof![Just(Fault::PowerCut), Just(Fault::Kill), Just(Fault::Fail), Just(Fault::Torn)];
    prop_oneof![
        12 => (to.clone(), rows, who(), 0..5_u8)
            .prop_map(|(to, rows, who, codec)| Op::Append { to, rows, who, codec }),
        4 => (to.clone(), 20..23_i64, any::<bool>())
            .prop_map(|(to, producer, commit)| Op::End { to, producer, commit }),
        6 => Just(Op::LayOut),
        2 => Just(Op::Maintain),
        5 => Just(Op::Compact),
        3 => (1..400_u64).prop_map(|seconds| Op::Pass { seconds }),
        1 => (to, 0.0..1.0).prop_map(|(from, share)| Op::DeleteRecords { from, share }),
        1 => Just(Op::Restart),
        2 => (0..30_u64, fault).prop_map(|(after, fault)| Op::Fault { after, fault }),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let ratio = prop_oneof![Just(0.0), Just(0.5)];
    let lag = prop_oneof![Just(0), Just(100)];
    let retention = prop_oneof![Just(0), Just(300)];
    (ratio, lag, retention, prop_oneof![Just(5), Just(1_000)], any::<bool>()).prop_map(
        |(dirty_ratio, lag_min, delete_retention, keys, stamps)| Shape {
            dirty_ratio,
            lag_min,
            delete_retention,
            keys,
            stamps,
        },
    )
}

type Checked = Result<(), String>;

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(why()) }
}

/// A record as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    offset: i64,
    key: u8,
    value: Option<u16>,
    time: i64,
}

fn value_of(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn rows_of(batch: &StoredBatch) -> (BatchHeader, Vec<Seen>) {
    let records = batch.records(LIMIT).unwrap();
    let header = *records.header();
    let rows = records.iter().map(|record| {
        let record = record.unwrap();
        Seen {
            offset: record.offset(&header).0,
            key: record.key.unwrap()[0],
            value: record.value.map(value_of),
            time: record.timestamp(&header).0,
        }
    });
    (header, rows.collect())
}

fn abort_marker(batch: &StoredBatch) -> bool {
    let records = batch.records(LIMIT).unwrap();
    records.iter().next().is_some_and(|first| {
        let end = ControlRecord::decode(&first.unwrap()).unwrap();
        matches!(end, ControlRecord::EndTransaction(end) if end.outcome == Outcome::Abort)
    })
}

/// What a consumer of committed data hands out, by the rules of the Java client.
async fn consume(one: &Partition, from: i64, bytes_max: usize) -> Result<Vec<Seen>, ReadError> {
    let (mut next, mut all) = (Offset(from), Vec::new());
    loop {
        let slice = one.read(next, bytes_max, true, Isolation::Committed).await?;
        if slice.batches.is_empty() {
            return Ok(all);
        }
        let mut coming: Vec<_> = slice.aborted.clone();
        coming.sort_by_key(|(_, first)| *first);
        let mut aborted = BTreeSet::new();
        for batch in &slice.batches {
            let header = batch.header().unwrap();
            while coming.first().is_some_and(|(_, first)| *first <= header.last_offset()) {
                aborted.insert(coming.remove(0).0);
            }
            next = header.last_offset().next();
            if header.attributes.is_control() {
                if abort_marker(batch) {
                    aborted.remove(&header.producer_id);
                }
                continue;
            }
            if header.attributes.is_transactional() && aborted.contains(&header.producer_id) {
                continue;
            }
            all.extend(rows_of(batch).1.into_iter().filter(|row| row.offset >= from));
        }
    }
}

struct Run {
    world: World,
    log: Log,
    models: Vec<Model>,
    shape: Shape,
}

impl Run {
    async fn new(seed: u64, shape: Shape) -> Self {
        let mut world = World::new(seed, PARTITIONS);
        world.settings.compaction = CompactionSettings {
            keys_bytes: shape.keys * 24,
            pause: Duration::from_secs(1),
            ..CompactionSettings::default()
        };
        world.settings.pack_bytes_max = if seed.is_multiple_of(3) { 100 } else { 32 * 1024 };
        // Each append is flushed by itself, which takes a block.
        world.journal.files_max = 64;
        world.config = Arc::new(config(shape));
        let log = world.open().await.unwrap();
        Self { world, log, models: vec![Model::default(); 2], shape }
    }

    fn one(&self, index: i32) -> Partition {
        self.log.partition(partition(index)).unwrap()
    }

    fn model(&mut self, index: i32) -> &mut Model {
        &mut self.models[usize::try_from(index).unwrap()]
    }

    fn now(&self) -> i64 {
        self.world.env.clock.wall().0
    }

    async fn append(&mut self, to: i32, rows: &[(u8, Option<u16>)], who: Who, codec: u8) {
        let now = self.now();
        let mut builder =
            BatchBuilder::new().compression(Compression::from_id(codec).unwrap(), None);
        let producer = match who {
            Who::Plain => None,
            Who::Idempotent(id) | Who::Transaction(id) => Some(id),
        };
        let sequences = &self.model(to).sequences;
        let sequence = producer.map_or(-1, |id| sequences.get(&id).map_or(0, |s| s.0));
        if let Some(id) = producer {
            builder = builder.producer(ProducerId(id), ProducerEpoch(0), sequence);
        }
        if let Who::Transaction(id) = who {
            builder = builder.transactional();
            self.log.partition(partition(to)).unwrap().enlist(
                ProducerId(id),
                ProducerEpoch(0),
                FirstSequence::Any,
            );
            let model = self.model(to);
            model.open.insert(id);
        }
        let model = self.model(to);
        let fate = if matches!(who, Who::Transaction(_)) { Fate::Open } else { Fate::Committed };
        for (offset, (key, value)) in (model.next..).zip(rows) {
            let bytes = value.map(|value| [value.to_be_bytes().as_slice(), &[b'v'; 30]].concat());
            builder.append(Timestamp(now), Some(&[*key]), bytes.as_deref(), &[]);
            let row = Row { key: *key, value: *value, time: now, producer, fate };
            model.rows.insert(offset, row);
        }
        model.next += rows.len() as i64;
        let batch = builder.build_valid().unwrap();
        if let Some(id) = producer {
            let next = sequence + i32::try_from(rows.len()).unwrap();
            model.sequences.insert(id, (next, batch.clone()));
        }
        self.write(to, batch, Origin::Client).await;
    }

    async fn end(&mut self, to: i32, producer: i64, commit: bool) {
        let now = Timestamp(self.now());
        let model = self.model(to);
        if !model.open.remove(&producer) {
            return;
        }
        for row in model.rows.values_mut() {
            if row.producer == Some(producer) && row.fate == Fate::Open {
                row.fate = if commit { Fate::Committed } else { Fate::Aborted };
            }
        }
        model.next += 1;
        let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
        let end = EndTransaction { outcome, coordinator_epoch: 1 };
        let marker = end.batch(ProducerId(producer), ProducerEpoch(0), now).unwrap();
        self.write(to, marker, Origin::Internal).await;
    }

    async fn write(&self, to: i32, batch: ValidBatch, from: Origin) {
        let append = || self.one(to).append(std::slice::from_ref(&batch), from);
        let mut appended = append();
        for _ in 0..10 {
            // The next file is on its way.
            if matches!(appended, Err(AppendError::Full)) {
                settle().await;
                appended = append();
            }
        }
        self.log.wait_durable(appended.unwrap().end).await.unwrap();
    }

    async fn step(&mut self, op: &Op, reached: &Reached) -> Checked {
        self.run(op, reached).await?;
        self.check(reached).await
    }

    async fn run(&mut self, op: &Op, reached: &Reached) -> Checked {
        match op {
            Op::Append { to, rows, who, codec } => self.append(*to, rows, *who, *codec).await,
            Op::End { to, producer, commit } => self.end(*to, *producer, *commit).await,
            Op::LayOut => self.log.lay_out().await.map_err(|error| error.to_string())?,
            Op::Maintain => self.log.maintain().await.map_err(|error| error.to_string())?,
            Op::Compact => self.compact(reached).await?,
            Op::Pass { seconds } => self.world.clock.advance(Duration::from_secs(*seconds)),
            Op::DeleteRecords { from, share } => {
                let one = self.one(*from);
                let before = (one.ends().last_stable.0 as f64 * share) as i64;
                let (start, end) = one.delete_records(Offset(before)).unwrap();
                self.log.wait_durable(end).await.unwrap();
                self.model(*from).start = start.0;
            }
            Op::Restart => {
                let log = self.take_log().await;
                self.world.close(log).await;
                let seen = look(&self.world).await;
                ensure(seen.harmful().is_empty(), || format!("{:?}", seen.harmful()))?;
                self.log = self.world.open().await?;
                for index in 0..PARTITIONS {
                    let one = self.one(index);
                    let recovered = bytes(&read_all(&one, one.ends().log_start, 500).await?);
                    ensure(seen.bytes(index) == recovered, || {
                        "tools see other batches than readers".to_owned()
                    })?;
                }
            }
            Op::Fault { after, fault } => {
                let (on, after, fault) = (Operation::Any, *after, *fault);
                self.world.machine.plan(FaultAt { on, after, fault });
                let done = self.log.compact().await;
                reached.failed.fetch_add(u64::from(done.is_err()), Ordering::Relaxed);
                // Whatever the fault was, the machine starts again.
                self.restart_machine().await?;
            }
        }
        Ok(())
    }

    async fn restart_machine(&mut self) -> Checked {
        let log = self.take_log().await;
        self.world.power_cut(log).await;
        self.log = self.world.open().await?;
        Ok(())
    }

    /// The log; another, empty one is held while there is none.
    async fn take_log(&mut self) -> Log {
        let other = World::new(0, 0).open().await.unwrap();
        std::mem::replace(&mut self.log, other)
    }

    /// Compacts, and again, which changes nothing.
    async fn compact(&mut self, reached: &Reached) -> Checked {
        let ends: Vec<_> = (0..PARTITIONS).map(|index| self.one(index).ends()).collect();
        let before = self.log.stats().compactions;
        let mut rounds = 0;
        loop {
            let done = self.log.stats().compactions;
            self.log.compact().await.map_err(|error| error.to_string())?;
            if self.log.stats().compactions == done {
                break;
            }
            rounds += 1;
            ensure(rounds < 200, || "compaction never ends".to_owned())?;
        }
        let after: Vec<_> = (0..PARTITIONS).map(|index| self.one(index).ends()).collect();
        ensure(ends == after, || format!("the ends moved: {ends:?} {after:?}"))?;
        reached.compactions.fetch_add(self.log.stats().compactions - before, Ordering::Relaxed);
        reached.again.fetch_add(u64::from(rounds > 1), Ordering::Relaxed);
        let first = self.all_bytes().await?;
        self.log.compact().await.map_err(|error| error.to_string())?;
        ensure(first == self.all_bytes().await?, || "a second compaction changed it".to_owned())
    }

    async fn all_bytes(&self) -> Result<Vec<Bytes>, String> {
        let mut all = Vec::new();
        for (index, model) in (0..).zip(&self.models) {
            let batches = read_all(&self.one(index), Offset(model.start), 500).await?;
            all.extend(batches.iter().map(StoredBatch::to_bytes));
        }
        Ok(all)
    }

    async fn check(&self, reached: &Reached) -> Checked {
        for (index, model) in (0..).zip(&self.models) {
            let one = self.one(index);
            self.check_committed(&one, model, reached).await?;
            let batches = read_all(&one, Offset(model.start), 700).await?;
            check_batches(&batches, model, self.shape)?;
            check_producers(&one, &batches, model)?;
            check_places(&one, &batches, model).await?;
        }
        Ok(())
    }

    /// What a consumer of committed data sees.
    async fn check_committed(&self, one: &Partition, model: &Model, reached: &Reached) -> Checked {
        let stable = one.ends().last_stable.0;
        let (now, shape) = (self.now(), self.shape);
        let decided = || {
            let visible = model.rows.range(model.start..stable);
            visible.filter(|(_, row)| row.fate == Fate::Committed)
        };
        for bytes_max in [1, 400, 100_000] {
            let seen = consume(one, model.start, bytes_max).await;
            let seen = seen.map_err(|error| error.to_string())?;
            let mut newest: BTreeMap<u8, i64> = BTreeMap::new();
            for (offset, row) in decided() {
                newest.insert(row.key, *offset);
            }
            let found: BTreeSet<i64> = seen.iter().map(|row| row.offset).collect();
            ensure(seen.windows(2).all(|two| two[0].offset < two[1].offset), || {
                "offsets do not rise".to_owned()
            })?;
            for row in &seen {
                let is_it = model.rows.get(&row.offset).is_some_and(|sent| {
                    let same = (sent.key, sent.value, sent.fate);
                    same == (row.key, row.value, Fate::Committed)
                });
                ensure(is_it, || format!("{row:?} was not sent, or not committed"))?;
            }
            for (offset, row) in decided() {
                let is_newest = newest.get(&row.key) == Some(offset);
                let is_young = row.time + (shape.lag_min * 1_000) as i64 > now;
                let is_kept =
                    row.value.is_some() || row.time + (shape.delete_retention * 1_000) as i64 > now;
                let must = (is_newest && is_kept) || is_young;
                ensure(!must || found.contains(offset), || format!("{offset} {row:?} is gone"))?;
                if !found.contains(offset) {
                    reached.removed.fetch_add(1, Ordering::Relaxed);
                    let is_tombstone = is_newest && row.value.is_none();
                    reached.tombstones.fetch_add(is_tombstone.into(), Ordering::Relaxed);
                }
            }
            // A key whose newest is a tombstone has no older value where that is gone.
            let table: BTreeMap<u8, Option<u16>> =
                seen.iter().map(|row| (row.key, row.value)).collect();
            for (key, offset) in &newest {
                let value = model.rows[offset].value;
                let shown = table.get(key).copied().flatten();
                ensure(shown == value, || format!("key {key} is {shown:?}, not {value:?}"))?;
            }
        }
        Ok(())
    }
}

/// Every record is what it was, offsets rise, and what is not decided is all there.
fn check_batches(batches: &[StoredBatch], model: &Model, shape: Shape) -> Checked {
    let mut next = 0;
    let mut found = BTreeSet::new();
    for batch in batches {
        let bytes = batch.to_bytes();
        let whole = StoredBatch::from_bytes(bytes).map_err(|error| error.to_string())?;
        let header = whole.header().unwrap();
        ensure(header.base_offset.0 >= next, || format!("{header:?} comes after {next}"))?;
        next = header.last_offset().next().0;
        if header.attributes.is_control() {
            continue;
        }
        for row in rows_of(&whole).1 {
            let sent = model.rows.get(&row.offset);
            let same = sent.is_some_and(|sent| (sent.key, sent.value) == (row.key, row.value));
            let is_time = sent.is_some_and(|sent| shape.stamps || sent.time == row.time);
            ensure(same && is_time, || format!("{row:?} is not {sent:?}"))?;
            found.insert(row.offset);
        }
    }
    ensure(next == model.next, || format!("the last batch ends at {next}, not {}", model.next))?;
    let open = model.rows.iter().filter(|(_, row)| row.fate == Fate::Open);
    for (offset, row) in open {
        let is_there = *offset < model.start || found.contains(offset);
        ensure(is_there, || format!("{offset} {row:?} of an open transaction is gone"))?;
    }
    Ok(())
}

/// Each producer's last batch is there, if only its header, and a retry of it is one.
fn check_producers(one: &Partition, batches: &[StoredBatch], model: &Model) -> Checked {
    for info in one.producers().0 {
        let Some(last) = info.batches.last().filter(|last| last.base.0 >= model.start) else {
            continue;
        };
        let headers = batches.iter().map(|batch| batch.header().unwrap());
        let is_there = headers.clone().any(|header| {
            header.producer_id == info.id
                && header.last_offset() == last.last
                && header.last_sequence() == last.last_sequence
        });
        ensure(is_there, || format!("the last batch of {} is gone", info.id))?;
        let (_, sent) = &model.sequences[&info.id.0];
        let again = one.append(std::slice::from_ref(sent), Origin::Client);
        let is_retry = again.as_ref().is_ok_and(|again| again.duplicate);
        ensure(is_retry, || format!("a retry of {} is {again:?}", info.id))?;
    }
    Ok(())
}

/// A read from any offset begins at the batch that holds it or the next, and look-ups by time find the
/// first record that is left.
async fn check_places(one: &Partition, batches: &[StoredBatch], model: &Model) -> Checked {
    for from in model.start..model.next {
        let slice = one.read(Offset(from), 1, true, Isolation::Uncommitted).await;
        let slice = slice.map_err(|error| format!("{from}: {error}"))?;
        let first = slice.batches.first().map(StoredBatch::to_bytes);
        let is_behind = |batch: &&StoredBatch| batch.header().unwrap().last_offset().0 >= from;
        let expected = batches.iter().find(is_behind).map(StoredBatch::to_bytes);
        ensure(first == expected, || format!("a read at {from} finds another batch"))?;
    }
    let rows = |batch: &StoredBatch| {
        let records = batch.records(LIMIT).unwrap();
        let header = *records.header();
        let rows = records.iter().map(|record| {
            let record = record.unwrap();
            (record.offset(&header), record.timestamp(&header))
        });
        rows.collect::<Vec<_>>()
    };
    let all: Vec<_> = batches.iter().flat_map(rows).filter(|row| row.0.0 >= model.start).collect();
    let times: BTreeSet<_> = all.iter().flat_map(|row| [row.1.0, row.1.0 + 1]).collect();
    for time in times {
        let found = one.offset_at(Timestamp(time)).await.map_err(|error| error.to_string())?;
        let expected = all.iter().find(|row| row.1.0 >= time).copied();
        let found = found.map(|(offset, time, _)| (offset, time));
        ensure(found == expected, || format!("at {time}: {found:?}, not {expected:?}"))?;
    }
    let latest = one.offset_of_max_timestamp().await.map_err(|error| error.to_string())?;
    let expected = all.iter().map(|row| row.1).max();
    ensure(latest.map(|(_, time, _)| time) == expected, || {
        format!("the latest is {latest:?}, not {expected:?}")
    })
}

/// How often the histories came to what must not be missed.
#[derive(Debug, Default)]
struct Reached {
    compactions: AtomicU64,
    again: AtomicU64,
    removed: AtomicU64,
    tombstones: AtomicU64,
    failed: AtomicU64,
}

fn config(shape: Shape) -> PartitionConfig {
    PartitionConfig {
        retention: None,
        deletes: false,
        compacts: true,
        dirty_ratio: shape.dirty_ratio,
        compaction_lag_min: Duration::from_secs(shape.lag_min),
        delete_retention: Duration::from_secs(shape.delete_retention),
        timestamp_type: match shape.stamps {
            true => millstream_record::TimestampType::LogAppendTime,
            false => millstream_record::TimestampType::CreateTime,
        },
        ..PartitionConfig::default()
    }
}

/// `unchecked`: so many steps at the beginning are only made.
fn history(
    seed: u64,
    shape: Shape,
    (ops, unchecked): (&[Op], usize),
    reached: &Reached,
) -> Checked {
    run(async {
        let mut history = Run::new(seed, shape).await;
        for (at, op) in ops.iter().enumerate() {
            let done = match at < unchecked {
                true => history.run(op, reached).await,
                false => history.step(op, reached).await,
            };
            done.map_err(|why| format!("step {at} {op:?}: {why}"))?;
        }
        Ok(())
    })
}

/// Pitfalls 44 and 69.
#[test]
fn whatever_is_compacted_the_newest_committed_value_of_each_key_is_there() {
    let reached = Reached::default();
    let histories = (any::<u64>(), shape(), proptest::collection::vec(op(), 1..70));
    let seeds = number("MILLSTREAM_SEEDS", 150);
    let mut runner = runner(seeds, number("MILLSTREAM_SEED_FIRST", 0), 2_000);
    let result = runner.run(&histories, |(seed, shape, ops)| {
        history(seed, shape, (&ops, 0), &reached).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    println!("{reached:?}");
    let Reached { compactions, again, removed, tombstones, failed } = reached;
    for count in [compactions, again, removed, tombstones, failed] {
        assert!(count.into_inner() > 0);
    }
}

/// A history that leaves something of every kind to compact: old values, tombstones, aborted and
/// committed transactions, two partitions that share a blob.
fn rich() -> Vec<Op> {
    let append = |to, key, value, who| Op::Append { to, rows: vec![(key, value)], who, codec: 3 };
    let mut ops = Vec::new();
    for round in 0..3_u16 {
        for to in 0..PARTITIONS {
            ops.extend([
                append(to, 1, Some(round), Who::Plain),
                append(to, 2, Some(round), Who::Idempotent(10)),
                append(to, 1, Some(100 + round), Who::Transaction(20)),
                append(to, 3, Some(200 + round), Who::Transaction(21)),
                Op::End { to, producer: 20, commit: false },
                Op::End { to, producer: 21, commit: true },
                append(to, 4, (round == 0).then_some(7), Who::Plain),
            ]);
        }
        ops.extend([Op::LayOut, Op::Pass { seconds: 400 }]);
    }
    ops
}

const RICH: Shape =
    Shape { dirty_ratio: 0.5, lag_min: 0, delete_retention: 300, keys: 1_000, stamps: false };

#[test]
fn a_fault_at_any_operation_leaves_the_old_or_the_new() {
    let reached = Reached::default();
    for fault in [Fault::PowerCut, Fault::Kill, Fault::Fail, Fault::Torn, Fault::Full] {
        for after in 0..25 {
            for seed in [1, 3] {
                let mut ops = rich();
                ops.extend([Op::Fault { after, fault }, Op::Compact, Op::Restart]);
                let done = history(seed, RICH, (&ops, rich().len()), &reached);
                done.unwrap_or_else(|why| unreachable!("{fault:?} after {after}: {why}"));
            }
        }
    }
    assert!(reached.failed.into_inner() > 20, "few faults came in between");
}

/// A batch: its base offset, offset and value of each record.
type Batch = (i64, Vec<(i64, Option<u16>)>);

/// The batches of the first partition as they are read.
async fn stored(one: &Partition) -> Vec<Batch> {
    let batches = read_all(one, one.ends().log_start, 100_000).await.unwrap();
    let rows = |batch: &StoredBatch| {
        let (header, rows) = match batch.header().unwrap().attributes.is_control() {
            true => (batch.header().unwrap(), Vec::new()),
            false => rows_of(batch),
        };
        let rows = rows.iter().map(|row| (row.offset, row.value)).collect();
        (header.base_offset.0, rows)
    };
    batches.iter().map(rows).collect()
}

async fn do_all(history: &mut Run, ops: &[Op]) {
    let reached = Reached::default();
    for op in ops {
        history.step(op, &reached).await.unwrap();
    }
}

/// Pitfall 44.
#[test]
fn tombstones_and_ends_of_transactions_go_when_nothing_needs_them_and_not_before() {
    run(async {
        let mut history = Run::new(1, Shape { dirty_ratio: 0.0, ..RICH }).await;
        let append =
            |key, value, who| Op::Append { to: 0, rows: vec![(key, value)], who, codec: 0 };
        let end = |producer, commit| Op::End { to: 0, producer, commit };
        let ops = [
            append(1, Some(1), Who::Plain),           // 0
            append(2, Some(2), Who::Transaction(20)), // 1
            append(1, None, Who::Plain),              // 2
            end(20, false),                           // 3
            append(3, Some(3), Who::Plain),           // 4
            Op::LayOut,
            Op::Compact,
        ];
        do_all(&mut history, &ops).await;
        let one = history.one(0);
        // The aborted batch is its producer's last, and stays as a header.
        let whole = vec![(1, vec![]), (2, vec![(2, None)]), (3, vec![]), (4, vec![(4, Some(3))])];
        assert_eq!(stored(&one).await, whole);
        let committed = one.read(Offset(0), 10_000, true, Isolation::Committed).await.unwrap();
        assert_eq!(
            committed.aborted.len(),
            1,
            "readers hear of it as long as a batch of it is there"
        );
        // Later work makes other batches the last; the horizon counts from the first compaction.
        let more = [append(3, Some(4), Who::Plain), append(9, Some(9), Who::Transaction(20))];
        do_all(&mut history, &more).await;
        do_all(&mut history, &[end(20, true), Op::LayOut, Op::Compact]).await;
        assert_eq!(
            stored(&one).await,
            [
                (2, vec![(2, None)]),
                (3, vec![]),
                (5, vec![(5, Some(4))]),
                (6, vec![(6, Some(9))]),
                (7, vec![]),
            ]
        );
        let later = [
            Op::Pass { seconds: 299 },
            append(3, Some(5), Who::Plain),
            append(3, Some(6), Who::Plain),
            append(3, Some(7), Who::Plain),
            append(3, Some(8), Who::Plain),
            Op::LayOut,
            Op::Compact,
        ];
        do_all(&mut history, &later).await;
        let bases =
            |found: Vec<Batch>| -> Vec<i64> { found.into_iter().map(|batch| batch.0).collect() };
        assert_eq!(bases(stored(&one).await), [2, 3, 6, 7, 11]);
        let committed = one.read(Offset(0), 10_000, true, Isolation::Committed).await.unwrap();
        assert_eq!(committed.aborted.len(), 0, "not even a header of it was left");
        do_all(&mut history, &[Op::Pass { seconds: 2 }]).await;
        do_all(&mut history, &later[1..]).await;
        assert_eq!(bases(stored(&one).await), [3, 6, 7, 15], "the tombstone first: it is older");
        do_all(&mut history, &[Op::Pass { seconds: 400 }]).await;
        do_all(&mut history, &later[1..]).await;
        assert_eq!(bases(stored(&one).await), [6, 7, 19]);
    });
}

#[test]
fn small_partitions_share_blobs_and_each_is_compacted_in_the_end() {
    run(async {
        let mut world = World::new(1, 300);
        world.journal.files_max = 64;
        world.config = Arc::new(config(RICH));
        let log = world.open().await.unwrap();
        let mut value = BatchBuilder::new();
        for time in 0..3 {
            value.append(Timestamp(time), Some(b"k"), Some(b"a value"), &[]);
        }
        let value = value.build_valid().unwrap();
        let mut last = None;
        for index in 0..300 {
            let one = log.partition(partition(index)).unwrap();
            last = Some(one.append(std::slice::from_ref(&value), Origin::Client).unwrap());
            settle().await;
        }
        log.wait_durable(last.unwrap().end).await.unwrap();
        assert!(!log.compact().await.unwrap(), "what is in the journal only waits");
        assert_eq!(log.stats().compactions, 0);
        // It is laid out in time by itself.
        world.clock.advance(Duration::from_secs(60));
        log.maintain().await.unwrap();
        let before = log.stats();
        log.compact().await.unwrap();
        let after = log.stats();
        assert_eq!((before.compactions, after.compactions), (0, 300));
        assert_eq!(after.compacted_records, 600);
        log.wait_durable(last.unwrap().end).await.unwrap();
        settle().await;
        log.maintain().await.unwrap();
        let packs = log.stats().blobs;
        assert!(packs < 10, "{packs} blobs for 300 partitions");
        for index in [0, 150, 299] {
            let one = log.partition(partition(index)).unwrap();
            let rows = rows_of_plain(&one).await;
            assert_eq!(rows, [2]);
        }
    });
}

async fn rows_of_plain(one: &Partition) -> Vec<i64> {
    let batches = read_all(one, Offset(0), 10_000).await.unwrap();
    let rows = batches.iter().flat_map(|batch| {
        let records = batch.records(LIMIT).unwrap();
        let header = *records.header();
        records.iter().map(|record| record.unwrap().offset(&header).0).collect::<Vec<_>>()
    });
    rows.collect()
}

#[test]
fn a_damaged_segment_stays_and_the_others_are_compacted() {
    run(async {
        let mut history = Run::new(1, Shape { dirty_ratio: 0.0, ..RICH }).await;
        let append =
            |key, value| Op::Append { to: 0, rows: vec![(key, value)], who: Who::Plain, codec: 0 };
        let one = history.one(0);
        for values in [[1, 2], [3, 4], [5, 6]] {
            let rows = values.map(|value| append(1, Some(value)));
            do_all(&mut history, &rows).await;
            do_all(&mut history, &[append(2, None), Op::LayOut]).await;
        }
        let batches = read_all(&one, Offset(0), 100_000).await.unwrap();
        // In the second segment; after a restart, so that memory has nothing.
        let hit = batches[4].to_bytes();
        drop(one);
        do_all(&mut history, &[Op::Restart]).await;
        for (path, place) in history.world.machine.find(&hit) {
            assert!(history.world.machine.flip_bit(&path, place + 70, 1));
        }
        history.log.compact().await.unwrap();
        while history.log.compact().await.unwrap() {}
        let (one, stats) = (history.one(0), history.log.stats());
        assert_eq!(stats.uncompacted, 1);
        assert!(stats.compactions > 0);
        let read = |from| {
            let one = one.clone();
            async move { one.read(Offset(from), 1, true, Isolation::Uncommitted).await }
        };
        let base = |slice: &millstream_log::Slice| slice.batches[0].header().unwrap().base_offset.0;
        // Before: only what the segment's end keeps. In it: as it was. Behind: the newest.
        assert_eq!(base(&read(0).await.unwrap()), 2);
        assert_eq!(base(&read(3).await.unwrap()), 3);
        let damaged = read(4).await;
        assert!(matches!(damaged, Err(ReadError::Corrupt { .. })), "{damaged:?}");
        assert_eq!(base(&read(5).await.unwrap()), 5);
        assert_eq!(base(&read(6).await.unwrap()), 7);
        // Nobody knows what the tombstone hides there: it has no horizon, and stays.
        let last = read(8).await.unwrap();
        let header = last.batches[0].header().unwrap();
        assert!(!header.attributes.has_delete_horizon());
        // Nothing happens to it again and again.
        history.log.compact().await.unwrap();
        assert_eq!(history.log.stats().uncompacted, 1);
    });
}

#[test]
fn who_reads_old_segments_goes_on() {
    run(async {
        let mut world = World::new(1, 1);
        world.config = Arc::new(config(Shape { dirty_ratio: 0.0, ..RICH }));
        let log = world.open_hooked().await;
        let one = log.partition(partition(0)).unwrap();
        for value in 0..20_u16 {
            let mut batch = BatchBuilder::new();
            batch.append(Timestamp(1), Some(b"k"), Some(&value.to_be_bytes()), &[]);
            let appended = one.append(&[batch.build_valid().unwrap()], Origin::Client).unwrap();
            log.wait_durable(appended.end).await.unwrap();
        }
        log.lay_out().await.unwrap();
        drop(one);
        world.hooks = None;
        world.close(log).await;
        settle().await;
        let log = world.open_hooked().await;
        let one = log.partition(partition(0)).unwrap();
        let hooks = Arc::clone(world.hooks.as_ref().unwrap());
        let reading = {
            // A reader that has its place in the old segment, and waits for the disk.
            let gate = hooks.hold_gets();
            let mut reading = Box::pin(one.read(Offset(3), 100_000, true, Isolation::Uncommitted));
            assert!(futures_util::poll!(&mut reading).is_pending());
            drop(gate);
            reading
        };
        log.compact().await.unwrap();
        assert_eq!(rows_of_plain(&one).await, [19]);
        log.maintain().await.unwrap();
        let slice = reading.await.unwrap();
        assert_eq!(slice.batches.len(), 17, "as it was when the read began");
        let again = one.read(Offset(3), 100_000, true, Isolation::Uncommitted).await.unwrap();
        assert_eq!(again.batches.len(), 1);
    });
}

#[test]
fn the_engine_compacts_by_itself_unless_it_is_off() {
    for is_on in [false, true] {
        run(async {
            let mut world = World::new(1, 1);
            world.config = Arc::new(config(RICH));
            world.settings.background = true;
            world.settings.compaction.is_on = is_on;
            let log = world.open().await.unwrap();
            let one = log.partition(partition(0)).unwrap();
            let mut batch = BatchBuilder::new();
            for _ in 0..5 {
                batch.append(Timestamp(1), Some(b"k"), Some(b"v"), &[]);
            }
            let appended = one.append(&[batch.build_valid().unwrap()], Origin::Client).unwrap();
            log.wait_durable(appended.end).await.unwrap();
            for _ in 0..10 {
                world.clock.advance(Duration::from_secs(16));
                settle().await;
            }
            assert_eq!(log.stats().compacted_records, if is_on { 4 } else { 0 });
            let settings = CompactionSettings { is_on: true, ..CompactionSettings::default() };
            log.set_compaction(settings);
            settle().await;
            assert_eq!(log.stats().compacted_records, 4, "it may be switched on at any time");
            log.close().await;
        });
    }
}
