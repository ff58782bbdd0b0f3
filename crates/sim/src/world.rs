//! What everybody in a simulation shares, and the loop that runs it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{self, Either};
use millstream_broker::AuditCounts;
use millstream_env::{Dice, Env, HandClock};
use millstream_testkit::history::{Client, Group, Moment, Partition, Place, Value};
use millstream_types::{Monotonic, Offset};

use crate::clients::keyed::Keyed;
use crate::drive::MIGRANTS;
use crate::executor::{Executor, OUTSIDE, Step};
use crate::history::{Recorder, partition};
use crate::lock;
use crate::machine::{self, Machine};
use crate::net::Net;
use crate::plan::Plan;
use crate::trace::{Trace, note};

/// So many steps without time passing are an endless loop.
const STEPS_MAX: u64 = 200_000;

/// So many steps in all are one that goes round very fast.
const STEPS_IN_ALL_MAX: u64 = 5_000_000;

/// What everybody shares.
pub(crate) struct World {
    pub(crate) plan: Plan,
    /// The world outside of the machine.
    pub(crate) env: Env,
    pub(crate) net: Net,
    pub(crate) machine: Machine,
    pub(crate) trace: Arc<Trace>,
    pub(crate) history: Recorder,
    dice: Mutex<Dice>,
    orders: Mutex<Vec<Order>>,
    violations: Mutex<Vec<String>>,
    /// What has been counted, by name.
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// What was copied in transactions: copy and source.
    copies: Mutex<BTreeMap<Value, Value>>,
    /// What was written under keys.
    pub(crate) keyed: Mutex<Vec<Keyed>>,
    /// Who owns a partition in a group, and since when.
    claims: Mutex<BTreeMap<(Group, Partition), Claim>>,
    /// What a reader of committed data has found at the end.
    drained: Mutex<Vec<(Place, Value)>>,
    /// Whether faults are over and clients are to come to an end.
    closing: AtomicBool,
    done: AtomicBool,
    full: AtomicBool,
}

/// Who owns a partition in a group.
struct Claim {
    client: Client,
    epoch: i32,
    at: Moment,
}

/// What is to be done to the machine, after the step that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Starts the broker, unless it runs.
    Boot,
    /// Cuts the power; it comes back after a while.
    PowerCut,
    /// Kills the process; what it wrote is there.
    Kill,
    /// Closes the broker, then ends the process.
    Close,
    /// The process has come to its end by itself.
    Exit,
}

/// How a simulation came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The hash of everything that happened.
    pub hash: u64,
    /// What must not have happened, in words.
    pub violations: Vec<String>,
    /// The last lines of the trace.
    pub tail: Vec<String>,
    /// What was counted: operations of clients, faults.
    pub counts: BTreeMap<&'static str, u64>,
}

