//! One function a method: read the message, call the governor, give its answer.

use std::future::Future;
use std::sync::Arc;

use creto_governor::{Caller, GovernError, Governor, MAX_QUESTIONS};
use creto_ingress::CredentialError;
use creto_proto::authz::v1::authz_server::Authz;
use creto_proto::authz::v1::{
    BatchItem, CheckBatchRequest, CheckBatchResponse, CheckRequest, CheckResponse, ReleaseRequest,
    ReleaseResponse, SettleRequest, SettleResponse, SubmitRequest, SubmitResponse, batch_item,
};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::messages;
use crate::refusal::Refusal;

/// The methods.
pub(crate) struct Service {
    governor: Arc<Governor>,
}

impl Service {
    pub(crate) fn new(governor: Arc<Governor>) -> Self {
        Self { governor }
    }

    fn check(&self, caller: &Caller, request: CheckRequest) -> Result<CheckResponse, Refusal> {
        let question = messages::question(request)?;
        Ok(messages::answer(
            self.governor.asking(caller)?.ask(&question)?,
        ))
    }

    async fn check_batch(
        &self,
        caller: &Caller,
        request: CheckBatchRequest,
    ) -> Result<CheckBatchResponse, Refusal> {
        let rule = messages::rule(request.rule)?;
        if !(1..=MAX_QUESTIONS).contains(&request.checks.len()) {
            return Err(Refusal::invalid(
                "checks",
                format!(
                    "1 to {MAX_QUESTIONS} are expected, not {}",
                    request.checks.len()
                ),
            ));
        }
        let asking = self.governor.asking(caller)?;
        let mut items = Vec::with_capacity(request.checks.len());
        for check in request.checks {
            let asked = messages::question(check)
                .and_then(|question| asking.ask(&question).map_err(Refusal::from));
            let (permitted, result) = match asked {
                Ok(answer) => (
                    answer.permitted(),
                    batch_item::Result::Answer(messages::answer(answer)),
                ),
                // What is the server's fault is nobody's answer.
                Err(refusal) if refusal.kind().is_fault() => return Err(refusal),
                Err(refusal) => (false, batch_item::Result::Error(messages::error(&refusal))),
            };
            items.push(BatchItem {
                result: Some(result),
            });
            if rule.ends(permitted) {
                break;
            }
            // A batch takes the time of many questions; others are heard in between.
            tokio::task::yield_now().await;
        }
        Ok(CheckBatchResponse { items })
    }
}

#[tonic::async_trait]
impl Authz for Service {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let (caller, request) = read(request)?;
        Ok(Response::new(Service::check(self, &caller, request)?))
    }

    async fn check_batch(
        &self,
        request: Request<CheckBatchRequest>,
    ) -> Result<Response<CheckBatchResponse>, Status> {
        let (caller, request) = read(request)?;
        let answer = Service::check_batch(self, &caller, request).await?;
        Ok(Response::new(answer))
    }

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let (caller, request) = read(request)?;
        let (request, key) = messages::action(request)?;
        let governor = Arc::clone(&self.governor);
        let answer = change(async move { governor.submit(&caller, request, key).await });
        let answer = answer.await.map_err(Refusal::of_submit)?;
        Ok(Response::new(messages::submitted(answer)))
    }

    async fn settle(
        &self,
        request: Request<SettleRequest>,
    ) -> Result<Response<SettleResponse>, Status> {
        let (caller, request) = read(request)?;
        let id = messages::action_id(&request.action_id)?;
        let key = messages::key(request.idempotency_key.as_deref())?;
        let governor = Arc::clone(&self.governor);
        let units = request.units;
        let answer = change(async move { governor.settle(&caller, id, units, key).await }).await?;
        Ok(Response::new(SettleResponse {
            settlement: Some(messages::settlement(answer)),
        }))
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseResponse>, Status> {
        let (caller, request) = read(request)?;
        let id = messages::action_id(&request.action_id)?;
        let key = messages::key(request.idempotency_key.as_deref())?;
        let governor = Arc::clone(&self.governor);
        let answer = change(async move { governor.release(&caller, id, key).await }).await?;
        Ok(Response::new(ReleaseResponse {
            settlement: Some(messages::settlement(answer)),
        }))
    }
}

/// The message, and who sent it; put there by `front.rs`.
pub(crate) fn read<T>(request: Request<T>) -> Result<(Caller, T), Refusal> {
    let caller = request.extensions().get::<Caller>().cloned();
    let caller = caller.ok_or(CredentialError::Missing)?;
    Ok((caller, request.into_inner()))
}

/// A change runs on by itself: neither a caller that goes away nor the deadline stops
/// it half way.
pub(crate) async fn change<T: Send + 'static>(
    work: impl Future<Output = Result<T, GovernError>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(done) => Ok(done?),
        Err(_panic) => Err(Refusal::Internal),
    }
}
