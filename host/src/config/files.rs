//! The files that a configuration names: where their paths start, and whether they are there.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{Config, checks::Checks, error::KeyPath, path};

impl Config {
    /// Has relative paths start at a folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        for (_, file) in self.certificates() {
            path::resolve(file, folder);
        }
        let components = self.apps.values_mut().map(|app| &mut app.component);
        for named in components.chain(&mut self.node.data) {
            path::resolve(named, folder);
        }
    }

    /// Checks that the files can be read. What is in them is for those who use them.
    pub(super) fn check_files(&mut self, checks: &mut Checks) {
        let apps = KeyPath::default().key("apps");
        for (name, error) in self.without_component() {
            refuse(apps.key(name).key("component"), &error, checks);
        }
        for (at, file) in self.certificates() {
            if let Err(error) = readable(file) {
                refuse(at, &error, checks);
            }
        }
    }

    /// Checks that the data folder is one, if it is there.
    pub(super) fn check_data(&self, checks: &mut Checks) {
        let Some(data) = &self.node.data else {
            return;
        };
        if let Some(problem) = unusable_data(data) {
            checks.refuse(KeyPath::default().key("node").key("data"), problem);
        }
    }

    /// The apps that have nothing to serve, because their component cannot be read.
    pub fn without_component(&self) -> Vec<(&str, io::Error)> {
        let apps = self.apps.iter().filter(|(name, _)| !self.may_keep(name));
        let unreadable = apps.filter_map(|(name, app)| {
            let error = readable(&app.component).err()?;
            Some((name.as_str(), error))
        });
        unreadable.collect()
    }

    /// Whether something is noted of an app in the data folder: a version that is kept there is served where the
    /// component cannot be read.
    fn may_keep(&self, app: &str) -> bool {
        let data = self.node.data.as_ref();
        // `guest/versions/folder.rs` lays it out so; nothing here may ask it.
        data.is_some_and(|data| data.join(format!("apps/{app}.json")).exists())
    }

    /// The files with certificates and keys, and where they are named.
    fn certificates(&mut self) -> Vec<(KeyPath, &mut PathBuf)> {
        let root = KeyPath::default();
        let mut files = Vec::new();
        if let Some(tls) = &mut self.listen.tls {
            let at = root.key("listen").key("tls");
            files.push((at.key("certificate"), &mut tls.certificate));
            files.push((at.key("key"), &mut tls.key));
        }
        if let Some(file) = &mut self.redis.ca_file {
            files.push((root.key("redis").key("ca-file"), file));
        }
        for (label, broker) in &mut self.brokers {
            if let Some(file) = broker.ca_file() {
                files.push((root.key("brokers").key(label).key("ca-file"), file));
            }
        }
        for (name, app) in &mut self.apps {
            if let Some(file) = &mut app.http.ca_file {
                let at = root.key("apps").key(name).key("http");
                files.push((at.key("ca-file"), file));
            }
        }
        files
    }
}

/// Why a folder cannot be the data folder. It may be yet to be made.
pub fn unusable_data(data: &Path) -> Option<String> {
    match fs::metadata(data) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some("is no folder; name one, or one that is yet to be made".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("cannot be used: {error}")),
    }
}

fn readable(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // What is in a pipe can be read once, so that is not opened.
    if found.is_file() {
        File::open(path)?;
    }
    Ok(())
}

