//! What the hooks were told, counted in the registry. Both flavours have this file.

use fanfare_guest::{Disconnection, Result, registry};
use serde_json::{Value, json};

/// Before the id of a connection that has ended.
const DISCONNECTED: &str = "disconnected:";
/// Before the name of a channel that became occupied or vacated.
const OCCUPANCY: &str = "occupancy:";

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

/// Notes that a channel became occupied or vacated: a letter for each time, in their order.
/// Only of channels with such a name, so that other tests find the registry as they left it.
pub(crate) fn note_occupancy(channel: &str, occupied: bool) {
    if !channel.starts_with("watched") {
        return;
    }
    let key = format!("{OCCUPANCY}{channel}");
    let mut known = registry::get::<String>(&key).unwrap_or_default();
    known.push(if occupied { 'o' } else { 'v' });
    if let Err(error) = registry::set(&key, &known) {
        eprintln!("the occupancy of a channel was not noted: {error}");
    }
}

/// What was noted of a channel.
pub(crate) fn occupancy(channel: &str) -> String {
    registry::get(&format!("{OCCUPANCY}{channel}")).unwrap_or_default()
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
