//! What a component must be to serve as a guest. Every refusal says what was found and what to do about it.

use std::{fmt, fs, io, path::Path, sync::Arc, thread, time::Duration};

use thiserror::Error;
use tokio::{task::spawn_blocking, time::timeout};
use tracing::info;
use wasmtime::{Engine, component::Component};

use super::{engine::Guests, shape::Shape, source::Source, version::VersionId};

/// Whoever waits for a compiler hears of it after so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is tried to seal what memories begin with, and the pause between two attempts.
const SEALINGS: usize = 20;
const SEALING_PAUSE: Duration = Duration::from_millis(50);

/// The version of the contract, for messages.
const CONTRACT: &str = "fanfare:sse@0.1.0";

/// What the host offers: interfaces of a package, and the versions that are compatible. One that ends with a dot stands
/// for all that begin so.
const OFFERED: &[(&str, &[&str], &[&str])] = &[
    (
        "fanfare:sse",
        &[
            "errors",
            "events",
            "requests",
            "connections",
            "redis-clients",
            "redis",
            "redis-async",
            "publishers",
            "publishing",
            "publishing-async",
            "closing",
            "closing-async",
            "registry",
        ],
        &["0.1."],
    ),
    ("wasi:config", &["store"], &["0.2.0-rc.1"]),
    ("wasi:io", &[], &["0.2."]),
    ("wasi:clocks", &[], WASI),
    ("wasi:random", &[], WASI),
    ("wasi:cli", &[], WASI),
    ("wasi:filesystem", &[], WASI),
    ("wasi:sockets", &[], WASI),
    ("wasi:http", &["types", "outgoing-handler", "client"], WASI),
];
/// The versions of WASI; guests of the asynchronous world have both.
const WASI: &[&str] = &["0.2.", WASI_ASYNC];
const WASI_ASYNC: &str = "0.3.";

/// How the interfaces that a guest exports begin, and what those of the asynchronous world have behind their names.
const EXPORTS: &str = "fanfare:sse/";
const ASYNC: &str = "-async";

/// What exports the `main` of a program.
const PROGRAM: &str = "wasi:cli/run";
/// How what is no guest becomes one.
const EXPORT: &str = "a Rust guest gets its exports from `fanfare_guest::export!`";
const LIBRARY: &str = "it is a program with a `main`, and a guest is a library: in Rust one with \
    `crate-type = [\"cdylib\"]` that gets its exports from `fanfare_guest::export!`";

/// Which of the two worlds a guest is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// `app`: one call at a time in an instance.
    Blocking,
    /// `app-async`: many calls wait in an instance side by side.
    Asynchronous,
}

/// A component that is a guest, compiled.
pub struct Checked {
    /// What it is known by.
    pub version: VersionId,
    /// Its world.
    pub flavour: Flavour,
    /// Its code.
    pub component: Component,
    /// What else it wants to hear of.
    pub hooks: Hooks,
    /// Where in its source it stands when it traps.
    pub source: Arc<Source>,
}

/// The optional exports of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hooks {
    /// It wants to hear of connections that end.
    pub disconnect: bool,
    /// It wants to hear of channels that become occupied or vacated.
    pub occupancy: bool,
}

/// Why a component is no guest.
#[derive(Debug, Error)]
#[error("{origin}: {problem}")]
pub struct GuestError {
    origin: String,
    problem: Problem,
}

#[derive(Debug, Error)]
pub(super) enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error(
        "is not WebAssembly; give the .wasm file that `cargo build --target wasm32-wasip2` makes"
    )]
    NotWasm,
    #[error(
        "is a core WebAssembly module and not a component; build it with `cargo build --target wasm32-wasip2`, or make \
         a component of it with `wasm-tools component new`"
    )]
    CoreModule,
    #[error("does not compile: {0}")]
    Compile(String),
    #[error("cannot be made ready for its instances: {0}")]
    Memory(String),
    #[error("imports what this host does not offer:\n{}", .0.join("\n"))]
    Imports(Vec<String>),
    #[error(
        "exports no `{0}`, so it is no guest of the world `app` of {CONTRACT}, nor of `app-async`; {1}"
    )]
    Exports(String, &'static str),
    #[error("does not fit {CONTRACT}: {0}")]
    Mismatch(String),
    #[error("cannot be compiled, because the compiler failed: {0}")]
    Compiler(String),
}

impl GuestError {
    /// A file that cannot be read.
    pub fn unreadable(path: &Path, error: io::Error) -> Self {
        Self::of_file(path, Problem::Unreadable(error))
    }

    /// What is wrong with a file.
    pub(super) fn of_file(path: &Path, problem: Problem) -> Self {
        Self {
            origin: path.display().to_string(),
            problem,
        }
    }

    /// A component that has all its names, and cannot be linked all the same.
    pub fn mismatch(origin: &str, error: &wasmtime::Error) -> Self {
        Self {
            origin: origin.to_owned(),
            problem: Problem::Mismatch(format!("{error:#}")),
        }
    }