/// The path is not part of the message: it may be from the environment. What the file has is shown in its place.
fn refuse(at: KeyPath, error: &io::Error, checks: &mut Checks) {
    match error.kind() {
        io::ErrorKind::NotFound => checks.refuse(
            at,
            "there is no such file; a relative path starts at the folder of the configuration",
        ),
        io::ErrorKind::IsADirectory => checks.refuse(at, "is a folder, and must be a file"),
        _ => checks.refuse(at, format!("cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a file in a folder with these files and folders; nothing where it has no mistakes.
    fn said(toml: &str, files: &[&str], folders: &[&str], data: Option<&str>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for name in folders {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        for name in files {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let path = folder.path().join("fanfare.toml");
        fs::write(&path, toml).unwrap();
        let data = data.map(|data| folder.path().join(data));
        let Err(error) = Config::load(&path, data.as_deref()) else {
            return Vec::new();
        };
        let here = format!("{}:", path.display());
        let error = error.to_string();
        let lines = error.lines().map(|line| line.replace(&here, ""));
        lines.collect()
    }

    const MISSING: &str =
        "there is no such file; a relative path starts at the folder of the configuration";

    #[test]
    fn files_that_are_not_there_are_told_together_with_other_mistakes() {
        let toml = "[listen.tls]\ncertificate = \"c.pem\"\nkey = \"keys\"\n[redis]\nca-file = \"r.pem\"\n\
                    [brokers.b]\ntype = \"nats\"\nurl = \"nats://h\"\nsync-channel = \"s\"\nca-file = \"n.pem\"\n\
                    [apps.a]\ncomponent = \"a.wasm\"\nroute = \"a\"\n[apps.a.http]\nca-file = \"h.pem\"\n";
        let all = said(toml, &[], &["keys"], None);
        assert_eq!(all.len(), 7, "{all:#?}");
        let expected = [
            format!("2:15: listen.tls.certificate: {MISSING} (it is \"c.pem\")"),
            "3:7: listen.tls.key: is a folder, and must be a file (it is \"keys\")".to_owned(),
            format!("5:11: redis.ca-file: {MISSING} (it is \"r.pem\")"),
            format!("10:11: brokers.b.ca-file: {MISSING} (it is \"n.pem\")"),
            format!("12:13: apps.a.component: {MISSING} (it is \"a.wasm\")"),
            "13:9: apps.a.route: ".to_owned(),
            format!("15:11: apps.a.http.ca-file: {MISSING} (it is \"h.pem\")"),
        ];
        for (mistake, expected) in all.iter().zip(&expected) {
            assert!(
                mistake.starts_with(expected),
                "{mistake:?} is not {expected:?}"
            );
        }
        let toml = toml.replace("route = \"a\"\n", "");
        let files = ["c.pem", "keys", "r.pem", "n.pem", "a.wasm", "h.pem"];
        assert_eq!(said(&toml, &files, &[], None), Vec::<String>::new());
    }

    #[test]
    fn the_data_folder_is_a_folder_or_is_yet_to_be_made() {
        let toml = "node.data = \"data\"";
        let none = Vec::<String>::new();
        assert_eq!(said(toml, &[], &[], None), none);
        assert_eq!(said(toml, &[], &["data"], None), none);
        let no_folder = "1:13: node.data: is no folder; name one, or one that is yet to be made \
                         (it is \"data\")";
        assert_eq!(said(toml, &["data"], &[], None), [no_folder]);
        assert_eq!(
            said(toml, &["data"], &[], Some("other")),
            none,
            "another one is used"
        );
        let below = said("node.data = \"data/x\"", &["data"], &[], None);
        assert!(
            below.len() == 1 && below[0].starts_with("1:13: node.data: cannot be used: "),
            "{below:#?}"
        );
    }

    #[test]
    fn a_component_may_be_gone_where_a_version_is_kept() {
        let toml = "[apps.a]\ncomponent = \"a.wasm\"";
        let kept = &["data/apps/a.json"][..];
        let folders = &["data/apps"][..];
        let none = Vec::<String>::new();
        assert_eq!(said(toml, kept, folders, Some("data")), none);
        assert_eq!(
            said(
                &format!("node.data = \"data\"\n{toml}"),
                kept,
                folders,
                None
            ),
            none
        );
        assert_eq!(said(toml, kept, folders, None).len(), 1);
        assert_eq!(
            said(toml, &["data/apps/b.json"], folders, Some("data")).len(),
            1
        );
    }

    #[test]
    fn a_data_folder_of_the_command_line_is_one_for_events_too() {
        let toml = "[brokers.b]\ntype = \"memory\"\ndurable = \"process\"";
        assert_eq!(said(toml, &[], &[], None).len(), 1);
        assert_eq!(said(toml, &[], &[], Some("data")), Vec::<String>::new());
    }
}
