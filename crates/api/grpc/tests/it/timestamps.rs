//! The service of timestamps, and the client of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use creto_consensus::{
    HybridTimestamp, OracleError, TimestampOracle as _, TimestampOracleExt as _, TimestampRange,
};
use creto_errors::{Class, Classify as _};
use creto_governor::{CredentialRequest, HumanRequest, MAX_TIMESTAMPS};
use creto_grpc::{Grpc, Hosts, RemoteOracle};
use creto_proto::consensus::v1::timestamps_client::TimestampsClient;
use creto_proto::consensus::v1::{Event, OrderRequest, ReserveRequest, ReserveResponse};
use creto_types::{Clock as _, Commit, Evidence};
use http::{HeaderValue, Request, Response, Uri, header};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;

use crate::world::{HOST, World, refusal, request_id};

type Client = TimestampsClient<BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>>;

/// Of somebody with this token, without a connection between.
fn client(world: &World, token: &str) -> Client {
    let grpc = world.grpc.clone();
    let token = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let grpc = grpc.clone();
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, token.clone());
        async move { Ok::<_, Infallible>(grpc.answer(request).await) }
    });
    let origin: Uri = format!("http://{HOST}").parse().unwrap();
    TimestampsClient::with_origin(BoxCloneSyncService::new(service), origin)
}

fn ask(count: u32) -> ReserveRequest {
    ReserveRequest { count }
}

