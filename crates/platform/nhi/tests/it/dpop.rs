//! Tokens that are bound to a key, and the proofs that come with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{Accepted, HolderAlgorithm};
use creto_errors::{Class, Classify as _};
use creto_nhi::test_util::{Holder, World};
use creto_nhi::{AgentIdentity, DpopError, LinkId, MAX_PROOF_LEN, NONCE_TURN, NhiError, Proof};
use creto_types::OrgId;
use proptest::prelude::{any, prop_assert, proptest};
use serde_json::{Value, json};

use crate::tokens::part;
use crate::{chained, code};

const HERE: (&str, &str) = ("POST", "http://127.0.0.1:7180/v1/actions");

/// A token of the chain's last agent that is bound to this holder's key.
struct Bound {
    world: World,
    org: OrgId,
    link: LinkId,
    holder: Holder,
    token: String,
}

impl Bound {
    async fn new() -> Self {
        let (world, org, [.., link]) = chained().await;
        let holder = Holder::new(1);
        let identity = world.nhi.identity_for_link(org, link).unwrap();
        let token = token_for(&world, &identity.confirmed_by(Some(holder.jkt())));
        Self {
            world,
            org,
            link,
            holder,
            token,
        }
    }

    fn proof(&self) -> String {
        self.proof_by(&self.holder)
    }

    fn proof_by(&self, holder: &Holder) -> String {
        let nonce = self.world.nhi.proof_nonce();
        holder.proof(HERE, Some(&self.token), &nonce, self.world.now())
    }

    fn claims(&self) -> Value {
        let nonce = self.world.nhi.proof_nonce();
        self.holder
            .claims(HERE, Some(&self.token), &nonce, self.world.now())
    }

    fn present(&self, proof: &str) -> Result<Arc<AgentIdentity>, NhiError> {
        let proof = Proof::parse(proof, &Accepted::all())?;
        self.world.nhi.verify_bound_token(&self.token, &proof)
    }

    /// With claims that are not those of a proof.
    fn present_claims(&self, change: impl FnOnce(&mut Value)) -> &'static str {
        let mut claims = self.claims();
        change(&mut claims);
        code(self.present(&self.holder.sign(&self.holder.header(), &claims)))
    }

    fn present_header(&self, change: impl FnOnce(&mut Value)) -> &'static str {
        let mut header = self.holder.header();
        change(&mut header);
        code(self.present(&self.holder.sign(&header, &self.claims())))
    }
}

fn token_for(world: &World, identity: &AgentIdentity) -> String {
    world.nhi.issue_token(identity, None).unwrap().token
}

#[tokio::test]
async fn a_bound_token_is_of_use_to_who_has_its_key() {
    let bound = Bound::new().await;
    let claims = part(&bound.token, 1);
    assert_eq!(claims["cnf"], json!({ "jkt": bound.holder.jkt() }));
    let identity = bound.present(&bound.proof()).unwrap();
    assert_eq!(identity.confirmation(), Some(bound.holder.jkt()));

    // Not to who has the token alone, nor to who has it and another key.
    let alone = bound.world.nhi.verify_token(&bound.token);
    assert_eq!(code(alone), "dpop_proof_required");
    let stolen = bound.present(&bound.proof_by(&Holder::new(2)));
    assert_eq!(code(stolen), "dpop_key_mismatch");
    // Nor does a key make a bound token of one that is not.
    let identity = bound.world.nhi.identity_for_link(bound.org, bound.link);
    let other = token_for(&bound.world, &identity.unwrap());
    assert!(bound.world.nhi.verify_token(&other).is_ok());
    let nonce = bound.world.nhi.proof_nonce();
    let proof = bound
        .holder
        .proof(HERE, Some(&other), &nonce, bound.world.now());
    let proof = Proof::parse(&proof, &Accepted::all()).unwrap();
    let refused = bound.world.nhi.verify_bound_token(&other, &proof);
    assert_eq!(code(refused), "dpop_token_not_bound");
}

