//! Heartbeats that no client would send: epochs, tasks, processes and topologies at random, among those of
//! instances that behave. A part of the fuzz target `groups`, and a law on random ones.

use proptest::prelude::*;

use super::super::consumers::hostile::{FOR_EVER, Word};
use super::super::laws::check_restart;
use super::*;

/// Whatever is said: a restart finds what was there, and nobody who falls silent stays for ever.
pub(in super::super) fn hostile(words: &[Word]) {
    let mut stage = Stage::new(3, 3);
    stage.clients[2].instance = Some(Arc::from("i0"));
    for word in words {
        happen(&mut stage, *word);
        check_restart(&stage.host);
    }
    stage.host.fails = None;
    stage.host.advance(FOR_EVER);
    check_restart(&stage.host);
    let left = stage.host.groups.describe_streams(GROUP).map(|it| it.members);
    assert_eq!(left.unwrap_or_default(), [], "nobody stays for ever");
    assert!(stage.host.open.is_empty(), "everybody is answered");
}

fn happen(stage: &mut Stage, (kind, who, what, number): Word) {
    let client = usize::from(who) % stage.clients.len();
    match kind % 8 {
        0..=3 => {
            let request = request(stage, client, what, number);
            let _ = stage.ask(request);
        }
        4 => {
            let _ = stage.beat(client, what % 8 == 0);
            stage.act(client);
        }
        5 => stage.host.advance(Duration::from_millis(u64::from(number))),
        6 => stage.cluster.set(["in", "r", "c"][usize::from(what) % 3], i32::from(number % 5)),
        _ if what % 2 == 0 => stage.host.crash(),
        _ => stage.host.fails = Some(HostFailure::Unavailable),
    }
}

/// An instance's heartbeat, with something else in the place of some of its fields: each bit of `what` is
/// one.
fn request(stage: &Stage, client: usize, what: u8, number: u16) -> StreamsHeartbeat {
    let mut request = stage.request(client);
    let one_of = |names: &[&str]| Arc::from(names[usize::from(number) % names.len()]);
    if what & 1 != 0 {
        request.epoch =
            [-3, -2, -1, 0, 1, request.epoch - 1, request.epoch + 1, i32::MAX, i32::MIN]
                [usize::from(number) % 9];
    }
    if what & 2 != 0 {
        request.member = one_of(&["", "c0", "c1", "h0", "h1", "h2"]);
    }
    if what & 4 != 0 {
        request.owned = (!number.is_multiple_of(3)).then(|| owned(number));
    }
    if what & 8 != 0 {
        request.topology = (!number.is_multiple_of(7)).then(|| strange(number));
    }
    if what & 16 != 0 {
        request.process = Some(one_of(&["", "p0", "p1", "p9"]));
        request.shutdown = number.is_multiple_of(5);
    }
    if what & 32 != 0 {
        request.endpoints_epoch = [i32::MIN, -1, 0, 1, i32::MAX][usize::from(number) % 5];
        request.endpoint = Some(Endpoint { host: one_of(&["", "here"]), port: number });
    }
    if what & 64 != 0 {
        request.instance = Some(one_of(&["i0", "i1", ""]));
    }
    if what & 128 != 0 {
        request.rebalance_timeout_ms = [-2, -1, 0, 1, i32::MAX, i32::MIN][usize::from(number) % 6];
    }
    request
}

/// Tasks that are there or not, each bit of `number` one, and the same ones more than once.
fn owned(number: u16) -> Assignment {
    let tasks = |shift: u32| -> Tasks {
        let said = |part: u16, bit: u16| number.rotate_right(shift) >> (part * 5 + bit) & 1 != 0;
        let indexes = |part| (-1..4).zip(0..).filter(move |(_, bit)| said(part, *bit));
        let parts = ["0", "1", "9"].into_iter().zip(0..);
        parts
            .map(|(id, part)| (Arc::from(id), indexes(part).map(|(index, _)| index).collect()))
            .collect()
    };
    Assignment { active: tasks(0), standby: tasks(3), warmup: tasks(7) }
}

/// Topologies that another version of the application, or nobody, would have.
fn strange(number: u16) -> Topology {
    let one_of =
        |names: &[&'static str], bits: u16| names[usize::from(number >> bits) % names.len()];
    let mut topology = topology(&[
        ("0", part(one_of(&["in", "", "in in", "nowhere", "r"], 0), "", "r", "")),
        (
            "1",
            part(
                one_of(&["", "c", "in"], 3),
                one_of(&["r", "", "r=2", "r r=3", "in=7", "r=-1"], 5),
                one_of(&["", "in", "r"], 8),
                one_of(&["c", "", "c=1", "c c", "in"], 10),
            ),
        ),
    ]);
    topology.epoch = [0, 1, -1, i32::MAX][usize::from(number >> 13) % 4];
    for part in topology.subtopologies.values_mut() {
        part.copartitions = copartitions(number);
    }
    topology
}

/// Places of topics that are there or not.
fn copartitions(number: u16) -> Vec<Copartition> {
    let places = |shift: u16| match number >> shift & 7 {
        0 => vec![0],
        1 => vec![0, 0],
        2 => vec![1, 0],
        3 => vec![-1],
        4 => vec![i16::MAX],
        _ => Vec::new(),
    };
    match number >> 12 & 3 {
        0 => vec![Copartition { sources: places(0), repartitions: places(3) }],
        1 => vec![Copartition::default(); 3],
        _ => Vec::new(),
    }
}

proptest! {
    #[test]
    fn heartbeats_of_any_kind(words in prop::collection::vec(any::<Word>(), 0..60)) {
        hostile(&words);
    }
}
