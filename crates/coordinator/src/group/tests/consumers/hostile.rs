//! Heartbeats that no client would send: epochs, partitions, names and expressions at random, among those of
//! clients that behave. A part of the fuzz target `groups`, and a law on random ones.

use proptest::prelude::*;

use super::super::laws::check_restart;
use super::*;

/// One event: what, who, and two numbers.
pub(in super::super) type Word = (u8, u8, u8, u16);

/// Longer than any session, and than anybody may take to give partitions up.
pub(in super::super) const FOR_EVER: Duration = Duration::from_secs(10_000);

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
    let left = stage.host.groups.describe_consumer(GROUP).map(|it| it.members);
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
        6 => stage.cluster.set(if what % 2 == 0 { "t" } else { "u" }, i32::from(number % 5)),
        _ if what % 2 == 0 => stage.host.crash(),
        _ => stage.host.fails = Some(HostFailure::Unavailable),
    }
}

/// A client's heartbeat, with something else in the place of some of its fields: each bit of `what` is one.
fn request(stage: &Stage, client: usize, what: u8, number: u16) -> ConsumerHeartbeat {
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
        request.owned = owned(stage, number);
    }
    if what & 8 != 0 {
        let names = [&["t"][..], &["u"], &["t", "u"], &[], &["", "nowhere"]];
        let names = names[usize::from(number) % names.len()];
        request.topics = (!number.is_multiple_of(7))
            .then(|| names.iter().map(|name| Arc::from(*name)).collect());
    }
    if what & 16 != 0 {
        request.regex = Some(one_of(&["", "(", "[tu]", ".*", "(a{1000}){1000}", "\\Qt\\E"]));
    }
    if what & 32 != 0 {
        request.assignor = Some(one_of(&["range", "uniform", "", "sticky"]));
    }
    if what & 64 != 0 {
        request.instance = Some(one_of(&["i0", "i1", ""]));
    }
    if what & 128 != 0 {
        request.rebalance_timeout_ms = [-2, -1, 0, 1, i32::MAX, i32::MIN][usize::from(number) % 6];
    }
    request
}

/// Partitions that are there or not, each bit of `number` one.
fn owned(stage: &Stage, number: u16) -> Option<Partitions> {
    let known = ["t", "u"].iter().filter_map(|name| Some(stage.cluster.named(name)?.0));
    let topics = known.chain([Uuid([9; 16])]);
    let is_said =
        move |at: usize, bit: i32| number >> (at * 5 + usize::try_from(bit + 1).unwrap()) & 1 != 0;
    let indexes = |at: usize| (-1..4).filter(move |bit| is_said(at, *bit));
    let owned = topics.enumerate().map(|(at, topic)| (topic, indexes(at).collect::<BTreeSet<_>>()));
    (number > 0).then(|| owned.collect())
}

proptest! {
    #[test]
    fn heartbeats_of_any_kind(words in prop::collection::vec(any::<Word>(), 0..60)) {
        hostile(&words);
    }
}
