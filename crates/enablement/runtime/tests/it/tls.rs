//! TLS and other TCP: named, checked, and passed on unread.

use std::time::Duration;

use creto_runtime::EgressProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, read_all, server};

/// A `ClientHello` (RFC 8446, section 4.1.2) with this server name, in one
/// record.
fn client_hello(server_name: Option<&str>) -> Vec<u8> {
    let vector = |width: usize, content: &[u8]| {
        let length = u32::try_from(content.len()).expect("short").to_be_bytes();
        [&length[4 - width..], content].concat()
    };
    let extension =
        |kind: u16, content: &[u8]| [&kind.to_be_bytes()[..], &vector(2, content)].concat();
    let mut extensions = Vec::new();
    if let Some(name) = server_name {
        let entry = [&[0][..], &vector(2, name.as_bytes())].concat();
        extensions.extend(extension(0, &vector(2, &entry)));
    }
    extensions.extend(extension(13, &vector(2, &[4, 3, 8, 4]))); // signature algorithms
    extensions.extend(extension(43, &vector(1, &[3, 4]))); // versions: TLS 1.3
    extensions.extend(extension(10, &vector(2, &[0, 29]))); // groups: X25519
    let share = [&[0, 29][..], &vector(2, &[9; 32])].concat();
    extensions.extend(extension(51, &vector(2, &share)));
    let hello = [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[]),
        &vector(2, &[0x13, 0x01]),
        &vector(1, &[0]),
        &vector(2, &extensions),
    ]
    .concat();
    let handshake = [&[1][..], &vector(3, &hello)].concat();
    [&[0x16, 3, 1][..], &vector(2, &handshake)].concat()
}

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
