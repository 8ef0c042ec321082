//! The two flavours of the contract promise the same, and a guest has imports of its own flavour alone.

use std::path::Path;

use wit_parser::{
    Function, FunctionKind, Handle, Interface, InterfaceId, PackageId, Resolve, Type, TypeDefKind,
    TypeOwner, World, WorldKey, decoding,
};

use crate::guests;

/// After the name of an interface or a world of the asynchronous flavour.
const ASYNC: &str = "-async";

/// What the asynchronous world has and the blocking one has not.
const ASYNC_ALONE: &str = "wasi:clocks/";

/// What a guest may import for what waits, by flavour.
const BLOCKING_IMPORTS: [&str; 3] = ["publishing", "redis", "closing"];

#[test]
fn interfaces_of_both_flavours_are_equal_but_for_async() {
    let (resolve, package) = contract();
    let pairs = pairs(&resolve, package);
    let names: Vec<_> = pairs
        .iter()
        .map(|(blocking, _)| name(&resolve.interfaces[*blocking]))
        .collect();
    assert!(
        names.contains(&"publishing") && names.len() >= 6,
        "{names:?}"
    );
    for (blocking, asynchronous) in pairs {
        let (blocking, asynchronous) = (
            &resolve.interfaces[blocking],
            &resolve.interfaces[asynchronous],
        );
        let differences = differences(&resolve, blocking, asynchronous);
        assert!(
            differences.is_empty(),
            "`{}` and its asynchronous flavour differ:\n{}",
            name(blocking),
            differences.join("\n")
        );
    }
}

#[test]
fn worlds_of_both_flavours_are_equal_but_for_async() {
    let (resolve, package) = contract();
    let world = |name: &str| &resolve.worlds[resolve.packages[package].worlds[name]];
    for blocking in ["app", "disconnect-hooks"] {
        let asynchronous = world(&format!("{blocking}{ASYNC}"));
        for (of_blocking, of_asynchronous) in [
            (
                imports(&resolve, world(blocking)),
                imports(&resolve, asynchronous),
            ),
            (
                exports(&resolve, world(blocking)),
                exports(&resolve, asynchronous),
            ),
        ] {
            let mut expected: Vec<_> = of_blocking
                .into_iter()
                .map(|name| asynchronous_name(&resolve, package, &name))
                .collect();
            let mut found = of_asynchronous;
            found.retain(|name| !name.starts_with(ASYNC_ALONE));
            expected.sort();
            found.sort();
            assert_eq!(expected, found, "{blocking}");
        }
    }
}

#[test]
fn a_difference_between_flavours_is_found() {
    let mut resolve = Resolve::default();
    let package = resolve
        .push_str(
            "differing.wit",
            "package a:b;
             interface types { record r { x: u8 } record s { x: u8 } }
             interface f {
                 use types.{r};
                 same: func(a: r, b: option<list<string>>) -> result<tuple<u8, r>, string>;
                 named: func(a: u8);
                 typed: func(a: list<u8>);
                 returned: func(a: u8) -> r;
                 blocking: func();
                 lacking: func();
             }
             interface f-async {
                 use types.{r as renamed, s as r};
                 same: async func(a: renamed, b: option<list<string>>) -> result<tuple<u8, renamed>, string>;
                 named: async func(b: u8);
                 typed: async func(a: list<u16>);
                 returned: async func(a: u8) -> r;
                 blocking: func();
                 more: async func();
             }",
        )
        .expect("the text is WIT");
    let [(blocking, asynchronous)] = pairs(&resolve, package)[..] else {
        panic!("there is one pair")
    };
    let differences = differences(
        &resolve,
        &resolve.interfaces[blocking],
        &resolve.interfaces[asynchronous],
    );
    let about: Vec<_> = differences
        .iter()
        .filter_map(|difference| difference.split(['`']).nth(1))
        .collect();
    assert_eq!(
        about,
        ["named", "typed", "returned", "blocking", "lacking", "more"],
        "{differences:#?}"
    );
}

#[test]
fn a_guest_imports_what_waits_in_its_own_flavour_alone() {
    for (guest, own) in [
        (guests::PROBE, ""),
        (guests::QUICKSTART, ""),
        (guests::PROBE_ASYNC, ASYNC),
        (guests::QUICKSTART_ASYNC, ASYNC),
    ] {
        let bytes = std::fs::read(guest).expect("the guest is built");
        let decoded = decoding::decode(&bytes).expect("a guest is a component");
        let resolve = decoded.resolve();
        let (_, world) = resolve
            .worlds
            .iter()
            .next()
            .expect("a component has a world");
        let imports = imports(resolve, world);
        let waiting = |flavour: &str| {
            let wanted = BLOCKING_IMPORTS.map(|name| format!("fanfare:sse/{name}{flavour}@0.1.0"));
            let mut found = imports.clone();
            found.retain(|name| wanted.contains(name));
            found.len()
        };
        let other = if own.is_empty() { ASYNC } else { "" };
        assert_eq!(
            (waiting(own), waiting(other)),
            (BLOCKING_IMPORTS.len(), 0),
            "{guest} imports {imports:#?}"
        );
        assert!(
            exports(resolve, world).contains(&format!("fanfare:sse/handler{own}@0.1.0")),
            "{guest}"
        );
    }
}

