//! Routes about the keys of the organization.

use axum::routing::on;
use creto_governor::{
    AlgorithmsAnswer, LogRetirementAnswer, LogRetirementRequest, LogRotationAnswer,
    RetirementAnswer, RetirementRequest, RotationAnswer, RotationRequest,
};

use super::{Route, WHOLE_LOG};
use crate::handlers::authority;

pub(super) fn routes() -> [Route; 5] {
    [
        Route::post(
            "/v1/keys/rotate",
            "rotate_keys",
            "New keys by the algorithms in force; what the old ones made stays valid",
            |f| on(f, authority::rotate_keys),
        )
        .takes::<RotationRequest>()
        .gives::<RotationAnswer>(),
        Route::post(
            "/v1/keys/retire",
            "retire_keys",
            "End the keys that rotations replaced",
            |f| on(f, authority::retire_keys),
        )
        .takes::<RetirementRequest>()
        .gives::<RetirementAnswer>()
        .within(WHOLE_LOG),
        Route::post(
            "/v1/audit/keys/rotate",
            "rotate_log_keys",
            "New keys for the log; those of before sign its checkpoints besides",
            |f| on(f, authority::rotate_log_keys),
        )
        .takes::<RotationRequest>()
        .gives::<LogRotationAnswer>(),
        Route::post(
            "/v1/audit/keys/retire",
            "retire_log_keys",
            "End the keys of the log that a rotation replaced",
            |f| on(f, authority::retire_log_keys),
        )
        .takes::<LogRetirementRequest>()
        .gives::<LogRetirementAnswer>(),
        Route::get(
            "/v1/keys/algorithms",
            "get_algorithms",
            "The algorithms that are in force, and what the configuration says of them",
            |f| on(f, authority::algorithms),
        )
        .gives::<AlgorithmsAnswer>(),
    ]
}
