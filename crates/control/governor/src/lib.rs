//! creto-governor.
