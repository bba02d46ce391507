//! The running server: everything wired, started and stopped in order.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use creto_audit::{AskedWitness, Audit, AuditConfig, AuditError};
use creto_authz::Authz;
use creto_consensus::TimestampOracle;
use creto_errors::{Class, Classify};
use creto_governor::{
    Bindings, CheckedBundle, GovernError, GovernedEgress, Governor, GovernorConfig, Parts,
    PolicyShadow,
};
use creto_grpc::Grpc;
use creto_ingress::Hosts;
use creto_log_http::{HttpWitness, TrustError};
use creto_metering::{Meter, MeteringError};
use creto_nhi::IssuedTokens;
use creto_oversight::Oversight;
use creto_runtime::{GatewayServices, Limits, RuntimeError};
use creto_state_sqlite::{
    SqliteGovernor, SqliteIndex, SqliteIndexKeys, SqliteJournal, SqliteLedger, SqliteOversight,
    SqliteReplies, SqliteSequencer, SqliteSubjects,
};
use creto_telemetry::{LogConfig, Metrics, TelemetryError};
use creto_tiles_fs::FsTiles;
use creto_types::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::config::{ServerConfig, ServerConfigError};
use crate::init::InitError;
use crate::internal::SandboxApi;
use crate::keeping::Keeping;
use crate::lists::Lists;
use crate::platform::{NhiLogKeys, Platform};

/// How often time alone is looked at: reservations and requests that run out.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// How often a timestamp is taken at least. Nothing can have been down for much longer than
/// the newest one is old.
const TIME_KEPT: Duration = Duration::from_secs(60 * 60);

