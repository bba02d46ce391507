//! Nothing passes without its record.

use std::sync::atomic::Ordering;

use creto_runtime::EgressProtocol;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::io::AsyncWriteExt;

use crate::world::{World, client_hello, read_all, server};

#[tokio::test]
async fn what_cannot_be_recorded_is_refused() {
    let world = World::new(&["a.test"]).await;
    let (port, mut told) = server(Some("220 ready\r\n")).await;
    let a = world.address("a.test").await;
    world.surroundings.log_is_full.store(true, Ordering::SeqCst);

    let answer = world.query("a.test", RecordType::A).await;
    assert_eq!(answer, (ResponseCode::NXDomain, vec![]));
    let request = format!("GET / HTTP/1.1\r\nHost: a.test:{port}\r\nConnection: close\r\n\r\n");
    let answer = world.exchange(a, port, request.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("\"trace_unavailable\""),
        "{answer}"
    );
    let mut stream = world.dial(a, port).await;
    let hello = client_hello(Some("a.test"));
    stream.write_all(&hello).await.expect("sent");
    assert_eq!(
        read_all(&mut stream).await.as_bytes().first(),
        Some(&0x15),
        "an alert"
    );
    assert_eq!(world.exchange(a, port, b"HELO x\r\n").await, "<reset>");

    assert!(told.try_recv().is_err(), "nothing was sent");
    assert!(world.surroundings.resolved.lock().is_empty());
    // The program can still read why.
    let internal = world.address("creto.internal").await;
    let request =
        b"GET /v1/egress/refusals HTTP/1.1\r\nHost: creto.internal\r\nConnection: close\r\n\r\n";
    let answer = world.exchange(internal, 80, request).await;
    for protocol in ["dns", "http", "tls", "tcp"] {
        assert!(
            answer.contains(&format!("\"protocol\":\"{protocol}\"")),
            "{answer}"
        );
    }
    assert!(!answer.contains("no space left"), "{answer}");

    world
        .surroundings
        .log_is_full
        .store(false, Ordering::SeqCst);
    world.address("a.test").await;
}

#[tokio::test]
async fn a_refusal_that_cannot_be_recorded_stays_a_refusal() {
    let world = World::new(&["a.test"]).await;
    let (port, mut told) = server(Some("220 ready\r\n")).await;
    let a = world.address("a.test").await;
    let mut stream = world.dial(a, port).await;
    stream.write_all(b"HELO x\r\n").await.expect("sent");
    told.recv().await.expect("the greeting");
    world.surroundings.log_is_full.store(true, Ordering::SeqCst);
    world.surroundings.allowed.lock().clear();
    let rest = read_all(&mut stream).await;
    assert!(rest.ends_with("<reset>"), "{rest}");
    let answer = world.query("a.test", RecordType::A).await;
    assert_eq!(answer, (ResponseCode::NXDomain, vec![]));
    assert_eq!(world.refusals(), Vec::<(EgressProtocol, String)>::new());
}
