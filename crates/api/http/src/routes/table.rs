//! The one list of routes.

use axum::routing::on;
use creto_governor::{
    ActionAnswer, ActionRequest, CredentialRequest, DelegateRequest, DelegationAnswer,
    DryRunAnswer, DryRunRequest, ErasureAnswer, ErasureRequest, ExplainAnswer, ExplainRequest,
    ExpulsionAnswer, ExpulsionRequest, FilesRequest, FollowAnswer, FollowRequest, HandOverAnswer,
    HandOverRequest, HumanAnswer, HumanRequest, InvoiceAnswer, InvoiceRequest, KeyRevocationAnswer,
    KeyRevocationRequest, LeaseAnswer, LeaseRequest, LimitAnswer, LimitRequest, OversightAnswer,
    PoliciesInForceAnswer, PolicyBundleAnswer, PolicyVersionAnswer, PrincipalAnswer,
    PrincipalKeyAnswer, PrincipalKeyRequest, PrincipalRequest, PublishPoliciesRequest, RateAnswer,
    RateRequest, RemovalAnswer, RevocationAnswer, RoleAnswer, RoleRequest, RollbackPoliciesRequest,
    SandboxAnswer, SandboxRequest, SecretAnswer, SecretReadRequest, SecretReading, SecretRequest,
    SelfAnswer, SettlementAnswer, ShadowAnswer, SuspensionAnswer, SuspensionRequest, TokenAnswer,
    TokenRequest, UsageAnswer, UsageQuery, ValidationAnswer,
};

use super::{Auth, Route, WAITS, WHOLE_LOG};
use crate::authzen::{
    self, AccessRequestBody, Decided, Evaluation, EvaluationsAnswer, EvaluationsRequest, TaskAnswer,
};
use crate::extract::{List, ListQuery};
use crate::handlers::{
    actions, authority, authzen as evaluate, billing, export, limits, log, metadata, oversight,
    policies, sandboxes, secrets, system,
};
use crate::oauth;
use crate::pages;

pub(crate) fn table() -> Vec<Route> {
    let mut table = Vec::new();
    table.extend(system_routes());
    table.extend(authority_routes());
    table.extend(super::keys::routes());
    table.extend(secret_routes());
    table.extend(super::signing::routes());
    table.extend(action_routes());
    table.extend(authzen_routes());
    table.extend(billing_routes());
    table.extend(limit_routes());
    table.extend(sandbox_routes());
    table.extend(policy_routes());
    table.extend(log_routes());
    table.extend(page_routes());
    table
}

fn system_routes() -> [Route; 8] {
    [
        Route::get("/healthz", "health", "Whether the process answers", |f| {
            on(f, system::health)
        })
        .gives::<system::Status>()
        .public(),
        Route::get("/readyz", "readiness", "Whether requests are served", |f| {
            on(f, system::ready)
        })
        .gives::<system::Status>()
        .public(),
        Route::get("/openapi.json", "describe", "This description", |f| {
            on(f, system::description)
        })
        .gives_other("application/json")
        .public(),
        Route::get(
            "/.well-known/jwks.json",
            "jwks",
            "The public keys that tokens are verified with (RFC 7517)",
            |f| on(f, system::jwks),
        )
        .gives_other("application/jwk-set+json")
        .public(),
        Route::get(
            "/.well-known/spiffe-bundle.json",
            "trust_bundle",
            "The same keys as the SPIFFE bundle of the trust domain",
            |f| on(f, system::trust_bundle),
        )
        .gives_other("application/json")
        .public(),
        Route::get(
            "/.well-known/oauth-authorization-server",
            "authorization_server",
            "Where and how tokens are exchanged (RFC 8414)",
            |f| on(f, metadata::authorization_server),
        )
        .gives::<metadata::AuthorizationServer>()
        .public(),
        Route::get(
            "/.well-known/oauth-protected-resource",
            "protected_resource",
            "Which tokens are taken, and how (RFC 9728)",
            |f| on(f, metadata::protected_resource),
        )
        .gives::<metadata::ProtectedResource>()
        .public(),
        Route::get("/metrics", "metrics", "OpenMetrics; for people", |f| {
            on(f, system::metrics)
        })
        .gives_other("application/openmetrics-text"),
    ]
}

