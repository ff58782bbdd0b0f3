//! Backups of a broker at work: each holds all that was acknowledged before it began, and of the rest
//! what came before one moment.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use millstream_broker::{BackupError, BackupStep, Broker, Checked, TopicRequest, backup, verify};
use millstream_env::disk::{Disk, Fault, FaultAt, Operation, SimDisk};
use millstream_env::{DataDir, RestoreError};
use millstream_types::Offset;
use world::{World, create, names, produce, topic, values};

#[path = "faults/world.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod world;

/// Topics that are written to in turn, and what has become of it.
#[derive(Default)]
struct Ledger {
    /// What was appended or tried, in order: a topic and a value.
    sent: Vec<(String, String)>,
    /// How many of those have been acknowledged, from the first on.
    acknowledged: usize,
}

impl Ledger {
    /// Writes one record and waits for it, however long that takes.
    async fn write(&mut self, world: &World, broker: &Broker) {
        if self.acknowledged == self.sent.len() {
            let nth = self.sent.len();
            // Now and then to a topic that has just been made.
            let is_new = nth % 10 == 9;
            let name = if is_new { format!("n{nth}") } else { format!("t{}", nth % 3) };
            if is_new {
                create(broker, &name).await.unwrap();
            }
            // Sizes from a hundred bytes to some blocks, so that groups are cut in many ways.
            let padding = "x".repeat(100 + nth * 7919 % 9000);
            self.sent.push((name, format!("{nth} {padding}")));
        }
        let (name, value) = self.sent.last().unwrap().clone();
        if produce(broker, &name, &value).await.is_some() {
            self.acknowledged += 1;
        } else {
            world.settle().await;
        }
        world.clock.advance(Duration::from_millis(40));
        if self.acknowledged.is_multiple_of(40) {
            // Old records go, and with them segments that a backup may be about to copy.
            let topic = topic(broker, &name);
            let end = topic.partition(0).unwrap().ends().high_watermark;
            let before = Offset((end.0 - 10).max(0));
            broker.delete_records(&topic, 0, Some(before)).unwrap();
        }
    }

    /// What a restored broker has must be all that was sent up to one moment, not before
    /// `acknowledged`; deleted records excepted.
    async fn check(&self, restored: &Broker, acknowledged: usize) {
        let mut kept = BTreeMap::new();
        let mut count = 0;
        for name in names(restored) {
            let found = topic(restored, &name);
            count += usize::try_from(found.partition(0).unwrap().ends().log_end.0).unwrap();
            kept.insert(name.clone(), values(restored, &name).await);
        }
        assert!(count >= acknowledged, "{count} of {acknowledged} acknowledged records");
        let mut expected: BTreeMap<&str, Vec<(Offset, String)>> = BTreeMap::new();
        for (name, value) in &self.sent[..count] {
            let values = expected.entry(name).or_default();
            values.push((Offset(values.len() as i64), value.clone()));
        }
        for (name, values) in kept {
            let start = topic(restored, &name).partition(0).unwrap().ends().log_start;
            let all = expected.remove(name.as_str()).unwrap_or_default();
            let visible: Vec<_> = all.into_iter().filter(|(offset, _)| *offset >= start).collect();
            assert!(values == visible, "{name} from {start}: {} records", values.len());
        }
        assert_eq!(expected.keys().next(), None, "a topic is missing");
    }
}

/// Takes a backup while `meanwhile` goes on; returns the disk that it is on.
async fn back_up(
    world: &World,
    mut meanwhile: impl AsyncFnMut(),
) -> Result<(Arc<SimDisk>, Checked), BackupError> {
    let source = DataDir::open_beside_on(world.machine.mount(), world.env.clone(), "here").unwrap();
    let machine = SimDisk::new(7);
    let (env, cluster) = (world.env.clone(), source.cluster());
    let target = DataDir::create_copy_on(machine.mount(), env, "there", cluster).unwrap();
    let mut tell = |_: BackupStep| {};
    let mut work = Box::pin(backup(&source, &target, &mut tell));
    let mut polls = 0;
    let checked = loop {
        polls += 1;
        let polled = poll_fn(|context| Poll::Ready(work.as_mut().poll(context)));
        if let Poll::Ready(done) = polled.await {
            break done?;
        }
        // Between two steps of the copying there is little to do, or much.
        let steps = if polls % 7 == 3 { polls % 24 } else { polls % 3 };
        for _ in 0..steps {
            meanwhile().await;
        }
        tokio::task::yield_now().await;
    };
    drop(work);
    target.publish(&mut |_, _| {}).await.unwrap();
    drop(target);
    Ok((machine, checked))
}

