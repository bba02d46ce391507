//! What has to hold whatever failed: all that was acknowledged is there, the tree extends
//! every checkpoint that anybody saw, and everything goes on.

use std::path::Path;

use creto_audit::{Journal as _, RecordClass, Sealer, Withheld};
use creto_crypto::sha256;
use creto_tiles_fs::FsTiles;
use creto_tlog::{Frontier, Hasher};
use creto_types::LeafIndex;
use serde_json::Value;

use crate::keys::{ToldKeys, expect_other_keys};
use crate::opened::{Opened, number, published};
use crate::told::{Told, once_free};
use crate::work::Work;
use crate::{payloads, watching};

const HASHER: Hasher = Hasher::new(sha256);

/// What is in the log at one place.
pub(crate) struct Leaf {
    pub(crate) index: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) class: RecordClass,
    pub(crate) kind: String,
    /// All of it, unless that is withheld.
    pub(crate) read: Option<Value>,
    pub(crate) withheld: Option<Withheld>,
}

impl Leaf {
    /// Whether what can be read of it is about records of this class.
    pub(crate) fn is_about(&self, class: RecordClass) -> bool {
        let read = self.read.as_ref();
        read.is_some_and(|read| read["body"]["class"] == class.as_str())
    }
}

/// Everything in the log, of which nothing contradicts itself.
pub(crate) async fn leaves(log: &Opened) -> Vec<Leaf> {
    let leaves = log.journal.read(log.org, 0, 1_000).await.unwrap();
    let size = log.journal.size(log.org).await.unwrap();
    assert_eq!(size, leaves.len() as u64);
    let stored = log.journal.records(log.org, 0, 1_000).await.unwrap();
    assert_eq!(stored.len(), leaves.len());
    let mut all = Vec::new();
    for ((bytes, stored), index) in leaves.into_iter().zip(stored).zip(0..) {
        // Never with a payload that it does not commit to.
        let (value, withheld) = stored.read().unwrap().into_parts();
        all.push(Leaf {
            index,
            bytes,
            class: value["class"].as_str().unwrap().parse().unwrap(),
            kind: value["kind"].as_str().unwrap().to_owned(),
            read: withheld.is_none().then_some(value),
            withheld,
        });
    }
    all
}

/// Opens what was left, without any fault.
pub(crate) async fn check(dir: &Path, told: &Told, work: Work) {
    let keys = ToldKeys::of(told);
    if let Some(org) = told
        .org()
        .filter(|_| told.trees("checkpoint").next().is_some())
    {
        let tiles = FsTiles::open(&dir.join("log")).unwrap();
        keys.expect_readable(&published(&tiles, org).await.unwrap());
    }
    let kept = match work {
        Work::Watching => Some(watching::kept(dir, told).await),
        _ => None,
    };
    let sealer = match work {
        Work::Payloads => payloads::expect_ciphers(dir, told).await,
        _ => Sealer::for_tests,
    };
    let log = once_free(async || Opened::open_with(dir, 7_777, sealer()).await).await;
    keys.expect_stored(&log);
    let leaves = leaves(&log).await;
    expect_records(told, &log, &leaves);
    let roots = roots(&leaves);
    for (size, root) in ["checkpoint", "cosigned", "shown", "watched"]
        .into_iter()
        .flat_map(|word| told.trees(word))
    {
        let found = roots.get(usize::try_from(size).unwrap());
        assert_eq!(found.map(String::as_str), Some(root), "the tree of {size}");
    }
    if work == Work::Payloads {
        payloads::check(dir, told, &log, &leaves).await;
    }

    let leaf = log.append(RecordClass::Evidence, &[9_999]).await.unwrap()[0];
    assert_eq!(leaf.0, leaves.len() as u64);
    let head = log.audit.checkpoint(log.org).await.unwrap();
    assert_eq!(head.size, leaf.0 + 1);
    // Each proof is verified before it is given.
    for leaf in [LeafIndex(0), leaf] {
        log.audit.prove(log.org, leaf).await.unwrap();
    }
    match work {
        Work::Creation => {}
        Work::Log => expect_other_keys(&log).await,
        Work::Payloads => payloads::expect_ended(dir, told, &log).await,
        Work::Watching => watching::expect_on(dir, &log, &roots, kept.unwrap()).await,
    }
}

/// Everything that was acknowledged has its place, and what is there was asked for.
fn expect_records(told: &Told, log: &Opened, leaves: &[Leaf]) {
    let mut numbers = Vec::new();
    for leaf in leaves {
        payloads::expect_payload(told, leaves, leaf);
        let at_place = |(index, _): &(u64, u64)| *index == leaf.index;
        numbers.push(match &leaf.read {
            Some(read) => number(log.org, leaf.index, read),
            // Where nobody can read it any more.
            None => told.evidence().find(at_place).unwrap().1,
        });
    }
    for (leaf, n) in told.evidence() {
        let found = numbers.get(usize::try_from(leaf).unwrap());
        assert_eq!(found, Some(&n), "leaf {leaf} was acknowledged");
    }
    for words in told.all("trace") {
        let n: u64 = words[0].parse().unwrap();
        assert!(numbers.contains(&n), "trace {n} was acknowledged");
    }
}

/// The root of every tree that the log has been.
fn roots(leaves: &[Leaf]) -> Vec<String> {
    let mut frontier = Frontier::new(HASHER);
    let mut roots = vec![frontier.root().to_string()];
    for leaf in leaves {
        frontier.push(HASHER.leaf(&leaf.bytes));
        roots.push(frontier.root().to_string());
    }
    roots
}
