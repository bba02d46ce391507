//! Finding records by what they say.
//!
//! The index is made from the journal, outside the transactions that append to it, and
//! can be made again: it may be behind, and says how far it is. Leaves never move, so the
//! place of a leaf is a cursor that stays right whatever is appended.
//!
//! What leaves say is sealed beside the log, so an index has none of it in clear: it is
//! given tags, made under a key of the organization before it is asked.

mod follow;
mod tag;
mod terms;

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use creto_types::{HybridTimestamp, LeafIndex, OrgId, StoreError, Timestamp};
use serde::Deserialize;

pub(crate) use follow::Follower;
#[cfg(feature = "test-util")]
pub use follow::index_all;
pub use tag::{IndexKey, IndexKeys, SearchTag, TAG_BYTES};
pub(crate) use terms::own_terms;
pub use terms::{MAX_VALUE_BYTES, SearchField, SearchTerm};

use crate::error::corrupt;
use crate::{AuditError, Journal, Record};

/// Looks into the index for one page, at most; a page ends there, with what was found and
/// the place to go on from. A look takes some microseconds.
const LOOKS: usize = 10_000;

/// How often an index that is behind is waited for by who needs all that is found.
const ANEW: usize = 20;

/// The leaves of logs, by the tags of what they say.
#[async_trait]
pub trait SearchIndex: Send + Sync {
    /// How many leaves of the log, from its beginning, are in the index.
    async fn covered(&self, org: OrgId) -> Result<u64, StoreError>;

    /// Adds the leaves from `from` on, each by its tags, if it has exactly those before;
    /// otherwise it changes nothing, so that a second attempt does no harm. Gives how many
    /// leaves it has then. Durable on return.
    async fn extend(
        &self,
        org: OrgId,
        from: u64,
        leaves: Vec<Vec<SearchTag>>,
    ) -> Result<u64, StoreError>;

    /// The leaves within the span that have all of the tags, as [`intersect`] does it.
    async fn find(
        &self,
        org: OrgId,
        span: Range<u64>,
        tags: Vec<SearchTag>,
        max: usize,
    ) -> Result<Found, StoreError>;
}

/// What was found, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The places.
    pub leaves: Vec<LeafIndex>,
    /// Everything from here on was looked at, and nothing below; none when all was.
    pub rest: Option<u64>,
}

/// Up to `max` leaves of the span that have all of the tags, newest first, in a bounded
/// number of looks. `seek` gives the last leaf before a place that has a tag.
///
/// Each look skips everything between two leaves of the tag, so that the rarest tag
/// decides how long it takes, whichever that is.
pub fn intersect<E>(
    span: Range<u64>,
    tags: &[SearchTag],
    max: usize,
    mut seek: impl FnMut(&SearchTag, u64) -> Result<Option<u64>, E>,
) -> Result<Found, E> {
    let mut leaves = Vec::new();
    let mut below = span.end;
    let mut looks = LOOKS;
    let mut turn = tags.iter().cycle();
    while below > span.start {
        if leaves.len() >= max {
            let rest = Some(below);
            return Ok(Found { leaves, rest });
        }
        // The only leaf that can be next. It has `agreed` tags in turn.
        let mut candidate = below - 1;
        let mut agreed = 0;
        while agreed < tags.len()
            && let Some(tag) = turn.next()
        {
            if looks == 0 {
                let rest = Some(candidate + 1);
                return Ok(Found { leaves, rest });
            }
            looks -= 1;
            match seek(tag, candidate + 1)? {
                Some(leaf) if leaf == candidate => agreed += 1,
                Some(leaf) if leaf >= span.start => {
                    candidate = leaf;
                    agreed = 1;
                }
                _ => return Ok(Found { leaves, rest: None }),
            }
        }
        leaves.push(LeafIndex(candidate));
        below = candidate;
    }
    Ok(Found { leaves, rest: None })
}

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct SearchQuery {
    /// The record says all of this.
    pub terms: Vec<SearchTerm>,
    /// It has its place since then. The time is that of the leaf's timestamp, which rises
    /// from leaf to leaf and is never before the instant that the record names.
    pub since: Option<Timestamp>,
    /// It had its place before then.
    pub until: Option<Timestamp>,
    /// [`SearchPage::next`] of the page before.
    pub before: Option<LeafIndex>,
    /// How many records at most.
    pub limit: usize,
}

