//! The gateway's real resolver and dialer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use creto_errors::{Class, Classify};
use creto_runtime::{Dialer, ResolveError, Resolver};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::TcpStream;

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the name servers cannot be used")]
pub struct NameServersError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Classify for NameServersError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "name_servers_unusable"
    }
}

/// Looks names up at name servers, over UDP and TCP.
pub struct NameServers {
    resolver: TokioResolver,
}

impl std::fmt::Debug for NameServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NameServers").finish_non_exhaustive()
    }
}

impl NameServers {
    /// The machine's own resolution: `/etc/hosts`, then the servers of
    /// `/etc/resolv.conf`.
    ///
    /// # Errors
    ///
    /// When `/etc/resolv.conf` cannot be read.
    pub fn system() -> Result<Self, NameServersError> {
        let mut builder = TokioResolver::builder_tokio().map_err(boxed)?;
        configure(builder.options_mut());
        let resolver = builder.build().map_err(boxed)?;
        Ok(Self { resolver })
    }

    /// These servers and nothing else; `/etc/hosts` is not read.
    ///
    /// # Errors
    ///
    /// When the resolver cannot be built.
    pub fn at(servers: &[SocketAddr]) -> Result<Self, NameServersError> {
        let servers = servers
            .iter()
            .map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
                    .into_iter()
                    .map(|mut connection| {
                        connection.port = server.port();
                        connection
                    })
                    .collect();
                NameServerConfig::new(server.ip(), true, connections)
            })
            .collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        configure(builder.options_mut());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build().map_err(boxed)?;
        Ok(Self { resolver })
    }
}

fn boxed(error: impl std::error::Error + Send + Sync + 'static) -> NameServersError {
    NameServersError(Box::new(error))
}

fn configure(options: &mut hickory_resolver::config::ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.timeout = Duration::from_secs(3);
    options.attempts = 2;
    // A name that moved is followed soon.
    options.positive_max_ttl = Some(Duration::from_secs(60));
    options.negative_max_ttl = Some(Duration::from_secs(5));
}

#[async_trait]
impl Resolver for NameServers {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        // The final dot keeps the machine's search list out: exactly the allowed
        // name is asked for.
        match self.resolver.lookup_ip(format!("{host}.")).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(ResolveError::new(error)),
        }
    }
}

/// Connects from the host's own network.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialer;

#[async_trait]
impl Dialer for TcpDialer {
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}
