//! Which version of the guest it is. Tests make others of a component that is built: they put other texts of the same
//! length into its bytes. Both flavours have this file.

use std::hint::black_box;

use fanfare_guest::{Error, Result};

/// Which version it is, behind the colon.
const VERSION: &str = "version-of-the-probe:a";
/// What its start comes to, behind the colon: `good`, `fail`, `trap`, or `spin`.
const START: &str = "start-of-the-probe:good";

/// The letter of the version.
pub(crate) fn letter() -> &'static str {
    behind_colon(VERSION)
}

/// What every start begins with.
pub(crate) fn start() -> Result<()> {
    match behind_colon(START) {
        "fail" => Err(Error::Unavailable("the moon is not full".into())),
        "trap" => panic!("no start"),
        "spin" => loop {
            black_box(());
        },
        _ => Ok(()),
    }
}

/// As it is in the component, and not as it was when that was compiled.
fn behind_colon(marker: &'static str) -> &'static str {
    let marker = black_box(marker);
    marker.split_once(':').map_or(marker, |(_, text)| text)
}
