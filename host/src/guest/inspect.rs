//! What a component says of itself, without compiling it: what it exports and imports, who made it, and what it would
//! have to be granted. And whether it can be served, for which it is compiled.

use std::{collections::BTreeSet, path::Path};

use bytes::Bytes;
use wasmparser::{
    BinaryReaderError, KnownCustom, Parser, Payload, ProducersSectionReader, Validator,
    WasmFeatures,
};

use super::{
    asynchronous, blocking,
    check::{self, Checked, Flavour, GuestError, Problem},
    engine::Guests,
    imports,
    shape::Shape,
    version::VersionId,
};

/// What a component says of itself.
#[derive(Debug)]
pub struct Inspection {
    /// Bytes.
    pub size: u64,
    /// What it is known by.
    pub version: VersionId,
    /// What it imports and exports.
    pub shape: Shape,
    /// What it was made with: a field (`language`, `processed-by`, `sdk`), a name, and a version.
    pub producers: BTreeSet<[String; 3]>,
}

/// What a guest reaches only where its app was granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Redis servers.
    Redis,
    /// Brokers of the configuration.
    Brokers,
    /// Requests to servers.
    Http,
}

/// Reads a file and says what it is, and returns what is in it: a pipe can be read only once. What is no component is
/// refused as it is where it is to be served.
pub fn inspect(path: &Path) -> Result<(Inspection, Bytes), GuestError> {
    let bytes = std::fs::read(path).map_err(Problem::Unreadable);
    let inspected = bytes.and_then(|bytes| {
        check::preamble(&bytes)?;
        let found = read(&bytes).map_err(|error| Problem::Compile(error.to_string()))?;
        Ok((found, bytes.into()))
    });
    inspected.map_err(|problem| GuestError::of_file(path, problem))
}

/// Whether what is in a file can be served: all is done that is done there before anything of the guest runs.
pub async fn try_out(guests: &Guests, path: &Path, bytes: Bytes) -> Result<(), GuestError> {
    let origin = path.display().to_string();
    let guest = check::compile(guests, origin.clone(), bytes).await?;
    link(guests, &guest).map_err(|error| GuestError::mismatch(&origin, &error))
}

fn link(guests: &Guests, guest: &Checked) -> wasmtime::Result<()> {
    let engine = guests.engine(guest.flavour);
    match guest.flavour {
        Flavour::Blocking => {
            blocking::Linked::new(&imports::linker(engine)?, guest)?;
        }
        Flavour::Asynchronous => {
            asynchronous::Linked::new(&imports::linker_async(engine)?, guest)?;
        }
    }
    Ok(())
}

fn read(bytes: &[u8]) -> Result<Inspection, BinaryReaderError> {
    let shape = Shape::of(bytes)?;
    let features = WasmFeatures::default()
        | WasmFeatures::CM_ASYNC
        | WasmFeatures::CM_ASYNC_STACKFUL
        | WasmFeatures::CM_MORE_ASYNC_BUILTINS;
    Validator::new_with_features(features).validate_all(bytes)?;
    let mut producers = BTreeSet::new();
    for payload in Parser::new(0).parse_all(bytes) {
        // Of modules inside, too: a component is often made of one that a compiler made.
        if let Payload::CustomSection(section) = payload?
            && let KnownCustom::Producers(fields) = section.as_known()
        {
            producers.extend(named(fields));
        }
    }
    Ok(Inspection {
        size: bytes.len() as u64,
        version: VersionId::of(bytes),
        shape,
        producers,
    })
}

/// Who made it. What cannot be read there harms nobody, and is left out.
fn named(fields: ProducersSectionReader<'_>) -> Vec<[String; 3]> {
    let mut named = Vec::new();
    for field in fields.into_iter().flatten() {
        for value in field.values.into_iter().flatten() {
            named.push([field.name, value.name, value.version].map(str::to_owned));
        }
    }
    named
}

impl Inspection {
    /// Its world; `None` where it has no handler, and is no guest.
    pub fn flavour(&self) -> Option<Flavour> {
        let mut exports = self
            .shape
            .exports
            .iter()
            .filter_map(|export| interface(export));
        let handles = exports.any(|name| matches!(name, "handler" | "handler-async"));
        handles.then(|| Flavour::of(&self.shape))
    }

