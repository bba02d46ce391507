//! Stores that hold a change back until the test lets it go on.

use std::sync::Arc;

use async_trait::async_trait;
use creto_metering::{
    Entry, Event, EventId, EventQuery, Invoice, InvoiceId, LedgerStore, Limit, LimitId, NoticeKey,
    PricedUnits, RateId, RateRule, Reservation, Settlement, Spend, UsedQuery,
};
use creto_nhi::{
    LinkId, NhiStore, Rewrapped, SignedLink, Snapshot, StoredEpoch, StoredExpulsion,
    StoredKeyChange, StoredKeyRevocation, StoredLogRotation, StoredOrganization, StoredPrincipal,
    StoredRole, StoredRotation, StoredSuspension, WrappingKey,
};
use creto_types::{ActionId, Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::world::World;

/// Where a change can be held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before a reservation is durable.
    Reserve,
    /// Before a limit is durable; its organization's gate is shut meanwhile.
    Limit,
    /// When a use is to be settled, which then fails.
    Settle,
    /// Once a limit or a rate is durable; the answer is lost.
    Lost,
    /// When limits are to be read, which then fails.
    Unreadable,
    /// Before limits are read.
    Read,
    /// Once a revocation or a suspension is durable, before memory knows.
    Ended,
}

/// Holds the next change of one kind back.
pub(crate) struct Gate {
    shut: Mutex<Vec<Moment>>,
    arrived: Semaphore,
    opened: Semaphore,
}

impl Gate {
    pub(crate) fn shut(&self, moment: Moment) {
        self.shut.lock().push(moment);
    }

    /// Until a change is held back.
    pub(crate) async fn arrival(&self) {
        self.arrived.acquire().await.expect("is there").forget();
    }

    /// Lets it go on.
    pub(crate) fn open(&self) {
        self.opened.add_permits(1);
    }

    fn is_shut(&self, moment: Moment) -> bool {
        let mut shut = self.shut.lock();
        let found = shut.iter().position(|shut| *shut == moment);
        found.map(|place| shut.remove(place)).is_some()
    }

    fn lose(&self, done: Result<Receipt, StoreError>) -> Result<Receipt, StoreError> {
        match done {
            Ok(_) if self.is_shut(Moment::Lost) => Err(StoreError::Unavailable("lost".into())),
            done => done,
        }
    }

    async fn pass(&self, moment: Moment) {
        if self.is_shut(moment) {
            self.arrived.add_permits(1);
            self.opened.acquire().await.expect("is there").forget();
        }
    }
}

/// A world over such stores.
pub(crate) async fn world() -> (World, Arc<Gate>) {
    let gate = Arc::new(Gate {
        shut: Mutex::default(),
        arrived: Semaphore::new(0),
        opened: Semaphore::new(0),
    });
    let of_identities = Arc::clone(&gate);
    let of_the_ledger = Arc::clone(&gate);
    let world = World::over(
        1_000_000,
        |inner| {
            Arc::new(HeldIdentities {
                inner,
                gate: of_identities,
            })
        },
        |inner| {
            Arc::new(HeldLedger {
                inner,
                gate: of_the_ledger,
            })
        },
    );
    (world.await, gate)
}

struct HeldIdentities {
    inner: Arc<dyn NhiStore>,
    gate: Arc<Gate>,
}

#[async_trait]
impl NhiStore for HeldIdentities {
    fn prekeys(&self) -> &dyn creto_nhi::PrekeyStore {
        self.inner.prekeys()
    }
    fn secrets(&self) -> &dyn creto_nhi::SecretStore {
        self.inner.secrets()
    }
    async fn load(&self) -> Result<Snapshot, StoreError> {
        self.inner.load().await
    }
    async fn load_part(&self, part: creto_nhi::Part) -> Result<Snapshot, StoreError> {
        self.inner.load_part(part).await
    }
    async fn insert_organization(
        &self,
        organization: StoredOrganization,
        owner: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner
            .insert_organization(organization, owner, commit)
            .await
    }
    async fn insert_principal(
        &self,
        principal: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner.insert_principal(principal, commit).await
    }
    async fn insert_human(
        &self,
        human: StoredPrincipal,
        role: StoredRole,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner.insert_human(human, role, commit).await
    }
    async fn set_role(&self, role: StoredRole, commit: Commit) -> Result<Receipt, StoreError> {
        self.inner.set_role(role, commit).await
    }
    async fn insert_link(&self, link: SignedLink, commit: Commit) -> Result<Receipt, StoreError> {
        self.inner.insert_link(link, commit).await
    }
    async fn revoke_link(
        &self,
        org: OrgId,
        link: LinkId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let done = self.inner.revoke_link(org, link, at, commit).await;
        self.gate.pass(Moment::Ended).await;
        done
    }
    async fn insert_suspension(
        &self,
        suspension: StoredSuspension,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let done = self.inner.insert_suspension(suspension, commit).await;
        self.gate.pass(Moment::Ended).await;
        done
    }
    async fn end_suspension(
        &self,
        org: OrgId,
        principal: PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner.end_suspension(org, principal, commit).await
    }
    async fn insert_expulsion(
        &self,
        expulsion: StoredExpulsion,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let done = self.inner.insert_expulsion(expulsion, commit).await;
        self.gate.pass(Moment::Ended).await;
        done
    }
    async fn replace_key(
        &self,
        change: StoredKeyChange,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner.replace_key(change, commit).await
    }
    async fn revoke_key(
        &self,
        revocation: StoredKeyRevocation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        let done = self.inner.revoke_key(revocation, commit).await;
        self.gate.pass(Moment::Ended).await;
        done
    }
    async fn add_statement(
        &self,
        org: OrgId,
        signer: PrincipalName,
        kid: String,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner.add_statement(org, signer, kid, commit).await
    }
    async fn insert_epoch(
        &self,
        epoch: StoredEpoch,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner.insert_epoch(epoch, commit).await
    }
    async fn rotate_keys(
        &self,
        rotation: StoredRotation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner.rotate_keys(rotation, commit).await
    }
    async fn rotate_log_keys(
        &self,
        rotation: StoredLogRotation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner.rotate_log_keys(rotation, commit).await
    }
    async fn retire_log_keys(&self, org: OrgId, commit: Commit) -> Result<Receipt, StoreError> {
        self.inner.retire_log_keys(org, commit).await
    }
    async fn rewrap_keys(&self, org: OrgId, keys: Vec<Rewrapped>) -> Result<(), StoreError> {
        self.inner.rewrap_keys(org, keys).await
    }
    async fn retire_keys(
        &self,
        org: OrgId,
        before_version: u32,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner.retire_keys(org, before_version, commit).await
    }
    async fn replace_wrapping(
        &self,
        keys: Vec<(OrgId, WrappingKey)>,
        commits: Vec<Commit>,
    ) -> Result<(), StoreError> {
        self.inner.replace_wrapping(keys, commits).await
    }
}

