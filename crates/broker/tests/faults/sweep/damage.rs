//! Flipped bits, in every kind of file, at rest and on the way to the disk.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use millstream_env::disk::{Fault, FaultAt, Operation, SimDisk};
use millstream_record::segment::{FOOTER_SIZE, Footer};

use super::client::Client;
use super::model::{Checked, Losses, Model, lost_offsets};
use super::{assert_none, operations, run, sweep};
use crate::repair::{Repaired, repair};
use crate::world::World;

/// A write of the journal holds at most so many batches of the workload.
const GROUP_MAX: usize = 5;

/// A machine that a broker has left, by a crash or in order, and what it must hold.
pub(super) struct Left {
    pub(super) world: World,
    pub(super) model: Model,
    /// How much time had passed.
    age: Duration,
    crash: bool,
}

/// What the cases have come to.
#[derive(Debug, Default)]
struct Reached {
    refused: usize,
    repaired: usize,
    reported: usize,
    missing: usize,
}

pub(super) async fn left_behind(client: Client, crash: bool) -> Left {
    let Client { world, broker, model, .. } = client;
    if !crash {
        broker.close().await;
    }
    drop(broker);
    world.settle().await;
    world.machine.power_cut();
    let age = Duration::from_nanos(world.env.clock.monotonic().0);
    Left { world, model, age, crash }
}

impl Left {
    /// The same once more.
    pub(super) fn copy(&self, seed: u64) -> World {
        let world = World { machine: self.world.machine.copy(seed), ..World::new(seed) };
        world.clock.advance(self.age);
        world
    }

    /// The newest journal, when nobody has sealed it.
    fn is_open_journal(&self, path: &str) -> bool {
        let files = self.world.machine.files();
        let newest =
            files.iter().filter_map(|(path, _)| path.split_once('-')).map(|(s, _)| s).max();
        self.crash && path.starts_with("journal/") && newest.is_some_and(|it| path.starts_with(it))
    }

    /// A broker on a machine of which the file `path` is damaged: it serves everything else, or refuses to
    /// start; and after a repair it serves everything else.
    async fn check(&self, world: &World, path: &str, reached: &mut Reached) -> Checked {
        let is_journal = path.starts_with("journal/");
        let mut losses = Losses {
            end_is_cut: self.is_open_journal(path),
            metadata: path.starts_with("meta/"),
            ..Losses::default()
        };
        let now = world.env.clock.wall();
        let refused = match world.try_start().await {
            Ok(broker) => {
                losses.named = lost_offsets(&broker).await?;
                reached.reported += usize::from(!losses.named.is_empty());
                let missing = self.model.check(&broker, now, &losses).await?;
                bound(missing, is_journal, &losses)?;
                reached.missing += missing;
                None
            }
            Err(error) => Some(error),
        };
        reached.refused += usize::from(refused.is_some());
        world.machine.kill();
        world.settle().await;
        let Repaired { needed, named } = repair(world, path).await;
        reached.repaired += usize::from(needed);
        if let (Some(why), false) = (&refused, needed) {
            return Err(format!("refused, and nothing is found: {why}"));
        }
        losses.named.extend(named);
        losses.repaired = needed;
        losses.end_is_cut |= needed && is_journal;
        let broker = world.try_start().await.map_err(|error| format!("after a repair: {error}"))?;
        let missing = self.model.check(&broker, now, &losses).await;
        bound(missing.map_err(|why| format!("after a repair: {why}"))?, is_journal, &losses)
    }
}

/// One bit hits one batch, or one write of the journal.
fn bound(missing: usize, is_journal: bool, losses: &Losses) -> Checked {
    let most = if is_journal { GROUP_MAX } else { 1 };
    match missing > most && !losses.metadata {
        true => Err(format!("{missing} records are lost by one bit: {:?}", losses.named)),
        false => Ok(()),
    }
}

