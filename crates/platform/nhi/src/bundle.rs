//! Public keys as others fetch them: the JWK set and the SPIFFE bundle.

use serde_json::{Value, json};

use crate::keys::jwk;
use crate::registry::OrgState;
use crate::{KeyPurpose, Nhi};

/// How often a bundle is worth fetching again, in seconds. A new issuer key signs as
/// soon as it is there, so a reader that meets an unknown `kid` does not wait for it.
const REFRESH_SECONDS: u64 = 300;

impl Nhi {
    /// The keys that tokens are checked with, as a JWK set.
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.issuer_keys("sig").0 })
    }

    /// The same keys as the bundle of the trust domain (SPIFFE Trust Domain and
    /// Bundle, section 4).
    #[must_use]
    pub fn trust_bundle(&self) -> Value {
        let (keys, sequence) = self.issuer_keys("jwt-svid");
        json!({
            "keys": keys,
            "spiffe_sequence": sequence,
            "spiffe_refresh_hint": REFRESH_SECONDS,
        })
    }

    /// The issuer keys of every organization, and the sequence number of this set:
    /// both of one moment.
    fn issuer_keys(&self, purpose: &str) -> (Vec<Value>, u64) {
        let registry = self.inner.registry.read();
        let keys = registry.orgs.values().flat_map(|state| {
            let signer = state.signer(KeyPurpose::Issuer);
            let now = jwk(signer.verifying_key(), &state.issuer_kid, purpose);
            let former = state.former_issuers.iter();
            std::iter::once(now).chain(former.map(|issuer| jwk(&issuer.key, &issuer.kid, purpose)))
        });
        let keys = keys.collect();
        let states = registry.orgs.values();
        let sequence = states.map(OrgState::issuer_sequence).sum();
        (keys, sequence)
    }
}
