//! Which server a request means. A web page elsewhere can have its own name point
//! at this machine and then talks to this server as if it were its own; its
//! requests still carry that name.

use std::net::SocketAddr;

use http::Request;
use http::header::HOST;

use crate::htu::{Target, normal_path};

/// The names that a server answers to, each with its port, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    names: Vec<String>,
    /// Scheme and authority of each place, those of proxies in front included.
    origins: Vec<String>,
}

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
        let origins = hosts.iter().map(|host| format!("http://{host}"));
        let origins = origins.filter_map(|uri| Some(Target::parse(&uri)?.origin));
        Self {
            origins: origins.collect(),
            names: hosts,
        }
    }

    /// The same, reached through a proxy at these places too: what a client there takes
    /// for its target is none of the names that the server sees. `None` when one of them
    /// is not an `http` or `https` URL with nothing after the host and port.
    #[must_use]
    pub fn behind(mut self, urls: &[String]) -> Option<Self> {
        for url in urls {
            let target = Target::parse(url).filter(|target| target.path == "/")?;
            if url.contains(['?', '#']) {
                return None;
            }
            self.origins.push(target.origin);
        }
        Some(self)
    }

    /// The place where clients are told to reach it: a proxy in front, when there is one.
    #[must_use]
    pub fn origin(&self) -> &str {
        let own = self.names.len();
        let told = self.origins.get(own).or_else(|| self.origins.first());
        told.map_or("", String::as_str)
    }

    /// Whether a URI, which may have a query and a fragment, is that of this path at one
    /// of these places.
    #[must_use]
    pub fn are_meant_at(&self, uri: &str, path: &str) -> bool {
        Target::parse(uri).is_some_and(|target| {
            self.origins.contains(&target.origin) && normal_path(path) == Some(target.path)
        })
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
            && named.all(|name| self.names.iter().any(|own| own.eq_ignore_ascii_case(name)))
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

    #[test]
    fn a_target_is_a_path_at_one_of_its_places() {
        let own = Hosts::of("127.0.0.1:7180".parse().unwrap());
        assert_eq!(own.origin(), "http://127.0.0.1:7180");
        for uri in [
            "http://127.0.0.1:7180/v1/self",
            "http://LOCALHOST:7180/v1/self?x",
            "http://[::1]:7180/v1/self",
        ] {
            assert!(own.are_meant_at(uri, "/v1/self"), "{uri}");
            assert!(!own.are_meant_at(uri, "/v1/selves"), "{uri}");
        }
        for uri in [
            "https://127.0.0.1:7180/v1/self",
            "http://evil.example/v1/self",
            "https://creto.example/v1/self",
            "/v1/self",
        ] {
            assert!(!own.are_meant_at(uri, "/v1/self"), "{uri}");
        }
        let behind = own
            .clone()
            .behind(&["https://creto.example".to_owned()])
            .unwrap();
        assert_eq!(behind.origin(), "https://creto.example");
        assert!(behind.are_meant_at("https://creto.example/v1/self", "/v1/self"));
        assert!(behind.are_meant_at("http://127.0.0.1:7180/v1/self", "/v1/self"));
        assert!(!behind.are_meant_at("http://creto.example/v1/self", "/v1/self"));
        for url in [
            "creto.example",
            "https://creto.example/x",
            "https://a?b",
            "ftp://a",
            "",
        ] {
            assert_eq!(own.clone().behind(&[url.to_owned()]), None, "{url}");
        }
    }
}