/// The bytes of all files that are not zero, by what they are part of.
pub(super) fn places(world: &World) -> BTreeMap<&'static str, Vec<(Rc<str>, u64)>> {
    let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (path, _) in world.machine.files() {
        let bytes = world.machine.contents(&path);
        let part = match path.split('/').next().unwrap() {
            "lock" | "reserve" => continue,
            "cluster" => |_: usize, _: &[u8]| "cluster",
            "journal" => |_: usize, _: &[u8]| "journal",
            "meta" => |_: usize, _: &[u8]| "metadata",
            _ if path.starts_with("blobs/checkpoint/") => |_: usize, _: &[u8]| "checkpoint",
            _ => part_of_segment,
        };
        let path: Rc<str> = path.into();
        let used = (0..).zip(&bytes).filter(|(_, byte)| **byte != 0).map(|(at, _)| at);
        for at in used {
            places.entry(part(at, &bytes)).or_default().push((Rc::clone(&path), at as u64));
        }
    }
    places
}

fn part_of_segment(at: usize, bytes: &[u8]) -> &'static str {
    let footer = bytes.len() - FOOTER_SIZE;
    let directory = Footer::decode(&bytes[footer..]).unwrap();
    let position = directory.directory_position as usize;
    let runs = directory.runs(&bytes[position..footer]).unwrap();
    match (at as u64, runs.as_slice()) {
        (at, _) if at >= directory.directory_position => "directory",
        (at, [first, ..]) if at >= first.index_position => "index",
        (_, [_]) => "segment",
        _ => "pack",
    }
}

#[test]
fn a_flipped_bit_anywhere_costs_the_batch_it_hits_and_that_is_reported() {
    for crash in [false, true] {
        let left = run(async {
            let mut client = Client::new(1, SimDisk::new(0)).await.unwrap();
            client.run().await.unwrap();
            left_behind(client, crash).await
        });
        let kinds: Vec<_> = places(&left.world).into_iter().collect();
        let names: Vec<_> = kinds.iter().map(|(kind, bytes)| (*kind, bytes.len())).collect();
        println!("crash {crash}: {names:?}");
        assert_eq!(kinds.len(), 8, "{names:?}");
        let most = kinds.iter().map(|(_, bytes)| bytes.len() as u64).max().unwrap();
        let mut reached = Reached::default();
        // Each kind in turn, however small.
        let failed = sweep(8 * most * 8, 1, |at, seed| {
            let (kind, bytes) = &kinds[(at % 8) as usize];
            let bit = at / 8 % 8;
            let (path, byte) = &bytes[(at / 64) as usize % bytes.len()];
            let world = left.copy(seed);
            assert!(world.machine.flip_bit(path, *byte, bit as u8));
            let what = format!("{kind}, crash {crash}: bit {bit} of byte {byte} of {path}");
            (what, run(left.check(&world, path, &mut reached)))
        });
        println!("{reached:?}");
        assert_none(&failed);
        assert!(reached.refused > 1 && reached.repaired > reached.refused, "{reached:?}");
        assert!(reached.reported > 0 && reached.missing >= reached.reported, "{reached:?}");
    }
}

/// A bit flips on the way to the disk, of which nobody is told.
async fn flip(at: u64, seed: u64, reached: &mut Reached) -> Checked {
    let mut client = Client::new(1, SimDisk::new(seed * 7 + at)).await?;
    client.world.machine.plan(FaultAt { on: Operation::Write, after: at, fault: Fault::Flip });
    client.run().await?;
    let left = left_behind(client, at.is_multiple_of(2)).await;
    let path = left.world.machine.flipped().first().map(|(path, _)| path.clone());
    left.check(&left.world, &path.unwrap_or_default(), reached).await
}

#[test]
fn a_bit_that_flips_in_any_write_costs_the_batch_it_hits_and_that_is_reported() {
    let count = run(operations()) / 2;
    let mut reached = Reached::default();
    let failed = sweep(count, u64::MAX, |at, seed| {
        (format!("write {at}, seed {seed}"), run(flip(at, seed, &mut reached)))
    });
    println!("{reached:?}");
    assert_none(&failed);
    assert!(reached.repaired > 0, "{reached:?}");
}