/// How long open requests may take once the server was told to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// The server did not start, or stopped for this reason.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ServerConfigError),
    /// `creto init` was not run, or what it made cannot be opened.
    #[error(transparent)]
    Open(#[from] InitError),
    /// There is no organization to serve.
    #[error("the data directory holds no organization; run `creto init` first")]
    NotInitialized,
    /// Logs.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The ledger.
    #[error(transparent)]
    Metering(#[from] MeteringError),
    /// Whom this machine trusts, for witnesses over HTTPS.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Recovery of what an earlier process left.
    #[error(transparent)]
    Recover(#[from] GovernError),
    /// Sandboxes.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The tiles' directory.
    #[error("cannot open the log's directory")]
    Tiles(#[source] creto_types::StoreError),
    /// The address cannot be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The listener failed.
    #[error("the server failed")]
    Io(#[source] io::Error),
}

impl Classify for ServeError {
    fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            Self::Open(error) => error.class(),
            Self::Telemetry(error) => error.class(),
            Self::Audit(error) => error.class(),
            Self::Metering(error) => error.class(),
            Self::Trust(error) => error.class(),
            Self::Recover(error) => error.class(),
            Self::Runtime(error) => error.class(),
            Self::Tiles(error) => error.class(),
            Self::NotInitialized => Class::Permanent,
            Self::Listen { .. } | Self::Io(_) => Class::Transient,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Config(error) => error.code(),
            Self::Open(error) => error.code(),
            Self::Telemetry(error) => error.code(),
            Self::Audit(error) => error.code(),
            Self::Metering(error) => error.code(),
            Self::Trust(error) => error.code(),
            Self::Recover(error) => error.code(),
            Self::Runtime(error) => error.code(),
            Self::Tiles(error) => error.code(),
            Self::NotInitialized => "not_initialized",
            Self::Listen { .. } => "listen_failed",
            Self::Io(_) => "server_failed",
        }
    }
}

/// Where a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The API.
    pub http: SocketAddr,
    /// gRPC, when it is switched on.
    pub grpc: Option<SocketAddr>,
    /// The logs' public files, when they are switched on.
    pub log: Option<SocketAddr>,
}

/// Serves until the process is told to stop (SIGINT or SIGTERM). SIGHUP puts `[crypto]` of
/// the configuration in force as it is then, and nothing else of it. `ready` is
/// called once requests are answered.
///
/// A clock that is too far ahead of what was recorded last to be believed is accepted when
/// it says no more than `accept_clock`, and that is recorded.
pub async fn serve(
    config_path: &Path,
    accept_clock: Option<Timestamp>,
    ready: impl FnOnce(Listening) + Send,
) -> Result<(), ServeError> {
    // From here on it does not end the process.
    let told = signal(SignalKind::hangup()).map_err(ServeError::Io)?;
    let config = ServerConfig::load(config_path)?;
    let (found, files) = crate::reload::read(&config.policy_dir);
    let policies = files.and_then(CheckedBundle::check);
    let mut platform = Platform::open_until(&config, accept_clock).await?;
    creto_telemetry::init(
        &LogConfig {
            format: config.log_format,
            filter: config.log_filter.clone(),
        },
        Arc::clone(&platform.clock),
    )?;
    for note in config.notes(policies.as_ref().ok()) {
        tracing::info!(note, "configuration");
    }
    if let Some(accepted) = &platform.accepted {
        tracing::warn!(
            clock = %accepted.clock,
            newest = %accepted.newest,
            "the clock is far ahead of everything that was recorded, and was accepted"
        );
    }
    if platform.nhi.organizations().is_empty() {
        return Err(ServeError::NotInitialized);
    }
    let (listener, address) = bind(config.listen).await?;
    let grpc_listener = match config.grpc_listen {
        Some(listen) => Some(bind(listen).await?),
        None => None,
    };
    let public_listener = match config.audit.listen {
        Some(listen) => Some(bind(listen).await?),
        None => None,
    };
    let public_entries = config.audit.entries;
    let urls = config.external_urls.clone();
    let retention = config.retention;
    let watched = config.watch_policies.then(|| config.policy_dir.clone());
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    let lists = Arc::new(Lists::new(
        config_path,
        Arc::clone(&platform.database),
        platform.algorithms.clone(),
        Arc::clone(&metrics),
        Arc::clone(&platform.oracle),
        Arc::clone(&platform.clock),
    ));
    let (governor, audit, router) =
        assemble(config, &platform, address, metrics, Arc::clone(&lists)).await?;
    governor.counts_what_is_limited()?;
    // Before anything is recorded by this process: that a clock was accepted makes nothing
    // end by it yet.
    let newest = match platform.accepted.take() {
        Some(accepted) => accepted.records,
        None => governor.newest_records().await?,
    };
    for org in platform.record_algorithms().await? {
        audit.notify(org);
    }
    governor.serve_policies(policies).await?;
    governor.recover().await?;

    let (stop, stopping) = watch::channel(());
    let watcher = watched.map(|directory| {
        let following = crate::reload::follow(Arc::clone(&governor), directory, found);
        tokio::spawn(until_stopped(following, stopping.clone()))
    });
    let keeping = Keeping::new(
        Arc::clone(&governor),
        retention,
        Arc::clone(&platform.clock),
        newest,
    );
    let remover = tokio::spawn(until_stopped(keeping.end(), stopping.clone()));
    let timekeeper = tokio::spawn(until_stopped(
        keep_time(Arc::clone(&platform.oracle)),
        stopping.clone(),
    ));
    let lists = tokio::spawn(until_stopped(
        lists.follow(told, Arc::clone(&audit)),
        stopping.clone(),
    ));
    let sweeper = tokio::spawn(sweep(Arc::clone(&governor), stopping));
    let grpc = grpc_listener.map(|(listener, address)| {
        let grpc = Grpc::new(
            Arc::clone(&governor),
            hosts(address, &urls),
            Arc::clone(&platform.ids),
            Arc::clone(&platform.clock),
        );
        (grpc, listener, address)
    });
    let listening = Listening {
        http: address,
        grpc: grpc.as_ref().map(|(.., address)| *address),
        log: public_listener.as_ref().map(|(_, address)| *address),
    };
    tracing::info!(%address, grpc = listening.grpc.map(tracing::field::display), log = listening.log.map(tracing::field::display), "serving");
    ready(listening);
    let grpc = grpc.map(|(grpc, listener, _)| (grpc, listener));
    let public = public_listener.map(|(listener, _)| {
        let files = creto_http::monitoring(Arc::clone(&audit), public_entries);
        (files, listener)
    });
    let result = run((router, listener), public, grpc, stop_signal()).await;
    drop(stop);
    // The sweeper ends with the channel; its last round is finished first.
    let _ = sweeper.await;
    let _ = remover.await;
    let _ = timekeeper.await;
    let _ = lists.await;
    if let Some(watcher) = watcher {
        let _ = watcher.await;
    }
    governor.kill_all().await;
    audit.flush().await?;
    tracing::info!("stopped");
    result
}

pub(crate) async fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| ServeError::Listen {
            address: listen,
            source,
        })?;
    let address = listener.local_addr().map_err(ServeError::Io)?;
    Ok((listener, address))
}

