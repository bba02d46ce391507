//! Log lines and metrics as an operator sees them.

#[cfg(test)]
mod logging;
#[cfg(test)]
mod metrics;
