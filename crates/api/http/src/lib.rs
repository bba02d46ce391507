//! creto-http.
