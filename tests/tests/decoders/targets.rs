//! What must hold for any bytes a decoder is given: it answers or refuses, and
//! what it answers keeps its promises. One function a decoder, shared by the fuzz
//! targets and by the test that replays the corpus.

#[path = "evaluation.rs"]
mod evaluation;

use std::collections::BTreeMap;

use creto_authz::PolicySources;
use creto_authz::eval::EvalInput;
use creto_crypto::Accepted;
use creto_governor::{ActionRequest, Candidate, PolicyFiles};
use creto_http::authzen::{
    Evaluations, decode_access_request, decode_evaluation, decode_evaluations,
};
use creto_ingress::Hosts;
use creto_nhi::Proof;
use creto_types::canonical_json;
use serde_json::Value;

/// What separates the texts of one input.
const SEPARATOR: &str = "\n---\n";

/// The texts of an input; missing ones are empty.
fn texts<const N: usize>(data: &[u8]) -> Option<[&str; N]> {
    let mut parts = std::str::from_utf8(data).ok()?.splitn(N, SEPARATOR);
    Some(std::array::from_fn(|_| parts.next().unwrap_or_default()))
}

/// Policies, and beside the starter's schema another one, links of templates and tests:
/// a bundle that compiles and whose tests ran, or a refusal with a text. What may be put
/// in force has no test that failed.
pub fn policy(data: &[u8]) {
    let Some([policies, schema, links, tests]) = texts(data) else {
        return;
    };
    let mut files: BTreeMap<String, String> = PolicySources::starter().schema.into_iter().collect();
    files.insert("fuzz.cedar".to_owned(), policies.to_owned());
    for (name, text) in [
        ("fuzz.cedarschema", schema),
        ("fuzz.links.json", links),
        ("fuzz.test.json", tests),
    ] {
        if !text.is_empty() {
            files.insert(name.to_owned(), text.to_owned());
        }
    }
    let files = PolicyFiles::new(files).expect("names and sizes are those of a bundle");
    let candidate = match Candidate::check(files) {
        Ok(candidate) => candidate,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let failed = candidate.tests.failed();
    assert!(failed <= candidate.tests.cases.len());
    assert_eq!(candidate.passed().is_ok(), failed == 0);
}

/// The body of `POST /v1/actions`: what is accepted has arguments whose canonical
/// form is a fixed point, so that a digest means one document.
pub fn request(data: &[u8]) {
    let Ok(request) = serde_json::from_slice::<ActionRequest>(data) else {
        return;
    };
    if request.validate().is_err() {
        return;
    }
    let canonical = canonical_json(&request.args).expect("it was measured in this form");
    let again: Value = serde_json::from_slice(&canonical).expect("canonical JSON is JSON");
    assert_eq!(canonical_json(&again).expect("and stays so"), canonical);
}

/// The bodies of AuthZEN's endpoints: a batch is bounded, and what is one
/// evaluation to one endpoint is the same to the other.
pub fn authzen(data: &[u8]) {
    let one = decode_evaluation(data);
    if let Ok(evaluation) = &one {
        let _ = evaluation.question();
    }
    match decode_evaluations(data) {
        Ok(Evaluations::One(evaluation)) => {
            assert_eq!(evaluation, one.expect("a single evaluation is complete"));
        }
        Ok(Evaluations::Many { batch, .. }) => {
            assert!((1..=100).contains(&batch.len()));
            for evaluation in &batch {
                let _ = evaluation.question();
            }
        }
        Err(_) => {}
    }
    if let Ok(access) = decode_access_request(data) {
        let _ = access.request(&[]);
        // As a denial names them.
        let _ = access.request(&["port".to_owned(), "country".to_owned()]);
    }
}

/// Proofs of possession, whole or as the two parts that are signed: one that is read has a
/// key, and an address that is that of one path at most.
pub fn proof(data: &[u8]) {
    let Some([header, claims]) = texts(data) else {
        return;
    };
    if let Ok(whole) = Proof::parse(header, &Accepted::all()) {
        assert!(header.len() <= creto_nhi::MAX_PROOF_LEN && !whole.method().is_empty());
    }
    let Ok(proof) = Proof::unsigned(header.as_bytes(), claims.as_bytes()) else {
        return;
    };
    let hosts = Hosts::of(([127, 0, 0, 1], 7180).into());
    let paths = ["/v1/actions", "/v1/secrets/a%2Fb"];
    let meant = paths.map(|path| hosts.are_meant_at(proof.uri(), path));
    assert_ne!(meant, [true, true], "{}", proof.uri());
}

/// Policies, schema, entities, a request and links in Cedar's own formats: the slices
/// answer what Cedar answers over all policies.
pub fn eval(data: &[u8]) {
    let Some([policies, schema, entities, request, links]) = texts(data) else {
        return;
    };
    evaluation::agrees(&EvalInput {
        policies,
        schema: (!schema.is_empty()).then_some(schema),
        entities,
        request,
        links: (!links.is_empty()).then_some(links),
    });
}
