//! Timestamps of a server that runs elsewhere.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use creto_consensus::{HybridTimestamp, OracleError, TimestampOracle, TimestampRange};
use creto_errors::Class;
use creto_governor::MAX_TIMESTAMPS;
use creto_proto::consensus::v1::timestamps_client::TimestampsClient;
use creto_proto::consensus::v1::{ReserveRequest, ReserveResponse};
use futures_util::stream;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Uri};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tonic::body::Body;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

/// Calls that wait; those past it wait for room.
const QUEUE: usize = 16_384;

/// Requests under way on the one stream.
const UNDER_WAY: usize = 8;

/// The most calls that one request is for.
const BATCH: usize = 4_096;

/// How long connecting may take, from the first packet to the server's consent.
const CONNECTING: Duration = Duration::from_secs(10);

/// How often a silent server is asked whether it is there, and how long it may take.
const ARE_YOU_THERE: Duration = Duration::from_secs(10);
const I_AM: Duration = Duration::from_secs(10);

/// The oracle of another process, over the service `creto.consensus.v1.Timestamps`, by a
/// bearer token: it proves no key, so a credential that is bound to one is refused.
///
/// All callers share one stream. Those that wait while a request is under way are asked
/// for together, so many callers cost few messages. A connection that breaks fails the
/// calls that wait for an answer, with [`OracleError::Unreachable`]; the next call
/// connects anew. What a lost answer held is never handed out again.
#[derive(Clone, Debug)]
pub struct RemoteOracle {
    calls: mpsc::Sender<Call>,
}

#[derive(Debug)]
struct Call {
    count: NonZeroU32,
    answer: oneshot::Sender<Result<TimestampRange, OracleError>>,
}

/// The credential cannot stand in a header.
#[derive(Debug, thiserror::Error)]
#[error("the credential is not a bearer token: it has characters that no token has")]
pub struct MalformedToken;

impl RemoteOracle {
    /// Of the server that answers gRPC at `address`, for whoever this token stands for,
    /// who has to be the organization's owner. Connects with the first call.
    ///
    /// Must be called inside a Tokio runtime; ends with its last clone.
    pub fn new(address: SocketAddr, token: &str) -> Result<Self, MalformedToken> {
        let mut token =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| MalformedToken)?;
        token.set_sensitive(true);
        let origin = Uri::builder()
            .scheme("http")
            .authority(address.to_string())
            .path_and_query("/")
            .build()
            .map_err(|_| MalformedToken)?;
        let (calls, waiting) = mpsc::channel(QUEUE);
        let line = Line {
            address,
            origin,
            token,
            waiting,
            next: None,
        };
        tokio::spawn(line.run());
        Ok(Self { calls })
    }
}

#[async_trait]
impl TimestampOracle for RemoteOracle {
    async fn reserve(&self, count: NonZeroU32) -> Result<TimestampRange, OracleError> {
        if count.get() > MAX_TIMESTAMPS {
            return Err(OracleError::Refused {
                class: Class::Permanent,
                message: format!("at most {MAX_TIMESTAMPS} are reserved at once, not {count}"),
            });
        }
        let (answer, answered) = oneshot::channel();
        let call = Call { count, answer };
        self.calls.send(call).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the connection ended")]
    Ended,
    #[error("connecting took longer than {CONNECTING:?}")]
    Slow,
    #[error("the runtime of the connection has stopped")]
    Gone,
    #[error("{0}")]
    Because(String),
}

fn gone() -> OracleError {
    OracleError::Unreachable(Box::new(Broken::Gone))
}

/// Who talks to the server.
struct Line {
    address: SocketAddr,
    origin: Uri,
    token: HeaderValue,
    waiting: mpsc::Receiver<Call>,
    /// A call that had no room in the last request.
    next: Option<Call>,
}

/// One connection with its stream.
struct Stream {
    requests: mpsc::Sender<ReserveRequest>,
    answers: Streaming<ReserveResponse>,
}

/// The calls of one request, and how many timestamps they want.
struct Batch {
    calls: Vec<Call>,
    count: NonZeroU32,
}

impl Line {
    async fn run(mut self) {
        while let Some(call) = self.call().await {
            let connected = tokio::time::timeout(CONNECTING, self.connect()).await;
            match connected {
                Ok(Ok(stream)) => {
                    self.next = Some(call);
                    self.converse(stream).await;
                }
                Ok(Err(error)) => fail([call], || same(&error)),
                Err(_slow) => fail([call], || OracleError::Unreachable(Box::new(Broken::Slow))),
            }
        }
    }

    async fn call(&mut self) -> Option<Call> {
        match self.next.take() {
            Some(call) => Some(call),
            None => self.waiting.recv().await,
        }
    }

