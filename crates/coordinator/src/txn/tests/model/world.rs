//! The model: coordinator, host, partitions, clients, and what can befall them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{Monotonic, ProducerId, Timestamp};

use super::super::super::record::{Fact, Stored};
use super::super::super::*;
use super::super::script::{ID, TIMEOUT_MS, WALL, state};
use super::client::{Client, Request, Stage};
use super::mutant::Mutant;
use super::partition::{Partition, Write};
use super::rules::{Rule, may_follow};

/// How often things may befall the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chances {
    pub(super) crashes: u8,
    pub(super) failures: u8,
    pub(super) timeouts: u8,
    pub(super) restarts: u8,
    /// A producer asks to go on with a new epoch.
    pub(super) recoveries: u8,
    /// Requests that arrive late: an end that arrives twice, a write that its client gave up.
    pub(super) strays: u8,
    /// The second producer never begins.
    pub(super) alone: bool,
}

impl Chances {
    pub(super) const NONE: Self = Self {
        crashes: 0,
        failures: 0,
        timeouts: 0,
        restarts: 0,
        recoveries: 0,
        strays: 0,
        alone: false,
    };

    /// All but strays, which the first protocol can't stand.
    pub(super) const ALL: Self =
        Self { crashes: 1, failures: 1, timeouts: 1, restarts: 1, recoveries: 1, ..Self::NONE };
}

/// A step of a client or of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(usize, Request),
    /// The same, and its answer arrives at once.
    Call(usize, Request),
    /// The same as the first, but the append after so many others fails.
    AskInVain(usize, Request, u8),
    GiveUp(usize, Request),
    Stray(usize, Request),
    Restart(usize),
    /// All that was appended is durable: answers go out.
    Flush,
    /// All is lost but what was durable and the first so many entries after it.
    Crash(usize),
    Timeout,
    /// The host looks for markers that are not written.
    Mark,
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Record(StoredRecord),
    Write(usize, Producer, Write),
    Marker(usize, MarkerOrder),
}

type Partitions = [Partition; 2];

#[derive(Clone, Debug)]
pub(super) struct World {
    mutant: Option<Mutant>,
    chances: Chances,
    txns: Transactions,
    partitions: Partitions,
    /// What a crash leaves.
    durable: (Vec<StoredRecord>, Partitions),
    /// What was appended since.
    tail: Vec<Item>,
    /// Answers that wait for the flush.
    answers: Vec<(usize, Request, Reply)>,
    clients: [Client; 2],
    /// Identities, and who was given each: the client and its life.
    given: BTreeMap<Producer, (usize, u8)>,
    /// How many appends go well before one fails.
    fails_after: Option<u8>,
    next_id: i64,
    now: Monotonic,
    wall: Timestamp,
}

/// What tells worlds apart.
pub(super) type Key = (String, [Client; 2], Partitions, Chances);

impl World {
    pub(super) fn new(v2: [bool; 2], chances: Chances, mutant: Option<Mutant>) -> Self {
        let now = Monotonic(1);
        Self {
            mutant,
            chances,
            txns: Transactions::new(TxnSettings::default(), now),
            partitions: Partitions::default(),
            durable: (Vec::new(), Partitions::default()),
            tail: Vec::new(),
            answers: Vec::new(),
            clients: [Client::new(0, v2[0]), Client::new(1, v2[1])],
            given: BTreeMap::new(),
            fails_after: None,
            next_id: 1,
            now,
            wall: WALL,
        }
    }

    /// The same, with a producer id that has few epochs left.
    pub(super) fn worn(mut self) -> Self {
        let mut records = Vec::new();
        let value = Some(state("Empty 1:32764"));
        Fact { id: Arc::from(ID), value }.put(&mut records);
        for record in &records {
            self.txns.replay(record).expect("it was just written");
        }
        self.durable.0 = records;
        self
    }

