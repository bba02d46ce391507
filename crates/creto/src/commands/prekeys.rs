//! `creto prekeys`.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_client::{Client, ClientError, encode};
use creto_crypto::{
    Algorithm as _, AwsLcProvider, CryptoError, CryptoProvider as _, DecapsulationKey,
    KemAlgorithm, unknown_algorithm,
};
use creto_nhi::{NhiError, Prekey, PrekeyId, PrekeyKind};
use creto_types::SystemRandom;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::{GenerateArgs, PrekeysCommand, PublishArgs, TakeArgs};
use crate::commands::handed::{must_be_new, write_secret};
use crate::commands::signing::{keys_of, refused, write_new};
use crate::context::{Context, file_error};
use crate::error::CliError;
use crate::output::{Reply, at, fields};

pub(crate) fn run(context: &Context, command: PrekeysCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    match command {
        PrekeysCommand::Generate(args) => generate(&client, &args),
        PrekeysCommand::Publish(args) => publish(&client, &args),
        PrekeysCommand::Left { spiffe_id } => {
            let answer = left(&client, spiffe_id.as_deref())?;
            let text = fields(&[
                ("owner", at(&answer, "/owner")),
                ("one time", at(&answer, "/one_time")),
                ("at most", at(&answer, "/one_time_max")),
                ("last resort", at(&answer, "/last_resort")),
                ("algorithm", at(&answer, "/algorithm")),
            ]);
            Ok(Reply::new(text, answer))
        }
        PrekeysCommand::Take(args) => take(&client, &args),
    }
}

fn left(client: &Client, spiffe_id: Option<&str>) -> Result<Value, CliError> {
    let path = match spiffe_id {
        None => "/v1/prekeys".to_owned(),
        Some(id) => format!("/v1/prekeys?spiffe_id={}", encode(id)),
    };
    Ok(client.get(&path)?)
}

/// The public half of a prekey, as it lies in the file.
#[derive(Serialize, Deserialize)]
struct Public {
    id: PrekeyId,
    kind: PrekeyKind,
    alg: KemAlgorithm,
    #[serde(rename = "pub")]
    public: String,
}

/// The same with the private half.
#[derive(Serialize)]
struct Private {
    #[serde(flatten)]
    public: Public,
    /// What both halves come of: `d || z` of ML-KEM (FIPS 203), the 32 bytes of X-Wing.
    #[serde(serialize_with = "shown")]
    seed: Zeroizing<String>,
}

fn shown<S: serde::Serializer>(seed: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(seed)
}

#[derive(Serialize)]
struct PrivateFile<'a> {
    owner: &'a str,
    keys: &'a [Private],
}

/// The file, as far as it is read here: without what is private.
#[derive(Deserialize)]
struct KeptFile {
    owner: String,
    keys: Vec<Public>,
}

fn generate(client: &Client, args: &GenerateArgs) -> Result<Reply, CliError> {
    must_be_new(Some(&args.out))?;
    let left = left(client, None)?;
    let count = |place| left.pointer(place).and_then(Value::as_u64);
    let (Some(most), Some(waiting)) = (count("/one_time_max"), count("/one_time")) else {
        return Err(CliError::Answer { what: "one_time" });
    };
    let room = usize::try_from(most.saturating_sub(waiting)).unwrap_or(0);
    let one_time = args.one_time.unwrap_or(room);
    let algorithm = match &args.algorithm {
        Some(name) => name.clone(),
        None => at(&left, "/algorithm"),
    };
    let algorithm: KemAlgorithm = algorithm.parse().map_err(CliError::server::<CryptoError>)?;
    let last_resort = usize::from(!args.keep_last_resort);
    let kinds = std::iter::repeat_n(PrekeyKind::OneTime, one_time)
        .chain(std::iter::repeat_n(PrekeyKind::LastResort, last_resort));
    let keys = kinds
        .map(|kind| private(algorithm, kind))
        .collect::<Result<Vec<Private>, CliError>>()?;
    let owner = at(&left, "/owner");
    write_private(&args.out, &owner, &keys)?;
    let public = keys.iter().map(|key| &key.public);
    match client.post("/v1/prekeys", &request(public, None)) {
        Ok(answer) if is_published(&answer) => Ok(published(answer, owner, &args.out)),
        Ok(answer) if at(&answer, "/decision/outcome") == REQUIRES_OVERSIGHT => {
            Ok(kept(answer, &args.out))
        }
        Ok(answer) => {
            remove(&args.out)?;
            Ok(refused(answer))
        }
        Err(error) if nothing_was_done(&error) => {
            remove(&args.out)?;
            Err(error.into())
        }
        Err(source) => Err(CliError::PrekeysKept {
            path: args.out.clone(),
            source,
        }),
    }
}

