//! The description and the routes are one.

use std::collections::BTreeSet;

use axum::http::header;
use creto_http::{Auth, routes};
use serde_json::Value;

use crate::world::World;

#[tokio::test]
async fn every_route_is_described_and_nothing_else() {
    let world = World::new().await;
    let answer = world.get("/openapi.json", "").await;
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");

    let mut described = BTreeSet::new();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            described.insert((method.to_uppercase(), path.clone()));
            let name = operation["operationId"].as_str().unwrap();
            assert!(
                names.insert(name.to_owned()),
                "two operations are called {name}"
            );
        }
    }
    let served: BTreeSet<_> = routes()
        .iter()
        .map(|route| (route.method.to_owned(), route.path.replace("{*", "{")))
        .collect();
    assert_eq!(described, served);

    for route in routes() {
        let path = route.path.replace("{*", "{");
        let operation = &document["paths"][&path][route.method.to_lowercase()];
        let open = operation["security"].as_array().unwrap().is_empty();
        let public = matches!(route.auth, Auth::Public | Auth::Login | Auth::Exchange);
        assert_eq!(open, public, "{route:?}");
        let parameters = operation["parameters"].to_string();
        assert_eq!(
            parameters.contains("IdempotencyKey"),
            route.idempotent,
            "{route:?}"
        );
        assert_eq!(
            parameters.contains("\"path\""),
            path.contains('{'),
            "{route:?}"
        );
        if route.idempotent {
            assert!(operation["requestBody"].is_object(), "{route:?}");
        }
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let world = World::new().await;
    let document = world.get("/openapi.json", "").await.json();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in ["ActionRequest", "ActionAnswer", "Problem", "Money"] {
        assert!(schemas.contains_key(name), "{name}");
    }
    // What is refused is described as refused.
    assert_eq!(schemas["ActionRequest"]["additionalProperties"], false);
    let query = document["paths"]["/v1/oversight/requests"]["get"]["parameters"].to_string();
    for name in ["state", "after", "limit"] {
        assert!(query.contains(&format!("\"{name}\"")), "{query}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                references.push(reference.clone());
            }
            members
                .values()
                .for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}
