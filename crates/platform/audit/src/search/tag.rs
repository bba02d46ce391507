//! What an index holds in place of what leaves say.

use std::fmt;

use async_trait::async_trait;
use creto_crypto::{MAC_LENGTH, MacKey, Secret};
use creto_types::{OrgId, StoreError};

use super::{SearchField, SearchTerm};

/// Bytes of a tag. Without the key nobody can look for two values of one tag, so that only
/// chance makes them: among four billion values with a probability of 2^-65.
pub const TAG_BYTES: usize = 16;

/// What the terms of one organization are tagged under. Wiped on drop.
pub struct IndexKey(MacKey);

impl IndexKey {
    /// The key of these bytes, which were derived for this alone.
    pub(crate) fn of(secret: &Secret) -> Self {
        Self(MacKey::of(secret))
    }

    /// What an index holds of the term. The field is one byte and everything behind it the
    /// value, so that no two terms are the same bytes.
    #[must_use]
    pub fn tag(&self, term: &SearchTerm) -> SearchTag {
        let mut said = Vec::with_capacity(1 + term.value.len());
        said.push(term.field as u8);
        said.extend_from_slice(term.value.as_bytes());
        let whole: [u8; MAC_LENGTH] = self.0.tag(&said);
        let mut tag = [0; TAG_BYTES];
        for (byte, of) in tag.iter_mut().zip(whole) {
            *byte = of;
        }
        SearchTag {
            field: term.field,
            tag,
        }
    }

    /// What an index holds of each.
    #[must_use]
    pub fn tags(&self, terms: &[SearchTerm]) -> Vec<SearchTag> {
        terms.iter().map(|term| self.tag(term)).collect()
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexKey(..)")
    }
}

/// One thing that a leaf says, for whoever has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SearchTag {
    /// About what.
    pub field: SearchField,
    /// Of the field and the value.
    pub tag: [u8; TAG_BYTES],
}

/// Where the keys come from. The key of an organization is the same for as long as there
/// is an index of its log.
#[async_trait]
pub trait IndexKeys: Send + Sync {
    /// What the organization's terms are tagged under.
    async fn key(&self, org: OrgId) -> Result<IndexKey, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> IndexKey {
        IndexKey::of(&Secret::new(vec![byte; 32]))
    }

    /// The form of `docs/formats/log.md`, by Python's `hmac`: rows of a database stay what
    /// they are.
    #[test]
    fn tags_are_those_that_others_make() {
        let tag = key(7).tag(&SearchTerm::new(SearchField::Resource, "repo:crétö"));
        assert_eq!(hex::encode(tag.tag), "0e915b418884e8a0e45ee61fbf1f57aa");
        assert_eq!(tag.field, SearchField::Resource);
    }

    #[test]
    fn another_field_value_or_key_is_another_tag() {
        use SearchField::{Agent, Member};
        let terms = [
            SearchTerm::new(Agent, "bot"),
            SearchTerm::new(Member, "bot"),
            SearchTerm::new(Agent, "bo"),
            SearchTerm::new(Agent, ""),
        ];
        let all = [key(1).tags(&terms), key(2).tags(&terms)].concat();
        for (n, tag) in all.iter().enumerate() {
            assert!(all.iter().skip(n + 1).all(|other| other.tag != tag.tag));
        }
        assert_eq!(key(1).tags(&terms), key(1).tags(&terms));
        assert_eq!(format!("{:?}", key(1)), "IndexKey(..)");
    }
}
