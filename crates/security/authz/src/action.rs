//! Names of actions as small numbers.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

/// The number of a name, the same in all of this process and never given to
/// another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionKey(u32);

impl ActionKey {
    /// Of every name that no schema in force ever had.
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

/// Names that some schema declared. It only grows, by what owners publish.
static NAMES: LazyLock<ArcSwap<HashMap<Arc<str>, ActionKey>>> = LazyLock::new(ArcSwap::default);

/// Adding copies the map; two of them must not lose one another's.
static ADDING: Mutex<()> = Mutex::new(());

impl Action {
    /// The action of this name. One that no schema knows (yet) is decided by its
    /// name each time.
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

/// Gives numbers to names that have none.
pub(crate) fn intern<'a>(names: impl Iterator<Item = &'a str>) {
    let _one_at_a_time = ADDING.lock();
    let mut known = HashMap::clone(&NAMES.load());
    for name in names {
        let next = u32::try_from(known.len() + 1).expect("fewer names than memory");
        known.entry(name.into()).or_insert(ActionKey(next));
    }
    NAMES.store(Arc::new(known));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        assert_eq!(Action::named("t.unheard").key(), ActionKey::UNKNOWN);
        intern(["t.one", "t.two", "t.one"].into_iter());
        let (one, two) = (Action::named("t.one"), Action::named("t.two"));
        assert_ne!(one.key(), ActionKey::UNKNOWN);
        assert_ne!(one.key(), two.key());
        intern(["t.three", "t.two"].into_iter());
        assert_eq!(Action::named("t.one"), one);
        assert_eq!(Action::named("t.two"), two);
        assert_eq!(one.name(), "t.one");
    }
}
