//! creto-consensus.
