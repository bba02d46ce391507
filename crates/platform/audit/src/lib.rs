//! creto-audit.

mod record;

pub use record::{RecordClass, leaf_bytes};
