//! What an agent signs is taken for nothing else, and its key is found by its SPIFFE id.

use std::sync::Arc;

use creto_crypto::{
    Algorithm as _, Allowed, AllowedAlgorithms, Digest, HashAlgorithm, Signature,
    SignatureAlgorithm,
};
use creto_nhi::test_util::{World, commit, name};
use creto_nhi::{
    AgentIdentity, DelegationLink, KeyPurpose, Nhi, PrincipalType, PublicKeys, Signable,
    SignedLink, SignedStatement, StatementError, verify_link,
};
use creto_types::OrgId;
use serde_json::json;

use crate::{chained, code, lists};

fn signed(nhi: &Nhi, world: &World, who: &AgentIdentity, message: &[u8]) -> SignedStatement {
    let purpose = "review".parse().unwrap();
    nhi.sign_statement(who, purpose, world.now(), Signable::Message(message))
        .unwrap()
}

fn keys(nhi: &Nhi, org: OrgId, id: &str) -> PublicKeys {
    nhi.known_principal(org, id).unwrap().unwrap().public
}

/// The same world with agents of each algorithm that principals may have.
async fn agents() -> (World, OrgId, Vec<(std::sync::Arc<Nhi>, AgentIdentity)>) {
    let (world, org, [_, worker, _]) = chained().await;
    let composite = world.nhi.identity_for_link(org, worker).unwrap();
    let mut all = vec![(world.nhi.clone(), composite.as_ref().clone())];
    let accepted = SignatureAlgorithm::MlDsa65;
    let other = world
        .reopen_under(AllowedAlgorithms {
            signature: Allowed::new(
                accepted,
                [
                    accepted,
                    SignatureAlgorithm::MlDsa65Ed25519,
                    SignatureAlgorithm::Ed25519,
                ],
            )
            .unwrap(),
            ..AllowedAlgorithms::default()
        })
        .await
        .unwrap();
    let draft = other
        .draft_principal(org, name("modern"), PrincipalType::Agent)
        .unwrap();
    other
        .commit_principal(draft, commit(org, "principal.created"))
        .await
        .unwrap();
    let link = other
        .draft_delegation(org, world.request("alice", "modern", None))
        .unwrap();
    let id = link.link.id;
    other
        .commit_delegation(link, commit(org, "delegation.granted"))
        .await
        .unwrap();
    let modern = other.identity_for_link(org, id).unwrap().as_ref().clone();
    all.push((other, modern));
    (world, org, all)
}

#[tokio::test]
async fn a_statement_holds_for_its_message_signer_purpose_and_instant_alone() {
    let (world, org, agents) = agents().await;
    for (nhi, agent) in &agents {
        let keys = keys(nhi, org, &agent.spiffe_id());
        let statement = signed(nhi, &world, agent, b"approved");
        keys.verify(&statement, b"approved", &lists()).unwrap();
        assert_eq!(
            code(keys.verify(&statement, b"refused", &lists())),
            "signature_invalid"
        );
        let forge = |change: &dyn Fn(&mut SignedStatement)| {
            let mut forged = statement.clone();
            change(&mut forged);
            code(keys.verify(&forged, b"approved", &lists()))
        };
        let invalid = "signature_invalid";
        assert_eq!(forge(&|s| s.purpose = "release".parse().unwrap()), invalid);
        assert_eq!(forge(&|s| s.signed_at = world.after(1)), invalid);
        assert_eq!(forge(&|s| s.signer.push_str("/other")), invalid);
        assert_eq!(forge(&|s| s.signer.push('x')), "signed_by_another");
        assert_eq!(forge(&|s| s.kid.push('x')), "signing_key_unknown");

        // It is read back as it was written, and nothing beside it.
        let mut text = serde_json::to_value(&statement).unwrap();
        let read: SignedStatement = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(read, statement);
        let mut altered = text.clone();
        altered["signed_at"] = json!("2026-01-01T01:00:00+01:00");
        assert!(serde_json::from_value::<SignedStatement>(altered).is_err());
        text["more"] = json!(1);
        assert!(serde_json::from_value::<SignedStatement>(text).is_err());
    }
}

