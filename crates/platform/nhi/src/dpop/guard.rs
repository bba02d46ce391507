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

/// The most proofs of one principal in a turn, over a thousand a second.
pub const MAX_PROOFS_PER_PRINCIPAL: u32 = 65_536;

/// The room in a turn that is one organization's alone, whatever the others send: that of
/// one principal at its limit.
const OWN_PROOFS: u32 = MAX_PROOFS_PER_PRINCIPAL;

/// The room in a turn that all organizations share, once their own is used up: some 17,000
/// proofs a second, more than two processors verify.
const COMMON_PROOFS: u32 = 1_048_576;

/// The most that one organization has in a turn, of its own and in common: half of what is
/// common is for others.
const MAX_PROOFS_PER_ORGANIZATION: u32 = OWN_PROOFS + COMMON_PROOFS / 2;

/// Bytes by which a proof and its principal are remembered. Who finds two of one tag has
/// one of them refused, or is counted with the other.
///
/// What it takes: a table has twice the places it needs at most (from 7/16 on it is as
/// full as it was when it grew), each of 16 + 1 bytes for a proof and 20 + 1 for a
/// principal, of which there is one a proof at most. So a proof takes 76 bytes at most, the
/// common room of two turns 160 MB, and an organization's own 10 MB; with few principals
/// and many proofs 71 MB and 4.5 MB.
const TAG_LEN: usize = 16;

type Tag = [u8; TAG_LEN];

/// Bytes of the turn in a nonce.
const TURN_LEN: usize = 8;

/// Keeps what the key tags apart.
const NONCE: u8 = 1;
const SEEN: u8 = 2;
const OF: u8 = 3;

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
    seen: HashSet<Tag>,
    /// How many of them are of each principal, by its tag.
    of: HashMap<Tag, u32>,
    /// How many are of each organization.
    of_org: HashMap<OrgId, u32>,
    /// How many did not fit into the room of their organization.
    common: u32,
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
        let seen = self.tag(SEEN, &[proof.key.as_bytes(), proof.jti.as_bytes()]);
        let of = self.tag(
            OF,
            &[org.to_string().as_bytes(), principal.as_str().as_bytes()],
        );

        let mut turns = self.turns.lock();
        // Read under the lock, so that turns never come out of their order.
        let forgotten = turns.advance(self.turn());
        let outcome = turns.accept(named, org, of, seen);
        drop(turns);
        // It may be large, and nobody waits for it.
        drop(forgotten);
        outcome.map_err(|refused| match refused {
            Refused::Nonce => DpopError::UseNonce,
            Refused::Replayed => DpopError::Replayed,
            Refused::Full => DpopError::TooManyProofs {
                principal: principal.clone(),
                retry_after: self.until_next(),
            },
        })
    }

    fn tag(&self, what: u8, parts: &[&[u8]]) -> Tag {
        let tag = self.key.tag(&[&[what], parts.concat().as_slice()].concat());
        *tag.first_chunk()
            .expect("a tag is longer than what is kept of it")
    }

    /// Leaves this principal no room in the newest turn.
    #[cfg(feature = "test-util")]
    pub(crate) fn use_up(&self, org: OrgId, principal: &PrincipalName) {
        let of = self.tag(
            OF,
            &[org.to_string().as_bytes(), principal.as_str().as_bytes()],
        );
        let mut turns = self.turns.lock();
        turns.advance(self.turn());
        turns.now.of.insert(of, MAX_PROOFS_PER_PRINCIPAL);
    }

    /// How long the newest turn lasts still: the one after it has room for everybody.
    fn until_next(&self) -> Duration {
        let now = self.clock.monotonic();
        let next = NONCE_TURN.as_secs() * (now.as_secs() / NONCE_TURN.as_secs() + 1);
        Duration::from_secs(next).saturating_sub(now)
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

/// Why a proof was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Nonce,
    Replayed,
    Full,
}

impl Turns {
    /// Goes on to a turn, and gives back those that ended.
    fn advance(&mut self, turn: u64) -> [Option<Turn>; 2] {
        if turn <= self.newest {
            return [None, None];
        }
        let mut ended = Some(std::mem::take(&mut self.now));
        let before = if turn == self.newest + 1 {
            ended.take().unwrap_or_default()
        } else {
            Turn::default()
        };
        self.newest = turn;
        [ended, Some(std::mem::replace(&mut self.before, before))]
    }

