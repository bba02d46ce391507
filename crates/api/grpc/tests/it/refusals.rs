//! What is refused, and how that is said.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use creto_governor::TokenRequest;
use creto_nhi::test_util::Holder;
use creto_proto::authz::v1::{
    CheckBatchRequest, CheckRequest, ReleaseRequest, SettleRequest, SubmitRequest,
};
use creto_types::Clock as _;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{HOST, World, check, refusal, submit};

const CHECK: &str = "/creto.authz.v1.Authz/Check";

/// A call by hand: the HTTP status, and what gRPC says in its headers.
async fn raw(world: &World, path: &str, frame: Bytes) -> (StatusCode, Option<Status>) {
    let request = Request::post(format!("http://{HOST}{path}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::AUTHORIZATION, format!("Bearer {}", world.agent));
    let response = world.grpc.answer(request.body(Full::new(frame)).unwrap());
    let response = response.await;
    let status = Status::from_header_map(response.headers());
    (response.status(), status)
}

/// A message in its frame ("gRPC over HTTP2", Length-Prefixed-Message).
fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

#[tokio::test]
async fn nothing_works_without_a_credential() {
    let world = World::new().await;
    for credential in [
        None,
        Some("Bearer nonsense"),
        Some("Basic YTpi"),
        Some("Bearer "),
        Some("nonsense"),
    ] {
        let mut client = world.client_of(HOST, credential);
        let refused = [
            client.check(CheckRequest::default()).await.unwrap_err(),
            client
                .check_batch(CheckBatchRequest::default())
                .await
                .unwrap_err(),
            client.submit(SubmitRequest::default()).await.unwrap_err(),
            client.settle(SettleRequest::default()).await.unwrap_err(),
            client.release(ReleaseRequest::default()).await.unwrap_err(),
        ];
        for status in refused {
            let (code, own, class, _) = refusal(&status);
            assert_eq!(code, Code::Unauthenticated, "{credential:?}");
            assert_eq!(class, "security");
            assert!(
                ["unauthenticated", "invalid_token"].contains(&own.as_str()),
                "{own}"
            );
        }
    }
}

#[tokio::test]
async fn a_revoked_delegation_ends_its_tokens_at_once() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let asked = check(None, "history.read", "repo:creto");
    client.check(asked.clone()).await.unwrap();
    let owner = world.governor.authenticate(&world.owner).unwrap();
    world
        .governor
        .revoke(&owner, &world.link, None)
        .await
        .unwrap();
    let status = client.check(asked).await.unwrap_err();
    let (code, own, ..) = refusal(&status);
    assert_eq!(
        (code, own.as_str()),
        (Code::Unauthenticated, "delegation_revoked")
    );
}

#[tokio::test]
async fn a_call_means_this_server_or_is_refused() {
    let world = World::new().await;
    let bearer = format!("Bearer {}", world.agent);
    for host in ["evil.example:1", "127.0.0.1:2", "localhost"] {
        let mut client = world.client_of(host, Some(&bearer));
        let status = client.check(CheckRequest::default()).await.unwrap_err();
        let (code, own, class, _) = refusal(&status);
        assert_eq!(code, Code::PermissionDenied, "{host}");
        assert_eq!(
            (own.as_str(), class.as_str()),
            ("misdirected_request", "security")
        );
    }
    for host in ["localhost:1", "[::1]:1"] {
        let mut client = world.client_of(host, Some(&bearer));
        let asked = check(None, "history.read", "repo:creto");
        assert!(client.check(asked).await.is_ok(), "{host}");
    }
}

#[tokio::test]
async fn a_field_that_cannot_be_used_is_named_as_the_message_names_it() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let mut zero = check(None, "history.read", "repo:creto");
    zero.units = Some(0);
    let mut by = check(Some("bot"), "history.read", "repo:creto");
    by.subject.as_mut().unwrap().delegation = Some("lnk_1".to_owned());
    for (request, field) in [
        (check(None, "", "repo:creto"), "action"),
        (check(None, "history.read", ""), "resource.id"),
        (zero, "units"),
        (by, "subject.delegation"),
    ] {
        let status = client.check(request).await.unwrap_err();
        let (code, own, _, named) = refusal(&status);
        assert_eq!(
            (code, own.as_str()),
            (Code::InvalidArgument, "invalid_request")
        );
        assert_eq!(named.as_deref(), Some(field));
        let details = status.get_error_details();
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            field
        );
        assert!(status.message().contains(field), "{}", status.message());
    }
    for (request, field) in [
        (submit("", "", None), "action"),
        (submit("history.read", "{", None), "args_json"),
        (
            submit(
                "history.read",
                &format!("\"{}\"", "x".repeat(65 * 1024)),
                None,
            ),
            "args_json",
        ),
        (
            submit("history.read", "", Some("with space")),
            "idempotency_key",
        ),
    ] {
        let status = client.submit(request).await.unwrap_err();
        assert_eq!(refusal(&status).3.as_deref(), Some(field));
    }
    let named = |kind: &str, resource: &str| SubmitRequest {
        resource: resource.to_owned(),
        resource_type: kind.to_owned(),
        ..submit("history.read", "", None)
    };
    for (request, field) in [
        (named("", ""), "resource"),
        (named("Ticket", ""), "resource"),
        (named("\n", "7"), "resource_type"),
    ] {
        let status = client.submit(request).await.unwrap_err();
        assert_eq!(refusal(&status).3.as_deref(), Some(field));
        assert!(status.message().contains(field), "{}", status.message());
    }
    let mut typed = check(None, "history.read", "7");
    typed.resource.as_mut().unwrap().r#type = "\n".to_owned();
    let status = client.check(typed).await.unwrap_err();
    assert_eq!(refusal(&status).3.as_deref(), Some("resource.type"));
    let other = client.check(check(Some("alice"), "history.read", "repo:creto"));
    let (code, own, class, _) = refusal(&other.await.unwrap_err());
    assert_eq!((code, own.as_str()), (Code::PermissionDenied, "forbidden"));
    assert_eq!(class, "security");
}