#[tokio::test]
async fn an_instance_signs_in_its_own_name_with_the_key_of_its_agent() {
    let (world, org, agents) = agents().await;
    let (nhi, agent) = &agents[0];
    let pod = agent.of_instance("pod-1".parse().unwrap()).unwrap();
    let statement = signed(nhi, &world, &pod, b"approved");
    assert_eq!(statement.signer, format!("{}/pod-1", agent.spiffe_id()));
    let keys = keys(nhi, org, &statement.signer);
    assert_eq!(keys.spiffe_id, agent.spiffe_id());
    keys.verify(&statement, b"approved", &lists()).unwrap();
}

/// Whoever may have anything signed still makes no delegation and no token of it.
#[tokio::test]
async fn a_signature_is_never_a_delegation_or_a_token() {
    let (world, org, agents) = agents().await;
    for (nhi, agent) in &agents {
        let key = &keys(nhi, org, &agent.spiffe_id()).keys[0].key;
        // The agent has a link signed that gives its own authority away, without bounds.
        let own = &agent.link().unwrap().link;
        let link = DelegationLink {
            id: world.ids.next(),
            delegator: agent.name.clone(),
            delegatee: name("helper"),
            parent: Some(own.id),
            ..own.as_ref().clone()
        };
        let bytes = link.signing_bytes().unwrap();
        let statement = signed(nhi, &world, agent, &bytes);
        let forged = SignedLink {
            link: Arc::new(link),
            signature: statement.signature.clone(),
        };
        assert_eq!(code(verify_link(&forged, key)), "delegation_forged");
        let entered = nhi
            .commit_delegation(forged, commit(org, "delegation.granted"))
            .await;
        assert!(entered.is_err());
        // The other way round, a link's signature is no statement.
        let real = nhi.link(org, own.id).unwrap();
        let real = &real.signed;
        let borrowed = SignedStatement {
            signature: real.signature.clone(),
            ..statement
        };
        assert!(
            borrowed
                .verify(key, Signable::Message(&real.link.signing_bytes().unwrap()))
                .is_err()
        );

        // A token's signing input, put together with its signature to a token.
        let token = nhi.issue_token(agent, None).unwrap().token;
        let (input, _) = token.rsplit_once('.').unwrap();
        let statement = signed(nhi, &world, agent, input.as_bytes());
        let signature = &statement.signature;
        assert!(key.verify(b"", input.as_bytes(), signature).is_err());
        let forged = format!("{input}.{}", signature.to_base64url());
        assert_eq!(code(nhi.verify_token(&forged)), "invalid_token");
        let (_, of_token) = token.rsplit_once('.').unwrap();
        // Nor a token's signature with a statement, where the algorithms are the same.
        if let Ok(signature) = Signature::from_bytes(key.algorithm(), &base64url(of_token)) {
            let issuer = nhi.signer(org, KeyPurpose::Issuer).unwrap();
            let borrowed = SignedStatement {
                signature,
                ..statement
            };
            let issuer = issuer.verifying_key();
            issuer
                .verify(b"", input.as_bytes(), &borrowed.signature)
                .unwrap();
            assert!(
                borrowed
                    .verify(issuer, Signable::Message(input.as_bytes()))
                    .is_err()
            );
        }
    }
}

fn base64url(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .unwrap()
}

#[tokio::test]
async fn a_principal_is_known_by_its_own_id_in_its_own_organization() {
    let (world, org, [_, worker, _]) = chained().await;
    let other = world.organization("mallory").await;
    let worker = world.nhi.identity_for_link(org, worker).unwrap();
    let alice = world.nhi.principal(org, &name("alice")).unwrap();
    let known = |org, id: &str| world.nhi.known_principal(org, id).unwrap();
    let found = known(org, &worker.spiffe_id()).unwrap();
    assert_eq!(
        (&found.name, found.kind),
        (&worker.name, PrincipalType::Agent)
    );
    assert!(!found.suspended);
    assert_eq!(
        known(org, &alice.spiffe_id).unwrap().kind,
        PrincipalType::Human
    );
    assert_eq!(known(other, &worker.spiffe_id()), None);
    for id in [
        "",
        "worker",
        &worker.spiffe_id().replace("agent", "human"),
        &alice.spiffe_id.replace("human", "agent"),
        &format!("{}/pod", alice.spiffe_id),
        &format!("{}/pod/more", worker.spiffe_id()),
        &format!("{}/", worker.spiffe_id()),
        &worker.spiffe_id().replace("creto.test", "elsewhere.test"),
        &format!("{}s", worker.spiffe_id()),
    ] {
        assert_eq!(known(org, id), None, "{id}");
    }
    let suspended = world
        .nhi
        .suspend(org, &worker.name, world.now(), commit(org, "x"));
    suspended.await.unwrap();
    assert!(known(org, &worker.spiffe_id()).unwrap().suspended);
}

