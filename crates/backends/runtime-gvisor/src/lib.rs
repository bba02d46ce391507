//! creto-runtime-gvisor.
