//! The client against a scripted server on the loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;
use std::thread;

use creto_client::{Client, ClientError, ServerAddress, encode, read_credential};
use creto_config::Secret;
use creto_errors::{Class, Classify};
use serde_json::json;

/// Answers each connection with one of the texts, in order, and hands back what
/// was asked.
fn scripted(answers: Vec<(u16, &'static str)>) -> (ServerAddress, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ServerAddress::new(listener.local_addr().unwrap()).unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0_u8; 4096];
            loop {
                let read = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&request).to_string();
                let Some((head, rest)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let head = head.to_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.trim().parse().unwrap());
                let chunked = head.contains("transfer-encoding: chunked");
                if rest.len() >= length && (!chunked || rest.ends_with("0\r\n\r\n")) {
                    sender.send(text).unwrap();
                    break;
                }
            }
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    (address, receiver)
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned()).unwrap()
}

#[test]
fn only_the_loopback_is_called() {
    for good in [
        "127.0.0.1:80",
        "http://127.0.0.1:80/",
        "http://[::1]:9",
        "localhost:1",
    ] {
        assert!(good.parse::<ServerAddress>().is_ok(), "{good}");
    }
    for bad in [
        "http://192.0.2.1:80",
        "https://127.0.0.1:80",
        "http://0.0.0.0:80",
        "http://localhost.example.test:80",
        "http://127.0.0.1",
        "",
    ] {
        let error = bad.parse::<ServerAddress>().unwrap_err();
        assert_eq!(error.code(), "server_address_refused", "{bad}");
    }
}

#[test]
fn a_credential_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("credential");
    std::fs::write(&path, "token-of-the-owner\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = read_credential(&path).unwrap_err();
    assert_eq!(error.code(), "credential_unusable");
    assert!(!format!("{error:?}").contains("token-of-the-owner"));

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        read_credential(&path).unwrap().expose(),
        "token-of-the-owner"
    );
}

#[test]
fn a_credential_cannot_smuggle_headers() {
    let client = Client::new("127.0.0.1:1".parse().unwrap());
    let error = client
        .with_credential(secret("a\r\nX-Evil: 1"))
        .unwrap_err();
    assert_eq!(error.code(), "credential_malformed");
}

#[test]
fn mutations_carry_credential_and_key() {
    let (address, asked) = scripted(vec![(200, "{}"), (200, "{}"), (200, "{}")]);
    let client = Client::new(address)
        .with_credential(secret("t0ken"))
        .unwrap();
    assert!(!format!("{client:?}").contains("t0ken"));
    client.post("/v1/x", &json!({"a": 1})).unwrap();
    client.post("/v1/x", &json!({"a": 1})).unwrap();
    client.post_with_key("/v1/x", &json!({}), "mine").unwrap();
    let asked: Vec<String> = asked.iter().take(3).collect();
    let key = |text: &str| {
        text.lines()
            .find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("idempotency-key")
                    .then(|| value.to_owned())
            })
            .unwrap()
    };
    for text in &asked {
        assert!(text.starts_with("POST /v1/x HTTP/1.1\r\n"), "{text}");
        assert!(
            text.to_lowercase().contains("authorization: bearer t0ken"),
            "{text}"
        );
    }
    assert_ne!(key(&asked[0]), key(&asked[1]));
    assert_eq!(key(&asked[2]), "mine");
}

#[test]
fn a_refusal_keeps_the_servers_account() {
    let document = r#"{"type":"about:blank","title":"Refused","status":403,"detail":"no",
        "code":"delegation_rights_exceed_parent","request_id":"req_1","limit":7}"#;
    let (address, _asked) = scripted(vec![(403, document), (502, "<html>")]);
    let client = Client::new(address);
    let error = client.get("/v1/x").unwrap_err();
    assert_eq!(error.reported_code(), "delegation_rights_exceed_parent");
    assert_eq!(error.class(), Class::Security);
    let problem = error.problem().unwrap();
    assert_eq!(problem.request_id.as_deref(), Some("req_1"));
    assert_eq!(problem.more.get("limit"), Some(&json!(7)));

    let error = client.get("/v1/x").unwrap_err();
    assert_eq!(error.reported_code(), "http_502");
    assert_eq!(error.class(), Class::Transient);
}

#[test]
fn nobody_there_is_told_from_a_broken_call() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let client = Client::new(ServerAddress::new(unused).unwrap());
    let error = client.get("/v1/x").unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ServerAddress::new(listener.local_addr().unwrap()).unwrap();
    thread::spawn(move || drop(listener.accept().unwrap()));
    let error = Client::new(address).post("/v1/x", &json!({})).unwrap_err();
    assert!(
        matches!(error, ClientError::Interrupted { .. }),
        "{error:?}"
    );
}

#[test]
fn redirects_are_not_followed() {
    let (address, asked) = scripted(vec![(307, "")]);
    let error = Client::new(address).get("/v1/x").unwrap_err();
    assert_eq!(error.problem().unwrap().status, 307);
    assert_eq!(asked.iter().count(), 1);
}

#[test]
fn pages_are_walked_to_the_end() {
    let (address, asked) = scripted(vec![
        (200, r#"{"items":[1,2],"next":"a b"}"#),
        (200, r#"{"items":[],"next":"c"}"#),
        (200, r#"{"items":[3],"next":null}"#),
    ]);
    let client = Client::new(address);
    let items: Result<Vec<_>, _> = client.pages("/v1/list?state=x").collect();
    assert_eq!(items.unwrap(), [json!(1), json!(2), json!(3)]);
    let second = asked.iter().nth(1).unwrap();
    assert!(
        second.starts_with("GET /v1/list?state=x&after=a%20b HTTP/1.1"),
        "{second}"
    );

    let (address, _asked) = scripted(vec![(200, "{}"), (200, "{}")]);
    let client = Client::new(address);
    let mut pages = client.pages("/v1/list");
    assert!(matches!(pages.next(), Some(Err(ClientError::NotAList))));
    assert!(pages.next().is_none());
}

#[test]
fn text_in_a_path_is_encoded() {
    assert_eq!(encode("a/b?c=é"), "a%2Fb%3Fc%3D%C3%A9");
}
