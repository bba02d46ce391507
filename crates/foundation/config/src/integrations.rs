//! The `[integrations.*]` sections: how this deployment reaches the platform
//! and security systems and the services outside.
//!
//! Every key is understood. What this build cannot serve is listed by
//! [`Integrations::unserved`], so that a server refuses it by name instead of
//! ignoring it.

use serde::{Deserialize, Serialize};

use crate::{
    Bounded, ConfigError, Endpoint, Environment, Millis, Seconds, Secret, SecretRef, load,
};

/// `timeout_ms`: the deadline of one call to a remote system.
type Timeout = Millis<1, 600_000>;
/// `retry_max_attempts`: attempts of one call, the first included.
type Attempts = Bounded<1, 10>;
/// `cache_ttl_seconds`: up to a day; zero means no caching.
type CacheTtl = Seconds<0, 86_400>;
/// `batch_size`: trace records of one batch.
type BatchSize = Bounded<1, 10_000>;
/// `flush_interval_ms`: the longest that a trace record waits.
type FlushInterval = Millis<1, 60_000>;

/// `[integrations]` as it stands in the file. A section that is left out is
/// embedded, or disabled.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntegrationsSection {
    /// `[integrations.nhi]`
    pub nhi: NhiSection,
    /// `[integrations.authz]`
    pub authz: AuthzSection,
    /// `[integrations.audit]`
    pub audit: AuditSection,
    /// `[integrations.slack]`
    pub slack: SlackSection,
    /// `[integrations.stripe]`
    pub stripe: StripeSection,
}

/// `[integrations.nhi]`: identities, delegation, keys.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NhiSection {
    /// Where the system runs.
    pub endpoint: Endpoint,
    /// The deadline of one remote call.
    pub timeout_ms: Option<Timeout>,
    /// How often one remote call is tried.
    pub retry_max_attempts: Option<Attempts>,
}

/// `[integrations.authz]`: policy decisions.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthzSection {
    /// Where the system runs.
    pub endpoint: Endpoint,
    /// The deadline of one remote call.
    pub timeout_ms: Option<Timeout>,
    /// How long a decision may be reused.
    pub cache_ttl_seconds: Option<CacheTtl>,
}

/// `[integrations.audit]`: the log.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSection {
    /// Where the system runs.
    pub endpoint: Endpoint,
    /// Whether trace records are written behind the caller's back.
    pub async_writes: Option<bool>,
    /// Trace records of one batch.
    pub batch_size: Option<BatchSize>,
    /// The longest that a trace record waits for its batch.
    pub flush_interval_ms: Option<FlushInterval>,
}

/// `[integrations.slack]`: oversight requests in Slack.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackSection {
    /// Whether it is used at all.
    pub enabled: bool,
    /// Checks that a call comes from Slack.
    pub signing_secret: Option<SecretRef>,
    /// Authenticates calls to Slack.
    pub bot_token: Option<SecretRef>,
}

/// `[integrations.stripe]`: invoices in Stripe.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StripeSection {
    /// Whether it is used at all.
    pub enabled: bool,
    /// Authenticates calls to Stripe.
    pub api_key: Option<SecretRef>,
    /// Checks that a call comes from Stripe.
    pub webhook_secret: Option<SecretRef>,
}

/// `[integrations]` after validation: defaults are filled in, secrets are read.
#[derive(Clone, Debug, Serialize)]
pub struct Integrations {
    /// Identities, delegation, keys.
    pub nhi: Nhi,
    /// Policy decisions.
    pub authz: Authz,
    /// The log.
    pub audit: Audit,
    /// Oversight requests in Slack, when enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,
    /// Invoices in Stripe, when enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stripe: Option<Stripe>,
    #[serde(skip)]
    unserved: Vec<Unserved>,
}

/// How identities are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nhi {
    /// Where the system runs.
    pub endpoint: Endpoint,
    /// The deadline of one remote call; 100 ms unless told.
    pub timeout_ms: Timeout,
    /// Attempts of one remote call, the first included; 3 unless told.
    pub retry_max_attempts: Attempts,
}

