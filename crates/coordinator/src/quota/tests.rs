use std::time::Duration;

use millstream_types::Monotonic;
use proptest::prelude::*;

use super::*;

/// `user/client id@address`: a dash is none, a star the default.
fn entity(text: &str) -> Entity {
    let part = |text: &str| match text {
        "-" => None,
        "*" => Some(Name::Default),
        name => Some(Name::Is(Arc::from(name))),
    };
    let (clients, address) = text.split_once('@').unwrap_or((text, "-"));
    let (user, client_id) = clients.split_once('/').expect("user/client id");
    Entity { user: part(user), client_id: part(client_id), address: part(address) }
}

fn limit(value: f64) -> Limit {
    Limit::new(value).expect("a limit")
}

fn quotas(all: &[(&str, Use, f64)]) -> Quotas {
    let mut quotas = Quotas::default();
    for (who, of, value) in all {
        let entity = entity(who);
        let mut limits = quotas.of(&entity).cloned().unwrap_or_default();
        limits.insert(*of, limit(*value));
        quotas.set(entity, limits);
    }
    quotas
}

#[test]
fn the_most_specific_quota_counts() {
    const OF: Use = Use::ProducerByteRate;
    // From the least specific on: each one hides those before it.
    let order = ["-/*", "-/c", "*/-", "*/*", "*/c", "u/-", "u/*", "u/c"];
    let mut all = Vec::new();
    for (at, who) in order.iter().enumerate() {
        all.push((*who, OF, at as f64 + 1.0));
        let quotas = quotas(&all);
        let (found, scope) = quotas.limit(OF, "u", "c").expect("one fits");
        assert_eq!(found, limit(at as f64 + 1.0), "{who}");
        let shares = (!who.starts_with('-'), !who.ends_with('-'));
        assert_eq!((scope.by_user, scope.by_client_id), shares, "{who}");
        assert_eq!(quotas.limit(Use::ConsumerByteRate, "u", "c"), None, "limits something else");
    }
    let named = quotas(&[("u/c", OF, 1.0), ("u/-", OF, 2.0), ("-/c", OF, 3.0)]);
    for (user, client_id, expected) in
        [("u", "d", Some(2.0)), ("v", "c", Some(3.0)), ("v", "d", None), ("", "", None)]
    {
        let found = named.limit(OF, user, client_id).map(|(limit, _)| limit.get());
        assert_eq!(found, expected, "{user}/{client_id}");
    }
}

#[test]
fn a_quota_that_limits_something_else_hides_none() {
    let both = quotas(&[("u/c", Use::RequestPercentage, 5.0), ("u/-", Use::ConsumerByteRate, 2.0)]);
    let found = both.limit(Use::ConsumerByteRate, "u", "c");
    assert_eq!(found, Some((limit(2.0), Scope { by_user: true, by_client_id: false })));
}

#[test]
fn an_address_has_its_own_rate_or_that_of_all() {
    const OF: Use = Use::ConnectionCreationRate;
    let quotas = quotas(&[("-/-@10.0.0.1", OF, 3.0), ("-/-@*", OF, 7.0)]);
    assert_eq!(quotas.connection_rate("10.0.0.1"), Some(limit(3.0)));
    assert_eq!(quotas.connection_rate("10.0.0.2"), Some(limit(7.0)));
    assert_eq!(Quotas::default().connection_rate("10.0.0.2"), None);
}