fn of(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

fn after(answer: &ReserveResponse) -> u64 {
    answer.first + u64::from(answer.count)
}

#[tokio::test]
async fn what_is_reserved_is_nobody_elses() {
    let world = World::new().await;
    let mut owner = client(&world, &world.owner);
    let mut least = 0;
    for count in [1, 100, MAX_TIMESTAMPS, 1] {
        let answer = owner.reserve(ask(count)).await.unwrap();
        assert!(request_id(answer.metadata()).starts_with("req_"));
        let answer = answer.into_inner();
        assert_eq!(answer.count, count);
        assert!(answer.first >= least);
        least = after(&answer);
    }
    let requests = futures_util::stream::iter([2, 3, 1].map(ask));
    let mut answers = owner.reserve_stream(requests).await.unwrap().into_inner();
    for count in [2, 3, 1] {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.count, count, "one answer a request, in order");
        assert!(answer.first >= least);
        least = after(&answer);
    }
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn only_the_owner_gets_timestamps_and_not_too_many() {
    let world = World::new().await;
    let mut agent = client(&world, &world.agent);
    let status = agent.reserve(ask(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(refusal(&status).1, "forbidden");
    let mut nobody = client(&world, "nonsense");
    let status = nobody.reserve(ask(1)).await.unwrap_err();
    assert_eq!(refusal(&status).0, Code::Unauthenticated);
    let status = nobody
        .reserve_stream(futures_util::stream::empty())
        .await
        .unwrap_err();
    assert_eq!(refusal(&status).0, Code::Unauthenticated);

    let mut owner = client(&world, &world.owner);
    for count in [0, MAX_TIMESTAMPS + 1] {
        let status = owner.reserve(ask(count)).await.unwrap_err();
        let (code, _, _, field) = refusal(&status);
        assert_eq!(code, Code::InvalidArgument);
        assert_eq!(field.as_deref(), Some("count"));
    }
    // The clock stands still, so nothing is given back.
    let refused = loop {
        match owner.reserve(ask(MAX_TIMESTAMPS)).await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    let (code, own, ..) = refusal(&refused);
    assert_eq!(
        (code, own.as_str()),
        (Code::ResourceExhausted, "too_many_requests")
    );
}

#[tokio::test]
async fn a_stream_ends_with_the_identity_it_began_with() {
    let world = World::new().await;
    let mut owner = client(&world, &world.owner);
    let (send, asked) = tokio::sync::mpsc::channel(1);
    let asked = futures_util::stream::unfold(asked, |mut asked| async {
        asked.recv().await.map(|request| (request, asked))
    });
    let mut answers = owner.reserve_stream(asked).await.unwrap().into_inner();
    send.send(ask(1)).await.unwrap();
    answers.message().await.unwrap().unwrap();
    world
        .clock
        .advance(Duration::from_secs(100 * 366 * 24 * 3_600));
    send.send(ask(1)).await.unwrap();
    let status = answers.message().await.unwrap_err();
    let info = tonic_types::StatusExt::get_error_details(&status);
    let info = info.error_info().unwrap().clone();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(info.metadata["code"], "delegation_expired");
    assert_eq!(answers.message().await.unwrap(), None, "the last word");
}

#[tokio::test]
async fn a_stream_ends_with_the_credential_it_began_by() {
    let world = World::new().await;
    let by = world.governor.authenticate(&world.owner).unwrap();
    let carol = HumanRequest {
        name: "carol".parse().unwrap(),
        role: "owner".to_owned(),
        ttl_seconds: None,
        jkt: None,
    };
    let added = world.governor.add_human(&by, carol, None).await.unwrap();
    let mut carol = client(&world, &added.token.unwrap());
    let (send, asked) = tokio::sync::mpsc::channel(1);
    let asked = futures_util::stream::unfold(asked, |mut asked| async {
        asked.recv().await.map(|request| (request, asked))
    });
    let mut answers = carol.reserve_stream(asked).await.unwrap().into_inner();
    send.send(ask(1)).await.unwrap();
    answers.message().await.unwrap().unwrap();
    let name = "carol".parse().unwrap();
    let renewed =
        world
            .governor
            .renew_human_credential(&by, &name, CredentialRequest::default(), None);
    renewed.await.unwrap();
    send.send(ask(1)).await.unwrap();
    let status = answers.message().await.unwrap_err();
    let info = tonic_types::StatusExt::get_error_details(&status);
    let info = info.error_info().unwrap().clone();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(info.metadata["code"], "token_superseded");
    assert_eq!(answers.message().await.unwrap(), None, "the last word");
}

/// A server of timestamps on a port of its own.
struct Listening {
    world: creto_world::World,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn listening() -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = creto_world::World::new(&address.to_string()).await;
    serve(world, listener)
}

fn serve(world: creto_world::World, listener: TcpListener) -> Listening {
    let address = listener.local_addr().unwrap();
    let grpc = Grpc::new(
        world.governor.clone(),
        Hosts::of(address),
        world.ids.clone(),
        world.clock.clone(),
    );
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(grpc.serve(listener, async {
        let _ = stopped.await;
    }));
    Listening {
        world,
        address,
        stop,
        served,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_one_stream_and_get_their_own() {
    let server = listening().await;
    let oracle = RemoteOracle::new(server.address, &server.world.owner).unwrap();
    let callers: Vec<_> = (0..200_u32)
        .map(|caller| {
            let oracle = oracle.clone();
            tokio::spawn(async move {
                let count = of(caller % 7 + 1);
                let mut taken: Vec<TimestampRange> = Vec::new();
                for _ in 0..20 {
                    let range = oracle.reserve(count).await.unwrap();
                    assert_eq!(range.count(), count);
                    if let Some(before) = taken.last() {
                        assert!(before.last() < range.first(), "one after the other");
                    }
                    taken.push(range);
                }
                taken
            })
        })
        .collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    all.sort_by_key(TimestampRange::first);
    for pair in all.windows(2) {
        assert!(pair[0].last() < pair[1].first(), "{pair:?}");
    }
    // As many as one request may be for, and a call that is for more.
    let most = oracle.reserve(of(MAX_TIMESTAMPS)).await.unwrap();
    assert!(most.first() > all.last().unwrap().last());
    let refused = oracle.reserve(of(MAX_TIMESTAMPS + 1)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.class()),
        ("oracle_refused", Class::Permanent)
    );
    oracle.next().await.unwrap();
}

#[tokio::test]
async fn a_server_that_went_is_said_to_and_found_again() {
    let server = listening().await;
    let address = server.address;
    let oracle = RemoteOracle::new(address, &server.world.owner).unwrap();
    let before = oracle.next().await.unwrap();
    // An open stream does not keep the server from ending.
    server.stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), server.served);
    ended.await.unwrap().unwrap();
    let mut refused = oracle.next().await;
    if refused.is_err() {
        refused = oracle.next().await;
    }
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.code(), refused.class()),
        ("oracle_unreachable", Class::Transient)
    );
    let listener = TcpListener::bind(address).await.unwrap();
    let _again = serve(server.world, listener);
    assert!(oracle.next().await.unwrap() > before);
}

#[tokio::test]
async fn what_the_server_refuses_keeps_its_class_and_code() {
    let server = listening().await;
    let agent = RemoteOracle::new(server.address, &server.world.agent).unwrap();
    let refused = agent.next().await.unwrap_err();
    let OracleError::Refused { class, message } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(class, Class::Security);
    assert!(message.contains("(forbidden)"), "{message}");

    let owner = RemoteOracle::new(server.address, &server.world.owner).unwrap();
    let before = owner.next().await.unwrap();
    let now = creto_types::Clock::now(&*server.world.clock);
    server
        .world
        .clock
        .step_wall_to(now + Duration::from_secs(3_600));
    let refused = owner.next().await.unwrap_err();
    let OracleError::Refused { class, message } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(class, Class::Security);
    assert!(message.contains("(clock_stepped_forward)"), "{message}");
    server.world.clock.step_wall_to(now);
    assert!(owner.next().await.unwrap() > before);

    assert!(RemoteOracle::new(server.address, "a\nb").is_err());
}

fn events(count: u8) -> Vec<Event> {
    let event = |n| Event {
        sha256: vec![n; 32],
        label: format!("payment.{n}"),
    };
    (0..count).map(event).collect()
}

fn order(events: Vec<Event>, key: Option<&str>) -> OrderRequest {
    OrderRequest {
        events,
        idempotency_key: key.map(str::to_owned),
    }
}

#[tokio::test]
async fn events_of_others_stand_in_the_log_in_their_order() {
    let world = World::new().await;
    let mut owner = client(&world, &world.owner);
    let first = owner.order(order(events(3), None)).await.unwrap();
    let first = first.into_inner();
    assert_eq!(first.timestamps.len(), 3);
    assert!(first.timestamps.is_sorted_by(|one, next| one < next));
    let next = owner.order(order(events(100), Some("k"))).await.unwrap();
    let next = next.into_inner();
    assert_eq!(next.first, first.first + 3, "without a gap");
    assert_eq!(next.timestamps.len(), 100);
    assert!(first.timestamps.last() < next.timestamps.first());
    assert_eq!((first.epoch, next.epoch), (Some(1), Some(1)));

    // A lost answer is told again, and nothing is ordered twice.
    let again = owner.order(order(events(100), Some("k"))).await.unwrap();
    assert_eq!(again.into_inner(), next);
    let status = owner.order(order(events(99), Some("k"))).await.unwrap_err();
    assert_eq!(refusal(&status).1, "idempotency_key_reused");

    let evidence = world.commits.evidence(world.org);
    let place = usize::try_from(next.first).unwrap();
    let records = &evidence[place..place + 100];
    for (record, event) in records.iter().zip(events(100)) {
        assert_eq!(record.kind, "event.ordered");
        assert_eq!(record.body["label"], event.label);
        assert_eq!(record.body["sha256"], hex::encode(event.sha256));
    }
    assert_eq!(evidence.len(), place + 100);
}

#[tokio::test]
async fn what_is_no_event_orders_nothing() {
    let world = World::new().await;
    let mut owner = client(&world, &world.owner);
    let before = world.commits.evidence(world.org).len();
    let short = Event {
        sha256: vec![1; 31],
        label: "x".to_owned(),
    };
    let unnamed = Event {
        sha256: vec![1; 32],
        label: String::new(),
    };
    for (wrong, field) in [
        (Vec::new(), "events"),
        (events(101), "events"),
        ([events(1), vec![short]].concat(), "sha256"),
        ([events(1), vec![unnamed]].concat(), "label"),
    ] {
        let status = owner.order(order(wrong, None)).await.unwrap_err();
        let (code, _, _, blamed) = refusal(&status);
        assert_eq!(code, Code::InvalidArgument);
        assert_eq!(blamed.as_deref(), Some(field));
    }
    let mut agent = client(&world, &world.agent);
    let status = agent.order(order(events(1), None)).await.unwrap_err();
    assert_eq!(refusal(&status).1, "forbidden");
    assert_eq!(world.commits.evidence(world.org).len(), before);
}

/// An event that was overtaken gets a timestamp that the oracle did not give. Whoever has it
/// is not told an earlier one afterwards.
#[tokio::test]
async fn what_is_reserved_after_an_order_is_later() {
    let world = World::new().await;
    let mut owner = client(&world, &world.owner);
    let ahead = |milliseconds| Evidence {
        org: world.org,
        kind: "from.elsewhere".to_owned(),
        at: world.clock.now() + Duration::from_millis(milliseconds),
        actor: "alice".parse().unwrap(),
        action_id: None,
        body: serde_json::json!({}),
    };
    for (milliseconds, key) in [(1, None), (9, Some("k"))] {
        let overtaking = Commit::of(ahead(milliseconds));
        world.commits.apply(&overtaking).unwrap();
        let ordered = owner.order(order(events(3), key)).await.unwrap();
        let ordered = ordered.into_inner();
        let own = HybridTimestamp::of_instant(ahead(milliseconds).at).as_u64();
        assert_eq!(ordered.timestamps, [own + 1, own + 2, own + 3]);
        let reserved = owner.reserve(ask(1)).await.unwrap().into_inner();
        assert!(reserved.first > own + 3, "{reserved:?}");
        if key.is_some() {
            let again = owner.order(order(events(3), key)).await.unwrap();
            assert_eq!(again.into_inner(), ordered);
        }
    }
}

/// Each is later than all that anybody had the answer with before it was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_and_reservations_at_once_are_in_the_order_of_time() {
    let world = World::new().await;
    let latest = Arc::new(AtomicU64::new(0));
    let mut callers = Vec::new();
    for caller in 0..8_u8 {
        let (mut owner, latest) = (client(&world, &world.owner), Arc::clone(&latest));
        callers.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..50 {
                let before = latest.load(Ordering::SeqCst);
                let got = if caller % 2 == 0 {
                    let answer = owner.order(order(events(2), None)).await.unwrap();
                    let answer = answer.into_inner();
                    mine.extend(
                        answer
                            .timestamps
                            .iter()
                            .zip(answer.first..)
                            .map(|(ts, at)| (at, *ts)),
                    );
                    answer.timestamps
                } else {
                    let answer = owner.reserve(ask(3)).await.unwrap().into_inner();
                    vec![answer.first, answer.first + 2]
                };
                assert!(got[0] > before, "{got:?} {before}");
                latest.fetch_max(*got.last().unwrap(), Ordering::SeqCst);
            }
            mine
        }));
    }
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all.len(), 4 * 50 * 2);
    for pair in all.windows(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0, "no place twice, none left out");
        assert!(pair[0].1 < pair[1].1, "{pair:?}");
    }
}
