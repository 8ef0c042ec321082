//! Ids that a broker gives to events that have none of their own: the epoch of the log, and the event's position.

/// The id of the event at a position.
pub(super) fn id_of(epoch: &str, position: u64) -> String {
    format!("{epoch}-{position}")
}

/// The position in an id that a log of this epoch gave.
pub(super) fn position_of(epoch: &str, id: &str) -> Option<u64> {
    let position = id.strip_prefix(epoch)?.strip_prefix('-')?.parse().ok()?;
    // `parse` takes "+7" and "007" as well, which were never given.
    (id_of(epoch, position) == id).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_given() {
        assert_eq!(position_of("r1", &id_of("r1", 7)), Some(7));
        let most = format!("r1-{}", u64::MAX);
        assert_eq!(position_of("r1", &most), Some(u64::MAX));
        for other in [
            "", "r1", "r1-", "r1-+7", "r1-07", "r1-7 ", "r2-7", "r1-7-7", "r11-7",
        ] {
            assert_eq!(position_of("r1", other), None, "{other}");
        }
        assert_eq!(position_of("r1", &format!("{most}0")), None);
    }
}
