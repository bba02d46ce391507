//! Logs and witnesses of others over HTTPS: read and asked through somebody else's TLS,
//! and only with a certificate of an authority that the machine trusts.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::harness::{creto_with, python, said};
use crate::transparency::Public;

/// Python's TLS in front of plain services; it ends with this value.
struct TlsEnd {
    child: Child,
    ports: Vec<u16>,
}

impl TlsEnd {
    fn of(authority: &Path, behind: &[SocketAddr]) -> Self {
        let mut child = python("tls_end.py", "cryptography")
            .arg(authority)
            .args(behind.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let said = child.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut line).unwrap();
        let ports = line.split_whitespace().map(|port| port.parse().unwrap());
        Self {
            ports: ports.collect(),
            child,
        }
    }
}

impl Drop for TlsEnd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_is_followed_and_a_witness_asked_over_https_that_is_vouched_for() {
    let mut public = Public::new(1);
    let dir = public.server.path().to_owned();
    let size = public.grow(1, "before");
    public.cosigned(size);
    let authority = dir.join("authority.pem");
    let tls = TlsEnd::of(&authority, &[public.address, public.witness_at]);
    let trusting = authority.to_str().unwrap();

    // A monitor.
    let look = |host: &str, trusted: &str| {
        let url = format!("https://{host}:{}{}", tls.ports[0], public.path);
        let words = ["--json", "audit", "watch", &url, "--key", &public.key];
        let words = [&words[..], &["--state", "tls.json", "--once"]].concat();
        // Nor what the environment of this test trusts.
        let variables = [("SSL_CERT_FILE", trusted), ("SSL_CERT_DIR", "")];
        let output = creto_with(&dir, &words, &variables);
        (output.status.code(), said(&output))
    };
    let (status, seen) = look("localhost", trusting);
    assert_eq!(status, Some(0), "{seen}");
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert!(seen["size"].as_u64().unwrap() >= size, "{seen}");
    // Not the one whom the certificate names.
    let (status, refused) = look("127.0.0.1", trusting);
    assert_eq!(status, Some(1), "{refused}");
    assert!(refused.contains("certificate"), "{refused}");
    // Authorities that do not know this one.
    let other = dir.join("other.pem");
    TlsEnd::of(&other, &[]);
    let (status, refused) = look("localhost", other.to_str().unwrap());
    assert_eq!(status, Some(1), "{refused}");
    assert!(refused.contains("certificate"), "{refused}");
    // None at all.
    std::fs::write(dir.join("none.pem"), "").unwrap();
    let (status, refused) = look("localhost", "none.pem");
    assert_eq!(status, Some(1), "{refused}");
    assert!(refused.contains("trust_store_empty"), "{refused}");

    // The server and its witness.
    public.server.stop();
    let witness = format!("https://localhost:{}", tls.ports[1]);
    public.ask_at(&witness);
    public.server.give("SSL_CERT_FILE", trusting.to_owned());
    public.server.give("SSL_CERT_DIR", String::new());
    public.server.restart();
    let size = public.grow(2, "after");
    public.cosigned(size);
    public.server.stop();
}
