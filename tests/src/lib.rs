//! creto-e2e.
