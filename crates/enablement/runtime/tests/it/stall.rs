//! One connection that is revoked while it waits for its turn holds up nobody.

use std::net::SocketAddr;
use std::time::Duration;

use creto_runtime::EgressProtocol;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::world::{World, read_all};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server that answers what it reads first on its only connection, and tells
/// when that ended.
async fn one_connection() -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let ended = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        drop(listener);
        let mut buffer = vec![0_u8; 65_536];
        let read = stream.read(&mut buffer).await.expect("a request");
        assert!(read > 0);
        stream.write_all(ANSWER).await.expect("answered");
        while let Ok(1..) = stream.read(&mut buffer).await {}
    });
    (port, ended)
}

/// A connection on which one exchange is done.
async fn kept_alive(world: &World, port: u16, request: &str) -> TcpStream {
    let a = world.address("a.test").await;
    let mut stream = world.dial(a, port).await;
    stream.write_all(request.as_bytes()).await.expect("sent");
    while stream.read_u8().await.expect("an answer") != b'k' {}
    sleep(Duration::from_millis(20)).await;
    stream
}

async fn soon(ended: JoinHandle<()>) {
    timeout(Duration::from_secs(2), ended)
        .await
        .expect("the server's connection is closed")
        .expect("ended");
}

/// The connection is served still, and refused.
async fn refused(mut stream: TcpStream, port: u16) {
    let request = format!("GET / HTTP/1.1\r\nHost: a.test:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let answers = read_all(&mut stream).await;
    assert!(answers.contains("HTTP/1.1 403"), "{answers}");
}

#[tokio::test]
async fn a_revocation_while_a_request_waits_for_the_log_holds_up_nobody() {
    let world = World::new(&["a.test"]).await;
    let (port, ended) = one_connection().await;
    let request = format!("GET / HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n");
    let mut stream = kept_alive(&world, port, &request).await;

    let stalled = world.surroundings.log_turn.lock().await;
    stream.write_all(request.as_bytes()).await.expect("sent");
    sleep(Duration::from_millis(50)).await;
    world.surroundings.allowed.lock().clear();
    // Long before the log is ready again.
    soon(ended).await;
    sleep(Duration::from_millis(50)).await;
    drop(stalled);

    let (code, _) = world.query("b.test", RecordType::A).await;
    assert_eq!(code, ResponseCode::NXDomain);
    refused(stream, port).await;
    let refusal = (EgressProtocol::Http, "egress_not_allowed".to_owned());
    assert!(world.refusals().contains(&refusal));
}

#[tokio::test]
async fn a_revocation_while_a_request_waits_for_the_pace_holds_up_nobody() {
    let world = World::new(&["a.test"]).await;
    let (port, ended) = one_connection().await;
    let request = format!("GET / HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n");
    let mut stream = kept_alive(&world, port, &request).await;

    let to = SocketAddr::from(([192, 0, 2, 1], 9));
    let mut ahead = JoinSet::new();
    for _ in 0..250 {
        let datagrams = world.session.datagrams();
        ahead.spawn(async move { datagrams.refuse(to).await });
    }
    sleep(Duration::from_millis(20)).await;
    stream.write_all(request.as_bytes()).await.expect("sent");
    sleep(Duration::from_millis(20)).await;
    world.surroundings.allowed.lock().clear();
    soon(ended).await;
    assert!(!ahead.is_empty(), "they are ahead of the pace");

    let datagrams = world.session.datagrams();
    timeout(Duration::from_secs(5), async {
        while ahead.join_next().await.is_some() {}
        datagrams.refuse(to).await;
        refused(stream, port).await;
    })
    .await
    .expect("everybody gets a turn");
    let refusal = (EgressProtocol::Http, "egress_not_allowed".to_owned());
    assert!(world.refusals().contains(&refusal));
}

#[tokio::test]
async fn a_revoked_connection_is_closed_before_its_record_is_written() {
    let world = World::new(&["a.test"]).await;
    let (port, ended) = one_connection().await;
    let mut stream = kept_alive(&world, port, "HELO x\r\n").await;

    let stalled = world.surroundings.log_turn.lock().await;
    world.surroundings.allowed.lock().clear();
    soon(ended).await;
    assert_eq!(world.refusals(), []);
    drop(stalled);
    assert_eq!(read_all(&mut stream).await, "<reset>");
    let refusal = (EgressProtocol::Tcp, "egress_not_allowed".to_owned());
    assert_eq!(world.refusals(), [refusal]);
}

#[tokio::test]
async fn a_revocation_is_recorded_though_the_program_has_hung_up() {
    let world = World::new(&["a.test"]).await;
    let (port, ended) = one_connection().await;
    let request = format!("GET / HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n");
    let stream = kept_alive(&world, port, &request).await;

    let stalled = world.surroundings.log_turn.lock().await;
    world.surroundings.allowed.lock().clear();
    soon(ended).await;
    drop(stream);
    sleep(Duration::from_millis(50)).await;
    drop(stalled);
    sleep(Duration::from_millis(50)).await;
    let refusal = (EgressProtocol::Http, "egress_not_allowed".to_owned());
    assert_eq!(world.refusals(), [refusal]);
}
