//! Questions in AuthZEN's words.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::header::{CACHE_CONTROL, HOST, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use creto_governor::{
    Caller, GovernError, IdempotencyKey, OutcomeKind, OversightAnswer, Question, QuestionAnswer,
};

use crate::app::{App, Shared};
use crate::authzen::{
    self, Access, Approval, Decided, DecodeError, Evaluation, Evaluations, EvaluationsAnswer,
    Metadata, TaskAnswer, decode_access_request, decode_evaluation, decode_evaluations,
};
use crate::error::ApiError;
use crate::extract::{Authenticated, Key, Name, Params, json_body, wait};
use crate::handlers::Reply;
use crate::handlers::system::WaitQuery;

/// The body of an evaluation, of several, or of a request for access.
pub(crate) struct Asked<T>(T);

impl<S: Send + Sync> FromRequest<S> for Asked<Evaluation> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = json_body(request, state).await?;
        Ok(Self(decode_evaluation(&body)?))
    }
}

impl<S: Send + Sync> FromRequest<S> for Asked<Evaluations> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = json_body(request, state).await?;
        Ok(Self(decode_evaluations(&body)?))
    }
}

impl<S: Send + Sync> FromRequest<S> for Asked<Access> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = json_body(request, state).await?;
        Ok(Self(decode_access_request(&body)?))
    }
}

/// How the request knows this server: one of its names, or a sandbox's own for it.
pub(crate) struct Base(String);

impl<S: Send + Sync> FromRequestParts<S> for Base {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(base(&parts.headers)))
    }
}

fn base(headers: &HeaderMap) -> String {
    // `hosts.rs` checked it.
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    authzen::base(host.unwrap_or_default())
}

impl From<DecodeError> for ApiError {
    fn from(DecodeError { field, message }: DecodeError) -> Self {
        Self::InvalidBody { field, message }
    }
}

pub(crate) async fn evaluation(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Base(base): Base,
    Key(key): Key,
    Asked(evaluation): Asked<Evaluation>,
) -> Reply<Decided> {
    let one = evaluated(&app, &caller, &evaluation, key, &base).await?;
    Ok(Json(one))
}

/// A single evaluation: a question, or the action itself when it carries an approval.
async fn evaluated(
    app: &App,
    caller: &Caller,
    evaluation: &Evaluation,
    key: Option<IdempotencyKey>,
    base: &str,
) -> Result<Decided, ApiError> {
    let question = evaluation.question()?;
    let Some(reference) = evaluation.approval() else {
        let answer = app.governor.asking(caller)?.ask(&question)?;
        return decided(app, caller, &question, answer, base);
    };
    let id = reference.request.clone();
    let governor = &app.governor;
    let answer = governor
        .use_approval(caller, &question, reference, key)
        .await?;
    let approval = match answer.outcome {
        OutcomeKind::Allow => {
            let request = governor.access_request(caller, &id, None).await?;
            Some(Approval::without_state(&request))
        }
        _ => None,
    };
    Ok(Decided::of_action(answer, approval))
}

/// The answer with what is needed to request access, where that may be.
fn decided(
    app: &App,
    caller: &Caller,
    question: &Question,
    answer: QuestionAnswer,
    base: &str,
) -> Result<Decided, ApiError> {
    let requestable = answer.approval.as_ref().is_some_and(|it| it.requestable);
    let proof = match requestable {
        true => Some(app.denials.prove(caller, question)?),
        false => None,
    };
    Ok(Decided::of(answer, proof, base))
}

pub(crate) async fn evaluations(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Base(base): Base,
    Key(key): Key,
    Asked(asked): Asked<Evaluations>,
) -> Reply<EvaluationsAnswer> {
    let (batch, rule) = match asked {
        Evaluations::One(evaluation) => {
            let one = evaluated(&app, &caller, &evaluation, key, &base).await?;
            return Ok(Json(EvaluationsAnswer::One(Box::new(one))));
        }
        Evaluations::Many { batch, rule } => (batch, rule),
    };
    let asking = app.governor.asking(&caller)?;
    let mut evaluations = Vec::with_capacity(batch.len());
    for evaluation in batch {
        let asked =
            one_of_many(&evaluation).and_then(|question| Ok((asking.ask(&question)?, question)));
        let answer = match asked {
            Ok((answer, question)) => decided(&app, &caller, &question, answer, &base)?,
            Err(error) => Decided::failed(error)?,
        };
        let last = rule.ends(answer.decision);
        evaluations.push(answer);
        if last {
            break;
        }
        // A batch takes the time of many questions; others are heard in between.
        tokio::task::yield_now().await;
    }
    Ok(Json(EvaluationsAnswer::Many { evaluations }))
}

/// The use of an approval is the action itself, so it is no part of a batch.
fn one_of_many(evaluation: &Evaluation) -> Result<Question, GovernError> {
    if evaluation.approval().is_some() {
        return Err(GovernError::Invalid {
            field: "context",
            message: "an approval is used by a single evaluation: POST /access/v1/evaluation"
                .to_owned(),
        });
    }
    evaluation.question()
}

pub(crate) async fn request_access(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Base(base): Base,
    Key(key): Key,
    Asked(access): Asked<Access>,
) -> Result<Response, ApiError> {
    let denial = app.denials.recognize(access.denial())?;
    let request = access.request(denial.facts())?;
    app.denials.check(&caller, &request.question, &denial)?;
    let request = app.governor.request_access(&caller, request, key).await;
    let task = task(&app, request.map_err(in_profile)?, &base);
    let status = match task.is_pending() {
        true => StatusCode::ACCEPTED,
        false => StatusCode::CREATED,
    };
    let location = [(LOCATION, task.task.status_endpoint.clone())];
    Ok((status, location, Json(task)).into_response())
}

pub(crate) async fn access_request(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Base(base): Base,
    Name(id): Name<String>,
    Params(query): Params<WaitQuery>,
) -> Reply<TaskAnswer> {
    let wait = wait(query.wait_seconds)?;
    let request = app.governor.access_request(&caller, &id, wait).await;
    Ok(Json(task(&app, request.map_err(in_profile)?, &base)))
}

fn task(app: &App, request: OversightAnswer, base: &str) -> TaskAnswer {
    let review = app.governor.approver_page(&request.id);
    TaskAnswer::of(request, base, review, app.clock.now())
}

/// The profile has its own words for some refusals.
fn in_profile(error: GovernError) -> ApiError {
    match error {
        GovernError::NotFound { .. } => ApiError::UnknownTask,
        GovernError::IdempotencyKeyReused => ApiError::DuplicateRequest,
        other => other.into(),
    }
}

pub(crate) async fn metadata(headers: HeaderMap) -> Response {
    let metadata = Json(Metadata::of(base(&headers)));
    ([(CACHE_CONTROL, "max-age=300")], metadata).into_response()
}
