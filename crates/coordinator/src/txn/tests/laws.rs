//! Laws on random histories and random bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_types::{ProducerEpoch, ProducerId, Timestamp};
use proptest::prelude::*;

use super::super::record::{Fact, Partitions, Stored};
use super::super::*;
use super::script::{Host, show, state};

/// One thing that happens. Identities are those that were last given out, or near them.
#[derive(Clone, Debug)]
enum Event {
    Init {
        id: usize,
        expected: Option<i16>,
    },
    Add {
        id: usize,
        off: i16,
        partition: i32,
        v2: bool,
    },
    End {
        id: usize,
        off: i16,
        commit: bool,
        v2: bool,
    },
    Marked {
        id: usize,
    },
    Pass {
        seconds: u64,
    },
    /// The next append fails.
    Fail,
}

const IDS: [&str; 2] = ["a", "b"];

fn event() -> impl Strategy<Value = Event> {
    let off = prop_oneof![6 => Just(0_i16), 1 => Just(-1), 1 => Just(1)];
    let id = 0..IDS.len();
    prop_oneof![
        2 => (id.clone(), prop::option::of(off.clone()))
            .prop_map(|(id, expected)| Event::Init { id, expected }),
        4 => (id.clone(), off.clone(), 0..3_i32, any::<bool>())
            .prop_map(|(id, off, partition, v2)| Event::Add { id, off, partition, v2 }),
        4 => (id.clone(), off, any::<bool>(), any::<bool>())
            .prop_map(|(id, off, commit, v2)| Event::End { id, off, commit, v2 }),
        4 => id.prop_map(|id| Event::Marked { id }),
        2 => prop_oneof![0..70_u64, 0..2_000_000_u64].prop_map(|seconds| Event::Pass { seconds }),
        1 => Just(Event::Fail),
    ]
}

struct Run {
    host: Host,
    fails: bool,
    ids: i64,
}

impl Run {
    fn producer(&self, id: usize) -> Producer {
        let known = self.host.txns.ids.get(IDS[id]).map(|entry| entry.stored.producer);
        known.unwrap_or(Producer { id: ProducerId(1), epoch: ProducerEpoch(0) })
    }

    fn take(&mut self, effects: Effects) {
        let before = self.host.txns.snapshot();
        if std::mem::take(&mut self.fails) && !effects.records.is_empty() {
            let failed = self.host.txns.append_failed(effects, HostFailure::Unavailable);
            assert_eq!(failed.records, []);
            assert_eq!(self.host.txns.snapshot(), before, "a failed append changes nothing");
        } else {
            self.host.append(&effects.records);
        }
    }

    fn happen(&mut self, event: &Event) {
        let command = match *event {
            Event::Pass { seconds } => {
                self.host.pass(Duration::from_secs(seconds));
                let effects = self.host.txns.tick(self.host.now, self.host.wall);
                return self.take(effects);
            }
            Event::Fail => {
                self.fails = true;
                return;
            }
            Event::Init { id, expected } => {
                self.ids += 1;
                let Producer { id: producer, epoch } = self.producer(id);
                let expected =
                    expected.map(|off| (producer, ProducerEpoch(epoch.0.saturating_add(off))));
                let fresh = Some(ProducerId(self.ids));
                Command::Init(Init { id: Arc::from(IDS[id]), timeout_ms: 60_000, expected, fresh })
            }
            Event::Add { id, off, partition, v2 } => {
                let Producer { id: producer, epoch } = self.producer(id);
                Command::AddPartitions(AddPartitions {
                    id: Arc::from(IDS[id]),
                    producer,
                    epoch: ProducerEpoch(epoch.0.saturating_add(off)),
                    partitions: vec![(Arc::from("t"), partition)],
                    verify_only: false,
                    v2,
                })
            }
            Event::End { id, off, commit, v2 } => {
                self.ids += 1;
                let Producer { id: producer, epoch } = self.producer(id);
                let epoch = ProducerEpoch(epoch.0.saturating_add(off));
                let fresh = Some(ProducerId(self.ids));
                Command::End(End { id: Arc::from(IDS[id]), producer, epoch, commit, v2, fresh })
            }
            Event::Marked { id } => {
                let Producer { id: producer, epoch } = self.producer(id);
                Command::Marked { id: Arc::from(IDS[id]), producer, epoch }
            }
        };
        let effects = self.host.txns.handle(self.host.now, self.host.wall, command);
        if let Some(Reply::Init(Ok(it)) | Reply::End(Ok(it))) = &effects.reply {
            assert!(it.epoch.0 < i16::MAX, "{it:?} is given out");
        }
        self.take(effects);
    }
}

