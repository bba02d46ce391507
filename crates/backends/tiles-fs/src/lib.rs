//! creto-tiles-fs.
