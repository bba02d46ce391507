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
use std::num::NonZeroU128;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::action::ActionKey;
use crate::model::{ContextValue, ResourceRef};
pub(crate) use numbered::Numbered;
pub(crate) use slots::Word;
use slots::{Key, Slots};

/// Words of a slot that is one cache line, and of one that is four.
const SHORT: usize = 8;
const LONG: usize = 32;

/// Bytes of a word.
const WORD: usize = 8;

/// Bytes before the text: state, head, and two words of the chain.
const BEFORE_TEXT: usize = 4 * WORD;

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

/// Where a question is looked for, by a hash of who asks and for what; and where policies
/// read units, of how many. Where they read context, it is elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    bare: u64,
    with_units: u64,
    asked_for: u64,
}

impl Place {
    const fn of(self, units: bool) -> u64 {
        if units { self.with_units } else { self.bare }
    }
}

/// What a key is made of.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// The chain: see `Bound`.
    pub(crate) chain: NonZeroU128,
    pub(crate) action: ActionKey,
    /// The resource's type, by its place in the set's list.
    pub(crate) kind: u8,
    pub(crate) resource: &'a str,
    /// Where policies read them.
    pub(crate) units: Option<u64>,
    /// What policies read of it.
    pub(crate) context: &'a [&'a (&'a str, ContextValue<'a>)],
}

/// See the module's documentation.
pub(crate) struct DecisionCache {
    short: Slots<SHORT>,
    long: Slots<LONG>,
    hashing: foldhash::quality::RandomState,
    /// A guess at what policies read, from before it is known which are in force.
    units_are_read: AtomicBool,
}

/// Evaluations of one organization: of one key, one at a time.
pub(crate) struct Flights([Mutex<()>; FLIGHTS]);

impl Default for Flights {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Flights {
    /// Waits until nobody evaluates this key. Whoever gets here second finds the
    /// verdict of the first.
    pub(crate) fn alone(&self, question: &CacheKey) -> Option<MutexGuard<'_, ()>> {
        let flight = usize::try_from(question.hash >> 32).ok()? % FLIGHTS;
        Some(self.0.get(flight)?.lock())
    }
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
            units_are_read: AtomicBool::new(false),
        }
    }

    /// Where a question is looked for. Memory is asked for it, while something else is
    /// looked at.
    #[inline]
    pub(crate) fn place(
        &self,
        chain: NonZeroU128,
        action: ActionKey,
        resource: &ResourceRef,
        units: u64,
    ) -> Place {
        let mut hasher = self.hashing.build_hasher();
        hasher.write_u128(chain.get());
        hasher.write_u32(action.number());
        hasher.write(resource.kind.as_bytes());
        hasher.write(resource.id.as_bytes());
        let mut with = hasher.clone();
        with.write_u64(units);
        let mut place = Place {
            bare: hasher.finish(),
            with_units: with.finish(),
            asked_for: 0,
        };
        place.asked_for = place.of(self.units_are_read.load(Ordering::Relaxed));
        self.short.ask_memory(place.asked_for);
        place
    }

    /// Policies that read units were published, so that questions are looked for at places
    /// with them.
    pub(crate) fn units_are_read(&self) {
        self.units_are_read.store(true, Ordering::Relaxed);
    }

    /// The key of a question at its place, if it fits a slot.
    pub(crate) fn key(&self, place: Place, parts: &Parts<'_>) -> Option<CacheKey> {
        if let Some(written) = Written::<{ SHORT * WORD }>::of(parts) {
            return Some(CacheKey {
                hash: self.hash(place, parts, &written.bytes),
                key: Keyed::Short(written.words()),
            });
        }
        let written = Written::<{ LONG * WORD }>::of(parts)?;
        Some(CacheKey {
            hash: self.hash(place, parts, &written.bytes),
            key: Keyed::Long(Box::new(written.words())),
        })
    }

    fn hash(&self, place: Place, parts: &Parts<'_>, key: &[u8]) -> u64 {
        let hash = if parts.context.is_empty() {
            place.of(parts.units.is_some())
        } else {
            self.hashing.hash_one(key)
        };
        if hash != place.asked_for {
            self.short.ask_memory(hash);
        }
        hash
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
}

/// A key as its bytes. Every value is written so that its end is known, so two
/// different questions never give the same bytes.
struct Written<const BYTES: usize> {
    bytes: [u8; BYTES],
    len: usize,
}

impl<const BYTES: usize> Written<BYTES> {
    /// `None` when it does not fit.
    #[inline]
    fn of(parts: &Parts<'_>) -> Option<Self> {
        let mut key = Self {
            bytes: [0; BYTES],
            // The words of the state and of the value stay zero.
            len: WORD + WORD / 2,
        };
        let [a, b, c, 0] = parts.action.number().to_le_bytes() else {
            return None;
        };
        key.add(&[a, b, c, parts.kind])?;
        key.add(&parts.chain.get().to_le_bytes())?;
        debug_assert_eq!(key.len, BEFORE_TEXT);
        key.add(parts.resource.as_bytes())?;
        key.add(&[END])?;
        if let Some(units) = parts.units {
            key.add(&[1])?;
            key.add(&units.to_le_bytes())?;
        }
        for (name, value) in parts.context {
            key.add(&[2])?;
            key.add_sized(name)?;
            key.add_value(value)?;
        }
        Some(key)
    }

