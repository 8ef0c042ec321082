//! How a guest is built, and where its component is then.

use std::{
    env, fs,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Component, Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::watch::Watched;

const TARGET: &str = "wasm32-wasip2";
const MANIFEST: &str = "Cargo.toml";

/// Where a guest comes from.
#[derive(Debug, Clone)]
pub enum Project {
    /// A package of cargo.
    Cargo {
        /// Its folder.
        folder: PathBuf,
        /// Whether it is built with `--release`.
        release: bool,
    },
    /// Anything that a command builds.
    Command {
        /// Where the command runs.
        folder: PathBuf,
        /// For the shell.
        command: String,
        /// What it makes.
        component: PathBuf,
    },
    /// A component that something else builds.
    Component(PathBuf),
}

/// The processes of a build that goes on. They are a group of their own, and end when this is dropped.
struct Group(Pid);

/// What cargo says of something that it made; one of its messages, a line each.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

impl Project {
    /// What is at a path: a package, or a component. With a command, what that builds in the folder.
    pub fn find(path: &Path, release: bool, command: Option<(String, PathBuf)>) -> Result<Self> {
        let found = fs::canonicalize(path);
        let path = found.with_context(|| format!("{} cannot be found", path.display()))?;
        let is_folder = path.is_dir();
        if let Some((command, component)) = command {
            if !is_folder {
                bail!("{} is no folder for `--build` to run in", path.display());
            }
            let component = normal(&path.join(component));
            return Ok(Self::Command {
                folder: path,
                command,
                component,
            });
        }
        if !is_folder {
            return Ok(Self::Component(path));
        }
        if !path.join(MANIFEST).is_file() {
            bail!(
                "there is no {MANIFEST} in {}; name a guest's folder or its .wasm file, or say how it is built with \
                 `--build COMMAND --component FILE`",
                path.display()
            );
        }
        Ok(Self::Cargo {
            folder: path,
            release,
        })
    }

    /// What says that it has to be built anew.
    pub fn watched(&self) -> Watched {
        match self {
            Self::Component(component) => Watched::File(component.clone()),
            Self::Cargo { folder, .. } => Watched::Source {
                folder: folder.clone(),
                outputs: env::var_os("CARGO_TARGET_DIR")
                    .map(|target| folder.join(target))
                    .into_iter()
                    .collect(),
            },
            Self::Command {
                folder, component, ..
            } => Watched::Source {
                folder: folder.clone(),
                outputs: vec![component.clone()],
            },
        }
    }

    /// Whether building it may change what is watched. It does not where something else builds.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Component(_))
    }

    /// Builds it and says where the component is. What the build has to say goes to the terminal. Dropping the future
    /// ends the build.
    pub async fn build(&self) -> Result<PathBuf> {
        match self {
            Self::Component(component) => Ok(component.clone()),
            Self::Command {
                folder,
                command,
                component,
            } => {
                let mut shell = Command::new("sh");
                shell.args(["-c", command]).current_dir(folder);
                run(shell, false).await.context("`--build` failed")?;
                if !component.is_file() {
                    bail!("`--build` has not made {}", component.display());
                }
                Ok(component.clone())
            }
            Self::Cargo { folder, release } => {
                let mut cargo = Command::new("cargo");
                cargo
                    .args(["build", "--target", TARGET])
                    .args(["--message-format", "json-render-diagnostics"])
                    .args(release.then_some("--release"))
                    .current_dir(folder);
                let messages = run(cargo, true).await.context("`cargo build` failed")?;
                component(&folder.join(MANIFEST), &messages)
            }
        }
    }
}

/// A path as the watcher names it, without `.` and `..`; what it names need not be there yet.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

/// Runs a command to its end and returns what it prints, if that is not for the terminal.
async fn run(mut command: Command, is_read: bool) -> Result<String> {
    command
        .stdin(Stdio::null())
        .stdout(if is_read {
            Stdio::piped()
        } else {
            Stdio::inherit()
        })
        .process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn();
    let child = child.with_context(|| format!("`{program}` cannot be started"))?;
    let group = Group::of(&child);
    let (succeeded, printed) = spawn_blocking(move || wait(child)).await??;
    // It has ended by itself, and its number may be another's by now.
    std::mem::forget(group);
    if !succeeded {
        bail!("what it said is above");
    }
    Ok(printed)
}

fn wait(mut child: Child) -> io::Result<(bool, String)> {
    let mut printed = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut printed)?;
    }
    let status = child.wait()?;
    Ok((
        status.success(),
        String::from_utf8_lossy(&printed).into_owned(),
    ))
}