fn secret_routes() -> [Route; 7] {
    [
        Route::post(
            "/v1/secrets",
            "put_secret",
            "Put a secret there, or a new version of it",
            |f| on(f, secrets::put),
        )
        .takes::<SecretRequest>()
        .gives::<SecretAnswer>()
        .unkeyed()
        .created(),
        Route::get(
            "/v1/secrets",
            "list_secrets",
            "Secrets without their values, by name; an agent sees those leased to it",
            |f| on(f, secrets::list),
        )
        .query::<ListQuery>()
        .gives::<List<SecretAnswer>>(),
        Route::post(
            "/v1/secrets/{name}/leases",
            "lease_secret",
            "Lease a secret of one's own to an agent below",
            |f| on(f, secrets::lease),
        )
        .takes::<LeaseRequest>()
        .gives::<LeaseAnswer>()
        .created(),
        Route::post(
            "/v1/secrets/{name}/hand-over",
            "hand_over_secret",
            "Make a secret somebody else's; its leases stay",
            |f| on(f, secrets::hand_over),
        )
        .takes::<HandOverRequest>()
        .gives::<HandOverAnswer>(),
        Route::post(
            "/v1/secrets/{name}/read",
            "read_secret",
            "Read a secret by its lease to the caller's delegation",
            |f| on(f, secrets::read),
        )
        .takes::<SecretReadRequest>()
        .gives::<SecretReading>()
        .unkeyed(),
        Route::get("/v1/leases", "list_leases", "Leases, oldest first", |f| {
            on(f, secrets::leases)
        })
        .query::<ListQuery>()
        .gives::<List<LeaseAnswer>>(),
        Route::post(
            "/v1/leases/{id}/revoke",
            "revoke_lease",
            "Take a lease back at once",
            |f| on(f, secrets::revoke),
        )
        .takes::<system::Nothing>()
        .gives::<LeaseAnswer>(),
    ]
}

