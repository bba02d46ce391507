//! Policies: published, looked at, tried.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use creto_governor::{
    DryRunAnswer, DryRunRequest, ExplainAnswer, ExplainRequest, FilesRequest, FollowAnswer,
    FollowRequest, PoliciesInForceAnswer, PolicyBundleAnswer, PolicyVersionAnswer,
    PublishPoliciesRequest, RollbackPoliciesRequest, ShadowAnswer, ValidationAnswer,
};

use crate::app::Shared;
use crate::extract::{Authenticated, Document, Key, List, ListQuery, Name, Params, parse_after};
use crate::handlers::system::Nothing;
use crate::handlers::{Created, Reply};

pub(crate) async fn publish(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<PublishPoliciesRequest>,
) -> Created<PolicyVersionAnswer> {
    let answer = app.governor.publish_policies(&caller, request, key).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(crate) async fn rollback(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<RollbackPoliciesRequest>,
) -> Created<PolicyVersionAnswer> {
    let answer = app
        .governor
        .rollback_policies(&caller, request, key)
        .await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(crate) async fn follow(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<FollowRequest>,
) -> Reply<FollowAnswer> {
    let governor = &app.governor;
    Ok(Json(
        governor
            .follow_policy_directory(&caller, request, key)
            .await?,
    ))
}

pub(crate) async fn versions(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ListQuery>,
) -> Reply<List<PolicyVersionAnswer>> {
    let limit = query.limit()?;
    let before = parse_after(query.after.as_deref())?;
    let items = app
        .governor
        .policy_versions(&caller, before, limit + 1)
        .await?;
    Ok(Json(List::cut(items, limit, |item| {
        item.version.to_string()
    })))
}

pub(crate) async fn current(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
) -> Reply<PoliciesInForceAnswer> {
    Ok(Json(app.governor.policies_in_force(&caller)?))
}

pub(crate) async fn version(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(version): Name<u64>,
) -> Reply<PolicyBundleAnswer> {
    Ok(Json(app.governor.policy_version(&caller, version).await?))
}

pub(crate) async fn validate(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Document(request): Document<FilesRequest>,
) -> Reply<ValidationAnswer> {
    let governor = &app.governor;
    Ok(Json(governor.validate_policies(&caller, request).await?))
}

pub(crate) async fn dry_run(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Document(request): Document<DryRunRequest>,
) -> Reply<DryRunAnswer> {
    let governor = &app.governor;
    Ok(Json(governor.dry_run_policies(&caller, request).await?))
}

pub(crate) async fn explain(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Document(request): Document<ExplainRequest>,
) -> Reply<ExplainAnswer> {
    let governor = &app.governor;
    Ok(Json(governor.explain_policies(&caller, request).await?))
}

pub(crate) async fn start_shadow(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<FilesRequest>,
) -> Reply<ShadowAnswer> {
    let governor = &app.governor;
    Ok(Json(
        governor.start_policy_shadow(&caller, request, key).await?,
    ))
}

pub(crate) async fn stop_shadow(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(Nothing {}): Document<Nothing>,
) -> Reply<ShadowAnswer> {
    Ok(Json(app.governor.stop_policy_shadow(&caller, key).await?))
}

pub(crate) async fn shadow(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
) -> Reply<ShadowAnswer> {
    Ok(Json(app.governor.policy_shadow(&caller)?))
}
