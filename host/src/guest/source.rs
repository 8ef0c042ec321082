//! Where in its source a guest stood when it trapped, as far as it brings along what tells it (DWARF).
//!
//! The engine could look that up itself, and would read all of it anew for every frame of every trap: milliseconds, in
//! which nobody else has the thread, for a call that took microseconds. Here it is read once for each version, by the
//! threads that compile guests, when the first of its calls has trapped.
//!
//! - [`bounds`]: what of it is not read, because it was made to do harm.
//! - [`panicked`]: what of a backtrace is what Rust does once a guest has panicked.
//! - [`text`]: texts that do not become as long as a guest likes.

mod bounds;
mod panicked;
mod text;

use std::{
    fmt::{self, Write as _},
    mem,
    ops::Range,
    sync::{Arc, OnceLock},
};

use addr2line::{
    Context,
    gimli::{self, AbbreviationsCacheStrategy, EndianSlice, LittleEndian, SectionId},
};
use parking_lot::Mutex;
use self_cell::self_cell;
use tokio::task::spawn_blocking;
use wasmparser::{Parser, Payload};
use wasmtime::{FrameInfo, WasmBacktrace};

use self::{
    bounds::Refused,
    text::{Text, bounded, demangled},
};
use super::engine::Guests;

/// The sections that are read.
const SECTIONS: [SectionId; 10] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugAranges,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];
/// How the engine begins a backtrace.
const BACKTRACE: &str = "error while executing at wasm backtrace:";
/// The longest text of a trap, in bytes: more than of anything that is logged, so that secrets in it are found whole.
const TEXT: usize = 64 * 1024;
/// The longest cause of a trap, in bytes.
const CAUSE: usize = 4 * 1024;
/// Functions that were inlined into one another and are named.
const INLINED: usize = 32;

/// The source of a component.
pub struct Source {
    /// What its modules say of theirs. Nobody has asked yet.
    unread: Mutex<Vec<Unread>>,
    /// The same once somebody has.
    modules: OnceLock<Vec<Module>>,
}