    pub(super) fn key(&self) -> Key {
        let rest = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            self.durable, self.tail, self.answers, self.given, self.next_id
        );
        (rest, self.clients.clone(), self.partitions.clone(), self.chances)
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let clients = if self.chances.alone { 1 } else { 2 };
        for (at, client) in self.clients.iter().enumerate().take(clients) {
            for request in client.requests() {
                steps.extend([Step::Ask(at, request), Step::Call(at, request)]);
                if self.chances.failures > 0 {
                    steps.extend((0..3).map(|after| Step::AskInVain(at, request, after)));
                }
                if self.chances.strays > 0 && matches!(request, Request::Write { .. }) {
                    steps.push(Step::GiveUp(at, request));
                }
            }
            let is_idle = !matches!(client.stage, Stage::Waiting(_) | Stage::Out | Stage::Stopped);
            if let Some(identity) = client.identity.filter(|_| is_idle)
                && self.chances.recoveries > 0
            {
                steps.push(Step::Call(at, Request::Init { expected: Some(identity) }));
                steps.push(Step::Ask(at, Request::Init { expected: Some(identity) }));
            }
            if self.chances.restarts > 0 && client.stage != Stage::Out {
                steps.push(Step::Restart(at));
            }
            if self.chances.strays > 0 {
                steps.extend(client.strays.iter().map(|request| Step::Stray(at, *request)));
            }
        }
        if !self.tail.is_empty() || !self.answers.is_empty() {
            steps.push(Step::Flush);
        }
        if self.chances.crashes > 0 && !self.durable.0.is_empty() {
            steps.extend((0..=self.tail.len()).map(Step::Crash));
        }
        if self.chances.timeouts > 0 && self.txns.ongoing().next().is_some() {
            steps.push(Step::Timeout);
        }
        if !self.txns.orders().is_empty() {
            steps.push(Step::Mark);
        }
        steps
    }

    pub(super) fn take(&mut self, step: Step) -> Result<(), Rule> {
        match step {
            Step::Ask(at, request) => self.ask(at, request)?,
            Step::Call(at, request) => {
                self.ask(at, request)?;
                self.flush()?;
            }
            Step::AskInVain(at, request, after) => {
                self.chances.failures -= 1;
                self.fails_after = Some(after);
                self.ask(at, request)?;
                self.fails_after = None;
            }
            Step::GiveUp(at, request) => self.clients[at].gives_up(request),
            Step::Stray(at, request) => {
                self.chances.strays -= 1;
                self.clients[at].strays.remove(&request);
                self.serve_stray(at, request)?;
            }
            Step::Restart(at) => {
                self.chances.restarts -= 1;
                self.answers.retain(|(who, _, _)| *who != at);
                self.clients[at].restart();
            }
            Step::Flush => self.flush()?,
            Step::Crash(kept) => {
                self.chances.crashes -= 1;
                self.crash(kept)?;
            }
            Step::Timeout => {
                self.chances.timeouts -= 1;
                self.time_out()?;
            }
            Step::Mark => self.mark()?,
        }
        Ok(())
    }

    fn ask(&mut self, at: usize, request: Request) -> Result<(), Rule> {
        if matches!(request, Request::Init { expected: Some(_) })
            && self.clients[at].stage != Stage::Unsure(request)
        {
            self.chances.recoveries -= 1;
        }
        self.clients[at].sends(request);
        if self.chances.strays > 0 && matches!(request, Request::End { .. }) {
            self.clients[at].strays.insert(request);
        }
        let reply = self.serve(at, request)?;
        self.answers.push((at, request, reply));
        Ok(())
    }

    /// The rules that can be seen in a state; the others are seen in a step.
    pub(super) fn check(&self) -> Result<(), Rule> {
        self.replay_is_live()?;
        let writers = self.given.keys().filter(|producer| self.may_write(**producer)).count();
        if writers > 1 {
            return Err(Rule::OneWriter);
        }
        self.told_is_true()?;
        self.clone().settle()
    }

    fn stored(&self) -> Option<Stored> {
        self.txns.ids.get(ID).map(|entry| entry.stored.clone())
    }

    fn fresh(&mut self) -> Option<ProducerId> {
        self.next_id += 1;
        Some(ProducerId(self.next_id))
    }

    /// Whether this append goes well.
    fn appends(&mut self) -> bool {
        match self.fails_after {
            Some(0) => {
                self.fails_after = None;
                false
            }
            Some(left) => {
                self.fails_after = Some(left - 1);
                true
            }
            None => true,
        }
    }

    /// The host's part: appends, replays, or tells of the failure.
    fn carry_out(&mut self, effects: Effects) -> Result<Option<Reply>, Rule> {
        let effects = match self.mutant {
            Some(mutant) => mutant.does(effects, &self.txns),
            None => effects,
        };
        if effects.records.is_empty() {
            return Ok(effects.reply);
        }
        if !self.appends() {
            let before = self.txns.snapshot();
            let reply = effects.reply.clone();
            if self.mutant == Some(Mutant::FailureIsReplayed) {
                for record in &effects.records {
                    self.txns.replay(record).expect("it was just written");
                }
            }
            let failed = self.txns.append_failed(effects, HostFailure::Unavailable);
            if self.txns.snapshot() != before {
                return Err(Rule::FailureChangesNothing);
            }
            let lies = self.mutant == Some(Mutant::FailureIsSuccess);
            return Ok(if lies { reply } else { failed.reply });
        }
        for record in effects.records {
            let before = self.stored();
            if let Ok(Some(Fact { value: Some(after), .. })) = Fact::decode(&record) {
                may_follow(before.as_ref(), &after)?;
            }
            self.txns.replay(&record).expect("it was just written");
            self.tail.push(Item::Record(record));
        }
        Ok(effects.reply)
    }

    /// A command, given again with a fresh producer id where it needs one.
    fn command(&mut self, make: impl Fn(Option<ProducerId>) -> Command) -> Result<Reply, Rule> {
        let mut fresh = None;
        loop {
            let command = match self.mutant {
                Some(mutant) => mutant.hears(make(fresh), &self.txns),
                None => make(fresh),
            };
            let effects = self.txns.handle(self.now, self.wall, command);
            match self.carry_out(effects)?.expect("each command is answered") {
                Reply::NeedsProducerId => fresh = self.fresh(),
                reply => return Ok(reply),
            }
        }
    }

    fn serve(&mut self, at: usize, request: Request) -> Result<Reply, Rule> {
        let v2 = self.clients[at].v2;
        match request {
            Request::Init { expected } => {
                let expected = expected.map(|it| (it.id, it.epoch));
                let make = |fresh| {
                    let id = Arc::from(ID);
                    Command::Init(Init { id, timeout_ms: TIMEOUT_MS, expected, fresh })
                };
                let reply = self.command(make)?;
                if reply != Reply::Init(Err(InitError::Concurrent)) {
                    return Ok(reply);
                }
                self.mark()?;
                self.command(make)
            }
            Request::Write { producer, write } => self.write(producer, write, v2, false),
            Request::End { producer, commit, .. } => {
                let Producer { id: producer, epoch } = producer;
                let reply = self.command(|fresh| {
                    let id = Arc::from(ID);
                    Command::End(End { id, producer, epoch, commit, v2, fresh })
                })?;
                self.mark()?;
                Ok(reply)
            }
        }
    }

    /// A request of which nobody awaits an answer any more. With the first protocol a write that
    /// was under way has been enlisted before, and is only verified.
    fn serve_stray(&mut self, at: usize, request: Request) -> Result<(), Rule> {
        match request {
            Request::Write { producer, write } => {
                let v2 = self.clients[at].v2;
                self.write(producer, write, v2, !v2)?;
            }
            request => {
                self.serve(at, request)?;
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        producer: Producer,
        write: Write,
        v2: bool,
        verify_only: bool,
    ) -> Result<Reply, Rule> {
        let partition = usize::from(write.1);
        let index = i32::from(write.1);
        let Producer { id, epoch } = producer;
        let reply = self.command(|_| {
            Command::AddPartitions(AddPartitions {
                id: Arc::from(ID),
                producer: id,
                epoch,
                partitions: vec![(Arc::from("t"), index)],
                verify_only,
                v2,
            })
        })?;
        let enlisted = reply == Reply::AddPartitions(Ok(Vec::new()));
        if !enlisted {
            return Ok(reply);
        }
        if !self.partitions[partition].takes(producer) {
            return Ok(Reply::AddPartitions(Err(AddPartitionsError::Fenced)));
        }
        if !self.appends() {
            return Ok(reply.failed(HostFailure::Unavailable));
        }
        self.partitions[partition].write(producer, write);
        self.tail.push(Item::Write(partition, producer, write));
        Ok(reply)
    }

    /// Writes the markers that are to be written, and completes the transaction.
    fn mark(&mut self) -> Result<(), Rule> {
        let Some(mut order) = self.txns.order_of(ID) else { return Ok(()) };
        if let Some(mutant) = self.mutant {
            mutant.orders(&mut order);
        }
        if !order.partitions.is_empty() && !self.appends() {
            return Ok(());
        }
        for (_, index) in &order.partitions {
            let partition = usize::try_from(*index).expect("small");
            self.partitions[partition].mark(&order)?;
            self.tail.push(Item::Marker(partition, order.clone()));
        }
        let MarkerOrder { producer, epoch, .. } = order;
        self.command(|_| Command::Marked { id: Arc::from(ID), producer, epoch }).map(drop)
    }

    fn time_out(&mut self) -> Result<(), Rule> {
        let by = Duration::from_millis(u64::from(TIMEOUT_MS.unsigned_abs()));
        (self.now, self.wall) = (self.now.plus(by), self.wall.plus(by));
        let effects = self.txns.tick(self.now, self.wall);
        self.carry_out(effects)?;
        self.mark()
    }

    fn flush(&mut self) -> Result<(), Rule> {
        self.durable = (self.txns.snapshot(), self.partitions.clone());
        self.tail.clear();
        for (at, request, reply) in std::mem::take(&mut self.answers) {
            let superseded = self.clients[at].superseded;
            if !self.clients[at].hears(request, &reply) {
                continue;
            }
            if superseded {
                return Err(Rule::FencedStaysFenced);
            }
            if let Request::Init { expected: None } = request {
                self.supersede(at);
            }
            if let Some(identity) = self.clients[at].identity {
                if identity.epoch.0 == i16::MAX {
                    return Err(Rule::LastEpochIsKept);
                }
                let life = (at, self.clients[at].tag.life);
                if *self.given.entry(identity).or_insert(life) != life {
                    return Err(Rule::IdentitiesAreUnique);
                }
            }
        }
        Ok(())
    }

    /// A newcomer has taken over from whoever had an identity.
    fn supersede(&mut self, by: usize) {
        for (at, client) in self.clients.iter_mut().enumerate() {
            client.superseded |= at != by && client.identity.is_some();
        }
    }

    fn crash(&mut self, kept: usize) -> Result<(), Rule> {
        let mut loading = Loading::new();
        let (mut records, mut partitions) = self.durable.clone();
        for item in self.tail.drain(..).take(kept) {
            match item {
                Item::Record(record) => records.push(record),
                Item::Write(at, producer, write) => partitions[at].write(producer, write),
                Item::Marker(at, order) => partitions[at].mark(&order)?,
            }
        }
        for record in &records {
            let found = self.mutant.map_or_else(|| record.clone(), |mutant| mutant.finds(record));
            loading.replay(&found).expect("a coordinator wrote it");
        }
        self.txns = loading.finish(TxnSettings::default(), self.now, self.wall);
        self.durable = (self.txns.snapshot(), partitions.clone());
        self.partitions = partitions;
        self.answers.clear();
        for client in &mut self.clients {
            client.hears_nothing();
        }
        Ok(())
    }

    fn replay_is_live(&self) -> Result<(), Rule> {
        let mut loading = Loading::new();
        let tail = self.tail.iter().filter_map(|item| match item {
            Item::Record(record) => Some(record),
            _ => None,
        });
        for record in self.durable.0.iter().chain(tail) {
            loading.replay(record).expect("a coordinator wrote it");
        }
        let loaded = loading.finish(TxnSettings::default(), self.now, self.wall);
        let same = loaded.snapshot() == self.txns.snapshot();
        if same { Ok(()) } else { Err(Rule::ReplayIsLive) }
    }

    fn may_write(&self, Producer { id: producer, epoch }: Producer) -> bool {
        let add = AddPartitions {
            id: Arc::from(ID),
            producer,
            epoch,
            partitions: vec![(Arc::from("t"), 0)],
            verify_only: false,
            v2: false,
        };
        let asked = self.mutant.map_or(Command::AddPartitions(add.clone()), |mutant| {
            mutant.hears(Command::AddPartitions(add), &self.txns)
        });
        let reply = self.txns.clone().handle(self.now, self.wall, asked).reply;
        matches!(reply, Some(Reply::AddPartitions(Ok(_) | Err(AddPartitionsError::Concurrent))))
    }

    fn told_is_true(&self) -> Result<(), Rule> {
        for client in &self.clients {
            for partition in &self.partitions {
                if partition.aborted.iter().any(|(tag, _)| client.told_committed.contains(tag)) {
                    return Err(Rule::CommittedIsCommitted);
                }
                if partition.committed.iter().any(|(tag, _)| client.told_aborted.contains(tag)) {
                    return Err(Rule::AbortedIsAborted);
                }
            }
        }
        let [one, two] = &self.partitions;
        let torn = |a: &Partition, b: &Partition| {
            a.committed.iter().any(|(tag, _)| b.aborted.iter().any(|(other, _)| tag == other))
        };
        if torn(one, two) || torn(two, one) { Err(Rule::OneDecision) } else { Ok(()) }
    }

    /// Everybody falls silent, and after a while a newcomer comes.
    fn settle(&mut self) -> Result<(), Rule> {
        self.flush()?;
        self.mark()?;
        self.time_out()?;
        self.told_is_true()?;
        if !self.partitions.iter().all(Partition::is_settled) || !self.txns.orders().is_empty() {
            return Err(Rule::Settles);
        }
        for client in &self.clients {
            for (tag, at) in &client.acknowledged {
                let partition = &self.partitions[usize::from(*at)];
                if client.told_committed.contains(tag)
                    && !partition.committed.contains(&(*tag, *at))
                {
                    return Err(Rule::CommittedIsCommitted);
                }
            }
        }
        let before: Vec<_> = self.given.keys().copied().collect();
        let request = Request::Init { expected: None };
        let Reply::Init(Ok(newcomer)) = self.serve(0, request)? else {
            return Err(Rule::Settles);
        };
        if self.given.contains_key(&newcomer) {
            return Err(Rule::IdentitiesAreUnique);
        }
        if before.into_iter().any(|producer| self.may_write(producer)) {
            return Err(Rule::FencedStaysFenced);
        }
        Ok(())
    }
}
