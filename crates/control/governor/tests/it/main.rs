//! The use cases over in-memory backends and a clock that stands still.

mod actions;
mod algorithms;
mod authority;
mod billing;
mod evidence;
mod exactness;
mod explain;
mod expulsion;
mod held;
mod holes;
mod limits;
mod ordering;
mod policies;
mod policies_lost;
mod ports;
mod prekeys;
mod principal_keys;
mod races;
mod retention;
mod roles;
mod sandboxes;
mod secrets;
mod signing;
mod suspension;
mod tokens;
mod world;
