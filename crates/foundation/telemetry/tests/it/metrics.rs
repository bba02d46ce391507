use std::time::Duration;

use creto_telemetry::{DecisionOutcome, EgressVerdict, LogFormat, Metrics};

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no `{start}` in\n{text}"))
}

#[test]
fn every_series_of_a_closed_set_exists_from_the_start() {
    let text = Metrics::new("1.2.3").encode();
    assert_eq!(
        line(&text, "creto_decisions_total{outcome=\"quota_exceeded\"}"),
        "creto_decisions_total{outcome=\"quota_exceeded\"} 0"
    );
    line(
        &text,
        "creto_sandbox_exits_total{reason=\"out_of_memory\"} 0",
    );
    line(&text, "creto_oversight_requests_total{state=\"expired\"} 0");
    line(&text, "creto_reservations_open 0");
    line(&text, "creto_build_info{version=\"1.2.3\"} 1");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_is_counted_is_shown() {
    let metrics = Metrics::new("1.2.3");
    metrics.decisions.inc(DecisionOutcome::Allow);
    metrics.decisions.add(DecisionOutcome::Allow, 2);
    metrics.egress.inc(EgressVerdict::Refused);
    metrics.oversight_pending.set(4);
    metrics.decision_cache_bytes.set(1_024);
    metrics.oversight_pending.dec();
    let took = Duration::from_millis(3);
    metrics.http_request("GET", Some("/v1/actions/{id}"), 404, took);
    metrics.http_request("EVIL-1", None, 405, took);
    let check = "/creto.authz.v1.Authz/Check";
    metrics.grpc_request(Some(check), "OK", took);
    metrics.grpc_request(None, "UNIMPLEMENTED", took);
    metrics.error(&"x".parse::<LogFormat>().unwrap_err());

    assert_eq!(metrics.decisions.get(DecisionOutcome::Allow), 3);
    let text = metrics.encode();
    line(&text, "creto_decisions_total{outcome=\"allow\"} 3");
    line(&text, "creto_egress_total{verdict=\"refused\"} 1");
    line(&text, "creto_oversight_pending 3");
    line(&text, "creto_decision_cache_bytes 1024");
    line(
        &text,
        "creto_http_requests_total{method=\"GET\",route=\"/v1/actions/{id}\",status=\"404\"} 1",
    );
    line(
        &text,
        "creto_http_requests_total{method=\"OTHER\",route=\"unmatched\",status=\"405\"} 1",
    );
    line(
        &text,
        "creto_http_request_duration_seconds_bucket{le=\"0.005\",method=\"GET\"",
    );
    line(
        &text,
        "creto_grpc_requests_total{method=\"/creto.authz.v1.Authz/Check\",code=\"OK\"} 1",
    );
    line(
        &text,
        "creto_grpc_requests_total{method=\"unmatched\",code=\"UNIMPLEMENTED\"} 1",
    );
    line(
        &text,
        "creto_errors_total{class=\"permanent\",code=\"invalid_log_format\"} 1",
    );
}
