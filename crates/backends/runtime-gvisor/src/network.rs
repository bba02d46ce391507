//! The two network namespaces of a sandbox and the sockets in the second one.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::command::{self, CommandError};

/// The sandbox's own address. The namespaces touch nothing else, so every
/// sandbox has the same one (100.64.0.0/10 is set aside by RFC 6598 for networks
/// between a provider and its customers; no public peer has it).
pub(crate) const SANDBOX_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
/// The gateway's address: default route and resolver of the sandbox.
pub(crate) const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// Ports of our sockets in namespace G. Packets are steered to them by nftables,
/// whatever port they carry, so the numbers are seen by nobody.
const TCP_PORT: u16 = 2;
const DATAGRAM_PORT: u16 = 3;
const DNS_PORT: u16 = 53;

/// The system's programs that networks are made with.
#[derive(Clone, Debug)]
pub(crate) struct NetworkTools {
    pub(crate) ip: PathBuf,
    pub(crate) nft: PathBuf,
    pub(crate) nsenter: PathBuf,
}

/// The namespaces of one sandbox. Used once: gVisor takes the addresses off the
/// interface in S when it starts.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    tools: NetworkTools,
    sandbox: String,
    gateway: String,
}

/// The gateway's sockets, open in namespace G.
pub(crate) struct Sockets {
    pub(crate) tcp: TcpListener,
    pub(crate) dns: UdpSocket,
    /// Takes every datagram that is not a query to the resolver.
    pub(crate) datagrams: UdpSocket,
    /// Sends the ICMP errors that answer them.
    pub(crate) icmp: Socket,
}

impl Network {
    /// The namespaces of the sandbox with this short name, whether they exist or
    /// not.
    pub(crate) fn named(tools: &NetworkTools, name: &str) -> Self {
        Self {
            tools: tools.clone(),
            sandbox: format!("creto-{name}-s"),
            gateway: format!("creto-{name}-g"),
        }
    }

    /// Where `runsc` finds namespace S.
    pub(crate) fn sandbox_path(&self) -> PathBuf {
        namespace_path(&self.sandbox)
    }

    /// Makes both namespaces, the link between them and the rules. On an error
    /// the caller removes them.
    pub(crate) async fn create(&self) -> Result<(), CommandError> {
        let Self {
            sandbox, gateway, ..
        } = self;
        self.ip(
            &["-batch", "-"],
            &format!(
                "netns add {sandbox}\n\
                 netns add {gateway}\n\
                 link add gw0 netns {gateway} type veth peer name eth0 netns {sandbox}\n"
            ),
        )
        .await?;
        // Without generated addresses the links have no IPv6 at all.
        self.ip(
            &["-n", sandbox, "-batch", "-"],
            &format!(
                "link set lo up\n\
                 link set eth0 addrgenmode none\n\
                 addr add {SANDBOX_ADDRESS}/30 dev eth0\n\
                 link set eth0 up\n\
                 route add default via {GATEWAY_ADDRESS}\n"
            ),
        )
        .await?;
        // Whatever comes in from the sandbox is delivered here, not routed.
        self.ip(
            &["-n", gateway, "-batch", "-"],
            &format!(
                "link set lo up\n\
                 link set gw0 addrgenmode none\n\
                 addr add {GATEWAY_ADDRESS}/30 dev gw0\n\
                 link set gw0 up\n\
                 rule add iif gw0 lookup 100\n\
                 route add local default dev lo table 100\n"
            ),
        )
        .await?;
        let namespace = format!("--net={}", namespace_path(gateway).display());
        let nft = self.tools.nft.display().to_string();
        command::run(
            &self.tools.nsenter,
            &[&namespace, &nft, "-f", "-"],
            &rules(),
        )
        .await?;
        Ok(())
    }

    async fn ip(&self, arguments: &[&str], input: &str) -> Result<(), CommandError> {
        command::run(&self.tools.ip, arguments, input).await?;
        Ok(())
    }

    /// Opens the gateway's sockets inside namespace G. A thread of its own goes
    /// there and ends, so no other thread ever is in the wrong namespace.
    pub(crate) async fn open_sockets(&self) -> io::Result<Sockets> {
        let path = namespace_path(&self.gateway);
        let (send, receive) = tokio::sync::oneshot::channel();
        thread::Builder::new()
            .name("creto-netns".to_owned())
            .spawn(move || {
                let _ = send.send(open_sockets_in(&path));
            })?;
        receive
            .await
            .map_err(|_| io::Error::other("the thread in the namespace ended early"))?
    }

    /// Removes both namespaces and with them the link, the rules and the
    /// routes. Namespaces that do not exist are fine.
    pub(crate) async fn remove(&self) -> Result<(), CommandError> {
        let mut first_error = Ok(());
        for name in [&self.sandbox, &self.gateway] {
            if namespace_path(name).exists() {
                let removed = self.ip(&["netns", "delete", name], "").await;
                if first_error.is_ok() {
                    first_error = removed;
                }
            }
        }
        first_error
    }
}

fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// What happens to a packet of the sandbox: queries to the resolver pass, TCP and
/// UDP go to our sockets with their destination kept, the rest is dropped.
fn rules() -> String {
    format!(
        "table inet creto {{\n\
           chain from_sandbox {{\n\
             type filter hook prerouting priority mangle; policy drop;\n\
             iifname \"lo\" accept\n\
             ip saddr != {SANDBOX_ADDRESS} drop\n\
             ip daddr {GATEWAY_ADDRESS} udp dport {DNS_PORT} accept\n\
             meta nfproto ipv4 meta l4proto tcp tproxy ip to :{TCP_PORT} accept\n\
             meta nfproto ipv4 meta l4proto udp tproxy ip to :{DATAGRAM_PORT} accept\n\
           }}\n\
           chain forward {{\n\
             type filter hook forward priority filter; policy drop;\n\
           }}\n\
         }}\n"
    )
}

fn open_sockets_in(namespace: &Path) -> io::Result<Sockets> {
    setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
    let any = |port| SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);

    let tcp = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    tcp.set_ip_transparent_v4(true)?;
    tcp.bind(&any(TCP_PORT).into())?;
    tcp.listen(256)?;

    let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    datagrams.set_ip_transparent_v4(true)?;
    setsockopt(&datagrams, sockopt::Ipv4OrigDstAddr, &true)?;
    datagrams.bind(&any(DATAGRAM_PORT).into())?;

    let dns = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    dns.bind(&SocketAddrV4::new(GATEWAY_ADDRESS, DNS_PORT).into())?;

    let icmp = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    for socket in [&tcp, &datagrams, &dns, &icmp] {
        socket.set_nonblocking(true)?;
    }
    Ok(Sockets {
        tcp: tcp.into(),
        dns: dns.into(),
        datagrams: datagrams.into(),
        icmp,
    })
}
