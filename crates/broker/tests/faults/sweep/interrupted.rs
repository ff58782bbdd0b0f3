//! A repair that is interrupted at any operation: another one completes it, and nothing that could be
//! read is lost by the interruption.

use std::collections::BTreeSet;
use std::rc::Rc;

use millstream_env::disk::{Fault, FaultAt, Operation, SimDisk};

use super::client::Client;
use super::damage::{Left, left_behind, places};
use super::model::{Checked, Losses};
use super::{assert_none, run, sweep};
use crate::repair::{carry_out, repair};
use crate::world::World;

const FAULTS: [Fault; 3] = [Fault::PowerCut, Fault::Kill, Fault::Fail];

/// A machine that is damaged in one place, and how many operations its repair takes.
struct Damaged {
    left: Rc<Left>,
    part: &'static str,
    place: (String, u64),
    named: BTreeSet<(String, i32, i64)>,
    operations: u64,
}

impl Damaged {
    async fn new(part: &'static str, left: &Rc<Left>, (path, byte): (&str, u64)) -> Self {
        let (left, place, named) = (Rc::clone(left), (path.to_owned(), byte), BTreeSet::new());
        let mut damaged = Self { left, part, place, named, operations: 0 };
        let world = damaged.copy(0);
        let before = world.machine.operations();
        damaged.named.extend(carry_out(&world).await.unwrap());
        damaged.operations = world.machine.operations() - before;
        damaged
    }

    fn copy(&self, seed: u64) -> World {
        let world = self.left.copy(seed);
        let (path, byte) = &self.place;
        assert!(world.machine.flip_bit(path, *byte, 4));
        world
    }

    /// Whether a broker on the machine serves everything else; one may refuse to start.
    async fn serves(&self, world: &World, must: bool) -> Checked {
        let broker = match world.try_start().await {
            Ok(broker) => broker,
            Err(error) if must => return Err(format!("it does not start: {error}")),
            Err(_) => return Ok(()),
        };
        let losses = Losses {
            named: self.named.clone(),
            end_is_cut: self.part == "journal",
            metadata: self.part == "metadata",
            repaired: true,
        };
        let now = world.env.clock.wall();
        self.left.model.check(&broker, now, &losses).await.map(|_| ())
    }

    async fn check(&self, at: u64, seed: u64, fault: Fault) -> Checked {
        let world = self.copy(seed * 7 + at);
        world.machine.plan(FaultAt { on: Operation::Any, after: at, fault });
        if carry_out(&world).await.is_ok() && world.machine.faults_left() > 0 {
            return Err("it was not interrupted".to_owned());
        }
        world.machine.kill();
        world.settle().await;
        let what = format!("{}, {fault:?} after {at}", self.part);
        if seed % 2 == 1 {
            // Somebody tries to start the broker first.
            self.serves(&world, false).await.map_err(|why| format!("half repaired: {why}"))?;
            world.machine.kill();
            world.settle().await;
        }
        repair(&world, &what).await;
        self.serves(&world, true).await
    }
}

/// A machine as a killed broker leaves it.
fn left() -> Rc<Left> {
    run(async {
        let mut client = Client::new(1, SimDisk::new(0)).await.unwrap();
        client.run().await.unwrap();
        Rc::new(left_behind(client, true).await)
    })
}

/// Bug: a broker that was started on what was half repaired, and killed, left a segment whose name was not
/// flushed. The next repair found it and referred to it, and a power cut took it away.
#[test]
fn a_segment_that_a_repair_has_found_is_there_after_a_power_cut() {
    let left = left();
    let places = places(&left.world);
    let (part, bytes) = places.iter().find(|(part, _)| **part == "checkpoint").unwrap();
    let (path, byte) = &bytes[bytes.len() * 2 / 5];
    let damaged = run(Damaged::new(part, &left, (path, *byte)));
    for seed in 0..40 {
        let checked = run(damaged.check(10, seed, Fault::Fail));
        checked.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn a_repair_that_is_interrupted_anywhere_is_completed_by_the_next() {
    let left = left();
    let places = places(&left.world);
    let damaged = places.iter().map(|(part, bytes)| {
        let (path, byte) = &bytes[bytes.len() * 2 / 5];
        run(Damaged::new(part, &left, (path, *byte)))
    });
    let damaged: Vec<_> = damaged.collect();
    assert_eq!(damaged.len(), 8);
    for one in &damaged {
        println!("{} at {:?}: {} operations", one.part, one.place, one.operations);
        assert!(one.operations > 10, "{}", one.part);
    }
    let kinds = damaged.len() as u64 * FAULTS.len() as u64;
    let most = damaged.iter().map(|one| one.operations).max().unwrap();
    assert_none(&sweep(kinds * most, 2, |at, seed| {
        let one = &damaged[(at / 3) as usize % damaged.len()];
        let fault = FAULTS[(at % 3) as usize];
        let at = at / kinds % one.operations;
        let what = format!("{} damaged, {fault:?} after {at}, seed {seed}", one.part);
        (what, run(one.check(at, seed + at, fault)))
    }));
}
