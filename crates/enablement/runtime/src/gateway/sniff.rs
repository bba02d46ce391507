//! What a program speaks on a connection, from its first bytes, and those bytes
//! given back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

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
        poll_replayed(&this.first, &mut this.given, &mut this.stream, cx, buffer)
    }
}

/// Gives what was read ahead, then what comes.
fn poll_replayed(
    first: &[u8],
    given: &mut usize,
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    match first.get(*given..) {
        Some(rest) if !rest.is_empty() => {
            let length = rest.len().min(buffer.remaining());
            if let Some(part) = rest.get(..length) {
                buffer.put_slice(part);
            }
            *given = given.saturating_add(length);
            Poll::Ready(Ok(()))
        }
        _ => Pin::new(stream).poll_read(cx, buffer),
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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
    /// Neither of them.
    Other,
    /// Nothing yet.
    Silent,
    /// Too little, for too long, or too much of one line, to tell.
    Unclear,
}

/// The method names of RFC 9110 and PATCH (RFC 5789): a line that begins with one
/// is HTTP, whatever its end says. With any other method the end of the line
/// tells.
const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];

/// How much of a first line is waited for. Common servers take 8 KiB.
const MAX_LINE: usize = 8 * 1024;

/// What these bytes are the start of; `None` when more are needed.
///
/// HTTP is recognized as the most lenient server would: after blank lines and
/// white space, with any method, with any white space between the words, in any
/// case (RFC 9112, sections 2.2 and 3). What is no proper request all the same is
/// refused by the HTTP parser later.
///
/// A header of the PROXY protocol is unclear: what follows it may be HTTP for a
/// server that takes the header off.
fn recognize(bytes: &[u8]) -> Option<Spoken> {
    match bytes {
        // A record (RFC 8446, section 5.1) with the handshake, or with a warning
        // or a change of cipher, which some servers skip before it.
        [0x16, ..] | [0x14 | 0x15 | 0x17, 0x03, ..] => return Some(Spoken::Tls),
        [0x14 | 0x15 | 0x17] => return None,
        // How the binary form of the PROXY protocol begins.
        [b'\r', b'\n', b'\r', b'\n', 0, ..] => return Some(Spoken::Unclear),
        _ => {}
    }
    let unclear = (bytes.len() > MAX_LINE).then_some(Spoken::Unclear);
    let Some(start) = bytes.iter().position(|b| !is_blank(*b) && *b != b'\n') else {
        return unclear;
    };
    let text = bytes.get(start..).unwrap_or_default();
    let whole = text.contains(&b'\n');
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let method = line.split(|b| is_blank(*b)).next().unwrap_or_default();
    let ended = method.len() < line.len();
    if ended && method.eq_ignore_ascii_case(b"PROXY") {
        return Some(Spoken::Unclear);
    }
    let versioned = line
        .split(|b| is_blank(*b))
        .skip(1)
        .filter_map(|word| word.get(..5))
        .any(|start| start.eq_ignore_ascii_case(b"HTTP/"));
    if versioned || (ended && METHODS.contains(&method)) {
        Some(Spoken::Http)
    } else if whole || !method.iter().all(u8::is_ascii_graphic) {
        // No server takes a word with such bytes for a method.
        Some(Spoken::Other)
    } else {
        unclear
    }
}

/// White space within a line, as RFC 9112, section 3 lists it.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | b'\r')
}

/// Reads until it is clear what is spoken. `silence` is how long the first byte
/// may take, `patience` how long the rest.
pub(super) async fn sniff(
    mut stream: TcpStream,
    silence: Duration,
    patience: Duration,
) -> io::Result<(Spoken, Replayed)> {
    let mut first = Vec::new();
    let spoken = match timeout(silence, more(&mut stream, &mut first)).await {
        Err(_) => Spoken::Silent,
        Ok(read) => match read? {
            Some(spoken) => spoken,
            None => {
                let clear = async {
                    loop {
                        if let Some(spoken) = more(&mut stream, &mut first).await? {
                            return Ok::<_, io::Error>(spoken);
                        }
                    }
                };
                match timeout(patience, clear).await {
                    Err(_) => Spoken::Unclear,
                    Ok(spoken) => spoken?,
                }
            }
        },
    };
    Ok((spoken, Replayed::new(first, stream)))
}

async fn more(stream: &mut TcpStream, first: &mut Vec<u8>) -> io::Result<Option<Spoken>> {
    let mut chunk = [0_u8; 1024];
    let length = stream.read(&mut chunk).await?;
    if length == 0 {
        // A line that will never end is no request.
        return Ok(Some(Spoken::Other));
    }
    first.extend_from_slice(chunk.get(..length).unwrap_or_default());
    Ok(recognize(first))
}

