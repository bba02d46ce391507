//! The routes of signatures and of the keys by which they are checked.

use axum::routing::on;
use creto_governor::{PublicKeysAnswer, SignRequest, SigningAnswer};

use super::Route;
use crate::handlers::signing;

pub(super) fn routes() -> [Route; 2] {
    [
        Route::post(
            "/v1/signatures",
            "sign",
            "Sign a message with the caller's own key, when policies permit it",
            |f| on(f, signing::sign),
        )
        .takes::<SignRequest>()
        .gives::<SigningAnswer>(),
        Route::get(
            "/v1/public-keys",
            "get_public_keys",
            "By which keys what a principal signed is checked",
            |f| on(f, signing::public_keys),
        )
        .query::<signing::KeysQuery>()
        .gives::<PublicKeysAnswer>(),
    ]
}
