//! Queries of the few requests that ask a server for work.

use std::collections::HashMap;

/// The pairs of a query. Nothing in it is encoded.
pub struct Query<'a>(HashMap<&'a str, &'a str>);

impl<'a> Query<'a> {
    /// Takes a query apart.
    pub fn new(query: &'a str) -> Self {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.collect())
    }

    /// A text; fails with a sentence that it is missing.
    pub fn text(&self, name: &str) -> Result<String, String> {
        let value = self.0.get(name).ok_or(format!("{name} is missing"))?;
        Ok((*value).to_owned())
    }

    /// A number; fails with a sentence that it is missing or none.
    pub fn number(&self, name: &str) -> Result<u64, String> {
        let value = self.text(name)?;
        value.parse().map_err(|_| format!("{name} is no number"))
    }
}
