//! The refusals that a sandbox's program can read back.

use std::collections::VecDeque;

use serde::Serialize;

use crate::Refusal;

/// The newest refusals, oldest first. The full record is the log's; this list is
/// there so that a program can tell its user what happened.
#[derive(Debug)]
pub(crate) struct RefusalList {
    refusals: VecDeque<Refusal>,
    most: usize,
    dropped: u64,
}

#[derive(Serialize)]
struct Document<'a> {
    refusals: &'a VecDeque<Refusal>,
    /// Older ones that are no longer in the list.
    dropped: u64,
}

impl RefusalList {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            refusals: VecDeque::new(),
            most: most.max(1),
            dropped: 0,
        }
    }

    /// Adds a refusal. One that is in the list already is counted there: a
    /// resolver asks for A and AAAA, and twice each.
    pub(crate) fn push(&mut self, refusal: Refusal) {
        let same = self.refusals.iter_mut().find(|known| {
            known.protocol == refusal.protocol
                && known.destination == refusal.destination
                && known.code == refusal.code
        });
        if let Some(known) = same {
            known.count = known.count.saturating_add(1);
            known.message = refusal.message;
            return;
        }
        if self.refusals.len() >= self.most {
            self.refusals.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.refusals.push_back(refusal);
    }

    /// The document at `/v1/egress/refusals`.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&Document {
            refusals: &self.refusals,
            dropped: self.dropped,
        })
        .expect("strings and numbers always serialize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EgressProtocol;

    fn refusal(destination: &str) -> Refusal {
        Refusal {
            protocol: EgressProtocol::Dns,
            destination: destination.into(),
            code: "egress_not_allowed".into(),
            message: "no".into(),
            count: 1,
        }
    }

    #[test]
    fn the_list_counts_repeats_and_says_what_it_dropped() {
        let mut list = RefusalList::new(2);
        for destination in ["a", "b", "a", "c"] {
            list.push(refusal(destination));
        }
        let json: serde_json::Value = serde_json::from_slice(&list.to_json()).expect("JSON");
        assert_eq!(json["dropped"], 1);
        let kept: Vec<_> = json["refusals"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|r| r["destination"].as_str().expect("text"))
            .collect();
        assert_eq!(kept, ["b", "c"]);
        list.push(refusal("b"));
        let json: serde_json::Value = serde_json::from_slice(&list.to_json()).expect("JSON");
        assert_eq!(json["refusals"][0]["count"], 2);
    }
}
