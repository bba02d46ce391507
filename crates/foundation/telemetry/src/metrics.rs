//! Counters, gauges and histograms, and their text form.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::time::Duration;

use creto_errors::Classify;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::{
    AlgorithmReload, DecisionOutcome, EgressVerdict, Label, LeafClass, LimitNotice, OversightState,
    PolicyReload, PolicyShadow, ReservationEvent, SandboxExit,
};

/// The `Content-Type` of [`Metrics::encode`] (OpenMetrics 1.0).
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds: from half a millisecond to ten seconds.
const REQUEST_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];

type Pairs = Vec<(&'static str, &'static str)>;

/// A counter for each value of `L`. Every series exists from the start, and
/// counting takes no lock.
pub struct CounterFamily<L> {
    cells: Vec<Counter>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> CounterFamily<L> {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::<Pairs, Counter>::default();
        let cells = L::ALL
            .iter()
            .map(|value| family.get_or_create_owned(&vec![(L::NAME, value.as_str())]))
            .collect();
        registry.register(name, help, family);
        Self {
            cells,
            label: PhantomData,
        }
    }

    /// Counts one.
    pub fn inc(&self, value: L) {
        self.add(value, 1);
    }

    /// Counts several.
    pub fn add(&self, value: L, count: u64) {
        if let Some(cell) = self.cells.get(value.index()) {
            cell.inc_by(count);
        }
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self, value: L) -> u64 {
        self.cells.get(value.index()).map_or(0, Counter::get)
    }
}

/// A number that goes up and down.
pub struct GaugeValue(Gauge);