#[tokio::test]
async fn a_message_is_read_within_bounds() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let large = submit("history.read", &"x".repeat(1024 * 1024), None);
    let status = client.submit(large).await.unwrap_err();
    let (code, own, ..) = refusal(&status);
    assert_eq!((code, own.as_str()), (Code::OutOfRange, "body_too_large"));

    // Half a million questions in a megabyte are refused before they are there.
    let many = CheckBatchRequest {
        checks: vec![CheckRequest::default(); 500_000],
        rule: 0,
    };
    let status = client.check_batch(many).await.unwrap_err();
    let (code, own, ..) = refusal(&status);
    assert_eq!(
        (code, own.as_str()),
        (Code::InvalidArgument, "invalid_body")
    );

    for bytes in [
        frame(&[0x0a, 5, 1]),
        frame(&[0xff; 16]),
        frame(&[0x12, 2, 0xff, 0xfe]),
        Bytes::from_static(&[0, 0, 0, 0, 9, 1]),
        Bytes::from_static(&[7, 0, 0, 0, 0]),
        Bytes::new(),
    ] {
        let (http, status) = raw(&world, CHECK, bytes.clone()).await;
        assert_eq!(http, StatusCode::OK, "gRPC says it in its own status");
        let (code, own, ..) = refusal(&status.expect("a refusal"));
        assert_eq!(
            (code, own.as_str()),
            (Code::InvalidArgument, "invalid_body"),
            "{bytes:?}"
        );
    }
}

