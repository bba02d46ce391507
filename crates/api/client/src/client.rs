//! The calls.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use creto_config::Secret;
use creto_types::{Randomness, SystemRandom};
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body, RequestBuilder};

use crate::{ClientError, Pages, Problem, ProofKey, ServerAddress};

/// The longest call: the server holds one for at most a minute when asked to
/// wait, and what goes through all payloads takes its time. Of a download it is how long
/// its beginning may take.
const LONGEST_CALL: Duration = Duration::from_secs(300);

/// Where the server tells the nonce for the next proof (RFC 9449, section 8).
const NONCE_HEADER: &str = "dpop-nonce";

/// The server's code for a proof without its newest nonce.
const USE_NONCE: &str = "use_dpop_nonce";

/// The largest answer that is held: 256 MiB, more than any has.
const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;

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
    /// What the credential is bound to, when it is.
    pub(crate) proof_key: Option<ProofKey>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server)
            .field("credential", &self.credential)
            .field("proof_key", &self.proof_key)
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
            proof_key: None,
        }
    }

    /// The same with a credential, which has to be a token
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
        let url = self.server.url(path);
        let answer = self.call(|| {
            let request = self.agent.get(&url);
            Ok(self.authorized(request, "GET", &url)?.call())
        })?;
        self.held(answer)
    }

    /// Reads anything, however much it is and however long it takes, as it comes. It ends
    /// with an error when the connection does before the answer.
    pub fn download(&self, path: &str) -> Result<impl Read + use<>, ClientError> {
        let url = self.server.url(path);
        let answer = self.call(|| {
            let request = self.agent.get(&url).config();
            let request = request
                .timeout_global(None)
                .timeout_recv_response(Some(LONGEST_CALL))
                .build();
            Ok(self.authorized(request, "GET", &url)?.call())
        })?;
        let body = answer.into_body().into_with_config();
        Ok(body.limit(u64::MAX).reader())
    }

    /// Changes something, under a fresh key.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.post_with_key(path, body, &Self::fresh_key())
    }

    /// Changes something, under this key: the same key and body give the same
    /// answer again, another body is refused.
    pub fn post_with_key(&self, path: &str, body: &Value, key: &str) -> Result<Value, ClientError> {
        let url = self.server.url(path);
        let answer = self.call(|| {
            let request = self.agent.post(&url).header("Idempotency-Key", key);
            Ok(self.authorized(request, "POST", &url)?.send_json(body))
        })?;
        json(&self.held(answer)?)
    }

    fn authorized<B>(
        &self,
        request: RequestBuilder<B>,
        method: &str,
        url: &str,
    ) -> Result<RequestBuilder<B>, ClientError> {
        let Some(credential) = &self.credential else {
            return Ok(request);
        };
        let Some(key) = &self.proof_key else {
            let value = format!("Bearer {}", credential.expose());
            return Ok(request.header("Authorization", value));
        };
        let proof = key.prove(method, url, credential)?;
        let value = format!("DPoP {}", credential.expose());
        Ok(request.header("Authorization", value).header("DPoP", proof))
    }

    /// Calls, and once more when all that was missing is the nonce that the refusal told:
    /// such a call changed nothing.
    fn call(
        &self,
        send: impl Fn() -> Result<Result<Response<Body>, ureq::Error>, ClientError>,
    ) -> Result<Response<Body>, ClientError> {
        match self.answer(send()?) {
            Err(error) if self.proof_key.is_some() && error.reported_code() == USE_NONCE => {
                self.answer(send()?)
            }
            answer => answer,
        }
    }

    /// Walks through a list, page by page. The path may carry a query.
    #[must_use]
    pub fn pages(&self, path: &str) -> Pages<'_> {
        Pages::new(self, path)
    }

    /// An answer that is no refusal.
    fn answer(
        &self,
        result: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ClientError> {
        let response = result.map_err(|error| self.failed(error))?;
        let status = response.status();
        let nonce = response.headers().get(NONCE_HEADER);
        let nonce = nonce.and_then(|value| value.to_str().ok());
        if let (Some(key), Some(nonce)) = (&self.proof_key, nonce) {
            key.told(nonce);
        }
        if status.is_success() {
            return Ok(response);
        }
        let problem = Problem::from_body(status.as_u16(), &self.held(response)?);
        Err(ClientError::Refused(Box::new(problem)))
    }

    fn held(&self, mut response: Response<Body>) -> Result<Vec<u8>, ClientError> {
        response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_vec()
            .map_err(|source| ClientError::Interrupted {
                server: self.server,
                source: Box::new(source),
            })
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
