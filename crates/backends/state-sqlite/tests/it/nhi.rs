//! Identities: the port's contract, and a restart on a real file.

use std::path::Path;
use std::sync::Arc;

use creto_errors::Classify as _;
use creto_nhi::test_util::{World, commit, name, under_root};
use creto_nhi::{KeyHolder, KeyVersion, NhiStore, PrincipalType, WrappedKey, conformance};
use creto_state_sqlite::{Database, SqliteNhi};
use creto_types::{Commit, OrgId, StoreError};

fn store(path: &Path) -> Arc<dyn NhiStore> {
    Arc::new(SqliteNhi::new(Database::open(path).unwrap()))
}

#[tokio::test]
async fn sqlite_store_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::all(store(&dir.path().join("state.db"))).await;
}

#[tokio::test]
async fn identities_survive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut world = World::on(store(&path)).await;
    let org = world.organization("alice").await;
    world.principal(org, "planner", PrincipalType::Agent).await;
    world.principal(org, "worker", PrincipalType::Agent).await;
    let root = world
        .delegate(org, world.request("alice", "planner", None))
        .await
        .unwrap();
    let below = world
        .delegate(org, world.request("planner", "worker", Some(root)))
        .await
        .unwrap();
    let token = |link| {
        let identity = world.nhi.identity_for_link(org, link).unwrap();
        world.nhi.issue_token(&identity, None).unwrap().token
    };
    let (live, dead) = (token(root), token(below));
    let at = world.after(1);
    world
        .nhi
        .revoke(org, below, at, Commit::default())
        .await
        .unwrap();
    let alices = || {
        let identity = world.nhi.identity_for_human(org, &name("alice")).unwrap();
        world.nhi.issue_token(&identity, None).unwrap().token
    };
    let superseded = alices();
    world
        .nhi
        .supersede_credentials(org, &name("alice"), world.now(), Commit::default())
        .await
        .unwrap();
    let renewed = alices();
    let before = world.store.load().await.unwrap();
    assert_eq!(before.links[1].revoked_at, Some(at));
    let keys = world.nhi.jwks();

    // Everything that holds the file is dropped, as at the end of a process.
    world.store = Arc::new(creto_nhi::memory::MemoryNhiStore::new());
    world.restart().await;
    world.store = store(&path);
    world.restart().await;

    assert_eq!(world.store.load().await.unwrap(), before);
    assert_eq!(world.nhi.jwks(), keys);
    world.nhi.verify_token(&live).unwrap();
    assert!(world.nhi.verify_token(&dead).is_err());
    world.nhi.verify_token(&renewed).unwrap();
    let refused = world.nhi.verify_token(&superseded).unwrap_err();
    assert_eq!(refused.code(), "token_superseded");
    assert!(!std::fs::read(&path).unwrap().is_empty());
}

/// A file from before credentials could be superseded: its tokens stay valid until
/// they are.
#[tokio::test]
async fn an_older_file_learns_to_supersede() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut world = World::on(store(&path)).await;
    let org = world.organization("alice").await;
    let identity = world.nhi.identity_for_human(org, &name("alice")).unwrap();
    let token = world.nhi.issue_token(&identity, None).unwrap().token;
    let keys = under_root(&world.store.load().await.unwrap());
    world.store = Arc::new(creto_nhi::memory::MemoryNhiStore::new());
    world.restart().await;
    let old = dir.path().join("old.db");
    as_before_0007(&path, &old, &keys);

    world.store = store(&old);
    world.restart().await;
    world.nhi.verify_token(&token).unwrap();
    world
        .nhi
        .supersede_credentials(org, &name("alice"), world.now(), Commit::default())
        .await
        .unwrap();
    let refused = world.nhi.verify_token(&token).unwrap_err();
    assert_eq!(refused.code(), "token_superseded");
    assert_eq!(world.nhi.owner(org).unwrap(), name("alice"));
}

/// Writes what is in these tables of one file to another, with the tables and columns that
/// there were after so many migrations.
fn as_of(version: usize, path: &Path, old: &Path, tables: &[&str]) -> rusqlite::Connection {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut migrations: Vec<_> = std::fs::read_dir(migrations)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    migrations.sort();
    let raw = rusqlite::Connection::open(old).unwrap();
    raw.execute_batch("PRAGMA foreign_keys = OFF;").unwrap();
    for migration in &migrations[..version] {
        let text = std::fs::read_to_string(migration).unwrap();
        raw.execute_batch(&text).unwrap();
    }
    raw.execute("ATTACH ?1 AS new", [path.to_str().unwrap()])
        .unwrap();
    for table in tables {
        let columns: String = raw
            .query_row(
                "SELECT group_concat(name) FROM pragma_table_info(?1, 'main')",
                [table],
                |row| row.get(0),
            )
            .unwrap();
        raw.execute_batch(&format!(
            "INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table};"
        ))
        .unwrap();
    }
    raw.execute_batch(&format!("PRAGMA user_version = {version};"))
        .unwrap();
    raw
}