    fn accept(&mut self, named: u64, org: OrgId, of: Tag, seen: Tag) -> Result<(), Refused> {
        let [turn, other] = self.pair(named).ok_or(Refused::Nonce)?;
        // The same identifier under the other nonce is another proof to RFC 9449, which
        // has a `jti` unique for as long as proofs are accepted at all.
        if turn.seen.contains(&seen) || other.seen.contains(&seen) {
            return Err(Refused::Replayed);
        }
        match turn.make_room(org, of) {
            Ok(()) => {
                turn.seen.insert(seen);
                Ok(())
            }
            // There is room under the newest nonce, or it says how long there is none.
            Err(Refused::Full) if named != self.newest => Err(Refused::Nonce),
            Err(refused) => Err(refused),
        }
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

impl Turn {
    /// Counts one more of this organization and principal, if there is room for it.
    fn make_room(&mut self, org: OrgId, of: Tag) -> Result<(), Refused> {
        let so_far = |count: Option<&u32>| count.copied().unwrap_or(0);
        let (of_org, of_this) = (so_far(self.of_org.get(&org)), so_far(self.of.get(&of)));
        let in_common = of_org >= OWN_PROOFS;
        if of_this >= MAX_PROOFS_PER_PRINCIPAL
            || of_org >= MAX_PROOFS_PER_ORGANIZATION
            || (in_common && self.common >= COMMON_PROOFS)
        {
            return Err(Refused::Full);
        }
        self.common += u32::from(in_common);
        self.of_org.insert(org, of_org + 1);
        self.of.insert(of, of_this + 1);
        Ok(())
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use creto_crypto::AwsLcProvider;
    use creto_types::{ManualClock, SeededRandom};
    use serde_json::json;

    use creto_crypto::Accepted;

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
            retry_after: NONCE_TURN,
        };
        assert_eq!(accept("loud"), Err(full));
        accept("quiet").unwrap();
        clock.advance(NONCE_TURN);
        accept("loud").unwrap();
        // Nothing is kept for longer than a nonce is accepted.
        clock.advance(2 * NONCE_TURN);
        accept("quiet").unwrap();
        let turns = guard.turns.lock();
        assert_eq!((turns.now.seen.len(), turns.before.seen.len()), (1, 0));
    }

    fn org(number: u32) -> OrgId {
        format!("org_{number:032x}").parse().expect("an id")
    }

    fn tag(number: u32) -> Tag {
        u128::from(number).to_be_bytes()
    }

    /// So many proofs of an organization, each of another principal.
    fn fill(turn: &mut Turn, of: OrgId, from: u32) -> u32 {
        let accepted = (from..).take_while(|number| turn.make_room(of, tag(*number)).is_ok());
        u32::try_from(accepted.count()).expect("no more than there is room for")
    }

    #[test]
    fn no_organization_takes_the_room_of_others() {
        let mut turn = Turn::default();
        let most = fill(&mut turn, org(1), 0);
        assert_eq!(most, MAX_PROOFS_PER_ORGANIZATION);
        // As much again is there for another one, and its own room for every further one.
        assert_eq!(fill(&mut turn, org(2), most), MAX_PROOFS_PER_ORGANIZATION);
        assert_eq!(turn.common, COMMON_PROOFS);
        assert_eq!(fill(&mut turn, org(3), 2 * most), OWN_PROOFS);
        assert_eq!(fill(&mut turn, org(1), 3 * most), 0);
    }

    #[test]
    fn what_is_refused_for_want_of_room_says_how_long() {
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let provider = AwsLcProvider::new(Arc::new(SeededRandom::new(1)));
        let guard = ProofGuard::new(&provider, Arc::clone(&clock) as _);
        let holder = Holder::new(1);
        let accept = || {
            let proof = holder.proof(("GET", "/"), None, &guard.nonce(), start);
            guard.accept(
                org(1),
                &name("loud"),
                &Proof::parse(&proof, &Accepted::all()).unwrap(),
            )
        };
        clock.advance(Duration::from_millis(12_500));
        guard.use_up(org(1), &name("loud"));
        let refused = accept().unwrap_err();
        let wait = refused.retry_after().unwrap();
        assert!(wait <= NONCE_TURN && !wait.is_zero());
        assert!(refused.to_string().contains(" in 48 s"), "{refused}");
        let former = guard.nonce();
        clock.advance(wait - Duration::from_millis(1));
        assert!(accept().is_err());
        clock.advance(Duration::from_millis(1));
        // Waiting is over: who names the nonce of the full turn is told the newest.
        let proof = holder.proof(("GET", "/"), None, &former, start);
        let late = guard.accept(
            org(1),
            &name("loud"),
            &Proof::parse(&proof, &Accepted::all()).unwrap(),
        );
        assert_eq!(late, Err(DpopError::UseNonce));
        accept().unwrap();
    }
}
