use std::io::Write;
use std::sync::Arc;

use creto_errors::Classify;
use creto_telemetry::{
    LogConfig, LogFormat, RequestId, action_span, record_action, request_span, subscriber,
};
use creto_types::{ActionId, ManualClock};
use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn logged(format: LogFormat, terminal: bool, work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let clock = Arc::new(ManualClock::new(
        "2026-01-02T03:04:05.0067Z".parse().unwrap(),
    ));
    let config = LogConfig {
        format,
        ..LogConfig::default()
    };
    let subscriber = subscriber(&config, clock, lines.clone(), terminal).unwrap();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

fn ids() -> (RequestId, ActionId) {
    let uuid = "0192f0c4a5e77b3c8d1e2f3a4b5c6d7e";
    (
        format!("req_{uuid}").parse().unwrap(),
        format!("act_{uuid}").parse().unwrap(),
    )
}

#[test]
fn json_lines_carry_request_and_action() {
    let (request, action) = ids();
    let text = logged(LogFormat::Auto, false, || {
        request_span(&request, "POST", "/v1/actions").in_scope(|| {
            record_action(&action);
            tracing::info!(units = 3, "decided");
            tracing::debug!("not shown");
        });
    });
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["timestamp"], "2026-01-02T03:04:05.006Z");
    assert_eq!(line["message"], "decided");
    assert_eq!(line["units"], 3);
    assert_eq!(line["spans"][0]["request_id"], request.to_string());
    assert_eq!(line["spans"][0]["action_id"], action.to_string());
    assert_eq!(line["spans"][0]["route"], "/v1/actions");
}

#[test]
fn a_person_gets_one_line() {
    let (_, action) = ids();
    let text = logged(LogFormat::Pretty, false, || {
        action_span(&action).in_scope(|| tracing::warn!("released"));
    });
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains("WARN") && text.contains("released"), "{text}");
    assert!(text.contains(&action.to_string()), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn text_from_outside_cannot_forge_a_json_line() {
    let text = logged(LogFormat::Json, true, || {
        tracing::info!(host = "a\n{\"message\":\"forged\"}", "refused");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_bad_filter_is_refused() {
    let config = LogConfig {
        filter: "info,creto=loud".to_owned(),
        ..LogConfig::default()
    };
    let clock = Arc::new(ManualClock::new(creto_types::Timestamp::UNIX_EPOCH));
    let error = subscriber(&config, clock, Lines::default(), false)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.code(), "invalid_log_filter");
    assert!("loud".parse::<LogFormat>().is_err());
}
