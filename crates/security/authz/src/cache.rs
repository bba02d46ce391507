//! Verdicts that were reached before.
//!
//! What is remembered is what policy and rights say about (chain, action,
//! resource, and the parts of the context that the action's policies read) under
//! one set of policies. Everything else that decides is asked anew on every check:
//! whether the chain is live, approvals, budgets and rates.
//!
//! An entry belongs to the epoch of the set that it was evaluated with, so
//! publishing needs to remove nothing. Memory is fixed at the start ([`slots`]).
//! What does not fit a slot (a resource's name of more than 223 bytes) is
//! evaluated each time.

mod numbered;
mod room;
mod slots;

use std::hash::{BuildHasher as _, Hasher as _};
use std::hint::black_box;

use parking_lot::{Mutex, MutexGuard};

use crate::action::ActionKey;
use crate::model::ContextValue;
pub(crate) use numbered::Numbered;
pub(crate) use slots::Word;
use slots::{Key, Slots};

/// Words of a slot that is one cache line, and of one that is four.
const SHORT: usize = 8;
const LONG: usize = 32;

/// Words before the text: state, head, and two of the chain.
const BEFORE_TEXT: usize = 4;
const SHORT_TEXT: usize = (SHORT - BEFORE_TEXT) * 8;
const LONG_TEXT: usize = (LONG - BEFORE_TEXT) * 8;

/// Stands after a resource's id, which is UTF-8 and never contains it.
const END: u8 = 0xff;

/// Locks that evaluations of one key share.
const FLIGHTS: usize = 64;

/// Who is asked for what, as a slot keeps it, with its hash.
pub(crate) struct CacheKey {
    hash: u64,
    key: Keyed,
}

#[derive(PartialEq, Eq)]
enum Keyed {
    Short(Key<SHORT>),
    Long(Box<Key<LONG>>),
}

/// What a key is made of.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// The chain: see `Bound`.
    pub(crate) chain: u128,
    pub(crate) action: ActionKey,
    pub(crate) resource: &'a str,
}

impl CacheKey {
    /// The key of the same question about a resource of this type, by its place in
    /// the set's list. The hash leaves the type out, so that a slot is found before
    /// it is known by which set.
    pub(crate) fn of_kind(mut self, kind: u8) -> Self {
        let words = match &mut self.key {
            Keyed::Short(key) => &mut key[..],
            Keyed::Long(key) => &mut key[..],
        };
        if let [_, head, ..] = words {
            *head = *head & !KIND | u64::from(kind) << KIND.trailing_zeros();
        }
        self
    }
}

/// Where a key's head has the resource's type.
const KIND: u64 = 0xff << 56;

/// See the module's documentation.
pub(crate) struct DecisionCache {
    short: Slots<SHORT>,
    long: Slots<LONG>,
    hashing: foldhash::quality::RandomState,
    flights: [Mutex<()>; FLIGHTS],
}

impl DecisionCache {
    /// Room for about so many verdicts.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            short: Slots::new(slots),
            // Long names are the exception: an eighth of the slots, half of the
            // memory.
            long: Slots::new(slots / 8),
            hashing: foldhash::quality::RandomState::default(),
            flights: std::array::from_fn(|_| Mutex::new(())),
        }
    }

    /// The key of a question without context, if it fits a short slot. What is
    /// remembered there may be fetched into the processor's caches meanwhile.
    pub(crate) fn prepare(&self, parts: Parts<'_>) -> Option<CacheKey> {
        let id = parts.resource.as_bytes();
        let mut text = [0; SHORT_TEXT];
        let (here, [end, ..]) = text.split_at_mut_checked(id.len())? else {
            return None;
        };
        here.copy_from_slice(id);
        *end = END;
        let key = self.short(parts, &text)?;
        black_box(self.short.glance(key.hash));
        Some(key)
    }

    /// The key of a question without context.
    pub(crate) fn key(&self, parts: Parts<'_>) -> Option<CacheKey> {
        self.key_with(parts, None, &[])
    }

    /// The key of a question whose answer depends on these values too.
    pub(crate) fn key_with(
        &self,
        parts: Parts<'_>,
        units: Option<u64>,
        context: &[&(&str, ContextValue<'_>)],
    ) -> Option<CacheKey> {
        let mut text = Text::default();
        text.add(parts.resource.as_bytes())?;
        text.add(&[END])?;
        if let Some(units) = units {
            text.add(&[1])?;
            text.add(&units.to_le_bytes())?;
        }
        for (name, value) in context {
            text.add(&[2])?;
            text.add_sized(name)?;
            match value {
                ContextValue::Bool(value) => text.add(&[1, u8::from(*value)])?,
                ContextValue::Long(value) => {
                    text.add(&[2])?;
                    text.add(&value.to_le_bytes())?;
                }
                ContextValue::Text(value) => {
                    text.add(&[3])?;
                    text.add_sized(value)?;
                }
                ContextValue::Texts(values) => {
                    text.add(&[4, u8::try_from(values.len()).ok()?])?;
                    for value in *values {
                        text.add_sized(value)?;
                    }
                }
            }
        }
        self.sized(parts, &text)
    }

    fn sized(&self, parts: Parts<'_>, text: &Text) -> Option<CacheKey> {
        if let Some(short) = text.bytes.first_chunk::<SHORT_TEXT>()
            && text.len <= SHORT_TEXT
        {
            return self.short(parts, short);
        }
        let mut key = Box::new([0; LONG]);
        fill(&mut key[..], parts, &text.bytes)?;
        Some(CacheKey {
            hash: self.hash(&key[..]),
            key: Keyed::Long(key),
        })
    }

    fn short(&self, parts: Parts<'_>, text: &[u8; SHORT_TEXT]) -> Option<CacheKey> {
        let mut key = [0; SHORT];
        fill(&mut key, parts, text)?;
        Some(CacheKey {
            hash: self.hash(&key),
            key: Keyed::Short(key),
        })
    }

    fn hash(&self, key: &[u64]) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        for word in key.iter().skip(1) {
            hasher.write_u64(*word);
        }
        hasher.finish()
    }

    /// The number of the verdict that was remembered in this epoch.
    pub(crate) fn get(&self, epoch: u32, question: &CacheKey) -> Option<u32> {
        match &question.key {
            Keyed::Short(key) => self.short.get(question.hash, epoch, key),
            Keyed::Long(key) => self.long.get(question.hash, epoch, key),
        }
    }

    /// Remembers a verdict by its number.
    pub(crate) fn put(&self, epoch: u32, question: &CacheKey, verdict: u32) {
        match &question.key {
            Keyed::Short(key) => self.short.put(question.hash, epoch, key, verdict),
            Keyed::Long(key) => self.long.put(question.hash, epoch, key, verdict),
        }
    }

    /// Waits until nobody evaluates this key. Whoever gets here second finds the
    /// verdict of the first.
    pub(crate) fn flight(&self, question: &CacheKey) -> Option<MutexGuard<'_, ()>> {
        let flight = usize::try_from(question.hash >> 32).ok()? % FLIGHTS;
        Some(self.flights.get(flight)?.lock())
    }
}

