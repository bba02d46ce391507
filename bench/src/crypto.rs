//! Signatures against the bare library calls they are made of.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use creto_crypto::{AwsLcProvider, CryptoProvider as _, SignatureAlgorithm};
use creto_types::SystemRandom;
use libcrux_ml_dsa::ml_dsa_65;

use crate::report::{Entry, Report};
use crate::sample::Sample;

const BUDGET: Duration = Duration::from_secs(2);
const MESSAGE: &[u8] = &[7; 512];

pub(crate) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    if !report.wants("crypto/composite_sign") && !report.wants("crypto/composite_verify") {
        return Ok(());
    }
    let provider = AwsLcProvider::new(Arc::new(SystemRandom));
    let key = provider.generate_signing_key(SignatureAlgorithm::MlDsa65Ed25519)?;
    let signature = provider.sign(&key, b"bench", MESSAGE)?;
    let public = key.verifying_key();

    let ed25519 = Ed25519KeyPair::generate()?;
    let ed25519_public = UnparsedPublicKey::new(&ED25519, ed25519.public_key().as_ref().to_vec());
    let ed25519_signature = ed25519.sign(MESSAGE);
    let ml_dsa = ml_dsa_65::generate_key_pair([3; 32]);
    let ml_dsa_signature = ml_dsa_65::sign(&ml_dsa.signing_key, MESSAGE, b"bench", [5; 32])
        .map_err(|error| format!("{error:?}"))?;

    let bare_sign = Sample::time(BUDGET, 1, || {
        black_box(ed25519.sign(MESSAGE));
        let signed = ml_dsa_65::sign(&ml_dsa.signing_key, MESSAGE, b"bench", [5; 32]);
        let _ = black_box(signed);
    });
    let sign = Sample::time(BUDGET, 1, || {
        let _ = black_box(provider.sign(&key, b"bench", MESSAGE));
    });
    let entry = Entry::latency("crypto/composite_sign", "us", sign.micros());
    report.add(entry.beside("both halves, bare", bare_sign.micros().median));

    let bare_verify = Sample::time(BUDGET, 1, || {
        let _ = black_box(ed25519_public.verify(MESSAGE, ed25519_signature.as_ref()));
        let verified = ml_dsa_65::verify(
            &ml_dsa.verification_key,
            MESSAGE,
            b"bench",
            &ml_dsa_signature,
        );
        let _ = black_box(verified);
    });
    let verify = Sample::time(BUDGET, 1, || {
        let _ = black_box(public.verify(b"bench", MESSAGE, &signature));
    });
    let entry = Entry::latency("crypto/composite_verify", "us", verify.micros());
    report.add(entry.beside("both halves, bare", bare_verify.micros().median));
    Ok(())
}
