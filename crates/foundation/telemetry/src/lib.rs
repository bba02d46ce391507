//! creto-telemetry.
