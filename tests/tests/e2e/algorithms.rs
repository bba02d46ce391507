//! A live organization moves to other algorithms: the configuration is put in force while
//! the server runs, under load, and no request fails.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use creto_client::Client;
use creto_config::Secret;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use toml::Table;

use crate::harness::{
    Server, Site, creto, delegation, good, granted, recorded, refused, said, set,
};

const CHACHA: &str = "ChaCha20-Poly1305";
const WRAPPING: &str = "HKDF-SHA512+ChaCha20-Poly1305";

/// The record of other lists.
const CHANGED: &str = "crypto.algorithms_changed";

/// Tells the server to read the configuration anew, and gives what it says it did.
pub(crate) fn reload(server: &Server, owner: &Client) -> Value {
    let before = algorithms(owner)["reload"]["at"].clone();
    let id = i32::try_from(server.id()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGHUP).unwrap();
    for _ in 0..400 {
        let now = algorithms(owner);
        if now["reload"]["at"] != before {
            return now;
        }
        thread::sleep(Duration::from_millis(25));
    }
    panic!("the configuration was not read anew");
}

fn algorithms(owner: &Client) -> Value {
    owner.get("/v1/keys/algorithms").unwrap()
}

fn moved(table: &mut Table) {
    set(table, &["crypto", "signatures", "new"], "ML-DSA-65");
    set(table, &["crypto", "key_wrapping", "new"], WRAPPING);
    set(table, &["crypto", "sealing", "new"], CHACHA);
    set(table, &["crypto", "kem", "new"], "ML-KEM-1024");
}

fn because(why: &str) -> Value {
    json!({ "reason": why })
}

/// What one query of the database gives, a line a row.
fn sql(server: &Server, query: &str) -> Vec<String> {
    let script = "import sqlite3, sys\n\
                  db = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n\
                  [print(*row) for row in db.execute(sys.argv[2])]";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(server.path().join("data/creto.db"))
        .arg(query)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

/// The algorithm that the header of a token names.
fn of_token(token: &str) -> String {
    use base64::Engine as _;
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header);
    let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
    header["alg"].as_str().unwrap().to_owned()
}

fn token(who: &Client, body: &Value) -> String {
    let issued = who.post("/v1/tokens", body).unwrap();
    issued["token"].as_str().unwrap().to_owned()
}

fn with(server: &Server, token: &str) -> Client {
    let secret = Secret::new(token.to_owned()).unwrap();
    server.stranger().with_credential(secret).unwrap()
}

/// One unit of work that costs nothing, and the value of the secret.
fn works(agent: &Client) {
    let body =
        json!({ "action": "history.read", "resource": "repo:creto", "args": {}, "units": 1 });
    let answer = agent.post("/v1/actions", &body).unwrap();
    assert_eq!(answer["outcome"], "allow", "{answer}");
    let read = agent
        .post("/v1/secrets/deploy-key/read", &json!({}))
        .unwrap();
    assert_eq!(read["value"], "the-value", "{read}");
}

/// Ends the load also when a check beside it fails.
struct Ending<'a>([&'a AtomicBool; 2]);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        for stop in self.0 {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_live_organization_moves_to_other_algorithms_without_a_restart_or_a_failed_request() {
    let site = Site::new();
    let policy = "@id(\"keys\")\npermit (principal, action == Creto::Action::\"secret.read\", \
                  resource);\n";
    fs::write(site.path().join("policies/secrets.cedar"), policy).unwrap();
    let mut server = site.start();
    let owner = server.owner();
    server.make_agent("worker");
    // However long it goes on: one who is refused would be waited for in vain.
    let mut body = delegation("worker", "1000000.00");
    body["rights"] = json!([
        {"action": "history.read", "resource": "repo:*"},
        {"action": "secret.read", "resource": "secret:*"},
    ]);
    let worker = granted(&owner, &body);
    let put = json!({ "name": "deploy-key", "value": "the-value" });
    owner.post("/v1/secrets", &put).unwrap();
    let lease = json!({ "delegation": worker });
    owner.post("/v1/secrets/deploy-key/leases", &lease).unwrap();
    let as_worker = json!({ "delegation": worker });
    let old_token = token(&owner, &as_worker);
    let old = with(&server, &old_token);
    works(&old);

