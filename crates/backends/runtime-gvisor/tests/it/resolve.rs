//! The real resolver against a name server on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use creto_runtime::Resolver;
use creto_runtime_gvisor::NameServers;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

/// Knows one name; remembers every name it was asked for.
async fn name_server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("an address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let remember = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0_u8; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).expect("a query");
            let question = query.queries[0].clone();
            let name = question.name().to_ascii().to_lowercase();
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            answer.add_query(question.clone());
            if name != "known.example.test." {
                answer.metadata.response_code = ResponseCode::NXDomain;
            } else if question.query_type() == RecordType::A {
                let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 7)));
                answer.add_answer(Record::from_rdata(question.name().clone(), 30, data));
            }
            remember.lock().push(name);
            let bytes = answer.to_vec().expect("bytes");
            socket.send_to(&bytes, peer).await.expect("sent");
        }
    });
    (address, asked)
}

#[tokio::test]
async fn exactly_the_name_is_asked_for_at_the_configured_server() {
    let (server, asked) = name_server().await;
    let resolver = NameServers::at(&[server]).expect("a resolver");
    let found = resolver.resolve("known.example.test").await.expect("found");
    assert_eq!(found, [IpAddr::from([192, 0, 2, 7])]);
    let none = resolver
        .resolve("unknown.example.test")
        .await
        .expect("none");
    assert_eq!(none, Vec::<IpAddr>::new());
    let mut names = asked.lock().clone();
    names.dedup();
    assert_eq!(names, ["known.example.test.", "unknown.example.test."]);
}

#[tokio::test]
async fn a_silent_server_is_an_error_and_not_an_empty_answer() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let server = silent.local_addr().expect("an address");
    drop(silent);
    let resolver = NameServers::at(&[server]).expect("a resolver");
    assert!(resolver.resolve("known.example.test").await.is_err());
}