fn publish(client: &Client, args: &PublishArgs) -> Result<Reply, CliError> {
    let path = &args.keys;
    let text = Zeroizing::new(std::fs::read(path).map_err(file_error("read", path))?);
    let kept: KeptFile = serde_json::from_slice(&text).map_err(|source| CliError::NotReadable {
        what: "prekeys of `creto prekeys generate`",
        path: path.clone(),
        source,
    })?;
    let body = request(kept.keys.iter(), args.grant.as_deref());
    let answer = client.post("/v1/prekeys", &body)?;
    if is_published(&answer) {
        return Ok(published(answer, kept.owner, path));
    }
    Ok(refused(answer))
}

fn request<'a>(keys: impl Iterator<Item = &'a Public>, grant: Option<&str>) -> Value {
    let (one_time, last_resort): (Vec<_>, Vec<_>) =
        keys.partition(|key| key.kind == PrekeyKind::OneTime);
    let half = |key: &Public| json!({ "alg": key.alg, "pub": key.public });
    json!({
        "one_time": one_time.into_iter().map(half).collect::<Vec<_>>(),
        "last_resort": last_resort.into_iter().map(half).next(),
        "grant": grant,
    })
}

/// The server's word for what waits for a human.
const REQUIRES_OVERSIGHT: &str = "requires_oversight";

fn is_published(answer: &Value) -> bool {
    let published = answer.pointer("/published");
    published.is_some_and(|published| !published.is_null())
}

/// Whether the server judged the call and changed nothing, so that what it was for is of no
/// use. Of any other failure that is not known: the change may go on after the server has
/// given up the call (408, 503), what the store did may be unknown (503), somebody in between
/// may have repeated the call (409), or the answer was lost.
fn nothing_was_done(error: &ClientError) -> bool {
    let status = error.problem().map(|problem| problem.status);
    status.is_some_and(|status| matches!(status, 400 | 401 | 403 | 404 | 413 | 415 | 422 | 429))
}

