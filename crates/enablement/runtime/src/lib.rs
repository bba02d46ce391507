//! creto-runtime.
