use millstream_auth::{ITERATIONS_MAX, ITERATIONS_MIN, SALT_BYTES};

use super::*;
use crate::cluster::ClusterState;

const SECRET: Secret = Secret([5; 32]);

fn set(hash: Hash) -> Upsertion {
    Upsertion {
        hash: Some(hash),
        iterations: 4_096,
        salt: vec![1; 20],
        salted_password: vec![2; hash.size()],
    }
}

/// Makes the changes. What became of each user, in the order of their names.
fn alter(
    state: &mut ClusterState,
    wanted: &[(&str, Alteration)],
) -> Vec<Result<(), CredentialError>> {
    let wanted: Vec<_> =
        wanted.iter().map(|(user, what)| (Arc::from(*user), what.clone())).collect();
    let (entries, outcomes) = state.credentials().altered(&wanted, &SECRET);
    entries.into_iter().for_each(|entry| state.replay(entry));
    outcomes.into_values().collect()
}

fn known(state: &ClusterState) -> KnownUsers<'_> {
    KnownUsers {
        credentials: state.credentials(),
        secret: &Secret([1; 32]),
        connection_strings: false,
        delegations: None,
        now: Timestamp(0),
    }
}

fn held(state: &ClusterState) -> Vec<(&str, Vec<Hash>)> {
    let all = state.credentials().iter();
    all.map(|(user, held)| (&**user, held.keys().copied().collect())).collect()
}

/// Pitfall 25.
#[test]
fn a_user_has_one_credential_for_each_hash_function() {
    let mut state = ClusterState::default();
    for hash in Hash::ALL {
        assert_eq!(alter(&mut state, &[("u", Alteration::Set(set(hash)))]), [Ok(())]);
    }
    assert_eq!(held(&state), [("u", Hash::ALL.to_vec())]);
    let delete = Alteration::Delete(Some(Hash::Sha256));
    assert_eq!(alter(&mut state, &[("u", delete.clone())]), [Ok(())]);
    assert_eq!(held(&state), [("u", vec![Hash::Sha512])]);
    assert_eq!(alter(&mut state, &[("u", delete)]), [Err(CredentialError::NotThere)]);
    assert_eq!(alter(&mut state, &[("u", Alteration::Delete(Some(Hash::Sha512)))]), [Ok(())]);
    assert!(state.credentials().is_empty());
    assert_eq!(state.credentials().secret(), Some(&SECRET), "it stays");
}

#[test]
fn what_is_no_credential_is_refused() {
    let wrong = |change: fn(&mut Upsertion)| {
        let mut upsertion = set(Hash::Sha256);
        change(&mut upsertion);
        Alteration::Set(upsertion)
    };
    let long = "x".repeat(USER_NAME_BYTES_MAX + 1);
    for (user, alteration, expected) in [
        ("", Alteration::Set(set(Hash::Sha256)), CredentialError::NoName),
        (&*long, Alteration::Set(set(Hash::Sha256)), CredentialError::BadName),
        ("a\0b", Alteration::Set(set(Hash::Sha256)), CredentialError::BadName),
        (
            "ANONYMOUS",
            Alteration::Set(set(Hash::Sha256)),
            CredentialError::Reserved("ANONYMOUS".into()),
        ),
        ("*", Alteration::Set(set(Hash::Sha256)), CredentialError::Reserved("*".into())),
        ("u", Alteration::Delete(None), CredentialError::NoMechanism),
        ("u", wrong(|set| set.hash = None), CredentialError::NoMechanism),
        ("u", wrong(|set| set.iterations = 4_095), CredentialError::Iterations(4_095)),
        ("u", wrong(|set| set.iterations = 16_385), CredentialError::Iterations(16_385)),
        ("u", wrong(|set| set.iterations = -1), CredentialError::Iterations(-1)),
        ("u", wrong(|set| set.salt.clear()), CredentialError::Salt(0)),
        ("u", wrong(|set| set.salt = vec![1; 1_025]), CredentialError::Salt(1_025)),
        (
            "u",
            wrong(|set| set.salted_password = vec![1; 64]),
            CredentialError::SaltedPassword { expected: 32, found: 64 },
        ),
    ] {
        let mut state = ClusterState::default();
        assert_eq!(alter(&mut state, &[(user, alteration)]), [Err(expected)]);
        assert_eq!(state, ClusterState::default());
    }
    for iterations in [ITERATIONS_MIN, ITERATIONS_MAX] {
        let mut upsertion = set(Hash::Sha256);
        upsertion.iterations = i32::try_from(iterations).expect("small");
        let mut state = ClusterState::default();
        assert_eq!(alter(&mut state, &[("u", Alteration::Set(upsertion))]), [Ok(())]);
    }
}

/// The others of the request are not held up.
#[test]
fn who_is_named_twice_is_not_changed() {
    let mut state = ClusterState::default();
    let both = Hash::ALL.map(|hash| ("a", Alteration::Set(set(hash))));
    let [one, two] = both.clone();
    let other = ("b", Alteration::Set(set(Hash::Sha256)));
    let outcomes = alter(&mut state, &[one.clone(), two.clone(), other, one]);
    assert_eq!(outcomes, [Err(CredentialError::Twice), Ok(())]);
    assert_eq!(held(&state), [("b", vec![Hash::Sha256])]);
}

/// Whatever is kept of users: all tokens are made here, and look alike.
#[test]
fn tokens_that_there_are_not_look_like_those_that_there_are() {
    let mut state = ClusterState::default();
    let upsertion = Upsertion { iterations: 8_192, ..set(Hash::Sha512) };
    assert_eq!(alter(&mut state, &[("a", Alteration::Set(upsertion))]), [Ok(())]);
    let token = |id: &str| {
        let (credential, owner) = known(&state).token(id, Hash::Sha512);
        assert_eq!((credential.shape(), owner), (Shape::default(), None));
        credential
    };
    assert_eq!(token("one"), token("one"));
    assert_ne!(token("one"), token("other"));
}

#[test]
fn users_that_there_are_not_look_like_most() {
    let mut state = ClusterState::default();
    let shape = |state: &ClusterState, user, hash| {
        let users = known(state);
        users.credential(user, hash).shape()
    };
    assert_eq!(shape(&state, "nobody", Hash::Sha256).salt_bytes, SALT_BYTES);
    for (user, iterations) in [("a", 8_192), ("b", 8_192), ("c", 4_096)] {
        let upsertion = Upsertion { iterations, ..set(Hash::Sha512) };
        assert_eq!(alter(&mut state, &[(user, Alteration::Set(upsertion))]), [Ok(())]);
    }
    let usual = Shape { iterations: 8_192, salt_bytes: 20 };
    assert_eq!(shape(&state, "nobody", Hash::Sha512), usual);
    assert_eq!(shape(&state, "nobody", Hash::Sha256), Shape::default());
    assert_eq!(shape(&state, "c", Hash::Sha512).iterations, 4_096);
    let any = |user: &str| {
        let users = known(&state);
        users.any_credential(user)
    };
    assert_eq!((any("nobody").0, any("nobody").1.shape()), (Hash::Sha512, usual));
    assert_eq!(any("nobody"), any("nobody"));
    assert_ne!(any("nobody"), any("somebody"));
}