fn authority_routes() -> [Route; 18] {
    [
        Route::get("/v1/self", "whoami", "Who the caller is to Creto", |f| {
            on(f, authority::whoami)
        })
        .gives::<SelfAnswer>(),
        Route::post("/v1/principals", "create_principal", "Add an agent", |f| {
            on(f, authority::create_principal)
        })
        .takes::<PrincipalRequest>()
        .gives::<PrincipalAnswer>()
        .created(),
        Route::get(
            "/v1/principals",
            "list_principals",
            "Principals, by name",
            |f| on(f, authority::principals),
        )
        .query::<ListQuery>()
        .gives::<List<PrincipalAnswer>>(),
        Route::post(
            "/v1/principals/{name}/suspend",
            "suspend_principal",
            "Suspend an agent or a person, and everything delegated through it",
            |f| on(f, authority::suspend),
        )
        .takes::<SuspensionRequest>()
        .gives::<SuspensionAnswer>(),
        Route::post(
            "/v1/principals/{name}/resume",
            "resume_principal",
            "End a suspension",
            |f| on(f, authority::resume),
        )
        .takes::<SuspensionRequest>()
        .gives::<SuspensionAnswer>(),
        Route::post(
            "/v1/principals/{name}/revoke",
            "revoke_principal",
            "Revoke an agent or a person, for ever, and everything delegated through it",
            |f| on(f, authority::revoke_principal),
        )
        .takes::<ExpulsionRequest>()
        .gives::<ExpulsionAnswer>(),
        Route::post(
            "/v1/principals/{name}/keys/rotate",
            "rotate_principal_key",
            "Give an agent or a person another signing key; what the ones before signed holds",
            |f| on(f, authority::rotate_principal_key),
        )
        .takes::<PrincipalKeyRequest>()
        .gives::<PrincipalKeyAnswer>(),
        Route::post(
            "/v1/principals/{name}/keys/revoke",
            "revoke_principal_key",
            "Revoke a signing key, for ever, and everything that it signed",
            |f| on(f, authority::revoke_principal_key),
        )
        .takes::<KeyRevocationRequest>()
        .gives::<KeyRevocationAnswer>(),
        Route::post(
            "/v1/humans",
            "add_human",
            "Add a person with a role; the credential is shown once",
            |f| on(f, authority::add_human),
        )
        .takes::<HumanRequest>()
        .gives::<HumanAnswer>()
        .created(),
        Route::post(
            "/v1/humans/{name}/role",
            "set_role",
            "Give a person another role",
            |f| on(f, authority::set_role),
        )
        .takes::<RoleRequest>()
        .gives::<RoleAnswer>(),
        Route::post(
            "/v1/humans/{name}/credential",
            "renew_human_credential",
            "A new credential for a person, in place of every one before",
            |f| on(f, authority::renew_human_credential),
        )
        .takes::<CredentialRequest>()
        .gives::<HumanAnswer>()
        .created(),
        Route::post(
            "/v1/subjects/{name}/erase",
            "erase_subject",
            "Erase the records of a person who is suspended or revoked, for ever; every proof stays valid",
            |f| on(f, authority::erase_subject),
        )
        .takes::<ErasureRequest>()
        .gives::<ErasureAnswer>(),
        Route::post(
            "/v1/delegations",
            "delegate",
            "Delegate part of what one has",
            |f| on(f, authority::delegate),
        )
        .takes::<DelegateRequest>()
        .gives::<DelegationAnswer>()
        .created(),
        Route::get(
            "/v1/delegations",
            "list_delegations",
            "Delegations, oldest first",
            |f| on(f, authority::delegations),
        )
        .query::<ListQuery>()
        .gives::<List<DelegationAnswer>>(),
        Route::get(
            "/v1/delegations/{id}",
            "get_delegation",
            "One delegation",
            |f| on(f, authority::delegation),
        )
        .gives::<DelegationAnswer>(),
        Route::post(
            "/v1/delegations/{id}/revoke",
            "revoke_delegation",
            "Revoke a delegation and everything below it",
            |f| on(f, authority::revoke),
        )
        .takes::<system::Nothing>()
        .gives::<RevocationAnswer>(),
        Route::post(
            "/v1/tokens",
            "issue_token",
            "Issue a token, bound to a key where one is named; it is shown once",
            |f| on(f, authority::issue_token),
        )
        .takes::<TokenRequest>()
        .gives::<TokenAnswer>()
        .created(),
        Route::post(
            oauth::PATH,
            "exchange_token",
            "Another token for the delegation of an agent's own (RFC 8693)",
            |f| on(f, authority::exchange_token),
        )
        .form::<oauth::ExchangeForm>(Auth::Exchange)
        .gives::<oauth::Exchanged>()
        .ok(),
    ]
}

fn action_routes() -> [Route; 8] {
    [
        Route::post(
            "/v1/actions",
            "submit_action",
            "Ask before doing something; all five outcomes are answers",
            |f| on(f, actions::submit),
        )
        .takes::<ActionRequest>()
        .gives::<ActionAnswer>(),
        Route::get(
            "/v1/actions/{id}",
            "get_action",
            "Every record of one action, in log order",
            |f| on(f, actions::records),
        )
        .gives::<List<actions::ActionRecord>>(),
        Route::post(
            "/v1/actions/{id}/settle",
            "settle_action",
            "Say what was really used; the rest of the reservation is given back",
            |f| on(f, actions::settle),
        )
        .takes::<actions::SettleRequest>()
        .gives::<SettlementAnswer>(),
        Route::post(
            "/v1/actions/{id}/release",
            "release_action",
            "Give the whole reservation back",
            |f| on(f, actions::release),
        )
        .takes::<system::Nothing>()
        .gives::<SettlementAnswer>(),
        Route::get(
            "/v1/oversight/requests",
            "list_oversight_requests",
            "Requests for a human, oldest first; an agent sees its own",
            |f| on(f, oversight::list),
        )
        .query::<oversight::RequestsQuery>()
        .gives::<List<OversightAnswer>>(),
        Route::get(
            "/v1/oversight/requests/{id}",
            "get_oversight_request",
            "One request; waits for a decision when asked to",
            |f| on(f, oversight::get),
        )
        .query::<system::WaitQuery>()
        .gives::<OversightAnswer>()
        .within(WAITS),
        Route::post(
            "/v1/oversight/requests/{id}/approve",
            "approve_oversight_request",
            "Approve exactly what the request shows",
            |f| on(f, oversight::approve),
        )
        .takes::<oversight::DecisionRequest>()
        .gives::<OversightAnswer>(),
        Route::post(
            "/v1/oversight/requests/{id}/deny",
            "deny_oversight_request",
            "Deny it",
            |f| on(f, oversight::deny),
        )
        .takes::<oversight::DecisionRequest>()
        .gives::<OversightAnswer>(),
    ]
}

