use super::*;
use crate::disk::{read_whole, write_whole};

fn file(disk: &Arc<dyn Disk>, path: &str) -> Arc<dyn DiskFile> {
    disk.open(path, Access::Create, Caching::Cached).unwrap()
}

fn write(file: &Arc<dyn DiskFile>, position: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_at(&[IoSlice::new(bytes)], position)
}

/// What each of many seeds leaves of a file after a power cut.
fn outcomes(prepare: impl Fn(&Arc<SimDisk>, &Arc<dyn Disk>)) -> BTreeSet<Option<Vec<u8>>> {
    let outcome = |seed| {
        let machine = SimDisk::new(seed);
        prepare(&machine, &machine.mount());
        machine.power_cut();
        read_whole(&*machine.mount(), "d/f", 1 << 20).ok()
    };
    (0..400).map(outcome).collect()
}

#[test]
fn what_is_synced_survives() {
    let found = outcomes(|_, disk| {
        let file = file(disk, "d/f");
        write(&file, 0, &[1; 2000]).unwrap();
        file.sync().unwrap();
        disk.sync_dir("d").unwrap();
    });
    assert_eq!(found, BTreeSet::from([Some(vec![1; 2000])]));
}

#[test]
fn what_is_not_synced_may_be_lost_sector_by_sector() {
    let found = outcomes(|_, disk| {
        let file = file(disk, "d/f");
        write(&file, 0, &[1; 1024]).unwrap();
        file.sync().unwrap();
        disk.sync_dir("d").unwrap();
        write(&file, 0, &[2; 1024]).unwrap();
    });
    let sectors = |first: u8, second: u8| Some([[first; 512], [second; 512]].concat());
    for (first, second) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        assert!(found.contains(&sectors(first, second)), "{first} {second}");
    }
    assert!(found.len() > 4, "no sector was ever torn");
}

/// Bug: the removal of an old name, not synced where its file went, took away a new one that was.
#[test]
fn a_name_that_went_elsewhere_does_not_take_a_later_one_with_it() {
    let found = outcomes(|_, disk| {
        for content in [b"old", b"new"] {
            let file = file(disk, "d/f");
            write(&file, 0, content).unwrap();
            file.sync().unwrap();
            disk.sync_dir("d").unwrap();
            if content == b"old" {
                disk.rename("d/f", "e/f").unwrap();
            }
        }
    });
    assert_eq!(found, BTreeSet::from([Some(b"new".to_vec())]));
}

#[test]
fn a_name_that_is_not_synced_may_be_lost() {
    let found = outcomes(|_, disk| {
        let file = file(disk, "d/f");
        write(&file, 0, b"x").unwrap();
        file.sync().unwrap();
    });
    assert_eq!(found, BTreeSet::from([None, Some(b"x".to_vec())]));
}

#[test]
fn renames_are_kept_or_lost_as_a_whole_and_in_any_order() {
    let found = outcomes(|_, disk| {
        write_whole(&**disk, "d/f", &[b"old"]).unwrap();
        write_whole(&**disk, "d/g", &[b"new"]).unwrap();
        write_whole(&**disk, "d/h", &[b"newer"]).unwrap();
        disk.rename("d/g", "d/f").unwrap();
        disk.rename("d/h", "d/f").unwrap();
    });
    let expected = [b"old".to_vec(), b"new".to_vec(), b"newer".to_vec()].map(Some);
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn a_failed_sync_is_not_mended_by_the_next_one() {
    let found = outcomes(|machine, disk| {
        let file = file(disk, "d/f");
        write(&file, 0, &[1; 512]).unwrap();
        file.sync().unwrap();
        disk.sync_dir("d").unwrap();
        write(&file, 0, &[2; 512]).unwrap();
        machine.plan(FaultAt { on: Operation::Sync, after: 0, fault: Fault::Fail });
        file.sync().unwrap_err();
        file.sync().unwrap();
        let mut seen = [0; 512];
        file.read_at(&mut seen, 0).unwrap();
        assert_eq!(seen, [2; 512], "the cache still shows it");
    });
    assert_eq!(found, BTreeSet::from([Some(vec![1; 512]), Some(vec![2; 512])]));
}

#[test]
fn dropping_the_cache_shows_the_medium() {
    for seed in 0..50 {
        let machine = SimDisk::new(seed);
        let file = file(&machine.mount(), "f");
        write(&file, 0, &[2; 512]).unwrap();
        machine.plan(FaultAt { on: Operation::Sync, after: 0, fault: Fault::Fail });
        file.sync().unwrap_err();
        file.drop_cache();
        let mut shown = [0; 512];
        file.read_at(&mut shown, 0).unwrap();
        machine.mount().sync_dir("").unwrap();
        file.sync().unwrap();
        machine.power_cut();
        assert_eq!(read_whole(&*machine.mount(), "f", 4096).unwrap(), shown);
    }
}

#[test]
fn planned_faults_hit_where_they_should() {
    let machine = SimDisk::new(1);
    let disk = machine.mount();
    let one = file(&disk, "f");
    machine.plan(FaultAt { on: Operation::Write, after: 1, fault: Fault::Full });
    write(&one, 0, b"a").unwrap();
    one.sync().unwrap();
    assert_eq!(write(&one, 1, b"b").unwrap_err().kind(), ErrorKind::StorageFull);
    write(&one, 1, b"c").unwrap();
    machine.plan(FaultAt { on: Operation::Any, after: 0, fault: Fault::PowerCut });
    one.sync().unwrap_err();
    assert!(machine.is_off());
    write(&one, 1, b"d").unwrap_err();
    machine.power_cut();
    write(&one, 1, b"d").unwrap_err();
    assert!(!machine.is_off());
}

#[test]
fn a_full_disk_takes_no_more() {
    let machine = SimDisk::new(1);
    let one = file(&machine.mount(), "f");
    machine.set_capacity(Some(1000));
    one.resize(1000).unwrap();
    assert_eq!(one.resize(1001).unwrap_err().kind(), ErrorKind::StorageFull);
    write(&one, 0, &[1; 1000]).unwrap();
    assert_eq!(write(&one, 1000, &[1]).unwrap_err().kind(), ErrorKind::StorageFull);
}

#[test]
fn locks_exclude_until_the_machine_restarts() {
    let machine = SimDisk::new(1);
    let first = machine.mount();
    first.lock("lock", "me").unwrap();
    let refused = machine.mount().lock("lock", "you").unwrap_err();
    assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::WouldBlock, "me"));
    machine.kill();
    let second = machine.mount();
    second.lock("lock", "you").unwrap();
    drop(first);
    machine.mount().lock("lock", "me").unwrap_err();
    drop(second);
    machine.mount().lock("lock", "me").unwrap();
}