#[tokio::test]
async fn a_proof_is_by_any_of_the_accepted_algorithms() {
    let (world, org, [.., link]) = chained().await;
    let rng = SystemRandom::new();
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.as_ref()).unwrap();
    let point = pair.public_key().as_ref();
    let (x, y) = point[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let header = json!({
        "alg": "ES256", "typ": "dpop+jwt", "kid": "ignored",
        "jwk": { "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig" },
    });
    // RFC 7638, by hand.
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let jkt = URL_SAFE_NO_PAD.encode(creto_crypto::sha256(members.as_bytes()));

    let identity = world.nhi.identity_for_link(org, link).unwrap();
    let token = token_for(&world, &identity.confirmed_by(Some(jkt.parse().unwrap())));
    let claims = Holder::new(9).claims(HERE, Some(&token), &world.nhi.proof_nonce(), world.now());
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", encode(&header), encode(&claims));
    let signature = pair.sign(&rng, input.as_bytes()).unwrap();
    let proof = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
    let proof = Proof::parse(&proof, &Accepted::all()).unwrap();
    assert!(world.nhi.verify_bound_token(&token, &proof).is_ok());

    // `Ed25519` (RFC 9864) beside the `EdDSA` that a holder of ours writes.
    let bound = Bound::new().await;
    let mut header = bound.holder.header();
    header["alg"] = json!("Ed25519");
    let proof = bound.holder.sign(&header, &bound.claims());
    assert!(bound.present(&proof).is_ok());
}

#[tokio::test]
async fn every_member_of_a_proof_is_what_it_has_to_be() {
    let bound = Bound::new().await;
    let second = bound.world.now().as_second();
    type Change = Box<dyn FnOnce(&mut Value)>;
    let set = |name: &'static str, value: Value| -> Change {
        Box::new(move |object: &mut Value| object[name] = value)
    };
    let without = |name: &'static str| -> Change {
        Box::new(move |object: &mut Value| drop(object.as_object_mut().unwrap().remove(name)))
    };
    for name in ["jti", "htm", "htu", "iat", "ath"] {
        assert_eq!(
            bound.present_claims(without(name)),
            "invalid_dpop_proof",
            "{name}"
        );
        for wrong in [json!(null), json!(["x"]), json!({}), json!(true)] {
            let found = bound.present_claims(set(name, wrong.clone()));
            assert_eq!(found, "invalid_dpop_proof", "{name} {wrong}");
        }
    }
    assert_eq!(bound.present_claims(without("nonce")), "use_dpop_nonce");
    for (name, wrong, expected) in [
        ("jti", json!(""), "invalid_dpop_proof"),
        ("jti", json!("x".repeat(257)), "invalid_dpop_proof"),
        ("iat", json!(second - 301), "invalid_dpop_proof"),
        ("iat", json!(second + 301), "invalid_dpop_proof"),
        ("iat", json!(i64::MAX), "invalid_dpop_proof"),
        ("iat", json!(second.to_string()), "invalid_dpop_proof"),
        ("iat", json!(1.767_225_6e300), "invalid_dpop_proof"),
        ("nbf", json!(1.5e300), "invalid_dpop_proof"),
        ("nbf", json!(1.5e-9), "invalid_dpop_proof"),
        ("exp", json!(second), "invalid_dpop_proof"),
        ("nbf", json!(second + 301), "invalid_dpop_proof"),
        ("ath", json!(""), "invalid_dpop_proof"),
        ("ath", json!(bound.token), "invalid_dpop_proof"),
        ("nonce", json!(""), "use_dpop_nonce"),
        ("nonce", json!("AAAA"), "use_dpop_nonce"),
        ("nonce", json!(7), "invalid_dpop_proof"),
    ] {
        assert_eq!(
            bound.present_claims(set(name, wrong.clone())),
            expected,
            "{name} {wrong}"
        );
    }
    for name in ["typ", "alg", "jwk"] {
        assert_eq!(
            bound.present_header(without(name)),
            "invalid_dpop_proof",
            "{name}"
        );
    }
    let jwk = bound.holder.header()["jwk"].clone();
    let jwk_with = |name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    for (name, wrong) in [
        ("typ", json!("JWT")),
        ("typ", json!("DPOP+JWT")),
        ("alg", json!("ES256")),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("jwk", json!([])),
        ("jwk", json!("x")),
        ("jwk", jwk_with("d", json!("x"))),
        ("jwk", jwk_with("k", json!("x"))),
        ("jwk", jwk_with("kty", json!("EC"))),
        ("jwk", jwk_with("crv", json!("X25519"))),
        ("jwk", jwk_with("x", json!("AAAA"))),
        ("jwk", jwk_with("x", json!(7))),
        ("jwk", jwk_with("use", json!("enc"))),
        ("jwk", jwk_with("alg", json!("ES256"))),
    ] {
        let found = bound.present_header(set(name, wrong.clone()));
        assert_eq!(found, "invalid_dpop_proof", "{name} {wrong}");
    }
    for name in ["none", "HS256", "RS256", ""] {
        let found = bound.present_header(set("alg", json!(name)));
        assert_eq!(found, "unknown_algorithm", "{name}");
    }
    // A key of another's in the header is not who signed.
    let other = Holder::new(2).header()["jwk"].clone();
    assert_eq!(
        bound.present_header(set("jwk", other)),
        "invalid_dpop_proof"
    );
    // What is not known is passed over, and instants may have fractions.
    let mut claims = bound.claims();
    claims["client"] = json!({ "any": 1 });
    claims["iat"] = json!(1_767_225_600.5);
    assert!(
        bound
            .present(&bound.holder.sign(&bound.holder.header(), &claims))
            .is_ok()
    );
    let edge = bound.claims();
    for iat in [second - 300, second + 300] {
        let mut claims = edge.clone();
        claims["iat"] = json!(iat);
        claims["jti"] = json!(iat.to_string());
        assert!(
            bound
                .present(&bound.holder.sign(&bound.holder.header(), &claims))
                .is_ok()
        );
    }
}

