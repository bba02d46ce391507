//! The life of policies on the real program.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, Site, creto, draft, now, said};

/// A candidate beside the server's own directory: the starter set with a change.
fn candidate(server: &Server, change: impl Fn(&str) -> String) -> String {
    let (from, to) = (
        server.path().join("policies"),
        server.path().join("candidate"),
    );
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut text = std::fs::read_to_string(&path).unwrap();
        if name == "release.cedar" {
            text = change(&text);
        }
        if name != "release.test.json" {
            std::fs::write(to.join(name), text).unwrap();
        }
    }
    "candidate".to_owned()
}

fn without_drafts(text: &str) -> String {
    let changed = text.replace("Creto::Action::\"changelog.draft\",", "");
    assert_ne!(changed, text);
    changed
}

fn run(dir: &Path, words: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(words);
    let output = creto(dir, &all);
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(dir: &Path, words: &[&str]) -> String {
    let output = creto(dir, words);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    said(&output)
}

fn outcome(server: &Server, worker: &str) -> Value {
    draft(&server.agent(worker)).unwrap()["outcome"].clone()
}

fn current(server: &Server) -> Value {
    server.owner().get("/v1/policies/current").unwrap()
}

/// Waits until what is in force is so; the directory is looked at once a second.
fn until(server: &Server, holds: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let answer = current(server);
        if holds(&answer) {
            return answer;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("it never came to be: {}", current(server));
}

#[test]
fn a_publication_is_in_force_at_once_survives_a_kill_and_is_rolled_back() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let dir = server.path().to_owned();
    assert!(said(&creto(&dir, &["policy", "list"])).contains("Nothing was published"));
    run(
        &dir,
        &["policy", "publish", "policies", "--reason", "the start"],
    );
    assert_eq!(outcome(&server, &worker), "allow");

    let named = candidate(&server, without_drafts);
    let published = [
        "policy",
        "publish",
        &named,
        "--reason",
        "no drafts",
        "--expect-version",
        "1",
    ];
    let version = run(&dir, &published);
    assert_eq!(
        (&version["version"], &version["author"]),
        (&json!(2), &json!("owner"))
    );
    assert_eq!(outcome(&server, &worker), "deny");
    assert!(refused(&dir, &published).contains("policy_version_conflict"));
    let leaf = format!("/v1/audit/leaves/{}", version["leaf"]);
    let record = server.owner().get(&leaf).unwrap();
    assert_eq!(record["record"]["kind"], "policy.published");
    assert_eq!(record["record"]["body"]["digest"], version["digest"]);

    // Some that go deep enough to end a process do not end this one.
    let deep = format!("{}true{}", "(!".repeat(300), ")".repeat(300));
    let mut files = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(dir.join("policies")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".test.json") {
            files.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    let text = format!("permit (principal, action, resource) when {{ {deep} }};");
    files.insert("deep.cedar".to_owned(), text);
    let checked = server
        .owner()
        .post("/v1/policies/validate", &json!({ "files": files }))
        .unwrap();
    assert_eq!(checked["code"], "policy_syntax", "{checked}");
    assert_eq!(outcome(&server, &worker), "deny", "and goes on");

    // Broken ones change nothing.
    candidate(&server, |text| format!("{text} permit ("));
    assert!(
        refused(&dir, &["policy", "publish", &named, "--reason", "x"]).contains("policy_syntax")
    );
    assert_eq!(outcome(&server, &worker), "deny");

    server.kill_and_restart();
    assert_eq!(outcome(&server, &worker), "deny");
    assert_eq!(current(&server)["version"], 2);
    let back = run(
        &dir,
        &["policy", "rollback", "1", "--reason", "drafts again"],
    );
    assert_eq!(
        (&back["version"], &back["restores"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(outcome(&server, &worker), "allow");
    let diff = run(&dir, &["policy", "diff", "2", "3"]);
    assert_eq!(diff["changed"][0]["id"], "release-work", "{diff}");
    assert_eq!(run(&dir, &["policy", "diff", "1", "3"])["same"], true);
    assert_eq!(
        run(&dir, &["policy", "list"])["items"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(run(&dir, &["policy", "show", "2"])["reason"], "no drafts");
}

#[test]
fn the_directory_is_followed_and_what_is_broken_in_it_is_reported() {
    let mut server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let dir = server.path().to_owned();
    let file = dir.join("policies/release.cedar");
    let good = std::fs::read_to_string(&file).unwrap();
    let before = current(&server);
    assert_eq!(before["source"], "directory");

    std::fs::remove_file(dir.join("policies/release.test.json")).unwrap();
    std::fs::write(&file, without_drafts(&good)).unwrap();
    let changed = until(&server, |answer| answer["digest"] != before["digest"]);
    assert_eq!(outcome(&server, &worker), "deny");

    std::fs::write(&file, format!("{good} permit (")).unwrap();
    let broken = until(&server, |answer| answer["refused"].is_object());
    assert_eq!(
        broken["digest"], changed["digest"],
        "what was in force stays"
    );
    assert_eq!(broken["refused"]["findings"][0]["file"], "release.cedar");
    assert_eq!(outcome(&server, &worker), "deny");
    assert!(server.stranger().get_bytes("/readyz").is_ok());
    // Whoever asks the server needs no valid directory.
    assert!(said(&creto(&dir, &["policy", "show"])).contains("REFUSED"));

    // A restart finds the broken files, says so, and serves what was in force.
    server.kill_and_restart();
    let again = current(&server);
    assert_eq!(again["digest"], changed["digest"], "{again}");
    assert_eq!(again["refused"]["findings"][0]["file"], "release.cedar");
    assert_eq!(outcome(&server, &worker), "deny");
    assert!(server.stranger().get_bytes("/readyz").is_ok());

    std::fs::write(&file, &good).unwrap();
    until(&server, |answer| answer["refused"].is_null());
    assert_eq!(outcome(&server, &worker), "allow");

    // Published policies hold whatever the directory says, until it is followed again.
    let named = candidate(&server, without_drafts);
    run(
        &dir,
        &["policy", "publish", &named, "--reason", "no drafts"],
    );
    assert_eq!(outcome(&server, &worker), "deny");
    run(
        &dir,
        &["policy", "follow-directory", "--reason", "files again"],
    );
    assert_eq!(outcome(&server, &worker), "allow");
}

#[test]
fn a_candidate_is_tried_on_what_is_decided_and_on_what_was() {
    let server = Server::fresh();
    let (_, worker) = server.chain("1.00");
    let dir = server.path().to_owned();
    let since = now().to_string();
    let named = candidate(&server, without_drafts);
    assert!(said(&creto(&dir, &["policy", "shadow", "status"])).contains("No candidate"));
    run(&dir, &["policy", "shadow", "start", &named]);
    assert_eq!(
        outcome(&server, &worker),
        "allow",
        "nothing of it is enforced"
    );
    // A question is seen as well; it leaves no record for the dry run.
    let question = json!({
        "subject": { "type": "agent", "id": "worker" },
        "action": { "name": "changelog.draft" },
        "resource": { "type": "Resource", "id": "repo:creto" },
    });
    let agent = server.agent(&worker);
    let answer = agent.post("/access/v1/evaluation", &question).unwrap();
    assert_eq!(answer["decision"], true, "{answer}");
    let told = (0..400).find_map(|_| {
        sleep(Duration::from_millis(25));
        let told = run(&dir, &["policy", "shadow", "status"]);
        (told["judged"] == 2).then_some(told)
    });
    let told = told.expect("the candidate is asked");
    assert_eq!(told["different"], 2, "{told}");
    assert_eq!(
        told["differences"][0]["samples"][0]["action"],
        "changelog.draft"
    );
    assert_eq!(run(&dir, &["policy", "shadow", "stop"])["active"], false);

    let dry = run(&dir, &["policy", "dry-run", &named, "--since", &since]);
    assert_eq!(
        (&dry["judged"], &dry["different"]),
        (&json!(1), &json!(1)),
        "{dry}"
    );
    assert_eq!(dry["items"][0]["candidate"]["code"], "no_policy_permits");
    let same = run(&dir, &["policy", "dry-run", "policies", "--since", &since]);
    assert_eq!(same["different"], 0, "{same}");
}

#[test]
fn files_are_checked_and_tested_without_a_server() {
    let site = Site::new();
    let dir = site.path();
    assert_eq!(run(dir, &["policy", "validate", "policies"])["valid"], true);
    let tests = run(dir, &["policy", "test", "policies"]);
    assert_eq!(
        (&tests["failed"], tests["passed"].as_u64() >= Some(11)),
        (&json!(0), true)
    );

    let file = dir.join("policies/release.cedar");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("@oversight(\"release\")\n", "")).unwrap();
    let text = refused(dir, &["policy", "test", "policies"]);
    assert!(
        text.contains("FAIL release.test.json: publishing by an agent"),
        "{text}"
    );
    assert!(
        text.contains("expected requires_oversight, got deny"),
        "{text}"
    );
    assert!(refused(dir, &["config", "check"]).contains("policy_tests_failed"));
    // It is compared all the same, and both answers say what fails.
    std::fs::create_dir(dir.join("before")).unwrap();
    for entry in std::fs::read_dir(dir.join("policies")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join("before").join(path.file_name().unwrap())).unwrap();
    }
    std::fs::write(dir.join("before/release.cedar"), &good).unwrap();
    let diff = run(dir, &["policy", "diff", "before", "policies"]);
    assert_eq!(diff["changed"][0]["id"], "publish-needs-a-human", "{diff}");
    assert_eq!(diff.get("before_tests_failed"), None);
    let failed = &diff["after_tests_failed"];
    assert_eq!(failed["items"][0]["file"], "release.test.json", "{diff}");
    let text = said(&creto(dir, &["policy", "diff", "before", "policies"]));
    assert!(text.contains("tests beside policies fail"), "{text}");
    assert!(
        text.contains("release.test.json: publishing by an agent"),
        "{text}"
    );

    std::fs::write(&file, good.replace("history.read", "history.raed")).unwrap();
    let text = refused(dir, &["policy", "validate", "policies"]);
    assert!(text.contains("policies/release.cedar:"), "{text}");
    assert!(text.contains("policy_invalid"), "{text}");
    assert!(refused(dir, &["policy", "test", "nowhere"]).contains("no such directory"));
}

#[test]
fn a_refusal_is_explained() {
    let server = Server::fresh();
    let (planner, worker) = server.chain("1.00");
    let dir = server.path().to_owned();
    let explain = |words: &[&str]| {
        let mut all = vec!["policy", "explain"];
        all.extend(words);
        run(&dir, &all)
    };
    let shown = |words: &[&str]| {
        let mut all = vec!["policy", "explain"];
        all.extend(words);
        let output = creto(&dir, &all);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };

    // Nothing permits it, to nobody in the chain.
    let why = explain(&["history.read", "repo:other", "--as", "worker"]);
    assert_eq!(why["outcome"], "deny");
    assert_eq!(why["reason"]["code"], "no_policy_permits");
    assert_eq!(why["delegation"], json!(worker));
    let missing = &why["missing"];
    assert_eq!(
        missing["principals"],
        json!([
            "Creto::Human::\"owner\"",
            "Creto::Agent::\"planner\"",
            "Creto::Agent::\"worker\""
        ])
    );
    assert_eq!(missing["nearest"][0]["id"], "release-work");
    assert_eq!(missing["nearest"][0]["unfit"], json!(["resource"]));
    let text = shown(&["history.read", "repo:other", "--as", "worker"]);
    for part in [
        "Nothing permits it to Creto::Human::\"owner\"",
        "release-work (release.cedar:4): resource does not fit",
        "resource == Creto::Resource::\"repo:other\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // What it proposes, published, is what was missing.
    let named = candidate(&server, |text| {
        format!("{text}\n{}", missing["policy"].as_str().unwrap())
    });
    let mended = ["history.read", "repo:other", "--as", "worker"];
    let with = [&mended[..], &["--policies", &named]].concat();
    assert_eq!(explain(&with)["outcome"], "allow");
    run(
        &dir,
        &["policy", "publish", &named, "--reason", "asked for"],
    );
    assert_eq!(explain(&mended)["outcome"], "allow");
    let body = json!({ "action": "history.read", "resource": "repo:other", "args": {} });
    let done = server.agent(&worker).post("/v1/actions", &body).unwrap();
    assert_eq!(done["outcome"], "allow");

    // Somebody in the middle lacks it.
    candidate(&server, |_| {
        "@id(\"some\") permit (principal, action == Creto::Action::\"history.read\", resource)
         unless { principal == Creto::Agent::\"planner\" };"
            .to_owned()
    });
    let why = explain(&[
        "history.read",
        "repo:x",
        "--as",
        "worker",
        "--policies",
        &named,
    ]);
    assert_eq!(
        why["missing"]["principals"],
        json!(["Creto::Agent::\"planner\""])
    );
    assert_eq!(why["missing"]["nearest"][0]["unfit"], json!(["condition"]));

    // A human may lift it; what forbids it is named with its reason.
    let why = explain(&["release.publish", "repo:creto", "--as", "worker"]);
    assert_eq!(why["outcome"], "requires_oversight");
    assert_eq!(why["oversight"], "release");
    let text = shown(&["release.publish", "repo:creto", "--as", "worker"]);
    assert!(
        text.contains("approval `release`, asked for by publish-needs-a-human"),
        "{text}"
    );
    assert!(
        text.contains("forbid publish-needs-a-human (release.cedar:"),
        "{text}"
    );
    let approved = [
        "release.publish",
        "repo:creto",
        "--as",
        "worker",
        "--approval",
        "publish-needs-a-human",
    ];
    assert_eq!(explain(&approved)["outcome"], "allow");

    // A link of the chain that does not go as far.
    let why = explain(&["payroll.run", "repo:creto", "--delegation", &worker]);
    assert_eq!(why["reason"]["code"], "right_not_delegated");
    assert_eq!(why["rights"][0]["delegation"], json!(planner));
    assert_eq!(why["rights"][0]["rights"][0]["unfit"], json!(["action"]));
    let text = shown(&["payroll.run", "repo:creto", "--delegation", &worker]);
    assert!(
        text.contains("from owner to planner does not cover it"),
        "{text}"
    );

    let text = refused(&dir, &["policy", "explain", "x", "y", "--as", "nobody"]);
    assert!(text.contains("no such principal"), "{text}");
    let usage = creto(&dir, &["policy", "explain", "x", "y", "--context", "443"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(
        said(&usage).contains("expected a JSON object"),
        "{}",
        said(&usage)
    );
}
