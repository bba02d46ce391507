//! The sandbox's resolver. It answers from policy and its own table; it has no
//! way to ask anybody else.

use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::names::{is_host_name, normal_name};
use super::session::Session;
use crate::{EgressProtocol, EgressRequest, INTERNAL_HOST};

/// Long enough for any query a stub resolver sends; a longer one is cut and then
/// does not parse.
const MAX_QUERY: usize = 4096;
/// Names keep their address for the sandbox's life, but policy may change.
const TTL_SECONDS: u32 = 5;

/// Answers queries one after the other until the session ends.
pub(super) async fn serve(session: Arc<Session>, socket: UdpSocket) {
    let mut buffer = vec![0_u8; MAX_QUERY];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error for an earlier answer ends up here; the socket
                // itself stays good.
                tracing::debug!(sandbox = %session.sandbox, %error, "dns receive failed");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let Some(query) = buffer.get(..length) else {
            continue;
        };
        let Some(answer) = answer(&session, query).await else {
            continue;
        };
        if let Err(error) = socket.send_to(&answer, peer).await {
            tracing::debug!(sandbox = %session.sandbox, %error, "dns send failed");
        }
    }
}

/// The answer to one query; `None` when the bytes are not a query at all.
async fn answer(session: &Session, bytes: &[u8]) -> Option<Vec<u8>> {
    let request = Message::from_vec(bytes).ok()?;
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    if request.edns.is_some() {
        response.set_edns(Edns::new());
    }
    response.metadata.response_code = match request.queries.as_slice() {
        _ if request.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
        [query] => {
            response.add_query(query.clone());
            let (code, record) = resolve(session, query).await;
            if let Some(record) = record {
                response.add_answer(record);
            }
            code
        }
        _ => ResponseCode::FormErr,
    };
    response.to_vec().ok()
}

async fn resolve(session: &Session, query: &Query) -> (ResponseCode, Option<Record>) {
    let host = normal_name(&query.name().to_ascii());
    if query.query_class() != DNSClass::IN {
        return (ResponseCode::Refused, None);
    }
    if host != INTERNAL_HOST && !allowed(session, &host).await {
        return (ResponseCode::NXDomain, None);
    }
    // An allowed name has one made-up IPv4 address and nothing else.
    if query.query_type() != RecordType::A {
        return (ResponseCode::NoError, None);
    }
    let address = session.names.lock().address(&host);
    match address {
        Some(address) => {
            let data = RData::A(A(address));
            let record = Record::from_rdata(query.name().clone(), TTL_SECONDS, data);
            (ResponseCode::NoError, Some(record))
        }
        None => {
            session
                .refuse(
                    EgressProtocol::Dns,
                    &host,
                    0,
                    "egress_too_many_names",
                    "the sandbox has asked for as many names as it may",
                )
                .await;
            (ResponseCode::Refused, None)
        }
    }
}

async fn allowed(session: &Session, host: &str) -> bool {
    if !is_host_name(host) {
        session
            .refuse(
                EgressProtocol::Dns,
                host,
                0,
                "egress_not_a_host_name",
                "only host names are resolved",
            )
            .await;
        return false;
    }
    let request = EgressRequest {
        host: host.to_owned(),
        port: 0,
        protocol: EgressProtocol::Dns,
    };
    session.decide(&request).await.is_allow()
}