#[tokio::test]
async fn a_proof_is_accepted_once() {
    let bound = Bound::new().await;
    let proof = bound.proof();
    assert!(bound.present(&proof).is_ok());
    assert_eq!(code(bound.present(&proof)), "dpop_proof_replayed");
    // For as long as it would be fresh, and then it is not.
    bound.world.clock.advance(NONCE_TURN);
    assert_eq!(code(bound.present(&proof)), "dpop_proof_replayed");
    bound.world.clock.advance(NONCE_TURN);
    assert_eq!(code(bound.present(&proof)), "use_dpop_nonce");
    // Its identifier with the next nonce is no other proof.
    let mut claims = bound.claims();
    claims["jti"] = json!("same");
    let first = bound.holder.sign(&bound.holder.header(), &claims);
    assert!(bound.present(&first).is_ok());
    bound.world.clock.advance(NONCE_TURN);
    claims["nonce"] = json!(bound.world.nhi.proof_nonce());
    let again = bound.holder.sign(&bound.holder.header(), &claims);
    assert_eq!(code(bound.present(&again)), "dpop_proof_replayed");
}

#[tokio::test]
async fn a_nonce_is_good_for_its_turn_and_the_next() {
    let bound = Bound::new().await;
    let (first, second) = (bound.proof(), bound.proof());
    bound
        .world
        .clock
        .advance(2 * NONCE_TURN - Duration::from_secs(1));
    assert!(bound.present(&first).is_ok());
    bound.world.clock.advance(Duration::from_secs(1));
    assert_eq!(code(bound.present(&second)), "use_dpop_nonce");
    assert!(bound.present(&bound.proof()).is_ok());
}

#[tokio::test]
async fn what_fails_uses_nothing_up() {
    let bound = Bound::new().await;
    let other = token_for(
        &bound.world,
        &bound
            .world
            .nhi
            .identity_for_link(bound.org, bound.link)
            .unwrap()
            .confirmed_by(Some(bound.holder.jkt())),
    );
    let proof = bound.proof();
    let parsed = Proof::parse(&proof, &Accepted::all()).unwrap();
    let wrong = bound.world.nhi.verify_bound_token(&other, &parsed);
    assert_eq!(code(wrong), "invalid_dpop_proof");
    assert!(bound.present(&proof).is_ok());
}

