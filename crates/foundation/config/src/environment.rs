//! Where `${NAME}` finds its value. A dependency, so that a test decides what
//! the environment holds.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;

/// A set of named variables.
pub trait Environment {
    /// The variable's value; `None` when it is not set.
    fn variable(&self, name: &str) -> Option<OsString>;
}

/// The variables of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }
}

impl Environment for BTreeMap<String, String> {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.get(name).map(OsString::from)
    }
}

impl Environment for HashMap<String, String> {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.get(name).map(OsString::from)
    }
}