impl SearchQuery {
    /// What records have to say, by the names on the wire. A field that is asked for
    /// twice is there once; the interfaces take each once.
    pub(crate) fn named(&self) -> BTreeMap<String, String> {
        let terms = self.terms.iter();
        terms
            .map(|term| (term.field.name(), term.value.clone()))
            .chain(self.since.map(|since| ("since", since.to_string())))
            .chain(self.until.map(|until| ("until", until.to_string())))
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// Some of what was looked for, newest first.
#[derive(Clone, Debug)]
pub struct SearchPage {
    /// What they say. A record of which only the leaf is left is here when nothing was
    /// asked for that its leaf does not say itself.
    pub records: Vec<(LeafIndex, Record)>,
    /// `before` of the next page; none at the end. There may be one although this page
    /// is not full: a page does a bounded amount of work.
    pub next: Option<LeafIndex>,
    /// How many leaves, from the beginning of the log, could be found.
    pub searched: u64,
    /// How many the log had. More than `searched` when the index is behind.
    pub size: u64,
}

pub(crate) async fn search(
    follower: &Follower,
    org: OrgId,
    query: SearchQuery,
) -> Result<SearchPage, AuditError> {
    let journal = &*follower.journal;
    let size = journal.size(org).await?;
    let searched = follower.reach(org, size).await?.min(size);
    let below = query.before.map_or(searched, |leaf| leaf.0.min(searched));
    let span = within(journal, org, &query, below).await?;
    let said_by_leaf = query
        .terms
        .iter()
        .all(|term| term.field == SearchField::Kind);
    let found = follower.find(org, span, &query.terms, query.limit).await?;
    let mut records = Vec::with_capacity(found.leaves.len());
    for leaf in found.leaves {
        let stored = journal.records(org, leaf.0, 1).await?.pop();
        let record = stored.ok_or_else(|| missing(org, leaf.0))?.read();
        let record = record.map_err(|fault| corrupt(org, format!("leaf {leaf}"), fault))?;
        // The index may be behind what was erased.
        if said_by_leaf || record.withheld().is_none() {
            records.push((leaf, record));
        }
    }
    Ok(SearchPage {
        records,
        next: found.rest.map(LeafIndex),
        searched,
        size,
    })
}

/// Every leaf below `size` that says what is asked for; where pages begin and end is not
/// looked at. Refuses to give fewer because the index is behind.
pub(crate) async fn all(
    follower: &Follower,
    org: OrgId,
    query: &SearchQuery,
    size: u64,
) -> Result<LeafSet, AuditError> {
    let mut searched = 0;
    for _ in 0..ANEW {
        searched = follower.reach(org, size).await?;
        if searched >= size {
            break;
        }
    }
    if searched < size {
        return Err(AuditError::IndexBehind {
            org,
            searched,
            size,
        });
    }
    let mut span = within(&*follower.journal, org, query, size).await?;
    let mut leaves = LeafSet::default();
    loop {
        let found = follower
            .find(org, span.clone(), &query.terms, LOOKS)
            .await?;
        for leaf in found.leaves {
            leaves.insert(leaf.0);
        }
        match found.rest {
            Some(rest) => span.end = rest,
            None => return Ok(leaves),
        }
    }
}

/// Some leaves of a log, which may be most of them: a bit each.
#[derive(Debug, Default)]
pub(crate) struct LeafSet(Vec<u64>);

impl LeafSet {
    fn place(leaf: u64) -> (usize, u64) {
        let word = usize::try_from(leaf / u64::from(u64::BITS)).unwrap_or(usize::MAX);
        (word, 1 << (leaf % u64::from(u64::BITS)))
    }

    fn insert(&mut self, leaf: u64) {
        let (word, bit) = Self::place(leaf);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= bit;
        }
    }

    pub(crate) fn contains(&self, leaf: u64) -> bool {
        let (word, bit) = Self::place(leaf);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

/// The leaves below `end` that have their place in the time that is asked for.
async fn within(
    journal: &dyn Journal,
    org: OrgId,
    query: &SearchQuery,
    end: u64,
) -> Result<Range<u64>, AuditError> {
    let mut span = 0..end;
    if let Some(until) = query.until {
        span.end = first_since(journal, org, until, span.clone()).await?;
    }
    if let Some(since) = query.since {
        span.start = first_since(journal, org, since, span.clone()).await?;
    }
    Ok(span)
}

async fn read(journal: &dyn Journal, org: OrgId, leaf: u64) -> Result<Vec<u8>, AuditError> {
    let bytes = journal.read(org, leaf, 1).await?.pop();
    bytes.ok_or_else(|| missing(org, leaf))
}

fn missing(org: OrgId, leaf: u64) -> AuditError {
    corrupt(org, format!("leaf {leaf}"), "the journal does not have it")
}

#[derive(Deserialize)]
struct Timed {
    #[serde(default)]
    ts: Option<HybridTimestamp>,
    at: Timestamp,
}

/// The first leaf of the span that has its place since then, or the span's end. Leaves
/// older than timestamps count by the instant that they name.
async fn first_since(
    journal: &dyn Journal,
    org: OrgId,
    at: Timestamp,
    span: Range<u64>,
) -> Result<u64, AuditError> {
    let at = HybridTimestamp::of_instant(at);
    let (mut low, mut high) = (span.start, span.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let bytes = read(journal, org, middle).await?;
        let leaf: Timed = serde_json::from_slice(&bytes)
            .map_err(|error| corrupt(org, format!("leaf {middle}"), error))?;
        let ts = leaf
            .ts
            .unwrap_or_else(|| HybridTimestamp::of_instant(leaf.at));
        if ts < at {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