/// "gRPC Compression": what is not read is refused with what would be.
#[tokio::test]
async fn a_compressed_message_is_refused_with_what_would_be_read() {
    let world = World::new().await;
    let call = async |encoding: &str| {
        let request = Request::post(format!("http://{HOST}{CHECK}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header("grpc-encoding", encoding)
            .header(header::AUTHORIZATION, format!("Bearer {}", world.agent));
        let request = request.body(Full::new(frame(&[]))).unwrap();
        world.grpc.answer(request).await
    };
    for encoding in ["gzip", "br"] {
        let response = call(encoding).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-accept-encoding"], "identity");
        let status = Status::from_header_map(response.headers()).expect("a refusal");
        let (code, own, class, _) = refusal(&status);
        assert_eq!(code, Code::Unimplemented, "{encoding}");
        assert_eq!(
            (own.as_str(), class.as_str()),
            ("encoding_unsupported", "permanent")
        );
    }
    let response = call("identity").await;
    let status = Status::from_header_map(response.headers()).expect("a refusal");
    assert_eq!(refusal(&status).3.as_deref(), Some("action"), "it was read");
    assert!(response.headers().get("grpc-accept-encoding").is_none());
}

#[tokio::test]
async fn a_method_that_is_none_and_what_is_not_grpc() {
    let world = World::new().await;
    for path in [
        "/creto.authz.v1.Authz/Approve",
        "/creto.authz.v2.Authz/Check",
        "/",
    ] {
        let (_, status) = raw(&world, path, frame(&[])).await;
        let (code, own, ..) = refusal(&status.expect("a refusal"));
        assert_eq!(
            (code, own.as_str()),
            (Code::Unimplemented, "route_not_found"),
            "{path}"
        );
    }
    let answer = async |method: &str, media: &str| {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{HOST}{CHECK}"))
            .header(header::CONTENT_TYPE, media)
            .header(header::AUTHORIZATION, format!("Bearer {}", world.agent));
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let response = world.grpc.answer(request).await;
        let status = response.status();
        assert!(
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
        status
    };
    assert_eq!(
        answer("GET", "application/grpc").await,
        StatusCode::METHOD_NOT_ALLOWED
    );
    for media in [
        "application/json",
        "application/grpc-web",
        "application/grpcx",
    ] {
        assert_eq!(
            answer("POST", media).await,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{media}"
        );
    }
    assert_eq!(
        answer("POST", "application/grpc+proto").await,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_deadline_that_has_passed_ends_a_call_before_it_began() {
    let world = World::new().await;
    let mut client = world.client(&world.agent);
    let mut late = tonic::Request::new(submit("history.read", "", Some("late")));
    late.set_timeout(Duration::ZERO);
    let status = client.submit(late).await.unwrap_err();
    let (code, own, class, _) = refusal(&status);
    assert_eq!(
        (code, own.as_str()),
        (Code::DeadlineExceeded, "request_timeout")
    );
    assert_eq!(class, "transient");
    let text = world.governor.metrics().encode();
    assert!(
        text.contains("creto_decisions_total{outcome=\"allow\"} 0"),
        "{text}"
    );

    let mut odd = tonic::Request::new(submit("history.read", "", None));
    odd.metadata_mut()
        .insert("grpc-timeout", "soon".parse().unwrap());
    let status = client.submit(odd).await.unwrap_err();
    assert_eq!(refusal(&status).3.as_deref(), Some("grpc-timeout"));
}

#[tokio::test]
async fn a_message_that_never_ends_is_let_go_at_the_deadline() {
    let world = World::new().await;
    let endless = Full::new(frame(&[])).with_trailers(std::future::pending());
    let request = Request::post(format!("http://{HOST}{CHECK}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header("grpc-timeout", "50m")
        .header(header::AUTHORIZATION, format!("Bearer {}", world.agent));
    let response = world.grpc.answer(request.body(endless).unwrap()).await;
    let status = Status::from_header_map(response.headers()).expect("a refusal");
    assert_eq!(refusal(&status).1, "request_timeout");
}

#[tokio::test]
async fn whoever_sends_too_many_proofs_is_told_when_there_is_room() {
    let world = World::new().await;
    let holder = Holder::new(1);
    let owner = world.governor.authenticate(&world.owner).unwrap();
    let request = TokenRequest {
        delegation: Some(world.link.clone()),
        ttl_seconds: None,
        instance: None,
        jkt: Some(holder.jkt().to_string()),
    };
    let issued = world.governor.issue_token(&owner, request, None).await;
    let token = issued.unwrap().token.unwrap();
    let mut client = world.client_of(HOST, Some(&format!("DPoP {token}")));
    let mut ask = async || {
        let here = format!("http://{HOST}{CHECK}");
        let nonce = world.governor.proof_nonce();
        let proof = holder.proof(("POST", &here), Some(&token), &nonce, world.clock.now());
        let mut request = tonic::Request::new(check(None, "history.read", "repo:creto"));
        request
            .metadata_mut()
            .insert("dpop", proof.parse().unwrap());
        client.check(request).await
    };
    ask().await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    creto_nhi::test_util::use_up_proofs(&world.nhi, world.org, &"bot".parse().unwrap());
    let status = ask().await.unwrap_err();
    let (code, own, class, _) = refusal(&status);
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(
        (own.as_str(), class.as_str()),
        ("dpop_too_many_proofs", "transient")
    );
    let wait = status.get_error_details().retry_info().unwrap().retry_delay;
    let wait = wait.unwrap();
    assert!(
        !wait.is_zero() && wait <= Duration::from_secs(60),
        "{wait:?}"
    );
    world.clock.advance(wait);
    ask().await.unwrap();
}