#[test]
fn what_can_be_changed() {
    const BYTES: &str = "producer_byte_rate";
    let set = |of: &str, to: f64| Change { of: of.to_owned(), to: Some(to) };
    let remove = |of: &str| Change { of: of.to_owned(), to: None };
    let known = |known: &str, name: &str| {
        Err(QuotaError::Unknown { name: name.to_owned(), known: known.to_owned() })
    };
    let of_clients =
        "producer_byte_rate, consumer_byte_rate, request_percentage, controller_mutation_rate";
    let cases = [
        ("u/c", vec![set(BYTES, 5.0)], Ok(vec![(Use::ProducerByteRate, 5.0)])),
        ("*/-", vec![remove(BYTES)], Ok(vec![])),
        ("-/c", vec![set("request_percentage", 0.5)], Ok(vec![(Use::RequestPercentage, 0.5)])),
        ("u/c", vec![set(BYTES, 5.5)], Err(QuotaError::NotWhole { name: BYTES, most: i64::MAX })),
        ("u/c", vec![set(BYTES, 0.0)], Err(QuotaError::NotPositive(BYTES))),
        ("u/c", vec![set(BYTES, f64::NAN)], Err(QuotaError::NotPositive(BYTES))),
        ("u/c", vec![set(BYTES, f64::INFINITY)], Err(QuotaError::NotPositive(BYTES))),
        ("u/c", vec![set(BYTES, 1.0), remove(BYTES)], Err(QuotaError::Twice(BYTES.into()))),
        ("u/c", vec![set("speed", 1.0)], known(of_clients, "speed")),
        ("-/-@*", vec![set(BYTES, 1.0)], known("connection_creation_rate", BYTES)),
        ("-/-", vec![set(BYTES, 1.0)], Err(QuotaError::NoEntity)),
        ("u/-@*", vec![set(BYTES, 1.0)], Err(QuotaError::AddressAndMore)),
        ("-/-@host", vec![], Err(QuotaError::NotAnAddress("host".into()))),
        (
            "-/-@::1",
            vec![set("connection_creation_rate", 3e9)],
            Err(QuotaError::NotWhole { name: "connection_creation_rate", most: 2_147_483_647 }),
        ),
    ];
    for (who, changes, expected) in cases {
        let expected = expected
            .map(|all| all.into_iter().map(|(of, value)| (of, limit(value))).collect::<Limits>());
        assert_eq!(
            Quotas::default().changed(&entity(who), &changes),
            expected,
            "{who} {changes:?}"
        );
    }
    let both = quotas(&[("u/-", Use::ProducerByteRate, 1.0), ("u/-", Use::ConsumerByteRate, 2.0)]);
    let left = both.changed(&entity("u/-"), &[remove(BYTES)]).expect("it is there");
    assert_eq!(left, Limits::from([(Use::ConsumerByteRate, limit(2.0))]));
}

#[test]
fn what_a_filter_wants() {
    let all = ["u/-", "u/c", "*/-", "*/*", "-/c", "-/*", "-/-@10.0.0.1", "-/-@*"];
    let is = |name: &str| Some(Match::Is(Arc::from(name)));
    let (any, default) = (Some(Match::Any), Some(Match::Default));
    let users = |user| Filter { user, ..Filter::default() };
    let strict = |filter| Filter { strict: true, ..filter };
    let cases: [(Filter, &[&str]); 8] = [
        (Filter::default(), &all),
        (strict(Filter::default()), &[]),
        (users(is("u")), &["u/-", "u/c"]),
        (strict(users(is("u"))), &["u/-"]),
        (users(default.clone()), &["*/-", "*/*"]),
        (strict(users(any.clone())), &["u/-", "*/-"]),
        (Filter { user: any.clone(), client_id: any, ..Filter::default() }, &["u/c", "*/*"]),
        (Filter { address: default, ..Filter::default() }, &["-/-@*"]),
    ];
    for (filter, expected) in cases {
        let wanted: Vec<_> = all.into_iter().filter(|who| filter.wants(&entity(who))).collect();
        assert_eq!(wanted, expected, "{filter:?}");
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_bucket_takes_a_burst_and_then_its_limit() {
    let (ten, mut bucket, now) = (limit(10.0), Bucket::default(), Monotonic(5));
    assert_eq!(bucket.charge(now, 10.0, ten, SECOND), Duration::ZERO, "a second's worth");
    assert_eq!(bucket.charge(now, 5.0, ten, SECOND), SECOND / 2);
    let later = now.plus(SECOND / 2);
    assert_eq!(bucket.wait(later, SECOND), Duration::ZERO);
    assert!(!bucket.is_idle(later));
    assert!(bucket.is_idle(now.plus(SECOND * 3 / 2)));
    assert_eq!(bucket.charge(now, 1e300, ten, SECOND), DEBT_MAX, "not for ever");
    assert_eq!(bucket.charge(now, f64::NAN, ten, SECOND), DEBT_MAX);
}

proptest! {
    /// Whoever waits as long as he is told gets what the limit allows, and no more than that.
    #[test]
    fn who_waits_gets_the_limit(
        amounts in prop::collection::vec(1..5_000_u32, 20..200),
        rate in 1..10_000_u32,
    ) {
        let (mut bucket, mut now) = (Bucket::default(), Monotonic(0));
        for amount in &amounts {
            let wait = bucket.charge(now, f64::from(*amount), limit(f64::from(rate)), SECOND);
            now = now.plus(wait);
        }
        let used: f64 = amounts.iter().copied().map(f64::from).sum();
        let fair = Duration::from_secs_f64(used / f64::from(rate)).saturating_sub(SECOND);
        let took = now.since(Monotonic(0));
        let off = took.abs_diff(fair);
        prop_assert!(off < Duration::from_micros(1), "{took:?} rather than {fair:?}");
    }
}