impl GaugeValue {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let gauge = Gauge::default();
        registry.register(name, help, gauge.clone());
        Self(gauge)
    }

    /// Sets it; numbers beyond `i64` show as the largest.
    pub fn set(&self, value: u64) {
        self.0.set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// One more.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// One less.
    pub fn dec(&self) {
        self.0.dec();
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

#[derive(Clone)]
struct RequestHistogram;

impl MetricConstructor<Histogram> for RequestHistogram {
    fn new_metric(&self) -> Histogram {
        Histogram::new(REQUEST_BUCKETS)
    }
}

/// Every metric of the product.
pub struct Metrics {
    registry: Registry,
    /// Decisions by outcome.
    pub decisions: CounterFamily<DecisionOutcome>,
    /// Bytes that are set apart for remembered decisions.
    pub decision_cache_bytes: GaugeValue,
    /// Records written to the log, by class.
    pub leaves: CounterFamily<LeafClass>,
    /// Reservations by what happened to them.
    pub reservations: CounterFamily<ReservationEvent>,
    /// Reservations that are neither settled nor given back.
    pub reservations_open: GaugeValue,
    /// Notifications that a limit was approached or reached.
    pub limit_notices: CounterFamily<LimitNotice>,
    /// Sandboxes that ended, by reason.
    pub sandbox_exits: CounterFamily<SandboxExit>,
    /// Sandboxes that run now.
    pub sandboxes_running: GaugeValue,
    /// Egress attempts by verdict.
    pub egress: CounterFamily<EgressVerdict>,
    /// Oversight requests by the state they entered.
    pub oversight: CounterFamily<OversightState>,
    /// Oversight requests that wait for a person now.
    pub oversight_pending: GaugeValue,
    /// Changes of the policy directory by what became of them.
    pub policy_reloads: CounterFamily<PolicyReload>,
    /// Lists of algorithms that were read anew, by what became of them.
    pub algorithm_reloads: CounterFamily<AlgorithmReload>,
    /// Decisions that a candidate set of policies was asked about.
    pub policy_shadow: CounterFamily<PolicyShadow>,
    checks: Counter,
    evaluations: Counter,
    checks_denied: Family<Pairs, Counter>,
    requests: Family<Vec<(&'static str, String)>, Counter>,
    request_seconds: Family<Vec<(&'static str, String)>, Histogram, RequestHistogram>,
    calls: Family<Pairs, Counter>,
    call_seconds: Family<Pairs, Histogram, RequestHistogram>,
    errors: Family<Pairs, Counter>,
}

impl Metrics {
    /// All metrics at zero. `version` is the build's.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        let mut registry = Registry::with_prefix("creto");
        registry.register(
            "build",
            "The running build",
            Info::new(vec![("version", version)]),
        );
        let requests = Family::default();
        registry.register(
            "http_requests",
            "HTTP requests answered, by method, route and status",
            requests.clone(),
        );
        let request_seconds = Family::new_with_constructor(RequestHistogram);
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's arrival to its answer, by method and route",
            Unit::Seconds,
            request_seconds.clone(),
        );
        let calls = Family::default();
        registry.register(
            "grpc_requests",
            "gRPC calls answered, by method and code",
            calls.clone(),
        );
        let call_seconds = Family::new_with_constructor(RequestHistogram);
        registry.register_with_unit(
            "grpc_request_duration",
            "Time from a gRPC call's arrival to its answer, by method",
            Unit::Seconds,
            call_seconds.clone(),
        );
        let errors = Family::default();
        registry.register(
            "errors",
            "Errors given to callers, by class and code",
            errors.clone(),
        );
        let checks_denied = Family::default();
        registry.register(
            "checks_denied",
            "Checks that were denied, by the denial's code",
            checks_denied.clone(),
        );
        let registry_ref = &mut registry;
        Self {
            decisions: CounterFamily::register(registry_ref, "decisions", "Decisions by outcome"),
            decision_cache_bytes: GaugeValue::register(
                registry_ref,
                "decision_cache_bytes",
                "Memory set apart at the start for remembered decisions",
            ),
            leaves: CounterFamily::register(
                registry_ref,
                "journal_leaves",
                "Records written to the log, by class",
            ),
            reservations: CounterFamily::register(
                registry_ref,
                "reservations",
                "Reservations by what happened to them",
            ),
            reservations_open: GaugeValue::register(
                registry_ref,
                "reservations_open",
                "Reservations neither settled nor given back",
            ),
            limit_notices: CounterFamily::register(
                registry_ref,
                "limit_notices",
                "Notifications that a limit was approached or reached",
            ),
            sandbox_exits: CounterFamily::register(
                registry_ref,
                "sandbox_exits",
                "Sandboxes that ended, by reason",
            ),
            sandboxes_running: GaugeValue::register(
                registry_ref,
                "sandboxes_running",
                "Sandboxes that run now",
            ),
            egress: CounterFamily::register(
                registry_ref,
                "egress",
                "Egress attempts of sandboxes, by verdict",
            ),
            oversight: CounterFamily::register(
                registry_ref,
                "oversight_requests",
                "Oversight requests by the state they entered",
            ),
            oversight_pending: GaugeValue::register(
                registry_ref,
                "oversight_pending",
                "Oversight requests that wait for a person now",
            ),
            policy_reloads: CounterFamily::register(
                registry_ref,
                "policy_reloads",
                "Changes of the policy directory, by what became of them",
            ),
            algorithm_reloads: CounterFamily::register(
                registry_ref,
                "algorithm_reloads",
                "Times that the lists of algorithms were read anew, by what became of them",
            ),
            policy_shadow: CounterFamily::register(
                registry_ref,
                "policy_shadow",
                "Decisions that a candidate set of policies was asked about",
            ),
            checks: counter(
                registry_ref,
                "checks",
                "Checks of the decision point, for actions, questions and egress",
            ),
            evaluations: counter(
                registry_ref,
                "policy_evaluations",
                "Checks for which policies were evaluated because no verdict was remembered",
            ),
            checks_denied,
            requests,
            request_seconds,
            calls,
            call_seconds,
            errors,
            registry,
        }
    }

    /// Counts an answered HTTP request. `route` is the matched pattern, `None`
    /// when nothing matched; the path itself never becomes a label.
    pub fn http_request(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        let method = known_method(method).to_owned();
        let route = route.unwrap_or("unmatched").to_owned();
        let mut labels = vec![("method", method), ("route", route)];
        self.request_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        labels.push(("status", status.to_string()));
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts an answered gRPC call. `method` is the full method's path, `None` when
    /// there is no such method; `code` is the status's name.
    pub fn grpc_request(&self, method: Option<&'static str>, code: &'static str, took: Duration) {
        let mut labels = vec![("method", method.unwrap_or("unmatched"))];
        self.call_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        labels.push(("code", code));
        self.calls.get_or_create(&labels).inc();
    }

    /// Counts an error that was given to a caller.
    pub fn error(&self, error: &dyn Classify) {
        self.errors
            .get_or_create(&vec![
                ("class", error.class().as_str()),
                ("code", error.code()),
            ])
            .inc();
    }

    /// Brings what the decision point counts itself up to these totals.
    pub fn observe_checks(&self, totals: CheckTotals) {
        let raise = |counter: &Counter, total: u64| {
            counter.inner().fetch_max(total, Ordering::Relaxed);
        };
        raise(&self.checks, totals.checks);
        raise(&self.evaluations, totals.evaluations);
        for (code, count) in totals.denied {
            raise(
                &self.checks_denied.get_or_create(&vec![("code", code)]),
                count,
            );
        }
    }

    /// Every metric as text, with [`METRICS_CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }
}

/// What the decision point counted since the process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckTotals {
    /// Checks, whatever was answered.
    pub checks: u64,
    /// For which policies were evaluated.
    pub evaluations: u64,
    /// Denied, by the code of the denial.
    pub denied: Vec<(&'static str, u64)>,
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Methods are the caller's text, so all but the registered ones share a name
/// (RFC 9110, section 9.3, and RFC 5789).
fn known_method(method: &str) -> &'static str {
    [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ]
    .into_iter()
    .find(|known| *known == method)
    .unwrap_or("OTHER")
}