    fn add_value(&mut self, value: &ContextValue<'_>) -> Option<()> {
        match value {
            ContextValue::Bool(value) => self.add(&[1, u8::from(*value)]),
            ContextValue::Long(value) => {
                self.add(&[2])?;
                self.add(&value.to_le_bytes())
            }
            ContextValue::Text(value) => {
                self.add(&[3])?;
                self.add_sized(value)
            }
            ContextValue::Texts(values) => {
                self.add(&[4, u8::try_from(values.len()).ok()?])?;
                values.iter().try_for_each(|value| self.add_sized(value))
            }
        }
    }

    #[inline]
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

    #[inline]
    fn words<const WORDS: usize>(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        let (chunks, _) = self.bytes.as_chunks::<WORD>();
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u64::from_le_bytes(*chunk);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;

    const LONG_TEXT: usize = LONG * WORD - BEFORE_TEXT;

    fn parts(resource: &str) -> Parts<'_> {
        Parts {
            chain: NonZeroU128::MIN,
            action: ActionKey::UNKNOWN,
            kind: 0,
            resource,
            units: None,
            context: &[],
        }
    }

    fn key(cache: &DecisionCache, parts: &Parts<'_>) -> Option<CacheKey> {
        let resource = ResourceRef::resource(parts.resource);
        let units = parts.units.unwrap_or(1);
        cache.key(
            cache.place(parts.chain, parts.action, &resource, units),
            parts,
        )
    }

    /// Whether policies read them is not known when memory is asked.
    #[test]
    fn amounts_have_places_of_their_own_where_they_are_read() {
        let cache = DecisionCache::new(1 << 12);
        let read = |units| {
            let units = Some(units);
            key(
                &cache,
                &Parts {
                    units,
                    ..parts("a")
                },
            )
            .unwrap()
        };
        let hashes: std::collections::HashSet<u64> =
            (0..100).map(|units| read(units).hash).collect();
        assert_eq!(hashes.len(), 100);
        let resource = ResourceRef::resource("a");
        let unread = |units| {
            let parts = parts("a");
            let place = cache.place(parts.chain, parts.action, &resource, units);
            cache.key(place, &parts).unwrap().hash
        };
        assert_eq!(unread(1), unread(2));
        cache.units_are_read();
        assert_eq!(read(3).hash, read(3).hash);
        assert!(hashes.contains(&read(3).hash));
        assert_eq!(unread(1), unread(2));
    }

    #[test]
    fn names_of_any_length_are_kept_apart() {
        let cache = DecisionCache::new(1 << 12);
        let names: Vec<String> = (0..=LONG_TEXT + 2).map(|len| "x".repeat(len)).collect();
        let mut kept = 0;
        for (number, name) in (0_u32..).zip(&names) {
            let Some(key) = key(&cache, &parts(name)) else {
                continue;
            };
            let is_short = matches!(key.key, Keyed::Short(_));
            assert_eq!(is_short, name.len() < SHORT * WORD - BEFORE_TEXT);
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
        let org = "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".parse().unwrap();
        crate::action::intern(org, ["t.key.one", "t.key.two"].into_iter());
        let [one, two] = ["t.key.one", "t.key.two"].map(|name| Action::named(name).key());
        let zeros = parts("a");
        let name = "a".repeat(SHORT * WORD);
        let long = parts(&name);
        let with = |name, value| [(name, value)];
        let contexts = [
            with("a", ContextValue::Bool(false)),
            with("a", ContextValue::Long(0)),
            with("a", ContextValue::Text("")),
            with("a", ContextValue::Texts(&[])),
            with("a", ContextValue::Texts(&[""])),
            with("a", ContextValue::Texts(&["", ""])),
            with("a", ContextValue::Text("\0")),
            with("", ContextValue::Text("a")),
        ];
        let mut keys = vec![
            key(&cache, &zeros),
            key(&cache, &parts("a\0")),
            key(
                &cache,
                &Parts {
                    chain: NonZeroU128::MIN.saturating_add(1 << 64),
                    ..zeros
                },
            ),
            key(
                &cache,
                &Parts {
                    chain: NonZeroU128::MIN.saturating_add(1),
                    ..zeros
                },
            ),
            key(&cache, &Parts { kind: 1, ..zeros }),
            key(
                &cache,
                &Parts {
                    action: one,
                    ..zeros
                },
            ),
            key(
                &cache,
                &Parts {
                    action: two,
                    ..zeros
                },
            ),
            key(&cache, &long),
            key(&cache, &Parts { kind: 1, ..long }),
            key(
                &cache,
                &Parts {
                    action: one,
                    ..long
                },
            ),
            key(
                &cache,
                &Parts {
                    chain: NonZeroU128::MIN.saturating_add(1),
                    ..long
                },
            ),
            key(
                &cache,
                &Parts {
                    units: Some(0),
                    ..zeros
                },
            ),
        ];
        keys.extend(contexts.iter().map(|[one]| {
            let context: &[_] = &[one];
            key(&cache, &Parts { context, ..zeros })
        }));
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
