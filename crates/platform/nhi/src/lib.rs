//! creto-nhi.
