//! The evidence bundle over HTTP: an archive that is made while it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use creto_audit::{BundleArchive, Trust, verify_bundle};
use creto_crypto::AllowedAlgorithms;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::log::with_leaves;
use crate::world::{HOST, World};

async fn asked(world: &World, query: &str) -> Response {
    let request = Request::get(format!("/v1/audit/export{query}"))
        .header(header::HOST, HOST)
        .header(header::AUTHORIZATION, format!("Bearer {}", world.owner))
        .body(Body::empty());
    let router = world.router.clone();
    router.oneshot(request.unwrap()).await.unwrap()
}

/// The size of the log that a bundle is of.
async fn size(response: Response) -> u64 {
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/x-tar"
    );
    let archive = response.into_body().collect().await.unwrap().to_bytes();
    let mut archive = BundleArchive::new(&archive[..]);
    let mut files = BTreeMap::new();
    while let Some(path) = archive.next_path().unwrap() {
        let mut bytes = Vec::new();
        archive.copy(&mut bytes).unwrap();
        files.insert(path, bytes);
    }
    let verified = verify_bundle(
        &files,
        &Trust::BundleKeys,
        &AllowedAlgorithms::default().signature,
        &mut |_, _| Ok(()),
        &mut |_, _| Ok(()),
    );
    verified.unwrap().size
}

#[tokio::test]
async fn a_bundle_is_of_the_log_as_it_was_when_it_was_asked_for() {
    let world = World::new().await;
    with_leaves(&world, 600).await;
    let response = asked(&world, "").await;
    assert_eq!(response.status(), StatusCode::OK);
    with_leaves(&world, 10).await;
    assert_eq!(size(response).await, 600);
    assert_eq!(size(asked(&world, "?kind=test.record").await).await, 610);
}

/// What is not read is made no further, and counts as long as it is held.
#[tokio::test]
async fn only_so_many_are_made_at_once() {
    let world = World::new().await;
    with_leaves(&world, 600).await;
    let mut held = Vec::new();
    for _ in 0..creto_governor::EXPORTS_AT_ONCE {
        held.push(asked(&world, "").await);
    }
    let refused = asked(&world, "").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "30");
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "too_many_exports");
    assert_eq!(problem["class"], "transient");

    // One that is read, and one that nobody reads any more.
    assert_eq!(size(held.pop().unwrap()).await, 600);
    drop(held);
    let mut again = Vec::new();
    while again.len() < creto_governor::EXPORTS_AT_ONCE {
        let response = asked(&world, "").await;
        match response.status() {
            StatusCode::OK => again.push(response),
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    for response in again {
        assert_eq!(size(response).await, 600);
    }
}