impl Group {
    fn of(child: &Child) -> Option<Self> {
        let id = i32::try_from(child.id()).ok()?;
        Pid::from_raw(id).map(Self)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Where all have ended there is nobody to be told.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// The component that cargo made of a package.
fn component(manifest: &Path, messages: &str) -> Result<PathBuf> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let artifacts = messages.filter(|message| {
        message.reason == "compiler-artifact" && message.manifest_path == manifest
    });
    let files = artifacts.flat_map(|message| message.filenames);
    let is_component = |file: &PathBuf| file.extension().is_some_and(|found| found == "wasm");
    let mut components: Vec<_> = files.filter(is_component).collect();
    match components.len() {
        0 => bail!(
            "{} makes no component; a guest has `crate-type = [\"cdylib\"]` in its `[lib]`",
            manifest.display()
        ),
        1 => Ok(components.remove(0)),
        _ => {
            let names: Vec<_> = components
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            bail!(
                "{} makes several components: {}; serve one of them with `--build COMMAND --component FILE`",
                manifest.display(),
                names.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(manifest: &str, files: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"{manifest}","filenames":[{files}],"fresh":true}}"#
        )
    }

    #[test]
    fn a_component_is_known_by_the_path_that_the_watcher_gives() {
        for (given, known) in [
            ("./out/g.wasm", "/p/out/g.wasm"),
            ("src/../g.wasm", "/p/g.wasm"),
            ("../g.wasm", "/g.wasm"),
            ("../../../g.wasm", "/g.wasm"),
            ("/t/./g.wasm", "/t/g.wasm"),
        ] {
            assert_eq!(normal(&Path::new("/p").join(given)), Path::new(known));
        }
    }

    #[test]
    fn cargo_says_where_the_component_is() {
        let find = |lines: &[String]| component(Path::new("/g/Cargo.toml"), &lines.join("\n"));
        let other = artifact("/dependency/Cargo.toml", "\"/t/dependency.wasm\"");
        let library = artifact("/g/Cargo.toml", "\"/t/libg.rlib\"");
        let guest = artifact("/g/Cargo.toml", "\"/t/g.wasm\"");
        let noise = "{\"reason\":\"build-finished\",\"success\":true}\nwarning: x".to_owned();
        let found = find(&[other.clone(), library.clone(), guest.clone(), noise]);
        assert_eq!(found.unwrap(), PathBuf::from("/t/g.wasm"));
        let none = find(&[other, library]).unwrap_err().to_string();
        assert!(none.contains("cdylib"), "{none}");
        let another = artifact("/g/Cargo.toml", "\"/t/tool.wasm\"");
        let several = find(&[guest, another]).unwrap_err().to_string();
        assert!(several.contains("/t/tool.wasm"), "{several}");
    }

    #[tokio::test]
    async fn a_build_that_is_dropped_ends_with_all_that_it_began() {
        let kept = tempfile::tempdir().unwrap();
        let folder = kept.path();
        let project = Project::Command {
            folder: folder.to_owned(),
            command: "sleep 600 & echo $! > pid; wait".to_owned(),
            component: folder.join("guest.wasm"),
        };
        let pid = || fs::read_to_string(folder.join("pid")).unwrap_or_default();
        let begun = async {
            while !pid().ends_with('\n') {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            built = project.build() => panic!("it goes on for long: {built:?}"),
            () = begun => {}
        }
        let id = Pid::from_raw(pid().trim().parse().unwrap()).unwrap();
        // Until whoever inherits it has noticed, it is there as one that has ended.
        let is_running = || {
            let state = fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero()));
            let ended = state.is_ok_and(|state| state.contains(") Z "));
            !ended && rustix::process::test_kill_process(id).is_ok()
        };
        for _ in 0..2000 {
            if !is_running() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(!is_running());
    }

    #[tokio::test]
    async fn a_command_that_fails_or_makes_nothing_is_told() {
        let build = |command: &str| {
            let project = Project::Command {
                folder: env::temp_dir(),
                command: command.to_owned(),
                component: "/nowhere/guest.wasm".into(),
            };
            async move { format!("{:#}", project.build().await.unwrap_err()) }
        };
        let failed = build("exit 3").await;
        assert!(failed.contains("`--build` failed"), "{failed}");
        let nothing = build("true").await;
        assert!(nothing.contains("/nowhere/guest.wasm"), "{nothing}");
    }

    #[test]
    fn a_path_is_a_package_or_a_component() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(matches!(
            Project::find(here, false, None).unwrap(),
            Project::Cargo { release: false, .. }
        ));
        assert!(matches!(
            Project::find(&here.join("Cargo.toml"), false, None).unwrap(),
            Project::Component(_)
        ));
        let none = Project::find(&here.join("src"), false, None).unwrap_err();
        assert!(none.to_string().contains("--build"), "{none}");
        assert!(Project::find(Path::new("/nowhere/at/all"), false, None).is_err());
    }
}
