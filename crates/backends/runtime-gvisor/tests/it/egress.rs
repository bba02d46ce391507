//! What a program in a sandbox can reach, and what it is told.

use std::io::{Read, Write};
use std::net::TcpListener;

use creto_runtime::{EgressProtocol, EgressVerdict, ExitReason};

use crate::world::{ALLOWED, World, limits, python, show, skipped, text};

/// A server on loopback that answers every request with 201 and its body.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten().take(16) {
            let mut stream = stream;
            let mut head = [0_u8; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let request = String::from_utf8_lossy(&head[..length]).into_owned();
            let line = request.lines().next().unwrap_or_default().to_owned();
            let host = request
                .lines()
                .find(|line| line.to_lowercase().starts_with("host:"))
                .unwrap_or_default()
                .to_owned();
            let body = format!("{line} | {host}");
            let _ = write!(
                stream,
                "HTTP/1.1 201 Created\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

const HELPERS: &str = r#"
import json, socket, ssl, urllib.request, urllib.error
def get(url, data=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return None, str(error)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_allowed_names_are_reached_and_refusals_are_explained() {
    if skipped() {
        return;
    }
    let world = World::new();
    let port = server();
    let code = format!(
        r#"{HELPERS}
print("allowed", *get("http://{ALLOWED}:{port}/path?q=1"))
print("unlisted", *get("http://unlisted.example.test/"))
print("literal", *get("http://203.0.113.9/"))
print("loopback", *get("http://127.0.0.1:{port}/"))
print("gateway", *get("http://100.64.0.1/"))
try:
    socket.getaddrinfo("secret.unlisted.example.test", 80); print("resolved")
except socket.gaierror as error:
    print("gaierror", error)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(5)
try:
    udp.connect(("203.0.113.9", 9999)); udp.send(b"out"); udp.recv(10); print("udp passed")
except OSError as error:
    print("udp", error)
other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other.settimeout(5)
try:
    other.connect(("203.0.113.53", 53)); other.send(b"\0\1\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"); other.recv(99); print("dns passed")
except OSError as error:
    print("foreign dns", error)
raw = socket.socket()
raw.settimeout(10)
try:
    raw.connect(("203.0.113.9", 22)); raw.send(b"SSH-2.0-x\r\n"); print("ssh", raw.recv(10))
except OSError as error:
    print("ssh", error)
try:
    socket.create_connection(("2001:db8::1", 80), timeout=5); print("ipv6 passed")
except OSError as error:
    print("ipv6", error)
try:
    ssl.create_default_context().wrap_socket(socket.create_connection(("203.0.113.9", 443)), server_hostname="x.test")
    print("tls passed")
except OSError as error:
    print("tls", error)
status, refusals = get("http://creto.internal/v1/egress/refusals")
for refusal in json.loads(refusals)["refusals"]:
    print("refusal", refusal["protocol"], refusal["destination"], refusal["code"])
"#
    );
    let out = world.print(&code).await;
    let expect = |line: &str| assert!(out.contains(line), "missing `{line}` in\n{out}");
    expect(&format!(
        "allowed 201 GET /path?q=1 HTTP/1.1 | host: {ALLOWED}:{port}"
    ));
    expect("unlisted None");
    expect("literal 403");
    expect("\"code\":\"egress_address_literal\"");
    expect("loopback None");
    expect("gateway 403");
    expect("gaierror");
    expect("udp [Errno 111] Connection refused");
    expect("foreign dns [Errno 111] Connection refused");
    expect("ssh [Errno 104] Connection reset by peer");
    expect("ipv6 ");
    expect("tls ");
    expect("refusal dns unlisted.example.test egress_not_allowed");
    expect("refusal dns secret.unlisted.example.test egress_not_allowed");
    expect("refusal http 203.0.113.9:80 egress_address_literal");
    expect("refusal udp 203.0.113.9:9999 egress_udp_refused");
    expect("refusal udp 203.0.113.53:53 egress_udp_refused");
    expect("refusal tcp 203.0.113.9:22 egress_address_literal");
    expect("refusal tls 203.0.113.9:443 egress_address_literal");
    for never in ["passed", "resolved\n"] {
        assert!(!out.contains(never), "{out}");
    }
    // The only name that left is the allowed one, when it was connected to.
    assert_eq!(*world.surroundings.resolved.lock(), [ALLOWED]);
    let events = world.surroundings.events.lock();
    assert!(events.iter().any(|(_, event)| {
        event.protocol == EgressProtocol::Http
            && event.destination == ALLOWED
            && event.port == port
            && event.verdict.is_allow()
    }));
    assert!(events.iter().any(|(_, event)| {
        event.protocol == EgressProtocol::Udp
            && event.destination == "203.0.113.9"
            && matches!(&event.verdict, EgressVerdict::Refuse { code, .. } if code == "egress_udp_refused")
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creto_internal_knows_who_asks_and_sandboxes_do_not_meet() {
    if skipped() {
        return;
    }
    let world = World::new();
    // One listens, the other tries every way to it: both have the same address.
    let listener = python(
        &format!(
            r#"{HELPERS}
import time
server = socket.create_server(("0.0.0.0", 8099))
server.settimeout(6)
print(*get("http://creto.internal/v1/self?x=1", b"body"), flush=True)
try:
    server.accept(); print("somebody came")
except TimeoutError:
    print("nobody came")
"#
        ),
        limits(),
    );
    let caller = python(
        &format!(
            r#"{HELPERS}
print(*get("http://creto.internal/"))
print("wrong port", *get("http://creto.internal:8099/"))
request = urllib.request.Request("http://creto.internal/", headers={{"Host": "other.test"}})
try: urllib.request.urlopen(request)
except urllib.error.HTTPError as error: print("host", error.code)
for address in ("100.64.0.1", "100.64.0.3", "198.18.0.9"):
    try:
        s = socket.create_connection((address, 8099), timeout=5); s.sendall(b"hello there"); print(address, len(s.recv(1)))
    except OSError as error:
        print(address, "refused")
"#
        ),
        limits(),
    );
    let (first, second) = (listener.id, caller.id);
    let (listening, calling) = tokio::join!(world.start(listener), world.start(caller));
    let calling = calling.wait().await.expect("a report");
    let listening = listening.wait().await.expect("a report");
    assert_eq!(
        listening.reason,
        ExitReason::Exited { code: 0 },
        "{}",
        show(&listening)
    );
    assert_eq!(
        calling.reason,
        ExitReason::Exited { code: 0 },
        "{}",
        show(&calling)
    );
    let (listening, calling) = (text(&listening.stdout), text(&calling.stdout));
    assert!(
        listening.contains(&format!("200 {first} POST /v1/self?x=1 body")),
        "{listening}"
    );
    assert!(listening.contains("nobody came"), "{listening}");
    assert!(
        calling.contains(&format!("200 {second} GET / ")),
        "{calling}"
    );
    assert!(calling.contains("wrong port None"), "{calling}");
    assert!(calling.contains("host 421"), "{calling}");
    for address in ["100.64.0.1", "100.64.0.3", "198.18.0.9"] {
        assert!(calling.contains(&format!("{address} refused")), "{calling}");
    }
}