/// Restores a backup to another machine, checks it, and starts a broker there.
async fn restore(world: &World, backup: &Arc<SimDisk>) -> Broker {
    let machine = SimDisk::new(8);
    DataDir::restore_on(backup.mount(), machine.mount(), &mut |_, _| {}).await.unwrap();
    let dir = DataDir::open_read_only_on(machine.mount(), world.env.clone(), "restored").unwrap();
    verify(&dir, &mut |_| {}).await.unwrap();
    drop(dir);
    World::on(machine, world.env.clone()).start().await.unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_before_a_backup_is_in_it() {
    let mut rounds = 0;
    for seed in 0..6 {
        let world = World::new(seed);
        let broker = world.start().await.unwrap();
        for name in ["t0", "t1", "t2"] {
            create(&broker, name).await.unwrap();
        }
        let mut ledger = Ledger::default();
        for _ in 0..seed * 50 {
            ledger.write(&world, &broker).await;
        }
        for backups in 0..3 {
            let before = ledger.acknowledged;
            let (copy, checked) =
                back_up(&world, async || ledger.write(&world, &broker).await).await.unwrap();
            rounds += checked.rounds;
            let restored = restore(&world, &copy).await;
            ledger.check(&restored, before).await;
            println!("backup {backups} of seed {seed}: {checked:?}");
            // It goes on from there.
            let end = topic(&restored, "t0").partition(0).unwrap().ends().log_end;
            assert_eq!(produce(&restored, "t0", "more").await, Some(end));
            restored.close().await;
            for _ in 0..30 {
                ledger.write(&world, &broker).await;
            }
        }
        broker.close().await;
    }
    assert!(rounds > 18, "no backup was ever overtaken: {rounds} rounds");
}

/// So many partitions that a checkpoint is large enough to be added to.
const PARTITIONS: i32 = 2_000;

#[tokio::test]
async fn a_backup_while_checkpoints_add_to_each_other() {
    let world = World::new(11);
    let broker = world.start().await.unwrap();
    let many = TopicRequest {
        name: "many".to_owned(),
        partitions: Some(PARTITIONS),
        ..TopicRequest::default()
    };
    broker.create_topic(many, false).await.unwrap();
    for name in ["t0", "t1", "t2"] {
        create(&broker, name).await.unwrap();
    }
    let mut ledger = Ledger::default();
    let mut meanwhile = 0;
    for backups in 0..3 {
        let before = broker.log_stats().deltas;
        while broker.log_stats().deltas < before + 2 {
            ledger.write(&world, &broker).await;
        }
        let (acknowledged, deltas) = (ledger.acknowledged, broker.log_stats().deltas);
        let (copy, checked) =
            back_up(&world, async || ledger.write(&world, &broker).await).await.unwrap();
        meanwhile += broker.log_stats().deltas - deltas;
        let checkpoints = files_below(&*copy.mount(), "blobs/checkpoint");
        println!("backup {backups}: {checked:?}, {} checkpoints", checkpoints.len());
        assert!(checkpoints.len() > 1, "they do not add to each other: {checkpoints:?}");
        let restored = restore(&world, &copy).await;
        ledger.check(&restored, acknowledged).await;
        assert_eq!(
            topic(&restored, "many").partition(PARTITIONS - 1).unwrap().ends().log_end,
            Offset(0)
        );
        restored.close().await;
    }
    assert!(meanwhile > 0, "no checkpoint was taken while a backup was made");
    broker.close().await;
}

/// All files below a folder of a disk.
fn files_below(disk: &dyn Disk, dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in disk.list(dir).unwrap() {
        let path = format!("{dir}/{}", entry.name);
        match entry.is_dir {
            true => found.extend(files_below(disk, &path)),
            false => found.push(path),
        }
    }
    found
}

#[tokio::test]
async fn a_backup_of_a_stopped_broker_and_of_an_empty_one() {
    for records in [0, 1, 200] {
        let world = World::new(1);
        let broker = world.start().await.unwrap();
        for name in ["t0", "t1", "t2"] {
            create(&broker, name).await.unwrap();
        }
        let mut ledger = Ledger::default();
        for _ in 0..records {
            ledger.write(&world, &broker).await;
        }
        broker.close().await;
        let before = ledger.acknowledged;
        let (copy, checked) = back_up(&world, async || world.settle().await).await.unwrap();
        assert_eq!(checked.rounds, 1);
        let restored = restore(&world, &copy).await;
        ledger.check(&restored, before).await;
        restored.close().await;
    }
}

/// Flips a bit of the file `path`, in the byte at `at`.
fn flip(disk: &dyn Disk, path: &str, at: u64) {
    use millstream_env::disk::{Access, Caching};
    let file = disk.open(path, Access::Write, Caching::Cached).unwrap();
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, at).unwrap(), 1);
    byte[0] ^= 4;
    file.write_at(&[std::io::IoSlice::new(&byte)], at).unwrap();
}

