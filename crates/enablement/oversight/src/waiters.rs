//! Who waits for which request.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use creto_types::OrgId;

use crate::RequestId;

type Key = (OrgId, RequestId);

/// One channel per request that somebody waits for, and none besides.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    channels: Mutex<HashMap<Key, watch::Sender<()>>>,
}

/// Sees every wake-up that comes after it was made.
pub(crate) struct Subscription {
    waiters: Arc<Waiters>,
    key: Key,
    changes: Option<watch::Receiver<()>>,
}

impl Waiters {
    /// Subscribe first and read the state afterwards: a change between the two is
    /// then seen twice rather than never.
    pub(crate) fn subscribe(self: &Arc<Self>, org: OrgId, id: RequestId) -> Subscription {
        let key = (org, id);
        let changes = self
            .channels
            .lock()
            .entry(key)
            .or_insert_with(|| watch::Sender::new(()))
            .subscribe();
        Subscription {
            waiters: Arc::clone(self),
            key,
            changes: Some(changes),
        }
    }

    /// Call after the change is durable.
    pub(crate) fn wake(&self, org: OrgId, id: RequestId) {
        if let Some(sender) = self.channels.lock().get(&(org, id)) {
            sender.send_replace(());
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.channels.lock().len()
    }
}

impl Subscription {
    /// Returns at the next wake-up that was not seen.
    pub(crate) async fn changed(&mut self) {
        if let Some(changes) = &mut self.changes
            && changes.changed().await.is_ok()
        {
            return;
        }
        // The sender lives in the table as long as this subscription does.
        std::future::pending().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut channels = self.waiters.channels.lock();
        self.changes = None;
        if channels
            .get(&self.key)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            channels.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_up_before_the_wait_is_not_lost_and_the_table_empties() {
        let waiters = Arc::new(Waiters::default());
        let org = "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".parse().unwrap();
        let id = "ovr_0192f0c4a5e77b3c8d1e2f3a4b5c6d7f".parse().unwrap();
        let mut one = waiters.subscribe(org, id);
        let two = waiters.subscribe(org, id);
        waiters.wake(org, id);
        one.changed().await;
        assert_eq!(waiters.len(), 1);
        drop(one);
        assert_eq!(waiters.len(), 1);
        drop(two);
        assert_eq!(waiters.len(), 0);
    }
}
