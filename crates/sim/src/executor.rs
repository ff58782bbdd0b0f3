//! All tasks of a simulation, on one thread; who goes next is drawn.
//!
//! Who is ready is a set, so that the order in which tasks were woken says nothing: where a library
//! wakes those who wait in an order of its own, the trace is the same all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;
use millstream_env::{Dice, Spawn};

use crate::lock;

/// Who tasks belong to: they end together when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u64);

/// Whoever is never killed: clients, and what drives them.
pub(crate) const OUTSIDE: ProcessId = ProcessId(0);

/// Runs tasks one step at a time.
pub(crate) struct Executor {
    queue: Arc<Queue>,
    tasks: BTreeMap<u64, Task>,
    dice: Dice,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It polled this task, of this name.
    Ran(u64, &'static str),
    /// Nobody is ready: time has to pass.
    Idle,
}

struct Task {
    name: &'static str,
    process: ProcessId,
    future: BoxFuture<'static, ()>,
    waker: Waker,
}

#[derive(Default)]
struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    ready: BTreeSet<u64>,
    spawned: Vec<Spawned>,
    next: u64,
}

struct Spawned {
    id: u64,
    name: &'static str,
    process: ProcessId,
    future: BoxFuture<'static, ()>,
}

/// Where the tasks of one process go.
struct Tasks {
    queue: Arc<Queue>,
    process: ProcessId,
}

struct TaskWaker {
    queue: Arc<Queue>,
    id: u64,
}

impl Executor {
    pub(crate) fn new(seed: u64) -> Self {
        Self { queue: Arc::default(), tasks: BTreeMap::new(), dice: Dice::new(seed) }
    }

    /// Where a process spawns its tasks.
    pub(crate) fn tasks_of(&self, process: ProcessId) -> Arc<dyn Spawn> {
        Arc::new(Tasks { queue: Arc::clone(&self.queue), process })
    }

    /// Polls one of the tasks that are ready.
    pub(crate) fn step(&mut self) -> Step {
        let Some(id) = self.draw() else { return Step::Idle };
        // Whoever is woken after its end is gone.
        let Some(task) = self.tasks.get_mut(&id) else { return Step::Ran(id, "gone") };
        let (waker, name) = (task.waker.clone(), task.name);
        if let Poll::Ready(()) = task.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.tasks.remove(&id);
        }
        Step::Ran(id, name)
    }

    /// Ends all tasks of a process, wherever they are.
    pub(crate) fn kill(&mut self, process: ProcessId) {
        self.take_in();
        let dead: Vec<_> = self.tasks.extract_if(.., |_, task| task.process == process).collect();
        // Outside of all locks: what they own may wake and spawn.
        drop(dead);
        let late = lock(&self.queue.0)
            .spawned
            .extract_if(.., |it| it.process == process)
            .collect::<Vec<_>>();
        drop(late);
    }

    fn draw(&mut self) -> Option<u64> {
        self.take_in();
        let mut waiting = lock(&self.queue.0);
        let at = self.dice.below(waiting.ready.len() as u64);
        let id = waiting.ready.iter().nth(usize::try_from(at).unwrap_or_default()).copied()?;
        waiting.ready.remove(&id);
        Some(id)
    }

    fn take_in(&mut self) {
        let spawned = std::mem::take(&mut lock(&self.queue.0).spawned);
        for Spawned { id, name, process, future } in spawned {
            let waker = Waker::from(Arc::new(TaskWaker { queue: Arc::clone(&self.queue), id }));
            self.tasks.insert(id, Task { name, process, future, waker });
        }
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.queue.0).ready.insert(self.id);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        lock(&self.queue.0).ready.insert(self.id);
    }
}

impl Spawn for Tasks {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        let mut waiting = lock(&self.queue.0);
        let id = waiting.next;
        waiting.next += 1;
        waiting.spawned.push(Spawned { id, name, process: self.process, future });
        waiting.ready.insert(id);
    }

    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async {
            tokio::task::yield_now().await;
            work();
        })
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("process", &self.process).finish_non_exhaustive()
    }
}