/// Sections, by their names.
type Sections = Vec<(&'static str, Box<[u8]>)>;

/// What a module says of its source.
struct Unread {
    /// Where in the component its code is. Addresses in what it says of its source are counted from the start.
    code: Range<u64>,
    sections: Sections,
}

/// A module with what was read.
struct Module {
    code: Range<u64>,
    read: Mutex<Read>,
}

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type Dwarf<'a> = gimli::Dwarf<Bytes<'a>>;
type Reader<'a> = Context<Bytes<'a>>;

self_cell!(
    /// Sections, and what was read of them so far: functions and lines are, by need.
    struct Read {
        owner: Sections,
        #[not_covariant]
        dependent: Reader,
    }
);

/// A function in the source, and a place in it.
struct Symbol {
    function: Option<String>,
    place: Option<String>,
}

impl Source {
    /// Finds what a component says of its source. Nothing of that is read yet.
    pub fn of(component: &[u8]) -> Self {
        let mut unread = Vec::new();
        // Those that stand around what is looked at: modules, and the components that they are in.
        let mut open = Vec::new();
        for payload in Parser::new(0).parse_all(component) {
            // The compiler has refused what is malformed.
            let Ok(payload) = payload else { break };
            match payload {
                Payload::Version { .. } => open.push(Unread {
                    code: 0..0,
                    sections: Vec::new(),
                }),
                Payload::CodeSectionStart { range, .. } => {
                    if let Some(module) = open.last_mut() {
                        module.code = range.start as u64..range.end as u64;
                    }
                }
                Payload::CustomSection(section) => {
                    let known = SECTIONS.into_iter().map(|known| known.name());
                    if let Some(name) = known.into_iter().find(|name| *name == section.name())
                        && let Some(module) = open.last_mut()
                    {
                        module.sections.push((name, section.data().into()));
                    }
                }
                Payload::End(_) => {
                    let module = open.pop();
                    let tells =
                        |module: &Unread| !module.code.is_empty() && !module.sections.is_empty();
                    unread.extend(module.filter(tells));
                }
                _ => {}
            }
        }
        Self {
            unread: Mutex::new(unread),
            modules: OnceLock::new(),
        }
    }

    /// Reads it, unless it was read before.
    pub async fn read(self: &Arc<Self>, guests: &Guests) {
        if self.modules.get().is_some() {
            return;
        }
        let (source, guests) = (self.clone(), guests.clone());
        // By way of the runtime: threads that this one started would have its priority, and serve others later on.
        let read = tokio::spawn(async move {
            spawn_blocking(move || guests.compile(|| source.read_now())).await
        });
        if let Err(error) = read.await.flatten() {
            tracing::debug!(%error, "what a guest says of its source was not read");
        }
    }

    fn read_now(&self) {
        self.modules.get_or_init(|| {
            let unread = mem::take(&mut *self.unread.lock());
            unread.into_iter().filter_map(Unread::read).collect()
        });
    }

    /// What a trap says: where the guest stood, and why it trapped.
    pub fn tell(&self, trap: &wasmtime::Error) -> String {
        bounded(TEXT, |text| self.write(text, trap))
    }

    fn write(&self, text: &mut Text, trap: &wasmtime::Error) -> fmt::Result {
        let Some(backtrace) = trap.downcast_ref::<WasmBacktrace>() else {
            return write!(text, "{trap:?}");
        };
        text.write_str(BACKTRACE)?;
        let frames = backtrace.frames();
        let functions = frames.iter().map(FrameInfo::func_name);
        let left_out =
            panicked::depth(functions.map(|name| name.map(demangled).unwrap_or_default()));
        for (number, frame) in frames[left_out..].iter().enumerate() {
            self.write_frame(text, number, frame)?;
        }
        text.write_str("\n\nCaused by:")?;
        for cause in trap.chain() {
            let cause = bounded(CAUSE, |text| write!(text, "{cause}"));
            if !cause.starts_with(BACKTRACE) {
                write!(text, "\n    {}", cause.replace('\n', "\n    "))?;
            }
        }
        Ok(())
    }

    fn write_frame(&self, text: &mut Text, number: usize, frame: &FrameInfo) -> fmt::Result {
        let offset = frame.module_offset().map(|offset| offset as u64);
        write!(text, "\n  {number:>3}: ")?;
        if let Some(offset) = offset {
            write!(text, "{offset:#8x} - ")?;
        }
        let name = || match frame.func_name() {
            Some(name) => demangled(name),
            None => format!("<wasm function {}>", frame.func_index()),
        };
        let symbols = offset.map(|offset| self.symbols(offset));
        let symbols = symbols.unwrap_or_default();
        if symbols.is_empty() {
            let module = frame.module().name().unwrap_or("<unknown>");
            return write!(text, "{}!{}", text::short(module), name());
        }
        for (number, Symbol { function, place }) in symbols.iter().enumerate() {
            let function = function.as_deref().map(demangled);
            match (function, number) {
                (Some(function), 0) => text.write_str(&function)?,
                (None, 0) => text.write_str(&name())?,
                // The ones that it was inlined into.
                (Some(function), _) => write!(text, "\n{:16}- {function}", "")?,
                (None, _) => write!(text, "\n{:16}- <inlined function>", "")?,
            }
            if let Some(place) = place {
                write!(text, "\n{:20}at {place}", "")?;
            }
        }
        Ok(())
    }

    /// What stands at this place in the component: the innermost function first.
    fn symbols(&self, offset: u64) -> Vec<Symbol> {
        let mut modules = self.modules.get().into_iter().flatten();
        let module = modules.find(|module| module.code.contains(&offset));
        module.map_or_else(Vec::new, |module| {
            let address = offset.saturating_sub(module.code.start);
            let read = module.read.lock();
            read.with_dependent(|_, reader| symbols(reader, address))
        })
    }
}

impl Unread {
    /// `None` where it cannot or must not be read.
    fn read(self) -> Option<Module> {
        let Self { code, sections } = self;
        let read = Read::try_new(sections, |sections| {
            let mut dwarf = dwarf(sections)?;
            dwarf.populate_abbreviations_cache(AbbreviationsCacheStrategy::Duplicates);
            bounds::check(&dwarf)?;
            Ok::<_, Refused>(Context::from_dwarf(dwarf)?)
        });
        match read {
            Ok(read) => Some(Module {
                code,
                read: Mutex::new(read),
            }),
            Err(error) => {
                tracing::debug!(%error, "what a guest says of its source is not read");
                None
            }
        }
    }
}

fn dwarf(sections: &Sections) -> gimli::Result<Dwarf<'_>> {
    gimli::Dwarf::load(|wanted| {
        let found = sections.iter().find(|(name, _)| *name == wanted.name());
        let bytes = found.map_or(&[][..], |(_, bytes)| bytes);
        Ok(Bytes::new(bytes, LittleEndian))
    })
}

