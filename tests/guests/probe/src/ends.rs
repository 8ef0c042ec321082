//! What `disconnected` was told, counted in the registry. Both flavours have this file.

use fanfare_guest::{Disconnection, Result, registry};
use serde_json::{Value, json};

/// Before the id of a connection that has ended.
const DISCONNECTED: &str = "disconnected:";

/// Notes the end of a connection.
pub(crate) fn note(gone: Disconnection) {
    let key = format!("{DISCONNECTED}{}", gone.connection_id);
    let times = registry::get::<String>(&key)
        .ok()
        .and_then(|known| serde_json::from_str::<Value>(&known).ok());
    let times = times.and_then(|known| known["times"].as_u64()).unwrap_or(0) + 1;
    let known = json!({ "channels": gone.channels, "reason": format!("{:?}", gone.reason), "times": times });
    if let Err(error) = registry::set(&key, &known.to_string()) {
        eprintln!("the end of a connection was not noted: {error}");
    }
    eprintln!(
        "disconnected {} {:?} {:?}",
        gone.connection_id, gone.reason, gone.channels
    );
    let letter = crate::version::letter();
    eprintln!(
        "version {letter} heard of the end of {}",
        gone.connection_id
    );
}

/// What was noted, by the id of the connection.
pub(crate) fn known() -> Result<Value> {
    let mut known = serde_json::Map::new();
    for key in registry::keys() {
        if let Some(id) = key.strip_prefix(DISCONNECTED) {
            known.insert(
                id.to_owned(),
                serde_json::from_str(&registry::get::<String>(&key)?)?,
            );
        }
    }
    Ok(known.into())
}
