//! What of a source is not read, because it was made to do harm: reading DWARF may take far more time, memory and stack
//! than it has bytes, where parts of it are used again and again.

use std::collections::BTreeSet;

use addr2line::gimli::{
    self, DebugAbbrev, DebugAbbrevOffset, LittleEndian, Section as _, constants,
};

use super::Dwarf;

/// Why a source is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0}")]
    Malformed(#[from] gimli::Error),
    #[error("it has {0}")]
    TooMuch(&'static str),
}

/// The most bytes of all that is read of a module, and of its lines, each of which may become a line's entry in memory.
const BYTES: usize = 64 << 20;
const LINE_BYTES: usize = 8 << 20;
/// How deep entries may stand in one another. Reading one that was inlined takes a frame of the stack.
const DEPTH: isize = 256;
/// The most ranges of addresses of all entries. Entries may share theirs.
const RANGES: usize = 1 << 20;

/// An error where it must not be read.
pub(super) fn check(dwarf: &Dwarf<'_>) -> Result<(), Refused> {
    let lines = dwarf.debug_line.reader().len();
    let bytes = [
        dwarf.debug_info.reader().len(),
        dwarf.debug_abbrev.reader().len(),
        dwarf.debug_str.reader().len(),
        lines,
    ];
    if bytes.iter().sum::<usize>() > BYTES || lines > LINE_BYTES {
        return Err(Refused::TooMuch("too many bytes"));
    }
    check_abbreviations(dwarf)?;
    let (mut line_bytes, mut ranges) = (0, 0);
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        if let Some(program) = &unit.line_program {
            line_bytes += program.header().unit_length();
            if line_bytes > 2 * lines {
                return Err(Refused::TooMuch("lines that are used again and again"));
            }
        }
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            if entries.next_depth() > DEPTH {
                return Err(Refused::TooMuch("entries too deep in one another"));
            }
            let Some(abbreviation) = entries.read_abbreviation()? else {
                continue;
            };
            for attribute in abbreviation.attributes() {
                let attribute = entries.read_attribute(*attribute)?;
                if attribute.name() == constants::DW_AT_ranges
                    && let Some(mut of) = dwarf.attr_ranges(&unit, attribute.value())?
                {
                    while of.next()?.is_some() {
                        ranges += 1;
                        if ranges > RANGES {
                            return Err(Refused::TooMuch("too many ranges of addresses"));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Each table of abbreviations ends before the next one begins: else each unit could have all of them anew.
fn check_abbreviations(dwarf: &Dwarf<'_>) -> Result<(), Refused> {
    let mut offsets = BTreeSet::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        offsets.insert(header.debug_abbrev_offset().0);
    }
    let all = dwarf.debug_abbrev.reader().slice();
    let ends = offsets.iter().skip(1).copied().chain([all.len()]);
    for (start, end) in offsets.iter().copied().zip(ends) {
        let table = all.get(start..end).unwrap_or_default();
        DebugAbbrev::new(table, LittleEndian).abbreviations(DebugAbbrevOffset(0))?;
    }
    Ok(())
}
