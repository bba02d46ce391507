//! creto-state-sqlite.
