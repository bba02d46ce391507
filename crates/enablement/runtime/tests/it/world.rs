//! A gateway with visible surroundings.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ::http::{Request, Response};
use async_trait::async_trait;
use bytes::Bytes;
use creto_runtime::{
    AddressGuard, Dialer, EgressDecision, EgressEvent, EgressLog, EgressLogError, EgressProtocol,
    EgressRequest, EgressVerdict, Gateway, GatewayConfig, GatewayServices, GatewaySession,
    Incoming, InternalService, ResolveError, Resolver, SandboxId,
};
use creto_types::SystemClock;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

pub(crate) const SANDBOX: &str = "sbx_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e";

/// Policy, log, resolver and internal service in one.
pub(crate) struct Surroundings {
    pub(crate) allowed: Mutex<BTreeSet<String>>,
    /// How many connections limits have room for, where they count them.
    pub(crate) left: Mutex<Option<u32>>,
    pub(crate) addresses: Mutex<BTreeMap<String, IpAddr>>,
    pub(crate) resolved: Mutex<Vec<String>>,
    pub(crate) events: Mutex<Vec<EgressEvent>>,
    /// Nothing can be recorded.
    pub(crate) log_is_full: AtomicBool,
    /// Records are written one after the other, in the order of asking; nothing is
    /// while a test holds this.
    pub(crate) log_turn: tokio::sync::Mutex<()>,
    /// How many requests the internal service was given.
    pub(crate) serving: AtomicUsize,
    /// How many requests of `/wait` may be answered.
    pub(crate) go_on: Semaphore,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            allowed: Mutex::default(),
            left: Mutex::default(),
            addresses: Mutex::default(),
            resolved: Mutex::default(),
            events: Mutex::default(),
            log_is_full: AtomicBool::new(false),
            log_turn: tokio::sync::Mutex::default(),
            serving: AtomicUsize::new(0),
            go_on: Semaphore::new(0),
        }
    }
}

#[async_trait]
impl EgressDecision for Surroundings {
    async fn decide(&self, sandbox: SandboxId, request: &EgressRequest) -> EgressVerdict {
        let verdict = self.decide_again(sandbox, request).await;
        let mut left = self.left.lock();
        let counts = request.protocol != EgressProtocol::Dns;
        match left.as_mut().filter(|_| counts && verdict.is_allow()) {
            None => verdict,
            Some(0) => EgressVerdict::Refuse {
                code: "rate_limited".into(),
                message: "too many connections".into(),
                policies: Vec::new(),
                retry_after: Some(Duration::from_millis(1_500)),
            },
            Some(left) => {
                *left -= 1;
                EgressVerdict::Allow {
                    policies: Vec::new(),
                    on_record: true,
                }
            }
        }
    }

    async fn decide_again(&self, _: SandboxId, request: &EgressRequest) -> EgressVerdict {
        if self.allowed.lock().contains(&request.host) {
            EgressVerdict::Allow {
                policies: Vec::new(),
                on_record: false,
            }
        } else {
            EgressVerdict::Refuse {
                code: "egress_not_allowed".into(),
                message: format!("no policy allows {}", request.host),
                policies: Vec::new(),
                retry_after: None,
            }
        }
    }
}

#[async_trait]
impl EgressLog for Surroundings {
    async fn record(&self, _: SandboxId, event: EgressEvent) -> Result<(), EgressLogError> {
        let _turn = self.log_turn.lock().await;
        if self.log_is_full.load(Ordering::SeqCst) {
            return Err(EgressLogError::unavailable("no space left"));
        }
        self.events.lock().push(event);
        Ok(())
    }
}

#[async_trait]
impl Resolver for Surroundings {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.resolved.lock().push(host.to_owned());
        Ok(self
            .addresses
            .lock()
            .get(host)
            .copied()
            .into_iter()
            .collect())
    }
}

#[async_trait]
impl InternalService for Surroundings {
    async fn serve(&self, sandbox: SandboxId, request: Request<Bytes>) -> Response<Bytes> {
        self.serving.fetch_add(1, Ordering::SeqCst);
        match request.uri().path() {
            "/wait" => self.go_on.acquire().await.expect("open").forget(),
            // More than the buffers of a connection hold.
            "/large" => return Response::new(vec![b'x'; 32 * 1024 * 1024].into()),
            _ => {}
        }
        let text = format!("{sandbox} {} {}", request.uri(), request.body().len());
        Response::new(text.into())
    }
}

struct LocalDialer;

#[async_trait]
impl Dialer for LocalDialer {
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

/// Connections that the test hands over, each with the address it "dialled".
struct HandedOver(mpsc::Receiver<(TcpStream, SocketAddr)>);

#[async_trait]
impl Incoming for HandedOver {
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        match self.0.recv().await {
            Some(connection) => Ok(connection),
            None => std::future::pending().await,
        }
    }
}

pub(crate) struct World {
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) session: GatewaySession,
    hand_over: mpsc::Sender<(TcpStream, SocketAddr)>,
    dns: SocketAddr,
}

impl World {
    /// A gateway that lets the named hosts lead to loopback.
    pub(crate) async fn new(allowed: &[&str]) -> Self {
        Self::with(allowed, true, GatewayConfig::default()).await
    }

