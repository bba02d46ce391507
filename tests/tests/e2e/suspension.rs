//! Whoever is suspended does nothing, over restarts, until it is resumed.

use creto_client::Client;

use crate::harness::{Server, creto, draft, said};

/// The outcome of one piece of work, or the code of the refusal.
fn outcome(agent: &Client) -> String {
    match draft(agent) {
        Ok(answer) if answer["outcome"] == "deny" => {
            answer["reason"]["code"].as_str().unwrap().to_owned()
        }
        Ok(answer) => answer["outcome"].as_str().unwrap().to_owned(),
        Err(error) => error.reported_code().to_owned(),
    }
}

fn good(server: &Server, words: &[&str]) -> String {
    let output = creto(server.path(), words);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    said(&output)
}

#[test]
fn a_suspension_outlives_the_server_and_ends_when_resumed() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let agent = server.agent(&worker);
    assert_eq!(outcome(&agent), "allow");

    // The planner: the worker stands below it.
    let words = ["agent", "suspend", "planner", "--reason", "it loops"];
    let told = good(&server, &words);
    assert!(told.contains("creto agent resume planner"), "{told}");
    assert_eq!(outcome(&agent), "principal_suspended");
    let again = creto(server.path(), &words);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        said(&again).contains("principal_already_suspended"),
        "{}",
        said(&again)
    );

    server.kill_and_restart();
    assert_eq!(outcome(&agent), "principal_suspended");
    let list = good(&server, &["agent", "list"]);
    let line = |name: &str| {
        let mut lines = list.lines();
        lines.find(|line| line.starts_with(name)).unwrap()
    };
    assert!(line("planner").contains("suspended since"), "{list}");
    assert!(!line("worker").contains("suspended"), "{list}");
    let path = format!("/v1/delegations/{worker}");
    assert_eq!(server.owner().get(&path).unwrap()["state"], "suspended");

    good(
        &server,
        &["agent", "resume", "planner", "--reason", "looked at"],
    );
    assert_eq!(outcome(&agent), "allow");
    server.kill_and_restart();
    assert_eq!(outcome(&agent), "allow");

    good(&server, &["audit", "export", "evidence"]);
    good(&server, &["verify", "evidence"]);
}
