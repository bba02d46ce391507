//! creto-server.
