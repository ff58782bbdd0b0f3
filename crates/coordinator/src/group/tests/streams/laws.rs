//! Laws on random histories: what a restart finds is what was there; no task is active twice; when all
//! is quiet, every task is active.

use proptest::prelude::*;

use super::super::laws::check_restart;
use super::exhaustive::check_all_taken;
use super::*;

#[derive(Clone, Debug)]
enum Event {
    Beat {
        who: usize,
        acts: bool,
        lost: bool,
    },
    Acts {
        who: usize,
    },
    Leave {
        who: usize,
        pauses: bool,
    },
    /// Comes again as another process.
    Moves {
        who: usize,
        process: usize,
    },
    Topic {
        topic: usize,
        count: i32,
    },
    Standbys {
        count: i32,
    },
    Pass {
        millis: u64,
    },
    Crash,
    Fail,
}

fn event() -> impl Strategy<Value = Event> {
    let who = || 0..4_usize;
    prop_oneof![
        12 => (who(), prop::bool::weighted(0.7), prop::bool::weighted(0.1))
            .prop_map(|(who, acts, lost)| Event::Beat { who, acts, lost }),
        3 => who().prop_map(|who| Event::Acts { who }),
        1 => (who(), any::<bool>()).prop_map(|(who, pauses)| Event::Leave { who, pauses }),
        1 => (who(), who()).prop_map(|(who, process)| Event::Moves { who, process }),
        1 => (0..3_usize, 0..5_i32).prop_map(|(topic, count)| Event::Topic { topic, count }),
        1 => (0..3_i32).prop_map(|count| Event::Standbys { count }),
        2 => (0..6_000_u64).prop_map(|millis| Event::Pass { millis }),
        1 => Just(Event::Crash),
        1 => Just(Event::Fail),
    ]
}

const TOPICS: [&str; 3] = ["in", "r", "c"];

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
        Event::Moves { who, process } => {
            stage.forget(who);
            stage.clients[who].process = Arc::from(format!("p{process}"));
        }
        Event::Topic { topic, count } => stage.cluster.set(TOPICS[topic], count),
        Event::Standbys { count } => configure(stage, count),
        Event::Pass { millis } => stage.host.advance(Duration::from_millis(millis)),
        Event::Crash => stage.host.crash(),
        Event::Fail => stage.host.fails = Some(HostFailure::Unavailable),
    }
}

fn configure(stage: &mut Stage, standbys: i32) {
    let streams = StreamsOverrides { standby_replicas: Some(standbys), ..Default::default() };
    stage.cluster.configure(GroupOverrides { streams, ..GroupOverrides::default() });
}

proptest! {
    #[test]
    fn histories(events in prop::collection::vec(event(), 0..60)) {
        let mut stage = Stage::new(3, 4);
        stage.clients[3].instance = Some(Arc::from("i"));
        for event in &events {
            happen(&mut stage, event);
            check_restart(&stage.host);
        }
        stage.host.fails = None;
        configure(&mut stage, 1);
        for topic in TOPICS {
            stage.cluster.set(topic, 0);
        }
        stage.cluster.set("in", 3);
        for _ in 0..8 {
            for who in 0..stage.clients.len() {
                if !stage.clients[who].is_member {
                    let _ = stage.beat(who, false);
                }
            }
            stage.settle();
            stage.pass(4);
        }
        stage.settle();
        stage.check_owners();
        check_all_taken(&stage, &format!("{events:?}"));
        prop_assert!(stage.clients.iter().all(|client| client.is_member));
    }

    /// A restart in the middle of anything changes nothing of what members are told next.
    #[test]
    fn a_restart_is_not_noticed(events in prop::collection::vec(event(), 0..40), who in 0..4_usize) {
        let mut stage = Stage::new(3, 4);
        for event in events.iter().filter(|event| !matches!(event, Event::Fail)) {
            happen(&mut stage, event);
        }
        stage.makes_topics = false;
        let mut restarted = stage.clone();
        restarted.host.crash();
        let request = stage.request(who);
        // Where tasks are is told anew.
        let told = |result: Result<StreamsBeat, StreamsHeartbeatError>| result.map(|beat| {
            StreamsBeat { endpoints_epoch: 0, endpoints: None, ..beat }
        });
        prop_assert_eq!(told(restarted.ask(request.clone())), told(stage.ask(request)));
    }
}