fn authzen_routes() -> [Route; 5] {
    [
        Route::post(
            authzen::EVALUATION,
            "access_evaluation",
            "AuthZEN: may this subject do this? Nothing is reserved or recorded, unless it \
             comes with an approval: then it is the action itself",
            |f| on(f, evaluate::evaluation),
        )
        .takes::<Evaluation>()
        .gives::<Decided>(),
        Route::post(
            authzen::EVALUATIONS,
            "access_evaluations",
            "AuthZEN: several such questions, of which none may carry an approval; without \
             `evaluations` it is one, and answered as one",
            |f| on(f, evaluate::evaluations),
        )
        .takes::<EvaluationsRequest>()
        .gives::<EvaluationsAnswer>(),
        Route::post(
            authzen::REQUESTS,
            "request_access",
            "AuthZEN: ask a human for what was denied because one has to approve it",
            |f| on(f, evaluate::request_access),
        )
        .takes::<AccessRequestBody>()
        .gives::<TaskAnswer>()
        .accepted(),
        Route::get(
            authzen::REQUEST,
            "get_access_request",
            "AuthZEN: where a request for access stands; waits for a decision when asked to",
            |f| on(f, evaluate::access_request),
        )
        .query::<system::WaitQuery>()
        .gives::<TaskAnswer>()
        .within(WAITS),
        Route::get(
            authzen::METADATA,
            "authzen_metadata",
            "AuthZEN: where the decision point answers",
            |f| on(f, evaluate::metadata),
        )
        .gives::<authzen::Metadata>()
        .public(),
    ]
}

fn billing_routes() -> [Route; 4] {
    [
        Route::get(
            "/v1/usage",
            "get_usage",
            "Settled usage by agent and action",
            |f| on(f, billing::usage),
        )
        .query::<UsageQuery>()
        .gives::<UsageAnswer>(),
        Route::post(
            "/v1/invoices",
            "issue_invoice",
            "Invoice everything of a period that no invoice holds yet",
            |f| on(f, billing::issue),
        )
        .takes::<InvoiceRequest>()
        .gives::<InvoiceAnswer>()
        .created(),
        Route::get(
            "/v1/invoices",
            "list_invoices",
            "Invoices, oldest first",
            |f| on(f, billing::list),
        )
        .query::<ListQuery>()
        .gives::<List<InvoiceAnswer>>(),
        Route::get("/v1/invoices/{id}", "get_invoice", "One invoice", |f| {
            on(f, billing::get)
        })
        .gives::<InvoiceAnswer>(),
    ]
}

fn limit_routes() -> [Route; 6] {
    [
        Route::post(
            "/v1/limits",
            "set_limit",
            "Set a limit, in place of the one with its scope, event, measure and window",
            |f| on(f, limits::set),
        )
        .takes::<LimitRequest>()
        .gives::<LimitAnswer>(),
        Route::get(
            "/v1/limits",
            "list_limits",
            "Limits that were set, with what is left of them",
            |f| on(f, limits::list),
        )
        .query::<ListQuery>()
        .gives::<List<LimitAnswer>>(),
        Route::post(
            "/v1/limits/{id}/remove",
            "remove_limit",
            "End a limit",
            |f| on(f, limits::remove),
        )
        .takes::<system::Nothing>()
        .gives::<RemovalAnswer>(),
        Route::post(
            "/v1/rates",
            "set_rate",
            "Set a rate, in place of the one with its scope and event",
            |f| on(f, limits::set_rate),
        )
        .takes::<RateRequest>()
        .gives::<RateAnswer>(),
        Route::get("/v1/rates", "list_rates", "Rates that were set", |f| {
            on(f, limits::rates)
        })
        .query::<ListQuery>()
        .gives::<List<RateAnswer>>(),
        Route::post("/v1/rates/{id}/remove", "remove_rate", "End a rate", |f| {
            on(f, limits::remove_rate)
        })
        .takes::<system::Nothing>()
        .gives::<RemovalAnswer>(),
    ]
}

