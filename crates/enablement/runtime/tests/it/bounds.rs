//! What a program can make the gateway spend, and for how long.

use std::sync::atomic::Ordering;
use std::time::Duration;

use creto_runtime::EgressProtocol;
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::world::{World, read_all, server};

async fn ask(world: &World, path: &str) -> TcpStream {
    let internal = world.address("creto.internal").await;
    let mut stream = world.dial(internal, 80).await;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: creto.internal\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream
}

#[tokio::test]
async fn eight_requests_to_creto_internal_are_served_at_a_time() {
    let world = World::new(&[]).await;
    let mut waiting = Vec::new();
    for _ in 0..12 {
        waiting.push(ask(&world, "/wait").await);
    }
    let served = || world.surroundings.serving.load(Ordering::SeqCst);
    timeout(Duration::from_secs(5), async {
        while served() < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("eight are served");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(served(), 8);
    // What the gateway itself answers does not wait with them.
    let answer = read_all(&mut ask(&world, "/v1/egress/refusals").await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    world.surroundings.go_on.add_permits(12);
    for mut stream in waiting {
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(served(), 12);
}

async fn until_served(world: &World, count: usize) {
    let served = || world.surroundings.serving.load(Ordering::SeqCst);
    timeout(Duration::from_secs(5), async {
        while served() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    })
    .await
    .expect("so many are served");
    assert_eq!(served(), count);
}

#[tokio::test]
async fn waits_have_places_of_their_own_and_end_with_a_hang_up() {
    let world = World::new(&[]).await;
    let mut waiting = Vec::new();
    for _ in 0..34 {
        waiting.push(ask(&world, "/wait?wait_seconds=50").await);
    }
    until_served(&world, 32).await;
    let answer = read_all(&mut ask(&world, "/small").await).await;
    assert!(answer.contains("200 OK"), "{answer}");

    let last = waiting.split_off(32);
    drop(waiting);
    until_served(&world, 35).await;
    // Those that hung up take none of them.
    world.surroundings.go_on.add_permits(2);
    for mut stream in last {
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn other_requests_keep_their_places_after_a_hang_up() {
    let world = World::new(&[]).await;
    let mut begun = Vec::new();
    for _ in 0..8 {
        begun.push(ask(&world, "/wait").await);
    }
    until_served(&world, 8).await;
    drop(begun);
    let mut ninth = ask(&world, "/small").await;
    until_served(&world, 8).await;
    world.surroundings.go_on.add_permits(8);
    let answer = read_all(&mut ninth).await;
    assert!(answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_is_not_read_keeps_its_place() {
    let world = World::new(&[]).await;
    let mut unread = Vec::new();
    for _ in 0..8 {
        let mut stream = ask(&world, "/large").await;
        stream.read_u8().await.expect("it has begun");
        unread.push(stream);
    }
    let mut ninth = ask(&world, "/small").await;
    let early = timeout(Duration::from_millis(300), ninth.read_u8()).await;
    assert!(early.is_err(), "it waits for a place");
    drop(unread.pop());
    let answer = read_all(&mut ninth).await;
    assert!(answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn decisions_are_made_at_a_pace_and_none_is_lost() {
    let world = World::new(&[]).await;
    let datagrams = world.session.datagrams();
    let begun = Instant::now();
    for port in 1..=240 {
        datagrams.refuse(([203, 0, 113, 9], port).into()).await;
    }
    let elapsed = begun.elapsed();
    // 200 at once, 40 at 50 in a second.
    assert!(elapsed >= Duration::from_millis(780), "{elapsed:?}");
    assert_eq!(world.refusals().len(), 240);

    // Names are at the same pace, with the decision about each.
    let begun = Instant::now();
    for _ in 0..10 {
        world.query("other.test", RecordType::A).await;
    }
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_millis(180), "{elapsed:?}");
}

#[tokio::test]
async fn what_a_program_sent_is_quoted_in_short() {
    let world = World::new(&["a.test"]).await;
    let (port, _told) = server(None).await;
    let a = world.address("a.test").await;
    let long = "x".repeat(60_000);
    let request = format!("GET / HTTP/1.1\r\nHost: {long}\r\nConnection: close\r\n\r\n");
    let answer = world.exchange(a, port, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    // In the text form of a name, one such byte becomes four characters.
    let label = [&[60][..], &[1; 60]].concat();
    let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let query = [&head[..], &label.repeat(4), &[0, 0, 1, 0, 1]].concat();
    world.datagram(&query).await.expect("an answer");
    let events = world.surroundings.events.lock();
    let refused: Vec<_> = events
        .iter()
        .filter(|event| !event.verdict.is_allow())
        .collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    for event in refused {
        let length = format!("{event:?}").len();
        assert!(event.destination.len() <= 253, "{event:?}");
        assert!(length < 1200, "{length}");
    }
}

/// A server that takes what comes and tells when the connection ended.
async fn swallowing(greeting: &'static str) -> (u16, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let taken = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream
            .write_all(greeting.as_bytes())
            .await
            .expect("greeted");
        let mut buffer = vec![0_u8; 65_536];
        let mut taken = 0_usize;
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            taken += length;
        }
        taken
    });
    (port, taken)
}

#[tokio::test]
async fn a_revocation_stops_an_upload() {
    let world = World::new(&["a.test"]).await;
    let (port, taken) = swallowing("").await;
    let a = world.address("a.test").await;
    let mut stream = world.dial(a, port).await;
    let head =
        format!("POST / HTTP/1.1\r\nHost: a.test:{port}\r\nContent-Length: 1000000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let (mut from, mut to) = stream.into_split();
    let uploading = tokio::spawn(async move {
        while to.write_all(&[0; 1000]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!uploading.is_finished());
    world.surroundings.allowed.lock().clear();
    let taken = timeout(Duration::from_secs(2), taken)
        .await
        .expect("the server's connection is closed")
        .expect("taken");
    assert!(taken > 1000, "{taken}");
    // The refusal, unless the bytes still coming in reset the connection first.
    let mut answer = Vec::new();
    if from.read_to_end(&mut answer).await.is_ok() {
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with("HTTP/1.1 403") && answer.contains("egress_not_allowed"),
            "{answer}"
        );
    }
    timeout(Duration::from_secs(2), uploading)
        .await
        .expect("nothing more is taken")
        .expect("ended");
    let refusal = (EgressProtocol::Http, "egress_not_allowed".to_owned());
    assert_eq!(world.refusals(), [refusal]);
}

#[tokio::test]
async fn a_revocation_stops_an_answer_under_way() {
    let world = World::new(&["a.test"]).await;
    let (port, taken) =
        swallowing("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all of it").await;
    let a = world.address("a.test").await;
    let mut stream = world.dial(a, port).await;
    let request = format!("GET / HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream.read_u8().await.expect("it has begun");
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!taken.is_finished());
    world.surroundings.allowed.lock().clear();
    timeout(Duration::from_secs(2), taken)
        .await
        .expect("the server's connection is closed")
        .expect("taken");
    let rest = read_all(&mut stream).await;
    assert!(rest.len() < 1000, "{rest}");
    let refusal = (EgressProtocol::Http, "egress_not_allowed".to_owned());
    assert_eq!(world.refusals(), [refusal]);
}
