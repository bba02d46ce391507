//! The OpenID AuthZEN Authorization API 1.0: what arrives ([`decode_evaluation`],
//! [`decode_evaluations`]), and what is answered. `docs/authzen.md` is its manual.
//!
//! An evaluation is a question about authority and nothing else: see
//! [`creto_governor::Question`]. Members that the specification does not know are
//! ignored, as it demands (section 10.1.1); what it knows is read strictly.

mod answer;
mod decode;

pub(crate) use answer::{Decided, EVALUATION, EVALUATIONS, EvaluationsAnswer, METADATA, Metadata};
pub(crate) use decode::EvaluationsRequest;
pub use decode::{DecodeError, Evaluation, Evaluations, decode_evaluation, decode_evaluations};

/// Whether a path is of this interface: its requests name themselves, and their
/// answers carry that name (section 10.1.3).
pub(crate) fn is_request(path: &str) -> bool {
    path == EVALUATION || path == EVALUATIONS
}