fn sandbox_routes() -> [Route; 4] {
    [
        Route::post(
            "/v1/sandboxes",
            "launch_sandbox",
            "Run a program as the agent of a delegation",
            |f| on(f, sandboxes::launch),
        )
        .takes::<SandboxRequest>()
        .gives::<SandboxAnswer>()
        .created(),
        Route::get(
            "/v1/sandboxes",
            "list_sandboxes",
            "Sandboxes, oldest first",
            |f| on(f, sandboxes::list),
        )
        .query::<ListQuery>()
        .gives::<List<SandboxAnswer>>(),
        Route::get(
            "/v1/sandboxes/{id}",
            "get_sandbox",
            "One sandbox; waits for its end when asked to",
            |f| on(f, sandboxes::get),
        )
        .query::<system::WaitQuery>()
        .gives::<SandboxAnswer>()
        .within(WAITS),
        Route::post(
            "/v1/sandboxes/{id}/kill",
            "kill_sandbox",
            "End a sandbox",
            |f| on(f, sandboxes::kill),
        )
        .takes::<system::Nothing>()
        .gives::<SandboxAnswer>(),
    ]
}

fn log_routes() -> [Route; 7] {
    [
        Route::get(
            "/v1/audit/checkpoint",
            "get_checkpoint",
            "The signed checkpoint over everything that is durable now (C2SP tlog-checkpoint)",
            |f| on(f, log::checkpoint),
        )
        .gives_other("text/plain"),
        Route::get(
            "/v1/audit/leaves/{index}",
            "get_leaf",
            "One leaf, with the proof that it lies in the tree",
            |f| on(f, log::leaf),
        )
        .gives::<log::LeafAnswer>(),
        Route::get(
            "/v1/audit/records",
            "search_records",
            "Records of the log by agent, chain member, action, resource, outcome, kind and time",
            |f| on(f, log::records),
        )
        .query::<log::RecordsQuery>()
        .gives::<log::RecordsAnswer>(),
        Route::get(
            "/v1/audit/keys",
            "get_log_keys",
            "The verifier keys of the log's checkpoints, for monitors and witnesses",
            |f| on(f, log::keys),
        )
        .gives::<log::LogKeysAnswer>(),
        Route::get(
            "/v1/audit/consistency",
            "get_consistency",
            "Proof that the log of one size continues the one of an earlier size",
            |f| on(f, log::consistency),
        )
        .query::<log::ConsistencyQuery>()
        .gives::<log::ConsistencyAnswer>(),
        Route::get(
            "/v1/audit/tile/{*path}",
            "get_tile",
            "A file of the log (C2SP tlog-tiles)",
            |f| on(f, log::tile),
        )
        .gives_other("application/octet-stream"),
        Route::get(
            "/v1/audit/export",
            "export_evidence",
            "The evidence bundle that `creto verify` checks offline; of some payloads only, if asked",
            |f| on(f, export::export),
        )
        .query::<export::ExportQuery>()
        .gives_other(export::ARCHIVE)
        .within(WHOLE_LOG),
    ]
}

