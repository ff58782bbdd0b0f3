//! Laws on random histories: what a restart finds is what was there; nothing is owned twice; when all
//! is quiet, everything is owned.

use std::time::Duration;

use proptest::prelude::*;

use super::super::laws::check_restart;
use super::*;

#[derive(Clone, Debug)]
enum Event {
    Beat { who: usize, acts: bool, lost: bool },
    Acts { who: usize },
    Leave { who: usize, pauses: bool },
    Subscribe { who: usize, topics: u8, regex: bool },
    Topic { topic: usize, count: i32 },
    Pass { millis: u64 },
    Crash,
    Fail,
}

fn event() -> impl Strategy<Value = Event> {
    let who = || 0..4_usize;
    prop_oneof![
        10 => (who(), prop::bool::weighted(0.7), prop::bool::weighted(0.1))
            .prop_map(|(who, acts, lost)| Event::Beat { who, acts, lost }),
        3 => who().prop_map(|who| Event::Acts { who }),
        1 => (who(), any::<bool>()).prop_map(|(who, pauses)| Event::Leave { who, pauses }),
        1 => (who(), 0..4_u8, any::<bool>())
            .prop_map(|(who, topics, regex)| Event::Subscribe { who, topics, regex }),
        1 => (0..2_usize, 0..4_i32).prop_map(|(topic, count)| Event::Topic { topic, count }),
        2 => (0..6_000_u64).prop_map(|millis| Event::Pass { millis }),
        1 => Just(Event::Crash),
        1 => Just(Event::Fail),
    ]
}

const TOPICS: [&str; 2] = ["t", "u"];

fn happen(stage: &mut Stage, event: &Event) {
    match *event {
        Event::Beat { who, acts, lost } => {
            let _ = stage.beat(who, lost);
            if acts {
                stage.act(who);
            }
        }
        Event::Acts { who } => stage.act(who),
        Event::Leave { who, pauses } => {
            if stage.clients[who].is_member {
                let pauses = pauses && stage.clients[who].instance.is_some();
                let _ = stage.leave(who, if pauses { -2 } else { -1 });
            }
        }
        Event::Subscribe { who, topics, regex } => {
            let named = TOPICS.iter().enumerate().filter(|(at, _)| topics & (1 << at) != 0);
            stage.clients[who].topics = named.map(|(_, name)| Arc::from(*name)).collect();
            stage.clients[who].regex = Some(Arc::from(if regex { "[tu]" } else { "" }));
        }
        Event::Topic { topic, count } => {
            let grown = stage.cluster.named(TOPICS[topic]).map_or(0, |(_, now)| now.max(count));
            stage.cluster.set(TOPICS[topic], if count == 0 { 0 } else { grown.max(count) });
        }
        Event::Pass { millis } => stage.host.advance(Duration::from_millis(millis)),
        Event::Crash => stage.host.crash(),
        Event::Fail => stage.host.fails = Some(HostFailure::Unavailable),
    }
}

proptest! {
    #[test]
    fn histories(events in prop::collection::vec(event(), 0..60)) {
        let mut stage = Stage::new(3, 4);
        stage.clients[3].instance = Some(Arc::from("i"));
        stage.clients[2].assignor = Some(Arc::from("range"));
        for event in &events {
            happen(&mut stage, event);
            check_restart(&stage.host);
        }
        stage.host.fails = None;
        for _ in 0..6 {
            for who in 0..stage.clients.len() {
                if !stage.clients[who].is_member {
                    let _ = stage.beat(who, false);
                }
            }
            stage.settle();
            stage.host.advance(Duration::from_secs(4));
        }
        stage.settle();
        stage.check_owners();
        let wanted: BTreeSet<_> = stage.clients.iter().flat_map(|client| {
            let matched = client.regex.as_deref() == Some("[tu]");
            let matched = TOPICS.iter().filter(move |_| matched).map(|name| Arc::from(*name));
            client.topics.iter().cloned().chain(matched).collect::<Vec<Arc<str>>>()
        }).collect();
        let all: BTreeSet<_> = wanted.iter().flat_map(|name| stage.cluster.all(name)).collect();
        let owned: BTreeSet<_> = stage.clients.iter().filter(|client| client.is_member)
            .flat_map(|client| &client.owned)
            .flat_map(|(topic, indexes)| indexes.iter().map(|index| (*topic, *index)))
            .collect();
        prop_assert_eq!(owned, all);
    }
}
