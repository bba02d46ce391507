//! creto-config.
