//! What the payloads of a bundle were chosen by, held against its records.

use std::collections::BTreeMap;

use creto_types::{HybridTimestamp, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::search::own_terms;
use crate::{SearchField, SearchTerm};

/// What was asked for, as a manifest says it.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    terms: Vec<SearchTerm>,
    since: Option<HybridTimestamp>,
    until: Option<HybridTimestamp>,
}

#[derive(Deserialize)]
struct Timed {
    #[serde(default)]
    ts: Option<HybridTimestamp>,
    at: Timestamp,
}

impl Filter {
    /// Reads the names and values. One that asks for nothing would excuse whatever is not
    /// there, as would one that this does not know.
    pub(crate) fn read(named: &BTreeMap<String, String>) -> Result<Self, String> {
        if named.is_empty() {
            return Err("its filter asks for nothing".to_owned());
        }
        let mut filter = Self::default();
        for (name, value) in named {
            let instant = || match value.parse::<Timestamp>() {
                Ok(at) => Ok(Some(HybridTimestamp::of_instant(at))),
                Err(error) => Err(format!("its filter has no instant in `{name}`: {error}")),
            };
            match (name.as_str(), SearchField::asked_for(name)) {
                ("since", _) => filter.since = instant()?,
                ("until", _) => filter.until = instant()?,
                (_, Some(field)) => filter.terms.push(SearchTerm::new(field, value)),
                _ => return Err(format!("its filter asks for `{name}`, which nothing has")),
            }
        }
        Ok(filter)
    }

    /// Whether the leaf alone shows that its record was asked for.
    pub(crate) fn asks_for(&self, leaf: &Value) -> bool {
        let kind = leaf.get("kind").and_then(Value::as_str);
        let said = |term: &SearchTerm| {
            term.field == SearchField::Kind && kind == Some(term.value.as_str())
        };
        !self.is_empty() && self.in_time(leaf) && self.terms.iter().all(said)
    }

    /// Whether the record may be one of those that were asked for. Who is in its chain
    /// stands in others, which may not be there.
    pub(crate) fn allows(&self, record: &Value) -> bool {
        let own = own_terms(record);
        let said = |term: &SearchTerm| term.field == SearchField::Member || own.contains(term);
        self.in_time(record) && self.terms.iter().all(said)
    }

    fn is_empty(&self) -> bool {
        self.terms.is_empty() && self.since.is_none() && self.until.is_none()
    }

    /// As a search looks at the time: by the leaf's timestamp, or by the instant that it
    /// names where it has none.
    fn in_time(&self, leaf: &Value) -> bool {
        let Ok(timed) = Timed::deserialize(leaf) else {
            return false;
        };
        let ts = timed.ts;
        let ts = ts.unwrap_or_else(|| HybridTimestamp::of_instant(timed.at));
        self.since.is_none_or(|since| ts >= since) && self.until.is_none_or(|until| ts < until)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::SearchQuery;

    /// Whatever an export says that it was chosen by is understood.
    #[test]
    fn what_a_search_names_is_read() {
        let at: Timestamp = "2026-01-02T03:04:05.006Z".parse().unwrap();
        let fields = [
            SearchField::Agent,
            SearchField::Member,
            SearchField::Action,
            SearchField::Resource,
            SearchField::Outcome,
            SearchField::Kind,
        ];
        let query = SearchQuery {
            terms: fields.map(|field| SearchTerm::new(field, "x")).to_vec(),
            since: Some(at),
            until: Some(at),
            ..SearchQuery::default()
        };
        let filter = Filter::read(&query.named()).unwrap();
        assert_eq!(filter.terms.len(), fields.len());
        let at = Some(HybridTimestamp::of_instant(at));
        assert_eq!((filter.since, filter.until), (at, at));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (name, value) in [("origin", "lnk_1"), ("colour", "red"), ("since", "monday")] {
            let named = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            Filter::read(&named).unwrap_err();
        }
        Filter::read(&BTreeMap::new()).unwrap_err();
    }
}
