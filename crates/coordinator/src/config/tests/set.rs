//! Changing what is set.

use super::super::{
    Change, ConfigError, Kind, Op, Overrides, apply, replace, validate_all, validate_start,
};
use super::overrides;

fn change(name: &str, op: Op) -> Change {
    Change { name: name.to_owned(), op }
}

fn set(name: &str, value: &str) -> Change {
    change(name, Op::Set(value.to_owned()))
}

fn append(name: &str, items: &str) -> Change {
    change(name, Op::Append(items.to_owned()))
}

fn subtract(name: &str, items: &str) -> Change {
    change(name, Op::Subtract(items.to_owned()))
}

fn delete(name: &str) -> Change {
    change(name, Op::Delete)
}

#[test]
fn changes_of_a_topic() {
    #[track_caller]
    fn check(before: &[(&str, &str)], changes: &[Change], after: &[(&str, &str)]) {
        let applied = apply(Kind::Topic, &overrides(before), changes);
        assert_eq!(applied, Ok(overrides(after)));
    }
    let name = "cleanup.policy";
    let ms = ("retention.ms", "5");
    check(&[], &[set("retention.ms", "5")], &[ms]);
    check(&[("retention.ms", "4")], &[set("retention.ms", "5")], &[ms]);
    // A value that equals the default is set all the same.
    check(&[], &[set("retention.ms", "604800000")], &[("retention.ms", "604800000")]);
    check(&[ms, (name, "compact")], &[delete(name)], &[ms]);
    check(&[ms], &[delete(name), delete("no.such.config")], &[ms]);
    // Lists: the default counts where nothing is set; what is there is not added again, what is
    // not there is not missed.
    check(&[], &[append(name, "compact")], &[(name, "delete,compact")]);
    check(&[], &[append(name, "delete")], &[(name, "delete")]);
    check(
        &[(name, "compact")],
        &[append(name, "delete,delete,compact")],
        &[(name, "compact,delete")],
    );
    check(&[(name, "")], &[append(name, "compact")], &[(name, "compact")]);
    check(&[(name, "delete, compact")], &[subtract(name, "delete")], &[(name, "compact")]);
    check(&[(name, "compact")], &[subtract(name, "delete")], &[(name, "compact")]);
    check(&[], &[subtract(name, "delete")], &[(name, "")]);
    // Together they may agree where one alone doesn't.
    check(
        &[("max.compaction.lag.ms", "5")],
        &[set("min.compaction.lag.ms", "7"), set("max.compaction.lag.ms", "8")],
        &[("max.compaction.lag.ms", "8"), ("min.compaction.lag.ms", "7")],
    );
    // What another release left behind stays until somebody touches it.
    check(&[("of.old", "x")], &[set("retention.ms", "5")], &[("of.old", "x"), ms]);
}

/// librdkafka's test 0081 alters a broker by it: what Apache Kafka lets tools set, they can set here.
#[test]
fn a_broker_takes_the_rest_between_kerberos_logins() {
    let name = "sasl.kerberos.min.time.before.relogin";
    let applied = apply(Kind::Broker, &overrides(&[]), &[set(name, "58000")]);
    assert_eq!(applied, Ok(overrides(&[(name, "58000")])));
}

#[test]
fn changes_that_are_refused_change_nothing() {
    #[track_caller]
    fn check(kind: Kind, before: &[(&str, &str)], changes: &[Change], message: &str) {
        let refused = apply(kind, &overrides(before), changes).expect_err(message);
        assert_eq!(refused.to_string(), message);
    }
    check(
        Kind::Topic,
        &[],
        &[set("segment.ms", "5"), set("retention.msx", "5")],
        "unknown topic config `retention.msx`; did you mean `retention.ms`?",
    );
    check(
        Kind::Topic,
        &[],
        &[append("retention.ms", "5")],
        "`retention.ms` is not a list: set it, nothing can be added or taken away",
    );
    check(
        Kind::Topic,
        &[],
        &[subtract("compression.type", "5")],
        "`compression.type` is not a list: set it, nothing can be added or taken away",
    );
    check(
        Kind::Topic,
        &[],
        &[append("cleanup.policy", "shred")],
        "topic config `cleanup.policy` can't be `delete,shred`: it takes a list of `compact`, \
         `delete`",
    );
    check(
        Kind::Topic,
        &[],
        &[set("segment.ms", "5"), delete("segment.ms")],
        "`segment.ms` is changed twice in one request",
    );
    check(
        Kind::Topic,
        &[("max.compaction.lag.ms", "5")],
        &[set("min.compaction.lag.ms", "7")],
        "`min.compaction.lag.ms` (7) may not exceed `max.compaction.lag.ms` (5)",
    );
    check(
        Kind::Broker,
        &[],
        &[set("num.partitions", "5")],
        "broker config `num.partitions` can't be changed while the broker runs: start it with \
         `--set num.partitions=...`",
    );
    check(
        Kind::Broker,
        &[],
        &[append("log.dirs", "elsewhere")],
        "broker config `log.dirs` can't be set: `--data-dir` decides it",
    );
}

