//! Generates the bindings of the world `app` for C, as `wit-bindgen c` does, which takes much longer to build.
//!
//! `bindgen WIT OUT`: a folder with the contract, and one for `app.h`, `app.c` and `app_component_type.o`, which tells the types
//! of the component.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};
use wit_bindgen_core::{Files, wit_parser::Resolve};

fn main() -> Result<()> {
    let folders: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [wit, out] = &folders[..] else {
        anyhow::bail!("usage: bindgen WIT OUT");
    };

    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some("app"))?;
    let mut files = Files::default();
    let mut generator = wit_bindgen_c::Opts::default().build();
    generator.generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        let path = out.join(name);
        fs::write(&path, content)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
