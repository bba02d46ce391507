//! The calls.

use std::path::Path;
use std::time::Duration;

use creto_config::Secret;
use creto_types::{Randomness, SystemRandom};
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::{ClientError, Pages, Problem, ServerAddress};

/// The longest call: the server holds one for at most a minute when asked to
/// wait, and an export of a large log takes its time.
const LONGEST_CALL: Duration = Duration::from_secs(300);

/// The largest answer: 1 GiB, an export with some millions of leaves.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024 * 1024;

/// Reads a credential from a file that nobody but its owner may read.
pub fn read_credential(path: &Path) -> Result<Secret, ClientError> {
    Secret::from_file(path).map_err(|source| ClientError::Credential {
        path: path.to_owned(),
        source,
    })
}

/// Calls one server, with one credential or none. Cheap to clone; clones share
/// connections.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    server: ServerAddress,
    credential: Option<Secret>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server)
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client without a credential: for what is public.
    #[must_use]
    pub fn new(server: ServerAddress) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(LONGEST_CALL))
            .user_agent(concat!("creto/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.new_agent(),
            server,
            credential: None,
        }
    }

    /// The same with a credential, which has to be a bearer token
    /// (RFC 6750, section 2.1).
    pub fn with_credential(mut self, credential: Secret) -> Result<Self, ClientError> {
        let valid = credential.expose().bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
        });
        if !valid {
            return Err(ClientError::MalformedCredential);
        }
        self.credential = Some(credential);
        Ok(self)
    }

    /// The server that is called.
    #[must_use]
    pub const fn server(&self) -> ServerAddress {
        self.server
    }

    /// A key for one mutation, to be kept by whoever may repeat it.
    #[must_use]
    pub fn fresh_key() -> String {
        let mut bytes = [0_u8; 16];
        SystemRandom.fill(&mut bytes);
        hex::encode(bytes)
    }

    /// Reads a JSON document.
    pub fn get(&self, path: &str) -> Result<Value, ClientError> {
        json(&self.get_bytes(path)?)
    }

    /// Reads anything.
    pub fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        let mut request = self.agent.get(self.server.url(path));
        if let Some(credential) = &self.credential {
            request = request.header("Authorization", format!("Bearer {}", credential.expose()));
        }
        self.answer(request.call())
    }

    /// Changes something, under a fresh key.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.post_with_key(path, body, &Self::fresh_key())
    }

    /// Changes something, under this key: the same key and body give the same
    /// answer again, another body is refused.
    pub fn post_with_key(&self, path: &str, body: &Value, key: &str) -> Result<Value, ClientError> {
        let mut request = self
            .agent
            .post(self.server.url(path))
            .header("Idempotency-Key", key);
        if let Some(credential) = &self.credential {
            request = request.header("Authorization", format!("Bearer {}", credential.expose()));
        }
        json(&self.answer(request.send_json(body))?)
    }

    /// Walks through a list, page by page. The path may carry a query.
    #[must_use]
    pub fn pages(&self, path: &str) -> Pages<'_> {
        Pages::new(self, path)
    }

    fn answer(&self, result: Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, ClientError> {
        let mut response = result.map_err(|error| self.failed(error))?;
        let status = response.status();
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_vec()
            .map_err(|source| ClientError::Interrupted {
                server: self.server,
                source: Box::new(source),
            })?;
        if status.is_success() {
            Ok(body)
        } else {
            let problem = Problem::from_body(status.as_u16(), &body);
            Err(ClientError::Refused(Box::new(problem)))
        }
    }

    /// Whether anything was sent makes the difference between the two.
    fn failed(&self, error: ureq::Error) -> ClientError {
        let never_sent = match &error {
            ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
            ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            _ => false,
        };
        let (server, source) = (self.server, Box::new(error));
        if never_sent {
            ClientError::Unreachable { server, source }
        } else {
            ClientError::Interrupted { server, source }
        }
    }
}

fn json(body: &[u8]) -> Result<Value, ClientError> {
    serde_json::from_slice(body).map_err(ClientError::NotJson)
}
