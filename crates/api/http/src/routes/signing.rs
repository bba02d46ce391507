//! The routes of signatures, of the keys by which they are checked, and of prekeys.

use axum::routing::on;
use creto_governor::{
    PrekeysAnswer, PrekeysRequest, PublicKeysAnswer, PublishPrekeysAnswer, SignRequest,
    SigningAnswer, TakePrekeyAnswer, TakePrekeyRequest,
};

use super::Route;
use crate::handlers::{prekeys, signing};

pub(super) fn routes() -> [Route; 5] {
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
        Route::post(
            "/v1/prekeys",
            "publish_prekeys",
            "Publish prekeys of the calling agent, whose private halves it keeps",
            |f| on(f, prekeys::publish),
        )
        .takes::<PrekeysRequest>()
        .gives::<PublishPrekeysAnswer>(),
        Route::get(
            "/v1/prekeys",
            "get_prekeys",
            "How many prekeys an agent has left",
            |f| on(f, prekeys::left),
        )
        .query::<prekeys::OwnerQuery>()
        .gives::<PrekeysAnswer>(),
        Route::post(
            "/v1/prekeys/take",
            "take_prekey",
            "Take a prekey of an agent: one that serves once, or that of last resort",
            |f| on(f, prekeys::take),
        )
        .takes::<TakePrekeyRequest>()
        .gives::<TakePrekeyAnswer>(),
    ]
}
