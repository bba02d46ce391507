//! The life of an organization's policies: written with tests beside them,
//! validated, tried (`shadow`, `dry_run`), published with author and reason, put
//! in force, rolled back, or followed from a directory.
//!
//! What this part promises:
//!
//! - **What is put in force was checked.** It compiled, validated strictly, and
//!   every test beside it passed. What was not accepted changes nothing.
//! - **Publication is exact.** The version and its evidence are durable before it
//!   is put in force, and once the call returned no decision uses the old one.
//! - **Trying changes nothing.** A candidate is asked what was asked or decided
//!   anyway, and answers nobody but its author.

mod answers;
mod bundle;
mod cases;
mod diff;
mod dry_run;
mod explain;
mod force;
mod judge;
mod publish;
mod shadow;

pub use answers::{
    FailedTestsAnswer, FindingAnswer, FollowAnswer, PoliciesInForceAnswer, PolicyAnswer,
    PolicyBundleAnswer, PolicySource, PolicyVersionAnswer, RefusedAnswer, TestAnswer,
    ValidationAnswer,
};
pub use bundle::{
    BundleError, Candidate, CheckedBundle, MAX_POLICY_BYTES, MAX_POLICY_FILES, PolicyFiles,
};
pub use cases::{TestCase, TestReport};
pub use diff::{PolicyChange, PolicyDiff, PolicyText};
pub use dry_run::{ChangeCount, DryRunAnswer, DryRunRequest};
pub use explain::{
    ExceededRights, ExplainAnswer, ExplainRequest, ExplainedPolicy, ExplainedPrincipal,
    MissingPermitAnswer, NearPermitAnswer, NearRight, PolicyPlace,
};
pub(crate) use force::InForce;
pub use force::ReloadError;
pub use judge::VerdictAnswer;
pub use publish::{FilesRequest, FollowRequest, PublishPoliciesRequest, RollbackPoliciesRequest};
pub(crate) use shadow::Observed;
pub use shadow::{DifferenceAnswer, DifferenceKindAnswer, PolicyShadow, ShadowAnswer};
