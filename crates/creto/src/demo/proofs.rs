//! Requests with a proof that is chosen by hand, as somebody sends them who has read them
//! on the way: the client never sends one twice.

use creto_client::{ClientError, ProofKey, read_credential};
use serde_json::Value;
use ureq::Agent;

use super::documents::{ensure, same, text};
use super::error::DemoError;
use super::world::World;

/// Where RFC 9449, section 8, has the server's nonce.
const NONCE: &str = "DPoP-Nonce";

/// The path that is asked for.
const PATH: &str = "/v1/self";

/// What a request came to.
struct Answer {
    status: u16,
    nonce: Option<String>,
    document: Value,
}

/// Asks who the courier is, and then sends the very same request again: the first is
/// answered, the second is not.
pub(crate) fn replay(world: &World) -> Result<(), DemoError> {
    let token = read_credential(&world.courier_credential())?;
    let key = ProofKey::from_file(&world.courier_key())?;
    let url = format!("{}{PATH}", world.address);
    let ask = |proof: &str| whoami(&url, token.expose(), proof);

    // The nonce is learned by asking without one.
    let told = ask(&key.prove("GET", &url, &token)?)?;
    same(
        "without a nonce",
        "use_dpop_nonce",
        text(&told.document, "/code")?,
    )?;
    let nonce = told.nonce.ok_or_else(|| {
        DemoError::Fact("the server asks for its nonce and does not tell it".to_owned())
    })?;
    key.told(&nonce);

    let proof = key.prove("GET", &url, &token)?;
    let answered = ask(&proof)?;
    ensure(answered.status == 200, || {
        format!("a good proof came to {}", answered.document)
    })?;
    let again = ask(&proof)?;
    same("the same proof's status", 401, again.status)?;
    same(
        "the same proof",
        "dpop_proof_replayed",
        text(&again.document, "/code")?,
    )
}

fn whoami(url: &str, token: &str, proof: &str) -> Result<Answer, DemoError> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .build();
    let failed = |error: ureq::Error| DemoError::Fact(format!("{url}: {error}"));
    let mut response = config
        .new_agent()
        .get(url)
        .header("Authorization", format!("DPoP {token}"))
        .header("DPoP", proof)
        .call()
        .map_err(failed)?;
    let nonce = response.headers().get(NONCE);
    let nonce = nonce.and_then(|value| value.to_str().ok().map(str::to_owned));
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_vec().map_err(failed)?;
    let document = serde_json::from_slice(&body).map_err(ClientError::NotJson)?;
    Ok(Answer {
        status,
        nonce,
        document,
    })
}
