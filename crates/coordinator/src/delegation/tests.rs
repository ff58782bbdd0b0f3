use super::*;
use crate::cluster::ClusterState;

const HOUR: Duration = Duration::from_hours(1);
const NOW: Timestamp = Timestamp(1_000_000_000);

fn key() -> TokenKey {
    TokenKey::new("secret").expect("a key")
}

/// A token of alice that bob may renew: for an hour, at most for three.
fn token(id: &str) -> Delegation {
    Delegation {
        id: Arc::from(id),
        owner: Arc::from("alice"),
        requester: Arc::from("carol"),
        renewers: vec![Arc::from("bob")],
        issued: NOW,
        expires: NOW.plus(HOUR),
        ends: NOW.plus(HOUR * 3),
        digest: key().hmac(id).digest(),
        credentials: BTreeMap::new(),
    }
}

fn state(ids: &[&str]) -> ClusterState {
    let mut state = ClusterState::default();
    for id in ids {
        let entries = state.delegations().added(token(id), NOW).expect("there is room");
        entries.into_iter().for_each(|entry| state.replay(entry));
    }
    state
}

fn ids(state: &ClusterState) -> Vec<&str> {
    state.delegations().iter().map(|token| &*token.id).collect()
}

fn after(hours: u32) -> Timestamp {
    NOW.plus(HOUR * hours)
}

#[test]
fn owners_and_renewers_renew_a_token_until_it_ends() {
    let renew = |id: &str, user: &str, time: Duration, now: Timestamp| {
        let mut state = state(&["t"]);
        let outcome = state.delegations().renewed(&key().hmac(id), user, time, now);
        outcome.map(|(entries, expires)| {
            entries.into_iter().for_each(|entry| state.replay(entry));
            let token = state.delegations().get("t").expect("it is there");
            assert_eq!((token.expires, token.ends), (expires, after(3)));
            expires
        })
    };
    let soon = Timestamp(after(1).0 - 1);
    for (id, user, time, now, expected) in [
        ("t", "alice", HOUR, soon, Ok(Timestamp(after(2).0 - 1))),
        ("t", "bob", HOUR, NOW, Ok(after(1))),
        ("t", "bob", HOUR * 100, NOW, Ok(after(3))),
        ("t", "bob", Duration::ZERO, NOW, Ok(NOW)),
        ("t", "bob", Duration::MAX, NOW, Ok(after(3))),
        ("t", "carol", HOUR, NOW, Err(DelegationError::NotYours)),
        ("t", "", HOUR, NOW, Err(DelegationError::NotYours)),
        ("t", "alice", HOUR, after(1), Err(DelegationError::Expired)),
        ("t", "carol", HOUR, after(1), Err(DelegationError::Expired)),
        ("u", "alice", HOUR, NOW, Err(DelegationError::NotFound)),
    ] {
        assert_eq!(renew(id, user, time, now), expected, "{id} {user} {time:?}");
    }
}

#[test]
fn owners_and_renewers_end_a_token() {
    for (user, expected) in [("alice", true), ("bob", true), ("carol", false)] {
        let mut state = state(&["t", "u"]);
        let ended = state.delegations().ended(&key().hmac("t"), user, NOW);
        assert_eq!(ended.is_ok(), expected, "{user}");
        ended.into_iter().flatten().for_each(|entry| state.replay(entry));
        assert_eq!(ids(&state), if expected { &["u"][..] } else { &["t", "u"] });
    }
}

#[test]
fn what_has_expired_goes_when_the_next_one_comes() {
    let mut state = state(&["a", "b"]);
    let renewed = state.delegations().renewed(&key().hmac("b"), "alice", HOUR * 2, NOW);
    renewed.expect("renewed").0.into_iter().for_each(|entry| state.replay(entry));
    let new = Delegation { expires: after(9), ends: after(9), ..token("c") };
    let entries = state.delegations().added(new, after(1)).expect("there is room");
    entries.into_iter().for_each(|entry| state.replay(entry));
    assert_eq!(ids(&state), ["b", "c"]);
}

#[test]
fn there_are_only_so_many() {
    let mut state = ClusterState::default();
    for number in 0..TOKENS_MAX {
        state.replay(Entry::DelegationSet(Arc::new(token(&number.to_string()))));
    }
    assert_eq!(state.delegations().added(token("x"), NOW), Err(DelegationError::TooMany));
    assert!(state.delegations().added(token("x"), after(1)).is_ok(), "those have expired");
}

/// With another secret nobody has what proves it, and nobody logs in by it.
#[test]
fn a_token_counts_while_it_lasts_and_the_secret_is_the_same() {
    let token = token("t");
    let other = TokenKey::new("other").expect("a key");
    for (key, now, expected) in [
        (key(), NOW, true),
        (key(), Timestamp(after(1).0 - 1), true),
        (key(), after(1), false),
        (other, NOW, false),
    ] {
        assert_eq!(token.is_valid(&key, now), expected);
    }
    // However far it was renewed.
    let long = Delegation { expires: after(9), ..token };
    assert!(!long.is_valid(&key(), after(3)));
}
