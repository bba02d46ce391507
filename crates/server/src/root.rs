//! Moving to another root key, offline: `creto crypto rotate-root`.
//!
//! The order is what makes it safe to be killed anywhere: the new key is on the disk
//! before anything is wrapped under it, everything moves in one transaction, and the
//! old file is replaced last. Whoever finds both files finds out by the database which
//! one counts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use creto_audit::Sealer;
use creto_crypto::{CryptoError, CryptoProvider, Keystore, RootKey, RootKeyError};
use creto_nhi::{NhiStore as _, WrappingKey};
use creto_state_sqlite::{Database, SqliteNhi};
use creto_types::{Clock as _, Commit, Evidence, OrgId, SystemClock};
use serde_json::json;

use crate::config::{RootKeyPlace, ServerConfig};
use crate::init::{InitError, instant, owner_of};
use crate::platform::{Platform, keystore, look_at_clock, provider};

/// What a change of the root key did.
#[derive(Clone, Debug)]
pub struct RootRotation {
    /// The file of the root key in force, if it is in one.
    pub root_key: Option<PathBuf>,
    /// How many wrapping keys are under it.
    pub wrapping_keys: usize,
    /// An earlier change that was interrupted was brought to its end; the key is the
    /// one which that had made.
    pub resumed: bool,
}

/// Moves every wrapping key under another root key. The server must not be running.
/// Killed anywhere, it is finished by the next run.
///
/// The new key is made beside the file of the old one, whose place it takes. A root key
/// that comes from a reference has no such place: then `new` is the new key, and the
/// caller's to put where the reference leads.
pub async fn rotate_root(config_path: &Path, new: Option<&str>) -> Result<RootRotation, InitError> {
    let config = ServerConfig::load(config_path)?;
    // Before a key is made.
    look_at_clock(&config, SystemClock::new().now(), None)?;
    match (&config.root_key, new) {
        (RootKeyPlace::File(path), None) => in_file(&config, path, provider().as_ref()).await,
        (RootKeyPlace::Reference(_), Some(hex)) => {
            let new = keystore(RootKey::from_hex(hex)?);
            if let Some(count) = opened_by(&config, &new).await?
                && count > 0
            {
                return Ok(RootRotation {
                    root_key: None,
                    wrapping_keys: count,
                    resumed: true,
                });
            }
            let old = keystore(config.root_key.load()?);
            Ok(RootRotation {
                root_key: None,
                wrapping_keys: move_under(&config, &old, &new).await?,
                resumed: false,
            })
        }
        (RootKeyPlace::Reference(_), None) => Err(InitError::RootKeyElsewhere),
        (RootKeyPlace::File(_), Some(_)) => Err(InitError::RootKeyInFile),
    }
}

async fn in_file(
    config: &ServerConfig,
    path: &Path,
    provider: &dyn CryptoProvider,
) -> Result<RootRotation, InitError> {
    let next = next_of(path);
    remove_unfinished(&next)?;
    if next.exists() {
        let new = keystore(RootKey::load(&next)?);
        if let Some(count) = opened_by(config, &new).await?
            && count > 0
        {
            replace(&next, path)?;
            return Ok(RootRotation {
                root_key: Some(path.to_owned()),
                wrapping_keys: count,
                resumed: true,
            });
        }
        // Nothing was wrapped under it yet, if all is under the other one.
        let old = keystore(RootKey::load(path)?);
        if opened_by(config, &old).await?.is_none() {
            return Err(wrap_failed(CryptoError::OpenFailed));
        }
        fs::remove_file(&next).map_err(RootKeyError::io("remove", &next))?;
    }
    let old = keystore(RootKey::load(path)?);
    let new = keystore(RootKey::create_new(&next, provider)?);
    let count = move_under(config, &old, &new).await?;
    replace(&next, path)?;
    Ok(RootRotation {
        root_key: Some(path.to_owned()),
        wrapping_keys: count,
        resumed: false,
    })
}

/// A key that was being written when its process was killed is in no use, and is not left
/// lying about.
fn remove_unfinished(next: &Path) -> Result<(), InitError> {
    let directory = match next.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let reading = || RootKeyError::io("read the directory of", next);
    let begins = next.file_name().unwrap_or_default().to_string_lossy();
    for entry in fs::read_dir(directory).map_err(reading())? {
        let entry = entry.map_err(reading())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let rest = name.strip_prefix(&*begins);
        if rest.is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".tmp")) {
            fs::remove_file(entry.path()).map_err(RootKeyError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Where the new key lies until it is the one in force.
pub(crate) fn next_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".next");
    path.with_file_name(name)
}

/// How many wrapping keys the database has, if all of them are under this root key.
async fn opened_by(
    config: &ServerConfig,
    keystore: &Arc<dyn Keystore>,
) -> Result<Option<usize>, InitError> {
    let sealer = Sealer::new(
        Arc::clone(keystore),
        crate::platform::provider(),
        config.algorithms.clone().into(),
    );
    let database = Database::open_with(&config.database(), sealer)?;
    let snapshot = SqliteNhi::new(database).load().await?;
    let mut count = 0;
    for stored in &snapshot.organizations {
        for key in &stored.wrapping {
            let purpose = WrappingKey::purpose(stored.organization.id, key.version);
            match keystore.unwrap(&purpose, &key.wrapped) {
                Ok(_) => count += 1,
                Err(
                    CryptoError::OpenFailed
                    | CryptoError::UnknownAlgorithm { .. }
                    | CryptoError::KeystoreForeign { .. },
                ) => return Ok(None),
                Err(error) => return Err(wrap_failed(error)),
            }
        }
    }
    Ok(Some(count))
}

