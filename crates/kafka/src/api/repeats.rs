//! Requests that name a thing twice.

use std::collections::HashSet;
use std::hash::Hash;

/// Those of `all` that come more than once.
pub(super) fn repeated<T: Eq + Hash + Clone>(all: impl IntoIterator<Item = T>) -> HashSet<T> {
    let mut seen = HashSet::new();
    all.into_iter().filter(|one| !seen.insert(one.clone())).collect()
}

/// Each of `all` once, in the order in which they came; two are the same when their keys are.
pub(super) fn distinct<T, K: Eq + Hash>(all: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::new();
    all.into_iter().filter(|one| seen.insert(key(one))).collect()
}

/// What an item that is named twice is refused with.
pub(super) const TWICE: &str = "the request names it twice";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_found_and_left_out() {
        for (all, twice, once) in [
            (vec![], vec![], vec![]),
            (vec![2, 1], vec![], vec![2, 1]),
            (vec![2, 1, 2, 3, 2, 1], vec![1, 2], vec![2, 1, 3]),
        ] {
            let mut found: Vec<i32> = repeated(all.iter().copied()).into_iter().collect();
            found.sort_unstable();
            assert_eq!(found, twice);
            assert_eq!(distinct(all, |one| *one), once);
        }
    }
}
