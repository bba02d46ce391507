//! The service `creto.consensus.v1.Timestamps`.

use std::sync::Arc;
use std::time::Duration;

use creto_consensus::{Epoch, TimestampRange};
use creto_governor::{Caller, Event, Governor};
use creto_ingress::CredentialError;
use creto_proto::consensus::v1::timestamps_server;
use creto_proto::consensus::v1::{
    self as wire, OrderRequest, OrderResponse, ReserveRequest, ReserveResponse,
};
use creto_telemetry::RequestId;
use futures_util::stream;
use tokio::time::Instant;
use tonic::codegen::BoxStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::authz::{change, read};
use crate::listen::Stopping;
use crate::messages;
use crate::refusal::Refusal;
use crate::timeout;

/// The methods.
pub(crate) struct Timestamps {
    governor: Arc<Governor>,
}

impl Timestamps {
    pub(crate) fn new(governor: Arc<Governor>) -> Self {
        Self { governor }
    }
}

#[tonic::async_trait]
impl timestamps_server::Timestamps for Timestamps {
    type ReserveStreamStream = BoxStream<ReserveResponse>;

    async fn reserve(
        &self,
        request: Request<ReserveRequest>,
    ) -> Result<Response<ReserveResponse>, Status> {
        let caller = caller(&request)?;
        let count = request.into_inner().count;
        let reserved = self.governor.reserve_timestamps(&caller, count).await;
        Ok(Response::new(answer(reserved.map_err(Refusal::from)?)))
    }

    async fn reserve_stream(
        &self,
        request: Request<Streaming<ReserveRequest>>,
    ) -> Result<Response<Self::ReserveStreamStream>, Status> {
        let caller = caller(&request)?;
        // Nobody holds a stream open who would get nothing from it.
        let heard = self.governor.may_reserve_timestamps(&caller);
        heard.map_err(Refusal::from)?;
        let conversation = Conversation {
            caller,
            id: request.extensions().get::<RequestId>().copied(),
            stopping: request.extensions().get::<Stopping>().cloned(),
            until: timeout::given(request.metadata().as_ref())?.and_then(after),
            governor: Arc::clone(&self.governor),
            requests: request.into_inner(),
        };
        let answers = stream::unfold(Some(conversation), |conversation| async move {
            let mut conversation = conversation?;
            match conversation.next().await? {
                Ok(range) => Some((Ok(answer(range)), Some(conversation))),
                // The last word.
                Err(refusal) => Some((Err(conversation.refuse(&refusal)), None)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn order(
        &self,
        request: Request<OrderRequest>,
    ) -> Result<Response<OrderResponse>, Status> {
        let (caller, request) = read(request)?;
        let key = messages::key(request.idempotency_key.as_deref())?;
        let events = request.events.into_iter().map(event);
        let events = events.collect::<Result<Vec<_>, _>>()?;
        let governor = Arc::clone(&self.governor);
        let ordered =
            change(async move { governor.order_events(&caller, events, key).await }).await?;
        Ok(Response::new(OrderResponse {
            first: ordered.first.0,
            timestamps: ordered.timestamps.iter().map(|ts| ts.as_u64()).collect(),
            epoch: ordered.epoch.map(Epoch::as_u64),
        }))
    }
}

fn event(given: wire::Event) -> Result<Event, Refusal> {
    let len = given.sha256.len();
    let sha256 = given.sha256.try_into().map_err(|_| {
        Refusal::invalid(
            "sha256",
            format!("a digest of 32 bytes is expected, not {len}"),
        )
    })?;
    Ok(Event {
        sha256,
        label: given.label,
    })
}

/// One stream: the requests, and what its answers need.
struct Conversation {
    governor: Arc<Governor>,
    caller: Caller,
    id: Option<RequestId>,
    stopping: Option<Stopping>,
    /// The caller's own deadline. There is no other: whoever pipelines stays.
    until: Option<Instant>,
    requests: Streaming<ReserveRequest>,
}

impl Conversation {
    /// The next answer; none when the stream is over.
    async fn next(&mut self) -> Option<Result<TimestampRange, Refusal>> {
        let ended = async {
            match &mut self.stopping {
                Some(stopping) => stopping.told().await,
                None => std::future::pending().await,
            }
        };
        let late = async {
            match self.until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let request = tokio::select! {
            biased;
            () = late => return Some(Err(Refusal::TimedOut)),
            () = ended => return None,
            request = self.requests.message() => request,
        };
        match request {
            Ok(Some(request)) => {
                let reserved = self
                    .governor
                    .reserve_timestamps(&self.caller, request.count);
                Some(reserved.await.map_err(Refusal::from))
            }
            Ok(None) => None,
            // Whoever asked has gone.
            Err(status) if matches!(status.code(), Code::Cancelled | Code::Unavailable) => None,
            Err(status) => Some(Err(Refusal::of_framing(&status))),
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Status {
        self.governor.metrics().error(refusal);
        match &self.id {
            Some(id) => refusal.to_status(id),
            None => Status::new(refusal.status(), refusal.to_string()),
        }
    }
}

fn after(limit: Duration) -> Option<Instant> {
    Instant::now().checked_add(limit)
}

/// Put there by `front.rs`.
fn caller<T>(request: &Request<T>) -> Result<Caller, Refusal> {
    let caller = request.extensions().get::<Caller>().cloned();
    Ok(caller.ok_or(CredentialError::Missing)?)
}

fn answer(range: TimestampRange) -> ReserveResponse {
    ReserveResponse {
        first: range.first().as_u64(),
        count: range.count().get(),
    }
}
