//! creto-audit.
