//! The gateway on loopback sockets: no root, no sandbox. What a program would
//! dial is what the test says it dialled.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

mod bounds;
mod dns;
mod http;
mod late;
mod record;
mod stall;
mod tls;
mod world;
