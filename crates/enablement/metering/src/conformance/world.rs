//! What the checks are written with.

use std::sync::Arc;
use std::time::Duration;

use creto_nhi::LinkId;
use creto_types::{
    Clock as _, Commit, Evidence, IdSource, ManualClock, Money, OrgId, Period, PrincipalName,
    SeededRandom, SystemIds, Timestamp,
};

use crate::{
    Event, EventQuery, Invoice, InvoiceLine, InvoicedEvent, LedgerStore, Reservation, Settlement,
};

/// Ids, names and money of one check.
pub(super) struct World {
    ids: SystemIds,
    clock: Arc<ManualClock>,
    pub(super) org: OrgId,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let start = "2026-03-31T23:59:58.5Z".parse().expect("an instant");
        let clock = Arc::new(ManualClock::new(start));
        let ids = SystemIds::new(Arc::<ManualClock>::clone(&clock), random(seed));
        let org = (&ids as &dyn IdSource).next();
        Self { ids, clock, org }
    }

    pub(super) fn ids(&self) -> &dyn IdSource {
        &self.ids
    }

    /// A little later, so that ids sort by the order they were made in.
    pub(super) fn tick(&self) -> Timestamp {
        self.clock.advance(Duration::from_millis(3));
        self.clock.now()
    }

    pub(super) fn reservation(&self, agent: &str, units: u64) -> Reservation {
        let reserved_at = self.tick();
        let links: [LinkId; 2] = [self.ids().next(), self.ids().next()];
        Reservation {
            org: self.org,
            action_id: self.ids().next(),
            agent: name(agent),
            customer: name("owner"),
            action: "changelog.draft".to_owned(),
            units,
            unit_price: usd("0.000000001"),
            cost: usd("0.000000001").checked_mul(units).expect("it fits"),
            hops: links.to_vec(),
            reserved_at,
            expires_at: reserved_at
                .checked_add(Duration::from_secs(60))
                .expect("it fits"),
            overage: units % 2 == 1,
        }
    }

    pub(super) fn settlement(&self, of: &Reservation, units: u64) -> Settlement {
        Settlement {
            org: of.org,
            event_id: self.ids().next(),
            action_id: of.action_id,
            agent: of.agent.clone(),
            customer: of.customer.clone(),
            action: of.action.clone(),
            units,
            unit_price: of.unit_price,
            cost: of.unit_price.checked_mul(units).expect("it fits"),
            hops: of.hops.clone(),
            reserved_at: of.reserved_at,
            settled_at: self.tick(),
            overage: of.overage,
        }
    }

    pub(super) fn commit(&self, kind: &str) -> Commit {
        commit(self.org, kind)
    }

    /// Reserves and settles.
    pub(super) async fn event(&self, store: &dyn LedgerStore, agent: &str, units: u64) -> Event {
        let reservation = self.reservation(agent, units);
        let settlement = self.settlement(&reservation, units);
        store
            .reserve(reservation, self.commit("action.allowed"))
            .await
            .expect("reserves");
        let receipt = store
            .settle(settlement.clone(), self.commit("usage.settled"))
            .await
            .expect("settles");
        Event {
            settlement,
            leaf: receipt.leaf().expect("a leaf"),
            invoice: None,
        }
    }

    pub(super) fn invoice(&self, number: u64, events: &[Event]) -> Invoice {
        let invoiced = events.iter().map(|event| InvoicedEvent {
            event_id: event.settlement.event_id,
            action_id: event.settlement.action_id,
            units: event.settlement.units,
            leaf: event.leaf,
        });
        Invoice {
            id: self.ids().next(),
            number,
            org: self.org,
            customer: name("owner"),
            period: always(),
            issued_at: self.tick(),
            lines: vec![InvoiceLine {
                agent: name("bot"),
                action: "changelog.draft".to_owned(),
                quantity: events.iter().map(|event| event.settlement.units).sum(),
                unit_price: usd("0.000000001"),
                amount: usd("0.00"),
                events: invoiced.collect(),
            }],
            total: usd("0.00"),
            leaf: None,
        }
    }
}

pub(super) fn random(seed: u64) -> Arc<SeededRandom> {
    Arc::new(SeededRandom::new(seed))
}

pub(super) fn name(text: &str) -> PrincipalName {
    text.parse().expect("a name")
}

pub(super) fn usd(amount: &str) -> Money {
    format!("{amount} USD").parse().expect("money")
}

pub(super) fn always() -> Period {
    let at = |text: &str| text.parse().expect("an instant");
    Period::new(at("1990-01-01T00:00:00Z"), at("2200-01-01T00:00:00Z")).expect("a period")
}

pub(super) fn commit(org: OrgId, kind: &str) -> Commit {
    Commit::of(Evidence {
        org,
        kind: kind.to_owned(),
        at: Timestamp::UNIX_EPOCH,
        actor: name("bot"),
        action_id: None,
        body: serde_json::json!({}),
    })
}

pub(super) fn all() -> EventQuery {
    EventQuery {
        period: always(),
        agent: None,
        customer: None,
        uninvoiced: false,
    }
}