async fn move_under(
    config: &ServerConfig,
    old: &Arc<dyn Keystore>,
    new: &Arc<dyn Keystore>,
) -> Result<usize, InitError> {
    let platform = &Platform::open_with(config, || Ok(Arc::clone(old)), None).await?;
    platform.record_algorithms().await?;
    for organization in platform.nhi.organizations() {
        leave_the_root(platform, organization.id).await?;
    }
    let store = SqliteNhi::new(Arc::clone(&platform.database));
    let snapshot = store.load().await?;
    let algorithm = config.algorithms.wrapping.for_new();
    let mut keys = Vec::new();
    let mut commits = Vec::new();
    for stored in &snapshot.organizations {
        let org = stored.organization.id;
        for key in &stored.wrapping {
            let moved = key.rewrap(org, old.as_ref(), new.as_ref(), algorithm);
            keys.push((org, moved.map_err(wrap_failed)?));
        }
        let body = json!({ "wrapping_keys": stored.wrapping.len() });
        let evidence = evidence(platform, org, "root_key.rotated", body).await?;
        commits.push(Commit::of(evidence));
    }
    let count = keys.len();
    store.replace_wrapping(keys, commits).await?;
    Ok(count)
}

/// What an organization of before has directly under the root key is wrapped under a
/// wrapping key: only such move.
async fn leave_the_root(platform: &Platform, org: OrgId) -> Result<(), InitError> {
    let nhi = &platform.nhi;
    if nhi.retiring(org)?.before_version.is_none() {
        let draft = nhi.draft_rotation(org)?;
        let made = draft.summary();
        let body = json!({
            "wrapping_version": made.wrapping_version,
            "wrapping": made.wrapping.as_str(),
            "issuer": made.issuer.as_str(),
            "issuer_kid": made.issuer_kid,
            "former_kid": made.former_kid,
            "reason": "another root key",
        });
        let evidence = evidence(platform, org, "keys.rotated", body).await?;
        nhi.commit_rotation(draft, Commit::of(evidence)).await?;
    }
    nhi.rewrap_keys(org).await?;
    Ok(())
}

async fn evidence(
    platform: &Platform,
    org: OrgId,
    kind: &str,
    body: serde_json::Value,
) -> Result<Evidence, InitError> {
    let owner = owner_of(&platform.nhi, org);
    Ok(Evidence {
        org,
        kind: kind.to_owned(),
        at: instant(&platform.oracle).await?,
        actor: owner.ok_or(creto_types::StoreError::NotFound { what: "owner" })?,
        action_id: None,
        body,
    })
}

fn wrap_failed(source: CryptoError) -> InitError {
    InitError::Crypto(source)
}

/// Puts the new file in the place of the old one, durably.
fn replace(next: &Path, path: &Path) -> Result<(), InitError> {
    fs::rename(next, path).map_err(RootKeyError::io("replace", path))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(RootKeyError::io("flush the directory of", path))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use creto_errors::{Class, Classify as _};
    use creto_nhi::test_util::Device;

    use super::*;
    use crate::init::{InitOptions, init};

    async fn under(
        config: &ServerConfig,
        keystore: &Arc<dyn Keystore>,
    ) -> Result<Platform, InitError> {
        Platform::open_with(config, || Ok(Arc::clone(keystore)), None).await
    }

    async fn rotate_and_retire(platform: &Platform, org: OrgId) {
        let nhi = &platform.nhi;
        let record = async |kind| {
            let made = evidence(platform, org, kind, json!({})).await;
            Commit::of(made.unwrap())
        };
        let draft = nhi.draft_rotation(org).unwrap();
        let rotated = record("keys.rotated").await;
        nhi.commit_rotation(draft, rotated).await.unwrap();
        nhi.rewrap_keys(org).await.unwrap();
        let retiring = nhi.retiring(org).unwrap();
        let retired = record("keys.retired").await;
        nhi.retire_keys(org, retiring, retired).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_kind_of_keystore_takes_over_and_gives_back() {
        let dir = tempfile::tempdir().unwrap();
        let made = init(InitOptions {
            config_path: dir.path().join("creto.toml"),
            data_dir: dir.path().join("data"),
            org_name: "Acme".to_owned(),
            owner: "alice".parse().unwrap(),
        });
        let made = made.await.unwrap();
        let config = ServerConfig::load(&made.config_path).unwrap();
        let local = keystore(config.root_key.load().unwrap());
        let kept = Arc::new(Device::new());
        let device: Arc<dyn Keystore> = kept.clone();

        assert_eq!(move_under(&config, &local, &device).await.unwrap(), 1);
        assert_eq!(opened_by(&config, &local).await.unwrap(), None);
        assert_eq!(opened_by(&config, &device).await.unwrap(), Some(1));
        let error = Platform::open(&config).await.err().unwrap();
        assert_eq!(error.code(), "unknown_algorithm");
        kept.is_away();
        let error = under(&config, &device).await.err().unwrap();
        let judged = (error.code(), error.class());
        assert_eq!(judged, ("keystore_unavailable", Class::Transient));
        kept.works();
        let platform = under(&config, &device).await.unwrap();
        rotate_and_retire(&platform, made.org).await;
        drop(platform);

        assert_eq!(move_under(&config, &device, &local).await.unwrap(), 1);
        assert_eq!(opened_by(&config, &device).await.unwrap(), None);
        let error = under(&config, &device).await.err().unwrap();
        assert_eq!(error.code(), "keystore_foreign");
        let platform = Platform::open(&config).await.unwrap();
        rotate_and_retire(&platform, made.org).await;
    }
}
