//! Principals, delegations, tokens.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use creto_governor::{
    AlgorithmsAnswer, CredentialRequest, DelegateRequest, DelegationAnswer, ErasureAnswer,
    ErasureRequest, ExpulsionAnswer, ExpulsionRequest, HumanAnswer, HumanRequest,
    KeyRevocationAnswer, KeyRevocationRequest, LogRetirementAnswer, LogRetirementRequest,
    LogRotationAnswer, PrincipalAnswer, PrincipalKeyAnswer, PrincipalKeyRequest, PrincipalRequest,
    RetirementAnswer, RetirementRequest, RevocationAnswer, RoleAnswer, RoleRequest, RotationAnswer,
    RotationRequest, SelfAnswer, SuspensionAnswer, SuspensionRequest, TokenAnswer, TokenRequest,
};
use creto_ingress::CredentialError;
use creto_types::PrincipalName;

use crate::app::Shared;
use crate::auth::Proven;
use crate::extract::{
    Authenticated, Document, Form, Key, List, ListQuery, Name, Params, parse_after,
};
use crate::handlers::system::Nothing;
use crate::handlers::{Created, Reply};
use crate::oauth::{ExchangeForm, Exchanged};

pub(crate) async fn whoami(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
) -> Reply<SelfAnswer> {
    Ok(Json(app.governor.whoami(&caller)?))
}

pub(crate) async fn create_principal(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<PrincipalRequest>,
) -> Created<PrincipalAnswer> {
    let answer = app.governor.create_principal(&caller, request, key).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(crate) async fn add_human(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<HumanRequest>,
) -> Created<HumanAnswer> {
    let answer = app.governor.add_human(&caller, request, key).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(crate) async fn set_role(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<PrincipalName>,
    Key(key): Key,
    Document(request): Document<RoleRequest>,
) -> Reply<RoleAnswer> {
    let answer = app.governor.set_role(&caller, &name, request, key).await?;
    Ok(Json(answer))
}

pub(crate) async fn renew_human_credential(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<PrincipalName>,
    Key(key): Key,
    Document(request): Document<CredentialRequest>,
) -> Created<HumanAnswer> {
    let governor = &app.governor;
    let answer = governor.renew_human_credential(&caller, &name, request, key);
    Ok((StatusCode::CREATED, Json(answer.await?)))
}

pub(crate) async fn principals(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ListQuery>,
) -> Reply<List<PrincipalAnswer>> {
    let limit = query.limit()?;
    let after = parse_after(query.after.as_deref())?;
    let items = app
        .governor
        .principals(&caller, after.as_ref(), limit + 1)?;
    Ok(Json(List::cut(items, limit, |item| item.name.to_string())))
}

pub(crate) async fn suspend(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<PrincipalName>,
    Key(key): Key,
    Document(request): Document<SuspensionRequest>,
) -> Reply<SuspensionAnswer> {
    let answer = app.governor.suspend_principal(&caller, &name, request, key);
    Ok(Json(answer.await?))
}

pub(crate) async fn resume(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<PrincipalName>,
    Key(key): Key,
    Document(request): Document<SuspensionRequest>,
) -> Reply<SuspensionAnswer> {
    let answer = app.governor.resume_principal(&caller, &name, request, key);
    Ok(Json(answer.await?))
}

pub(crate) async fn erase_subject(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<PrincipalName>,
    Key(key): Key,
    Document(request): Document<ErasureRequest>,
) -> Reply<ErasureAnswer> {
    let answer = app.governor.erase_subject(&caller, &name, request, key);
    Ok(Json(answer.await?))
}

pub(crate) async fn revoke_principal(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<PrincipalName>,
    Key(key): Key,
    Document(request): Document<ExpulsionRequest>,
) -> Reply<ExpulsionAnswer> {
    let answer = app.governor.revoke_principal(&caller, &name, request, key);
    Ok(Json(answer.await?))
}

pub(crate) async fn rotate_principal_key(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<PrincipalName>,
    Key(key): Key,
    Document(request): Document<PrincipalKeyRequest>,
) -> Reply<PrincipalKeyAnswer> {
    let governor = &app.governor;
    let answer = governor.rotate_principal_key(&caller, &name, request, key);
    Ok(Json(answer.await?))
}

pub(crate) async fn revoke_principal_key(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(name): Name<PrincipalName>,
    Key(key): Key,
    Document(request): Document<KeyRevocationRequest>,
) -> Reply<KeyRevocationAnswer> {
    let governor = &app.governor;
    let answer = governor.revoke_principal_key(&caller, &name, request, key);
    Ok(Json(answer.await?))
}

pub(crate) async fn rotate_keys(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<RotationRequest>,
) -> Reply<RotationAnswer> {
    Ok(Json(app.governor.rotate_keys(&caller, request, key).await?))
}

pub(crate) async fn algorithms(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
) -> Reply<AlgorithmsAnswer> {
    Ok(Json(app.governor.algorithms(&caller).await?))
}

pub(crate) async fn retire_keys(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<RetirementRequest>,
) -> Reply<RetirementAnswer> {
    Ok(Json(app.governor.retire_keys(&caller, request, key).await?))
}

pub(crate) async fn rotate_log_keys(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<RotationRequest>,
) -> Reply<LogRotationAnswer> {
    let answer = app.governor.rotate_log_keys(&caller, request, key);
    Ok(Json(answer.await?))
}

pub(crate) async fn retire_log_keys(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<LogRetirementRequest>,
) -> Reply<LogRetirementAnswer> {
    let answer = app.governor.retire_log_keys(&caller, request, key);
    Ok(Json(answer.await?))
}

pub(crate) async fn delegate(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<DelegateRequest>,
) -> Created<DelegationAnswer> {
    let answer = app.governor.delegate(&caller, request, key).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(crate) async fn delegations(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ListQuery>,
) -> Reply<List<DelegationAnswer>> {
    let limit = query.limit()?;
    let after = query.after.as_deref();
    let items = app.governor.delegations(&caller, after, limit + 1)?;
    Ok(Json(List::cut(items, limit, |item| item.id.clone())))
}

pub(crate) async fn delegation(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<String>,
) -> Reply<DelegationAnswer> {
    Ok(Json(app.governor.delegation(&caller, &id)?))
}

pub(crate) async fn revoke(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(id): Name<String>,
    Key(key): Key,
    Document(Nothing {}): Document<Nothing>,
) -> Reply<RevocationAnswer> {
    Ok(Json(app.governor.revoke(&caller, &id, key).await?))
}

pub(crate) async fn issue_token(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Key(key): Key,
    Document(request): Document<TokenRequest>,
) -> Created<TokenAnswer> {
    let answer = app.governor.issue_token(&caller, request, key).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(crate) async fn exchange_token(
    State(app): State<Shared>,
    Extension(Proven(proof)): Extension<Proven>,
    Form(form): Form<ExchangeForm>,
) -> Reply<Exchanged> {
    let mut asked = form.read()?;
    let exchange = app
        .governor
        .authenticate_exchange(&asked.subject, asked.actor.as_deref(), proof.as_ref())
        .map_err(CredentialError::Refused)?;
    let proven = exchange.key.map(String::from);
    asked.request.jkt = asked.request.jkt.or(proven);
    let answer = app
        .governor
        .exchange_token(&exchange.subject, exchange.actor.as_ref(), asked.request)
        .await?;
    let now = app.clock.now();
    Ok(Json(Exchanged::of(answer, asked.issued_type, now)?))
}
