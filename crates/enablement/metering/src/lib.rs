//! creto-metering.
