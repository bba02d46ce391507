//! The file as it is written, and what is refused in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use creto_audit::NoteVerifier;
use creto_authz::AuthzConfig;
use creto_config::{
    Bounded, CryptoSection, IntegrationsSection, Seconds, SecretRef, Unserved, UnservedKind,
};
use creto_consensus::OracleConfig;
use creto_governor::{NETWORK_EGRESS, Retention};
use creto_ingress::Hosts;
use creto_log_http::HttpPrefix;
use creto_metering::{Expired, MeterConfig, OpenBounds, PriceBook, RateLimit};
use creto_oversight::OversightConfig;
use creto_runtime::{Limits, Network};
use creto_telemetry::{LogConfig, LogFormat};
use creto_types::{Currency, Money};
use rust_decimal::Decimal;
use serde::Deserialize;

use super::{PublicLog, RootKeyPlace, RuntimeConfig, ServerConfig, ServerConfigError};

/// Ports that this product is not known to share with anything common.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7180);

/// Most witnesses that are asked: each cosigns every checkpoint.
const MAX_WITNESSES: usize = 16;

/// The most delegations of a chain, from its human to the agent that acts.
const DEFAULT_DEPTH: u8 = 8;

/// Up to a year.
type Ttl = Seconds<1, 31_536_000>;

/// Up to a hundred years: whoever sets a clock wrong chooses by how much.
type ClockStep = Seconds<1, 3_153_600_000>;

