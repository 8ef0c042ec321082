//! What a file must be to serve as a guest. Every refusal says what was found and what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;
use wasmtime::{
    Engine,
    component::{Component, InstancePre},
};

use super::{
    bindings::{AppPre, hooks::DisconnectHooksPre},
    imports,
    state::State,
};

/// The version of the contract, for messages.
const CONTRACT: &str = "fanfare:sse@0.1.0";

/// What the host offers: interfaces of a package, and the versions that are compatible.
const OFFERED: &[(&str, &[&str], &str)] = &[
    (
        "fanfare:sse",
        &[
            "errors",
            "events",
            "requests",
            "connections",
            "redis-clients",
            "redis",
            "publishers",
            "publishing",
            "registry",
        ],
        "0.1.",
    ),
    ("wasi:config", &["store"], "0.2.0-rc.1"),
    ("wasi:io", &[], "0.2."),
    ("wasi:clocks", &[], "0.2."),
    ("wasi:random", &[], "0.2."),
    ("wasi:cli", &[], "0.2."),
    ("wasi:filesystem", &[], "0.2."),
    ("wasi:sockets", &[], "0.2."),
];

const HANDLER: &str = "fanfare:sse/handler@0.1.";
const LIFECYCLE: &str = "fanfare:sse/lifecycle@0.1.";
const DISCONNECT_HOOK: &str = "fanfare:sse/disconnect-hook@0.1.";

/// A component that is ready to be instantiated.
pub struct Checked {
    /// For calls of `start` and `handle`.
    pub app: AppPre<State>,
    /// For calls of `disconnected`, where the component exports it.
    pub disconnect: Option<DisconnectHooksPre<State>>,
}

/// Why a file is no guest.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct GuestError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, Error)]
enum Problem {
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
    #[error("imports what this host does not offer:\n{}", .0.join("\n"))]
    Imports(Vec<String>),
    #[error(
        "exports no `{0}`, so it is no guest of the world `app` of {CONTRACT}; a Rust guest gets its exports from \
         `fanfare_guest::export!`"
    )]
    Exports(&'static str),
    #[error("does not fit {CONTRACT}: {0}")]
    Mismatch(String),
}

/// Compiles a file and checks that it is a guest.
pub fn load(engine: &Engine, path: &Path) -> Result<Checked, GuestError> {
    let bytes = std::fs::read(path).map_err(Problem::Unreadable);
    bytes
        .and_then(|bytes| check(engine, &bytes))
        .map_err(|problem| GuestError {
            path: path.to_owned(),
            problem,
        })
}

fn check(engine: &Engine, bytes: &[u8]) -> Result<Checked, Problem> {
    // The preamble (component-model design, Binary.md): magic, version, and the layer, 0 for a core module.
    match bytes {
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => return Err(Problem::CoreModule),
        [b'\0', b'a', b's', b'm', ..] => {}
        _ => return Err(Problem::NotWasm),
    }
    // Never `Component::deserialize`: precompiled code is trusted by the engine, and a guest is not.
    let component = Component::from_binary(engine, bytes)
        .map_err(|error| Problem::Compile(format!("{error:#}")))?;
    let shape = component.component_type();
    let missing: Vec<_> = shape
        .imports(engine)
        .filter_map(|(name, _)| missing(name))
        .collect();
    if !missing.is_empty() {
        return Err(Problem::Imports(missing));
    }
    let exports: Vec<_> = shape
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let has = |wanted: &str| exports.iter().any(|export| export.starts_with(wanted));
    if !has(HANDLER) {
        return Err(Problem::Exports("handler.handle"));
    }
    if !has(LIFECYCLE) {
        return Err(Problem::Exports("lifecycle.start"));
    }
    let hooked = has(DISCONNECT_HOOK);
    link(engine, &component, hooked).map_err(|error| Problem::Mismatch(format!("{error:#}")))
}

fn link(engine: &Engine, component: &Component, hooked: bool) -> wasmtime::Result<Checked> {
    let pre: InstancePre<State> = imports::linker(engine)?.instantiate_pre(component)?;
    let disconnect = match hooked {
        true => Some(DisconnectHooksPre::new(pre.clone())?),
        false => None,
    };
    Ok(Checked {
        app: AppPre::new(pre)?,
        disconnect,
    })
}

/// A line about an import that the host does not offer: its name, and what could provide it.
fn missing(import: &str) -> Option<String> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let (package, name) = interface.split_once('/').unwrap_or((interface, ""));
    let hint = match OFFERED.iter().find(|(offered, ..)| *offered == package) {
        Some((_, names, compatible)) if names.is_empty() || names.contains(&name) => {
            if version.starts_with(compatible) {
                return None;
            }
            format!("the host offers version {compatible} of it; build the guest against that")
        }
        Some(_) if name.ends_with("-async") => {
            "the host offers the blocking world `app`; build the guest for that".to_owned()
        }
        Some(_) => format!("{CONTRACT} has no such interface"),
        None => match package {
            "wasi:http" => "requests come through `fanfare:sse/handler` and the host makes none for guests; a JavaScript \
                            guest leaves the import out with `componentize-js -d http -d fetch-event`"
                .to_owned(),
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
        ] {
            assert_eq!(missing(import), None);
        }
    }

    #[test]
    fn missing_imports_say_what_could_provide_them() {
        for (import, hint) in [
            ("fanfare:sse/publishing@0.2.0", "version 0.1."),
            ("fanfare:sse/publishing-async@0.1.0", "world `app`"),
            ("fanfare:sse/teleport@0.1.0", "no such interface"),
            ("wasi:http/outgoing-handler@0.2.3", "componentize-js"),
            ("wasi:io/poll@0.3.0", "version 0.2."),
            ("acme:billing/invoices", "wac plug"),
        ] {
            let line = missing(import).unwrap();
            assert!(line.contains(import) && line.contains(hint), "{line}");
        }
    }
}
