//! Logs and witnesses of others over HTTP: the files of C2SP tlog-tiles, and
//! `add-checkpoint` of C2SP tlog-witness.
//!
//! What comes back is believed for its signatures and hashes, never for where it came
//! from, so nothing but privacy hangs on the connection. Over HTTPS the other side has to
//! show a certificate of an authority that this machine trusts.
//!
//! Answers are bounded in size and time, and redirects are not followed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use creto_audit::{LogReader, WitnessAnswer, WitnessClient};
use creto_errors::{Class, Classify};
use creto_types::StoreError;
use rustls::CertificateError;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The longest that a file is waited for.
const LONGEST_FILE: Duration = Duration::from_secs(10);

/// The longest that a cosignature is waited for: no longer than a server that is told to
/// stop waits for its open requests.
const LONGEST_COSIGNATURE: Duration = Duration::from_secs(5);

/// A full bundle: 256 entries of 65,535 bytes, each with its two-byte length.
const MAX_FILE_BYTES: u64 = 256 * (65_535 + 2);

/// Some signature lines, or the reason why there are none.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Where a log or a witness is: `http://host[:port][/path]` or the same with `https`,
/// without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpPrefix(String);

/// A text is not such an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {why}")]
pub struct PrefixError {
    text: String,
    why: &'static str,
}

impl Classify for PrefixError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "log_address_invalid"
    }
}

impl FromStr for HttpPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |why| PrefixError {
            text: text.chars().take(200).collect(),
            why,
        };
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
            .ok_or_else(|| refused("is not an address: http[s]://host[:port][/path]"))?;
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@' | '\\');
        if rest.is_empty() || rest.starts_with('/') || !rest.chars().all(plain) {
            return Err(refused(
                "is not an address: http[s]://host[:port][/path], without credentials and queries",
            ));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for HttpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HttpPrefix {
    fn is_tls(&self) -> bool {
        self.0.starts_with("https://")
    }
}

/// This machine trusts no authority, so that nobody can be spoken to over HTTPS.
#[derive(Debug, thiserror::Error)]
#[error("no certificate of an authority can be read on this machine, so {prefix} has nobody to vouch for it{}", because(.why))]
pub struct TrustError {
    prefix: HttpPrefix,
    why: Option<String>,
}

fn because(why: &Option<String>) -> String {
    why.as_ref()
        .map_or_else(String::new, |why| format!(": {why}"))
}

impl Classify for TrustError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "trust_store_empty"
    }
}

/// A file could not be had.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("cannot read {url}")]
    Call {
        url: String,
        #[source]
        source: Box<ureq::Error>,
    },
    #[error("{url} was answered with the status {status}")]
    Status { url: String, status: u16 },
}

/// The authorities of this machine: those of its certificate store, or of the file that
/// `SSL_CERT_FILE` or the directory that `SSL_CERT_DIR` names.
fn authorities(prefix: &HttpPrefix) -> Result<RootCerts, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(TrustError {
            prefix: prefix.clone(),
            why: found.errors.first().map(ToString::to_string),
        });
    }
    let certificate = |der: &_| Certificate::from_der(AsRef::as_ref(der)).to_owned();
    Ok(found
        .certs
        .iter()
        .map(certificate)
        .collect::<Vec<_>>()
        .into())
}

fn agent(prefix: &HttpPrefix, longest: Duration) -> Result<Agent, TrustError> {
    let mut tls = TlsConfig::builder();
    if prefix.is_tls() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        tls = tls
            .unversioned_rustls_crypto_provider(Arc::new(provider))
            .root_certs(authorities(prefix)?);
    }
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(longest))
        .user_agent(concat!("creto/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls.build())
        .build();
    Ok(config.new_agent())
}

/// Why a call failed, in the same words whenever it fails so: what is said of a witness
/// is said once until it changes, and rustls names the second in which it looked.
fn reason(error: &ureq::Error) -> String {
    let tls = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error
            .get_ref()
            .and_then(|error| error.downcast_ref::<rustls::Error>()),
        _ => None,
    };
    let certificate = match tls {
        Some(rustls::Error::InvalidCertificate(error)) => error,
        _ => return error.to_string(),
    };
    match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".to_owned()
        }
        _ => error.to_string(),
    }
}

