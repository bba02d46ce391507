//! Everything that a sandbox occupies on the machine, and its removal: after an
//! exit, after a failed start, and after a server that died.

use std::fs;
use std::io;
use std::path::PathBuf;

use creto_runtime::{GatewaySession, RuntimeError, SandboxId};
use tokio::task::JoinHandle;

use crate::cgroup::Cgroup;
use crate::command;
use crate::network::Network;
use crate::runtime::Machine;

/// The places of one sandbox. All of them follow from its id and the state
/// folder, so a later server finds what an earlier one left.
pub(crate) struct Places {
    /// The short name in namespaces, cgroups and runsc's state.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) network: Network,
    pub(crate) cgroup: Cgroup,
}

impl Places {
    pub(crate) fn of(machine: &Machine, id: SandboxId) -> Self {
        // The last 64 bits of a UUIDv7 are its random ones.
        let digits = id.uuid().simple().to_string();
        let name = digits.get(16..).unwrap_or(&digits).to_owned();
        Self {
            folder: machine.sandboxes.join(id.to_string()),
            network: Network::named(&machine.network, &name),
            cgroup: machine.hierarchy.group(&name),
            name,
        }
    }

    /// Ends what runs and removes what is there, each step even when one before
    /// it failed; the first failure is returned. The folder goes last, and only
    /// when all else went: it is what a later server finds the rest by.
    pub(crate) async fn remove(&self, machine: &Machine) -> Result<(), RuntimeError> {
        let mut first = Ok(());
        let mut note = |result: Result<(), RuntimeError>| {
            if let Err(error) = result {
                tracing::warn!(
                    sandbox = self.name,
                    error = creto_errors::chain(&error),
                    "cannot remove all of a sandbox"
                );
                if first.is_ok() {
                    first = Err(error);
                }
            }
        };
        let killed = self.cgroup.kill_all().await;
        note(killed.map_err(|error| RuntimeError::control("killed", error)));
        let state = machine.runsc_state.display().to_string();
        let deleted = command::run(
            &machine.runsc,
            &["--root", &state, "delete", "--force", &self.name],
            "",
        )
        .await
        .map(drop);
        note(deleted.map_err(|error| RuntimeError::control("removed", error)));
        let network = self.network.remove().await;
        note(network.map_err(|error| RuntimeError::control("removed", error)));
        let cgroup = self.cgroup.remove().await;
        note(cgroup.map_err(|error| RuntimeError::control("removed", error)));
        first?;
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RuntimeError::control("removed", error))
            }
            _ => Ok(()),
        }
    }
}

/// The part of a sandbox that lives in this process.
#[derive(Default)]
pub(crate) struct Tasks {
    pub(crate) session: Option<GatewaySession>,
    pub(crate) datagrams: Option<JoinHandle<()>>,
}

impl Tasks {
    /// Ends them; the gateway's sockets are closed when this returns.
    pub(crate) async fn end(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        if let Some(datagrams) = self.datagrams.take() {
            datagrams.abort();
            // Cancelled, as asked.
            let _ = datagrams.await;
        }
    }
}
