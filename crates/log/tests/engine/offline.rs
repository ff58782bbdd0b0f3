//! Looking at what a log left behind: it is what the next session recovers, and damage is named.

use bytes::Bytes;
use millstream_env::DataDir;
use millstream_log::offline::{Finding, FindingKind, Offline, OfflineStores};
use millstream_log::{Former, Log, Origin};
use millstream_types::{Offset, PartitionId, SessionId};
use proptest::prelude::*;

use crate::world::{World, batch, bytes, read_all, run, settle};

const PARTITIONS: i32 = 3;

/// One thing that is done.
#[derive(Clone, Debug)]
enum Op {
    Append { to: i32, records: usize, size: usize, wait: bool },
    LayOut,
    Maintain,
    Checkpoint,
    Delete { from: i32, share: f64 },
    Close,
    Kill,
    PowerCut,
}

fn op() -> impl Strategy<Value = Op> {
    let to = 0..PARTITIONS;
    let size = prop_oneof![8 => 1..400_usize, 2 => 2_000..9_000_usize, 1 => Just(30_000)];
    prop_oneof![
        20 => (to.clone(), 1..5_usize, size, proptest::bool::weighted(0.4))
            .prop_map(|(to, records, size, wait)| Op::Append { to, records, size, wait }),
        2 => Just(Op::LayOut),
        2 => Just(Op::Maintain),
        2 => Just(Op::Checkpoint),
        1 => (to, 0.0..1.0).prop_map(|(from, share)| Op::Delete { from, share }),
        1 => Just(Op::Close),
        1 => Just(Op::Kill),
        2 => Just(Op::PowerCut),
    ]
}

/// What a look at the machine shows.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Of each partition, the base offset and the bytes of each batch.
    batches: Vec<Vec<(i64, Bytes)>>,
    findings: Vec<Finding>,
    /// Why there was nothing to look at.
    refused: Option<String>,
}

impl Look {
    pub(crate) fn harmful(&self) -> Vec<&Finding> {
        self.findings.iter().filter(|finding| !finding.kind.is_harmless()).collect()
    }

