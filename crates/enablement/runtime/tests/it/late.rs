//! HTTP and TLS are checked whenever they begin.

use std::time::Duration;

use creto_runtime::{EgressProtocol, GatewayConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, client_hello, read_all, server};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

/// Dials and says nothing for longer than a server that speaks first is waited
/// for.
async fn dial_silently(world: &World, port: u16) -> TcpStream {
    let a = world.address("a.test").await;
    let stream = world.dial(a, port).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    stream
}

fn request(method: &str, host: &str, port: u16) -> Vec<u8> {
    format!("{method} / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn silence_is_no_way_around_the_check_of_the_host() {
    let world = World::new(&["a.test", "b.test"]).await;
    let (port, mut told) = server(Some(OK)).await;
    for method in ["GET", "PROPFIND"] {
        let mut stream = dial_silently(&world, port).await;
        let bytes = request(method, "b.test", port);
        // In two pieces: the first does not tell yet.
        stream.write_all(&bytes[..3]).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(&bytes[3..]).await.expect("sent");
        let answer = read_all(&mut stream).await;
        assert!(answer.contains("egress_name_mismatch"), "{answer}");
    }
    assert!(told.try_recv().is_err(), "nothing was sent");

    let mut stream = dial_silently(&world, port).await;
    let bytes = request("GET", "a.test", port);
    stream.write_all(&bytes).await.expect("sent");
    let answer = read_all(&mut stream).await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn an_unusual_method_is_no_way_around_the_check_of_the_host() {
    let world = World::new(&["a.test", "b.test"]).await;
    let (port, mut told) = server(Some(OK)).await;
    let a = world.address("a.test").await;
    let answer = world
        .exchange(a, port, &request("PROPFIND", "b.test", port))
        .await;
    assert!(answer.contains("egress_name_mismatch"), "{answer}");
    for method in ["\r\nPROPFIND", "G@T"] {
        world
            .exchange(a, port, &request(method, "b.test", port))
            .await;
    }
    assert!(told.try_recv().is_err(), "nothing was sent");
    let answer = world
        .exchange(a, port, &request("PROPFIND", "a.test", port))
        .await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_header_that_the_server_takes_off_is_no_way_around_it_either() {
    let world = World::new(&["a.test"]).await;
    let (port, mut told) = server(None).await;
    let a = world.address("a.test").await;
    let hidden = request("GET", "b.test", port);
    for header in [
        &b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ] {
        let bytes = [header, &hidden].concat();
        assert_eq!(world.exchange(a, port, &bytes).await, "<reset>");
        let mut stream = dial_silently(&world, port).await;
        stream.write_all(&bytes).await.expect("sent");
        assert_eq!(read_all(&mut stream).await, "<reset>");
    }
    assert!(told.try_recv().is_err(), "nothing was sent");
    let unclear = (EgressProtocol::Tcp, "egress_protocol_unclear".to_owned());
    assert_eq!(world.refusals(), vec![unclear; 4]);
}

#[tokio::test]
async fn silence_is_no_way_around_the_check_of_the_server_name() {
    let world = World::new(&["a.test", "b.test"]).await;
    let (port, mut told) = server(None).await;
    let mut stream = dial_silently(&world, port).await;
    let hello = client_hello(Some("b.test"));
    stream.write_all(&hello).await.expect("sent");
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).await.expect("an end");
    assert_eq!(alert, [0x15, 3, 3, 0, 2, 2, 49]);
    assert!(told.try_recv().is_err(), "nothing was sent");
    assert_eq!(
        world.refusals(),
        [(EgressProtocol::Tls, "egress_name_mismatch".to_owned())]
    );

    let mut stream = dial_silently(&world, port).await;
    let hello = client_hello(Some("a.test"));
    stream.write_all(&hello).await.expect("sent");
    assert_eq!(told.recv().await.expect("the hello"), hello);
}

#[tokio::test]
async fn other_protocols_pass_after_silence_whole() {
    let world = World::new(&["a.test"]).await;
    let (port, mut told) = server(None).await;
    let mut stream = dial_silently(&world, port).await;
    for said in ["EHLO x\r\n", "GET / HTTP/1.1\r\n"] {
        stream.write_all(said.as_bytes()).await.expect("sent");
        assert_eq!(told.recv().await.expect("the line"), said.as_bytes());
        let mut echo = vec![0_u8; said.len()];
        stream.read_exact(&mut echo).await.expect("the echo");
        assert_eq!(echo, said.as_bytes());
    }
}

#[tokio::test]
async fn what_could_become_a_request_and_does_not_go_on_is_refused() {
    let config = GatewayConfig {
        head_timeout: Duration::from_millis(100),
        ..GatewayConfig::default()
    };
    let world = World::with(&["a.test"], true, config).await;
    let (port, mut told) = server(None).await;
    let a = world.address("a.test").await;
    assert_eq!(world.exchange(a, port, b"PROPFIND /").await, "<reset>");
    let mut stream = dial_silently(&world, port).await;
    stream.write_all(b"PROPFIND /").await.expect("sent");
    assert_eq!(read_all(&mut stream).await, "<reset>");
    assert!(told.try_recv().is_err(), "nothing was sent");
    let unclear = (EgressProtocol::Tcp, "egress_protocol_unclear".to_owned());
    assert_eq!(world.refusals(), [unclear.clone(), unclear]);
}