    let done = AtomicUsize::new(0);
    let (stop_old, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let progress = |more: usize| {
        let so_far = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < so_far + more {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        let _ending = Ending([&stop_old, &stop]);
        // One works by a token of before, the others by a new one each time.
        let old_user = scope.spawn(|| {
            while !stop_old.load(Ordering::Relaxed) {
                works(&old);
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        progress(3);

        // Nothing changes before the server is told, and whoever rotates is told so.
        assert!(good(server.path(), &["crypto", "status"]).contains("says the same"));
        server.configure(moved);
        let status = creto(server.path(), &["crypto", "status"]);
        assert_eq!(status.status.code(), Some(1), "{}", said(&status));
        assert!(
            said(&status).contains("something else"),
            "{}",
            said(&status)
        );
        let rotated = owner.post("/v1/keys/rotate", &because("the old one again"));
        let rotated = rotated.unwrap();
        assert_eq!(rotated["issuer"], "ML-DSA-65-Ed25519");
        assert_eq!(rotated["configuration_differs"], true);

        let now = reload(&server, &owner);
        assert!(now["reload"].get("refused").is_none(), "{now}");
        assert_eq!(now["in_force"]["signatures"]["new"], "ML-DSA-65");
        assert!(now.get("configured").is_none(), "{now}");
        let moved_to = now["in_force"].clone();
        good(server.path(), &["crypto", "status"]);
        progress(3);
        let rotated = owner.post("/v1/keys/rotate", &because("moved")).unwrap();
        assert_eq!(rotated["issuer"], "ML-DSA-65");
        assert_eq!(rotated["wrapping"], WRAPPING);
        assert!(rotated.get("configuration_differs").is_none(), "{rotated}");
        owner.post("/v1/secrets", &put).unwrap();
        progress(3);

        // What cannot be read, or leaves out what is stored, changes nothing.
        let kept = algorithms(&owner)["in_force"].clone();
        let path = server.path().join("creto.toml");
        let file = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{file}\n[crypto.signatures\n")).unwrap();
        let refusal = |said: Value| {
            assert_eq!(said["in_force"], kept);
            said["reload"]["refused"].clone()
        };
        assert_eq!(refusal(reload(&server, &owner))["code"], "config_syntax");
        for (list, dropped) in [
            ("signatures", "`ML-DSA-65`"),
            ("key_wrapping", "HKDF-SHA256+A256GCM"),
            ("sealing", "A256GCM"),
        ] {
            fs::write(&path, &file).unwrap();
            server.configure(|table| {
                let (new, accepted) = match list {
                    "signatures" => ("ML-DSA-65-Ed25519", vec!["ML-DSA-65-Ed25519", "Ed25519"]),
                    "key_wrapping" => (WRAPPING, vec![WRAPPING]),
                    _ => (CHACHA, vec![CHACHA]),
                };
                set(table, &["crypto", list, "new"], new);
                set(table, &["crypto", list, "accepted"], accepted);
            });
            let refused = refusal(reload(&server, &owner));
            assert_eq!(refused["code"], "algorithm_not_allowed", "{refused}");
            let why = refused["why"].as_str().unwrap();
            assert!(why.contains(dropped), "{why}");
        }
        fs::write(&path, &file).unwrap();
        reload(&server, &owner);
        progress(3);
        let metrics = String::from_utf8(owner.get_bytes("/metrics").unwrap()).unwrap();
        for line in [
            "creto_algorithm_reloads_total{result=\"loaded\"} 2",
            "creto_algorithm_reloads_total{result=\"refused\"} 4",
        ] {
            assert!(metrics.contains(line), "{metrics}");
        }

        // What the old keys made is as good as what the new ones make, until they end.
        let new_owner = token(&owner, &json!({}));
        assert_eq!(of_token(&new_owner), "ML-DSA-65");
        let new_owner = with(&server, &new_owner);
        let new_token = token(&new_owner, &as_worker);
        assert_eq!(of_token(&new_token), "ML-DSA-65");
        let new = with(&server, &new_token);
        let issuer = new_owner.clone();
        let (server_now, as_agent, going) = (&server, &as_worker, (&stop, &done));
        scope.spawn(move || {
            while !going.0.load(Ordering::Relaxed) {
                works(&new);
                works(&with(server_now, &token(&issuer, as_agent)));
                going.1.fetch_add(1, Ordering::Relaxed);
            }
        });
        progress(3);
        stop_old.store(true, Ordering::Relaxed);
        old_user.join().unwrap();
        everybody_signs_by_it(&server);
        let retire = json!({ "reason": "moved", "now": true });
        let retired = new_owner.post("/v1/keys/retire", &retire).unwrap();
        assert!(retired["resealed"].as_u64().unwrap() > 10, "{retired}");
        progress(3);
        // Nothing is left under the old wrapping or cipher: they go from the lists.
        server.configure(|table| {
            let accepted = vec![WRAPPING];
            set(table, &["crypto", "key_wrapping", "accepted"], accepted);
            set(table, &["crypto", "sealing", "accepted"], vec![CHACHA]);
        });
        let now = reload(&server, &new_owner);
        assert!(now["reload"].get("refused").is_none(), "{now}");
        progress(3);
        stop.store(true, Ordering::Relaxed);
        // Records of before are read as those of after.
        let found = new_owner.get("/v1/audit/leaves/0").unwrap();
        assert_eq!(found["record"]["kind"], "organization.created");
        // What was put in force is on record, and nothing of what was refused.
        let query = format!("/v1/audit/records?kind={CHANGED}");
        let records = new_owner.get(&query).unwrap()["items"].clone();
        assert_eq!(records.as_array().unwrap().len(), 2, "{records}");
        let [last, first] = [0, 1].map(|n| &records[n]["record"]["body"]);
        assert_eq!(first["before"]["signatures"]["new"], "ML-DSA-65-Ed25519");
        assert_eq!(first["after"], moved_to);
        assert_eq!(last["before"], moved_to);
        assert_eq!(last["after"], now["in_force"]);
    });

    let ciphers = sql(&server, "SELECT name FROM payload_ciphers ORDER BY name");
    assert_eq!(ciphers, [CHACHA]);
    let all = "SELECT DISTINCT hex(substr(sealed, 2, 6)) FROM journal WHERE sealed IS NOT NULL";
    assert_eq!(sql(&server, all), ["436861436861"]);
    let wrapped = "SELECT DISTINCT json_extract(w, '$.alg') FROM (
                       SELECT sealed AS w FROM secrets UNION ALL SELECT private FROM principals
                       UNION ALL SELECT wrapped FROM wrapping_keys)";
    assert_eq!(sql(&server, wrapped), [WRAPPING]);
    server.stop();

    // A start takes the same lists, and refuses the same ones.
    server.configure(|table| {
        set(table, &["crypto", "sealing", "new"], "A256GCM");
        set(table, &["crypto", "sealing", "accepted"], vec!["A256GCM"]);
    });
    let why = refused(server.path(), &["serve"], "algorithm_not_allowed");
    assert!(why.contains(CHACHA), "{why}");
}

/// People and agents get keys of the new algorithm, and what they signed before still holds.
fn everybody_signs_by_it(server: &Server) {
    let rotate = ["crypto", "rotate", "--principals", "--reason", "moved"];
    let rotate = |more: &[&str]| {
        let output = creto(server.path(), &[more, &rotate].concat());
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let moved: Value = serde_json::from_str(&rotate(&["--json"])).unwrap();
    assert_eq!(moved["algorithm"], "ML-DSA-65");
    let rotated = moved["rotated"].as_array().unwrap();
    let names: Vec<_> = rotated.iter().map(|key| &key["principal"]).collect();
    assert_eq!(names, ["owner", "worker"]);
    assert!(rotated.iter().all(|key| key["alg"] == "ML-DSA-65"));
    let again = rotate(&[]);
    assert!(again.starts_with("All "), "{again}");
    let keys = "SELECT DISTINCT json_extract(public, '$.alg') FROM principals";
    assert_eq!(sql(server, keys), ["ML-DSA-65"]);
}

/// A start under other lists than those on record is a change like any other.
#[test]
fn other_lists_at_a_start_are_recorded_once() {
    let mut server = Server::fresh();
    assert!(recorded(&server, CHANGED).is_empty(), "founded under them");
    let before = algorithms(&server.owner())["in_force"].clone();
    server.stop();
    server.configure(|table| set(table, &["crypto", "kem", "new"], "ML-KEM-1024"));
    for _ in 0..2 {
        server.restart();
        let records = recorded(&server, CHANGED);
        assert_eq!(records.len(), 1, "{records:?}");
        let record = &records[0]["record"];
        assert_eq!(record["actor"], "owner");
        assert_eq!(record["class"], "evidence");
        assert_eq!(record["body"]["before"], before);
        let now = algorithms(&server.owner())["in_force"].clone();
        assert_eq!(now["kem"]["new"], "ML-KEM-1024");
        assert_eq!(record["body"]["after"], now);
        server.stop();
    }
    // Whoever works offline has them on record first, too.
    server.configure(|table| set(table, &["crypto", "kem", "new"], "X-Wing"));
    good(server.path(), &["init", "--renew-credential"]);
    server.restart();
    let records = recorded(&server, CHANGED);
    assert_eq!(records.len(), 2, "{records:?}");
    good(server.path(), &["audit", "export", "evidence"]);
    good(server.path(), &["verify", "evidence"]);
}

/// Whoever verifies offline has no configuration: what is not of the default lists is
/// refused by its name, until it is accepted by hand.
#[test]
fn a_bundle_of_other_algorithms_is_verified_by_whoever_accepts_them() {
    let site = Site::new();
    site.configure(|table| set(table, &["crypto", "signatures", "new"], "ML-DSA-65"));
    let server = site.start();
    server.chain("1.00");
    good(server.path(), &["audit", "export", "evidence"]);
    for word in [
        "the signature algorithm `ML-DSA-65` is not allowed here",
        "algorithm_not_allowed",
        "--accept ML-DSA-65",
    ] {
        refused(server.path(), &["verify", "evidence"], word);
    }
    let also = ["verify", "evidence", "--accept", "ML-DSA-65"];
    good(server.path(), &also);
    let unknown = ["verify", "evidence", "--accept", "RS256"];
    refused(server.path(), &unknown, "unknown_algorithm");
}
