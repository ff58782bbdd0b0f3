use std::io::IoSlice;

use super::*;
use crate::disk::{Fault, FaultAt, Operation};

const SIZE: u64 = 24_000;

/// A machine with a reserve, and space for `more` bytes besides.
fn full(more: u64) -> (Arc<SimDisk>, Arc<Reserve>) {
    let machine = SimDisk::new(1);
    let reserve = Reserve::open(machine.mount(), SIZE).unwrap();
    assert!(reserve.refill() && !reserve.is_low());
    machine.set_capacity(Some(SIZE + more));
    (machine, reserve)
}

fn write(reserve: &Arc<Reserve>, to: Use, path: &str, bytes: usize) -> bool {
    let disk = reserve.disk(to);
    let file = disk.open(path, Access::Create, Caching::Cached).unwrap();
    let wrote = file.write_at(&[IoSlice::new(&vec![1; bytes])], 0);
    if let Err(error) = &wrote {
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
    wrote.is_ok()
}

#[track_caller]
fn check(to: Use, gets: usize) {
    for (bytes, fits) in [(gets, true), (gets + 1, false)] {
        let (_machine, reserve) = full(0);
        assert_eq!(write(&reserve, to, "file", bytes), fits, "{to:?} {bytes}");
        assert!(reserve.is_low() || bytes == 0, "{to:?} {bytes}");
        assert!(
            reserve.held() >= to.floor(SIZE)
                && (bytes == 0 || fits || reserve.held() == to.floor(SIZE))
        );
    }
}

#[test]
fn each_use_gets_its_part_of_the_reserve() {
    check(Use::Ahead, 0);
    check(Use::Segments, 3_000);
    check(Use::Journal, 20_000);
    check(Use::Metadata, 24_000);
}

#[test]
fn what_one_has_drawn_others_do_not_find() {
    let (_machine, reserve) = full(0);
    assert!(write(&reserve, Use::Segments, "a", 3_000));
    assert!(!write(&reserve, Use::Segments, "b", 1));
    assert!(write(&reserve, Use::Journal, "c", 17_000));
    assert!(!write(&reserve, Use::Journal, "d", 1));
    assert!(write(&reserve, Use::Metadata, "e", 4_000));
    assert!(!write(&reserve, Use::Metadata, "f", 1));
    assert_eq!(reserve.held(), 0);
}

#[test]
fn it_is_full_until_the_reserve_is_whole_and_what_was_refused_fits() {
    let (machine, reserve) = full(5_000);
    assert!(!write(&reserve, Use::Ahead, "refused", 7_000));
    assert!(write(&reserve, Use::Journal, "file", 6_000));
    assert!(reserve.is_low());
    // What is missing is 1,000 of the reserve, and the 7,000.
    for (more, low) in [(0, true), (12_999, true), (13_000, false)] {
        machine.set_capacity(Some(SIZE + more));
        assert_eq!(reserve.refill(), !low, "{more}");
        assert_eq!(reserve.is_low(), low, "{more}");
    }
    assert_eq!(reserve.held(), SIZE);
    let mut held = machine.files();
    held.retain(|(path, _)| path == "reserve");
    assert_eq!(held, [("reserve".to_owned(), SIZE)], "nothing else is kept");
}

#[test]
fn a_restart_finds_the_disk_as_full_as_it_was() {
    let (machine, reserve) = full(0);
    assert!(write(&reserve, Use::Journal, "file", 2_000));
    drop(reserve);
    let reserve = Reserve::open(machine.mount(), SIZE).unwrap();
    assert!(reserve.is_low() && !reserve.refill());
    machine.set_capacity(Some(SIZE + 2_000));
    assert!(reserve.refill() && !reserve.is_low());
    drop(reserve);
    // With another size in the settings.
    for (size, low) in [(SIZE, false), (1_000, false), (2_000, true), (0, false)] {
        let reserve = Reserve::open(machine.mount(), size).unwrap();
        assert_eq!((reserve.is_low(), reserve.held()), (low, size.min(1_000).max(reserve.held())));
        reserve.refill();
        assert_eq!(reserve.held(), size);
    }
}

#[test]
fn a_disk_that_is_too_small_for_a_reserve_is_used_without() {
    let machine = SimDisk::new(1);
    machine.set_capacity(Some(SIZE / 2));
    let reserve = Reserve::open(machine.mount(), SIZE).unwrap();
    assert!(!reserve.refill() && !reserve.is_low());
    assert!(write(&reserve, Use::Ahead, "file", 9_000));
    assert!(!write(&reserve, Use::Metadata, "other", 4_000));
    assert!(reserve.is_low());
    reserve.disk(Use::Ahead).remove("other").unwrap();
    assert!(!reserve.refill() && reserve.is_low(), "there is no room for 4,000 yet");
    reserve.disk(Use::Ahead).remove("file").unwrap();
    reserve.refill();
    assert!(!reserve.is_low());
}

struct Spare(Arc<dyn Disk>);

impl Hoarder for Spare {
    fn shed(&self) -> bool {
        self.0.remove("spare").is_ok()
    }
}

#[test]
fn what_is_kept_for_speed_goes_before_the_reserve() {
    let (machine, reserve) = full(3_000);
    assert!(write(&reserve, Use::Ahead, "spare", 3_000));
    let spare = Arc::new(Spare(machine.mount()));
    let hoarder = Arc::downgrade(&spare);
    reserve.ask_first(hoarder);
    assert!(write(&reserve, Use::Ahead, "file", 3_000));
    assert!(!reserve.is_low());
    assert!(write(&reserve, Use::Journal, "more", 1));
    assert!(reserve.is_low());
}

/// An operation that finds no space for a moment is repeated, whichever it is.
#[test]
fn no_single_refusal_reaches_who_may_draw() {
    let work = |reserve: &Arc<Reserve>| -> io::Result<()> {
        let disk = reserve.disk(Use::Metadata);
        disk.create_dir("dir")?;
        let file = disk.open("dir/a", Access::Create, Caching::Cached)?;
        file.resize(100)?;
        file.write_at(&[IoSlice::new(&[1; 300]), IoSlice::new(&[2; 100])], 50)?;
        file.sync()?;
        disk.rename("dir/a", "dir/b")?;
        disk.sync_dir("dir")?;
        disk.publish("dir/b", "dir/c")?;
        let mut read = [0; 450];
        assert_eq!(file.read_at(&mut read, 0)?, 450);
        assert_eq!((read[49], read[50], read[449]), (0, 1, 2));
        disk.remove("dir/c")
    };
    let (machine, reserve) = full(1_000);
    let before = machine.operations();
    work(&reserve).unwrap();
    let count = machine.operations() - before;
    let mut drawn = 0;
    for after in 0..count {
        let (machine, reserve) = full(1_000);
        machine.plan(FaultAt { on: Operation::Any, after, fault: Fault::Full });
        // A flush is never repeated, and removing needs no space.
        if work(&reserve).is_err() {
            continue;
        }
        assert_eq!(machine.faults_left(), 0);
        assert!(reserve.is_low());
        drawn += 1;
    }
    assert!(drawn >= 5 && drawn < count, "{drawn} of {count}");
}

/// What is cut off is there for every program on the machine.
#[test]
fn no_more_is_given_than_what_is_asked_for() {
    let (_machine, reserve) = full(0);
    for (path, bytes, held) in
        [("a", 10, SIZE - 4_096), ("b", 4_086, SIZE - 4_096), ("c", 9_000, 7_616)]
    {
        assert!(write(&reserve, Use::Metadata, path, bytes));
        assert_eq!(reserve.held(), held, "{path}");
    }
}
