//! The description at `/openapi.json`: OpenAPI 3.1, made of the list of routes
//! and the schemas of the types that the handlers read and write.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::extract::KEY_HEADER;
use crate::oauth;
use crate::problem::{self, Problem};
use crate::routes::{Auth, Body, Route, table};
use crate::sessions;

pub(crate) fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let problem = generator.subschema_for::<Problem>().to_value();
    let mut paths = Map::new();
    for route in table() {
        let operation = operation(&route, &mut generator);
        // A catch-all parameter is written without its star.
        let path = route.info.path.replace("{*", "{");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(route.info.method.to_ascii_lowercase(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Creto",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The governance plane for AI agents",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": {
                "Problem": {
                    "description": "Nothing was changed, and why (RFC 9457)",
                    "content": { problem::MEDIA_TYPE: { "schema": problem } },
                },
            },
            "parameters": {
                "IdempotencyKey": {
                    "name": KEY_HEADER,
                    "in": "header",
                    "description": "For seven days the same key and request give the same \
                                    answer again, but for refusals by limits and rates, which \
                                    are decided anew; the same key with another request is \
                                    refused",
                    "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
                },
            },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "dpop": {
                    "type": "http", "scheme": "dpop", "bearerFormat": "JWT",
                    "description": "A token that is bound to a key (RFC 9449)",
                },
                "proof": {
                    "type": "apiKey", "in": "header", "name": "DPoP",
                    "description": "The proof beside it, of this request alone, with the \
                                    nonce of the last answer's header DPoP-Nonce",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": sessions::COOKIE,
                },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = Map::new();
    operation.insert("operationId".to_owned(), json!(route.info.operation));
    operation.insert("summary".to_owned(), json!(route.summary));
    operation.insert("parameters".to_owned(), parameters(route, generator));
    if let Some(request) = route.request {
        let media_type = if route.form {
            "application/x-www-form-urlencoded"
        } else {
            "application/json"
        };
        let schema = request(generator).to_value();
        let body = json!({ "content": { media_type: { "schema": schema } } });
        operation.insert("requestBody".to_owned(), body);
    }
    let mut answer = json!({ "description": description(route) });
    let content = match route.answer {
        Body::Json(schema) => {
            let schema = schema(generator).to_value();
            Some(json!({ "application/json": { "schema": schema } }))
        }
        Body::Other(media_type) => Some(json!({ media_type: {} })),
        Body::None => None,
    };
    if let (Some(answer), Some(content)) = (answer.as_object_mut(), content) {
        answer.insert("content".to_owned(), content);
    }
    let mut responses = Map::new();
    responses.insert(route.status.to_string(), answer);
    let refusal = match route.info.auth {
        Auth::Exchange => {
            let schema = generator.subschema_for::<oauth::Refusal>().to_value();
            json!({
                "description": "No token was issued, and why (RFC 6749, section 5.2)",
                "content": { "application/json": { "schema": schema } },
            })
        }
        _ => json!({ "$ref": "#/components/responses/Problem" }),
    };
    responses.insert("default".to_owned(), refusal);
    operation.insert("responses".to_owned(), Value::Object(responses));
    let security = match route.info.auth {
        Auth::Public | Auth::Login | Auth::Exchange => json!([]),
        Auth::Credential => json!([{ "bearer": [] }, { "dpop": [], "proof": [] }]),
        Auth::Page if route.form => json!([{ "session": [] }]),
        Auth::Page => json!([
            { "session": [] }, { "bearer": [] }, { "dpop": [], "proof": [] },
        ]),
    };
    operation.insert("security".to_owned(), security);
    Value::Object(operation)
}

fn description(route: &Route) -> &'static str {
    match route.status {
        201 => "Made, or made before under the same key",
        202 => "Asked for, or asked for before; 201 when it is decided already",
        303 => "Done; the page to look at",
        _ => "The answer",
    }
}

fn parameters(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = route
        .info
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({
                "name": name.trim_start_matches('*'),
                "in": "path",
                "required": true,
                "schema": { "type": "string" },
            })
        })
        .collect();
    if let Some(query) = route.query {
        parameters.extend(query_parameters(query(generator).to_value(), generator));
    }
    if route.info.idempotent {
        parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
    }
    Value::Array(parameters)
}

/// The members of the query's type, one parameter each.
fn query_parameters(reference: Value, generator: &SchemaGenerator) -> Vec<Value> {
    let definition = reference
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| path.rsplit('/').next())
        .and_then(|name| generator.definitions().get(name))
        .unwrap_or(&reference);
    let Some(properties) = definition.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    properties
        .iter()
        .map(|(name, schema)| {
            json!({ "name": name, "in": "query", "required": false, "schema": schema })
        })
        .collect()
}