    pub(crate) async fn with(allowed: &[&str], connect: bool, config: GatewayConfig) -> Self {
        let surroundings = Arc::new(Surroundings::default());
        for name in allowed {
            surroundings.allowed.lock().insert((*name).to_owned());
            surroundings
                .addresses
                .lock()
                .insert((*name).to_owned(), Ipv4Addr::LOCALHOST.into());
        }
        let gateway = Gateway::new(
            GatewayConfig {
                guard: AddressGuard::allowing(["127.0.0.1".parse().expect("a network")]),
                sniff_timeout: Duration::from_millis(200),
                recheck_interval: Duration::from_millis(50),
                ..config
            },
            Arc::clone(&surroundings) as Arc<dyn Resolver>,
            Arc::new(LocalDialer),
            Arc::new(SystemClock::new()),
        );
        if connect {
            let services = GatewayServices {
                decision: Arc::clone(&surroundings) as Arc<dyn EgressDecision>,
                internal: Arc::clone(&surroundings) as Arc<dyn InternalService>,
                log: Arc::clone(&surroundings) as Arc<dyn EgressLog>,
            };
            assert!(gateway.connect(services.clone()));
            assert!(!gateway.connect(services), "only once");
        }
        let dns = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = dns.local_addr().expect("an address");
        let (hand_over, incoming) = mpsc::channel(8);
        let session = gateway.serve(SANDBOX.parse().expect("an id"), dns, HandedOver(incoming));
        Self {
            surroundings,
            session,
            hand_over,
            dns: address,
        }
    }

    /// Sends these bytes to the resolver and returns its answer, if any.
    pub(crate) async fn datagram(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        socket.send_to(bytes, self.dns).await.expect("sent");
        let mut buffer = vec![0_u8; 2048];
        let length = timeout(Duration::from_millis(300), socket.recv(&mut buffer))
            .await
            .ok()?
            .expect("received");
        buffer.truncate(length);
        Some(buffer)
    }

    pub(crate) async fn query(
        &self,
        name: &str,
        kind: RecordType,
    ) -> (ResponseCode, Vec<Ipv4Addr>) {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        let bytes = message.to_vec().expect("bytes");
        let answer = self.datagram(&bytes).await.expect("an answer");
        let answer = Message::from_vec(&answer).expect("a message");
        assert_eq!(answer.metadata.id, 7);
        let addresses = answer
            .answers
            .iter()
            .map(|record| match &record.data {
                RData::A(address) => address.0,
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        (answer.metadata.response_code, addresses)
    }

    /// The made-up address of an allowed name.
    pub(crate) async fn address(&self, name: &str) -> Ipv4Addr {
        let (code, addresses) = self.query(name, RecordType::A).await;
        assert_eq!(code, ResponseCode::NoError);
        addresses[0]
    }

    /// A connection as if the program had dialled this address.
    pub(crate) async fn dial(&self, address: impl Into<IpAddr>, port: u16) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
        let (gateway_end, _) = accepted.expect("a connection");
        let destination = SocketAddr::new(address.into(), port);
        self.hand_over
            .send((gateway_end, destination))
            .await
            .expect("taken");
        client.expect("a connection")
    }

    /// Dials, sends, and reads to the end.
    pub(crate) async fn exchange(
        &self,
        address: impl Into<IpAddr>,
        port: u16,
        bytes: &[u8],
    ) -> String {
        let mut stream = self.dial(address, port).await;
        stream.write_all(bytes).await.expect("sent");
        read_all(&mut stream).await
    }

    /// The codes of the refusals in the record, with their protocols.
    pub(crate) fn refusals(&self) -> Vec<(EgressProtocol, String)> {
        self.surroundings
            .events
            .lock()
            .iter()
            .filter_map(|event| match &event.verdict {
                EgressVerdict::Refuse { code, .. } => Some((event.protocol, code.clone())),
                EgressVerdict::Allow { .. } => None,
            })
            .collect()
    }
}

/// Everything until the end; a reset reads as `<reset>`.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let result = timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes))
        .await
        .expect("an end in time");
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if result.is_err() {
        text.push_str("<reset>");
    }
    text
}

/// A server that reads once, answers with `answer` (or what it read) and closes.
pub(crate) async fn server(answer: Option<&'static str>) -> (u16, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, told) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0_u8; 65_536];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let read = buffer[..length].to_vec();
                    let reply = answer.map_or(read.clone(), |text| text.as_bytes().to_vec());
                    let _ = tell.send(read).await;
                    if stream.write_all(&reply).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, told)
}

/// A `ClientHello` (RFC 8446, section 4.1.2) with this server name, in one
/// record.
pub(crate) fn client_hello(server_name: Option<&str>) -> Vec<u8> {
    let vector = |width: usize, content: &[u8]| {
        let length = u32::try_from(content.len()).expect("short").to_be_bytes();
        [&length[4 - width..], content].concat()
    };
    let extension =
        |kind: u16, content: &[u8]| [&kind.to_be_bytes()[..], &vector(2, content)].concat();
    let mut extensions = Vec::new();
    if let Some(name) = server_name {
        let entry = [&[0][..], &vector(2, name.as_bytes())].concat();
        extensions.extend(extension(0, &vector(2, &entry)));
    }
    extensions.extend(extension(13, &vector(2, &[4, 3, 8, 4]))); // signature algorithms
    extensions.extend(extension(43, &vector(1, &[3, 4]))); // versions: TLS 1.3
    extensions.extend(extension(10, &vector(2, &[0, 29]))); // groups: X25519
    let share = [&[0, 29][..], &vector(2, &[9; 32])].concat();
    extensions.extend(extension(51, &vector(2, &share)));
    let hello = [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[]),
        &vector(2, &[0x13, 0x01]),
        &vector(1, &[0]),
        &vector(2, &extensions),
    ]
    .concat();
    let handshake = [&[1][..], &vector(3, &hello)].concat();
    [&[0x16, 3, 1][..], &vector(2, &handshake)].concat()
}
