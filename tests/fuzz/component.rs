//! Components: what a deployer may send as one is compiled or refused, in bounded time and memory.

use std::{
    fs,
    time::{Duration, Instant},
};

use fanfare::guest::{
    check::{compile, look},
    engine::{Guests, Instances},
    inspect::inspect,
};
use tempfile::TempDir;
use tokio::runtime::Builder;

use crate::driver::{Target, gist};

const COMPONENT: Target = Target {
    name: "component",
    runs: 500,
    words: &[
        "\0asm",
        "\0asm\x01\0\0\0",
        "\0asm\x0d\0\x01\0",
        "fanfare:sse/handler@0.1.0",
        "fanfare:sse/handler-async@0.1.0",
        "wasi:http/client@0.3.0",
        "producers",
        "name",
        "processed-by",
        "core",
    ],
};

/// What compiling any of them may take, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the process may have taken by then, in kilobytes: the other targets run in it, too.
const KILOBYTES: usize = 1 << 20;

#[test]
fn components_are_compiled_or_refused() {
    let folder = TempDir::with_prefix("fanfare-fuzz-").expect("a temporary folder");
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("there are threads");
    let instances = Instances {
        blocking: 1,
        asynchronous: 1,
    };
    let cache = folder.path().join("cache");
    let guests = Guests::new(instances, Some(&cache), runtime.handle());
    let guests = guests.expect("guests can be run here");
    let file = folder.path().join("given.wasm");
    COMPONENT.fuzz(|bytes| {
        fs::write(&file, bytes).expect("a file can be written");
        let (looked, inspected) = (look(&file), inspect(&file));
        let begun = Instant::now();
        let compiled = runtime.block_on(compile(
            &guests,
            "the given one".into(),
            bytes.to_vec().into(),
        ));
        assert!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());
        match compiled {
            Ok(compiled) => {
                looked.expect("what compiles is not refused at first sight");
                let (inspected, _) = inspected.expect("what compiles can be inspected");
                assert_eq!(inspected.version, compiled.version);
                assert_eq!(inspected.flavour(), Some(compiled.flavour));
                inspected
                    .imports()
                    .for_each(|(_, missing)| assert_eq!(missing, None));
                format!(
                    "{:?} {:?} {:?}",
                    compiled.flavour,
                    inspected.hooks(),
                    inspected.grants()
                )
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.starts_with("the given one: "), "{error}");
                assert!(!error.contains("the compiler failed"), "{error}");
                gist(&error)
            }
        }
    });
    if let Some(peak) = peak() {
        assert!(peak < KILOBYTES, "{peak} kB were taken");
    }
}

/// The most that this process has had in memory, in kilobytes, where the system tells.
fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let (_, rest) = status.split_once("VmHWM:")?;
    rest.split_whitespace().next()?.parse().ok()
}
