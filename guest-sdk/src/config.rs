//! The variables that the operator gave the app.
//!
//! ```
//! use fanfare_guest::{Error, config, testing::Host};
//!
//! let host = Host::new();
//! host.set_config("greeting", "hello").set_config("times", "3");
//! host.run(|| {
//!     assert_eq!(config::require("greeting")?, "hello");
//!     assert_eq!(config::get("farewell")?, None);
//!     assert_eq!(config::parse::<u32>("times")?, Some(3));
//!     assert!(matches!(config::parse::<u32>("greeting"), Err(Error::Invalid(_))));
//!     Ok::<(), Error>(())
//! })?;
//! # Ok::<(), Error>(())
//! ```

use std::{fmt::Display, str::FromStr};

use crate::{Error, Result, sys};

/// The value of a variable; `None` where there is no such variable.
pub fn get(name: &str) -> Result<Option<String>> {
    sys::config::get(name)
}

/// The value of a variable that has to be there, else [`Error::NotFound`].
pub fn require(name: &str) -> Result<String> {
    get(name)?.ok_or_else(|| Error::NotFound(format!("the app's variable `{name}` is not set")))
}

/// The value of a variable as a number or another type; [`Error::Invalid`] where it does not parse.
/// The error names the variable but not its value, which may be a secret.
pub fn parse<T>(name: &str) -> Result<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    get(name)?
        .map(|value| {
            value
                .trim()
                .parse()
                .map_err(|error| Error::Invalid(format!("the app's variable `{name}`: {error}")))
        })
        .transpose()
}

/// The parts of a variable that is separated by commas, without the blanks around them; none where there is no
/// such variable.
///
/// ```
/// # use fanfare_guest::{config, testing::Host};
/// # let host = Host::new();
/// host.set_config("colours", "red, green,");
/// # host.run(|| {
/// assert_eq!(config::list("colours")?, ["red", "green"]);
/// assert!(config::list("shapes")?.is_empty());
/// # Ok::<(), fanfare_guest::Error>(()) })?;
/// # Ok::<(), fanfare_guest::Error>(())
/// ```
pub fn list(name: &str) -> Result<Vec<String>> {
    let value = get(name)?.unwrap_or_default();
    let parts = value
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    Ok(parts.map(str::to_owned).collect())
}

/// All variables with their values, sorted by name.
pub fn all() -> Result<Vec<(String, String)>> {
    let mut all = sys::config::all()?;
    all.sort();
    Ok(all)
}