#[tokio::test]
async fn a_document_of_keys_is_read_with_what_stands_beside_them() {
    let (world, org, agents) = agents().await;
    let (nhi, agent) = &agents[0];
    let keys = keys(nhi, org, &agent.spiffe_id());
    let mut document = serde_json::to_value(&keys).unwrap();
    document["suspended"] = json!(false);
    document["keys"][0]["kty"] = json!("AKP");
    document["keys"][0]["use"] = json!("sig");
    let read: PublicKeys = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(read, keys);
    read.verify(&signed(nhi, &world, agent, b"m"), b"m", &lists())
        .unwrap();
    document["keys"][0]["pub"] = json!("AAAA");
    assert!(serde_json::from_value::<PublicKeys>(document).is_err());
    let long = vec![0; creto_nhi::MAX_SIGNED_LEN + 1];
    let purpose = "p".parse().unwrap();
    let refused = nhi.sign_statement(agent, purpose, world.now(), Signable::Message(&long));
    assert_eq!(code(refused), "invalid_identity_request");
    assert!(matches!(
        keys.verify(
            &SignedStatement {
                signer: "x".to_owned(),
                ..signed(nhi, &world, agent, b"m")
            },
            b"m",
            &lists()
        ),
        Err(StatementError::OtherSigner { .. })
    ));
}

/// Whoever checks has lists as well: what they leave out is told by its name, and nothing is
/// computed with it.
#[tokio::test]
async fn a_statement_of_an_algorithm_that_is_not_accepted_is_refused_by_its_name() {
    let (world, org, agents) = agents().await;
    let (nhi, agent) = &agents[0];
    let keys = keys(nhi, org, &agent.spiffe_id());
    let defaults = AllowedAlgorithms::default();
    let sha3 = Digest::of(HashAlgorithm::Sha3_256, b"m");
    let purpose = "review".parse().unwrap();
    let of_sha3 = nhi.sign_statement(agent, purpose, world.now(), Signable::Digest(&sha3));
    let of_sha3 = of_sha3.unwrap();
    for refused in [
        keys.verify(&of_sha3, b"m", &defaults),
        keys.verify_digest(&of_sha3, &sha3, &defaults),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.to_string().contains("`sha3-256`"), "{refused}");
        assert_eq!(code(Err::<(), _>(refused)), "algorithm_not_allowed");
    }
    keys.verify(&of_sha3, b"m", &lists()).unwrap();
    let plain = signed(nhi, &world, agent, b"m");
    let other = match plain.signature.algorithm() {
        SignatureAlgorithm::MlDsa65 => SignatureAlgorithm::MlDsa65Ed25519,
        _ => SignatureAlgorithm::MlDsa65,
    };
    let only = AllowedAlgorithms {
        signature: Allowed::only(other),
        ..defaults
    };
    assert_eq!(
        code(keys.verify(&plain, b"m", &only)),
        "algorithm_not_allowed"
    );
}

