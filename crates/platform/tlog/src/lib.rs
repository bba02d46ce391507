//! creto-tlog.
