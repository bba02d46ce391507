//! What a program speaks on a connection, from its first bytes, and those bytes
//! given back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection whose first bytes were read already and will be read again.
pub(super) struct Replayed {
    first: Vec<u8>,
    given: usize,
    stream: TcpStream,
}

impl Replayed {
    pub(super) fn new(first: Vec<u8>, stream: TcpStream) -> Self {
        Self {
            first,
            given: 0,
            stream,
        }
    }

    /// What was read ahead, and the connection.
    pub(super) fn into_parts(self) -> (Vec<u8>, TcpStream) {
        (self.first, self.stream)
    }
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.first.get(this.given..) {
            Some(rest) if !rest.is_empty() => {
                let length = rest.len().min(buffer.remaining());
                if let Some(part) = rest.get(..length) {
                    buffer.put_slice(part);
                }
                this.given = this.given.saturating_add(length);
                Poll::Ready(Ok(()))
            }
            _ => Pin::new(&mut this.stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What the first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http,
    Tls,
    Other,
}

/// The method names of RFC 9110 and PATCH (RFC 5789). A program that uses
/// another one on a port other than 80 is taken for something else than HTTP.
const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];

/// What these bytes are the start of; `None` when more are needed.
fn recognize(bytes: &[u8]) -> Option<Spoken> {
    let first = bytes.first()?;
    if *first == 0x16 {
        // A TLS record of the handshake type (RFC 8446, section 5.1).
        return Some(Spoken::Tls);
    }
    let word = bytes.split(|b| *b == b' ').next().unwrap_or(bytes);
    if word.len() < bytes.len() {
        return Some(if METHODS.contains(&word) {
            Spoken::Http
        } else {
            Spoken::Other
        });
    }
    let may_become = METHODS.iter().any(|method| method.starts_with(bytes));
    (!may_become).then_some(Spoken::Other)
}

/// Reads until it is clear what is spoken. Silence is `Other`.
pub(super) async fn sniff(
    mut stream: TcpStream,
    silence: Duration,
) -> io::Result<(Spoken, Replayed)> {
    let mut first = Vec::new();
    let spoken = loop {
        let mut chunk = [0_u8; 1024];
        let length = match timeout(silence, stream.read(&mut chunk)).await {
            Err(_) | Ok(Ok(0)) => break Spoken::Other,
            Ok(Ok(length)) => length,
            Ok(Err(error)) => return Err(error),
        };
        first.extend_from_slice(chunk.get(..length).unwrap_or_default());
        if let Some(spoken) = recognize(&first) {
            break spoken;
        }
    };
    Ok((spoken, Replayed::new(first, stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_recognized_as_early_as_possible() {
        assert_eq!(recognize(b""), None);
        assert_eq!(recognize(b"\x16\x03"), Some(Spoken::Tls));
        assert_eq!(recognize(b"GE"), None);
        assert_eq!(recognize(b"GET"), None);
        assert_eq!(recognize(b"GET /"), Some(Spoken::Http));
        assert_eq!(recognize(b"OPTIONS * HTTP/1.1"), Some(Spoken::Http));
        assert_eq!(recognize(b"EHLO x"), Some(Spoken::Other));
        assert_eq!(recognize(b"SSH-2.0"), Some(Spoken::Other));
        assert_eq!(recognize(b" GET"), Some(Spoken::Other));
        assert_eq!(recognize(b"PRI * HTTP/2.0"), Some(Spoken::Other));
    }
}