    /// The hooks that the host calls.
    pub fn hooks(&self) -> Vec<&str> {
        let exports = self
            .shape
            .exports
            .iter()
            .filter_map(|export| interface(export));
        let hooks = exports.filter(|name| name.trim_end_matches("-async").ends_with("-hook"));
        let mut hooks: Vec<_> = hooks.collect();
        hooks.sort_unstable();
        hooks
    }

    /// Its imports, and for those that the host does not offer, what could provide them.
    pub fn imports(&self) -> impl Iterator<Item = (&str, Option<String>)> {
        let flavour = Flavour::of(&self.shape);
        let imports = self.shape.imports.iter();
        imports.map(move |name| (name.as_str(), check::missing(name, flavour)))
    }

    /// What it could ask for and is denied unless it was granted.
    pub fn grants(&self) -> Vec<Grant> {
        let is_http = |name: &str| {
            ["wasi:http/outgoing-handler", "wasi:http/client"].contains(&without_version(name))
        };
        let is_redis = |name: &str| matches!(interface(name), Some("redis" | "redis-async"));
        let mut grants = Vec::new();
        for import in &self.shape.imports {
            let grant = match import.as_str() {
                name if is_redis(name) => Grant::Redis,
                name if interface(name) == Some("publishers") => Grant::Brokers,
                name if is_http(name) => Grant::Http,
                _ => continue,
            };
            if !grants.contains(&grant) {
                grants.push(grant);
            }
        }
        grants
    }
}

fn without_version(name: &str) -> &str {
    name.split_once('@').map_or(name, |(name, _)| name)
}

/// The name of an interface of the contract, without package and version.
fn interface(name: &str) -> Option<&str> {
    without_version(name).strip_prefix("fanfare:sse/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspection(imports: &[&str], exports: &[&str]) -> Inspection {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Inspection {
            size: 0,
            version: VersionId::of(b""),
            shape: Shape {
                imports: owned(imports),
                exports: owned(exports),
            },
            producers: BTreeSet::new(),
        }
    }

    #[test]
    fn exports_say_what_a_guest_is() {
        let exports = |exports: &[&str]| inspection(&[], exports);
        let blocking = exports(&[
            "fanfare:sse/handler@0.1.0",
            "fanfare:sse/disconnect-hook@0.1.0",
        ]);
        assert_eq!(blocking.flavour(), Some(Flavour::Blocking));
        assert_eq!(blocking.hooks(), ["disconnect-hook"]);
        let asynchronous = exports(&["fanfare:sse/handler-async@0.1.0"]);
        assert_eq!(asynchronous.flavour(), Some(Flavour::Asynchronous));
        assert!(asynchronous.hooks().is_empty());
        assert_eq!(exports(&["wasi:cli/run@0.2.0"]).flavour(), None);
    }

    #[test]
    fn imports_say_what_a_guest_would_need() {
        let grants = |imports: &[&str]| inspection(imports, &[]).grants();
        assert_eq!(
            grants(&[
                "fanfare:sse/redis-clients@0.1.0",
                "fanfare:sse/events@0.1.0",
                "wasi:http/types@0.2.0"
            ]),
            []
        );
        assert_eq!(
            grants(&[
                "wasi:http/outgoing-handler@0.2.3",
                "fanfare:sse/publishers@0.1.0",
                "fanfare:sse/redis@0.1.0"
            ]),
            [Grant::Http, Grant::Brokers, Grant::Redis]
        );
        assert_eq!(grants(&["wasi:http/client@0.3.0"]), [Grant::Http]);
    }

    #[test]
    fn a_component_is_read_whole_or_not_at_all() {
        // A component: its preamble, and another in a section of its own, which has the number 4.
        let inner = b"\0asm\x0d\0\x01\0";
        let outer = [inner.as_slice(), &[4, inner.len() as u8], inner].concat();
        let found = read(&outer).unwrap();
        assert_eq!(found.shape, Shape::default());
        assert_eq!(found.flavour(), None);
        assert_eq!(found.size, outer.len() as u64);
        assert!(read(&outer[..outer.len() - 1]).is_err());
    }
}
