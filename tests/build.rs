//! Builds every guest that tests serve, and tells the tests where they are: `guests.rs` in `OUT_DIR` has a private
//! constant for each, so that the compiler finds a guest which no test serves.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where guests are: every folder in these is one, and its package has the folder's name.
const FOLDERS: [&str; 2] = ["tests/guests", "guest-examples/rust"];
/// What guests are made of besides.
const PARTS: [&str; 7] = [
    "guest-sdk/Cargo.toml",
    "guest-sdk/src",
    "guest-sdk/wit-http",
    "wit",
    "scripts/build-guest",
    "scripts/lib.sh",
    "Cargo.toml",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    for watched in FOLDERS.iter().chain(&PARTS) {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }

    let mut packages = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder))? {
            let entry = entry?;
            if entry.path().join("Cargo.toml").exists() {
                packages.push(
                    entry
                        .file_name()
                        .into_string()
                        .map_err(|name| format!("{name:?} is no name of a package"))?,
                );
            }
        }
    }
    packages.sort();

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let built = Command::new(root.join("scripts/build-guest"))
        .args(&packages)
        .env("FANFARE_GUEST_TARGET_DIR", guest_dir(&out)?)
        .stderr(Stdio::inherit())
        .output()?;
    if !built.status.success() {
        return Err("the guests did not build; their errors are above".into());
    }
    let paths = String::from_utf8(built.stdout)?;
    let paths: Vec<_> = paths.lines().collect();
    if paths.len() != packages.len() {
        return Err(format!(
            "{} guests were asked for, and these came: {paths:?}",
            packages.len()
        )
        .into());
    }

    let mut constants = String::new();
    for (package, path) in packages.iter().zip(paths) {
        let name = package.replace('-', "_").to_uppercase();
        writeln!(
            constants,
            "/// The component of the guest `{package}`.\npub(crate) const {name}: &str = {path:?};"
        )?;
    }
    fs::write(out.join("guests.rs"), constants)?;
    Ok(())
}

/// A folder for guests beside that of the profile: the output of this script is in `<profile>/build/<package>/out`.
fn guest_dir(out: &Path) -> Result<PathBuf, &'static str> {
    let target = out
        .ancestors()
        .nth(4)
        .ok_or("OUT_DIR is in no target folder")?;
    Ok(target.join("guests"))
}