    /// What is wrong, of something that was named before.
    pub fn problem(&self) -> impl fmt::Display {
        &self.problem
    }
}

impl Flavour {
    /// The name of an interface that stands twice in the contract, in this world.
    fn export(self, name: &str) -> String {
        match self {
            Self::Blocking => format!("{EXPORTS}{name}"),
            Self::Asynchronous => format!("{EXPORTS}{name}{ASYNC}"),
        }
    }

    /// The world of a component with this shape.
    pub fn of(shape: &Shape) -> Self {
        match exports(shape, &Self::Asynchronous.export("handler")) {
            true => Self::Asynchronous,
            false => Self::Blocking,
        }
    }
}

fn exports(shape: &Shape, wanted: &str) -> bool {
    let mut exports = shape.exports.iter();
    exports.any(|export| export.split('@').next() == Some(wanted))
}

/// Checks that a file is a guest, as far as that is seen without compiling it.
pub fn look(path: &Path) -> Result<(), GuestError> {
    let bytes = fs::read(path).map_err(Problem::Unreadable);
    let shape = bytes.and_then(|bytes| shape(&bytes));
    shape
        .map(drop)
        .map_err(|problem| GuestError::of_file(path, problem))
}

/// Compiles a component and checks that it is a guest. Messages say where it is from.
pub async fn compile(
    guests: &Guests,
    origin: String,
    bytes: bytes::Bytes,
) -> Result<Checked, GuestError> {
    let megabytes = format!("{:.1} MB", bytes.len() as f64 / 1e6);
    let guests = guests.clone();
    let mut compiling = spawn_blocking(move || check(&guests, &bytes));
    let compiled = match timeout(PATIENCE, &mut compiling).await {
        Ok(compiled) => compiled,
        Err(_) => {
            info!(
                "compiling {origin} ({megabytes}), which takes a while the first time; the next time it comes from the \
                 cache"
            );
            compiling.await
        }
    };
    let compiled = compiled.unwrap_or_else(|panic| Err(Problem::Compiler(panic.to_string())));
    compiled.map_err(|problem| GuestError { origin, problem })
}

fn check(guests: &Guests, bytes: &[u8]) -> Result<Checked, Problem> {
    let shape = shape(bytes)?;
    let flavour = Flavour::of(&shape);
    let engine = guests.engine(flavour);
    let component = guests.compile(|| component(engine, bytes))?;
    Ok(Checked {
        version: VersionId::of(bytes),
        flavour,
        component,
        hooks: Hooks {
            disconnect: exports(&shape, &flavour.export("disconnect-hook")),
            occupancy: exports(&shape, &flavour.export("occupancy-hook")),
        },
        source: Arc::new(Source::of(bytes)),
    })
}

/// Refuses what is no component (component-model design, Binary.md): magic, version, and the layer, 0 for a core module.
pub(super) fn preamble(bytes: &[u8]) -> Result<(), Problem> {
    match bytes {
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => Err(Problem::CoreModule),
        [b'\0', b'a', b's', b'm', ..] => Ok(()),
        _ => Err(Problem::NotWasm),
    }
}

/// The shape of a component that imports and exports what a guest may and must.
fn shape(bytes: &[u8]) -> Result<Shape, Problem> {
    preamble(bytes)?;
    let shape = Shape::of(bytes).map_err(|error| Problem::Compile(error.to_string()))?;
    let flavour = Flavour::of(&shape);
    let imports = shape.imports.iter();
    let missing: Vec<_> = imports.filter_map(|name| missing(name, flavour)).collect();
    if !missing.is_empty() {
        return Err(Problem::Imports(missing));
    }
    for (interface, function) in [("handler", "handle"), ("lifecycle", "start")] {
        if !exports(&shape, &flavour.export(interface)) {
            let name = flavour.export(interface);
            let name = format!("{}.{function}", name.trim_start_matches(EXPORTS));
            let remedy = match interface == "handler" && exports(&shape, PROGRAM) {
                true => LIBRARY,
                false => EXPORT,
            };
            return Err(Problem::Exports(name, remedy));
        }
    }
    Ok(shape)
}

fn component(engine: &Engine, bytes: &[u8]) -> Result<Component, Problem> {
    // Never `Component::deserialize`: precompiled code is trusted by the engine, and a guest is not.
    let component = Component::from_binary(engine, bytes)
        .map_err(|error| Problem::Compile(format!("{error:#}")))?;
    // What its memories begin with is put where all instances take it from: here, for the first call of a large guest
    // would take long for it, and would fail where the kernel does not seal it just then, because it holds one of its
    // pages (`F_SEAL_WRITE` in fcntl(2)). It waits for that a while itself, but on a busy machine not long enough.
    let mut sealings = 1;
    while let Err(error) = component.initialize_copy_on_write_image() {
        if sealings == SEALINGS {
            return Err(Problem::Memory(format!("{error:#}")));
        }
        sealings += 1;
        thread::sleep(SEALING_PAUSE);
    }
    Ok(component)
}