/// A connection on which the program has said nothing yet: what it says first,
/// whenever that is, can be read only once it is clear that it is neither HTTP
/// nor TLS. Otherwise reading fails, and [`Watched::into_parts`] tells why.
pub(super) struct Watched {
    stream: TcpStream,
    first: Vec<u8>,
    given: usize,
    /// It is neither; everything may be read.
    clear: bool,
    found: Option<Spoken>,
    patience: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self {
            stream,
            first: Vec::new(),
            given: 0,
            clear: false,
            found: None,
            patience,
            deadline: None,
        }
    }

    /// What must not pass unchecked, if that is what was said, its bytes so far,
    /// and the connection.
    pub(super) fn into_parts(self) -> (Option<Spoken>, Vec<u8>, TcpStream) {
        (self.found, self.first, self.stream)
    }

    /// Reads until it is clear.
    fn poll_clear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.clear {
            if self.found.is_some() {
                let error = io::Error::new(io::ErrorKind::InvalidData, "not what it seemed");
                return Poll::Ready(Err(error));
            }
            let mut chunk = [0_u8; 1024];
            let mut part = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.stream).poll_read(cx, &mut part) {
                Poll::Pending if self.first.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    let patience = self.patience;
                    let deadline = self
                        .deadline
                        .get_or_insert_with(|| Box::pin(sleep(patience)));
                    if deadline.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.found = Some(Spoken::Unclear);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if part.filled().is_empty() => self.clear = true,
                Poll::Ready(Ok(())) => {
                    self.first.extend_from_slice(part.filled());
                    match recognize(&self.first) {
                        None => {}
                        Some(Spoken::Other) => self.clear = true,
                        found => self.found = found,
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        std::task::ready!(this.poll_clear(cx))?;
        poll_replayed(&this.first, &mut this.given, &mut this.stream, cx, buffer)
    }
}

impl AsyncWrite for Watched {
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
        assert_eq!(recognize(b"EHLO x\r\n"), Some(Spoken::Other));
        assert_eq!(recognize(b"SSH-2.0-x\r\n"), Some(Spoken::Other));
        assert_eq!(recognize(b"*1\r\n$4\r\nPING\r\n"), Some(Spoken::Other));
        assert_eq!(recognize(b"\0\0\0\x08\x04"), Some(Spoken::Other));
        assert_eq!(recognize(b"\x15\x01"), Some(Spoken::Other));
    }

    #[test]
    fn http_is_recognized_as_a_lenient_server_would() {
        for request in [
            "PROPFIND /x HTTP/1.1",
            "get / http/1.1",
            "\r\n\r\nMKCOL /x HTTP/1.1",
            " GET /",
            "PURGE\t/x \x0bHTTP/1.0",
            "PRI * HTTP/2.0",
            "LIST / HTTP/1.1 and more",
        ] {
            assert_eq!(
                recognize(request.as_bytes()),
                Some(Spoken::Http),
                "{request:?}"
            );
        }
        // Not before the line can be told from a request.
        for start in ["\r\n", "PROPFIND", "PROPFIND /x", "PROPFIND /x HTTP"] {
            assert_eq!(recognize(start.as_bytes()), None, "{start:?}");
        }
        assert_eq!(recognize(b"\x15"), None);
        // A method that is no token is one for some server all the same.
        assert_eq!(recognize(b"G@T / HTTP/1.1\r\n"), Some(Spoken::Http));
        assert_eq!(recognize(b"G@T"), None);
        assert_eq!(recognize(b"{\"a\": 1}\n"), Some(Spoken::Other));
        assert_eq!(recognize(b"\x15\x03\x03"), Some(Spoken::Tls));
        let long = format!("PROPFIND /{}", "x".repeat(MAX_LINE));
        assert_eq!(recognize(long.as_bytes()), Some(Spoken::Unclear));
    }

    #[test]
    fn what_may_be_taken_off_by_the_server_is_unclear() {
        for start in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n",
            "PROXY ",
            "proxy unknown\r\n",
            "\r\n\r\n\0\r\nQUIT\n\x21\x11",
        ] {
            assert_eq!(
                recognize(start.as_bytes()),
                Some(Spoken::Unclear),
                "{start:?}"
            );
        }
        assert_eq!(recognize(b"PROXY"), None);
        assert_eq!(recognize(b"PROXYING x\r\n"), Some(Spoken::Other));
    }
}
