//! One opening of everything that keeps the log, and the records that come into it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use creto_audit::conformance::record;
use creto_audit::{
    Audit, AuditConfig, AuditError, FormerLogKeys, Journal, LogKeySource, LogKeys,
    PAYLOADS_EXPIRED, RecordClass, Sealer, TileStore, leaf_bytes,
};
use creto_crypto::{AwsLcProvider, LocalKeystore, RootKey};
use creto_governor::SubjectStore as _;
use creto_nhi::{Nhi, NhiConfig, NhiError};
use creto_state_sqlite::{Database, SqliteJournal, SqliteNhi, SqliteSubjects};
use creto_tiles_fs::FsTiles;
use creto_tlog::{Checkpoint, Note};
use creto_types::{
    Commit, Evidence, HybridTimestamp, LeafIndex, ManualClock, OrgId, PrincipalName, SeededRandom,
    SystemIds, Timestamp,
};
use serde_json::{Value, json};

const ORIGINS: &str = "creto.example/log";

/// Who was there before a run, did one thing, and is suspended.
pub(crate) fn person() -> PrincipalName {
    "carol".parse().unwrap()
}

/// The number of that one thing, and of no other.
pub(crate) const HERS: u64 = 77;

/// Records of these numbers are a day older than the others.
pub(crate) const OLD: u64 = 4;

/// Numbers from here on are of records that old payloads end: the even ones of evidence, the
/// odd ones of trace.
pub(crate) const ENDS: u64 = 20_000;

fn at(day: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap()
}

/// After the old records, before the others.
pub(crate) fn young() -> Timestamp {
    at(0).checked_add(Duration::from_secs(3_600)).unwrap()
}

pub(crate) fn now() -> Timestamp {
    at(2)
}

/// The record of this number.
pub(crate) fn numbered(org: OrgId, n: u64) -> Evidence {
    let mut record = record(org, n);
    record.at = at(i64::from(n >= OLD));
    if n == HERS {
        record.actor = person();
    }
    if n >= ENDS {
        let class = match n % 2 {
            0 => RecordClass::Evidence,
            _ => RecordClass::Trace,
        };
        record.kind = PAYLOADS_EXPIRED.to_owned();
        record.body = json!({ "n": n, "class": class, "through": OLD - 1 });
    }
    record
}

/// The number of a record that can be read, and that it says what the record of this number
/// says.
pub(crate) fn number(org: OrgId, index: u64, read: &Value) -> u64 {
    let n = read["body"]["n"].as_u64().unwrap();
    let class: RecordClass = read["class"].as_str().unwrap().parse().unwrap();
    let ts: HybridTimestamp = read["ts"].as_str().unwrap().parse().unwrap();
    let written = leaf_bytes(LeafIndex(index), ts, class, &numbered(org, n)).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written, *read, "leaf {index}");
    n
}

/// The log's keys are those of the organization, as in the server.
pub(crate) struct Keys(pub(crate) Arc<Nhi>);

impl LogKeySource for Keys {
    fn keys(&self, org: OrgId) -> Result<LogKeys, AuditError> {
        let signers = self.0.log_signers(org).map_err(|error| AuditError::Keys {
            org,
            source: Box::new(error),
        })?;
        Ok(LogKeys {
            ed25519: signers.ed25519,
            composite: signers.composite,
            evidence: signers.evidence,
            former: signers
                .former
                .map(|(ed25519, composite)| FormerLogKeys { ed25519, composite }),
        })
    }
}

/// The faults are those of files: of all that identities need, only the store fails.
fn of_store(error: NhiError) -> AuditError {
    match error {
        NhiError::Store(error) => error.into(),
        error => panic!("{error}"),
    }
}

