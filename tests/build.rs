//! Builds every guest that tests serve, and tells the tests where they are: `guests.rs` in `OUT_DIR` has a private
//! constant for each, so that the compiler finds a guest which no test serves.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Where guests in Rust are: every folder in these is one, and its package has the folder's name.
const FOLDERS: [&str; 2] = ["tests/guests", RUST];
const RUST: &str = "guest-examples/rust";
/// Where guests in other languages are: every other folder in it is a language, and has a script that builds its guests.
const LANGUAGES: &str = "guest-examples";
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
    for watched in FOLDERS.iter().chain(&PARTS).chain([&LANGUAGES]) {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let guests = guest_dir(&out)?;

    // All at the same time: some of the tools use one core.
    let packages = packages(&root)?;
    let rust = build(&root.join("scripts/build-guest"), &packages, &guests)?;
    let others: Vec<_> = languages(&root)?
        .iter()
        .map(|script| build(script, &[], &guests))
        .collect::<Result<_, _>>()?;

    let mut constants = String::new();
    let paths = components(rust)?;
    if paths.len() != packages.len() {
        return Err(format!(
            "{} guests were asked for, and these came: {paths:?}",
            packages.len()
        )
        .into());
    }
    for (package, path) in packages.iter().zip(paths) {
        add(&mut constants, package, &path)?;
    }
    for other in others {
        for path in components(other)? {
            let name = Path::new(&path).file_stem().and_then(|name| name.to_str());
            add(
                &mut constants,
                name.ok_or("a component without a name")?,
                &path,
            )?;
        }
    }
    fs::write(out.join("guests.rs"), constants)?;
    Ok(())
}

/// The packages of the guests in Rust, sorted.
fn packages(root: &Path) -> Result<Vec<String>, Box<dyn Error>> {
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
    Ok(packages)
}

/// The scripts that build the guests in other languages, sorted.
fn languages(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut scripts = Vec::new();
    for entry in fs::read_dir(root.join(LANGUAGES))? {
        let folder = entry?.path();
        if folder == root.join(RUST) || !folder.is_dir() {
            continue;
        }
        let script = folder.join("build");
        if !script.exists() {
            return Err(format!("there is no {}", script.display()).into());
        }
        scripts.push(script);
    }
    scripts.sort();
    Ok(scripts)
}

/// Starts it.
fn build(script: &Path, arguments: &[String], guests: &Path) -> Result<Build, Box<dyn Error>> {
    let process = Command::new(script)
        .args(arguments)
        .env("FANFARE_GUEST_TARGET_DIR", guests)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("{}: {error}", script.display()))?;
    Ok(Build {
        script: script.to_owned(),
        process,
    })
}

/// A script that builds guests.
struct Build {
    script: PathBuf,
    process: Child,
}

/// Waits for a script, and reads the paths of the components that it prints, a line each.
fn components(build: Build) -> Result<Vec<String>, Box<dyn Error>> {
    let built = build.process.wait_with_output()?;
    if !built.status.success() {
        return Err(format!(
            "{} built no guests; its errors are above",
            build.script.display()
        )
        .into());
    }
    Ok(String::from_utf8(built.stdout)?
        .lines()
        .map(str::to_owned)
        .collect())
}

fn add(constants: &mut String, guest: &str, path: &str) -> std::fmt::Result {
    let name = guest.replace('-', "_").to_uppercase();
    writeln!(
        constants,
        "/// The component of the guest `{guest}`.\npub(crate) const {name}: &str = {path:?};"
    )
}

/// A folder for guests beside that of the profile: the output of this script is in `<profile>/build/<package>/out`.
fn guest_dir(out: &Path) -> Result<PathBuf, &'static str> {
    let target = out
        .ancestors()
        .nth(4)
        .ok_or("OUT_DIR is in no target folder")?;
    Ok(target.join("guests"))
}
