//! Who acts, in whose name, and for how long.
//!
//! What this crate promises:
//!
//! - **Authority starts from a human and only shrinks.** A delegation link gives
//!   at most what the link above it holds: rights, time, depth and budget, each
//!   refused with an error of its own ([`EscalationError`]).
//! - **Every link is signed** by its delegator's own key; a stranger verifies a
//!   chain from public data alone ([`verify_chain`]). Links read back from the
//!   store are verified before they give any authority, by public keys that the
//!   wrapped private ones vouch for. (That a store forgot a revocation is not
//!   seen here: that it was made is in the log.)
//! - **Revocation is exact.** Once [`Nhi::revoke`] returns, every identity that
//!   holds the link or one below it is dead in [`AgentIdentity::live`], tokens
//!   and cached handles included.
//! - **So is suspension.** Once [`Nhi::suspend`] returns, every identity in whose
//!   chain the principal stands is dead until [`Nhi::resume`]. Whoever remembers
//!   that an identity was live asks its [`Authority`] whether that still counts.
//! - **So is a change of role.** Once [`Nhi::set_role`] returns, every identity of that
//!   human tells the new [`Role`], those that were handed out before included.
//! - **So is superseding.** Once [`Nhi::supersede_credentials`] returns, no token
//!   that was issued to that human before verifies, and every later one does.
//! - **Tokens are ours or refused.** One algorithm, one header, keys known by
//!   their thumbprint; nothing in a token chooses how it is checked.
//! - **A bound token is its holder's alone.** One that names a key is refused without
//!   a proof by that key, made for the very request and accepted once, whatever the
//!   clocks do and whenever the process ends (RFC 9449).
//! - **So is revocation of a key.** Once [`Nhi::revoke_key`] returns, nothing that it
//!   signed gives authority, is given out or is believed: its links and all below them,
//!   prekeys and statements. A key that was only replaced goes on verifying.
//! - **Private keys** are made here, one a principal and one a purpose of each
//!   organization, stored only wrapped under the root key and wiped from memory
//!   after use.
//! - **What an agent signs is told apart** from every delegation and token by a frame and
//!   context of its own, and names its signer and its purpose ([`SignedStatement`]).
//! - **Secrets are sealed** under the organization's wrapping key, bound to their
//!   name and version. A lease is used only in a transaction in which it still holds,
//!   and its evidence is durable before the value is seen.
//! - **A prekey that serves once is given out once**, to one taker, whatever happens
//!   meanwhile. Its private half never comes here.
//! - **Organizations never mix.** No call reads across them.
//!
//! All reads are served from memory; [`Nhi::open`] loads everything. Changes are
//! drafted first (nothing is changed) and then committed together with their
//! evidence; memory follows the store, never the other way round.
//!
//! This crate decides nothing about actions, counts no budget and keeps no
//! sessions. Formats: `docs/formats/delegation.md` and
//! `docs/formats/keys-and-tokens.md`.

mod authority;
mod budget;
mod bundle;
mod chain;
#[cfg(feature = "test-util")]
pub mod conformance;
mod credentials;
mod dpop;
mod drafts;
mod ends;
mod error;
mod expulsion;
mod framing;
mod identity;
mod index;
mod instance;
mod keys;
mod link;
mod log_keys;
#[cfg(feature = "test-util")]
pub mod memory;
mod ports;
mod prekeys;
mod principal;
mod principal_keys;
mod registry;
mod revocation;
mod rights;
mod roles;
mod rotation;
mod secrets;
mod service;
mod signing;
mod since;
mod suspension;
mod table;
#[cfg(feature = "test-util")]
pub mod test_util;
mod token;
mod tokens;
mod verified;

pub use authority::{Authority, Standing};
pub use budget::{Budget, BudgetPeriod};
pub use chain::verify_chain;
pub use credentials::{EpochId, EpochKind, IssuedTokens};
/// Part of what a store keeps.
pub use creto_crypto::{WrappedKey, WrappingKey};
pub use dpop::{DpopError, Exchanging, MAX_PROOF_LEN, MAX_PROOFS_PER_PRINCIPAL, NONCE_TURN, Proof};
pub use drafts::{DelegationRequest, IssuedToken, NhiConfig, OrganizationDraft, PrincipalDraft};
pub use ends::TokenEnds;
pub use error::{ChainError, EscalationError, NhiError};
pub use identity::{AgentIdentity, IdentityError, Narrowed, TokenId, TokenKind};
pub use instance::InstanceName;
pub use keys::{KeyPurpose, StoredKey, UnknownKeyPurpose, key_id};
pub use link::{
    DELEGATION_CONTEXT, DelegationLink, Hop, KnownLink, LinkId, LinkKind, LinkStatus, LinkView,
    MAX_RIGHTS, SignedLink, verify_link,
};
pub use log_keys::{LogRotationDraft, LogSigners};
pub use ports::{
    FormerIssuer, FormerLogKey, HumanCredentials, KeyHolder, NhiStore, Part, Presented, Rewrapped,
    Snapshot, StoredEpoch, StoredExpulsion, StoredFormerKey, StoredKeyChange, StoredKeyRevocation,
    StoredLink, StoredLogRotation, StoredOrganization, StoredPrincipal, StoredRole, StoredRotation,
    StoredSuspension,
};
pub use prekeys::{
    AvailablePrekey, ChosenPrekey, MAX_ONE_TIME_PREKEYS, NewPrekeys, PREKEY_LABEL, Prekey,
    PrekeyId, PrekeyIdError, PrekeyKind, PrekeyStore, PrekeysDraft, PrekeysLeft, UnknownPrekeyKind,
};
pub use principal::{Organization, Principal, PrincipalType, Role, UnknownRole};
pub use principal_keys::{KeyVersion, MAX_PRINCIPAL_KEYS, PrincipalKey, PrincipalKeyDraft};
pub use rights::{MAX_PATTERN_LEN, Pattern, PatternError, Right};
pub use rotation::{Retiring, RotationDraft, RotationSummary};
pub use secrets::{
    HandOver, LeaseId, LeaseKind, MAX_SECRET_LEN, SecretName, SecretNameError, SecretStore,
    StoredLease, StoredSecret,
};
pub use service::Nhi;
pub use signing::{
    KnownPrincipal, MAX_SIGNED_LEN, PassedOver, PublicKey, PublicKeys, RevokedKey,
    SIGNED_DIGEST_LABEL, SIGNED_LABEL, Signable, SignedStatement, SigningPurpose,
    SigningPurposeError, StatementError,
};
pub use verified::{TokensEnded, VerifiedTokens};
