//! A producer of the model: what it knows, and what it may do next.

use std::collections::BTreeSet;

use super::super::super::{AddPartitionsError, EndError, InitError, Producer, Reply};
use super::partition::{Tag, Write};

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Request {
    /// Take over, or go on as whoever it was.
    Init { expected: Option<Producer> },
    /// Write, after enlisting the partition.
    Write { producer: Producer, write: Write },
    /// End the transaction, if the client believes to be in one.
    End { producer: Producer, tag: Option<Tag>, commit: bool },
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Has not begun.
    Out,
    /// Has an identity.
    Ready,
    /// Its request is under way.
    Waiting(Request),
    /// Has to ask again: no answer came, or one that says so.
    Unsure(Request),
    /// Was told to stop.
    Stopped,
}

/// A producer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Client {
    pub(super) v2: bool,
    pub(super) stage: Stage,
    pub(super) identity: Option<Producer>,
    pub(super) tag: Tag,
    /// Whether it has begun the transaction.
    pub(super) begun: bool,
    /// A write has failed: the transaction can only be aborted.
    pub(super) doomed: bool,
    /// An end was sent, so that only it may follow.
    pub(super) ending: bool,
    pub(super) writes: u8,
    /// The writes that were acknowledged.
    pub(super) acknowledged: BTreeSet<Write>,
    /// The transactions that it was told the end of.
    pub(super) told_committed: BTreeSet<Tag>,
    pub(super) told_aborted: BTreeSet<Tag>,
    /// Requests that are still somewhere in the network.
    pub(super) strays: BTreeSet<Request>,
    /// Another one has taken over from it.
    pub(super) superseded: bool,
}

impl Client {
    pub(super) fn new(client: usize, v2: bool) -> Self {
        Self {
            v2,
            stage: Stage::Out,
            identity: None,
            tag: Tag { client, life: 0, transaction: 0 },
            begun: false,
            doomed: false,
            ending: false,
            writes: 0,
            acknowledged: BTreeSet::new(),
            told_committed: BTreeSet::new(),
            told_aborted: BTreeSet::new(),
            strays: BTreeSet::new(),
            superseded: false,
        }
    }

    /// A new life: it has forgotten all.
    pub(super) fn restart(&mut self) {
        self.stage = Stage::Out;
        self.identity = None;
        self.tag = Tag { life: self.tag.life + 1, transaction: 0, ..self.tag };
        self.superseded = false;
        self.next_transaction();
        self.tag.transaction = 0;
    }

    fn next_transaction(&mut self) {
        self.tag.transaction += 1;
        (self.begun, self.doomed, self.ending) = (false, false, false);
        self.writes = 0;
    }

    /// What it may ask next.
    pub(super) fn requests(&self) -> Vec<Request> {
        match (self.stage, self.identity) {
            (Stage::Out, _) => vec![Request::Init { expected: None }],
            (Stage::Unsure(request), _) => vec![request],
            (Stage::Ready, Some(producer)) => {
                let mut requests = Vec::new();
                if self.writes < 2 && !self.doomed {
                    requests.push(Request::Write { producer, write: (self.tag, self.writes) });
                }
                let tag = self.begun.then_some(self.tag);
                if self.begun && !self.doomed {
                    requests.push(Request::End { producer, tag, commit: true });
                }
                if self.begun || self.v2 {
                    requests.push(Request::End { producer, tag, commit: false });
                }
                requests
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn sends(&mut self, request: Request) {
        match request {
            Request::Write { .. } => {
                self.begun = true;
                self.writes += 1;
            }
            Request::End { .. } => self.ending = true,
            Request::Init { .. } => {}
        }
        self.stage = Stage::Waiting(request);
    }

    /// A write was sent, and the client gives up on it while it is still under way.
    pub(super) fn gives_up(&mut self, request: Request) {
        self.sends(request);
        self.strays.insert(request);
        self.doomed = true;
        self.stage = Stage::Ready;
    }

    /// Takes in an answer; whether it was a success.
    pub(super) fn hears(&mut self, request: Request, reply: &Reply) -> bool {
        self.stage = match (request, reply) {
            (Request::Init { expected }, Reply::Init(Ok(identity))) => {
                if expected.is_some() && self.begun {
                    // It has given its transaction up, and knows that it did not end otherwise.
                    if !self.ending {
                        self.told_aborted.insert(self.tag);
                    }
                    self.next_transaction();
                }
                self.identity = Some(*identity);
                Stage::Ready
            }
            (Request::Init { .. }, Reply::Init(Err(InitError::Fenced))) => Stage::Stopped,
            (Request::Init { .. }, _) => Stage::Unsure(request),
            (Request::Write { write, .. }, Reply::AddPartitions(Ok(_))) => {
                self.acknowledged.insert(write);
                Stage::Ready
            }
            (Request::Write { .. }, Reply::AddPartitions(Err(error))) => match error {
                AddPartitionsError::Concurrent => Stage::Unsure(request),
                AddPartitionsError::Host(_) => {
                    self.doomed = true;
                    Stage::Ready
                }
                _ => Stage::Stopped,
            },
            (Request::End { tag, commit, .. }, Reply::End(Ok(identity))) => {
                if let Some(tag) = tag {
                    let told =
                        if commit { &mut self.told_committed } else { &mut self.told_aborted };
                    told.insert(tag);
                }
                if self.v2 {
                    self.identity = Some(*identity);
                }
                self.next_transaction();
                Stage::Ready
            }
            (Request::End { .. }, Reply::End(Err(EndError::Concurrent | EndError::Host(_)))) => {
                Stage::Unsure(request)
            }
            _ => Stage::Stopped,
        };
        matches!(reply, Reply::Init(Ok(_)) | Reply::AddPartitions(Ok(_)) | Reply::End(Ok(_)))
    }

    /// The connection is lost, and with it the answer.
    pub(super) fn hears_nothing(&mut self) {
        match self.stage {
            // A producer can't tell whether its write was enlisted: it aborts.
            Stage::Waiting(Request::Write { .. }) => {
                self.doomed = true;
                self.stage = Stage::Ready;
            }
            Stage::Waiting(request) => self.stage = Stage::Unsure(request),
            _ => {}
        }
    }
}
