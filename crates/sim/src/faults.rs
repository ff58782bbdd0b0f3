//! What goes wrong, at times that are drawn.

use std::sync::Arc;
use std::time::Duration;

use millstream_env::Dice;
use millstream_env::disk::{Fault, FaultAt, Operation};

use crate::net::Break;
use crate::trace::note;
use crate::world::{Order, World};

/// From here on the disk takes its time.
pub(crate) fn start(world: &World) {
    normal_pace(world);
}

/// Lets things go wrong until clients come to their end, then mends everything.
pub(crate) async fn strike(world: Arc<World>) {
    let mut dice = world.dice();
    loop {
        world.nap(world.plan.calm).await;
        if world.is_closing() {
            return;
        }
        one(&world, &mut dice).await;
    }
}

async fn one(world: &World, dice: &mut Dice) {
    match dice.below(16) {
        0..=2 => world.order(Order::PowerCut),
        3 => world.order(Order::Kill),
        4 => world.order(Order::Close),
        // In the middle of what the disk is doing.
        5 | 6 => plan(world, Operation::Any, dice.below(120), Fault::PowerCut),
        7 => plan(world, Operation::Any, dice.below(120), Fault::Kill),
        8 | 9 => {
            let kind = [Operation::Any, Operation::Write, Operation::Sync, Operation::Read];
            let fault = [Fault::Fail, Fault::Short, Fault::Torn];
            let (kind, fault) = (kind[dice.below(4) as usize], fault[dice.below(3) as usize]);
            plan(world, kind, dice.below(60), fault);
        }
        10..=12 => connection(world, Break::Reset),
        13 => connection(world, Break::Mute),
        14 => {
            let millis = dice.below(20_000);
            connection(world, Break::Stall(Duration::from_millis(millis)));
        }
        _ => slow(world, dice).await,
    }
}

fn plan(world: &World, on: Operation, after: u64, fault: Fault) {
    note!(world, "fault: {fault:?} of {on:?} after {after}");
    world.machine.mark_faulty();
    world.count("disk faults");
    world.machine.disk.plan(FaultAt { on, after, fault });
}

fn connection(world: &World, how: Break) {
    if let Some(id) = world.net.break_one(how) {
        note!(world, "fault: {how:?} of connection {id}");
        world.count("network faults");
    }
}

/// The disk, or the network, is slow for a while.
async fn slow(world: &World, dice: &mut Dice) {
    if dice.chance(128) {
        note!(world, "fault: the disk is slow");
        world.machine.disk.slow_down(&world.env, Duration::from_millis(1 + dice.below(200)));
    } else {
        note!(world, "fault: the network is slow");
        world.net.slow_down(50);
    }
    world.nap(Duration::from_secs(3)).await;
    normal_pace(world);
}

fn normal_pace(world: &World) {
    world.net.slow_down(1);
    let pause = world.plan.disk_pause.unwrap_or_default();
    world.machine.disk.slow_down(&world.env, pause);
}

/// Everything works again, and nothing more goes wrong.
pub(crate) fn mend(world: &World) {
    note!(world, "faults are over");
    world.machine.disk.clear_faults(Operation::Any);
    for kind in [Operation::Read, Operation::Write, Operation::Sync, Operation::Name] {
        world.machine.disk.clear_faults(kind);
    }
    world.machine.disk.set_capacity(None);
    world.set_full(false);
    normal_pace(world);
}