/// How decisions are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authz {
    /// Where the system runs.
    pub endpoint: Endpoint,
    /// The deadline of one remote call; 10 ms unless told.
    pub timeout_ms: Timeout,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Where the system runs.
    pub endpoint: Endpoint,
    /// Whether trace records may follow their effect; evidence never does. True
    /// unless told.
    pub async_writes: bool,
    /// Trace records of one batch; 100 unless told.
    pub batch_size: BatchSize,
    /// The longest that a trace record waits; 1000 ms unless told.
    pub flush_interval_ms: FlushInterval,
}

/// What it takes to use Slack.
#[derive(Clone, Debug, Serialize)]
pub struct Slack {
    /// Checks that a call comes from Slack.
    pub signing_secret: Secret,
    /// Authenticates calls to Slack.
    pub bot_token: Secret,
}

/// What it takes to use Stripe.
#[derive(Clone, Debug, Serialize)]
pub struct Stripe {
    /// Authenticates calls to Stripe.
    pub api_key: Secret,
    /// Checks that a call comes from Stripe.
    pub webhook_secret: Secret,
}

/// Whether a server may start all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnservedKind {
    /// This build cannot do what is asked; a server must not start.
    Refused,
    /// The key is accepted, but what it asks for happens in another way.
    Note,
}

/// A setting that this build does not serve as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unserved {
    /// Refusal or note.
    pub kind: UnservedKind,
    /// The full key path.
    pub key: &'static str,
    /// The value as configured; never a secret.
    pub value: String,
    /// Why it is not served as written.
    pub why: &'static str,
    /// What to write or expect instead.
    pub instead: &'static str,
}

impl Integrations {
    /// Loads and validates a file that has `[integrations.*]` sections only.
    pub fn from_toml(text: &str, environment: &dyn Environment) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct IntegrationsFile {
            #[serde(default)]
            integrations: IntegrationsSection,
        }
        load::<IntegrationsFile>(text, environment)?
            .integrations
            .validate()
    }

    /// What this build does not serve as written: refusals first, then
    /// notes, each in the order of the file's sections.
    #[must_use]
    pub fn unserved(&self) -> &[Unserved] {
        &self.unserved
    }
}

impl IntegrationsSection {
    /// Fills in defaults, checks what belongs together and reads the secrets of
    /// enabled sections.
    pub fn validate(self) -> Result<Integrations, ConfigError> {
        let unserved = self.list_unserved();
        Ok(Integrations {
            nhi: Nhi {
                endpoint: self.nhi.endpoint,
                timeout_ms: self.nhi.timeout_ms.unwrap_or(NHI_TIMEOUT),
                retry_max_attempts: self.nhi.retry_max_attempts.unwrap_or(NHI_ATTEMPTS),
            },
            authz: Authz {
                endpoint: self.authz.endpoint,
                timeout_ms: self.authz.timeout_ms.unwrap_or(AUTHZ_TIMEOUT),
            },
            audit: Audit {
                endpoint: self.audit.endpoint,
                async_writes: self.audit.async_writes.unwrap_or(true),
                batch_size: self.audit.batch_size.unwrap_or(AUDIT_BATCH),
                flush_interval_ms: self.audit.flush_interval_ms.unwrap_or(AUDIT_FLUSH),
            },
            slack: if self.slack.enabled {
                Some(Slack {
                    signing_secret: secret(
                        "integrations.slack.signing_secret",
                        self.slack.signing_secret.as_ref(),
                    )?,
                    bot_token: secret(
                        "integrations.slack.bot_token",
                        self.slack.bot_token.as_ref(),
                    )?,
                })
            } else {
                None
            },
            stripe: if self.stripe.enabled {
                Some(Stripe {
                    api_key: secret("integrations.stripe.api_key", self.stripe.api_key.as_ref())?,
                    webhook_secret: secret(
                        "integrations.stripe.webhook_secret",
                        self.stripe.webhook_secret.as_ref(),
                    )?,
                })
            } else {
                None
            },
            unserved,
        })
    }

