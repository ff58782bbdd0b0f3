//! The machine: a disk that can fail, and one run of the broker after the other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_broker::{AuditCounts, Broker, Node, Stores};
use millstream_env::disk::SimDisk;
use millstream_env::{DataDir, Env, JournalSettings};
use millstream_kafka::Door;
use millstream_types::BrokerId;
use prometheus_client::registry::Registry;

use crate::executor::ProcessId;
use crate::lock;
use crate::trace::note;
use crate::world::{Order, World};

/// How much of the disk is set aside, in bytes.
const RESERVE_BYTES: u64 = 256 * 1024;

/// The machine.
pub(crate) struct Machine {
    pub(crate) disk: Arc<SimDisk>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who runs now, if anybody does.
    process: Option<ProcessId>,
    /// How many have run.
    boots: u64,
    broker: Option<Broker>,
    /// Whether a fault was planned in this run: it may fail without being wrong.
    faulty: bool,
    /// Runs in a row that did not start though nothing was wrong.
    refused: u32,
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        Self { disk: SimDisk::new(seed), state: Mutex::default() }
    }

    /// Who runs now.
    pub(crate) fn process(&self) -> Option<ProcessId> {
        lock(&self.state).process
    }

    /// The broker, when it has started.
    pub(crate) fn broker(&self) -> Option<Broker> {
        lock(&self.state).broker.clone()
    }

    /// A fault is planned: this run may fail.
    pub(crate) fn mark_faulty(&self) {
        lock(&self.state).faulty = true;
    }

    /// A new process begins.
    pub(crate) fn begin(&self) -> ProcessId {
        let mut state = lock(&self.state);
        state.boots += 1;
        let process = ProcessId(state.boots);
        state.process = Some(process);
        // What was planned while nobody ran happens to this one.
        state.faulty = self.disk.faults_left() > 0;
        process
    }

    /// The process is gone. What its audit has counted.
    pub(crate) fn end(&self) -> Option<AuditCounts> {
        let broker = {
            let mut state = lock(&self.state);
            state.process = None;
            state.broker.take()
        };
        broker.map(|broker| broker.audit_counts())
    }
}

/// What one process does: start, and serve until it is killed.
pub(crate) async fn run(world: Arc<World>, env: Env) {
    match start(&world, env).await {
        Ok((broker, door)) => {
            note!(world, "broker: serves");
            {
                let mut state = lock(&world.machine.state);
                state.refused = 0;
                state.broker = Some(broker);
            }
            world.net.listen(door);
        }
        Err(why) => {
            note!(world, "broker: does not start: {why}");
            let mut state = lock(&world.machine.state);
            let excused = state.faulty || world.machine.disk.is_off() || world.is_full();
            state.refused += u32::from(!excused);
            if state.refused > 1 {
                world.violation(format!("the broker does not start: {why}"));
            }
            drop(state);
            world.order(Order::Exit);
        }
    }
}

async fn start(world: &World, env: Env) -> Result<(Broker, Door), String> {
    let disk = world.machine.disk.mount();
    let dir = DataDir::open_on(disk, env.clone(), "sim").map_err(|error| error.to_string())?;
    let dir = dir.with_reserve(RESERVE_BYTES).map_err(|error| error.to_string())?;
    let settings = JournalSettings {
        file_bytes: 64 * 1024,
        files_max: 12,
        reserve_bytes: 16 * 1024,
        ..JournalSettings::default()
    };
    let journals = dir.journals(settings).await.map_err(|error| error.to_string())?;
    let node =
        Node { id: BrokerId(1), cluster_id: dir.cluster(), host: "here".to_owned(), port: 9092 };
    let blobs = dir.blobs().map_err(|error| error.to_string())?;
    let stores = Stores { journals, blobs, metadata: dir.meta(), reserve: dir.reserve() };
    let settings =
        world.plan.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let broker = Broker::start(env, node, stores, settings.collect()).await;
    let broker = broker.map_err(|error| error.to_string())?;
    let door = Door::new(broker.clone(), &mut Registry::default());
    Ok((broker, door))
}

/// Stops the process cleanly.
pub(crate) async fn stop(world: Arc<World>, broker: Broker) {
    broker.close().await;
    note!(world, "broker: closed");
    world.order(Order::Exit);
}

/// How long it takes until the process is started again.
pub(crate) fn pause(drawn: u64) -> Duration {
    Duration::from_millis(1 + drawn % 3_000)
}