fn near_the_end() -> impl Strategy<Value = i16> {
    prop_oneof![Just(0_i16), Just(i16::MAX - 3)]
}

proptest! {
    /// Whatever happens, and wherever the records end: a coordinator that reads them back is the
    /// one that wrote them, and goes on in the same way.
    #[test]
    fn replayed_state_is_live_state(
        epoch in near_the_end(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut run = Run { host: Host::new(), fails: false, ids: 100 };
        for (at, id) in IDS.iter().enumerate() {
            let producer = 1 + i64::try_from(at).expect("small");
            let value = Some(state(&format!("Empty {producer}:{epoch}")));
            let mut records = Vec::new();
            Fact { id: Arc::from(*id), value }.put(&mut records);
            run.host.append(&records);
        }
        let mut cuts = vec![(run.host.log.len(), run.host.txns.snapshot())];
        for event in &events {
            run.happen(event);
            cuts.push((run.host.log.len(), run.host.txns.snapshot()));
        }
        for (cut, snapshot) in &cuts {
            let loaded = run.host.reload(&run.host.log[..*cut]);
            prop_assert_eq!(&loaded.snapshot(), snapshot);
            let compacted = run.host.reload(snapshot);
            prop_assert_eq!(&compacted.snapshot(), snapshot);
        }
        let loaded = run.host.reload(&run.host.log);
        prop_assert_eq!(loaded.orders(), run.host.txns.orders());
        let ongoing: Vec<_> = loaded.ongoing().collect();
        let live: Vec<_> = run.host.txns.ongoing().collect();
        prop_assert_eq!(ongoing, live);
        for (id, entry) in &run.host.txns.ids {
            prop_assert_eq!(show(&loaded.ids[id].stored), show(&entry.stored));
        }
    }

    /// Facts come back as they were written.
    #[test]
    fn facts_round_trip(fact in fact()) {
        let mut records = Vec::new();
        fact.put(&mut records);
        prop_assert_eq!(Fact::decode(&records[0]), Ok(Some(fact)));
    }

    /// No bytes make replay panic, and what can't be read changes nothing.
    #[test]
    fn replay_is_total(
        fact in fact(),
        cut in any::<prop::sample::Index>(),
        flip in any::<(prop::sample::Index, u8)>(),
        raw in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut records = Vec::new();
        fact.put(&mut records);
        let StoredRecord { key, value } = records.remove(0);
        let mut flipped = value.clone().unwrap_or_default().to_vec();
        if !flipped.is_empty() {
            let at = flip.0.index(flipped.len());
            flipped[at] ^= flip.1;
        }
        let short = value.as_ref().map(|value| value.slice(..cut.index(value.len())));
        let raw = Bytes::from(raw);
        for record in [
            StoredRecord { key: key.clone(), value: short.clone() },
            StoredRecord { key: key.clone(), value: Some(Bytes::from(flipped)) },
            StoredRecord { key, value: Some(raw.clone()) },
            StoredRecord { key: raw.clone(), value },
            StoredRecord { key: raw.clone(), value: Some(raw) },
        ] {
            let mut txns = Transactions::new(TxnSettings::default(), Default::default());
            if txns.replay(&record).is_err() {
                prop_assert_eq!(txns.snapshot(), []);
            }
        }
        // A cut value is never taken for a whole one.
        if let Some(short) = short {
            let record = StoredRecord { value: Some(short), ..first(&fact) };
            prop_assert!(Fact::decode(&record).is_err());
        }
    }
}

fn first(fact: &Fact) -> StoredRecord {
    let mut records = Vec::new();
    fact.put(&mut records);
    records.remove(0)
}

fn fact() -> impl Strategy<Value = Fact> {
    let partitions = prop::collection::btree_map(
        "[a-z]{1,8}".prop_map(Arc::from),
        prop::collection::btree_set(any::<i32>(), 1..4),
        0..4,
    );
    let id = || (0..i64::MAX).prop_map(ProducerId);
    let stored = (
        (id(), 0..=i16::MAX, prop::option::of(id()), prop::option::of(id())),
        (any::<i32>(), prop::sample::select(TransactionState::ALL.to_vec()), partitions),
        (prop::option::of(0..i64::MAX), any::<i64>(), any::<bool>()),
    );
    let stored = stored.prop_map(|((id, epoch, previous, next), two, (started, updated, v2))| {
        let (timeout_ms, state, partitions) = two;
        let is_empty = state == TransactionState::Empty;
        Stored {
            producer: Producer { id, epoch: ProducerEpoch(epoch) },
            previous,
            next,
            timeout_ms,
            state,
            partitions: if is_empty { Partitions::new() } else { partitions },
            started: started.map(Timestamp),
            updated: Timestamp(updated),
            v2,
        }
    });
    ("[a-z]{0,8}", prop::option::of(stored))
        .prop_map(|(id, value)| Fact { id: Arc::from(id), value })
}

/// The bytes, as Kafka's own tools read them: `TransactionLogMessageFormatter` of Apache Kafka 4.3.1
/// shows what the states say. Blanks part the fields.
#[test]
fn golden() {
    let key = "0000 00027478";
    let (now, none) = ("0000018bcfe56800", "ffffffffffffffff");
    let producer = "0001 0000000000000007";
    let cases = [
        ("Empty 7:3", format!("{producer} 0003 0000ea60 00 00 {now} {none} 00")),
        (
            "Ongoing 7:3 t/0 t/1",
            format!("{producer} 0003 0000ea60 01 02 0274 03 00000000 00000001 00 {now} {now} 00"),
        ),
        (
            "PrepareCommit 7:32767 prev=7 next=8 v2 t/0",
            format!(
                "{producer} 7fff 0000ea60 02 02 0274 02 00000000 00 {now} {now} \
                 03 0008 0000000000000007 0108 0000000000000008 0202 0002"
            ),
        ),
    ];
    for (stored, value) in cases {
        let fact = Fact { id: Arc::from("tx"), value: Some(state(stored)) };
        let record = first(&fact);
        assert_eq!(record.key, bytes(key));
        assert_eq!(record.value, Some(bytes(&value)), "{stored}");
        assert_eq!(Fact::decode(&record), Ok(Some(fact)));
    }
    let gone = Fact { id: Arc::from("tx"), value: None };
    assert_eq!(first(&gone), StoredRecord { key: bytes(key), value: None });
}

/// What brokers before 4.0 wrote is read, and a key of a kind that is not known is passed over.
#[test]
fn other_versions() {
    let now = "0000018bcfe56800";
    let old = format!(
        "0000 0000000000000007 0003 0000ea60 01 00000001 0001 74 00000001 00000000 {now} {now}"
    );
    let record = StoredRecord { key: bytes("0000 00027478"), value: Some(bytes(&old)) };
    let value = Some(state("Ongoing 7:3 t/0"));
    assert_eq!(Fact::decode(&record), Ok(Some(Fact { id: Arc::from("tx"), value })));
    let unknown = StoredRecord { key: bytes("0001 00027478"), ..record.clone() };
    assert_eq!(Fact::decode(&unknown), Ok(None));
    let newer = StoredRecord { value: Some(bytes("0002 00")), ..record };
    assert!(Fact::decode(&newer).is_err());
}

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits");
    digits.chunks(2).map(byte).collect::<Vec<_>>().into()
}
