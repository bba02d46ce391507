//! What clients of OAuth learn about this server before they call it.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::Shared;
use crate::oauth;

/// About the token endpoint (RFC 8414, section 2).
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuthorizationServer {
    /// Where this server is reached. The `iss` of a token is its organization.
    issuer: String,
    /// Where tokens are exchanged.
    token_endpoint: String,
    /// Where the keys are that tokens are verified with.
    jwks_uri: String,
    /// The token exchange of RFC 8693 alone.
    grant_types_supported: [&'static str; 1],
    /// None: there is no authorization endpoint.
    response_types_supported: [&'static str; 0],
    /// `none`: the token that is given is the credential.
    token_endpoint_auth_methods_supported: [&'static str; 1],
    /// RFC 9449, section 5.1.
    dpop_signing_alg_values_supported: Vec<&'static str>,
}

/// About the API (RFC 9728, section 2).
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProtectedResource {
    /// Where this server is reached.
    resource: String,
    /// Itself.
    authorization_servers: [String; 1],
    /// `header`.
    bearer_methods_supported: [&'static str; 1],
    /// RFC 9449, section 5.1.
    dpop_signing_alg_values_supported: Vec<&'static str>,
    /// Whether every token of an agent has to be bound to a key.
    dpop_bound_access_tokens_required: bool,
}

/// The names in a header of the algorithms by which proofs are read.
pub(crate) fn proof_algorithms(app: &Shared) -> Vec<&'static str> {
    let accepted = app.governor.proof_algorithms();
    let names = accepted
        .list()
        .iter()
        .flat_map(|algorithm| algorithm.names());
    names.copied().collect()
}

pub(crate) async fn authorization_server(State(app): State<Shared>) -> Json<AuthorizationServer> {
    let issuer = app.hosts.origin().to_owned();
    Json(AuthorizationServer {
        token_endpoint: format!("{issuer}{}", oauth::PATH),
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        issuer,
        grant_types_supported: [oauth::TOKEN_EXCHANGE],
        response_types_supported: [],
        token_endpoint_auth_methods_supported: ["none"],
        dpop_signing_alg_values_supported: proof_algorithms(&app),
    })
}

pub(crate) async fn protected_resource(State(app): State<Shared>) -> Json<ProtectedResource> {
    let resource = app.hosts.origin().to_owned();
    Json(ProtectedResource {
        authorization_servers: [resource.clone()],
        resource,
        bearer_methods_supported: ["header"],
        dpop_signing_alg_values_supported: proof_algorithms(&app),
        dpop_bound_access_tokens_required: app.governor.requires_proof(),
    })
}
