//! Who may ask: the check of `Host` and `Origin`.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, header};

/// Whether a request's `Host` and `Origin` are this port's own. The error says which is not.
pub(super) fn check(headers: &HeaderMap, hosts: &[String]) -> Result<(), String> {
    let host = host(headers, hosts)?;
    origin(headers, host).map_err(|stranger| stranger.why)
}

/// The host that a request names, if it is one of this port's.
pub(super) fn host<'h>(headers: &'h HeaderMap, hosts: &[String]) -> Result<&'h str, String> {
    let host = single(headers, &header::HOST)?.ok_or("the request names no host")?;
    let name = name_of(host);
    match is_ours(name, hosts) {
        true => Ok(host),
        false => Err(format!("host {name:?} is not one of this port's; see `http_hosts`")),
    }
}

/// A page of another origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stranger {
    /// Its origin, where that is text.
    pub(super) origin: Option<String>,
    /// What is to be said to it.
    pub(super) why: String,
}

/// Whether a page of this port's own asks, or no page at all.
pub(super) fn origin(headers: &HeaderMap, host: &str) -> Result<(), Stranger> {
    match single(headers, &header::ORIGIN) {
        Ok(None) => Ok(()),
        // Same scheme or not: behind a proxy that ends TLS the origin is https.
        Ok(Some(origin)) if origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host)) => Ok(()),
        Ok(Some(origin)) => {
            Err(Stranger { origin: Some(origin.into()), why: format!("origin {origin:?} is not this port's") })
        }
        Err(why) => Err(Stranger { origin: None, why }),
    }
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, String> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(format!("{name} is given twice"));
    }
    first.map(|value| value.to_str().map_err(|_| format!("{name} is not text"))).transpose()
}

/// A host without its port: `[::1]:4800`, `127.0.0.1:4800`, `localhost`.
pub(super) fn name_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether an origin is a page that this machine serves itself, on whatever port.
pub(super) fn is_loopback(origin: &str) -> bool {
    let Some((_, host)) = origin.split_once("://") else { return false };
    let name = name_of(host);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn is_ours(name: &str, hosts: &[String]) -> bool {
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

/// Whether a request comes from this machine, as far as one can tell.
pub fn is_local(from: IpAddr, headers: &HeaderMap) -> bool {
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    let named_local = headers.get(header::HOST).and_then(|host| host.to_str().ok()).is_some_and(|host| {
        let name = name_of(host);
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    });
    from.to_canonical().is_loopback() && named_local && !forwarded.iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        check(&headers, &["node.example.org".into()]).is_ok()
    }

    #[test]
    fn only_the_ports_own_pages_may_ask() {
        for host in ["127.0.0.1:4800", "[::1]:4800", "localhost:4800", "LOCALHOST", "192.0.2.1", "node.example.org:80"]
        {
            assert!(verdict(Some(host), None), "{host}");
            assert!(verdict(Some(host), Some(&format!("http://{host}"))), "{host}");
        }
        // A page that points its own name at this machine.
        assert!(!verdict(Some("evil.example:4800"), None));
        assert!(!verdict(Some("localhost.evil.example"), None));
        assert!(!verdict(None, None));
        for origin in ["null", "http://evil.example", "http://localhost:9", "http://127.0.0.1:4800.evil.example", ""] {
            assert!(!verdict(Some("127.0.0.1:4800"), Some(origin)), "{origin}");
        }
    }

    #[test]
    fn pages_of_this_machine_are_told_from_those_that_look_like_it() {
        for origin in ["http://localhost:5173", "http://127.0.0.1", "http://[::1]:8080", "https://LOCALHOST"] {
            assert!(is_loopback(origin), "{origin}");
        }
        for origin in ["null", "", "http://localhost.evil.example", "http://192.0.2.1", "http://127.0.0.1.evil.example"]
        {
            assert!(!is_loopback(origin), "{origin}");
        }
    }

    #[test]
    fn a_grant_is_for_this_machine_alone() {
        let local = |from: &str, host: &str, other: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(name) = other {
                headers.insert(name, "203.0.113.1".parse().unwrap());
            }
            is_local(from.parse().unwrap(), &headers)
        };
        for host in ["localhost:4800", "127.0.0.1:4800", "[::1]:4800"] {
            assert!(local("127.0.0.1", host, None), "{host}");
            assert!(local("::ffff:127.0.0.1", host, None), "{host}");
        }
        assert!(!local("192.0.2.1", "localhost", None), "from elsewhere");
        assert!(!local("127.0.0.1", "node.example.org", None), "by a public name, so through a proxy");
        for header in ["x-forwarded-for", "forwarded", "via"] {
            assert!(!local("127.0.0.1", "localhost", Some(header)), "{header}");
        }
    }
}
