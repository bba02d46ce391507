//! Tokens that were verified before, found again without their signatures.

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use creto_types::Reading;
use zeroize::Zeroizing;

use crate::Nhi;

/// How many tokens there are places for; a place is two words until it is used.
const TOKENS: usize = SETS * WAYS;
const SETS: usize = 2_048;
const WAYS: usize = 4;

/// What is hashed of a token, at each of two places.
const PIECE: usize = 16;

/// How often tokens ended by something else than their dates and the end of their authority:
/// by a supersession of credentials, or by the retirement of an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokensEnded(u64);

impl Nhi {
    /// To be read before a token is verified, and before one is looked for in
    /// [`VerifiedTokens`].
    #[must_use]
    pub fn tokens_ended(&self) -> TokensEnded {
        TokensEnded(self.inner.tokens_ended.load(Ordering::SeqCst))
    }
}

/// What was made of verified tokens, by the token.
///
/// It holds 8,192 of them; of more, some are verified anew. A token of the default
/// algorithm takes some 5 KB, so that the texts are 40 MB at most with these, and 128 MB
/// with the longest there can be. What was made of a token comes to its text: for a handle of
/// an identity its names and two words a hop, and what it keeps alive, the account of its
/// chain, which all tokens of the chain share. Links, keys and standings are those of the
/// registry, which has them anyway. One that is not presented any more takes its place until
/// another token needs it; one that is and does not hold gives it up.
///
/// # What is exact
///
/// A token is found only if each of its bytes is that of the verified one. What is found
/// was verified; whether it still gives authority is for whoever asks to say, `holds`, of
/// [`crate::AgentIdentity::live`]. So that nothing is found of a token that ended itself, the
/// ends that are the token's own are counted by [`Nhi::tokens_ended`]. A call that ends
/// tokens so changes what tokens are verified by, then adds one to the count, then
/// returns. A token is kept with the count that was read before its verification began,
/// and found only under the same count: why that suffices is said at
/// [`crate::Authority`], of the same order of steps.
///
/// # What it tells a stranger
///
/// Where two tokens begin to differ can be measured by the time it takes to find that
/// out. They are compared only if 96 bits at least of their signatures have the same hash
/// under a secret seed, so whoever gets that far knows these bits.
pub struct VerifiedTokens<T> {
    sets: Box<[Set<T>]>,
    hashing: foldhash::quality::RandomState,
    /// Whose place is taken where there is none left.
    turn: AtomicUsize,
}

/// The tags of a set are one half of a line of memory: a token that is not there is
/// not looked for in any other line.
struct Set<T> {
    tags: [AtomicU64; WAYS],
    kept: [ArcSwapOption<Kept<T>>; WAYS],
}

struct Kept<T> {
    token: Zeroizing<String>,
    ended: TokensEnded,
    /// A token may be refused because it was issued in the future. One that was not is
    /// verified anew when the clock has gone back since.
    since: i64,
    value: T,
}

impl<T> Set<T> {
    fn new() -> Self {
        Self {
            tags: [const { AtomicU64::new(0) }; WAYS],
            kept: [const { ArcSwapOption::const_empty() }; WAYS],
        }
    }
}

impl<T: Clone> VerifiedTokens<T> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sets: (0..SETS).map(|_| Set::new()).collect(),
            hashing: foldhash::quality::RandomState::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// How many tokens it may hold.
    #[must_use]
    pub const fn capacity() -> usize {
        TOKENS
    }

    /// What was made of this token, if it was verified before, no token ended since
    /// otherwise than by the end of its authority, and it `holds` still. What does not hold is
    /// given up: what is good when it is verified again is kept again.
    pub fn get(
        &self,
        token: &str,
        ended: TokensEnded,
        now: Reading,
        holds: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        let (set, tag) = self.place(token)?;
        for (found, place) in set.tags.iter().zip(&set.kept) {
            if found.load(Ordering::Relaxed) != tag {
                continue;
            }
            let kept = place.load();
            let Some(this) = kept.as_ref().filter(|this| *this.token == token) else {
                continue;
            };
            if this.since > now.wall_ns {
                // By this clock, not by the one that it is found by next.
                return None;
            }
            if this.ended == ended && holds(&this.value) {
                return Some(this.value.clone());
            }
            // Unless another call kept it anew meanwhile; the place is free for any token.
            place.compare_and_swap(&kept, None);
            let _ = found.compare_exchange(tag, 0, Ordering::Relaxed, Ordering::Relaxed);
            return None;
        }
        None
    }

    /// Keeps what was made of a token that was verified after `ended` and `now` were
    /// read.
    pub fn keep(&self, token: &str, ended: TokensEnded, now: Reading, value: T) {
        let Some((set, tag)) = self.place(token) else {
            return;
        };
        let kept = Arc::new(Kept {
            token: Zeroizing::new(token.to_owned()),
            ended,
            since: now.wall_ns,
            value,
        });
        let places = || set.tags.iter().zip(&set.kept);
        let with = |wanted: u64| places().find(|(tag, _)| tag.load(Ordering::Relaxed) == wanted);
        let taken = self.turn.fetch_add(1, Ordering::Relaxed) % WAYS;
        // A tag and a token that two calls wrote do not belong together: such a place is
        // never found, and taken again.
        if let Some((found, place)) = with(tag).or_else(|| with(0)).or(places().nth(taken)) {
            found.store(tag, Ordering::Relaxed);
            place.store(Some(kept));
        }
    }

    /// Where a token is looked for, by two pieces of it. One of the two at least lies in
    /// a part of its signature that nobody can choose, whatever its algorithm: in the
    /// response of ML-DSA (FIPS 204, section 7.2) or in the scalar of Ed25519 (RFC 8032,
    /// section 5.1.6). `None` for a text too short for any token.
    fn place(&self, token: &str) -> Option<(&Set<T>, u64)> {
        let bytes = token.as_bytes();
        let within = bytes.get(bytes.len() / 4 * 3..)?.first_chunk::<PIECE>()?;
        let last = bytes.last_chunk::<PIECE>()?;
        let hash = self
            .hashing
            .hash_one((u128::from_le_bytes(*within), u128::from_le_bytes(*last)));
        let set = usize::try_from(hash).ok()? % SETS;
        // Zero is a place that was never taken.
        Some((self.sets.get(set)?, hash | 1 << 63))
    }
}

