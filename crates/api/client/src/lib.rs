//! creto-client.
