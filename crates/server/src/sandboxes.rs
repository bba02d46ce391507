//! The sandbox runtime and its gateway.

use std::path::Path;
use std::sync::Arc;

use creto_errors::Classify as _;
use creto_runtime::{AddressGuard, Gateway, GatewayConfig, Resolver, RuntimeError, SandboxRuntime};
use creto_runtime_gvisor::{GvisorConfig, GvisorRuntime, NameServers, TcpDialer};
use creto_types::Clock;

use crate::config::RuntimeConfig;

/// Sandboxes as far as this machine has them.
pub(crate) struct Sandboxes {
    pub(crate) gateway: Arc<Gateway>,
    /// `None` where the machine lacks something; everything else works.
    pub(crate) runtime: Option<Arc<dyn SandboxRuntime>>,
}

/// The settings of the gVisor backend for a configuration.
pub(crate) fn backend(config: &RuntimeConfig, data_dir: &Path) -> GvisorConfig {
    GvisorConfig {
        runsc: config.runsc.clone(),
        ..GvisorConfig::new(data_dir.join("sandboxes"))
    }
}

pub(crate) fn open(
    config: &RuntimeConfig,
    data_dir: &Path,
    clock: &Arc<dyn Clock>,
) -> Result<Sandboxes, RuntimeError> {
    let resolver: Arc<dyn Resolver> = match config.nameserver {
        Some(address) => Arc::new(name_servers(NameServers::at(&[address]))?),
        None => Arc::new(name_servers(NameServers::system())?),
    };
    let gateway = Gateway::new(
        GatewayConfig {
            guard: AddressGuard::allowing(config.allow_networks.iter().copied()),
            ..GatewayConfig::default()
        },
        resolver,
        Arc::new(TcpDialer),
        Arc::clone(clock),
    );
    let runtime = match GvisorRuntime::open(backend(config, data_dir), Arc::clone(&gateway)) {
        Ok(runtime) => Some(runtime as Arc<dyn SandboxRuntime>),
        Err(error @ RuntimeError::Unsupported { .. }) => {
            tracing::warn!(
                code = error.code(),
                error = &error as &dyn std::error::Error,
                "sandboxes are off; `creto doctor` says what to do"
            );
            None
        }
        Err(error) => return Err(error),
    };
    Ok(Sandboxes { gateway, runtime })
}

fn name_servers(
    opened: Result<NameServers, creto_runtime_gvisor::NameServersError>,
) -> Result<NameServers, RuntimeError> {
    opened.map_err(|error| RuntimeError::Unsupported {
        what: creto_errors::chain(&error),
        remedy: "Name a server in `runtime.egress.nameserver`".to_owned(),
    })
}