fn policy_routes() -> [Route; 12] {
    [
        Route::post(
            "/v1/policies",
            "publish_policies",
            "Publish policies; they are in force when the answer comes",
            |f| on(f, policies::publish),
        )
        .takes::<PublishPoliciesRequest>()
        .gives::<PolicyVersionAnswer>()
        .created()
        .large(),
        Route::get(
            "/v1/policies",
            "list_policy_versions",
            "Published versions, newest first",
            |f| on(f, policies::versions),
        )
        .query::<ListQuery>()
        .gives::<List<PolicyVersionAnswer>>(),
        Route::get(
            "/v1/policies/current",
            "get_policies_in_force",
            "What is really in force",
            |f| on(f, policies::current),
        )
        .gives::<PoliciesInForceAnswer>(),
        Route::get(
            "/v1/policies/{version}",
            "get_policy_version",
            "One published version with its files",
            |f| on(f, policies::version),
        )
        .gives::<PolicyBundleAnswer>(),
        Route::post(
            "/v1/policies/rollback",
            "rollback_policies",
            "Publish an earlier version again, as a new one",
            |f| on(f, policies::rollback),
        )
        .takes::<RollbackPoliciesRequest>()
        .gives::<PolicyVersionAnswer>()
        .created(),
        Route::post(
            "/v1/policies/follow-directory",
            "follow_policy_directory",
            "Serve the configured directory again, and its changes",
            |f| on(f, policies::follow),
        )
        .takes::<FollowRequest>()
        .gives::<FollowAnswer>(),
        Route::post(
            "/v1/policies/validate",
            "validate_policies",
            "Whether files could be published, and what is wrong when not",
            |f| on(f, policies::validate),
        )
        .takes::<FilesRequest>()
        .gives::<ValidationAnswer>()
        .large()
        .question(),
        Route::post(
            "/v1/policies/dry-run",
            "dry_run_policies",
            "Ask a candidate what was decided before",
            |f| on(f, policies::dry_run),
        )
        .takes::<DryRunRequest>()
        .gives::<DryRunAnswer>()
        .large()
        .question(),
        Route::post(
            "/v1/policies/explain",
            "explain_policies",
            "Why a request is answered as it is, and what is missing",
            |f| on(f, policies::explain),
        )
        .takes::<ExplainRequest>()
        .gives::<ExplainAnswer>()
        .large()
        .question(),
        Route::post(
            "/v1/policies/shadow",
            "start_policy_shadow",
            "Ask a candidate beside the policies in force; nothing is enforced",
            |f| on(f, policies::start_shadow),
        )
        .takes::<FilesRequest>()
        .gives::<ShadowAnswer>()
        .large(),
        Route::get(
            "/v1/policies/shadow",
            "get_policy_shadow",
            "What the candidate would have decided differently",
            |f| on(f, policies::shadow),
        )
        .gives::<ShadowAnswer>(),
        Route::post(
            "/v1/policies/shadow/stop",
            "stop_policy_shadow",
            "Ask the candidate no more",
            |f| on(f, policies::stop_shadow),
        )
        .takes::<system::Nothing>()
        .gives::<ShadowAnswer>(),
    ]
}

fn page_routes() -> [Route; 6] {
    [
        Route::get(
            "/oversight",
            "requests_page",
            "What waits for a person",
            |f| on(f, pages::list),
        )
        .query::<pages::ListPageQuery>()
        .page(),
        Route::get(
            "/oversight/requests/{id}",
            "request_page",
            "One request, with the forms to decide it",
            |f| on(f, pages::request),
        )
        .page(),
        Route::post(
            "/oversight/requests/{id}/approve",
            "approve_form",
            "The approval form's target",
            |f| on(f, pages::approve),
        )
        .form::<pages::DecisionForm>(Auth::Page),
        Route::post(
            "/oversight/requests/{id}/deny",
            "deny_form",
            "The denial form's target",
            |f| on(f, pages::deny),
        )
        .form::<pages::DecisionForm>(Auth::Page),
        Route::post(
            "/oversight/login",
            "login_form",
            "The login form's target",
            |f| on(f, pages::login),
        )
        .form::<pages::LoginForm>(Auth::Login),
        Route::post(
            "/oversight/logout",
            "logout_form",
            "Ends the session",
            |f| on(f, pages::logout),
        )
        .form::<pages::LogoutForm>(Auth::Page),
    ]
}
