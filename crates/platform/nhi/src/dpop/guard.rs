//! What makes a proof good for once: the nonces of this process, and which proofs were
//! accepted by each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{CryptoProvider, MacKey};
use creto_types::{Clock, OrgId, PrincipalName};
use parking_lot::Mutex;

use super::{DpopError, Proof};

/// How long a nonce is the newest. The one before it is accepted as well, so a proof is
/// fresh for at least this long and at most twice as long.
pub const NONCE_TURN: Duration = Duration::from_secs(60);

/// The most proofs of one principal in a turn, over a thousand a second: nobody takes
/// the room of others.
pub const MAX_PROOFS_PER_PRINCIPAL: u32 = 65_536;

/// The most proofs in a turn, some 17,000 a second: more than are verified in it. Two
/// turns of them are some 70 MB.
const MAX_PROOFS: usize = 1_048_576;

/// Bytes by which a proof is remembered. Who finds two of one identifier has one of them
/// refused.
const SEEN_LEN: usize = 16;

/// Bytes of the turn in a nonce.
const TURN_LEN: usize = 8;

/// Keeps what the key tags apart.
const NONCE: u8 = 1;
const SEEN: u8 = 2;

pub(crate) struct ProofGuard {
    clock: Arc<dyn Clock>,
    /// Nobody else's nonces are accepted: not those of another process, nor of an
    /// earlier one.
    key: MacKey,
    turns: Mutex<Turns>,
}

/// The newest turn and the one before it.
#[derive(Default)]
struct Turns {
    newest: u64,
    now: Turn,
    before: Turn,
}

#[derive(Default)]
struct Turn {
    seen: HashSet<[u8; SEEN_LEN]>,
    of: HashMap<(OrgId, PrincipalName), u32>,
}

impl ProofGuard {
    pub(crate) fn new(provider: &dyn CryptoProvider, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            key: MacKey::drawn(provider),
            turns: Mutex::default(),
        }
    }

    /// The newest nonce.
    pub(crate) fn nonce(&self) -> String {
        let turn = self.turn().to_be_bytes();
        let tag = self.key.tag(&[&[NONCE], turn.as_slice()].concat());
        URL_SAFE_NO_PAD.encode([turn.as_slice(), &tag].concat())
    }

    /// Accepts a proof of this principal's, once.
    pub(crate) fn accept(
        &self,
        org: OrgId,
        principal: &PrincipalName,
        proof: &Proof,
    ) -> Result<(), DpopError> {
        let nonce = proof.nonce.as_deref().ok_or(DpopError::UseNonce)?;
        let named = self.turn_of(nonce).ok_or(DpopError::UseNonce)?;
        let said = [
            &[SEEN],
            proof.key.as_bytes().as_slice(),
            proof.jti.as_bytes(),
        ]
        .concat();
        let tag = self.key.tag(&said);
        let seen: [u8; SEEN_LEN] = *tag
            .first_chunk()
            .expect("a tag is longer than what is kept of it");

        let mut turns = self.turns.lock();
        // Read under the lock, so that turns never come out of their order.
        turns.advance(self.turn());
        let [of_named, other] = turns.pair(named).ok_or(DpopError::UseNonce)?;
        // The same identifier under the other nonce is another proof to RFC 9449, which
        // has a `jti` unique for as long as proofs are accepted at all.
        if of_named.seen.contains(&seen) || other.seen.contains(&seen) {
            return Err(DpopError::Replayed);
        }
        let full = || DpopError::TooManyProofs {
            principal: principal.clone(),
        };
        if of_named.seen.len() >= MAX_PROOFS {
            return Err(full());
        }
        let count = of_named.of.entry((org, principal.clone())).or_default();
        if *count >= MAX_PROOFS_PER_PRINCIPAL {
            return Err(full());
        }
        *count += 1;
        of_named.seen.insert(seen);
        Ok(())
    }

    /// On the clock that is never set.
    fn turn(&self) -> u64 {
        self.clock.monotonic().as_secs() / NONCE_TURN.as_secs()
    }

    /// The turn that a nonce of ours is of.
    fn turn_of(&self, nonce: &str) -> Option<u64> {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (turn, tag) = bytes.split_first_chunk::<TURN_LEN>()?;
        self.key
            .verify(&[&[NONCE], turn.as_slice()].concat(), tag)
            .then(|| u64::from_be_bytes(*turn))
    }
}

impl Turns {
    fn advance(&mut self, turn: u64) {
        if turn <= self.newest {
            return;
        }
        let ended = std::mem::take(&mut self.now);
        self.before = if turn == self.newest + 1 {
            ended
        } else {
            Turn::default()
        };
        self.newest = turn;
    }

    /// The turn, when its nonce is accepted, and the other one.
    fn pair(&mut self, turn: u64) -> Option<[&mut Turn; 2]> {
        if turn == self.newest {
            Some([&mut self.now, &mut self.before])
        } else if turn + 1 == self.newest {
            Some([&mut self.before, &mut self.now])
        } else {
            None
        }
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use creto_crypto::AwsLcProvider;
    use creto_types::{ManualClock, SeededRandom};
    use serde_json::json;

    use super::*;
    use crate::test_util::{Holder, name};

    #[test]
    fn nobody_takes_the_room_of_others() {
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let provider = AwsLcProvider::new(Arc::new(SeededRandom::new(1)));
        let guard = ProofGuard::new(&provider, Arc::clone(&clock) as _);
        let org = format!("org_{}", "0".repeat(32)).parse().unwrap();
        let holder = Holder::new(1);
        let header = holder.header().to_string();
        let mut number = 0_u32;
        let mut accept = |who: &str| {
            number += 1;
            let mut claims = holder.claims(("GET", "/"), None, &guard.nonce(), start);
            claims["jti"] = json!(number.to_string());
            // It is the counting that is looked at, not the signature.
            let claims = claims.to_string();
            let proof = Proof::unsigned(header.as_bytes(), claims.as_bytes()).unwrap();
            guard.accept(org, &name(who), &proof)
        };
        for _ in 0..MAX_PROOFS_PER_PRINCIPAL {
            accept("loud").unwrap();
        }
        let full = DpopError::TooManyProofs {
            principal: name("loud"),
        };
        assert_eq!(accept("loud"), Err(full.clone()));
        accept("quiet").unwrap();
        clock.advance(NONCE_TURN);
        accept("loud").unwrap();
        // Nothing is kept for longer than a nonce is accepted.
        clock.advance(2 * NONCE_TURN);
        accept("quiet").unwrap();
        let turns = guard.turns.lock();
        assert_eq!((turns.now.seen.len(), turns.before.seen.len()), (1, 0));
    }

    #[test]
    fn a_full_memory_refuses_everybody() {
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let provider = AwsLcProvider::new(Arc::new(SeededRandom::new(1)));
        let guard = ProofGuard::new(&provider, clock);
        {
            let mut turns = guard.turns.lock();
            let numbers = 0..u128::try_from(MAX_PROOFS).unwrap();
            turns.now.seen.extend(numbers.map(u128::to_be_bytes));
        }
        let org = format!("org_{}", "0".repeat(32)).parse().unwrap();
        let proof = Holder::new(1).proof(("GET", "/"), None, &guard.nonce(), start);
        let proof = Proof::parse(&proof).unwrap();
        let refused = guard.accept(org, &name("quiet"), &proof);
        assert!(matches!(refused, Err(DpopError::TooManyProofs { .. })));
    }
}
