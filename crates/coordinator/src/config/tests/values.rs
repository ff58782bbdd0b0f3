//! Which values are taken, and how refusals read.

use proptest::prelude::*;

use super::super::value::parse;
use super::super::{ConfigError, Kind, VALUE_LEN_MAX, lookup, validate};
use Kind::{Broker, ClientMetrics, Group, Topic};

#[test]
fn values_that_are_taken() {
    #[track_caller]
    fn check(kind: Kind, name: &str, value: &str, canonical: &str) {
        assert_eq!(validate(kind, name, value), Ok(()), "{name}={value}");
        let entry = lookup(kind, name).unwrap();
        assert_eq!(parse(entry, value).unwrap().to_string(), canonical, "{name}={value}");
    }
    check(Topic, "cleanup.policy", "compact", "compact");
    check(Topic, "cleanup.policy", " compact ", "compact");
    check(Topic, "cleanup.policy", "compact, delete", "compact,delete");
    check(Topic, "cleanup.policy", "delete,compact,delete", "delete,compact");
    check(Topic, "cleanup.policy", "", "");
    check(Topic, "retention.ms", "-1", "-1");
    check(Topic, "retention.ms", " +5 ", "5");
    check(Topic, "retention.ms", "9223372036854775807", "9223372036854775807");
    check(Topic, "retention.bytes", "-7", "-7");
    check(Topic, "segment.bytes", "1048576", "1048576");
    check(Topic, "preallocate", " TRUE ", "true");
    check(Topic, "min.cleanable.dirty.ratio", "1", "1.0");
    check(Topic, "min.cleanable.dirty.ratio", "1e-1", "0.1");
    check(Topic, "min.cleanable.dirty.ratio", "0.0005", "5.0E-4");
    check(Broker, "log.cleaner.io.max.bytes.per.second", "12345678", "1.2345678E7");
    check(Broker, "log.cleaner.io.max.bytes.per.second", "20000000", "2.0E7");
    check(Topic, "compression.gzip.level", "-1", "-1");
    check(Topic, "compression.zstd.level", "-131072", "-131072");
    check(Topic, "leader.replication.throttled.replicas", "*", "*");
    check(Topic, "leader.replication.throttled.replicas", "0:1, 12:34", "0:1,12:34");
    check(Topic, "leader.replication.throttled.replicas", "", "");
    check(Broker, "log.retention.hours", "-5", "-1");
    check(Broker, "group.consumer.migration.policy", "UPGRADE", "UPGRADE");
    check(Broker, "record.validation", "full", "full");
    check(Group, "share.auto.offset.reset", "earliest", "earliest");
    check(Group, "share.auto.offset.reset", "by_duration:PT1H", "by_duration:PT1H");
    check(Group, "share.auto.offset.reset", "by_duration:p1dt2h3m4.5s", "by_duration:p1dt2h3m4.5s");
    check(Group, "streams.rack.aware.assignment.tags", "a, b", "a,b");
    check(
        ClientMetrics,
        "match",
        "client_id=a.*, client_software_name=b",
        "client_id=a.*,client_software_name=b",
    );
    check(ClientMetrics, "metrics", "*", "*");
}

#[test]
fn values_that_are_refused() {
    #[track_caller]
    fn check(kind: Kind, name: &str, value: &str, message: &str) {
        let refused = validate(kind, name, value).expect_err(value);
        let whole = format!("{kind} config `{name}` can't be `{value}`: it takes {message}");
        assert_eq!(refused.to_string(), whole);
    }
    const INT_LEVEL: &str = "a whole number from 1 to 9, or -1";
    const REPLICAS: &str = "`*`, or a list of `partition:broker`";
    const START: &str = "`earliest`, `latest`, or `by_duration:` and an ISO 8601 duration";
    const USERS: &str = "`User:name`, several with semicolons, such as `User:ann;User:bob`";
    const AUTHORIZERS: &str = "one of nothing, `standard`, \
                               `org.apache.kafka.metadata.authorizer.StandardAuthorizer`";
    check(Broker, "super.users", "ann", USERS);
    check(Broker, "super.users", "User:ann,Group:x;User:", USERS);
    check(Broker, "authorizer.class.name", "com.example.Mine", AUTHORIZERS);
    check(Topic, "retention.ms", "-2", "a whole number, at least -1");
    check(Topic, "retention.ms", "", "a whole number, at least -1");
    check(Topic, "retention.ms", "1 000", "a whole number, at least -1");
    check(Topic, "retention.ms", "9223372036854775808", "a whole number, at least -1");
    check(Topic, "segment.bytes", "1048575", "a whole number from 1048576 to 2147483647");
    check(Topic, "segment.bytes", "2147483648", "a whole number from 1048576 to 2147483647");
    check(Topic, "segment.bytes", "1.5e6", "a whole number from 1048576 to 2147483647");
    check(Topic, "preallocate", "yes", "`true` or `false`");
    check(Topic, "min.cleanable.dirty.ratio", "1.01", "a number from 0 to 1");
    check(Topic, "min.cleanable.dirty.ratio", "NaN", "a number from 0 to 1");
    check(Topic, "cleanup.policy", "delete,none", "a list of `compact`, `delete`");
    check(Topic, "cleanup.policy", "delete,", "a list of `compact`, `delete`");
    check(Topic, "compression.gzip.level", "0", INT_LEVEL);
    check(Topic, "message.timestamp.type", "createtime", "one of `CreateTime`, `LogAppendTime`");
    check(Topic, "leader.replication.throttled.replicas", "0", REPLICAS);
    check(Topic, "leader.replication.throttled.replicas", "0:", REPLICAS);
    check(Topic, "leader.replication.throttled.replicas", "0:-1", REPLICAS);
    check(Broker, "log.retention.minutes", "0", "a whole number other than 0");
    check(Broker, "offsets.topic.replication.factor", "32768", "a whole number from 1 to 32767");
    check(Broker, "millstream.durability", "none", "one of `flush`, `os`");
    check(Broker, "group.share.assignors", "a,a", "a list with commas that names nothing twice");
    for duration in ["P", "PT", "P1H", "PT1D", "PT1H1H", "PT1.5H", "PT1S1M", "P-1D", "PT.5S", "1H"]
    {
        check(Group, "share.auto.offset.reset", &format!("by_duration:{duration}"), START);
    }
    check(ClientMetrics, "interval.ms", "99", "a whole number from 100 to 3600000");
    let selectors = "a list of `name=regular expression`, each name one of `client_instance_id`, \
                     `client_id`, `client_software_name`, `client_software_version`, \
                     `client_source_address`, `client_source_port`";
    check(ClientMetrics, "match", "name=a", selectors);
    for wrong in
        ["client_id=", "client_id=a=b", "client_id=(", "client_id=a)|(b", "client_id=(?=a)"]
    {
        check(ClientMetrics, "match", wrong, selectors);
    }
    let limits = "a list of `address:number`, such as `192.0.2.7:100,[2001:db8::7]:5`";
    for wrong in ["192.0.2.7", "localhost:5", "192.0.2.7:-1", "192.0.2.7:5;192.0.2.8:5"] {
        check(Broker, "max.connections.per.ip.overrides", wrong, limits);
    }
}

