//! creto-types.