#[tokio::test]
async fn of_sixteen_that_replay_one_is_heard() {
    let bound = Bound::new().await;
    for _ in 0..50 {
        let proof = bound.proof();
        let (heard, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| match bound.present(&proof) {
                    Ok(_) => heard.fetch_add(1, Ordering::Relaxed),
                    Err(NhiError::Dpop(DpopError::Replayed)) => {
                        refused.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(error) => panic!("{error}"),
                });
            }
        });
        assert_eq!((heard.into_inner(), refused.into_inner()), (1, 15));
    }
}

#[tokio::test]
async fn a_restart_forgets_no_proof() {
    let mut bound = Bound::new().await;
    // The delegation began before, so that a clock that goes back finds it valid.
    bound.world.clock.advance(Duration::from_secs(100));
    let (used, unused) = (bound.proof(), bound.proof());
    assert!(bound.present(&used).is_ok());
    let before = bound.world.now();
    // Whichever way the clock went meanwhile, within what the instants of token and proof
    // may be off.
    let (back, ahead) = (Duration::from_secs(50), Duration::from_secs(290));
    for now in [before, before - back, before + ahead] {
        bound.world.clock.step_wall_to(now);
        bound.world.restart().await;
        for proof in [&used, &unused] {
            assert_eq!(code(bound.present(proof)), "use_dpop_nonce", "{now}");
        }
        // It is the nonce alone that is too old: the instant in a proof of then is good.
        let mut claims = bound.holder.claims(
            HERE,
            Some(&bound.token),
            &bound.world.nhi.proof_nonce(),
            before,
        );
        claims["jti"] = json!(now.to_string());
        let proof = bound.holder.sign(&bound.holder.header(), &claims);
        assert!(bound.present(&proof).is_ok(), "{now}");
    }
}

#[tokio::test]
async fn an_exchange_keeps_the_binding_or_adds_one() {
    let bound = Bound::new().await;
    let nhi = &bound.world.nhi;
    let prove = |holder: &Holder, token: Option<&str>| {
        let request = ("POST", "http://127.0.0.1:7180/oauth/token");
        let proof = holder.proof(request, token, &nhi.proof_nonce(), bound.world.now());
        Proof::parse(&proof, &Accepted::all()).unwrap()
    };
    let unbound = nhi.identity_for_link(bound.org, bound.link).unwrap();
    let unbound = token_for(&bound.world, &unbound);
    let thief = Holder::new(2);

    let code_of = |proof: Option<&Proof>| code(nhi.verify_exchange(&bound.token, None, proof));
    assert_eq!(code_of(None), "dpop_proof_required");
    assert_eq!(code_of(Some(&prove(&thief, None))), "dpop_key_mismatch");
    let wrong = prove(&bound.holder, Some(&unbound));
    assert_eq!(code_of(Some(&wrong)), "invalid_dpop_proof");
    let proof = prove(&bound.holder, None);
    let held = nhi
        .verify_exchange(&bound.token, None, Some(&proof))
        .unwrap();
    assert_eq!(held.key, Some(bound.holder.jkt()));
    assert_eq!(code_of(Some(&proof)), "dpop_proof_replayed");
    assert!(
        nhi.verify_exchange(
            &bound.token,
            None,
            Some(&prove(&bound.holder, Some(&bound.token)))
        )
        .is_ok()
    );

    // Without another key it stays bound to the one it has.
    let (kept, _) = nhi.exchange_token(&held.subject, None, None, None).unwrap();
    assert_eq!(kept.confirmation(), Some(bound.holder.jkt()));
    let child = Holder::new(4);
    let (moved, issued) = nhi
        .exchange_token(&held.subject, None, Some(child.jkt()), None)
        .unwrap();
    assert_eq!(moved.confirmation(), Some(child.jkt()));
    assert_eq!(part(&issued.token, 1)["cnf"], json!({ "jkt": child.jkt() }));

    // An actor's bound token needs its key as well, and one proof is of one key.
    let acting = |actor: &str, proof: Option<&Proof>| {
        nhi.verify_exchange(&unbound, Some(actor), proof).map(drop)
    };
    assert_eq!(code(acting(&bound.token, None)), "dpop_proof_required");
    assert_eq!(
        code(acting(&bound.token, Some(&prove(&thief, None)))),
        "dpop_key_mismatch"
    );
    acting(&bound.token, Some(&prove(&bound.holder, None))).unwrap();
    let proof = prove(&bound.holder, None);
    let both = nhi.verify_exchange(&bound.token, Some(&issued.token), Some(&proof));
    assert_eq!(code(both), "dpop_key_mismatch");
}