/// Who has a token can try secrets as fast as his machines can; what is refused is repeated nowhere.
#[test]
fn a_secret_that_could_be_guessed_is_refused_and_not_repeated() {
    let name = "delegation.token.secret.key";
    let long = "x".repeat(32);
    for taken in ["", &*long] {
        assert_eq!(validate(Broker, name, taken), Ok(()));
    }
    for short in ["hunter2", &long[1..]] {
        let refused = validate(Broker, name, short).unwrap_err().to_string();
        let advice =
            "it takes a secret of at least 32 bytes, as `openssl rand -base64 32` makes one";
        assert_eq!(refused, format!("broker config `{name}` can't be that: {advice}"));
    }
}

#[test]
fn a_value_that_is_too_long_is_refused_and_not_repeated() {
    let long = "x".repeat(VALUE_LEN_MAX + 1);
    let refused = validate(Group, "errors.deadletterqueue.topic.name", &long).unwrap_err();
    let name = "errors.deadletterqueue.topic.name";
    assert_eq!(refused, ConfigError::TooLong { name, len: VALUE_LEN_MAX + 1 });
    let refused = validate(Topic, "compression.type", &long[1..]).unwrap_err();
    assert!(refused.to_string().len() < 300, "{refused}");
}

#[test]
fn unknown_names_get_a_hint() {
    #[track_caller]
    fn check(kind: Kind, name: &str, message: &str) {
        let unknown = lookup(kind, name).expect_err(name);
        assert_eq!(unknown.to_string(), message);
    }
    // A slip, a swap, another spelling, half a name.
    check(Topic, "retention.m", "unknown topic config `retention.m`; did you mean `retention.ms`?");
    check(
        Topic,
        "claenup.policy",
        "unknown topic config `claenup.policy`; did you mean `cleanup.policy`?",
    );
    check(
        Topic,
        "MAX_MESSAGE_BYTES",
        "unknown topic config `MAX_MESSAGE_BYTES`; did you mean `max.message.bytes`?",
    );
    check(Topic, "cleanup", "unknown topic config `cleanup`; did you mean `cleanup.policy`?");
    // The same thing on the other level.
    check(
        Topic,
        "log.retention.hours",
        "unknown topic config `log.retention.hours`; did you mean `retention.ms`?",
    );
    check(
        Broker,
        "retention.ms",
        "unknown broker config `retention.ms`; did you mean `log.retention.ms`?",
    );
    check(
        Broker,
        "consumer.session.timeout.ms",
        "unknown broker config `consumer.session.timeout.ms`; did you mean \
         `group.consumer.session.timeout.ms`?",
    );
    check(
        Broker,
        "journal.bytes",
        "unknown broker config `journal.bytes`; did you mean `millstream.journal.bytes`?",
    );
    // Nothing near.
    check(Topic, "colour", "unknown topic config `colour`");
    check(Topic, "", "unknown topic config ``");
    let long = "é".repeat(5_000);
    let cut = format!("unknown group config `{}...`", "é".repeat(100));
    check(Group, &long, &cut);
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_taken_is_written_so_that_it_is_read_again(
        text in concat!(
            "[ -~é,:=\\n]{0,40}|-?[0-9]{1,20}|[0-9.eE+-]{1,8}|[*0-9:,]{1,12}|",
            "by_duration:[PTDHMS0-9.]{0,9}",
        ),
    ) {
        for entry in Kind::ALL.into_iter().flat_map(Kind::entries) {
            if let Some(value) = parse(entry, &text) {
                prop_assert_eq!(parse(entry, &value.to_string()), Some(value), "{}", entry.name);
            }
        }
    }

    #[test]
    fn no_name_panics(name in "\\PC{0,120}") {
        for kind in Kind::ALL {
            if let Err(unknown) = lookup(kind, &name) {
                prop_assert!(unknown.to_string().len() < 600);
            }
        }
    }
}
