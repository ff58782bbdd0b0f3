use super::*;

mod described;
mod groups;
mod listeners;
mod oauth;
mod page;
mod resolved;
mod set;
mod tables;
mod transport;
mod values;

/// Overrides from pairs.
fn overrides(pairs: &[(&str, &str)]) -> Overrides {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A broker that was started with these pairs.
fn started(pairs: &[(&str, &str)]) -> BrokerOverrides {
    BrokerOverrides { start: overrides(pairs), ..BrokerOverrides::default() }
}
