use millstream_types::Timestamp;
use proptest::prelude::*;

use super::{EVENTS_MAX, Event, Kind, Level, Outcome, Queue};

const NOW: Timestamp = Timestamp(1_700_000_000_123);

fn denied(name: &str) -> Event {
    let address = "192.0.2.7".parse().ok();
    Event::new(Kind::Access, Outcome::Refused)
        .by("ann")
        .from(address, "OUTSIDE")
        .through("Produce", "c-1")
        .what("WRITE", ("TOPIC", name))
        .because("TOPIC_AUTHORIZATION_FAILED")
}

fn change(name: &str) -> Event {
    Event::new(Kind::Change, Outcome::Done).what("CREATE", ("TOPIC", name))
}

#[test]
fn events_are_written_as_the_page_says() {
    let bare = Event::new(Kind::Login, Outcome::Done);
    let details = ["a", "b", "a"].map(|name| (name.to_owned(), "1".to_owned()));
    let cases = [
        (
            denied("orders").json(NOW, 3),
            concat!(
                r#"{"version":1,"time":1700000000123,"kind":"access","outcome":"refused","#,
                r#""user":"ann","address":"192.0.2.7","listener":"OUTSIDE","client_id":"c-1","#,
                r#""api":"Produce","operation":"WRITE","resource_type":"TOPIC","resource":"orders","#,
                r#""why":"TOPIC_AUTHORIZATION_FAILED","count":3}"#
            ),
        ),
        (
            bare.json(NOW, 1),
            r#"{"version":1,"time":1700000000123,"kind":"login","outcome":"done","count":1}"#,
        ),
        (
            change("t").with(details).json(NOW, 1),
            concat!(
                r#"{"version":1,"time":1700000000123,"kind":"change","outcome":"done","#,
                r#""operation":"CREATE","resource_type":"TOPIC","resource":"t","count":1,"#,
                r#""details":{"a":"1","b":"1"}}"#
            ),
        ),
        (
            change("\"\\\n\u{202e}\u{1f980}").json(NOW, 1),
            concat!(
                r#"{"version":1,"time":1700000000123,"kind":"change","outcome":"done","#,
                r#""operation":"CREATE","resource_type":"TOPIC","#,
                r#""resource":"\"\\\u000a\u202e\ud83e\udd80","count":1}"#
            ),
        ),
    ];
    for (written, expected) in cases {
        assert_eq!(written, expected);
    }
}

#[test]
fn each_level_has_its_events() {
    let levels = |kind| [Outcome::Refused, Outcome::Done].map(|how| Event::new(kind, how).level());
    assert_eq!(levels(Kind::Change), [Level::Changes; 2]);
    for kind in [Kind::Access, Kind::Login, Kind::Connection] {
        assert_eq!(levels(kind), [Level::Denied, Level::All], "{kind:?}");
    }
    let names = ["none", "denied", "changes", "all"].map(Level::named);
    assert!(names.is_sorted() && names.iter().all(Option::is_some), "{names:?}");
    assert_eq!(Level::named("some"), None);
}

#[test]
fn the_same_refusal_is_counted_and_a_change_is_not() {
    let mut queue = Queue::default();
    assert!(queue.is_empty());
    for event in [denied("a"), change("a"), denied("a"), denied("b"), change("a"), denied("a")] {
        assert!(queue.push(event, NOW));
    }
    let counts: Vec<_> =
        queue.take(NOW).iter().map(|line| (line.key, line.value.contains("\"count\":3"))).collect();
    let expected = [("access", true), ("change", false), ("access", false), ("change", false)];
    assert_eq!(counts, expected);
    assert!(queue.is_empty() && queue.push(denied("a"), NOW));
    assert!(queue.take(NOW)[0].value.contains("\"count\":1"), "it begins anew");
}

#[test]
fn what_has_no_room_is_counted_and_refusals_leave_room_for_changes() {
    let mut queue = Queue::default();
    let taken = (0..2 * EVENTS_MAX).filter(|n| queue.push(denied(&n.to_string()), NOW)).count();
    assert_eq!(taken, 750);
    let taken = (0..EVENTS_MAX).filter(|_| queue.push(change("t"), NOW)).count();
    assert_eq!(taken, 250);
    let lines = queue.take(NOW);
    assert_eq!(lines.len(), EVENTS_MAX + 1);
    let last = lines.last().expect("a line");
    assert_eq!(last.key, "dropped");
    assert!(last.value.contains("\"count\":2000"), "{}", last.value);
}

/// Found in review: a line that said how many were left out counted as one when it was not written either.
#[test]
fn what_is_not_written_counts_with_all_that_it_stands_for() {
    let mut queue = Queue::default();
    for event in [denied("a"), denied("a"), denied("a"), change("t")] {
        assert!(queue.push(event, NOW));
    }
    let mut sum = 0;
    // Refused with three events and a change, then with what says so, again and again.
    for expected in [4, 0, 0] {
        let lines = queue.take(NOW);
        let lost = queue.lost(&lines);
        assert_eq!(lost, expected);
        sum += lost;
        assert!(!queue.is_empty());
    }
    let said = format!("\"count\":{sum}");
    assert!(queue.take(NOW)[0].value.contains(&said));
    assert!(queue.is_empty());
}

#[test]
fn a_change_that_was_refused_has_no_place_of_its_own() {
    let mut queue = Queue::default();
    let refused = || Event::new(Kind::Change, Outcome::Refused);
    let taken = (0..2 * EVENTS_MAX).filter(|_| queue.push(refused(), NOW)).count();
    assert_eq!(taken, 750);
    assert!(queue.push(change("t"), NOW));
    let made: Vec<_> = queue.take(NOW).iter().map(|line| line.is_made).collect();
    assert_eq!(made.iter().filter(|is_made| **is_made).count(), 1);
    assert!(made[750] && !made[751], "what says how many were left out was not made by anybody");
}

proptest! {
    /// Whatever it says, a line is one line of printable ASCII and no longer than it may be.
    #[test]
    fn a_line_is_a_line(
        user in "\\PC{0,400}",
        name in any::<String>(),
        details in prop::collection::vec((any::<String>(), any::<String>()), 0..50),
    ) {
        let line = denied(&name).by(&user).with(details).json(NOW, 1);
        prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        // Each byte of a text takes six at most.
        prop_assert!(line.len() < 512 + 6 * 260 * (2 + 64));
    }
}
