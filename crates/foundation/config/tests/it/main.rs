//! The loader and the `[integrations.*]` sections against whole files.

#[cfg(test)]
mod integrations;
#[cfg(test)]
mod loader;

#[cfg(test)]
use std::collections::BTreeMap;

#[cfg(test)]
fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
