//! creto-bench.