fn published(answer: Value, owner: String, path: &Path) -> Reply {
    let number = answer.pointer("/published/one_time");
    let number = number.and_then(Value::as_array).map_or(0, Vec::len);
    let text = fields(&[
        ("owner", owner),
        ("one time", number.to_string()),
        ("last resort", at(&answer, "/published/last_resort")),
        ("private halves", path.display().to_string()),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Reply::new(text, answer)
}

/// The keys wait as the request does: it is for these and no others.
fn kept(mut answer: Value, path: &Path) -> Reply {
    let path = path.display().to_string();
    if let Value::Object(answer) = &mut answer {
        answer.insert("file".to_owned(), json!(path));
    }
    let mut reply = refused(answer);
    let then = format!("creto prekeys publish --keys {path} --grant GRANT");
    reply.text.push_str(&fields(&[
        ("private halves", path),
        ("once approved", then),
    ]));
    reply
}

fn private(algorithm: KemAlgorithm, kind: PrekeyKind) -> Result<Private, CliError> {
    let provider = AwsLcProvider::new(Arc::new(SystemRandom));
    let mut seed = Zeroizing::new(vec![0_u8; algorithm.seed_len()]);
    provider.random(&mut seed);
    let key = DecapsulationKey::from_seed(algorithm, &seed);
    let key = key.map_err(CliError::server::<CryptoError>)?;
    let public = key.encapsulation_key();
    Ok(Private {
        public: Public {
            id: PrekeyId::of(public).map_err(CliError::server::<NhiError>)?,
            kind,
            alg: algorithm,
            public: public.to_base64url(),
        },
        seed: Zeroizing::new(URL_SAFE_NO_PAD.encode(&*seed)),
    })
}

fn write_private(path: &Path, owner: &str, keys: &[Private]) -> Result<(), CliError> {
    // Enough for all of it, so that no piece of it is left where it grew.
    const EACH: usize = 4 * 1024;
    let mut text = Zeroizing::new(Vec::with_capacity(EACH * (keys.len() + 1)));
    let written = serde_json::to_writer_pretty(&mut *text, &PrivateFile { owner, keys });
    let text = written
        .map_err(std::io::Error::from)
        .and_then(|()| std::str::from_utf8(&text).map_err(std::io::Error::other));
    write_secret(path, text.map_err(file_error("write", path))?)
}

fn remove(path: &Path) -> Result<(), CliError> {
    std::fs::remove_file(path).map_err(file_error("remove", path))
}

fn take(client: &Client, args: &TakeArgs) -> Result<Reply, CliError> {
    must_be_new(args.out.as_deref())?;
    let lists = args.also.lists().map_err(CliError::server)?;
    // A prekey is there once. Whichever encapsulation its owner chose, this build can use it.
    let lists = KemAlgorithm::ALL
        .iter()
        .try_fold(lists, |lists, kem| lists.reading_also(kem.name()))
        .map_err(CliError::server)?;
    // First: what cannot be checked is not taken.
    let keys = keys_of(args.keys.as_deref(), &args.spiffe_id, || Ok(client.clone()))?.0;
    keys.of(&args.spiffe_id).map_err(CliError::server)?;
    if let Some(newest) = keys.keys.first() {
        let algorithm = newest.key.algorithm();
        lists
            .signature
            .check(algorithm)
            .map_err(CliError::verifying)?;
    }
    let body = json!({ "owner": args.spiffe_id, "grant": args.grant });
    let answer = client.post("/v1/prekeys/take", &body)?;
    let Some(found) = answer.pointer("/prekey").filter(|found| !found.is_null()) else {
        return Ok(refused(answer));
    };
    let prekey: Prekey =
        serde_json::from_value(found.clone()).map_err(|_| match unknown_algorithm(found) {
            Some(unknown) => CliError::server(unknown),
            None => CliError::Answer { what: "prekey" },
        })?;
    prekey.verify(&keys, &lists).map_err(CliError::verifying)?;
    let document = format!("{found:#}\n");
    let Some(path) = &args.out else {
        return Ok(Reply::new(document, answer));
    };
    write_new(path, &document)?;
    let text = fields(&[
        ("owner", at(found, "/owner")),
        ("kind", at(found, "/kind")),
        ("id", at(found, "/id")),
        ("algorithm", at(found, "/key/alg")),
        ("signature", "valid".to_owned()),
        ("prekey", path.display().to_string()),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Ok(Reply::new(text, answer))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use creto_client::ServerAddress;

    use super::*;

    /// Reads one request: its first line and its body.
    fn read(stream: &TcpStream) -> (String, Vec<u8>) {
        let mut reader = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim().to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        (first, body)
    }

    /// What `generate` says, and whether the file is there afterwards, of a server that gives
    /// this status and document to the publication, or hangs up.
    fn generated(answer: Option<(u16, Value)>) -> (Result<Reply, CliError>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let left = json!({
            "owner": "spiffe://creto.test/org/o/agent/inbox",
            "one_time": 98, "one_time_max": 100, "algorithm": "X-Wing",
        });
        let server = std::thread::spawn(move || {
            let reply = |stream: &mut TcpStream, status: u16, document: &Value| {
                let text = document.to_string();
                let head = format!("HTTP/1.1 {status} S\r\nContent-Length: {}\r\n", text.len());
                let whole = format!("{head}Connection: close\r\n\r\n{text}");
                stream.write_all(whole.as_bytes()).unwrap();
            };
            let (mut stream, _) = listener.accept().unwrap();
            assert!(read(&stream).0.starts_with("GET /v1/prekeys "));
            reply(&mut stream, 200, &left);
            let (mut stream, _) = listener.accept().unwrap();
            let (first, body) = read(&stream);
            assert!(first.starts_with("POST /v1/prekeys "), "{first}");
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["one_time"].as_array().unwrap().len(), 2);
            assert_eq!(body["last_resort"]["alg"], "X-Wing");
            if let Some((status, document)) = answer {
                reply(&mut stream, status, &document);
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("private.json");
        let client = Client::new(ServerAddress::new(address).unwrap());
        let args = GenerateArgs {
            out: out.clone(),
            one_time: None,
            keep_last_resort: false,
            algorithm: None,
        };
        let outcome = generate(&client, &args);
        server.join().unwrap();
        (outcome, out.exists())
    }

    fn decided(outcome: &str) -> Option<(u16, Value)> {
        Some((200, json!({ "decision": { "outcome": outcome } })))
    }

    #[test]
    fn private_halves_are_removed_only_when_nothing_was_published() {
        let problem = |status: u16| json!({ "status": status, "code": "why", "detail": "so" });
        for (status, kept) in [
            (400, false),
            (401, false),
            (403, false),
            (422, false),
            (429, false),
            (408, true),
            (409, true),
            (500, true),
            (503, true),
            (504, true),
        ] {
            let (outcome, there) = generated(Some((status, problem(status))));
            let Err(error) = outcome else {
                panic!("{status} is no success")
            };
            assert_eq!((there, error.shown_code()), (kept, "why"), "{status}");
            let says = error.text().contains("private.json");
            assert_eq!(says, kept, "{}", error.text());
        }
        let (lost, there) = generated(None);
        assert!(lost.is_err() && there);

        let (reply, there) = generated(decided("deny"));
        assert!(!reply.unwrap().good && !there);
        let (reply, there) = generated(decided(REQUIRES_OVERSIGHT));
        let reply = reply.unwrap();
        assert!(!reply.good && there);
        assert!(
            reply.text.contains("creto prekeys publish --keys"),
            "{}",
            reply.text
        );
        let published = json!({ "one_time": ["a", "b"], "last_resort": "c" });
        let (reply, there) = generated(Some((200, json!({ "published": published }))));
        assert!(reply.unwrap().good && there);
    }
}