/// The files in a folder of a disk, with their sizes.
fn files(disk: &dyn Disk, dir: &str) -> Vec<(String, u64)> {
    let listed = disk.list(dir).unwrap().into_iter();
    listed.map(|entry| (format!("{dir}/{}", entry.name), entry.size)).collect()
}

#[tokio::test]
async fn damage_of_the_source_and_of_the_backup_is_found() {
    let world = World::new(3);
    let broker = world.start().await.unwrap();
    for name in ["t0", "t1", "t2"] {
        create(&broker, name).await.unwrap();
    }
    let mut ledger = Ledger::default();
    for _ in 0..30 {
        ledger.write(&world, &broker).await;
    }
    let (copy, _) = back_up(&world, async || world.settle().await).await.unwrap();
    let disk = copy.mount();
    let journal = files(&*disk, "journal").into_iter().find(|(_, size)| *size > 4096).unwrap().0;
    flip(&*disk, &journal, 3 * 4096 + 100);
    let put = async |disk: Arc<dyn Disk>| {
        DataDir::restore_on(disk, SimDisk::new(9).mount(), &mut |_, _| {}).await
    };
    let damaged = put(Arc::clone(&disk)).await;
    assert!(matches!(damaged, Err(RestoreError::Damaged { .. })), "{damaged:?}");
    flip(&*disk, &journal, 3 * 4096 + 100);
    put(Arc::clone(&disk)).await.unwrap();
    // Neither cut short, nor missing, nor without its manifest.
    let meta = files(&*disk, "meta").remove(0).0;
    disk.remove(&meta).unwrap();
    let missing = put(Arc::clone(&disk)).await;
    assert!(matches!(missing, Err(RestoreError::Damaged { .. })), "{missing:?}");
    disk.remove("backup").unwrap();
    let unfinished = put(Arc::clone(&disk)).await;
    assert!(matches!(unfinished, Err(RestoreError::NoBackup { .. })), "{unfinished:?}");
    // What is damaged before it is copied is not declared good.
    let source = world.machine.mount();
    let journal = files(&*source, "journal").into_iter().find(|(_, size)| *size > 4096).unwrap().0;
    flip(&*source, &journal, 3 * 4096 + 100);
    let refused = back_up(&world, async || world.settle().await).await;
    assert!(
        matches!(refused, Err(BackupError::NotConsistent { .. } | BackupError::Damaged(_))),
        "{refused:?}"
    );
    broker.close().await;
}

#[tokio::test]
async fn a_flip_on_the_way_from_the_disk_gets_into_no_backup() {
    let world = World::new(5);
    let broker = world.start().await.unwrap();
    for name in ["t0", "t1", "t2"] {
        create(&broker, name).await.unwrap();
    }
    let mut ledger = Ledger::default();
    for _ in 0..150 {
        ledger.write(&world, &broker).await;
    }
    broker.close().await;
    let mut good = 0;
    // The first read is of the file that says whose directory it is: a flip there is refused at once.
    for after in 1.. {
        world.machine.plan(FaultAt { on: Operation::Read, after, fault: Fault::Flip });
        let made = back_up(&world, async || world.settle().await).await;
        if let Ok((copy, _)) = &made {
            good += 1;
            let restored = restore(&world, copy).await;
            ledger.check(&restored, ledger.acknowledged).await;
            restored.close().await;
        }
        if world.machine.faults_left() > 0 {
            assert!(made.is_ok());
            assert!(good * 10 > after * 9, "{good} of {after} flips got no further");
            return;
        }
    }
}

#[tokio::test]
async fn nothing_is_written_over() {
    let world = World::new(4);
    let broker = world.start().await.unwrap();
    let source = DataDir::open_beside_on(world.machine.mount(), world.env.clone(), "here").unwrap();
    let copy = |disk: Arc<dyn Disk>| {
        DataDir::create_copy_on(disk, world.env.clone(), "there", source.cluster())
    };
    let in_use = copy(world.machine.mount()).unwrap_err().to_string();
    assert!(in_use.contains("in use"), "{in_use}");
    broker.close().await;
    drop(broker);
    world.settle().await;
    let used = copy(world.machine.mount()).unwrap_err().to_string();
    assert!(used.contains("there is not empty"), "{used}");
}