/// Names are not demangled yet: that takes its time, and others wait for the reader.
fn symbols(reader: &Reader<'_>, address: u64) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    let Ok(mut frames) = reader.find_frames(address).skip_all_loads() else {
        return symbols;
    };
    while symbols.len() < INLINED
        && let Ok(Some(frame)) = frames.next()
    {
        let name = frame.function.as_ref();
        let name = name.and_then(|name| name.raw_name().ok());
        symbols.push(Symbol {
            function: name.map(|name| text::short(&name).to_owned()),
            place: frame.location.and_then(|place| {
                let mut text = text::short(place.file?).to_owned();
                for number in [place.line, place.column]
                    .into_iter()
                    .map_while(|number| number)
                {
                    // Writing to a string does not fail.
                    let _ = write!(text, ":{number}");
                }
                Some(text)
            }),
        });
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with one function, whose code section has its contents at 20, that says this of its source.
    fn module(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        // A type of no parameters and results, a function of that type, its code.
        module.extend([1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 4, 1, 2, 0, 0x0b]);
        for (name, data) in sections {
            let [length, size] = [name.len(), name.len() + 1 + data.len()];
            module.extend([
                0,
                u8::try_from(size).unwrap(),
                u8::try_from(length).unwrap(),
            ]);
            module.extend([name.as_bytes(), data].concat());
        }
        module
    }

    /// What stands at the start of the code.
    fn symbols_of(sections: &[(&str, &[u8])]) -> usize {
        let source = Source::of(&module(sections));
        source.read_now();
        source.symbols(20).len()
    }

    #[test]
    fn what_cannot_be_read_of_a_source_says_nothing() {
        let odd = [0xff; 40];
        for sections in [
            &[][..],
            &[("name", &odd[..])],
            &[(".debug_odd", &odd)],
            &[(".debug_info", &odd)],
            &[
                (".debug_info", &odd),
                (".debug_abbrev", &odd),
                (".debug_line", &odd),
            ],
            &[(".debug_info", &[]), (".debug_line", &[1, 2, 3])],
        ] {
            let module = module(sections);
            let source = Source::of(&module);
            source.read_now();
            for offset in [0, 20, 22, 1000, u64::MAX] {
                assert!(source.symbols(offset).is_empty(), "{sections:?}");
            }
            for end in 0..module.len() {
                Source::of(&module[..end]).read_now();
            }
        }
    }

    /// A function at the start of the code, with so many that were inlined, each into the one before it.
    fn nested(depth: usize) -> usize {
        // Three kinds: a unit, a function, one that was inlined (DW_TAG_compile_unit, _subprogram, _inlined_subroutine).
        // All may hold others.
        // From where (DW_AT_low_pc, an address), and how long (DW_AT_high_pc, a byte).
        let within = [0x11, 0x01, 0x12, 0x0b, 0, 0];
        let kind = |number, tag| [&[number, tag, 1][..], &within].concat();
        let mut abbreviations = [kind(1, 0x11), kind(2, 0x2e), kind(3, 0x1d)].concat();
        abbreviations.push(0);
        let mut entries = vec![1, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 4];
        entries.extend([3, 0, 0, 0, 0, 4].repeat(depth));
        entries.resize(entries.len() + depth + 2, 0);
        // DWARF 4, with addresses of 4 bytes.
        let mut unit = u32::try_from(entries.len() + 7)
            .unwrap()
            .to_le_bytes()
            .to_vec();
        unit.extend([4, 0, 0, 0, 0, 0, 4]);
        unit.extend(entries);
        let source = Unread {
            code: 20..24,
            sections: vec![
                (".debug_info", unit.into()),
                (".debug_abbrev", abbreviations.into()),
            ],
        };
        let read = source.read();
        read.map_or(0, |module| {
            let read = module.read.lock();
            read.with_dependent(|_, reader| symbols(reader, 0).len())
        })
    }

    #[test]
    fn functions_are_found_and_no_depth_of_them_does_harm() {
        assert_eq!(nested(0), 1);
        assert_eq!(nested(5), 6);
        assert_eq!(nested(100), INLINED);
        for depth in [1_000, 100_000] {
            assert_eq!(nested(depth), 0);
        }
        assert_eq!(symbols_of(&[(".debug_info", &[0])]), 0);
    }
}