/// A log's public files.
#[derive(Clone, Debug)]
pub struct HttpLog {
    agent: Agent,
    prefix: HttpPrefix,
}

impl HttpLog {
    /// The log below this prefix.
    pub fn new(prefix: HttpPrefix) -> Result<Self, TrustError> {
        Ok(Self {
            agent: agent(&prefix, LONGEST_FILE)?,
            prefix,
        })
    }
}

impl LogReader for HttpLog {
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let url = format!("{}/{path}", self.prefix);
        let failed = |error: FetchError| StoreError::Unavailable(Box::new(error));
        let call = |source: ureq::Error| {
            failed(FetchError::Call {
                url: url.clone(),
                source: Box::new(source),
            })
        };
        let mut response = self.agent.get(&url).call().map_err(call)?;
        match response.status().as_u16() {
            200 => {}
            404 | 410 => return Ok(None),
            status => {
                let url = url.clone();
                return Err(failed(FetchError::Status { url, status }));
            }
        }
        let body = response.body_mut().with_config().limit(MAX_FILE_BYTES);
        Ok(Some(body.read_to_vec().map_err(call)?))
    }
}

/// A witness.
#[derive(Clone, Debug)]
pub struct HttpWitness {
    agent: Agent,
    prefix: HttpPrefix,
}

impl HttpWitness {
    /// The witness with this submission prefix.
    pub fn new(prefix: HttpPrefix) -> Result<Self, TrustError> {
        Ok(Self {
            agent: agent(&prefix, LONGEST_COSIGNATURE)?,
            prefix,
        })
    }

    fn send(&self, request: &str) -> Result<WitnessAnswer, String> {
        let url = format!("{}/add-checkpoint", self.prefix);
        let call = |error: ureq::Error| format!("{url} cannot be reached: {}", reason(&error));
        let mut response = self
            .agent
            .post(&url)
            .content_type("text/plain; charset=utf-8")
            .send(request)
            .map_err(call)?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES);
        let text = body.read_to_string().map_err(call)?;
        let size = || text.strip_suffix('\n').and_then(|size| size.parse().ok());
        Ok(match (status, size()) {
            (200, _) => WitnessAnswer::Cosigned(text),
            (409, Some(size)) => WitnessAnswer::Conflict(size),
            _ => {
                let why: String = text.chars().take(200).collect();
                WitnessAnswer::Refused(format!("status {status}: {}", why.trim_end()))
            }
        })
    }
}

#[async_trait]
impl WitnessClient for HttpWitness {
    async fn add_checkpoint(&self, request: String) -> Result<WitnessAnswer, String> {
        let witness = self.clone();
        tokio::task::spawn_blocking(move || witness.send(&request))
            .await
            .map_err(|error| error.to_string())?
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;

    use super::*;

    #[test]
    fn a_certificate_that_expired_is_told_in_the_same_words_every_second() {
        let at = |second| UnixTime::since_unix_epoch(Duration::from_secs(second));
        let told = |error| {
            let error = rustls::Error::InvalidCertificate(error);
            let wrapped = ureq::Error::Io(std::io::Error::other(error.clone()));
            assert_eq!(reason(&wrapped), reason(&ureq::Error::Rustls(error)));
            reason(&wrapped)
        };
        let expired = |second| {
            told(CertificateError::ExpiredContext {
                time: at(second),
                not_after: at(7),
            })
        };
        assert_eq!(expired(8), expired(9));
        let early = |second| {
            told(CertificateError::NotValidYetContext {
                time: at(second),
                not_before: at(9),
            })
        };
        assert_eq!(early(7), early(8));
        assert_ne!(expired(8), early(8));
    }

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_path() {
        for (text, kept) in [
            (
                "http://127.0.0.1:7182/log/org",
                "http://127.0.0.1:7182/log/org",
            ),
            ("http://log.example/", "http://log.example"),
            ("https://log.example/org/", "https://log.example/org"),
        ] {
            assert_eq!(text.parse::<HttpPrefix>().unwrap().to_string(), kept);
        }
        for text in [
            "ftp://log.example",
            "log.example",
            "http://",
            "https://",
            "http:///x",
            "http://me:secret@log.example",
            "http://log.example/?a=b",
            "http://log.example/a b",
        ] {
            assert!(text.parse::<HttpPrefix>().is_err(), "{text}");
        }
    }
}
