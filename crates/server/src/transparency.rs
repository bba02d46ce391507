//! What others run beside somebody's log: a monitor that follows it, and a witness
//! that cosigns it. Neither opens anything of a server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use creto_audit::{
    Content, CosignatureType, Cosigners, Looked, Memory, NoteVerifier, Opening, Patience, Proven,
    QuorumError, RecordFault, Steady, StoredRecord, UnprovenError, VerifierError, Watch,
    WatchError, Witness, WitnessError, WitnessKey, WitnessKeyError,
};
use creto_config::{Secret, SecretError};
use creto_errors::{Class, Classify};
use creto_log_http::{HttpLog, HttpPrefix, PrefixError, TrustError};
use creto_telemetry::{LogConfig, TelemetryError};
use creto_tiles_fs::{FsWitness, KeptFile};
use creto_types::{Clock, StoreError, SystemClock};

use crate::platform::provider;
use crate::serve::{ServeError, bind, stop_signal};

/// A checkpoint with sixteen signatures after quantum computers, and a proof.
const MAX_REQUEST_BYTES: usize = 128 * 1024;

/// A witness that takes longer answers that it is unavailable.
const DEADLINE: Duration = Duration::from_secs(10);

/// A monitor or a witness could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TransparencyError {
    /// The log misbehaves, or cannot be looked at.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// A proof does not show what it should.
    #[error(transparent)]
    Unproven(#[from] UnprovenError),
    /// A verifier key.
    #[error(transparent)]
    Key(#[from] VerifierError),
    /// The key of a witness where a log's is expected.
    #[error("`{name}` is the key of a witness, not of a log")]
    NotALog {
        /// Whose key it is.
        name: String,
    },
    /// The key of a log where a witness's is expected.
    #[error("`{name}` is the key of a log, not of a witness")]
    NotAWitness {
        /// Whose key it is.
        name: String,
    },
    /// How many witnesses are to cosign.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// The clock that lasting silence is measured by.
    #[error("the machine does not tell how long it has been running")]
    NoSteadyClock(#[source] std::io::Error),
    /// The witness's own key.
    #[error("the key in {} cannot be used", path.display())]
    WitnessKey {
        /// Where it lies.
        path: PathBuf,
        /// Why not.
        #[source]
        source: WitnessKeyError,
    },
    /// A new key cannot be made.
    #[error(transparent)]
    NewKey(#[from] WitnessKeyError),
    /// The file with the key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// An address.
    #[error(transparent)]
    Address(#[from] PrefixError),
    /// Whom this machine trusts.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// What is remembered.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is remembered is not what was written.
    #[error("{} is not what a monitor remembers", path.display())]
    State {
        /// Where it lies.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// What is to be a salt is none.
    #[error("a salt of 32 bytes is expected")]
    NotAnOpening,
    /// Payload and leaf do not belong together.
    #[error("the leaf does not commit to this")]
    OtherRecord(#[source] RecordFault),
    /// Logs.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The address cannot be used, or the listener failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl Classify for TransparencyError {
    fn class(&self) -> Class {
        match self {
            Self::Watch(error) => error.class(),
            Self::Unproven(error) => error.class(),
            Self::Key(error) => error.class(),
            Self::Quorum(error) => error.class(),
            Self::WitnessKey { source, .. } | Self::NewKey(source) => source.class(),
            Self::Secret(error) => error.class(),
            Self::Address(error) => error.class(),
            Self::Trust(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Telemetry(error) => error.class(),
            Self::Serve(error) => error.class(),
            Self::OtherRecord(_) => Class::Security,
            Self::NoSteadyClock(_)
            | Self::NotALog { .. }
            | Self::NotAWitness { .. }
            | Self::State { .. }
            | Self::NotAnOpening => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Watch(error) => error.code(),
            Self::Unproven(error) => error.code(),
            Self::Key(error) => error.code(),
            Self::Quorum(error) => error.code(),
            Self::NoSteadyClock(_) => "runtime_unavailable",
            Self::WitnessKey { source, .. } | Self::NewKey(source) => source.code(),
            Self::Secret(error) => error.code(),
            Self::Address(error) => error.code(),
            Self::Trust(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Telemetry(error) => error.code(),
            Self::Serve(error) => error.code(),
            Self::NotALog { .. } | Self::NotAWitness { .. } => "note_key_type",
            Self::State { .. } => "watch_memory",
            Self::NotAnOpening => "opening_invalid",
            Self::OtherRecord(_) => "opening_other_leaf",
        }
    }
}

/// Which log is followed, and what is remembered of it where.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// The log's prefix: `http[s]://host[:port]/log/<org>`.
    pub url: String,
    /// The log's verifier key; without it signatures are not checked.
    pub key: Option<String>,
    /// The file to remember in.
    pub state: PathBuf,
    /// Whether every entry is fetched and hashed.
    pub entries: bool,
    /// The verifier keys of witnesses that are to cosign.
    pub witnesses: Vec<String>,
    /// How many of them at least; all when nothing is said.
    pub quorum: Option<usize>,
    /// How long something may be lacking before it is an alarm.
    pub patience: Patience,
}

/// Looks at a log once. The checkpoint is remembered when all is well, and what was
/// lacking in any case.
pub fn watch(options: &WatchOptions) -> Result<Looked, TransparencyError> {
    let key = options.key.as_deref().map(log_key).transpose()?;
    let cosigners = if options.witnesses.is_empty() && options.quorum.is_none() {
        Cosigners::default()
    } else {
        Cosigners::new(witness_keys(&options.witnesses)?, options.quorum)?
    };
    let log = HttpLog::new(options.url.parse::<HttpPrefix>()?)?;
    let state = |source| TransparencyError::State {
        path: options.state.clone(),
        source,
    };
    let file = KeptFile::new(&options.state);
    let before: Memory = match file.get()? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(state)?,
        None => Memory::default(),
    };
    let watch = Watch::new(
        &log,
        key.as_ref(),
        options.entries,
        &cosigners,
        options.patience,
    );
    let mut memory = before.clone();
    let looked = watch.look(&mut memory, &steady()?);
    let kept = if memory == before {
        // The look before may have failed to make it last, and is taken up here.
        file.settle()
    } else {
        file.put(&serde_json::to_vec_pretty(&memory).map_err(state)?)
    };
    match (kept, &looked) {
        // What was found is told, whether or not it can be kept.
        (Err(_), Err(WatchError::Alarm(_))) => {}
        (kept, _) => kept?,
    }
    Ok(looked?)
}

/// The time since this machine was started, suspended or not.
fn steady() -> Result<Steady, TransparencyError> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(TransparencyError::NoSteadyClock)?;
    let since = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_err(|error| TransparencyError::NoSteadyClock(error.into()))?;
    Ok(Steady {
        boot: boot.trim_end().to_owned(),
        ms: u64::try_from(Duration::from(since).as_millis()).unwrap_or(u64::MAX),
    })
}

/// Checks a proof against the log's key and those of witnesses, of which `quorum`, or else
/// all, must have cosigned. Keys of one name are of one witness.
pub fn check_proof(
    proof: &str,
    leaf: &[u8],
    key: &str,
    witnesses: &[String],
    quorum: Option<usize>,
) -> Result<Proven, TransparencyError> {
    let key = log_key(key)?;
    let witnesses = witness_keys(witnesses)?;
    let quorum = match quorum {
        Some(quorum) => quorum,
        None => Cosigners::new(witnesses.clone(), None)?.quorum(),
    };
    Ok(creto_audit::check_proof(
        proof, leaf, &key, &witnesses, quorum,
    )?)
}

/// The record of a leaf and of what it commits to.
pub fn opened(
    leaf: &[u8],
    salt: &[u8],
    payload: Vec<u8>,
) -> Result<serde_json::Value, TransparencyError> {
    let opening = Opening::from_parts(salt, payload).ok_or(TransparencyError::NotAnOpening)?;
    let stored = StoredRecord {
        leaf: leaf.to_vec(),
        content: Content::Opened(opening),
    };
    let record = stored.read().map_err(TransparencyError::OtherRecord)?;
    Ok(record.into_parts().0)
}

/// A log's key as text.
fn log_key(text: &str) -> Result<NoteVerifier, TransparencyError> {
    let key = NoteVerifier::parse(text)?;
    if key.is_cosigner() {
        return Err(TransparencyError::NotALog {
            name: key.name().to_owned(),
        });
    }
    Ok(key)
}

/// Witnesses' keys as text.
fn witness_keys(texts: &[String]) -> Result<Vec<NoteVerifier>, TransparencyError> {
    let keys = texts
        .iter()
        .map(|text| NoteVerifier::parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    match keys.iter().find(|key| !key.is_cosigner()) {
        None => Ok(keys),
        Some(log) => Err(TransparencyError::NotAWitness {
            name: log.name().to_owned(),
        }),
    }
}

/// A new key for a witness: its private text, and the verifier key for others.
pub fn new_witness_key(
    name: &str,
    kind: CosignatureType,
) -> Result<(Secret, String), TransparencyError> {
    let (key, text) = WitnessKey::generate(name, kind, provider())?;
    let text = Secret::new(String::from_utf8_lossy(text.expose()).into_owned())?;
    Ok((text, key.verifier_key()))
}

/// How a witness runs.
#[derive(Clone, Debug)]
pub struct WitnessOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The files with its keys, by each of which it cosigns.
    pub keys: Vec<PathBuf>,
    /// The directory it remembers in.
    pub state: PathBuf,
    /// The verifier keys of the logs it cosigns.
    pub logs: Vec<String>,
}

/// Cosigns checkpoints until the process is told to stop (SIGINT or SIGTERM).
/// `ready` is called with the address and the verifier keys once requests are
/// answered.
pub async fn witness(
    options: &WitnessOptions,
    ready: impl FnOnce(SocketAddr, &[String]) + Send,
) -> Result<(), TransparencyError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    creto_telemetry::init(&LogConfig::default(), Arc::clone(&clock))?;
    let witness = open(options, clock)?;
    let (listener, address) = bind(options.listen).await?;
    let keys = witness.verifier_keys();
    tracing::info!(%address, keys = keys.join(" "), "witnessing");
    ready(address, &keys);
    let router = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(Arc::new(witness));
    axum::serve(listener, router)
        .with_graceful_shutdown(stop_signal())
        .await
        .map_err(ServeError::Io)?;
    Ok(())
}

fn open(options: &WitnessOptions, clock: Arc<dyn Clock>) -> Result<Witness, TransparencyError> {
    let keys = options.keys.iter().map(|path| read_key(path));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let logs = options
        .logs
        .iter()
        .map(|text| log_key(text))
        .collect::<Result<Vec<_>, _>>()?;
    let store = Arc::new(FsWitness::open(&options.state)?);
    Ok(Witness::new(keys, logs, store, clock))
}

fn read_key(path: &Path) -> Result<WitnessKey, TransparencyError> {
    let text = Secret::from_file(path)?;
    WitnessKey::parse(text.expose(), provider()).map_err(|source| TransparencyError::WitnessKey {
        path: path.to_owned(),
        source,
    })
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: String) -> Response {
    // What began is finished: a caller that goes away leaves nothing half done.
    let work = tokio::spawn(async move { witness.add_checkpoint(&body).await });
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(Ok(lines))) => lines.into_response(),
        Ok(Ok(Err(error))) => refusal(&error),
        Ok(Err(_)) | Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "try again later\n").into_response()
        }
    }
}

/// The statuses of C2SP tlog-witness.
fn refusal(error: &WitnessError) -> Response {
    let status = match error {
        WitnessError::Malformed(_) | WitnessError::OldBeyondNew { .. } => StatusCode::BAD_REQUEST,
        WitnessError::UnknownLog { .. } => StatusCode::NOT_FOUND,
        WitnessError::NotSigned | WitnessError::BadSignature(_) => StatusCode::FORBIDDEN,
        WitnessError::Conflict { size } => {
            let headers = [(header::CONTENT_TYPE, "text/x.tlog.size")];
            return (StatusCode::CONFLICT, headers, format!("{size}\n")).into_response();
        }
        WitnessError::Inconsistent(_) => {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "a signed checkpoint does not continue what was cosigned"
            );
            StatusCode::UNPROCESSABLE_ENTITY
        }
        WitnessError::Memory { .. } | WitnessError::Store(_) | WitnessError::Crypto(_) => {
            tracing::error!(
                code = error.code(),
                error = error as &dyn std::error::Error,
                "a checkpoint cannot be cosigned"
            );
            return (StatusCode::INTERNAL_SERVER_ERROR, "it failed\n").into_response();
        }
    };
    (status, format!("{error}\n")).into_response()
}