/// A file as it was before the seventh migration, with keys under the root key.
fn as_before_0007(path: &Path, old: &Path, keys: &[(OrgId, KeyHolder, WrappedKey)]) {
    let tables = ["organizations", "organization_keys", "principals"];
    let raw = as_of(6, path, old, &tables);
    for (org, holder, wrapped) in keys {
        let wrapped = serde_json::to_string(wrapped).unwrap();
        let (table, column, name) = match holder {
            KeyHolder::Organization(purpose) => ("organization_keys", "purpose", purpose.as_str()),
            KeyHolder::Principal(name) => ("principals", "name", name.as_str()),
            KeyHolder::FormerLog(_) | KeyHolder::Secret(..) | KeyHolder::Subject(_) => {
                panic!("there were none")
            }
        };
        let update = format!("UPDATE {table} SET private = ?3 WHERE org = ?1 AND {column} = ?2");
        let changed = raw.execute(&update, [&*org.to_string(), name, &*wrapped]);
        assert_eq!(changed, Ok(1));
    }
}

/// A file from before principals could have another key: what they delegated is by their
/// first one.
#[tokio::test]
async fn an_older_file_learns_keys_of_principals() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut world = World::on(store(&path)).await;
    let org = world.organization("alice").await;
    world.principal(org, "planner", PrincipalType::Agent).await;
    let request = world.request("alice", "planner", None);
    let link = world.delegate(org, request).await.unwrap();
    world.store = Arc::new(creto_nhi::memory::MemoryNhiStore::new());
    world.restart().await;
    let old = dir.path().join("old.db");
    let tables = [
        "organizations",
        "organization_keys",
        "wrapping_keys",
        "principals",
        "delegations",
    ];
    drop(as_of(21, &path, &old, &tables));

    world.store = store(&old);
    world.restart().await;
    let alice = name("alice");
    let live = |world: &World| {
        let identity = world.nhi.identity_for_link(org, link).unwrap();
        identity.live(world.now()).map_err(|error| error.code())
    };
    let draft = world.nhi.draft_principal_key(org, &alice, world.now());
    let rotated = world
        .nhi
        .commit_principal_key(draft.unwrap(), commit(org, "principal.key_rotated"));
    rotated.await.unwrap();
    world.restart().await;
    live(&world).unwrap();
    let record = commit(org, "principal.key_revoked");
    let revoked = world
        .nhi
        .revoke_key(org, &alice, KeyVersion::FIRST, world.now(), record);
    revoked.await.unwrap();
    assert_eq!(live(&world), Err("delegation_key_revoked"));
    world.restart().await;
    assert_eq!(live(&world), Err("delegation_key_revoked"));
}

/// A file from before organizations had wrapping keys is read as it is, and moves to
/// them with the first rotation.
#[tokio::test]
async fn an_older_file_learns_wrapping_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut world = World::on(store(&path)).await;
    let org = world.organization("alice").await;
    let keys = under_root(&world.store.load().await.unwrap());
    world.store = Arc::new(creto_nhi::memory::MemoryNhiStore::new());
    world.restart().await;
    let old = dir.path().join("old.db");
    as_before_0007(&path, &old, &keys);

    world.store = store(&old);
    world.restart().await;
    world.principal(org, "before", PrincipalType::Agent).await;
    let all_under = async |world: &World, version| {
        let snapshot = world.store.load().await.unwrap();
        let organizations = snapshot.organizations.iter();
        let keys = organizations.flat_map(|row| row.keys.iter().map(|(_, key)| key));
        let mut keys = keys.chain(snapshot.principals.iter().map(|row| &row.key));
        keys.all(|key| key.wrapped.version() == version)
    };
    assert!(all_under(&world, None).await);
    let draft = world.nhi.draft_rotation(org).unwrap();
    let rotated = world
        .nhi
        .commit_rotation(draft, commit(org, "keys.rotated"));
    rotated.await.unwrap();
    world.restart().await;
    // With the key of the subject that the record of the rotation is of.
    assert_eq!(world.nhi.rewrap_keys(org).await.unwrap(), 7);
    assert!(all_under(&world, Some(1)).await);
    let retiring = world.nhi.retiring(org).unwrap();
    let retired = world
        .nhi
        .retire_keys(org, retiring, commit(org, "keys.retired"));
    retired.await.unwrap();
    world.restart().await;
    world
        .delegate(org, world.request("alice", "before", None))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_row_of_another_link_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let db = Database::open(&path).unwrap();
    let world = World::on(Arc::new(SqliteNhi::new(Arc::clone(&db)))).await;
    let org = world.organization("alice").await;
    world.principal(org, "planner", PrincipalType::Agent).await;
    world
        .delegate(org, world.request("alice", "planner", None))
        .await
        .unwrap();
    db.write(|tx| {
        tx.execute("UPDATE delegations SET id = 'lnk_other'", [])
            .map(|_| ())
            .map_err(|e| StoreError::Unavailable(Box::new(e)))
    })
    .await
    .unwrap();
    assert!(matches!(
        world.store.load().await,
        Err(StoreError::Corrupt { .. })
    ));
}