struct HeldLedger {
    inner: Arc<dyn LedgerStore>,
    gate: Arc<Gate>,
}

#[async_trait]
impl LedgerStore for HeldLedger {
    async fn spends(&self, after: Option<EventId>, limit: usize) -> Result<Vec<Spend>, StoreError> {
        self.inner.spends(after, limit).await
    }
    async fn open_reservations(&self) -> Result<Vec<Reservation>, StoreError> {
        self.inner.open_reservations().await
    }
    async fn entry(&self, org: OrgId, action: ActionId) -> Result<Option<Entry>, StoreError> {
        self.inner.entry(org, action).await
    }
    async fn reserve(
        &self,
        reservation: Reservation,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.gate.pass(Moment::Reserve).await;
        self.inner.reserve(reservation, commit).await
    }
    async fn settle(&self, settlement: Settlement, commit: Commit) -> Result<Receipt, StoreError> {
        if self.gate.is_shut(Moment::Settle) {
            return Err(StoreError::Unavailable("disk full".into()));
        }
        self.inner.settle(settlement, commit).await
    }
    async fn release(
        &self,
        org: OrgId,
        action: ActionId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.inner.release(org, action, commit).await
    }
    async fn used(&self, org: OrgId, query: UsedQuery) -> Result<Vec<PricedUnits>, StoreError> {
        self.inner.used(org, query).await
    }
    async fn latest(&self, org: OrgId, query: UsedQuery) -> Result<Option<Timestamp>, StoreError> {
        self.inner.latest(org, query).await
    }
    async fn limits(&self) -> Result<Vec<Limit>, StoreError> {
        if self.gate.is_shut(Moment::Unreadable) {
            return Err(StoreError::Unavailable("unreadable".into()));
        }
        self.gate.pass(Moment::Read).await;
        self.inner.limits().await
    }
    async fn put_limit(&self, limit: Limit, commit: Commit) -> Result<Receipt, StoreError> {
        self.gate.pass(Moment::Limit).await;
        self.gate.lose(self.inner.put_limit(limit, commit).await)
    }
    async fn remove_limit(
        &self,
        org: OrgId,
        id: LimitId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.gate
            .lose(self.inner.remove_limit(org, id, commit).await)
    }
    async fn rates(&self) -> Result<Vec<RateRule>, StoreError> {
        self.inner.rates().await
    }
    async fn put_rate(&self, rule: RateRule, commit: Commit) -> Result<Receipt, StoreError> {
        self.gate.lose(self.inner.put_rate(rule, commit).await)
    }
    async fn remove_rate(
        &self,
        org: OrgId,
        id: RateId,
        commit: Commit,
    ) -> Result<Receipt, StoreError> {
        self.gate
            .lose(self.inner.remove_rate(org, id, commit).await)
    }
    async fn notice(&self, key: NoticeKey, commit: Commit) -> Result<Receipt, StoreError> {
        self.inner.notice(key, commit).await
    }
    async fn events(
        &self,
        org: OrgId,
        query: EventQuery,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.inner.events(org, query, after, limit).await
    }
    async fn last_invoice_number(&self, org: OrgId) -> Result<u64, StoreError> {
        self.inner.last_invoice_number(org).await
    }
    async fn issue(&self, invoice: Invoice, commit: Commit) -> Result<Receipt, StoreError> {
        self.inner.issue(invoice, commit).await
    }
    async fn invoice(&self, org: OrgId, id: InvoiceId) -> Result<Option<Invoice>, StoreError> {
        self.inner.invoice(org, id).await
    }
    async fn invoices(
        &self,
        org: OrgId,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<Invoice>, StoreError> {
        self.inner.invoices(org, after, limit).await
    }
}
