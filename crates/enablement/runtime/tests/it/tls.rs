//! TLS and other TCP: named, checked, and passed on unread.

use std::time::Duration;

use creto_runtime::EgressProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, client_hello, read_all, server};

#[tokio::test]
async fn a_hello_for_the_right_name_is_passed_on_byte_for_byte() {
    let world = World::new(&["a.test"]).await;
    let (port, mut told) = server(None).await;
    let a = world.address("a.test").await;
    let hello = client_hello(Some("A.test"));
    let mut stream = world.dial(a, port).await;
    // In two pieces, as a slow network would.
    stream.write_all(&hello[..20]).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(20)).await;
    stream.write_all(&hello[20..]).await.expect("sent");
    assert_eq!(told.recv().await.expect("the hello"), hello);
    let mut echo = vec![0_u8; hello.len()];
    stream.read_exact(&mut echo).await.expect("the echo");
    assert_eq!(echo, hello);
}

#[tokio::test]
async fn other_names_no_name_and_nonsense_get_an_alert() {
    let world = World::new(&["a.test", "b.test"]).await;
    let (port, mut told) = server(None).await;
    let a = world.address("a.test").await;
    let mut nonsense = client_hello(Some("a.test"));
    nonsense[5] = 0xff; // no such handshake message
    for hello in [client_hello(Some("b.test")), client_hello(None), nonsense] {
        let mut stream = world.dial(a, port).await;
        stream.write_all(&hello).await.expect("sent");
        let mut alert = Vec::new();
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut alert))
            .await
            .expect("in time")
            .expect("an end");
        // Fatal, access denied.
        assert_eq!(alert, [0x15, 3, 3, 0, 2, 2, 49]);
    }
    assert!(told.try_recv().is_err(), "nothing was sent");
    let expected = [
        "egress_name_mismatch",
        "egress_tls_unnamed",
        "egress_tls_invalid",
    ];
    let refusals = world.refusals();
    assert_eq!(refusals.len(), 3);
    for ((protocol, code), expected) in refusals.iter().zip(expected) {
        assert_eq!((*protocol, code.as_str()), (EgressProtocol::Tls, expected));
    }
}

#[tokio::test]
async fn a_revocation_cuts_what_is_open() {
    let world = World::new(&["a.test"]).await;
    let (port, mut told) = server(Some("220 ready\r\n")).await;
    let a = world.address("a.test").await;
    let mut stream = world.dial(a, port).await;
    stream.write_all(b"HELO x\r\n").await.expect("sent");
    assert_eq!(told.recv().await.expect("the greeting"), b"HELO x\r\n");
    world.surroundings.allowed.lock().clear();
    let rest = read_all(&mut stream).await;
    assert!(rest.ends_with("<reset>"), "{rest}");
    assert_eq!(
        world.refusals(),
        [(EgressProtocol::Tcp, "egress_not_allowed".to_owned())]
    );
}

#[tokio::test]
async fn closing_the_session_closes_its_connections() {
    let world = World::new(&["a.test"]).await;
    let (port, mut told) = server(None).await;
    let a = world.address("a.test").await;
    let mut stream = world.dial(a, port).await;
    stream.write_all(b"hold\r\n").await.expect("sent");
    told.recv().await.expect("connected");
    world.session.close().await;
    read_all(&mut stream).await;
}