impl<T: Clone> Default for VerifiedTokens<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for VerifiedTokens<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedTokens").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const NOW: Reading = Reading {
        wall_ns: 1_000,
        mono_ns: 0,
    };
    const ENDED: TokensEnded = TokensEnded(3);

    impl<T: Clone> VerifiedTokens<T> {
        fn found(&self, token: &str, ended: TokensEnded, now: Reading) -> Option<T> {
            self.get(token, ended, now, |_| true)
        }

        /// How many of them are held, found or not.
        fn held(&self) -> usize {
            let places = self.sets.iter().flat_map(|set| &set.kept);
            places.filter(|place| place.load().is_some()).count()
        }
    }

    fn token(number: usize) -> String {
        format!("{}.{number:0>800}.{number:0>700}", "h".repeat(100))
    }

    #[test]
    fn one_is_found_by_all_of_its_bytes_and_no_other() {
        let tokens = VerifiedTokens::new();
        let text = token(7);
        tokens.keep(&text, ENDED, NOW, 'v');
        assert_eq!(tokens.found(&text, ENDED, NOW), Some('v'));
        for at in 0..text.len() {
            let mut other = text.clone();
            other.replace_range(at..=at, "x");
            assert_eq!(tokens.found(&other, ENDED, NOW), None, "byte {at}");
            assert_eq!(tokens.found(&text[..at], ENDED, NOW), None, "{at} bytes");
        }
        assert_eq!(tokens.found(&format!("{text}x"), ENDED, NOW), None);
    }

    #[test]
    fn none_is_found_once_tokens_ended_or_the_clock_went_back() {
        let tokens = VerifiedTokens::new();
        let text = token(7);
        tokens.keep(&text, ENDED, NOW, 'v');
        assert_eq!(tokens.found(&text, TokensEnded(4), NOW), None);
        let before = Reading {
            wall_ns: NOW.wall_ns - 1,
            ..NOW
        };
        assert_eq!(tokens.found(&text, ENDED, before), None);
        // Verified again, it is found again.
        tokens.keep(&text, TokensEnded(4), before, 'w');
        assert_eq!(tokens.found(&text, TokensEnded(4), NOW), Some('w'));
    }

    #[test]
    fn what_does_not_hold_is_given_up_and_its_place_is_free() {
        let tokens = VerifiedTokens::new();
        let text = token(7);
        for (ended, holds) in [(TokensEnded(4), true), (ENDED, false)] {
            tokens.keep(&text, ENDED, NOW, 'v');
            assert_eq!(tokens.get(&text, ended, NOW, |_| holds), None);
            assert_eq!(tokens.held(), 0);
            assert_eq!(tokens.found(&text, ENDED, NOW), None);
            let taken = |tag: &AtomicU64| tag.load(Ordering::Relaxed) != 0;
            assert!(!tokens.sets.iter().any(|set| set.tags.iter().any(taken)));
        }
        // What another clock kept stays: by that one it may hold.
        let before = Reading {
            wall_ns: NOW.wall_ns - 1,
            ..NOW
        };
        tokens.keep(&text, ENDED, NOW, 'v');
        assert_eq!(tokens.get(&text, ENDED, before, |_| false), None);
        assert_eq!(tokens.found(&text, ENDED, NOW), Some('v'));
    }

    #[test]
    fn of_more_than_there_is_room_for_the_newest_is_found() {
        let tokens = VerifiedTokens::new();
        let capacity = VerifiedTokens::<usize>::capacity();
        for number in 0..3 * capacity {
            tokens.keep(&token(number), ENDED, NOW, number);
            assert_eq!(tokens.found(&token(number), ENDED, NOW), Some(number));
        }
        let found = (0..3 * capacity).filter(|number| {
            let found = tokens.found(&token(*number), ENDED, NOW);
            assert!(found.is_none_or(|value| value == *number));
            found.is_some()
        });
        let found = found.count();
        assert!(found <= capacity && found > capacity / 2, "{found}");
    }
}
