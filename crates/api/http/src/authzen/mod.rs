//! The OpenID AuthZEN Authorization API 1.0: what arrives ([`decode_evaluation`],
//! [`decode_evaluations`]), and what is answered. `docs/authzen.md` is its manual.
//!
//! An evaluation is a question about authority and nothing else: see
//! [`creto_governor::Question`]. Where a human has to approve, access is requested
//! in the words of the Access Request and Approval Profile ([`decode_access_request`]). Members that the specification does not know are
//! ignored, as it demands (section 10.1.1); what it knows is read strictly.

mod answer;
mod decode;
mod denial;
mod task;

pub(crate) use answer::{
    Decided, EVALUATION, EVALUATIONS, EvaluationsAnswer, METADATA, Metadata, REQUEST, REQUESTS,
    base,
};
pub use decode::{
    Access, DecodeError, Evaluation, Evaluations, decode_access_request, decode_evaluation,
    decode_evaluations,
};
pub(crate) use decode::{AccessRequestBody, EvaluationsRequest};
pub(crate) use denial::Denials;
pub(crate) use task::{Approval, TaskAnswer};

/// Whether a path is of this interface: its requests name themselves, and their
/// answers carry that name (section 10.1.3).
pub(crate) fn is_request(path: &str) -> bool {
    path.starts_with("/access/v1/")
}