#[tokio::test]
async fn where_it_is_demanded_no_agent_acts_by_a_bearer_token() {
    let bound = Bound::new().await;
    let (org, link) = (bound.org, bound.link);
    let before = bound.world.nhi.identity_for_link(org, link).unwrap();
    let bearer = token_for(&bound.world, &before);
    let nhi = bound.world.reopen_requiring_proof().await.unwrap();
    assert!(nhi.requires_proof());
    assert_eq!(code(nhi.verify_token(&bearer)), "dpop_binding_required");
    // Nor does who stole one get a bound one for it.
    let thief = Holder::new(2);
    let proof = thief.proof(HERE, None, &nhi.proof_nonce(), bound.world.now());
    let proof = Proof::parse(&proof, &Accepted::all()).unwrap();
    let exchanged = nhi.verify_exchange(&bearer, None, Some(&proof));
    assert_eq!(code(exchanged), "dpop_binding_required");

    let identity = nhi.identity_for_link(org, link).unwrap();
    let refused = nhi.issue_token(&identity, None);
    assert_eq!(code(refused.map(|_| ())), "dpop_binding_required");
    let issued = nhi.issue_token(&identity.confirmed_by(Some(thief.jkt())), None);
    assert!(issued.is_ok());
    // People are not asked.
    let alice = nhi
        .identity_for_human(org, &"alice".parse().unwrap())
        .unwrap();
    let own = nhi.issue_token(&alice, None).unwrap();
    assert!(nhi.verify_token(&own.token).is_ok());
}

/// A proof that would verify: the list is asked before anything is computed with the key.
#[tokio::test]
async fn a_proof_of_an_algorithm_that_is_not_accepted_is_refused_by_its_name() {
    let bound = Bound::new().await;
    let proof = bound.proof();
    let es256 = Accepted::new([HolderAlgorithm::Es256]);
    let refused = Proof::parse(&proof, &es256).unwrap_err();
    assert_eq!(code(Err::<(), _>(refused.clone())), "algorithm_not_allowed");
    assert_eq!(refused.oauth_code(), Some("invalid_dpop_proof"));
    assert!(refused.to_string().contains("`Ed25519`"), "{refused}");
    let unknown = DpopError::Algorithm("PS256".parse::<HolderAlgorithm>().unwrap_err());
    assert_eq!(unknown.class(), Class::Security);
    assert_eq!(unknown.oauth_code(), Some("invalid_dpop_proof"));
    let broken = format!("{}AAAA", &proof[..proof.len() - 4]);
    assert_eq!(code(Proof::parse(&broken, &es256)), "algorithm_not_allowed");
    let ed25519 = Accepted::new([HolderAlgorithm::Ed25519]);
    assert!(Proof::parse(&proof, &ed25519).is_ok());
}

#[tokio::test]
async fn what_is_no_proof_is_refused_as_that() {
    let bound = Bound::new().await;
    let proof = bound.proof();
    let parts: Vec<&str> = proof.split('.').collect();
    for text in [
        String::new(),
        "..".to_owned(),
        parts[..2].join("."),
        format!("{proof}.x"),
        format!("{proof}="),
        format!(" {proof}"),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", parts[1], parts[0], parts[2]),
        "x".repeat(MAX_PROOF_LEN + 1),
        bound.token.clone(),
    ] {
        assert_eq!(
            code(Proof::parse(&text, &Accepted::all())),
            "invalid_dpop_proof",
            "{text}"
        );
    }
}

proptest! {
    /// Whichever byte of a proof is another one, it is none.
    #[test]
    fn a_changed_proof_is_none(place in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let holder = Holder::new(1);
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let proof = holder.proof(HERE, Some("a.b.c"), "nonce", at);
        prop_assert!(Proof::parse(&proof, &Accepted::all()).is_ok());
        let mut bytes = proof.clone().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(changed) = String::from_utf8(bytes)
            && changed != proof
        {
            prop_assert!(Proof::parse(&changed, &Accepted::all()).is_err());
        }
    }
}