#[test]
fn the_same_seed_does_the_same() {
    let run = |seed| {
        let machine = SimDisk::new(seed);
        let file = file(&machine.mount(), "f");
        machine.mount().sync_dir("").unwrap();
        write(&file, 0, &[1; 40_000]).unwrap();
        machine.power_cut();
        read_whole(&*machine.mount(), "f", 1 << 20).unwrap()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn reads_can_fail_and_lie() {
    let machine = SimDisk::new(3);
    let disk = machine.mount();
    let file = file(&disk, "d/f");
    write(&file, 0, &[0; 2000]).unwrap();
    let operations = machine.operations();
    let read = || {
        let mut out = [7; 2000];
        file.read_at(&mut out, 0).map(|count| (count, out.iter().map(|b| b.count_ones()).sum()))
    };
    assert_eq!(read().unwrap(), (2000, 0_u32));
    for (on, fault, expected) in [
        (Operation::Read, Fault::Flip, Some(1)),
        (Operation::Read, Fault::Fail, None),
        (Operation::Any, Fault::Fail, Some(0)),
    ] {
        machine.plan(FaultAt { on, after: 0, fault });
        assert_eq!(read().ok().map(|(_, ones)| ones), expected, "{fault:?}");
    }
    assert_eq!(machine.faults_left(), 1, "reading changes nothing");
    assert_eq!(machine.operations(), operations);
    machine.clear_faults(Operation::Any);
    assert_eq!(read().unwrap(), (2000, 0));
}

#[test]
fn damage_lasts_until_it_is_written_over_or_healed() {
    let machine = SimDisk::new(3);
    let disk = machine.mount();
    let file = file(&disk, "d/f");
    write(&file, 0, &[1; 2000]).unwrap();
    let read = |at: u64| {
        let mut out = [0; 100];
        file.read_at(&mut out, at).map(|_| out[0])
    };
    for byte in [0, 600, 1200] {
        assert!(machine.flip_bit("d/f", byte, 1));
    }
    assert!(machine.break_sector("d/f", 1800));
    assert!(!machine.break_sector("d/f", 5000));
    assert_eq!((read(0).unwrap(), read(600).unwrap()), (3, 3));
    assert!(read(1500).is_err(), "the last sector begins in it");
    assert_eq!(read(1400).unwrap(), 1);
    write(&file, 600, &[5]).unwrap();
    assert_eq!(machine.find(&[5]), [("d/f".to_owned(), 600)]);
    machine.heal(|path| path == "d/f");
    let seen: Vec<_> = [0, 600, 1200, 1800].into_iter().map(|at| read(at).unwrap()).collect();
    assert_eq!(seen, [1, 5, 1, 1]);
    machine.break_sector("d/f", 1800);
    write(&file, 1700, &[1; 200]).unwrap();
    assert!(read(1800).is_ok(), "what is written can be read");
}

#[test]
fn a_write_can_store_another_bit() {
    let machine = SimDisk::new(3);
    let disk = machine.mount();
    let file = file(&disk, "d/f");
    machine.plan(FaultAt { on: Operation::Write, after: 0, fault: Fault::Flip });
    machine.plan(FaultAt { on: Operation::Sync, after: 0, fault: Fault::Flip });
    write(&file, 0, &[0; 2000]).unwrap();
    file.sync().unwrap();
    assert_eq!(machine.faults_left(), 0);
    let mut out = [0; 2000];
    file.read_at(&mut out, 0).unwrap();
    assert_eq!(out.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
}
