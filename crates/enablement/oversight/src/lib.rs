//! creto-oversight.
