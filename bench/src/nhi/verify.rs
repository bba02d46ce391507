//! A token's first verification beside its bare signatures, and every later look-up.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use creto_authz::Bound;
use creto_nhi::memory::MemoryNhiStore;
use creto_nhi::test_util::name;
use creto_nhi::{LinkId, VerifiedTokens};
use libcrux_ml_dsa::ml_dsa_65::{self, MLDSA65Signature, MLDSA65VerificationKey};

use super::{Identities, OWNER, Outcome};
use crate::authz::{Numbers, World};
use crate::report::{Entry, Report};
use crate::sample::Sample;
use crate::ticks::Ticks;

const VERIFY: &str = "nhi/verify_first";
const LOOKUP: &str = "nhi/bound_lookup";

/// Chains of one length that are verified once after each restart.
const CHAINS: usize = 16;
const RESTARTS: usize = 40;

/// The longest chain there is by default.
const DEEPEST: usize = 8;

const LOOKUPS: usize = 1_000_000;

pub(super) fn run(report: &mut Report) -> Outcome {
    let runtime = tokio::runtime::Runtime::new()?;
    if report.wants(VERIFY) {
        runtime.block_on(first(report))?;
    }
    if report.wants(LOOKUP) {
        let (identities, links) = runtime.block_on(chains(1_024, 1))?;
        again(report, &identities, &links)?;
    }
    Ok(())
}

/// An organization with so many chains of such a length, each of agents of its own, and
/// the last link of each.
async fn chains(count: usize, length: usize) -> Outcome<(Identities, Vec<LinkId>)> {
    let identities = Identities::new(Arc::new(MemoryNhiStore::new())).await?;
    let mut last = Vec::with_capacity(count);
    for chain in 0..count {
        let mut delegator = name(OWNER);
        let mut parent = None;
        for depth in 0..length {
            let agent = name(&format!("agent-{chain}-{depth}"));
            identities.agent(agent.clone()).await?;
            let link = identities
                .delegate(delegator, agent.clone(), parent)
                .await?;
            delegator = agent;
            parent = Some(link);
        }
        last.extend(parent);
    }
    Ok((identities, last))
}

/// Nothing was verified before: the token's signature and that of each link of its chain
/// are looked at, and nothing else is done twice for them to be compared with.
async fn first(report: &mut Report) -> Outcome {
    let bare = Bare::new()?;
    for (name, length, known) in [
        (VERIFY.to_owned(), 1, false),
        (format!("{VERIFY}/chain_known"), 1, true),
        (format!("{VERIFY}/depth_8"), DEEPEST, false),
    ] {
        if !report.wants(&name) {
            continue;
        }
        let (mut identities, links) = chains(CHAINS, length).await?;
        let token = |link: &LinkId| identities.token(*link);
        let tokens = links.iter().map(token).collect::<Outcome<Vec<_>>>()?;
        let others = links.iter().map(token).collect::<Outcome<Vec<_>>>()?;
        let signatures = if known { 1 } else { 1 + length };
        let (mut took, mut bare_took) = (Sample::new(), Sample::new());
        for _ in 0..RESTARTS {
            identities.restart().await?;
            for (token, other) in tokens.iter().zip(&others) {
                if known {
                    // Another token of the same chain.
                    identities.nhi.verify_token(other)?;
                }
                let start = Instant::now();
                let verified = black_box(identities.nhi.verify_token(black_box(token)));
                took.add(start.elapsed());
                verified?;
                let start = Instant::now();
                for _ in 0..signatures {
                    bare.verify();
                }
                bare_took.add(start.elapsed());
            }
        }
        let peer = match signatures {
            1 => "both halves of its signature, bare".to_owned(),
            count => format!("both halves of {count} signatures, bare"),
        };
        let entry = Entry::latency(&name, "us", took.micros());
        report.add(entry.beside(&peer, bare_took.micros().median));
    }
    Ok(())
}

