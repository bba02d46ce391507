//! What an operator sees.

use crate::harness::{Server, draft};

fn gauge(server: &Server, name: &str) -> String {
    let text = server.owner().get_bytes("/metrics").unwrap();
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn every_decision_is_a_line_of_the_log_with_its_action() {
    let server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let answer = draft(&server.agent(&worker)).unwrap();
    let id = answer["action_id"].as_str().unwrap();
    let log = std::fs::read_to_string(server.path().join("server.log")).unwrap();
    let line = log.lines().find(|line| line.contains("action decided"));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!(line["action_id"], id);
    assert_eq!(line["outcome"], "allow");
}

#[test]
fn gauges_are_right_after_a_kill() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    draft(&server.agent(&worker)).unwrap();
    draft(&server.agent(&worker)).unwrap();
    assert_eq!(gauge(&server, "creto_reservations_open"), "2");
    server.kill_and_restart();
    assert_eq!(gauge(&server, "creto_reservations_open"), "2");
    assert_eq!(gauge(&server, "creto_oversight_pending"), "0");
}