#[test]
fn a_list_never_grows_over_the_bound() {
    let items = |letter: char| {
        let items: Vec<_> = (0..5_000).map(|number| format!("{letter}{number}")).collect();
        items.join(",")
    };
    let check = |before: &Overrides, change| {
        let refused = apply(Kind::ClientMetrics, before, &[change]).unwrap_err();
        assert!(matches!(refused, ConfigError::TooLong { name: "metrics", .. }), "{refused}");
    };
    let name = "metrics";
    let full = apply(Kind::ClientMetrics, &Overrides::new(), &[append(name, &items('a'))]).unwrap();
    check(&full, append(name, &items('b')));
    check(&full, append(name, &items('a').repeat(2)));
    check(&full, subtract(name, &items('a').repeat(2)));
    check(&full, set(name, &items('a').repeat(2)));
}

/// Pitfall 22.
#[test]
fn replacing_leaves_only_what_is_sent() {
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let sent = [("retention.ms", "5"), ("cleanup.policy", "compact")];
    assert_eq!(replace(Kind::Topic, pairs(&sent)), Ok(overrides(&sent)));
    assert_eq!(replace(Kind::Topic, pairs(&[])), Ok(Overrides::new()));
    let twice = [("retention.ms", "5"), ("retention.ms", "5")];
    let name = "retention.ms".to_owned();
    assert_eq!(replace(Kind::Topic, pairs(&twice)), Err(ConfigError::Duplicate { name }));
    let read_only = replace(Kind::Broker, pairs(&[("num.partitions", "5")]));
    assert_eq!(read_only, Err(ConfigError::ReadOnly { name: "num.partitions" }));
    let dynamic = [("log.retention.ms", "5")];
    assert_eq!(replace(Kind::Broker, pairs(&dynamic)), Ok(overrides(&dynamic)));
}

#[test]
fn a_broker_starts_with_read_only_configs_but_not_with_what_it_reports() {
    #[track_caller]
    fn check(start: &[(&str, &str)], message: Option<&str>) {
        let refused = validate_start(&overrides(start)).err().map(|refused| refused.to_string());
        assert_eq!(refused.as_deref(), message);
    }
    check(&[], None);
    check(&[("num.partitions", "4"), ("auto.create.topics.enable", "true")], None);
    check(
        &[("node.id", "4")],
        Some("broker config `node.id` can't be set: the data directory decides it"),
    );
    check(
        &[("group.min.session.timeout.ms", "1800001")],
        Some(
            "`group.min.session.timeout.ms` (1800001) may not exceed \
             `group.max.session.timeout.ms` (1800000)",
        ),
    );
    check(
        &[("tail.bytes", "4")],
        Some("unknown broker config `tail.bytes`; did you mean `millstream.tail.bytes`?"),
    );
    let on = ("authorizer.class.name", "standard");
    let nobody = Some(
        "`authorizer.class.name` is set and `super.users` is not: nobody could do anything, nor allow \
         anything to anybody. Name at least one user who may do everything, such as `--set \
         super.users=User:admin`",
    );
    check(&[on], nobody);
    check(&[on, ("super.users", " ; ")], nobody);
    check(&[on, ("super.users", "User:ann")], None);
    check(&[("super.users", "User:ann")], None);
    check(&[("authorizer.class.name", "")], None);
}

#[test]
fn a_new_topic_is_checked_whole() {
    let fine = overrides(&[("min.compaction.lag.ms", "7"), ("max.compaction.lag.ms", "7")]);
    assert_eq!(validate_all(Kind::Topic, &fine), Ok(()));
    let conflict = overrides(&[("min.compaction.lag.ms", "8"), ("max.compaction.lag.ms", "7")]);
    assert!(matches!(validate_all(Kind::Topic, &conflict), Err(ConfigError::Conflict { .. })));
}