/// Writes a key's words; `None` when a number does not fit its field.
fn fill(key: &mut [u64], parts: Parts<'_>, text: &[u8]) -> Option<()> {
    let [_, head, upper, lower, words @ ..] = key else {
        return None;
    };
    let action = parts.action.number();
    if action >= 1 << 24 {
        return None;
    }
    *head = u64::from(action) << 32;
    let [a, b, c, d, e, f, g, h, rest @ ..] = parts.chain.to_le_bytes();
    *lower = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    *upper = u64::from_le_bytes(rest);
    let (chunks, _) = text.as_chunks::<8>();
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_le_bytes(*chunk);
    }
    Some(())
}

/// Bytes on the stack. Every value is written so that its end is known, so two
/// different questions never give the same bytes.
struct Text {
    bytes: [u8; LONG_TEXT],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; LONG_TEXT],
            len: 0,
        }
    }
}

impl Text {
    fn add(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.bytes.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    fn add_sized(&mut self, text: &str) -> Option<()> {
        self.add(&[u8::try_from(text.len()).ok()?])?;
        self.add(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(resource: &str) -> Parts<'_> {
        Parts {
            chain: 7,
            action: ActionKey::UNKNOWN,
            resource,
        }
    }

    #[test]
    fn names_of_any_length_are_kept_apart() {
        let cache = DecisionCache::new(1 << 12);
        let names: Vec<String> = (0..=LONG_TEXT + 2).map(|len| "x".repeat(len)).collect();
        let mut kept = 0;
        for (number, name) in (0_u32..).zip(&names) {
            let Some(key) = cache.key(parts(name)) else {
                continue;
            };
            if let Some(prepared) = cache.prepare(parts(name)) {
                assert!(prepared.key == key.key && prepared.hash == key.hash);
            }
            assert_eq!(cache.get(1, &key), None, "{name}");
            cache.put(1, &key, number);
            assert_eq!(cache.get(1, &key), Some(number));
            kept += 1;
        }
        // One byte is for the end.
        assert_eq!(kept, LONG_TEXT);
    }

    #[test]
    fn every_part_counts() {
        let cache = DecisionCache::new(1 << 12);
        let zeros = parts("a");
        let keys = [
            cache.key(zeros),
            cache.key(parts("a\0")),
            cache.key(Parts {
                chain: 7 << 64,
                ..zeros
            }),
            cache.key(zeros).map(|key| key.of_kind(1)),
            cache.key_with(zeros, Some(0), &[]),
            cache.key_with(zeros, None, &[&("a", ContextValue::Bool(false))]),
            cache.key_with(zeros, None, &[&("a", ContextValue::Long(0))]),
            cache.key_with(zeros, None, &[&("a", ContextValue::Text(""))]),
            cache.key_with(zeros, None, &[&("a", ContextValue::Texts(&[]))]),
            cache.key_with(zeros, None, &[&("a", ContextValue::Texts(&[""]))]),
            cache.key_with(zeros, None, &[&("a", ContextValue::Texts(&["", ""]))]),
            cache.key_with(zeros, None, &[&("a", ContextValue::Text("\0"))]),
            cache.key_with(zeros, None, &[&("", ContextValue::Text("a"))]),
        ];
        for (number, key) in (0_u32..).zip(&keys) {
            let key = key.as_ref().unwrap();
            assert_eq!(cache.get(1, key), None, "{number}");
            cache.put(1, key, number);
        }
        for (number, key) in (0_u32..).zip(&keys) {
            assert_eq!(cache.get(1, key.as_ref().unwrap()), Some(number));
        }
    }
}