    async fn connect(&self) -> Result<Stream, OracleError> {
        let tcp = TcpStream::connect(self.address).await.map_err(broken)?;
        // Requests are small and waited for.
        tcp.set_nodelay(true).map_err(broken)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(ARE_YOU_THERE)
            .keep_alive_timeout(I_AM)
            .handshake::<_, Body>(TokioIo::new(tcp))
            .await
            .map_err(broken)?;
        // Ends when the stream does; what went wrong shows there.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let token = self.token.clone();
        let service = tower::service_fn(move |mut request: Request<Body>| {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
            let mut sender = sender.clone();
            async move {
                let answer = sender.send_request(request).await;
                answer.map(|answer| answer.map(Body::new))
            }
        });
        let mut client = TimestampsClient::with_origin(service, self.origin.clone());
        let (requests, asked) = mpsc::channel(UNDER_WAY);
        let asked = stream::unfold(asked, |mut asked| async move {
            let request = asked.recv().await?;
            Some((request, asked))
        });
        let answers = client.reserve_stream(asked).await;
        Ok(Stream {
            requests,
            answers: answers.map_err(|status| said(&status))?.into_inner(),
        })
    }

    /// Asks and hands out until the stream ends.
    async fn converse(&mut self, mut stream: Stream) {
        let mut under_way: VecDeque<Batch> = VecDeque::with_capacity(UNDER_WAY);
        loop {
            let room = under_way.len() < UNDER_WAY;
            tokio::select! {
                biased;
                answer = stream.answers.message() => {
                    let outcome = match answer {
                        Ok(Some(answer)) => hand_out(under_way.pop_front(), &answer),
                        Ok(None) => Err(OracleError::Unreachable(Box::new(Broken::Ended))),
                        Err(status) => Err(said(&status)),
                    };
                    if let Err(error) = outcome {
                        let calls = under_way.into_iter().flat_map(|batch| batch.calls);
                        return fail(calls, || same(&error));
                    }
                }
                call = self.call(), if room => {
                    let Some(call) = call else { return };
                    let batch = self.batch(call);
                    let request = ReserveRequest { count: batch.count.get() };
                    // There is room for as many requests as may be under way. A stream
                    // that is gone shows in its answers.
                    let _ = stream.requests.try_send(request);
                    under_way.push_back(batch);
                }
            }
        }
    }

    /// This call, and whoever waits behind it.
    fn batch(&mut self, first: Call) -> Batch {
        let mut count = first.count;
        let mut calls = vec![first];
        while calls.len() < BATCH
            && let Ok(call) = self.waiting.try_recv()
        {
            let sum = count.saturating_add(call.count.get());
            if sum.get() > MAX_TIMESTAMPS {
                self.next = Some(call);
                break;
            }
            count = sum;
            calls.push(call);
        }
        Batch { calls, count }
    }
}

/// Gives each call of the batch its own part of the answer.
fn hand_out(batch: Option<Batch>, answer: &ReserveResponse) -> Result<(), OracleError> {
    let nonsense = || OracleError::Refused {
        class: Class::Permanent,
        message: "its answer is not what was asked for".to_owned(),
    };
    let Some(batch) = batch else {
        return Err(nonsense());
    };
    let range = (answer.count == batch.count.get())
        .then(|| TimestampRange::new(HybridTimestamp::from_u64(answer.first), batch.count))
        .flatten();
    let Some(range) = range else {
        fail(batch.calls, nonsense);
        return Err(nonsense());
    };
    let mut rest = Some(range);
    for call in batch.calls {
        let own = rest.and_then(|range| match range.split(call.count) {
            Some((own, left)) => {
                rest = Some(left);
                Some(own)
            }
            // The last one takes all that is left.
            None => rest.take(),
        });
        // Whoever asked may have gone; nobody else gets it.
        let _ = call.answer.send(own.ok_or_else(nonsense));
    }
    Ok(())
}

fn fail(calls: impl IntoIterator<Item = Call>, error: impl Fn() -> OracleError) {
    for call in calls {
        let _ = call.answer.send(Err(error()));
    }
}

/// For one more of those who waited.
fn same(error: &OracleError) -> OracleError {
    match error {
        OracleError::Refused { class, message } => OracleError::Refused {
            class: *class,
            message: message.clone(),
        },
        other => OracleError::Unreachable(Box::new(Broken::Because(creto_errors::chain(other)))),
    }
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> OracleError {
    OracleError::Unreachable(Box::new(error))
}

/// A status of the server's own says its class; any other is the connection's.
fn said(status: &Status) -> OracleError {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        return match status.code() {
            Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => {
                OracleError::Refused {
                    class: Class::Permanent,
                    message: status.to_string(),
                }
            }
            _ => broken(status.clone()),
        };
    };
    let class = match info.metadata.get("class").map(String::as_str) {
        Some("transient") => Class::Transient,
        Some("degraded") => Class::Degraded,
        Some("security") => Class::Security,
        _ => Class::Permanent,
    };
    let code = info.metadata.get("code").map_or("", String::as_str);
    OracleError::Refused {
        class,
        message: format!("{} ({code})", status.message()),
    }
}
