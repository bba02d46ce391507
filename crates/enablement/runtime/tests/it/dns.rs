//! The sandbox's resolver.

use creto_runtime::{EgressProtocol, GatewayConfig};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::world::World;

#[tokio::test]
async fn an_allowed_name_has_one_made_up_address_and_asks_nobody() {
    let world = World::new(&["a.test", "b.test"]).await;
    let a = world.address("A.test.").await;
    assert_eq!(world.address("a.test").await, a);
    assert_ne!(world.address("b.test").await, a);
    assert_eq!(a.octets()[..2], [198, 18]);
    for kind in [RecordType::AAAA, RecordType::TXT, RecordType::HTTPS] {
        assert_eq!(
            world.query("a.test", kind).await,
            (ResponseCode::NoError, vec![])
        );
    }
    assert!(world.surroundings.resolved.lock().is_empty());
}

#[tokio::test]
async fn any_other_name_does_not_exist_and_is_on_record() {
    let world = World::new(&["a.test"]).await;
    for name in ["other.test", "a.test.other", "xa.test", "sub.a.test"] {
        let answer = world.query(name, RecordType::A).await;
        assert_eq!(answer, (ResponseCode::NXDomain, vec![]), "{name}");
    }
    assert_eq!(world.refusals().len(), 4);
    assert_eq!(
        world.refusals()[0],
        (EgressProtocol::Dns, "egress_not_allowed".to_owned())
    );
    assert!(world.surroundings.resolved.lock().is_empty());
}

#[tokio::test]
async fn names_are_bounded() {
    let config = GatewayConfig {
        max_names: 1,
        ..GatewayConfig::default()
    };
    let world = World::with(&["a.test", "b.test"], true, config).await;
    world.address("a.test").await;
    let answer = world.query("b.test", RecordType::A).await;
    assert_eq!(answer, (ResponseCode::Refused, vec![]));
    world.address("a.test").await;
}

#[tokio::test]
async fn what_is_not_a_query_gets_no_answer_and_harms_nothing() {
    let world = World::new(&["a.test"]).await;
    assert_eq!(world.datagram(b"").await, None);
    assert_eq!(world.datagram(&[0xff; 600]).await, None);
    assert_eq!(world.datagram(&[0; 11]).await, None);
    world.address("a.test").await;
}

#[tokio::test]
async fn a_gateway_without_policy_refuses() {
    let world = World::with(&["a.test"], false, GatewayConfig::default()).await;
    let answer = world.query("a.test", RecordType::A).await;
    assert_eq!(answer, (ResponseCode::NXDomain, vec![]));
    let internal = world.address("creto.internal").await;
    let answer = world
        .exchange(
            internal,
            80,
            b"GET / HTTP/1.1\r\nHost: creto.internal\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}