/// What a server at this address answers to, and where it is reached.
fn hosts(address: SocketAddr, urls: &[String]) -> Hosts {
    Hosts::of(address)
        .behind(urls)
        .expect("the configuration was read with these URLs checked")
}

async fn assemble(
    config: ServerConfig,
    platform: &Platform,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    lists: Arc<Lists>,
) -> Result<(Arc<Governor>, Arc<Audit>, Router), ServeError> {
    let hosts = hosts(address, &config.external_urls);
    let database = &platform.database;
    let tiles = FsTiles::open(&config.data_dir.join("log")).map_err(ServeError::Tiles)?;
    let audit = Audit::open(
        Arc::new(SqliteJournal::new(Arc::clone(database))),
        Arc::new(tiles),
        Arc::new(NhiLogKeys(Arc::clone(&platform.nhi))),
        Arc::clone(&platform.clock),
        AuditConfig {
            origin_prefix: format!("{}/log", config.trust_domain),
            batch_size: usize::try_from(config.integrations.audit.batch_size.get())
                .unwrap_or(usize::MAX),
            flush_interval: Duration::from_millis(
                config.integrations.audit.flush_interval_ms.get(),
            ),
        },
    )
    .await?;
    audit.index_with(
        Arc::new(SqliteIndex::new(Arc::clone(database))),
        Arc::new(SqliteIndexKeys::new(Arc::clone(database))),
    );
    if !config.audit.witnesses.is_empty() {
        let witnesses = config.audit.witnesses.into_iter();
        let asked = witnesses.map(|(key, prefix)| {
            let client = Arc::new(HttpWitness::new(prefix)?);
            Ok(AskedWitness { key, client })
        });
        let asked = asked.collect::<Result<_, TrustError>>()?;
        audit.ask_witnesses(asked, config.audit.quorum);
    }
    let meter = Meter::open(
        Arc::new(SqliteLedger::new(Arc::clone(database))),
        config.prices,
        config.metering,
        Arc::clone(&platform.ids),
        Arc::clone(&platform.clock),
    )
    .await?;
    let authz = Arc::new(Authz::new(
        Arc::clone(&meter) as Arc<dyn creto_authz::Quota>,
        Arc::clone(&platform.clock),
        config.authz,
    ));
    metrics
        .decision_cache_bytes
        .set(u64::try_from(config.authz.bytes()).unwrap_or(u64::MAX));
    let oversight = Oversight::new(
        Arc::new(SqliteOversight::new(Arc::clone(database))),
        Arc::clone(&platform.ids),
        Arc::clone(&platform.clock),
        Arc::clone(&platform.random),
        config.oversight,
    );
    let bindings = Arc::new(Bindings::new());
    let shadow = Arc::new(PolicyShadow::new(
        Arc::clone(&metrics),
        Arc::clone(&platform.clock),
    ));
    let sandboxes = match &config.runtime {
        Some(runtime) => Some(crate::sandboxes::open(
            runtime,
            &config.data_dir,
            &platform.clock,
        )?),
        None => None,
    };
    let (volumes, limits, egress_counted) = match config.runtime {
        Some(runtime) => (runtime.volumes, runtime.limits, runtime.egress_counted),
        None => (BTreeMap::new(), Limits::default(), false),
    };
    let state = Arc::new(SqliteGovernor::new(Arc::clone(database)));
    let governor = Governor::new(
        Parts {
            nhi: Arc::clone(&platform.nhi),
            credentials: vec![Arc::new(IssuedTokens::new(Arc::clone(&platform.nhi)))],
            oracle: Arc::clone(&platform.oracle),
            sequencer: Arc::new(SqliteSequencer::new(Arc::clone(database))),
            audit: Arc::clone(&audit),
            authz,
            meter,
            oversight,
            runtime: sandboxes.as_ref().and_then(|s| s.runtime.clone()),
            bindings,
            commits: Arc::clone(&state) as _,
            replies: Arc::new(SqliteReplies::new(Arc::clone(database))),
            records: Arc::clone(&state) as _,
            sandboxes: Arc::clone(&state) as _,
            policies: state,
            algorithms: lists,
            subjects: Arc::new(SqliteSubjects::new(Arc::clone(database))),
            shadow,
            ids: Arc::clone(&platform.ids),
            clock: Arc::clone(&platform.clock),
            metrics,
        },
        GovernorConfig {
            public_url: format!("http://{address}"),
            volumes,
            limits,
            egress_counted,
        },
    );
    let router = creto_http::router(
        Arc::clone(&governor),
        hosts,
        Arc::clone(&platform.ids),
        Arc::clone(&platform.clock),
        Arc::clone(&platform.random),
    );
    if let Some(sandboxes) = sandboxes {
        let egress = Arc::new(GovernedEgress::new(Arc::clone(&governor)));
        sandboxes.gateway.connect(GatewayServices {
            decision: Arc::clone(&egress) as _,
            internal: Arc::new(SandboxApi::new(Arc::clone(&governor), router.clone())),
            log: egress,
        });
    }
    Ok((governor, audit, router))
}