impl World {
    /// A number below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        lock(&self.dice).below(end)
    }

    /// Dice of one's own.
    pub(crate) fn dice(&self) -> Dice {
        Dice::new(lock(&self.dice).next())
    }

    /// Something happened that must not.
    pub(crate) fn violation(&self, what: String) {
        note!(self, "VIOLATION: {what}");
        lock(&self.violations).push(what);
    }

    pub(crate) fn count(&self, what: &'static str) {
        self.count_many(what, 1);
    }

    pub(crate) fn count_many(&self, what: &'static str, many: u64) {
        *lock(&self.counts).entry(what).or_default() += many;
    }

    /// Counts what a run of the broker has noted.
    pub(crate) fn count_audit(&self, noted: Option<AuditCounts>) {
        let Some(AuditCounts { records, dropped }) = noted else { return };
        self.count_many("audit records", records);
        self.count_many("audit events left out", dropped);
    }

    pub(crate) fn order(&self, order: Order) {
        lock(&self.orders).push(order);
    }

    /// Notes what a value is a copy of.
    pub(crate) fn copies(&self, copy: Value, source: Value) {
        lock(&self.copies).insert(copy, source);
    }

    /// A member of a group has been told that a partition is its own, in an epoch of the group. An answer
    /// may come so late that the group has moved on: then it says nothing. Where both protocols meet, an
    /// empty group that changes its type begins anew with the first epoch, and nobody can tell.
    pub(crate) fn claim(&self, what: (Group, Partition), client: Client, epoch: i32) {
        let claim = Claim { client, epoch, at: self.history.moment() };
        let mut claims = lock(&self.claims);
        if claims.get(&what).is_none_or(|before| before.epoch <= epoch) {
            claims.insert(what, claim);
        } else if what.0 == MIGRANTS.1 {
            claims.remove(&what);
        }
    }

    /// Who else was told before `begun` that a partition is its own, in this epoch or a later one.
    pub(crate) fn claimed_since(
        &self,
        what: (Group, Partition),
        (client, epoch): (Client, i32),
        begun: Moment,
    ) -> Option<Client> {
        let claims = lock(&self.claims);
        let is_later = |it: &&Claim| it.client != client && it.epoch >= epoch && it.at < begun;
        claims.get(&what).filter(is_later).map(|it| it.client)
    }

    /// Notes what is there at the end.
    pub(crate) fn set_drained(&self, all: Vec<(Place, Value)>) {
        *lock(&self.drained) = all;
    }

    /// What is there of a partition at the end.
    pub(crate) fn drained(&self, topic: usize, index: i32) -> Vec<(Offset, Value)> {
        let partition = partition(topic, index);
        let drained = lock(&self.drained);
        let there = drained.iter().filter(|(at, _)| at.partition == partition);
        there.map(|(at, value)| (at.offset, *value)).collect()
    }

    /// The copies that are there at the end, with their sources.
    pub(crate) fn copied(&self) -> Vec<(Value, Value)> {
        let (drained, copies) = (lock(&self.drained), lock(&self.copies));
        drained.iter().filter_map(|(_, it)| copies.get(it).map(|source| (*it, *source))).collect()
    }

    /// Whether clients are to come to an end.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Everything is done.
    pub(crate) fn finish(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    /// Whether the disk has a limit now.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    pub(crate) async fn sleep(&self, time: Duration) {
        self.env.sleep(time).await;
    }

    /// Sleeps for a random time below `most`.
    pub(crate) async fn nap(&self, most: Duration) {
        let nanos = self.below(u64::try_from(most.as_nanos()).unwrap_or(u64::MAX));
        self.sleep(Duration::from_nanos(nanos)).await;
    }

    /// What `work` comes to, unless it takes longer than `time`.
    pub(crate) async fn within<T>(
        &self,
        time: Duration,
        work: impl Future<Output = T> + Send,
    ) -> Option<T> {
        match future::select(std::pin::pin!(work), self.env.sleep(time)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

/// Runs one seed to its end.
pub(crate) struct Sim {
    pub(crate) world: Arc<World>,
    executor: Executor,
    clock: Arc<HandClock>,
    base: Env,
}

impl Sim {
    pub(crate) fn new(seed: u64, plan: Plan, aloud: bool) -> Self {
        let mut dice = Dice::new(seed);
        let (base, clock) = Env::seeded(dice.next());
        let executor = Executor::new(dice.next());
        let trace = Arc::new(Trace::new(Arc::clone(&clock), aloud));
        let env = Env { tasks: executor.tasks_of(OUTSIDE), ..base.clone() };
        let world = World {
            plan,
            env,
            net: Net::new(dice.next(), Arc::clone(&clock), Arc::clone(&trace)),
            machine: Machine::new(dice.next()),
            trace,
            history: Recorder::default(),
            dice: Mutex::new(Dice::new(dice.next())),
            orders: Mutex::new(vec![Order::Boot]),
            violations: Mutex::default(),
            counts: Mutex::default(),
            copies: Mutex::default(),
            keyed: Mutex::default(),
            claims: Mutex::default(),
            drained: Mutex::default(),
            closing: AtomicBool::new(false),
            done: AtomicBool::new(false),
            full: AtomicBool::new(false),
        };
        Self { world: Arc::new(world), executor, clock, base }
    }

    /// Runs until somebody says that everything is done.
    pub(crate) fn run(mut self) -> Outcome {
        let (mut steps, mut all, mut now) = (0_u64, 0_u64, Monotonic(0));
        let deadline = Monotonic(0).plus(self.world.plan.time_max);
        // Who has run since time passed, for who looks for an endless loop.
        let mut running = BTreeMap::<&str, u64>::new();
        while !self.world.done.load(Ordering::Relaxed) {
            self.carry_out_orders();
            match self.executor.step() {
                Step::Ran(task, name) => {
                    *running.entry(name).or_default() += 1;
                    self.world.trace.fold(&task.to_le_bytes());
                    steps += 1;
                    all += 1;
                }
                Step::Idle => {
                    if !self.clock.advance_to_next() {
                        self.world.violation("everybody waits for somebody else".to_owned());
                        break;
                    }
                }
            }
            let then = std::mem::replace(&mut now, self.base.clock.monotonic());
            if now != then {
                self.world.trace.fold(&now.0.to_le_bytes());
                steps = 0;
                running.clear();
            }
            if steps > STEPS_MAX || all > STEPS_IN_ALL_MAX {
                self.world.violation(format!("somebody goes round and round: {running:?}"));
                break;
            }
            if now > deadline {
                self.world.violation("it does not come to its end".to_owned());
                break;
            }
        }
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        let world = &self.world;
        world.count_audit(world.machine.broker().map(|broker| broker.audit_counts()));
        let counts = lock(&world.counts).clone();
        let violations = lock(&world.violations).clone();
        Outcome { hash: world.trace.hash(), violations, tail: world.trace.tail(), counts }
    }

    /// Does to the machine what was asked for, and what its disk has done to itself.
    fn carry_out_orders(&mut self) {
        if self.world.machine.disk.is_off() {
            let order =
                if self.world.machine.disk.is_killed() { Order::Kill } else { Order::PowerCut };
            self.carry_out(order);
        }
        let orders = std::mem::take(&mut *lock(&self.world.orders));
        for order in orders {
            self.carry_out(order);
        }
    }

    fn carry_out(&mut self, order: Order) {
        let world = Arc::clone(&self.world);
        let running = world.machine.process();
        match (order, running) {
            (Order::Boot, None) => {
                let process = world.machine.begin();
                note!(world, "broker: run {}", process.0);
                let env = Env { tasks: self.executor.tasks_of(process), ..self.base.clone() };
                env.clone().spawn("broker", machine::run(world, env));
            }
            (Order::Close, Some(process)) => {
                let Some(broker) = world.machine.broker() else { return };
                note!(world, "fault: close");
                world.count("closed");
                let env = Env { tasks: self.executor.tasks_of(process), ..self.base.clone() };
                env.spawn("close", machine::stop(world, broker));
            }
            (Order::PowerCut | Order::Kill | Order::Exit, Some(process)) => {
                note!(world, "fault: {order:?}");
                world.net.unlisten();
                world.count_audit(world.machine.end());
                if order == Order::PowerCut {
                    world.count("power cuts");
                    world.machine.disk.power_cut();
                } else {
                    world.count("kills");
                    world.machine.disk.kill();
                }
                self.executor.kill(process);
                let pause = machine::pause(world.below(u64::MAX));
                let sleep = self.base.sleep(pause);
                self.world.env.spawn("boot", async move {
                    sleep.await;
                    world.order(Order::Boot);
                });
            }
            (Order::Boot | Order::Close, _) | (_, None) => {}
        }
    }
}
