//! The demo's configuration: what `creto init` wrote, and these keys over it.

use std::net::SocketAddr;
use std::path::Path;

use toml::{Table, Value};

use super::children::ReleaseHost;
use super::error::DemoError;
use super::workspace::{Workspace, file_error};

/// What one unit of each action costs, in US dollars. Reading costs a fraction of
/// a cent, so that the ledger keeps more digits than the invoice shows.
const PRICES: [(&str, &str); 3] = [
    ("history.read", "0.001"),
    ("changelog.draft", "0.05"),
    ("release.publish", "0.25"),
];

/// Actions a second of one agent, and how many at once: little enough that the
/// agent can run into it, enough for its work.
const RATE_PER_SECOND: i64 = 5;
const BURST: i64 = 25;

/// How long the owner has for a decision: the default, and when nobody decides.
pub(crate) const PATIENT: i64 = 3_600;
pub(crate) const IMPATIENT: i64 = 1;

/// Lays the demo's settings over the configuration that is there.
pub(crate) fn configure(
    space: &Workspace,
    listen: SocketAddr,
    host: &ReleaseHost,
) -> Result<(), DemoError> {
    edit(&space.config(), |table| {
        set(table, &["server", "listen"], listen.to_string());
        set(table, &["metering", "currency"], "USD");
        for (action, price) in PRICES {
            set(table, &["metering", "prices", action], price);
        }
        set(table, &["metering", "rate_per_second"], RATE_PER_SECOND);
        set(table, &["metering", "burst"], BURST);
        for name in ["history.git", "release-bot"] {
            let volume = name.trim_end_matches(".git");
            let path = space.path(name).display().to_string();
            set(table, &["runtime", "volumes", volume], path);
        }
        let nameserver = format!("127.0.0.1:{}", host.dns_port);
        set(table, &["runtime", "egress", "nameserver"], nameserver);
        // The release host of the demo is on this machine's loopback.
        let loopback = toml::Value::from(vec!["127.0.0.0/8"]);
        set(table, &["runtime", "egress", "allow_networks"], loopback);
        set(table, &["runtime", "egress", "counted"], true);
    })
}

/// How long the owner has for a decision, from the next start on.
pub(crate) fn set_patience(space: &Workspace, seconds: i64) -> Result<(), DemoError> {
    edit(&space.config(), |table| {
        set(table, &["oversight", "request_ttl_seconds"], seconds);
    })
}

/// Lets strangers read the log, as far as this witness cosigned it, from the next start
/// on.
pub(crate) fn publish_log(
    space: &Workspace,
    listen: SocketAddr,
    witness_url: &str,
    witness_key: &str,
) -> Result<(), DemoError> {
    edit(&space.config(), |table| {
        set(table, &["audit", "public_listen"], listen.to_string());
        set(table, &["audit", "public_entries"], true);
        set(table, &["audit", "witness_quorum"], 1_i64);
        let mut witness = Table::new();
        witness.insert("url".to_owned(), witness_url.into());
        witness.insert("key".to_owned(), witness_key.into());
        set(table, &["audit", "witness"], vec![Value::Table(witness)]);
    })
}

fn edit(path: &Path, change: impl FnOnce(&mut Table)) -> Result<(), DemoError> {
    let text = std::fs::read_to_string(path).map_err(file_error("read", path))?;
    let mut table: Table = toml::from_str(&text)?;
    change(&mut table);
    let text = toml::to_string(&table)?;
    std::fs::write(path, text).map_err(file_error("write", path))
}

/// Sets one key, making the tables above it.
fn set(table: &mut Table, path: &[&str], value: impl Into<Value>) {
    match path {
        [] => {}
        [key] => {
            table.insert((*key).to_owned(), value.into());
        }
        [key, rest @ ..] => {
            let entry = table
                .entry((*key).to_owned())
                .or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(inner) = entry {
                set(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_laid_over_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("creto.toml");
        std::fs::write(&path, "[server]\nlisten = \"a\"\ndata_dir = \"data\"\n").unwrap();
        edit(&path, |table| {
            set(table, &["server", "listen"], "b");
            set(table, &["metering", "prices", "history.read"], "0.001");
        })
        .unwrap();
        let table: Table = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(table["server"]["data_dir"].as_str(), Some("data"));
        assert_eq!(table["server"]["listen"].as_str(), Some("b"));
        assert_eq!(
            table["metering"]["prices"]["history.read"].as_str(),
            Some("0.001")
        );
    }
}