async fn until_stopped(work: impl Future<Output = ()>, stopping: watch::Receiver<()>) {
    tokio::select! {
        () = work => {}
        () = closed(stopping) => {}
    }
}

/// Keeps it on record that this server runs.
async fn keep_time(oracle: Arc<dyn TimestampOracle>) {
    creto_consensus::keep_time(oracle.as_ref(), TIME_KEPT, |error| {
        tracing::warn!(
            code = error.code(),
            error = &error as &dyn std::error::Error,
            "there is no timestamp; it is tried again"
        );
    })
    .await;
}

async fn sweep(governor: Arc<Governor>, mut stopping: watch::Receiver<()>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            // The channel closes, nothing is ever sent.
            _ = stopping.changed() => return,
        }
        if let Err(error) = governor.sweep().await {
            tracing::error!(
                code = error.code(),
                error = &error as &dyn std::error::Error,
                "a sweep failed; the next one tries again"
            );
        }
    }
}

async fn run(
    (router, listener): (Router, TcpListener),
    public: Option<(Router, TcpListener)>,
    grpc: Option<(Grpc, TcpListener)>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (told, stopping) = watch::channel(());
    let mut late = stopping.clone();
    let http = axum::serve(listener, router).with_graceful_shutdown(closed(stopping.clone()));
    let public = {
        let stopping = stopping.clone();
        async {
            match public {
                Some((router, listener)) => {
                    axum::serve(listener, router)
                        .with_graceful_shutdown(closed(stopping))
                        .await
                }
                None => Ok(()),
            }
        }
    };
    let grpc = async {
        if let Some((grpc, listener)) = grpc {
            grpc.serve(listener, closed(stopping)).await;
        }
    };
    let signal = tokio::spawn(
        async move {
            stop.await;
            drop(told);
        }
        .in_current_span(),
    );
    let result = tokio::select! {
        (served, shown, ()) = async { tokio::join!(async { http.await }, public, grpc) } => {
            served.and(shown).map_err(ServeError::Io)
        }
        () = async {
            // Closed when the signal came.
            let _ = late.changed().await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        } => {
            tracing::warn!("requests were still open when the server stopped");
            Ok(())
        }
    };
    signal.abort();
    result
}

/// Ends with the channel; nothing is ever sent.
async fn closed(mut channel: watch::Receiver<()>) {
    let _ = channel.changed().await;
}

pub(crate) async fn stop_signal() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        tracing::error!("signals cannot be received; only SIGKILL stops this server");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
