//! The interface over sockets.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use creto_grpc::{Grpc, Hosts};
use creto_proto::authz::v1::authz_client::AuthzClient;
use http::{Request, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::body::Body;

use crate::world::check;

/// A server on a port of its own.
struct Listening {
    address: std::net::SocketAddr,
    token: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn listening() -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = creto_world::World::new(&address.to_string()).await;
    let grpc = Grpc::new(world.governor, Hosts::of(address), world.ids, world.clock);
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(grpc.serve(listener, async {
        let _ = stopped.await;
    }));
    Listening {
        address,
        token: world.agent,
        stop,
        served,
    }
}

impl Listening {
    async fn connect(&self) -> http2::SendRequest<Body> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }

    fn call(&self, body: Body) -> Request<Body> {
        Request::post(format!(
            "http://{}/creto.authz.v1.Authz/Check",
            self.address
        ))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
        .body(body)
        .unwrap()
    }
}

#[tokio::test]
async fn many_calls_go_over_one_connection() {
    let server = listening().await;
    let sender = server.connect().await;
    let token = format!("Bearer {}", server.token);
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let mut sender = sender.clone();
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, token.parse().unwrap());
        async move {
            let response = sender.send_request(request).await.unwrap();
            Ok::<_, Infallible>(response.map(Body::new))
        }
    });
    let origin: Uri = format!("http://{}", server.address).parse().unwrap();
    let client = AuthzClient::with_origin(service, origin);
    // Fewer than a connection may have at once.
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                client
                    .check(check(None, "history.read", "repo:creto"))
                    .await
            })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().unwrap().into_inner().permitted);
    }
}

#[tokio::test]
async fn a_call_that_began_is_answered_before_the_server_ends() {
    let server = listening().await;
    let mut sender = server.connect().await;
    let (send, receive) = mpsc::channel(1);
    let call = sender.send_request(server.call(Body::new(Late(receive))));
    // Another call on the same connection is answered, so the first one has arrived.
    let other = server.call(Body::empty());
    sender.clone().send_request(other).await.unwrap();

    server.stop.send(()).unwrap();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.served.is_finished(), "it waits for the call");
    send.send(Bytes::from_static(&[0, 0, 0, 0, 0]))
        .await
        .unwrap();
    drop(send);
    let response = call.await.unwrap();
    let read = response.into_body().collect().await.unwrap();
    drop(read);
    drop(sender);
    server.served.await.unwrap();
}

/// A body that is sent as it is given.
struct Late(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|given| given.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[tokio::test]
async fn what_speaks_another_protocol_is_let_go() {
    let server = listening().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
    let _ = ended.await.expect("the server ends the connection");
    assert!(!rest.starts_with(b"HTTP/1.1 200"));

    // One that says nothing, or begins and goes no further, does not keep the server
    // from ending.
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut halting = TcpStream::connect(server.address).await.unwrap();
    halting.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    // Connected last, so the server has taken the two others.
    drop(server.connect().await);
    server.stop.send(()).unwrap();
    server.served.await.unwrap();
    drop((silent, halting));
}