    fn list_unserved(&self) -> Vec<Unserved> {
        let mut list = Vec::new();
        let mut endpoint = |key, endpoint: &Endpoint| {
            if *endpoint != Endpoint::Embedded {
                list.push(Unserved {
                    kind: UnservedKind::Refused,
                    key,
                    value: endpoint.to_string(),
                    why: "this build runs the system in its own process and has no gRPC client",
                    instead: "endpoint = \"embedded\"",
                });
            }
        };
        endpoint("integrations.nhi.endpoint", &self.nhi.endpoint);
        endpoint("integrations.authz.endpoint", &self.authz.endpoint);
        endpoint("integrations.audit.endpoint", &self.audit.endpoint);

        for (key, enabled, why, instead) in [
            (
                "integrations.slack.enabled",
                self.slack.enabled,
                "this build has no Slack channel",
                "enabled = false; people decide on the web page or with the command line",
            ),
            (
                "integrations.stripe.enabled",
                self.stripe.enabled,
                "this build has no Stripe connector",
                "enabled = false; invoices are issued and kept by Creto itself",
            ),
        ] {
            if enabled {
                list.push(Unserved {
                    kind: UnservedKind::Refused,
                    key,
                    value: "true".to_owned(),
                    why,
                    instead,
                });
            }
        }

        if self.audit.async_writes == Some(false) {
            list.push(Unserved {
                kind: UnservedKind::Refused,
                key: "integrations.audit.async_writes",
                value: "false".to_owned(),
                why: "evidence is never written behind, trace records always are",
                instead: "leave it out; flush_interval_ms bounds how long a trace record waits",
            });
        }

        let mut note = |key, value: Option<String>, why, instead| {
            if let Some(value) = value {
                list.push(Unserved {
                    kind: UnservedKind::Note,
                    key,
                    value,
                    why,
                    instead,
                });
            }
        };
        let embedded = |endpoint: &Endpoint| *endpoint == Endpoint::Embedded;
        let in_process = "the system is embedded: a call is a function call without a deadline";
        let only_remote = "leave it out, or keep it for the day the endpoint is remote";
        note(
            "integrations.nhi.timeout_ms",
            shown(self.nhi.timeout_ms).filter(|_| embedded(&self.nhi.endpoint)),
            in_process,
            only_remote,
        );
        note(
            "integrations.nhi.retry_max_attempts",
            shown(self.nhi.retry_max_attempts).filter(|_| embedded(&self.nhi.endpoint)),
            "the system is embedded: nothing between it and its caller can fail",
            only_remote,
        );
        note(
            "integrations.authz.timeout_ms",
            shown(self.authz.timeout_ms).filter(|_| embedded(&self.authz.endpoint)),
            in_process,
            only_remote,
        );
        note(
            "integrations.authz.cache_ttl_seconds",
            shown(self.authz.cache_ttl_seconds.filter(|ttl| ttl.get() > 0)),
            "decisions are made in process and never cached: a revocation counts at the next call",
            "no cached decision to wait for; zero says the same without this note",
        );
        note(
            "integrations.audit.async_writes",
            shown(
                self.audit
                    .async_writes
                    .filter(|written_behind| *written_behind),
            ),
            "it holds for trace records only: evidence is durable before its effect",
            "nothing to change",
        );
        list
    }
}

const NHI_TIMEOUT: Timeout = in_bounds(Timeout::new(100));
const NHI_ATTEMPTS: Attempts = in_bounds(Attempts::new(3));
const AUTHZ_TIMEOUT: Timeout = in_bounds(Timeout::new(10));
const AUDIT_BATCH: BatchSize = in_bounds(BatchSize::new(100));
const AUDIT_FLUSH: FlushInterval = in_bounds(FlushInterval::new(1000));

/// Evaluated by the compiler: a default outside its bounds does not build.
const fn in_bounds<T: Copy>(default: Result<T, crate::BoundsError>) -> T {
    match default {
        Ok(value) => value,
        #[expect(clippy::panic, reason = "const evaluation: this is a compile error")]
        Err(_) => panic!("a default lies outside its bounds"),
    }
}

fn shown<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn secret(key: &str, reference: Option<&SecretRef>) -> Result<Secret, ConfigError> {
    reference
        .ok_or_else(|| ConfigError::Invalid {
            key: key.to_owned(),
            why: "is missing, and its section is enabled".to_owned(),
        })?
        .resolve()
        .map_err(|source| ConfigError::Secret {
            key: key.to_owned(),
            source,
        })
}