    pub(crate) fn bytes(&self, partition: i32) -> Vec<Bytes> {
        let batches = &self.batches[usize::try_from(partition).unwrap()];
        batches.iter().map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Whether something wrong was found at the offset.
    fn names(&self, partition: PartitionId, offset: i64) -> bool {
        self.findings.iter().any(|finding| {
            finding.partition == Some(partition)
                && finding.offsets.as_ref().is_some_and(|at| at.contains(&Offset(offset)))
        })
    }
}

/// Looks at the machine, on which no log runs.
pub(crate) async fn look(world: &World) -> Look {
    match try_look(world).await {
        Ok(look) => look,
        Err(refused) => Look { refused: Some(refused), ..Look::default() },
    }
}

async fn try_look(world: &World) -> Result<Look, String> {
    let dir = DataDir::open_damaged_on(world.machine.mount(), world.env.clone(), "sim");
    let dir = dir.map_err(|error| error.to_string())?;
    let journals = dir.journals(world.journal.clone()).await.map_err(|error| error.to_string())?;
    let blobs = dir.blobs().map_err(|error| error.to_string())?;
    let trim = world.trims.newest.lock().unwrap().clone();
    let former = Former { session: SessionId(world.session), trim };
    let journal = journals.survey();
    let stores = OfflineStores { journals, blobs, cluster: dir.cluster() };
    let partitions = world.partitions.iter().copied();
    let offline = Offline::load(stores, journal, Some(former), partitions).await;
    let mut look = Look { findings: offline.findings().to_vec(), ..Look::default() };
    look.findings.extend(offline.check_blobs().await);
    for id in &world.partitions {
        let mut reader = offline.read(*id, Offset::ZERO).unwrap();
        let mut batches = Vec::new();
        while let Some(next) = reader.next().await {
            match next {
                Ok(found) => {
                    batches.push((found.header.base_offset.0, found.batch.to_bytes()));
                }
                Err(finding) => look.findings.push(finding),
            }
        }
        look.batches.push(batches);
    }
    Ok(look)
}

async fn recovered(log: &Log, id: PartitionId) -> Vec<Bytes> {
    let partition = log.partition(id).unwrap();
    bytes(&read_all(&partition, partition.ends().log_start, 1 << 20).await.unwrap())
}

async fn act(world: &World, log: &Log, op: &Op) {
    match op {
        Op::Append { to, records, size, wait } => {
            let batch = batch(&vec![7; *records], *size);
            let partition = log.partition(world.partitions[*to as usize]).unwrap();
            // The journal may just be full; that is another test's business.
            let Ok(appended) = partition.append(&[batch], Origin::Client) else { return };
            if *wait {
                log.wait_durable(appended.end).await.unwrap();
            }
        }
        Op::LayOut => log.lay_out().await.unwrap(),
        Op::Maintain => log.maintain().await.unwrap(),
        Op::Checkpoint => log.checkpoint().await.unwrap(),
        Op::Delete { from, share } => {
            let partition = log.partition(world.partitions[*from as usize]).unwrap();
            let upto = (partition.ends().high_watermark.0 as f64 * share) as i64;
            let _ = partition.delete_records(Offset(upto.max(partition.ends().log_start.0)));
        }
        Op::Close | Op::Kill | Op::PowerCut => {}
    }
}

/// Runs a history; at each end of a log, looks before the next one recovers.
async fn check(seed: u64, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut world = World::new(seed, PARTITIONS);
    let mut log = world.open().await.unwrap();
    for op in ops {
        act(&world, &log, op).await;
        match op {
            Op::Close => world.close(log).await,
            Op::PowerCut => world.power_cut(log).await,
            Op::Kill => {
                drop(log);
                world.stores = None;
                world.machine.kill();
                settle().await;
            }
            _ => continue,
        }
        let files = world.machine.files();
        let look = look(&world).await;
        settle().await;
        prop_assert_eq!(world.machine.files(), files, "something was changed");
        prop_assert_eq!(&look.refused, &None);
        prop_assert!(look.harmful().is_empty(), "{:?}", look.harmful());
        log = world.open().await.unwrap();
        for id in &world.partitions {
            prop_assert_eq!(look.bytes(id.index), recovered(&log, *id).await);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_seen_is_what_recovery_finds(
        seed: u64,
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        run(check(seed, &ops))?;
    }
}

/// A machine with segments, packs, journals of two sessions, and a checkpoint that knows all.
async fn furnished() -> World {
    let mut world = World::new(11, PARTITIONS);
    let log = world.open().await.unwrap();
    let append = |to: i32, size| Op::Append { to, records: 3, size, wait: true };
    for round in 0..12 {
        act(&world, &log, &append(0, 2_000)).await;
        act(&world, &log, &append(1, 300)).await;
        if round % 6 == 5 {
            act(&world, &log, &Op::LayOut).await;
        }
    }
    for round in 0..20 {
        act(&world, &log, &append(round % PARTITIONS, 150)).await;
    }
    world.power_cut(log).await;
    let log = world.open().await.unwrap();
    for round in 0..20 {
        act(&world, &log, &append(round % PARTITIONS, 150)).await;
    }
    world.close(log).await;
    world
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    run(async {
        let world = furnished().await;
        let whole = look(&world).await;
        assert!(whole.refused.is_none() && whole.harmful().is_empty(), "{whole:?}");
        let mut kinds = Vec::new();
        let files = world.machine.files();
        let files: Vec<_> = files.iter().filter(|(path, _)| !path.starts_with("lock")).collect();
        for (path, size) in &files {
            // A prime step through what is used of each file, and all bits in turn.
            let used = if path.starts_with("journal") { 40_000.min(*size) } else { *size };
            // Indexes, directory and footer come last, and are small.
            let is_tried = |byte: &u64| {
                byte.is_multiple_of(211) || (byte + 1_500 > used && byte.is_multiple_of(7))
            };
            for byte in (0..used).filter(is_tried) {
                let bit = u8::try_from(byte % 8).unwrap();
                assert!(world.machine.flip_bit(path, byte, bit));
                let damaged = look(&world).await;
                check_damage(&world, &whole, &damaged, &format!("{path} byte {byte} bit {bit}"));
                kinds.extend(damaged.findings.iter().map(|finding| finding.kind));
                world.machine.flip_bit(path, byte, bit);
            }
        }
        for kind in [FindingKind::Batch, FindingKind::Index, FindingKind::Segment] {
            assert!(kinds.contains(&kind), "{kind:?} never happened");
        }
        for kind in [FindingKind::UnreadJournal, FindingKind::Checkpoint] {
            assert!(kinds.contains(&kind), "{kind:?} never happened");
        }
    });
}

/// Recovery reads from the newest frame that the checkpoint knows on: what is damaged there keeps the
/// log from opening, what is damaged before costs itself.
#[test]
fn only_damage_behind_the_checkpoint_is_in_the_way() {
    run(async {
        let mut world = furnished().await;
        let trim = world.trims.newest.lock().unwrap().clone().unwrap();
        let path = format!("journal/{:020}-{:020}.log", trim.session.0, 0);
        let first_block = 4096;
        let newest = first_block + trim.lsn.0 + 60;
        for (byte, kind) in [(newest - 5_000, None), (newest, Some(FindingKind::Journal))] {
            assert!(world.machine.flip_bit(&path, byte, 3));
            let look = look(&world).await;
            let mut found = look.findings.iter().map(|finding| finding.kind);
            let is_in_the_way = |found: &FindingKind| *found == FindingKind::Journal;
            assert_eq!(found.rfind(is_in_the_way), kind, "{:?}", look.findings);
            match (world.open().await, kind) {
                (Ok(log), None) => world.close(log).await,
                (Err(error), Some(_)) => assert!(error.contains("corrupt"), "{error}"),
                (opened, _) => panic!("byte {byte}: {opened:?}"),
            }
            world = furnished().await;
        }
    });
}

/// What is read is what was written, and what is not is named, with its offsets.
#[track_caller]
fn check_damage(world: &World, whole: &Look, damaged: &Look, place: &str) {
    let is_blind = damaged.findings.iter().any(|finding| finding.kind == FindingKind::Checkpoint);
    if damaged.refused.is_some() {
        return;
    }
    for (id, (before, after)) in
        world.partitions.iter().zip(whole.batches.iter().zip(&damaged.batches))
    {
        for found in after {
            assert!(before.contains(found), "{place}: a batch that was not written is read");
        }
        if is_blind {
            continue;
        }
        for lost in before.iter().filter(|batch| !after.contains(batch)) {
            let is_named = damaged.names(*id, lost.0);
            assert!(is_named, "{place}: {id} lost {}: {:?}", lost.0, damaged.findings);
        }
    }
}

#[test]
fn what_is_gone_and_what_is_left_over_is_told() {
    run(async {
        let world = furnished().await;
        let files = world.machine.files();
        let segment = files.iter().find(|(path, _)| path.starts_with("blobs/segment")).unwrap();
        let disk = world.machine.mount();
        let other = segment.0.replace(".blob", "x.blob");
        disk.rename(&segment.0, &other).unwrap();
        drop(disk);
        let look = look(&world).await;
        let kinds: Vec<_> = look.findings.iter().map(|finding| finding.kind).collect();
        assert!(kinds.contains(&FindingKind::Missing), "{kinds:?}");
        assert!(kinds.contains(&FindingKind::Orphan), "{kinds:?}");
        let missing =
            look.findings.iter().find(|found| found.kind == FindingKind::Missing).unwrap();
        assert_eq!(missing.offsets.as_ref().map(|offsets| offsets.start), Some(Offset(0)));
    });
}

#[test]
fn what_was_given_up_is_told_with_its_offsets() {
    run(async {
        let mut world = World::new(11, PARTITIONS);
        world.settings.tail_bytes = 0;
        let log = world.open().await.unwrap();
        let append = Op::Append { to: 0, records: 3, size: 700, wait: true };
        for _ in 0..4 {
            act(&world, &log, &append).await;
        }
        let batches = recovered(&log, world.partitions[0]).await;
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        act(&world, &log, &Op::Checkpoint).await;
        for (path, at) in world.machine.find(&batches[1]) {
            assert!(world.machine.flip_bit(&path, at + 300, 0));
        }
        act(&world, &log, &Op::LayOut).await;
        act(&world, &log, &Op::Append { to: 1, records: 1, size: 1, wait: true }).await;
        world.power_cut(log).await;
        let by_its_frame = look(&world).await;
        let log = world.open().await.unwrap();
        act(&world, &log, &Op::Checkpoint).await;
        world.power_cut(log).await;
        let by_a_checkpoint = look(&world).await;
        for seen in [by_its_frame, by_a_checkpoint] {
            assert_eq!(seen.bytes(0).len(), 3);
            let told: Vec<_> = seen.findings.iter().map(|f| (f.kind, f.offsets.clone())).collect();
            assert!(told.contains(&(FindingKind::Lost, Some(Offset(3)..Offset(6)))), "{told:?}");
            assert!(seen.harmful().is_empty(), "{told:?}");
        }
    });
}
