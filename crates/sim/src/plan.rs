//! What a seed is about: topics, settings, clients, faults.

use std::time::Duration;

use millstream_env::Dice;

/// What a simulation consists of. Everything follows from the seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the broker is configured.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// The topics, by number.
    pub(crate) topics: Vec<TopicPlan>,
    /// How long there are faults, and clients begin new work.
    pub(crate) run_time: Duration,
    /// When everything must have come to its end.
    pub(crate) time_max: Duration,
    /// What each piece of work on the disk takes.
    pub(crate) disk_pause: Option<Duration>,
    /// How much time there is between faults, at most.
    pub(crate) calm: Duration,
    /// After how long a silent member of a group is taken for gone, in milliseconds.
    pub(crate) session_timeout_ms: i32,
    /// How many batches each producer sends, at most.
    pub(crate) batches: u64,
}

/// A topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicPlan {
    pub(crate) name: &'static str,
    pub(crate) partitions: i32,
    pub(crate) configs: Vec<(&'static str, &'static str)>,
}

impl Plan {
    /// What `seed` is about.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x0070_6c61_6e00);
        let pauses = [None, Some(20), Some(150), Some(1_500), Some(9_000)];
        let disk_pause = pauses[dice.below(5) as usize].map(Duration::from_micros);
        let run_time = Duration::from_millis(2_000 + dice.below(10_000));
        let one_of = |dice: &mut Dice, values: &[&str]| {
            let at = usize::try_from(dice.below(values.len() as u64)).unwrap_or_default();
            values.get(at).map_or_else(String::new, |value| (*value).to_owned())
        };
        let session_timeout_ms = 1_500 + i32::try_from(dice.below(3_000)).unwrap_or_default();
        let session = session_timeout_ms.to_string();
        let mut settings = vec![
            ("log.cleaner.backoff.ms", "400".to_owned()),
            ("group.min.session.timeout.ms", "1000".to_owned()),
            ("group.consumer.min.session.timeout.ms", "1000".to_owned()),
            ("group.consumer.min.heartbeat.interval.ms", "100".to_owned()),
            ("group.consumer.heartbeat.interval.ms", "400".to_owned()),
            ("group.consumer.session.timeout.ms", session),
            ("group.initial.rebalance.delay.ms", one_of(&mut dice, &["0", "500"])),
            ("offsets.topic.num.partitions", one_of(&mut dice, &["1", "2"])),
            ("transaction.state.log.num.partitions", one_of(&mut dice, &["1", "2"])),
        ];
        let topic = |dice: &mut Dice, name| TopicPlan {
            name,
            partitions: 1 + i32::try_from(dice.below(3)).unwrap_or_default(),
            configs: Vec::new(),
        };
        let mut topics = ["plain", "written", "copies", "keys"].map(|name| topic(&mut dice, name));
        topics[3].configs = vec![
            ("cleanup.policy", "compact"),
            ("segment.ms", "300"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("delete.retention.ms", "500"),
        ];
        let calm = Duration::from_millis(200 + dice.below(4_000));
        let batches = 10 + dice.below(40);
        // One in three notes all that there is to note: connections, and topics that are made and deleted.
        if dice.below(3) == 0 {
            settings.push(("millstream.audit.level", "all".to_owned()));
        }
        Self {
            settings,
            topics: topics.into(),
            run_time,
            time_max: Duration::from_secs(3_600),
            disk_pause,
            session_timeout_ms,
            calm,
            batches,
        }
    }
}