fn contract() -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve.push_dir(folder).expect("wit/ is a package");
    (resolve, package)
}

/// All interfaces that stand twice in a package: blocking, asynchronous.
fn pairs(resolve: &Resolve, package: PackageId) -> Vec<(InterfaceId, InterfaceId)> {
    let interfaces = &resolve.packages[package].interfaces;
    interfaces
        .iter()
        .filter_map(|(name, asynchronous)| {
            let blocking = name.strip_suffix(ASYNC)?;
            let blocking = interfaces
                .get(blocking)
                .unwrap_or_else(|| panic!("there is `{name}` and no `{blocking}`"));
            Some((*blocking, *asynchronous))
        })
        .collect()
}

fn name(interface: &Interface) -> &str {
    interface.name.as_deref().unwrap_or_default()
}

/// A sentence for each function that is not the same in both but for `async`.
fn differences(resolve: &Resolve, blocking: &Interface, asynchronous: &Interface) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, function) in &blocking.functions {
        let Some(twin) = asynchronous.functions.get(name) else {
            differences.push(format!("`{name}` is in the blocking one alone"));
            continue;
        };
        let (here, there) = (signature(resolve, function), signature(resolve, twin));
        if here != there {
            differences.push(format!("`{name}` is {here} and {there}"));
        }
        if (&function.kind, &twin.kind)
            != (
                &FunctionKind::Freestanding,
                &FunctionKind::AsyncFreestanding,
            )
        {
            differences.push(format!("`{name}` should be `func` and `async func`"));
        }
    }
    for name in asynchronous.functions.keys() {
        if !blocking.functions.contains_key(name) {
            differences.push(format!("`{name}` is in the asynchronous one alone"));
        }
    }
    differences
}

/// Parameters and result of a function; types of the same name from different interfaces differ.
fn signature(resolve: &Resolve, function: &Function) -> String {
    let parameters: Vec<_> = function
        .params
        .iter()
        .map(|parameter| format!("{}: {}", parameter.name, spelled(resolve, &parameter.ty)))
        .collect();
    let result = some_spelled(resolve, function.result.as_ref());
    format!("({}) -> {result}", parameters.join(", "))
}

fn some_spelled(resolve: &Resolve, found: Option<&Type>) -> String {
    found.map_or_else(|| "_".to_owned(), |found| spelled(resolve, found))
}

fn spelled(resolve: &Resolve, found: &Type) -> String {
    let Type::Id(id) = found else {
        return format!("{found:?}");
    };
    let inner = |inner: &Type| spelled(resolve, inner);
    let definition = &resolve.types[*id];
    match &definition.kind {
        TypeDefKind::Type(used) => inner(used),
        TypeDefKind::Option(some) => format!("option<{}>", inner(some)),
        TypeDefKind::List(element) => format!("list<{}>", inner(element)),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", inner(&Type::Id(*id))),
        TypeDefKind::Handle(Handle::Own(id)) => format!("own<{}>", inner(&Type::Id(*id))),
        TypeDefKind::Tuple(tuple) => {
            let parts: Vec<_> = tuple.types.iter().map(inner).collect();
            format!("tuple<{}>", parts.join(", "))
        }
        TypeDefKind::Result(result) => format!(
            "result<{}, {}>",
            some_spelled(resolve, result.ok.as_ref()),
            some_spelled(resolve, result.err.as_ref())
        ),
        other => match (&definition.owner, &definition.name) {
            (TypeOwner::Interface(owner), Some(own)) => {
                format!("{}.{own}", name(&resolve.interfaces[*owner]))
            }
            _ => panic!("how is the type {} to be compared?", other.as_str()),
        },
    }
}

fn imports(resolve: &Resolve, world: &World) -> Vec<String> {
    names(resolve, world.imports.keys())
}

fn exports(resolve: &Resolve, world: &World) -> Vec<String> {
    names(resolve, world.exports.keys())
}

fn names<'a>(resolve: &Resolve, keys: impl Iterator<Item = &'a WorldKey>) -> Vec<String> {
    keys.map(|key| resolve.name_world_key(key)).collect()
}

/// The name of the asynchronous flavour of an interface, where it has one.
fn asynchronous_name(resolve: &Resolve, package: PackageId, name: &str) -> String {
    let twin = name
        .split_once('@')
        .map(|(name, version)| format!("{name}{ASYNC}@{version}"));
    let known = |name: &String| {
        resolve.packages[package]
            .interfaces
            .values()
            .any(|interface| resolve.id_of(*interface).as_ref() == Some(name))
    };
    twin.filter(known).unwrap_or_else(|| name.to_owned())
}