/// The file as it is written. Every section may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    server: ServerSection,
    identity: IdentitySection,
    crypto: CryptoSection,
    consensus: ConsensusSection,
    authz: AuthzSection,
    metering: MeteringSection,
    oversight: OversightSection,
    runtime: RuntimeSection,
    audit: AuditSection,
    integrations: IntegrationsSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ServerSection {
    listen: Option<SocketAddr>,
    grpc_listen: Option<SocketAddr>,
    external_urls: Vec<String>,
    data_dir: Option<PathBuf>,
    log_format: Option<String>,
    log_filter: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct IdentitySection {
    trust_domain: Option<String>,
    root_key: Option<SecretRef>,
    root_key_file: Option<PathBuf>,
    token_ttl_seconds: Option<Ttl>,
    require_dpop: Option<bool>,
    max_delegation_depth: Option<Bounded<1, 32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConsensusSection {
    max_backward_step_seconds: Option<ClockStep>,
    max_forward_step_seconds: Option<ClockStep>,
    max_downtime_days: Option<Bounded<1, 36_500>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AuthzSection {
    policy_dir: Option<PathBuf>,
    watch_policies: Option<bool>,
    remembered_verdicts: Option<Bounded<1_024, 16_777_216>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MeteringSection {
    currency: Option<Currency>,
    prices: BTreeMap<String, DecimalText>,
    rate_per_second: Option<Bounded<1, 1_000_000>>,
    burst: Option<Bounded<1, 1_000_000>>,
    reservation_ttl_seconds: Option<Ttl>,
    open_reservations_per_agent: Option<Bounded<1, 1_000_000>>,
    open_reservations_per_organization: Option<Bounded<1, 10_000_000>>,
    expired_reservations: Option<ExpiredName>,
}

/// What becomes of a reservation that nobody closes in time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ExpiredName {
    Release,
    Settle,
}

/// An amount as text: a TOML float would have been rounded before it got here.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct DecimalText(Decimal);

impl TryFrom<String> for DecimalText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Decimal::from_str_exact(&text)
            .map(Self)
            .map_err(|error| format!("`{text}` is not a decimal number: {error}"))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OversightSection {
    request_ttl_seconds: Option<Ttl>,
    grant_ttl_seconds: Option<Ttl>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RuntimeSection {
    enabled: Option<bool>,
    runsc: Option<PathBuf>,
    volumes: BTreeMap<String, PathBuf>,
    limits: LimitsSection,
    egress: EgressSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsSection {
    memory_bytes: Option<u64>,
    processes: Option<u32>,
    wall_seconds: Option<u64>,
    output_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EgressSection {
    nameserver: Option<SocketAddr>,
    allow_networks: Vec<String>,
    counted: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AuditSection {
    public_listen: Option<SocketAddr>,
    public_entries: Option<bool>,
    payload_retention_days: Option<Bounded<1, 36_500>>,
    trace_retention_days: Option<Bounded<1, 36_500>>,
    witness_quorum: Option<Bounded<0, 16>>,
    witness: Vec<WitnessSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessSection {
    url: String,
    key: String,
}

impl File {
    pub(super) fn validate(self, base: &Path) -> Result<ServerConfig, ServerConfigError> {
        let integrations = self.integrations.validate()?;
        let refused: Vec<Unserved> = integrations
            .unserved()
            .iter()
            .filter(|item| item.kind == UnservedKind::Refused)
            .cloned()
            .collect();
        if !refused.is_empty() {
            return Err(ServerConfigError::Unserved(refused));
        }
        let listen = self.server.listen.unwrap_or(DEFAULT_LISTEN);
        loopback("server.listen", listen)?;
        if let Some(grpc) = self.server.grpc_listen {
            loopback("server.grpc_listen", grpc)?;
            // Port 0 is another one each time.
            if grpc == listen && grpc.port() != 0 {
                return Err(invalid(
                    "server.grpc_listen",
                    "is the address of `server.listen`; gRPC has one of its own",
                ));
            }
        }
        if Hosts::of(listen)
            .behind(&self.server.external_urls)
            .is_none()
        {
            return Err(invalid(
                "server.external_urls",
                "has one that is not `http://` or `https://` with a host, perhaps a port, and \
                 nothing after it",
            ));
        }
        let data_dir = base.join(
            self.server
                .data_dir
                .unwrap_or_else(|| PathBuf::from("/var/lib/creto")),
        );
        let authz = self.authz.decisions()?;
        let policy_dir = base.join(
            self.authz
                .policy_dir
                .unwrap_or_else(|| PathBuf::from("policies")),
        );
        let root_key = match (self.identity.root_key, self.identity.root_key_file) {
            (Some(_), Some(_)) => {
                return Err(invalid(
                    "identity.root_key",
                    "and `identity.root_key_file` name two root keys; one of them is expected",
                ));
            }
            (Some(reference), None) => RootKeyPlace::Reference(reference),
            (None, Some(path)) if is_key(&path) => {
                return Err(invalid(
                    "identity.root_key_file",
                    "names no file but holds a key, 64 hexadecimal digits (it is not shown); a \
                     key that a variable holds is `root_key = \"${VARIABLE}\"`",
                ));
            }
            (None, Some(path)) => RootKeyPlace::File(base.join(path)),
            (None, None) => RootKeyPlace::File(data_dir.join("root.key")),
        };
        let prices = self.metering.price_book()?;
        let runtime = self.runtime.validate(base)?;
        if self.metering.prices.contains_key(NETWORK_EGRESS)
            && !runtime
                .as_ref()
                .is_some_and(|runtime| runtime.egress_counted)
        {
            return Err(invalid(
                &format!("metering.prices.{NETWORK_EGRESS}"),
                "is charged where connections count: set `runtime.egress.counted = true`, with \
                 `runtime.enabled`, or remove the price",
            ));
        }
        Ok(ServerConfig {
            listen,
            grpc_listen: self.server.grpc_listen,
            external_urls: self.server.external_urls,
            log_format: match &self.server.log_format {
                Some(text) => text.parse()?,
                None => LogFormat::default(),
            },
            log_filter: self
                .server
                .log_filter
                .unwrap_or_else(|| LogConfig::default().filter),
            trust_domain: trust_domain(self.identity.trust_domain)?,
            root_key,
            algorithms: crate::algorithms::algorithms(&self.crypto)?,
            token_ttl: seconds(self.identity.token_ttl_seconds, 3_600),
            require_dpop: self.identity.require_dpop.unwrap_or(false),
            max_delegation_depth: self
                .identity
                .max_delegation_depth
                .and_then(|depth| u8::try_from(depth.get()).ok())
                .unwrap_or(DEFAULT_DEPTH),
            oracle: self.consensus.oracle()?,
            policy_dir,
            watch_policies: self.authz.watch_policies.unwrap_or(true),
            authz,
            prices,
            metering: self.metering.meter_config()?,
            oversight: OversightConfig {
                request_ttl: seconds(self.oversight.request_ttl_seconds, 3_600),
                grant_ttl: seconds(self.oversight.grant_ttl_seconds, 900),
            },
            runtime,
            retention: self.audit.retention(),
            audit: self
                .audit
                .validate(&[Some(listen), self.server.grpc_listen])?,
            integrations,
            data_dir,
        })
    }
}

impl AuditSection {
    fn retention(&self) -> Retention {
        let days = |given: Option<Bounded<1, 36_500>>| {
            given.map(|days| u32::try_from(days.get()).unwrap_or(u32::MAX))
        };
        let all = self.payload_retention_days;
        Retention {
            evidence: days(all),
            trace: days(self.trace_retention_days.or(all)),
        }
    }

    fn validate(self, taken: &[Option<SocketAddr>]) -> Result<PublicLog, ServerConfigError> {
        // Port 0 is another one each time.
        if let Some(public) = self.public_listen
            && public.port() != 0
            && taken.contains(&Some(public))
        {
            return Err(invalid(
                "audit.public_listen",
                "is the address of another interface; the public log has one of its own",
            ));
        }
        if self.witness.len() > MAX_WITNESSES {
            return Err(invalid("audit.witness", "has more than 16 witnesses"));
        }
        let mut witnesses: Vec<(NoteVerifier, HttpPrefix)> = Vec::new();
        for witness in &self.witness {
            let unusable = |why: String| invalid("audit.witness", &why);
            let key = NoteVerifier::parse(&witness.key)
                .map_err(|error| unusable(format!("has a key that cannot be used: {error}")))?;
            if !key.is_cosigner() {
                return Err(unusable(format!(
                    "`{}` is not the key of a witness",
                    key.name()
                )));
            }
            if witnesses
                .iter()
                .any(|(other, _)| other.to_string() == key.to_string())
            {
                return Err(unusable(format!("names `{}` twice", key.name())));
            }
            let url = witness.url.parse::<HttpPrefix>().map_err(|error| {
                unusable(format!("has an address that cannot be used: {error}"))
            })?;
            witnesses.push((key, url));
        }
        let quorum = self.witness_quorum.map_or(0, |quorum| quorum.get());
        let quorum = usize::try_from(quorum).unwrap_or(usize::MAX);
        // Keys of one name are of one witness.
        let names: BTreeSet<&str> = witnesses.iter().map(|(key, _)| key.name()).collect();
        if quorum > names.len() {
            return Err(invalid(
                "audit.witness_quorum",
                "is more than there are witnesses",
            ));
        }
        Ok(PublicLog {
            listen: self.public_listen,
            entries: self.public_entries.unwrap_or(false),
            quorum,
            witnesses,
        })
    }
}

impl ConsensusSection {
    fn oracle(&self) -> Result<OracleConfig, ServerConfigError> {
        let default = OracleConfig::default();
        let of = |given: Option<ClockStep>| given.map(|value| Duration::from_secs(value.get()));
        let max_backward_step =
            of(self.max_backward_step_seconds).unwrap_or(default.max_backward_step);
        let max_forward_step = of(self.max_forward_step_seconds)
            .unwrap_or_else(|| default.max_forward_step.min(max_backward_step));
        if max_forward_step > max_backward_step {
            return Err(invalid(
                "consensus.max_forward_step_seconds",
                "is more than `consensus.max_backward_step_seconds`: a step that was followed \
                 could not be taken back",
            ));
        }
        Ok(OracleConfig {
            max_backward_step,
            max_forward_step,
            max_downtime: self.max_downtime_days.map_or(default.max_downtime, |days| {
                Duration::from_secs(days.get() * 24 * 60 * 60)
            }),
            ..default
        })
    }
}

impl AuthzSection {
    fn decisions(&self) -> Result<AuthzConfig, ServerConfigError> {
        let Some(verdicts) = self.remembered_verdicts else {
            return Ok(AuthzConfig::default());
        };
        let remembered = usize::try_from(verdicts.get())
            .map_err(|_| invalid("authz.remembered_verdicts", "is more than memory has"))?;
        Ok(AuthzConfig { remembered })
    }
}

impl MeteringSection {
    fn currency(&self) -> Result<Currency, ServerConfigError> {
        match self.currency {
            Some(currency) => Ok(currency),
            None => "USD"
                .parse()
                .map_err(|_| invalid("metering.currency", "is not in ISO 4217")),
        }
    }

    fn price_book(&self) -> Result<PriceBook, ServerConfigError> {
        let currency = self.currency()?;
        let prices = self
            .prices
            .iter()
            .map(|(action, amount)| (action.clone(), Money::new(amount.0, currency)));
        Ok(PriceBook::new(currency, prices)?)
    }

    fn meter_config(&self) -> Result<MeterConfig, ServerConfigError> {
        let whole = |key: &str, value: Option<Bounded<1, 1_000_000>>, default: u32| match value {
            None => NonZeroU32::new(default).ok_or_else(|| invalid(key, "must not be zero")),
            Some(value) => u32::try_from(value.get())
                .ok()
                .and_then(NonZeroU32::new)
                .ok_or_else(|| invalid(key, "must be from 1 to 1000000")),
        };
        let count = |key: &str, value: Option<u64>, default: usize| match value {
            None => Ok(default),
            Some(value) => usize::try_from(value).map_err(|_| invalid(key, "is too large")),
        };
        let most = OpenBounds::default();
        let open = OpenBounds {
            per_agent: count(
                "metering.open_reservations_per_agent",
                self.open_reservations_per_agent.map(|most| most.get()),
                most.per_agent,
            )?,
            per_organization: count(
                "metering.open_reservations_per_organization",
                self.open_reservations_per_organization
                    .map(|most| most.get()),
                most.per_organization,
            )?,
        };
        Ok(MeterConfig {
            reservation_ttl: seconds(self.reservation_ttl_seconds, 300),
            rate: RateLimit::per_second(
                whole("metering.rate_per_second", self.rate_per_second, 50)?,
                whole("metering.burst", self.burst, 100)?,
            ),
            open,
            expired: match self.expired_reservations {
                None | Some(ExpiredName::Release) => Expired::Released,
                Some(ExpiredName::Settle) => Expired::Settled,
            },
        })
    }
}

impl RuntimeSection {
    fn validate(self, base: &Path) -> Result<Option<RuntimeConfig>, ServerConfigError> {
        if self.enabled == Some(false) {
            return Ok(None);
        }
        let mut limits = Limits::default();
        if let Some(bytes) = self.limits.memory_bytes {
            limits.memory_bytes = bytes;
        }
        if let Some(processes) = self.limits.processes {
            limits.processes = processes;
        }
        if let Some(wall) = self.limits.wall_seconds {
            limits.wall_time = Duration::from_secs(wall);
        }
        if let Some(bytes) = self.limits.output_bytes {
            limits.output_bytes = bytes;
        }
        limits.validate()?;
        let mut volumes = BTreeMap::new();
        for (name, path) in self.volumes {
            let path = base.join(path);
            let real = path.canonicalize().map_err(|error| {
                invalid(
                    &format!("runtime.volumes.{name}"),
                    &format!("is {}: {error}", path.display()),
                )
            })?;
            volumes.insert(name, real);
        }
        Ok(Some(RuntimeConfig {
            runsc: self.runsc,
            volumes,
            limits,
            nameserver: self.egress.nameserver,
            allow_networks: self
                .egress
                .allow_networks
                .iter()
                .map(|text| text.parse::<Network>())
                .collect::<Result<_, _>>()?,
            egress_counted: self.egress.counted == Some(true),
        }))
    }
}

/// Whether somebody wrote the key where its file is expected: each error about a file shows
/// its name.
fn is_key(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::trim)
        .is_some_and(|name| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A SPIFFE trust domain (SPIFFE-ID, section 2.1): lower-case letters, digits,
/// `-`, `_` and `.`, at most 255 bytes.
fn trust_domain(given: Option<String>) -> Result<String, ServerConfigError> {
    let name = given.unwrap_or_else(|| "creto.local".to_owned());
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if (1..=255).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err(invalid(
            "identity.trust_domain",
            "is not a SPIFFE trust domain: 1 to 255 of a-z, 0-9, `-`, `_` and `.`",
        ))
    }
}

fn loopback(key: &'static str, listen: SocketAddr) -> Result<(), ServerConfigError> {
    if listen.ip().is_loopback() {
        Ok(())
    } else {
        Err(ServerConfigError::NotLoopback { key, listen })
    }
}

fn seconds<const MIN: u64, const MAX: u64>(
    given: Option<Seconds<MIN, MAX>>,
    default: u64,
) -> Duration {
    Duration::from_secs(given.map_or(default, |value| value.get()))
}

pub(crate) fn invalid(key: &str, why: &str) -> ServerConfigError {
    ServerConfigError::Invalid {
        key: key.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_place_of_its_file_is_refused_and_not_shown() {
        let key = "5eC2e7".repeat(11).split_off(2);
        for given in [key.clone(), format!("{key}\n"), format!("/etc/creto/{key}")] {
            let file: File = toml::from_str(&format!("[identity]\nroot_key_file = {given:?}\n"))
                .expect("the file is well-formed");
            let error = file.validate(Path::new("/srv")).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("root_key = "), "{shown}");
            assert!(!shown.contains(&key), "{shown}");
        }
        for name in ["root.key", &key[1..]] {
            let file: File = toml::from_str(&format!("[identity]\nroot_key_file = {name:?}\n"))
                .expect("the file is well-formed");
            file.validate(Path::new("/srv")).unwrap();
        }
    }
}
