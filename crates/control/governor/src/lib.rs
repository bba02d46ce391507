//! The life of one governed action, and everything a caller may ask around it.
//!
//! ```text
//!  authenticate -> decide -> hold -> do -> settle -> prove
//!      nhi         authz   oversight  |    metering   audit
//!                    |                +- runtime
//!                    +-- quota: reserved inside the decision
//! ```
//!
//! The products below know nothing of each other; this crate is where they
//! meet. It promises, for every method that changes something:
//!
//! - **Evidence with the change.** The record of the log, the reply kept for the
//!   idempotency key and the change itself become durable in one transaction,
//!   before the method returns.
//! - **Idempotence.** The same key and request give the same answer again; the
//!   same key with another request is refused and changes nothing. Calls with one
//!   key are made one at a time, and an answer is given again once what it says is in
//!   effect.
//! - **Authority.** What a caller may do follows from the verified identity
//!   alone: owners act for the organization, agents within their own link.
//! - **Fail closed.** An error anywhere is a refusal.
//!
//! It is not a transport: `creto-http` maps these calls to a wire.

mod access_requests;
mod actions;
mod algorithms;
mod answers;
mod billing;
mod caller;
#[cfg(feature = "test-util")]
pub mod conformance;
mod delegation;
mod egress;
mod erasure;
mod error;
mod exchange;
mod export;
mod expulsion;
mod facts;
mod governor;
mod hidden;
mod humans;
mod idempotency;
mod keys;
mod limits;
mod log_keys;
#[cfg(feature = "test-util")]
pub mod memory;
mod ordering;
mod oversight;
mod policies;
mod ports;
mod prekeys;
mod principal_keys;
mod proofs;
mod questions;
mod records;
mod roles;
mod sandboxes;
mod secrets;
mod sessions;
mod settlement;
mod signing;
mod suspension;
mod timestamps;
mod verify;

pub use access_requests::{AccessRequest, ApprovalReference};
pub use actions::ActionRequest;
pub use algorithms::{
    AlgorithmsAnswer, ConfiguredAlgorithms, ConfiguredLists, ListAnswer, ListsAnswer, ListsChange,
    ListsRefusal, ListsReload,
};
pub use answers::{
    ActionAnswer, Answer, BalanceAnswer, BudgetAnswer, DelegationAnswer, DelegationState,
    HopAnswer, InvoiceAnswer, InvoiceLineAnswer, InvoicedEvent, OutcomeKind, OversightAnswer,
    OversightNeeded, PrincipalAnswer, QuotaAnswer, RateExceededAnswer, ReasonAnswer,
    RevocationAnswer, RightAnswer, SandboxAnswer, SandboxState, SelfAnswer, SettlementAnswer,
    SubjectAnswer, SuspensionAnswer, TokenAnswer, UsageAnswer, UsageLine, refusal,
};
pub use billing::{InvoiceRequest, UsageQuery};
pub use caller::{Caller, Origin};
pub use delegation::{BudgetRequest, DelegateRequest, PrincipalRequest, TokenRequest};
pub use egress::{GovernedEgress, NETWORK_EGRESS};
pub use erasure::{ErasureAnswer, ErasureRequest, REPLIES_KEPT_DAYS, Retention};
pub use error::GovernError;
pub use exchange::ExchangeRequest;
pub use export::{EXPORTS_AT_ONCE, Export};
pub use expulsion::{ExpulsionAnswer, ExpulsionRequest};
pub use facts::{ContextJson, ContextJson as Fact, ResourceJson, TypedResource};
pub use governor::{Governor, GovernorConfig, Parts};
pub use hidden::GrantText;
pub use humans::{CredentialRequest, HumanAnswer, HumanRequest, RoleAnswer, RoleRequest};
pub use idempotency::IdempotencyKey;
pub use keys::{RetirementAnswer, RetirementRequest, RotationAnswer, RotationRequest};
pub use limits::{
    LimitAnswer, LimitRequest, LimitSubject, OnExceedName, RateAnswer, RateRequest, RateSubject,
    RemovalAnswer, WindowName,
};
pub use log_keys::{LogRetirementAnswer, LogRetirementRequest, LogRotationAnswer, LogVerifierKeys};
pub use ordering::{Event, MAX_EVENTS, Ordered};
pub use policies::{
    BundleError, Candidate, ChangeCount, CheckedBundle, DifferenceAnswer, DifferenceKindAnswer,
    DryRunAnswer, DryRunRequest, ExceededRights, ExplainAnswer, ExplainRequest, ExplainedPolicy,
    ExplainedPrincipal, FailedTestsAnswer, FilesRequest, FindingAnswer, FollowAnswer,
    FollowRequest, MAX_POLICY_BYTES, MAX_POLICY_FILES, MissingPermitAnswer, NearPermitAnswer,
    NearRight, PoliciesInForceAnswer, PolicyAnswer, PolicyBundleAnswer, PolicyChange, PolicyDiff,
    PolicyFiles, PolicyPlace, PolicyShadow, PolicySource, PolicyText, PolicyVersionAnswer,
    PublishPoliciesRequest, RefusedAnswer, ReloadError, RollbackPoliciesRequest, ShadowAnswer,
    TestAnswer, TestCase, TestReport, ValidationAnswer, VerdictAnswer,
};
pub use ports::{
    ActionRecords, CommitStore, Erasure, Expiry, PolicyStore, PolicyVersion, Replies, Resealed,
    SandboxRow, SandboxStore, ServedPolicies, SubjectStore,
};
pub use prekeys::{
    EncapsulationKeyValue, PrekeyAnswer, PrekeysAnswer, PrekeysRequest, PublishPrekeysAnswer,
    PublishedPrekeys, TakePrekeyAnswer, TakePrekeyRequest,
};
pub use principal_keys::{
    KeyRevocationAnswer, KeyRevocationRequest, PrincipalKeyAnswer, PrincipalKeyRequest,
};
pub use proofs::Exchange;
pub use questions::{
    ApprovalNeeded, Asking, BatchRule, MAX_FACTS, MAX_QUESTIONS, MAX_TEXTS, Question,
    QuestionAnswer, Subject,
};
pub use records::{ACTION_DECIDED, EGRESS_CHECKED, OrganizationCreated};
pub use roles::Call;
pub use sandboxes::{Bindings, LimitsRequest, MountRequest, SandboxRequest};
pub use secrets::{
    HandOverAnswer, HandOverRequest, LeaseAnswer, LeaseRequest, SecretAnswer, SecretReadRequest,
    SecretReading, SecretRequest, SecretValue,
};
pub use signing::{
    KeyState, PublicKeyAnswer, PublicKeysAnswer, SignRequest, SignatureValue, SigningAnswer,
    StatementAnswer,
};
pub use suspension::SuspensionRequest;
pub use timestamps::MAX_TIMESTAMPS;
pub use verify::RecordChecker;
