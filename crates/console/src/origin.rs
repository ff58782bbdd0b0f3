//! Which requests are for us: a page that somebody looks at elsewhere must not read what is here by his browser.
//!
//! A browser sends the name that a page was asked for by. Where that is the name of somebody else, who has made
//! it point to us (DNS rebinding), the request is refused, on loopback too. Addresses can't be made to point
//! elsewhere, so they are always taken, as is `localhost`; other names are those that the setting
//! `millstream.http.hosts` lists. `Origin` names the page that asks, where it is not one of ours.

use std::net::IpAddr;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// It is for another host, or does not say for which.
    Host,
    /// A page of another host asks.
    Origin,
}

/// Whether a request with these headers is for us; `hosts` are the names that we have.
pub(super) fn check(
    host: Option<&str>,
    origin: Option<&str>,
    hosts: &[String],
) -> Result<(), Foreign> {
    let host = host.ok_or(Foreign::Host)?;
    if !is_ours(name(host), hosts) {
        return Err(Foreign::Host);
    }
    match origin {
        None => Ok(()),
        // With its port: another server of the same machine is another page.
        Some(origin) => match origin.split_once("://") {
            Some((_, from)) if from.eq_ignore_ascii_case(host) => Ok(()),
            _ => Err(Foreign::Origin),
        },
    }
}

/// A host without its port and brackets.
fn name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(address, _)| address);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_ours(name: &str, hosts: &[String]) -> bool {
    let listed = || hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") || listed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_for_others_are_refused() {
        #[track_caller]
        fn check(host: &str, origin: Option<&str>, expected: Result<(), Foreign>) {
            let hosts = ["kafka.example.org".to_owned()];
            assert_eq!(super::check(Some(host), origin, &hosts), expected, "{host} {origin:?}");
        }
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "192.0.2.1",
            "[::1]:8080",
            "[2001:db8::1]",
            "kafka.example.org:8080",
            "Kafka.Example.org",
        ] {
            check(host, None, Ok(()));
            check(host, Some(&format!("http://{host}")), Ok(()));
            check(host, Some("http://evil.example.org"), Err(Foreign::Origin));
            check(host, Some("null"), Err(Foreign::Origin));
        }
        for host in [
            "evil.example.org:8080",
            "localhost.evil.example.org",
            "127.0.0.1.evil.example.org:8080",
            "example.org",
            "[evil.example.org]:8080",
            "[::1",
            "",
            ":8080",
            "kafka.example.org.:8080",
            "localhost:127.0.0.1:8080",
        ] {
            check(host, None, Err(Foreign::Host));
        }
        check("localhost:8080", Some("http://localhost:9090"), Err(Foreign::Origin));
        assert_eq!(super::check(None, None, &[]), Err(Foreign::Host));
    }
}
