//! creto-errors.
