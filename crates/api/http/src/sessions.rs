//! Who is logged in to the pages. In memory: a restart logs everybody out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE as COOKIE_HEADER;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::sha256;
use creto_governor::Caller;
use creto_types::{Clock, Randomness};
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The cookie of a session.
pub(crate) const COOKIE: &str = "creto_session";

/// The cookie that the login form repeats.
pub(crate) const LOGIN_COOKIE: &str = "creto_login";

/// The longest life of a session: a working day.
pub(crate) const LIFETIME: Duration = Duration::from_secs(8 * 60 * 60);

/// The longest time without a request.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// Far more than one organization has approvers; the oldest goes first.
const MOST: usize = 1_000;

/// One person's browser.
pub(crate) struct Session {
    /// Who began it, by the credential of then: what ends that ends the session.
    pub(crate) caller: Caller,
    /// Repeated by every form of this session.
    pub(crate) form_token: Zeroizing<String>,
    /// On the clock that never goes backwards.
    began: Duration,
}

/// The SHA-256 of a session's id.
type Key = [u8; 32];

/// A session, and when it was last used.
type Open = (Arc<Session>, Duration);

/// All sessions, by the SHA-256 of their random id: memory has no id that a browser could
/// use.
pub(crate) struct Sessions {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
    open: Mutex<HashMap<Key, Open>>,
}

impl Sessions {
    pub(crate) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Randomness>) -> Self {
        Self {
            clock,
            random,
            open: Mutex::default(),
        }
    }

    /// Begins a session and returns its id, the value of the cookie.
    pub(crate) fn begin(&self, caller: Caller) -> Zeroizing<String> {
        let now = self.clock.monotonic();
        let id = random_text(self.random.as_ref());
        let session = Session {
            caller,
            form_token: random_text(self.random.as_ref()),
            began: now,
        };
        let mut open = self.open.lock();
        open.retain(|_, (session, seen)| is_open(session, *seen, now));
        while open.len() >= MOST {
            let oldest = open
                .iter()
                .min_by_key(|(_, (session, _))| session.began)
                .map(|(id, _)| *id);
            match oldest {
                Some(id) => open.remove(&id),
                None => break,
            };
        }
        open.insert(sha256(id.as_bytes()), (Arc::new(session), now));
        id
    }

    /// The session of this id, if it is open; it counts as used.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Session>> {
        let now = self.clock.monotonic();
        let id = sha256(id.as_bytes());
        let mut open = self.open.lock();
        let (session, seen) = open.get_mut(&id)?;
        if is_open(session, *seen, now) {
            *seen = now;
            return Some(Arc::clone(session));
        }
        open.remove(&id);
        None
    }

    /// Ends a session.
    pub(crate) fn remove(&self, id: &str) {
        self.open.lock().remove(&sha256(id.as_bytes()));
    }
}

fn is_open(session: &Session, seen: Duration, now: Duration) -> bool {
    now.saturating_sub(session.began) < LIFETIME && now.saturating_sub(seen) < IDLE
}

/// 32 random bytes as text.
pub(crate) fn random_text(random: &dyn Randomness) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    random.fill(bytes.as_mut());
    Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()))
}

/// Whether two secrets are equal, in time that does not depend on where they
/// differ. Empty ones never are.
pub(crate) fn same(a: &str, b: &str) -> bool {
    !a.is_empty() && bool::from(a.as_bytes().ct_eq(b.as_bytes()))
}

/// The value of a cookie of the request.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE_HEADER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use creto_world::World;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_no_cookie() {
        let world = World::new("127.0.0.1:1").await;
        let caller = world.governor.authenticate(&world.owner).unwrap();
        let sessions = Sessions::new(world.clock.clone(), world.random.clone());
        let id = sessions.begin(caller);
        assert!(sessions.get(&id).is_some());
        let kept: Vec<Key> = sessions.open.lock().keys().copied().collect();
        assert_eq!(kept, [sha256(id.as_bytes())]);
        for text in [hex::encode(kept[0]), URL_SAFE_NO_PAD.encode(kept[0])] {
            assert!(sessions.get(&text).is_none());
        }
        sessions.remove(&id);
        assert!(sessions.get(&id).is_none());
    }
}
