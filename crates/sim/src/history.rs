//! What clients saw, as it goes to the checker.

use std::sync::Mutex;

use millstream_testkit::history::{
    Client, Kind, Moment, Operation, Outcome, Partition, Step, Value,
};

use crate::lock;

/// Collects the operations of all clients.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<State>);

#[derive(Default)]
struct State {
    operations: Vec<Operation>,
    moment: u64,
    value: u64,
    client: u32,
}

impl Recorder {
    /// A moment that comes after all before it.
    pub(crate) fn moment(&self) -> Moment {
        let mut state = lock(&self.0);
        state.moment += 1;
        Moment(state.moment)
    }

    /// A value that nobody else sends.
    pub(crate) fn value(&self) -> Value {
        let mut state = lock(&self.0);
        state.value += 1;
        Value(state.value)
    }

    /// A client that nobody else is.
    pub(crate) fn client(&self) -> Client {
        let mut state = lock(&self.0);
        state.client += 1;
        Client(state.client)
    }

    /// Something that stands alone is over.
    pub(crate) fn plain(&self, client: Client, begun: Moment, outcome: Outcome, step: Step) {
        let (ended, kind, steps) = (self.moment(), Kind::Plain, vec![step]);
        self.push(Operation { client, begun, ended, kind, outcome, steps });
    }

    pub(crate) fn push(&self, operation: Operation) {
        lock(&self.0).operations.push(operation);
    }

    /// All operations so far.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        lock(&self.0).operations.clone()
    }
}

/// The number of a partition in a history: topics have fewer than a hundred.
pub(crate) fn partition(topic: usize, index: i32) -> Partition {
    Partition(u32::try_from(topic).unwrap_or(u32::MAX) * 100 + u32::try_from(index).unwrap_or(99))
}
