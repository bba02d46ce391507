//! Which server a request means. A web page elsewhere can have its own name point
//! at this machine and then talks to this server as if it were its own; its
//! requests still carry that name.

use std::net::SocketAddr;

use http::Request;
use http::header::HOST;

/// The names that a server answers to, each with its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// The address that is listened on, and `localhost` and `[::1]` with its port.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        let port = address.port();
        let mut hosts = vec![
            address.to_string(),
            format!("localhost:{port}"),
            format!("[::1]:{port}"),
        ];
        // Nobody writes the port that `http` implies.
        if let Some(suffix) = (port == 80).then_some(":80") {
            let bare = |host: &String| host.strip_suffix(suffix).map(ToOwned::to_owned);
            let without: Vec<_> = hosts.iter().filter_map(bare).collect();
            hosts.extend(without);
        }
        Self(hosts)
    }

    /// Whether a request names one of them, and nothing else: in its target
    /// (`:authority` in HTTP/2) and in `Host`.
    #[must_use]
    pub fn are_meant_by<B>(&self, request: &Request<B>) -> bool {
        let target = request.uri().authority().map(|named| named.as_str());
        let headers = request.headers().get_all(HOST).iter();
        let mut named = target
            .into_iter()
            .chain(headers.map(|value| value.to_str().unwrap_or_default()))
            .peekable();
        named.peek().is_some()
            && named.all(|name| self.0.iter().any(|own| own.eq_ignore_ascii_case(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(listen: &str, target: &str, hosts: &[&str]) -> bool {
        let mut request = Request::get(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(()).unwrap();
        Hosts::of(listen.parse().unwrap()).are_meant_by(&request)
    }

    #[test]
    fn a_server_answers_to_its_own_names_only() {
        let listen = "127.0.0.1:8080";
        for host in [listen, "localhost:8080", "LocalHost:8080", "[::1]:8080"] {
            assert!(meant(listen, "/", &[host]), "{host}");
        }
        for host in [
            "",
            "127.0.0.1",
            "127.0.0.1:8081",
            "127.0.0.2:8080",
            "localhost",
            "evil.example",
            "evil.example:8080",
            "localhost:8080.evil.example",
            "me@localhost:8080",
            "creto.internal",
        ] {
            assert!(!meant(listen, "/", &[host]), "{host}");
        }
        assert!(!meant(listen, "/", &[]), "one that names none");
        assert!(!meant(listen, "/", &[listen, "evil.example"]), "two names");
        assert!(meant(listen, "http://localhost:8080/", &[listen]));
        assert!(!meant(listen, "http://evil.example/", &[listen]));

        assert!(meant("127.0.0.1:80", "/", &["localhost"]));
        assert!(meant("[::1]:80", "/", &["[::1]"]));
        assert!(!meant("127.0.0.1:8080", "/", &["[::1]"]));
    }
}
