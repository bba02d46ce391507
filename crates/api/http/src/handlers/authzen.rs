//! Questions in AuthZEN's words.

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, HOST};
use axum::response::{IntoResponse as _, Response};

use crate::app::Shared;
use crate::authzen::{
    Decided, DecodeError, Evaluation, Evaluations, EvaluationsAnswer, Metadata, decode_evaluation,
    decode_evaluations,
};
use crate::error::ApiError;
use crate::extract::{Authenticated, json_body};
use crate::handlers::Reply;

/// The body of an evaluation, or of several.
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

impl From<DecodeError> for ApiError {
    fn from(DecodeError { field, message }: DecodeError) -> Self {
        Self::InvalidBody { field, message }
    }
}

pub(crate) async fn evaluation(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Asked(evaluation): Asked<Evaluation>,
) -> Reply<Decided> {
    let asking = app.governor.asking(&caller)?;
    Ok(Json(asking.ask(&evaluation.question()?)?.into()))
}

pub(crate) async fn evaluations(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Asked(asked): Asked<Evaluations>,
) -> Reply<EvaluationsAnswer> {
    let asking = app.governor.asking(&caller)?;
    let (batch, rule) = match asked {
        Evaluations::One(evaluation) => {
            let answer = asking.ask(&evaluation.question()?)?;
            return Ok(Json(EvaluationsAnswer::One(Box::new(answer.into()))));
        }
        Evaluations::Many { batch, rule } => (batch, rule),
    };
    let mut evaluations = Vec::with_capacity(batch.len());
    for evaluation in batch {
        let answer = match evaluation
            .question()
            .and_then(|question| asking.ask(&question))
        {
            Ok(answer) => Decided::from(answer),
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

pub(crate) async fn metadata(headers: HeaderMap) -> Response {
    // Checked to be one of this server's names; a sandbox's own name for it else.
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let metadata = Json(Metadata::of(host.unwrap_or_default()));
    ([(CACHE_CONTROL, "max-age=300")], metadata).into_response()
}