pub(crate) struct Opened {
    pub(crate) org: OrgId,
    pub(crate) db: Arc<Database>,
    pub(crate) nhi: Arc<Nhi>,
    pub(crate) subjects: SqliteSubjects,
    pub(crate) journal: Arc<SqliteJournal>,
    pub(crate) tiles: Arc<FsTiles>,
    pub(crate) audit: Arc<Audit>,
}

impl Opened {
    /// Each opening has a seed of its own: keys that are made in it are not those that
    /// were made in another one.
    pub(crate) async fn open(dir: &Path, seed: u64) -> Result<Self, AuditError> {
        Self::open_with(dir, seed, Sealer::for_tests()).await
    }

    pub(crate) async fn open_with(
        dir: &Path,
        seed: u64,
        sealer: Sealer,
    ) -> Result<Self, AuditError> {
        let db = Database::open_with(&dir.join("state.db"), sealer)?;
        let clock = Arc::new(ManualClock::new(now()));
        let random = Arc::new(SeededRandom::new(seed));
        let provider = Arc::new(AwsLcProvider::new(random.clone()));
        let root = RootKey::from_hex(&"7".repeat(64)).unwrap();
        let nhi = Nhi::open(
            Arc::new(SqliteNhi::new(db.clone())),
            provider.clone(),
            Arc::new(LocalKeystore::new(root, provider)),
            Arc::new(SystemIds::new(clock.clone(), random)),
            clock,
            NhiConfig::new("creto.example"),
        )
        .await
        .map_err(of_store)?;
        let org = match nhi.organizations().first() {
            Some(organization) => organization.id,
            None => found(&nhi).await.map_err(of_store)?,
        };
        let subjects = SqliteSubjects::new(db.clone());
        // As at every start: what an erasure left in files ends.
        subjects.settle().await?;
        let journal = Arc::new(SqliteJournal::new(db.clone()));
        let tiles = Arc::new(FsTiles::open(&dir.join("log"))?);
        let audit = open_log(journal.clone(), tiles.clone(), &nhi).await?;
        Ok(Self {
            org,
            db,
            nhi,
            subjects,
            journal,
            tiles,
            audit,
        })
    }

    /// The checkpoint that everybody can read now.
    pub(crate) async fn visible(&self) -> Option<Checkpoint> {
        let note = published(&self.tiles, self.org).await?;
        Some(note.text().parse().unwrap())
    }

    /// A commit with this record.
    pub(crate) fn commit(&self, n: u64) -> Commit {
        Commit::of(numbered(self.org, n))
    }

    pub(crate) async fn append(
        &self,
        class: RecordClass,
        numbers: &[u64],
    ) -> Result<Vec<LeafIndex>, AuditError> {
        let records = numbers.iter().map(|n| numbered(self.org, *n)).collect();
        Ok(self.journal.append(class, records).await?)
    }
}

/// A log that these keys sign.
pub(crate) async fn open_log(
    journal: Arc<dyn Journal>,
    tiles: Arc<dyn TileStore>,
    nhi: &Arc<Nhi>,
) -> Result<Arc<Audit>, AuditError> {
    let config = AuditConfig {
        origin_prefix: ORIGINS.to_owned(),
        batch_size: 2,
        // Nothing happens but what is asked for, so each run makes the same calls.
        flush_interval: Duration::from_secs(3_600),
    };
    let clock = Arc::new(ManualClock::new(now()));
    Audit::open(journal, tiles, Arc::new(Keys(nhi.clone())), clock, config).await
}

/// Founds the organization, without a record: places of records are counted from 0.
async fn found(nhi: &Nhi) -> Result<OrgId, NhiError> {
    let draft = nhi.draft_organization("Example", "owner".parse().unwrap())?;
    let org = draft.organization().id;
    nhi.commit_organization(draft, Commit::default()).await?;
    Ok(org)
}

pub(crate) async fn published(tiles: &FsTiles, org: OrgId) -> Option<Note> {
    let note = tiles.get(org, "checkpoint").await.unwrap()?;
    Some(Note::parse(&note).unwrap())
}
