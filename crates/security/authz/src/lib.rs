//! creto-authz.
