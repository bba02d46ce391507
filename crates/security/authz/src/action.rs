//! Names of actions as small numbers.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use creto_types::OrgId;
use parking_lot::Mutex;

/// The number of a name, the same in all of this process and never given to
/// another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionKey(u32);

impl ActionKey {
    /// Of every name that has no number: no schema in force ever had it, or there was no
    /// room for it.
    pub const UNKNOWN: Self = Self(0);

    /// The number; names are counted from one.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// The name of an action, looked up once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Action {
    key: ActionKey,
    name: Arc<str>,
}

/// At most so many names get a number, each of at most so many bytes: what owners publish
/// over the years must not fill memory. Whatever has none is found by its name, and what
/// was decided of it is not remembered.
const MOST_NAMES: usize = 1 << 16;
const MOST_BYTES: usize = 256;

/// At most so many of them for one organization, which the others are to have room
/// beside.
const MOST_OF_ONE: usize = 1 << 12;

/// Names that some schema declared. It only grows.
static NAMES: LazyLock<ArcSwap<HashMap<Arc<str>, ActionKey>>> = LazyLock::new(ArcSwap::default);

/// How many names each organization was the first to have. Adding copies the map, and two
/// who add must not lose one another's names: whoever adds holds this.
static ADDED: LazyLock<Mutex<HashMap<OrgId, usize>>> = LazyLock::new(Mutex::default);

impl Action {
    /// The action of this name. One that no schema knows (yet), or that there was no
    /// room for, is decided by its name each time.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match NAMES.load().get_key_value(name) {
            Some((name, key)) => Self {
                key: *key,
                name: Arc::clone(name),
            },
            None => Self {
                key: ActionKey::UNKNOWN,
                name: name.into(),
            },
        }
    }

    /// Its number.
    #[must_use]
    pub const fn key(&self) -> ActionKey {
        self.key
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.name, f)
    }
}

/// Gives numbers to names of this organization that have none.
pub(crate) fn intern<'a>(org: OrgId, names: impl Iterator<Item = &'a str>) {
    let mut added = ADDED.lock();
    let mut known = HashMap::clone(&NAMES.load());
    number(&mut known, added.entry(org).or_default(), names);
    NAMES.store(Arc::new(known));
}

fn number<'a>(
    known: &mut HashMap<Arc<str>, ActionKey>,
    added: &mut usize,
    names: impl Iterator<Item = &'a str>,
) {
    for name in names.filter(|name| name.len() <= MOST_BYTES) {
        let count = known.len();
        let next = u32::try_from(count + 1).expect("as many as there is room for");
        if known.contains_key(name) {
            continue;
        }
        if count == MOST_NAMES || *added == MOST_OF_ONE {
            tracing::warn!(
                most = MOST_NAMES,
                most_of_one = MOST_OF_ONE,
                "there are more names of actions than are numbered; what is decided of \
                 further ones is not remembered"
            );
            return;
        }
        known.insert(name.into(), ActionKey(next));
        *added += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        assert_eq!(Action::named("t.unheard").key(), ActionKey::UNKNOWN);
        let org = "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".parse().unwrap();
        intern(org, ["t.one", "t.two", "t.one"].into_iter());
        let (one, two) = (Action::named("t.one"), Action::named("t.two"));
        assert_ne!(one.key(), ActionKey::UNKNOWN);
        assert_ne!(one.key(), two.key());
        intern(org, ["t.three", "t.two"].into_iter());
        assert_eq!(Action::named("t.one"), one);
        assert_eq!(Action::named("t.two"), two);
        assert_eq!(one.name(), "t.one");
    }

    #[test]
    fn what_is_published_without_end_fills_no_memory() {
        let mut known = HashMap::new();
        let long = "x".repeat(MOST_BYTES + 1);
        let names: Vec<String> = (0..=MOST_NAMES).map(|n| format!("t.{n}")).collect();
        let all = || names.iter().map(String::as_str);
        number(&mut known, &mut 0, [long.as_str()].into_iter());
        let mut added = 0;
        number(&mut known, &mut added, all());
        assert_eq!((known.len(), added), (MOST_OF_ONE, MOST_OF_ONE));
        // Others have room, until nobody has.
        for _ in 0..20 {
            number(&mut known, &mut 0, all());
        }
        assert_eq!(known.len(), MOST_NAMES);
        let first = known.get("t.0").copied();
        number(&mut known, &mut 0, ["t.new", "t.0"].into_iter());
        assert_eq!(known.len(), MOST_NAMES);
        assert_eq!(
            (known.get("t.0").copied(), first),
            (first, Some(ActionKey(1)))
        );
    }
}
