//! People with roles, each with a credential of its own, over restarts.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use crate::harness::{Server, creto, said};

fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    said(output)
}

fn refused(output: &Output, code: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    assert!(said(output).contains(code), "{}", said(output));
}

/// The program by the credential of a person.
fn by(server: &Server, who: &str, words: &[&str]) -> Output {
    let file = format!("{who}.credential");
    let words: Vec<_> = ["--credential", &file]
        .iter()
        .chain(words)
        .copied()
        .collect();
    creto(server.path(), &words)
}

#[test]
fn people_do_what_their_roles_are_for_and_a_restart_changes_nothing() {
    let mut server = Server::fresh();
    server.chain("1.00");
    // Before the founder by name, so that nobody takes the first for the owner.
    for (name, role) in [
        ("aaron", "approver"),
        ("abel", "auditor"),
        ("ada", "operator"),
        ("adele", "owner"),
    ] {
        let file = format!("{name}.credential");
        let words = ["human", "create", name, "--role", role, "--out", &file];
        let told = done(&creto(server.path(), &words));
        assert!(told.contains(role), "{told}");
        let written = server.path().join(&file).metadata().unwrap();
        assert_eq!(written.permissions().mode() & 0o777, 0o600);
        refused(&creto(server.path(), &words), "exists");
    }
    let rate = [
        "rate",
        "set",
        "--organization",
        "--per-second",
        "900",
        "--burst",
        "900",
    ];
    let agent = ["agent", "create", "robot"];
    for round in ["one", "two"] {
        for (who, may_export, may_set) in [
            ("aaron", false, false),
            ("abel", true, false),
            ("ada", false, true),
            ("adele", true, true),
        ] {
            let name = format!("{who}-{round}");
            let exported = by(&server, who, &["audit", "export", &name]);
            match may_export {
                true => {
                    done(&exported);
                    done(&creto(server.path(), &["verify", &name]));
                }
                false => refused(&exported, "forbidden"),
            }
            let set = by(&server, who, &rate);
            match may_set {
                true => drop(done(&set)),
                false => refused(&set, "forbidden"),
            }
            if who != "adele" {
                refused(&by(&server, who, &agent), "forbidden");
            }
            let list = by(&server, who, &["oversight", "list"]);
            done(&list);
        }
        server.kill_and_restart();
    }
    done(&by(&server, "adele", &agent));

    let words = [
        "human",
        "role",
        "abel",
        "operator",
        "--reason",
        "he acts now",
    ];
    done(&creto(server.path(), &words));
    server.kill_and_restart();
    done(&by(&server, "abel", &rate));
    refused(
        &by(&server, "abel", &["audit", "export", "no"]),
        "forbidden",
    );
    refused(&by(&server, "ada", &words), "forbidden");

    let words = ["human", "suspend", "ada", "--reason", "on leave"];
    done(&creto(server.path(), &words));
    server.kill_and_restart();
    refused(&by(&server, "ada", &rate), "principal_suspended");
    let words = ["human", "resume", "ada", "--reason", "back"];
    done(&creto(server.path(), &words));
    done(&by(&server, "ada", &rate));

    let words = ["human", "credential", "ada", "--out", "next.credential"];
    done(&creto(server.path(), &words));
    refused(&by(&server, "ada", &rate), "token_superseded");
    done(&by(&server, "next", &rate));

    done(&creto(server.path(), &["audit", "export", "evidence"]));
    done(&creto(server.path(), &["verify", "evidence"]));

    // The founder is who gets the credential of whoever holds the root key.
    server.stop();
    let renewed = done(&creto(server.path(), &["init", "--renew-credential"]));
    assert!(!renewed.contains("aaron"), "{renewed}");
    server.restart();
    let own = server.owner().get("/v1/self").unwrap();
    assert_eq!(
        (&own["role"], &own["name"]),
        (&"owner".into(), &"owner".into())
    );
}
