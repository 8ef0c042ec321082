//! Where in its source a guest stood when it trapped, as far as it brings along what tells it (DWARF).
//!
//! The engine could look that up itself, and would read all of it anew for every frame of every trap: milliseconds, in
//! which nobody else has the thread, for a call that took microseconds. Here it is read once for each version.

use std::{
    fmt::{self, Write as _},
    mem,
    ops::Range,
};

use addr2line::{
    Context,
    gimli::{Dwarf, EndianSlice, LittleEndian},
};
use parking_lot::Mutex;
use self_cell::self_cell;
use wasmparser::{Parser, Payload};
use wasmtime::{FrameInfo, WasmBacktrace};

/// What the sections begin with that tell of the source.
const SECTION: &str = ".debug_";
/// How the engine begins a backtrace.
const BACKTRACE: &str = "error while executing at wasm backtrace:";

/// The source of a component.
#[derive(Default)]
pub struct Source {
    /// The modules inside it that say something of theirs.
    modules: Vec<Module>,
}

struct Module {
    /// Where in the component its code is. Addresses in what it says of its source are counted from the start.
    code: Range<u64>,
    known: Mutex<Known>,
}

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type Reader<'a> = Context<Bytes<'a>>;

/// Sections, by their names.
type Sections = Vec<(String, Box<[u8]>)>;

self_cell!(
    /// What was read of sections so far, by need, and those.
    struct Read {
        owner: Sections,
        #[not_covariant]
        dependent: Reader,
    }
);

/// What is known of the source of a module.
enum Known {
    /// Nobody has asked yet.
    Unread(Sections),
    /// Somebody has.
    Read(Read),
    /// They cannot be read.
    Unreadable,
}

/// A function in the source, and a place in it.
struct Symbol {
    function: Option<String>,
    place: Option<String>,
}

impl Source {
    /// Finds what a component says of its source. Nothing of that is read yet.
    pub fn of(component: &[u8]) -> Self {
        let mut modules = Vec::new();
        // Those that stand around what is looked at: a module's code and sections, or a component.
        let mut open = Vec::new();
        for payload in Parser::new(0).parse_all(component) {
            // The compiler has refused what is malformed.
            let Ok(payload) = payload else { break };
            match payload {
                Payload::Version { .. } => open.push((0..0, Vec::new())),
                Payload::CodeSectionStart { range, .. } => {
                    if let Some((code, _)) = open.last_mut() {
                        *code = range.start as u64..range.end as u64;
                    }
                }
                Payload::CustomSection(section) if section.name().starts_with(SECTION) => {
                    if let Some((_, sections)) = open.last_mut() {
                        sections.push((section.name().to_owned(), section.data().into()));
                    }
                }
                Payload::End(_) => {
                    if let Some((code, sections)) = open.pop()
                        && !sections.is_empty()
                    {
                        let known = Mutex::new(Known::Unread(sections));
                        modules.push(Module { code, known });
                    }
                }
                _ => {}
            }
        }
        Self { modules }
    }

    /// What a trap says: where the guest stood, and why it trapped.
    pub fn tell(&self, trap: &wasmtime::Error) -> String {
        let Some(backtrace) = trap.downcast_ref::<WasmBacktrace>() else {
            return format!("{trap:?}");
        };
        let mut text = BACKTRACE.to_owned();
        for (number, frame) in backtrace.frames().iter().enumerate() {
            // Writing to a string does not fail.
            let _ = self.write_frame(&mut text, number, frame);
        }
        text.push_str("\n\nCaused by:");
        for cause in trap.chain().map(|cause| cause.to_string()) {
            if !cause.starts_with(BACKTRACE) {
                let _ = write!(text, "\n    {}", cause.replace('\n', "\n    "));
            }
        }
        text
    }

    fn write_frame(&self, text: &mut String, number: usize, frame: &FrameInfo) -> fmt::Result {
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
            return write!(text, "{module}!{}", name());
        }
        for (number, Symbol { function, place }) in symbols.iter().enumerate() {
            match (function, number) {
                (Some(function), 0) => text.push_str(function),
                (None, 0) => text.push_str(&name()),
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
        let mut modules = self.modules.iter();
        let module = modules.find(|module| module.code.contains(&offset));
        module.map_or_else(Vec::new, |module| {
            module
                .known
                .lock()
                .symbols(offset.saturating_sub(module.code.start))
        })
    }
}

impl Known {
    fn symbols(&mut self, address: u64) -> Vec<Symbol> {
        if let Self::Unread(sections) = self {
            *self = Self::read(mem::take(sections));
        }
        match self {
            Self::Read(read) => read.with_dependent(|_, reader| symbols(reader, address)),
            _ => Vec::new(),
        }
    }

    fn read(sections: Sections) -> Self {
        let read = Read::try_new(sections, |sections| {
            let dwarf = Dwarf::load(|wanted| {
                let found = sections.iter().find(|(name, _)| name == wanted.name());
                let bytes = found.map_or(&[][..], |(_, bytes)| bytes);
                Ok::<_, addr2line::gimli::Error>(Bytes::new(bytes, LittleEndian))
            });
            Context::from_dwarf(dwarf?)
        });
        match read {
            Ok(read) => Self::Read(read),
            Err(error) => {
                tracing::debug!(%error, "what a guest says of its source cannot be read");
                Self::Unreadable
            }
        }
    }
}

fn symbols(reader: &Reader<'_>, address: u64) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    let Ok(mut frames) = reader.find_frames(address).skip_all_loads() else {
        return symbols;
    };
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref();
        let name = name.and_then(|name| Some(demangled(&name.raw_name().ok()?)));
        symbols.push(Symbol {
            function: name,
            place: frame.location.and_then(|place| {
                let mut text = place.file?.to_owned();
                for number in [place.line, place.column]
                    .into_iter()
                    .map_while(|number| number)
                {
                    let _ = write!(text, ":{number}");
                }
                Some(text)
            }),
        });
    }
    symbols
}

/// A function's name as people write it: Rust, C++, and C where it is so already.
fn demangled(name: &str) -> String {
    if let Ok(name) = rustc_demangle::try_demangle(name) {
        return format!("{name:#}");
    }
    let cpp = cpp_demangle::Symbol::new(name).ok();
    let cpp = cpp.and_then(|symbol| symbol.demangle().ok());
    cpp.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with one function, at 31, that says this of its source.
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

    #[test]
    fn what_cannot_be_read_of_a_source_says_nothing() {
        let code = 20;
        let odd = [0xff; 40];
        for sections in [
            &[][..],
            &[("name", &odd[..])],
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
            let says = sections.iter().any(|(name, _)| name.starts_with(SECTION));
            assert_eq!(source.modules.len(), usize::from(says));
            for offset in [0, code, code + 2, 1000, u64::MAX] {
                assert!(source.symbols(offset).is_empty(), "{sections:?}");
            }
            for end in 0..module.len() {
                Source::of(&module[..end]);
            }
        }
    }

    #[test]
    fn names_are_written_as_people_write_them() {
        for (mangled, name) in [
            ("_ZN3foo3bar17h05af221e174051e9E", "foo::bar"),
            ("_ZN5space3fooEibc", "space::foo(int, bool, char)"),
            ("main", "main"),
            ("_Z", "_Z"),
            ("", ""),
        ] {
            assert_eq!(demangled(mangled), name);
        }
    }
}
