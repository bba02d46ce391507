//! Refuses the datagrams of a sandbox: each is recorded and answered with the
//! ICMP error that a closed port gives, so the program learns at once.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use creto_runtime::DatagramRefusal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg};
use socket2::Socket;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::network::SANDBOX_ADDRESS;

/// Receives, records and answers until the task is dropped. While a record is
/// being written the kernel queues what comes next, and drops what does not fit.
pub(crate) async fn refuse_all(socket: UdpSocket, icmp: Socket, refusal: DatagramRefusal) {
    loop {
        let received = socket
            .async_io(Interest::READABLE, || receive(&socket))
            .await;
        match received {
            Ok(Some(datagram)) => {
                refusal.refuse(SocketAddr::V4(datagram.destination)).await;
                let error = datagram.port_unreachable();
                let to = SocketAddrV4::new(SANDBOX_ADDRESS, 0).into();
                if let Err(error) = icmp.send_to(&error, &to) {
                    tracing::debug!(%error, "cannot answer a datagram");
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot receive the sandbox's datagrams");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

struct Datagram {
    source: SocketAddrV4,
    destination: SocketAddrV4,
    length: u16,
}

/// One datagram's addresses; its content is of no interest.
fn receive(socket: &UdpSocket) -> io::Result<Option<Datagram>> {
    let mut content = [0_u8; 2048];
    let mut parts = [IoSliceMut::new(&mut content)];
    let mut control = nix::cmsg_space!(nix::libc::sockaddr_in);
    // MSG_TRUNC: the true length even of a datagram longer than the buffer.
    let message = recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC,
    )?;
    let destination = message.cmsgs()?.find_map(|item| match item {
        ControlMessageOwned::Ipv4OrigDstAddr(address) => {
            Some(SocketAddrV4::from(SockaddrIn::from(address)))
        }
        _ => None,
    });
    let (Some(source), Some(destination)) = (message.address, destination) else {
        return Ok(None);
    };
    Ok(Some(Datagram {
        source: source.into(),
        destination,
        length: u16::try_from(message.bytes).unwrap_or(u16::MAX),
    }))
}

impl Datagram {
    /// The ICMP error (RFC 792): type 3, code 3, then the start of the packet
    /// that it is about: an IPv4 header without options and the UDP header.
    fn port_unreachable(&self) -> Vec<u8> {
        let udp_length = self.length.saturating_add(8);
        let ip = ipv4_header(
            *self.source.ip(),
            *self.destination.ip(),
            udp_length.saturating_add(20),
        );
        let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&ip);
        message.extend_from_slice(&self.source.port().to_be_bytes());
        message.extend_from_slice(&self.destination.port().to_be_bytes());
        message.extend_from_slice(&udp_length.to_be_bytes());
        message.extend_from_slice(&[0, 0]);
        put_checksum(&mut message, 2);
        message
    }
}

/// An IPv4 header (RFC 791, section 3.1) of a UDP packet.
fn ipv4_header(source: Ipv4Addr, destination: Ipv4Addr, length: u16) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    header.extend_from_slice(&source.octets());
    header.extend_from_slice(&destination.octets());
    put_checksum(&mut header, 10);
    header
}

/// Writes the Internet checksum (RFC 1071) of the bytes at `place`, where zeros
/// are.
fn put_checksum(bytes: &mut [u8], place: usize) {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let word = match pair {
            [high, low] => u16::from_be_bytes([*high, *low]),
            [high] => u16::from_be_bytes([*high, 0]),
            _ => 0,
        };
        sum = sum.saturating_add(u32::from(word));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff).saturating_add(sum >> 16);
    }
    let checksum = u16::try_from(sum).map_or(0, |sum| !sum);
    if let Some(field) = bytes.get_mut(place..place.saturating_add(2)) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_verify() {
        // The example header of RFC 1071's well-known worked instance.
        let mut header = vec![
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        put_checksum(&mut header, 10);
        assert_eq!(header[10..12], [0xb8, 0x61]);
    }

    #[test]
    fn the_error_quotes_the_datagram() {
        let datagram = Datagram {
            source: SocketAddrV4::new(SANDBOX_ADDRESS, 40_000),
            destination: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 9999),
            length: 11,
        };
        let error = datagram.port_unreachable();
        assert_eq!(error.len(), 8 + 20 + 8);
        assert_eq!(error[8 + 16..8 + 20], [203, 0, 113, 9]);
        assert_eq!(error[28..32], [0x9c, 0x40, 0x27, 0x0f]);
    }
}