/// A digest is signed as what it is: by its function, and never taken for the message that
/// has its bytes or its text.
#[tokio::test]
async fn a_digest_is_signed_by_the_name_of_its_function() {
    let (world, org, agents) = agents().await;
    for (nhi, agent) in &agents {
        let keys = keys(nhi, org, &agent.spiffe_id());
        for algorithm in HashAlgorithm::ALL {
            let digest = Digest::of(*algorithm, b"m");
            let purpose = "review".parse().unwrap();
            let content = Signable::Digest(&digest);
            let signed = nhi
                .sign_statement(agent, purpose, world.now(), content)
                .unwrap();
            keys.verify(&signed, b"m", &lists()).unwrap();
            keys.verify_digest(&signed, &digest, &lists()).unwrap();
            assert!(keys.verify(&signed, b"n", &lists()).is_err());
            let key = &keys.keys[0].key;
            for other in HashAlgorithm::ALL
                .iter()
                .filter(|other| *other != algorithm)
            {
                assert!(
                    keys.verify_digest(&signed, &Digest::of(*other, b"m"), &lists())
                        .is_err()
                );
                let renamed = digest.to_string().replace(algorithm.name(), other.name());
                let Ok(renamed) = renamed.parse() else {
                    continue;
                };
                let of_other = SignedStatement {
                    digest: Some(renamed),
                    ..signed.clone()
                };
                let renamed = of_other.digest.as_ref().unwrap();
                assert!(of_other.verify(key, Signable::Digest(renamed)).is_err());
            }
            let text = digest.to_string();
            for message in [b"m".as_slice(), digest.as_bytes(), text.as_bytes()] {
                let without = SignedStatement {
                    digest: None,
                    ..signed.clone()
                };
                assert!(without.verify(key, Signable::Message(message)).is_err());
                assert!(signed.verify(key, Signable::Message(message)).is_err());
            }
            let document = serde_json::to_value(&signed).unwrap();
            assert_eq!(document["digest"], text);
            let read: SignedStatement = serde_json::from_value(document.clone()).unwrap();
            assert_eq!(read, signed);
            let mut nothing = document;
            nothing["digest"] = json!(null);
            assert!(serde_json::from_value::<SignedStatement>(nothing).is_err());
        }
        let of = |algorithm| Digest::of(algorithm, b"m").to_string();
        nhi.digest("digest", &of(HashAlgorithm::Sha384)).unwrap();
        for (text, expected) in [
            (of(HashAlgorithm::Blake3), "algorithm_not_allowed"),
            ("md5:00".to_owned(), "unknown_algorithm"),
            ("sha-256:00".to_owned(), "digest_malformed"),
        ] {
            assert_eq!(code(nhi.digest("digest", &text)), expected);
        }
    }
}

/// RFC 7517, section 5: a key of a later version, or of another kind, is passed over.
#[tokio::test]
async fn a_document_of_keys_is_read_without_those_that_are_not_understood() {
    let (world, org, agents) = agents().await;
    let (nhi, agent) = &agents[0];
    let signed = signed(nhi, &world, agent, b"m");
    let known = keys(nhi, org, &agent.spiffe_id());
    let mut document = serde_json::to_value(&known).unwrap();
    let ours = document["keys"][0].clone();
    let others = [
        json!({ "kty": "AKP", "alg": "ML-DSA-87-Ed448", "kid": "later", "pub": "AAAA" }),
        json!({ "kty": "EC", "crv": "P-256", "kid": "curve", "x": "AA", "y": "AA" }),
        json!({ "kty": "OKP", "alg": "Ed25519", "crv": "Ed25519", "kid": "own", "x": "AA" }),
        json!({}),
    ];
    document["keys"] = json!([&others[..2], &[ours], &others[2..]].concat());
    let read: PublicKeys = serde_json::from_value(document).unwrap();
    assert_eq!((&read.keys, read.passed_over.len()), (&known.keys, 4));
    read.verify(&signed, b"m", &lists()).unwrap();
    // What is by one of them is refused by the name of its algorithm, where that is unknown.
    for (kid, expected) in [
        ("later", "unknown_algorithm"),
        ("curve", "unknown_algorithm"),
        ("own", "signing_key_unknown"),
        ("nobody's", "signing_key_unknown"),
    ] {
        let by = SignedStatement {
            kid: kid.to_owned(),
            ..signed.clone()
        };
        assert_eq!(code(read.verify(&by, b"m", &lists())), expected, "{kid}");
    }
    assert_eq!(
        serde_json::to_value(&read).unwrap(),
        serde_json::to_value(&known).unwrap()
    );
}
