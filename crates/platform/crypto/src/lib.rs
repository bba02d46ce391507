//! creto-crypto.
