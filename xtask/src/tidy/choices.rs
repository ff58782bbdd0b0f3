//! A `select!` that draws which of its arms comes first makes two runs of one seed differ: in crates that
//! are simulated each says that the order is the one written down.

use super::{Finding, Source};

/// The crates that the simulator runs, and the client, which others may want to simulate.
const SIMULATED: [&str; 7] = ["broker", "client", "coordinator", "env", "kafka", "log", "sim"];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let is_simulated = |source: &&Source| {
        SIMULATED.iter().any(|name| source.path.starts_with(format!("crates/{name}/src")))
    };
    sources.iter().filter(is_simulated).flat_map(check_one).collect()
}

fn check_one(source: &Source) -> Vec<Finding> {
    let start = concat!("select", "! {");
    let is_drawn = |(at, _): &(usize, &str)| {
        let arms = source.text.get(at + start.len()..).unwrap_or_default();
        !arms.trim_start().starts_with("biased;")
    };
    let finding = |(at, _): (usize, &str)| {
        let line = source.text.get(..at).unwrap_or_default().lines().count();
        let what = "say `biased;`: a simulation must go the same way each time".to_owned();
        Finding { place: format!("{}:{line}", source.path.display()), what }
    };
    source.text.match_indices(start).filter(is_drawn).map(finding).collect()
}