/// A line about an import that the host does not offer: its name, and what could provide it.
pub(super) fn missing(import: &str, flavour: Flavour) -> Option<String> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let (package, name) = interface.split_once('/').unwrap_or((interface, ""));
    let hint = match OFFERED.iter().find(|(offered, ..)| *offered == package) {
        Some((_, names, versions)) if names.is_empty() || names.contains(&name) => {
            let offered = versions.iter().find(|offered| version.starts_with(**offered));
            let waits = |offered: &str| name.ends_with(ASYNC) || offered == WASI_ASYNC;
            match offered {
                Some(offered) if flavour == Flavour::Blocking && waits(offered) => {
                    "only guests of the world `app-async` may import it; this one exports `handler`, and not \
                     `handler-async`"
                        .to_owned()
                }
                Some(_) => return None,
                None => {
                    let versions: Vec<_> = versions
                        .iter()
                        .map(|version| version.trim_end_matches('.'))
                        .collect();
                    format!(
                        "the host offers version {} of it; build the guest against that",
                        versions.join(" and ")
                    )
                }
            }
        }
        Some(_) if package == "wasi:http" => {
            "requests come through `fanfare:sse/handler`; those that guests send go through `wasi:http/outgoing-handler`"
                .to_owned()
        }
        Some(_) => format!("{CONTRACT} has no such interface"),
        None => match package {
            "wasi:keyvalue" => "`fanfare:sse/registry` and `fanfare:sse/redis` keep values".to_owned(),
            "wasi:messaging" => "`fanfare:sse/publishing` carries events".to_owned(),
            "wasi:logging" => "what a guest prints becomes lines of the log".to_owned(),
            _ => "nothing on this host provides it; compose the guest with a component that does (`wac plug`)".to_owned(),
        },
    };
    Some(format!("  {import}: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offered_imports_are_not_missing() {
        for import in [
            "fanfare:sse/publishing@0.1.0",
            "fanfare:sse/errors@0.1.7",
            "wasi:config/store@0.2.0-rc.1",
            "wasi:io/poll@0.2.6",
            "wasi:cli/environment@0.2.0",
            "wasi:http/outgoing-handler@0.2.3",
        ] {
            assert_eq!(missing(import, Flavour::Blocking), None);
            assert_eq!(missing(import, Flavour::Asynchronous), None);
        }
        for import in [
            "fanfare:sse/publishing-async@0.1.0",
            "wasi:clocks/monotonic-clock@0.3.2",
        ] {
            assert_eq!(missing(import, Flavour::Asynchronous), None);
        }
    }

    #[test]
    fn missing_imports_say_what_could_provide_them() {
        for (import, hint) in [
            ("fanfare:sse/publishing@0.2.0", "offers version 0.1 of it;"),
            ("fanfare:sse/publishing-async@0.1.0", "world `app-async`"),
            ("fanfare:sse/teleport@0.1.0", "no such interface"),
            ("wasi:http/incoming-handler@0.2.3", "fanfare:sse/handler"),
            ("wasi:http/client@0.3.0", "world `app-async`"),
            ("wasi:clocks/monotonic-clock@0.3.0", "world `app-async`"),
            (
                "wasi:clocks/monotonic-clock@0.4.0",
                "version 0.2 and 0.3 of it;",
            ),
            ("wasi:config/store@0.3.0", "version 0.2.0-rc.1 of it;"),
            ("acme:billing/invoices", "wac plug"),
        ] {
            let line = missing(import, Flavour::Blocking).unwrap();
            assert!(line.contains(import) && line.contains(hint), "{line}");
        }
    }

    #[test]
    fn a_program_is_told_how_it_becomes_a_guest() {
        // A component that exports an instance with nothing in it (component-model design, Binary.md): a section of
        // instances, and one of exports.
        let component = |name: &str| {
            let mut component = b"\0asm\x0d\0\x01\0".to_vec();
            component.extend([5, 3, 1, 1, 0]);
            let [size, length] = [name.len() + 6, name.len()].map(|n| u8::try_from(n).unwrap());
            component.extend([11, size, 1, 0, length]);
            component.extend(name.as_bytes());
            component.extend([5, 0, 0]);
            component
        };
        let refused = |name: &str| shape(&component(name)).unwrap_err().to_string();
        let program = refused("wasi:cli/run@0.2.0");
        for part in [
            "exports no `handler.handle`",
            "a `main`",
            "cdylib",
            "export!",
        ] {
            assert!(program.contains(part), "{part:?}: {program}");
        }
        let library = refused("acme:billing/invoices@1.0.0");
        assert!(
            library.ends_with(EXPORT) && !library.contains("main"),
            "{library}"
        );
    }
}
