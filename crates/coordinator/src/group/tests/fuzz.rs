//! Fuzz target: the group coordinator by commands, with time, crashes and failures among them. An input
//! is about a classic group, or about a group of one of the others and heartbeats of any kind
//! (`consumers/hostile.rs`, `streams/hostile.rs`).
//!
//! `cargo test` runs it briefly; `cargo xtask test --long` for minutes (CONTRIBUTING.md).

use std::time::Duration;

use bolero::check;

use super::consumers::hostile::{Word, hostile as consumers};
use super::laws::{Event, Run, check_restart};
use super::streams::hostile::hostile as streams;

fn event((kind, who, what, number): Word) -> Event {
    let group = usize::from(what % 2);
    let topic = usize::from(what / 2 % 2);
    let (flag, other) = (what & 4 != 0, what & 8 != 0);
    let client = usize::from(who % 4);
    match kind % 16 {
        0..=3 => Event::Join {
            group,
            who: client,
            protocols: usize::from(number % 3),
            known: flag,
            forgets: other && number % 4 == 0,
        },
        4..=6 => Event::Sync { group, who: client },
        7 => Event::Beat { group, who: client },
        8 => Event::Leave { group, who: client },
        9 | 10 => Event::Commit {
            group,
            who: flag.then_some(client),
            topic,
            offset: i64::from(number),
            expires: other,
        },
        11 => Event::DeleteOffsets { group, topic },
        12 if flag => Event::DeleteGroups,
        12 => Event::DeleteTopic { topic },
        13 => Event::Pass { millis: u64::from(number) * if flag { 1 } else { 40 } },
        14 => Event::Pass { millis: u64::from(number % 1_000) },
        _ if flag => Event::Crash,
        _ => Event::Fail,
    }
}

#[test]
fn groups() {
    check!().with_type::<(u8, Vec<Word>)>().with_iterations(300).for_each(|(protocol, words)| {
        match protocol % 3 {
            0 => members(words),
            1 => consumers(words),
            _ => streams(words),
        }
    });
}

/// Members of classic groups.
fn members(words: &[Word]) {
    let mut run = Run::new();
    for word in words {
        run.happen(event(*word));
    }
    check_restart(&run.host);
    run.host.fails = None;
    run.host.advance(Duration::from_secs(10_000));
    assert!(run.host.open.is_empty(), "everybody is answered");
    assert!(run.host.groups.groups.is_empty(), "nobody stays for ever");
}
