//! A fixed set of read-only connections, each used by one query at a time.

use std::sync::Arc;

use creto_types::StoreError;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::database::unavailable;

pub(crate) struct ReadPool {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
#[error("no read connection is left")]
struct PoolExhausted;

impl ReadPool {
    pub(crate) fn new(
        connections: impl Iterator<Item = Result<Connection, StoreError>>,
    ) -> Result<Self, StoreError> {
        let idle = connections.collect::<Result<Vec<_>, _>>()?;
        let permits = Arc::new(Semaphore::new(idle.len()));
        Ok(Self {
            idle: Arc::new(Mutex::new(idle)),
            permits,
        })
    }

    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(unavailable)?;
        let idle = Arc::clone(&self.idle);
        tokio::task::spawn_blocking(move || {
            // The permit is given back after the connection, on every path.
            let _permit = permit;
            let taken = idle.lock().pop();
            let connection = Lease {
                idle: &idle,
                connection: taken,
            };
            match &connection.connection {
                Some(open) => job(open),
                None => Err(unavailable(PoolExhausted)),
            }
        })
        .await
        .map_err(unavailable)?
    }
}

/// Puts the connection back even when the query panics.
struct Lease<'a> {
    idle: &'a Mutex<Vec<Connection>>,
    connection: Option<Connection>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.idle.lock().push(connection);
        }
    }
}
