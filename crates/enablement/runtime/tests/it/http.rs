//! HTTP through the gateway, and `creto.internal`.

use std::net::{IpAddr, Ipv4Addr};

use creto_runtime::{EgressProtocol, GatewayConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{SANDBOX, World, server};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-From: server\r\n\r\nhello";

fn get(host: &str) -> Vec<u8> {
    format!("GET /x?y HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// The answer to a request on a connection that stays open.
async fn asked(stream: &mut TcpStream, port: u16) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut buffer = [0_u8; 2048];
    let length = stream.read(&mut buffer).await.expect("an answer");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn a_request_reaches_the_allowed_host_and_nothing_of_the_hop() {
    let world = World::new(&["a.test"]).await;
    let (port, mut told) = server(Some(OK)).await;
    let a = world.address("a.test").await;
    let request = format!(
        "POST http://a.test:{port}/x?y HTTP/1.1\r\nHost: A.test:{port}\r\nContent-Length: 4\r\n\
         Proxy-Authorization: secret\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\nbody"
    );
    let answer = world.exchange(a, port, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
    let mut sent = String::from_utf8(told.recv().await.expect("a request")).expect("text");
    if !sent.ends_with("body") {
        sent += &String::from_utf8(told.recv().await.expect("a body")).expect("text");
    }
    let sent = sent.to_lowercase();
    assert!(sent.starts_with("post /x?y http/1.1\r\n"), "{sent}");
    assert!(sent.contains(&format!("host: a.test:{port}\r\n")), "{sent}");
    assert!(sent.contains("x-end: 2"), "{sent}");
    for gone in ["secret", "x-hop", "close"] {
        assert!(!sent.contains(gone), "{sent}");
    }
    assert_eq!(*world.surroundings.resolved.lock(), ["a.test"]);
}

#[tokio::test]
async fn a_request_for_another_host_is_refused_before_it_leaves() {
    let world = World::new(&["a.test", "b.test"]).await;
    let (port, mut told) = server(Some(OK)).await;
    let a = world.address("a.test").await;
    let requests = [
        format!("GET / HTTP/1.1\r\nHost: b.test:{port}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a.test:{port}\r\nHost: b.test:{port}\r\n"),
        format!("GET http://b.test:{port}/ HTTP/1.1\r\nHost: a.test:{port}\r\n"),
        "GET / HTTP/1.1\r\nHost: a.test\r\n".to_owned(),
        "GET / HTTP/1.1\r\n".to_owned(),
        format!("CONNECT b.test:443 HTTP/1.1\r\nHost: a.test:{port}\r\n"),
    ];
    for request in requests {
        let bytes = format!("{request}Connection: close\r\n\r\n");
        let answer = world.exchange(a, port, bytes.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{request}\n{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    assert!(told.try_recv().is_err(), "nothing was sent");
    assert!(world.surroundings.resolved.lock().is_empty());
    let codes: Vec<_> = world.refusals().into_iter().map(|(_, code)| code).collect();
    assert_eq!(codes[..5], ["egress_name_mismatch"; 5]);
    assert_eq!(codes[5], "egress_tunnel_refused");
}

#[tokio::test]
async fn a_revocation_is_felt_by_the_next_request_of_the_same_connection() {
    let world = World::new(&["a.test"]).await;
    let (port, _told) = server(Some(OK)).await;
    let a = world.address("a.test").await;
    let mut stream = world.dial(a, port).await;
    let answer = asked(&mut stream, port).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    world.surroundings.allowed.lock().clear();
    let answer = asked(&mut stream, port).await;
    assert!(
        answer.contains("403 Forbidden") && answer.contains("egress_not_allowed"),
        "{answer}"
    );
}

/// A limit refuses the next one and tells when; what is open goes on.
#[tokio::test]
async fn what_counts_is_refused_beyond_its_limit_and_on_record_once() {
    let world = World::new(&["a.test"]).await;
    let (port, _told) = server(Some(OK)).await;
    *world.surroundings.left.lock() = Some(1);
    let a = world.address("a.test").await;
    let mut stream = world.dial(a, port).await;
    let answer = asked(&mut stream, port).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let refused = asked(&mut stream, port).await.to_lowercase();
    assert!(refused.starts_with("http/1.1 429"), "{refused}");
    // Of one second and a half.
    assert!(refused.contains("\r\nretry-after: 2\r\n"), "{refused}");
    assert!(refused.contains("\"code\":\"rate_limited\""), "{refused}");
    let recorded = world.surroundings.events.lock();
    let http = recorded
        .iter()
        .filter(|event| event.protocol == EgressProtocol::Http);
    let verdicts: Vec<_> = http.map(|event| event.verdict.is_allow()).collect();
    assert_eq!(verdicts, [false], "the first is on record already");
}

#[tokio::test]
async fn an_allowed_name_does_not_lead_inwards() {
    let world = World::new(&["a.test"]).await;
    let a = world.address("a.test").await;
    for inside in ["169.254.169.254", "10.0.0.1", "::1", "127.0.0.2"] {
        world.surroundings.addresses.lock().insert(
            "a.test".into(),
            inside.parse::<IpAddr>().expect("an address"),
        );
        let answer = world.exchange(a, 80, &get("a.test")).await;
        assert!(
            answer.contains("egress_address_refused"),
            "{inside}: {answer}"
        );
    }
    assert_eq!(world.refusals().len(), 4);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_bad_gateway() {
    let world = World::new(&["a.test"]).await;
    let a = world.address("a.test").await;
    let answer = world.exchange(a, 1, &get("a.test:1")).await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("upstream_unreachable"),
        "{answer}"
    );
    world.surroundings.addresses.lock().clear();
    let answer = world.exchange(a, 80, &get("a.test")).await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("upstream_unresolved"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_address_that_was_not_given_out_goes_nowhere() {
    let world = World::new(&["a.test"]).await;
    let (port, mut told) = server(Some(OK)).await;
    for address in [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(198, 18, 200, 1),
        Ipv4Addr::new(9, 9, 9, 9),
    ] {
        let answer = world
            .exchange(address, port, &get(&format!("a.test:{port}")))
            .await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(answer.contains("egress_address_literal"), "{answer}");
        assert_eq!(
            world.exchange(address, port, b"SSH-2.0-x\r\n").await,
            "<reset>"
        );
    }
    assert!(told.try_recv().is_err());
    assert_eq!(world.refusals().len(), 6);
}

#[tokio::test]
async fn the_internal_service_is_told_the_sandbox_and_bodies_are_bounded() {
    let config = GatewayConfig {
        max_internal_body: 100,
        ..GatewayConfig::default()
    };
    let world = World::with(&[], true, config).await;
    let internal = world.address("creto.internal").await;
    let post = |length: usize| {
        let body = "x".repeat(length);
        format!(
            "POST /v1/a?b HTTP/1.1\r\nHost: creto.internal\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
    };
    let answer = world.exchange(internal, 80, post(100).as_bytes()).await;
    assert!(
        answer.ends_with(&format!("{SANDBOX} /v1/a?b 100")),
        "{answer}"
    );
    let answer = world.exchange(internal, 80, post(101).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = world.exchange(internal, 80, &get("other.test")).await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    assert_eq!(world.exchange(internal, 81, b"x").await, "<reset>");
}

#[tokio::test]
async fn refusals_can_be_read_back() {
    let world = World::new(&[]).await;
    world
        .query("other.test", hickory_proto::rr::RecordType::A)
        .await;
    world
        .session
        .datagrams()
        .refuse("203.0.113.9:53".parse().expect("an address"))
        .await;
    let internal = world.address("creto.internal").await;
    let request =
        b"GET /v1/egress/refusals HTTP/1.1\r\nHost: creto.internal\r\nConnection: close\r\n\r\n";
    let answer = world.exchange(internal, 80, request).await;
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let json: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(json["refusals"][0]["protocol"], "dns");
    assert_eq!(json["refusals"][0]["destination"], "other.test");
    assert_eq!(json["refusals"][0]["code"], "egress_not_allowed");
    assert_eq!(json["refusals"][1]["destination"], "203.0.113.9:53");
    assert_eq!(world.refusals()[1].0, EgressProtocol::Udp);
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let world = World::new(&["a.test"]).await;
    let a = world.address("a.test").await;
    let mut request = b"GET / HTTP/1.1\r\nHost: a.test\r\nX: ".to_vec();
    request.resize(200_000, b'x');
    let answer = world.exchange(a, 80, &request).await;
    assert!(
        answer.starts_with("HTTP/1.1 431") || answer.ends_with("<reset>"),
        "{answer}"
    );
    assert!(world.surroundings.resolved.lock().is_empty());
}