/// The two libraries' own verification of a composite signature's halves.
struct Bare {
    message: Vec<u8>,
    ed_public: UnparsedPublicKey<Vec<u8>>,
    ed_signature: Vec<u8>,
    ml_public: MLDSA65VerificationKey,
    ml_signature: MLDSA65Signature,
}

/// About what a token signs.
const MESSAGE: usize = 700;
const CONTEXT: &[u8] = b"bench";

impl Bare {
    fn new() -> Result<Self, Box<dyn Error>> {
        let message = vec![7; MESSAGE];
        let ed = Ed25519KeyPair::generate()?;
        let ml = ml_dsa_65::generate_key_pair([3; 32]);
        let signed = ml_dsa_65::sign(&ml.signing_key, &message, CONTEXT, [5; 32]);
        Ok(Self {
            ed_public: UnparsedPublicKey::new(&ED25519, ed.public_key().as_ref().to_vec()),
            ed_signature: ed.sign(&message).as_ref().to_vec(),
            ml_public: ml.verification_key,
            ml_signature: signed.map_err(|error| format!("{error:?}"))?,
            message,
        })
    }

    fn verify(&self) {
        let message = black_box(&self.message);
        let _ = black_box(self.ed_public.verify(message, &self.ed_signature));
        let verified = ml_dsa_65::verify(&self.ml_public, message, CONTEXT, &self.ml_signature);
        let _ = black_box(verified);
    }
}

/// What a request does whose token was verified before: it reads the clock, finds the
/// handle by the whole token, and looks whether the chain still holds.
fn again(report: &mut Report, identities: &Identities, links: &[LinkId]) -> Outcome {
    let world = World::new(1)?;
    let verified: VerifiedTokens<Bound> = VerifiedTokens::new();
    let nhi = &identities.nhi;
    let clock = identities.clock.as_ref();
    let mut tokens = Vec::with_capacity(links.len());
    for link in links {
        let token = identities.token(*link)?;
        let (ended, now) = (nhi.tokens_ended(), clock.reading());
        let bound = world.authz.bind(nhi.verify_token(&token)?);
        verified.keep(&token, ended, now, bound);
        tokens.push(token);
    }
    // Now and then so many belong to one place that one of them is kept no more.
    let now = clock.reading();
    tokens.retain(|token| {
        verified
            .get(token, nhi.tokens_ended(), now, |_| true)
            .is_some()
    });
    let first = tokens.first().map_or(&[][..], |token| token.as_bytes());
    let hashed = Sample::time(Duration::from_millis(200), 16, || {
        black_box(digest::digest(&digest::SHA256, black_box(first)));
    });
    let hashed = hashed.nanos().median;
    for (name, among) in [
        (LOOKUP.to_owned(), 1),
        (format!("{LOOKUP}/1k"), tokens.len()),
    ] {
        let mut ticks = Ticks::new();
        let mut compared = Ticks::new();
        let copies = tokens.clone();
        let mut numbers = Numbers::new(1);
        for turn in 0..LOOKUPS {
            let number = numbers.below(among);
            let (Some(token), Some(copy)) = (tokens.get(number), copies.get(number)) else {
                continue;
            };
            let found = ticks.time(|| {
                let now = clock.reading();
                let holds = |bound: &Bound| bound.live(now).is_ok();
                verified.get(black_box(token), nhi.tokens_ended(), now, holds)
            });
            if found.is_none() {
                return Err("a token that was verified is not found".into());
            }
            compared.time(|| black_box(black_box(token) == black_box(copy)));
            if turn == LOOKUPS / 10 {
                // What came before warmed up.
                ticks.histogram.reset();
                compared.histogram.reset();
            }
        }
        let compared = compared.summary().median;
        report.add(
            Entry::latency(&name, "ns", ticks.summary())
                .beside("the 50 ns it may take", 50.0)
                .beside("a token compared with a copy of it", compared)
                .beside("SHA-256 of a token", hashed),
        );
    }
    Ok(())
}
