//! What is noted of one app: which versions there are, and which of them serves.

use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;
use crate::guest::version::VersionId;

/// How many versions of an app a data folder keeps, the one that serves included.
pub const KEPT: usize = 10;
/// How many are kept without a data folder: each is the component itself, in the memory of the node.
pub const KEPT_IN_MEMORY: usize = 3;
/// The form that is written. A record of another form is not read.
const FORMAT: u32 = 1;

/// Where a version came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The file that the configuration names.
    Configured,
    /// A deploy.
    Deployed,
}

/// A version that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its name.
    pub version: VersionId,
    /// Bytes of the component.
    pub size: u64,
    /// When it was taken into service, the last time.
    pub since: Timestamp,
    /// Where it came from.
    pub source: Source,
}

/// An app's versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    app: String,
    /// The one that serves.
    current: VersionId,
    /// The component that the configuration named when that was chosen, where there was one.
    configured: Option<VersionId>,
    /// Each once. Those before the current one are those that served before it, the last of them the last; those
    /// behind it are those that were rolled back from.
    versions: Vec<Version>,
}

impl Record {
    /// A record of an app with one version, which serves.
    pub fn new(app: &str, version: Version, configured: Option<VersionId>) -> Self {
        Self {
            format: FORMAT,
            app: app.to_owned(),
            current: version.version,
            configured,
            versions: vec![version],
        }
    }

    /// Reads a record of this app, or says what is wrong with it.
    pub fn parse(app: &str, text: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if record.format != FORMAT {
            return Err(format!(
                "it has the format {}, and this version of Fanfare reads {FORMAT}",
                record.format
            ));
        }
        if record.app != app {
            return Err(format!("it is of the app {:?}", record.app));
        }
        if record.position(record.current).is_none() {
            return Err("the version that serves is not among those that are kept".to_owned());
        }
        for (place, known) in record.versions.iter().enumerate() {
            if record.position(known.version) != Some(place) {
                return Err(format!("version {} stands there twice", known.version));
            }
        }
        Ok(record)
    }

    /// The version that serves.
    pub fn current(&self) -> VersionId {
        self.current
    }

    /// What is noted of the version that serves.
    pub fn current_version(&self) -> Option<&Version> {
        self.position(self.current)
            .map(|place| &self.versions[place])
    }

    /// The configured component at the time when the current version was chosen.
    pub fn configured(&self) -> Option<VersionId> {
        self.configured
    }

    /// All versions, in the order in which they served.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// Whether this is one of the versions.
    pub fn has(&self, version: VersionId) -> bool {
        self.position(version).is_some()
    }

    /// The versions that served before the current one, the last of them first.
    pub fn before_current(&self) -> impl Iterator<Item = VersionId> {
        let place = self.position(self.current).unwrap_or(0);
        let before = self.versions[..place].iter().rev();
        before.map(|version| version.version)
    }

    /// A version serves that is new, or was deployed anew. The one before it stands right before it, even where it was
    /// rolled back to. Past so many versions to keep the oldest are dropped.
    pub fn deployed(&mut self, version: Version, configured: Option<VersionId>, keep: usize) {
        self.move_to_the_end(self.current);
        self.versions
            .retain(|known| known.version != version.version);
        self.current = version.version;
        self.configured = configured;
        self.versions.push(version);
        let surplus = self.versions.len().saturating_sub(keep);
        self.versions.drain(..surplus);
    }

    /// One of the versions serves again. Nothing changes where it is none of them.
    pub fn rolled_back(&mut self, to: VersionId, configured: Option<VersionId>) {
        if let Some(place) = self.position(to) {
            self.versions[place].since = Timestamp::now();
            self.current = to;
            self.configured = configured;
        }
    }

    /// Drops a version that cannot be had any more. The current one stays.
    pub fn lost(&mut self, version: VersionId) {
        let current = self.current;
        self.versions
            .retain(|known| known.version != version || known.version == current);
    }

    fn move_to_the_end(&mut self, version: VersionId) {
        if let Some(place) = self.position(version) {
            let moved = self.versions.remove(place);
            self.versions.push(moved);
        }
    }

    fn position(&self, version: VersionId) -> Option<usize> {
        let mut versions = self.versions.iter();
        versions.position(|known| known.version == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str) -> Version {
        Version {
            version: id(name),
            size: 1,
            since: Timestamp::now(),
            source: Source::Deployed,
        }
    }

    fn id(name: &str) -> VersionId {
        VersionId::of(name.as_bytes())
    }

    fn record(names: &[&str]) -> Record {
        let mut record = Record::new("app", version(names[0]), Some(id("file")));
        for name in &names[1..] {
            record.deployed(version(name), Some(id("file")), KEPT);
        }
        record
    }

    fn order(record: &Record) -> Vec<VersionId> {
        let versions = record.versions().iter();
        versions.map(|version| version.version).collect()
    }

    #[test]
    fn going_back_goes_back_further_each_time_and_a_deploy_stands_behind_what_served() {
        let mut record = record(&["1", "2", "3"]);
        assert_eq!(
            record.before_current().collect::<Vec<_>>(),
            [id("2"), id("1")]
        );
        record.rolled_back(id("2"), None);
        record.rolled_back(id("1"), None);
        assert_eq!(record.current(), id("1"));
        assert_eq!(record.before_current().next(), None);
        assert_eq!(order(&record), [id("1"), id("2"), id("3")]);
        record.deployed(version("4"), None, KEPT);
        assert_eq!(order(&record), [id("2"), id("3"), id("1"), id("4")]);
        assert_eq!(record.before_current().next(), Some(id("1")));
        record.rolled_back(id("nowhere"), None);
        assert_eq!(record.current(), id("4"));
    }

    #[test]
    fn the_same_code_is_the_same_version() {
        let mut record = record(&["1", "2"]);
        record.deployed(version("1"), None, KEPT);
        assert_eq!(order(&record), [id("2"), id("1")]);
        record.deployed(version("1"), None, KEPT);
        assert_eq!(order(&record), [id("2"), id("1")]);
    }

    #[test]
    fn the_oldest_are_dropped_and_never_what_served_last() {
        let names: Vec<_> = (0..KEPT).map(|number| number.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut record = record(&names);
        assert_eq!(record.versions().len(), KEPT);
        record.rolled_back(id("0"), None);
        record.deployed(version("new"), None, KEPT);
        assert_eq!(record.versions().len(), KEPT);
        assert!(!record.has(id("1")), "the oldest that did not serve");
        assert_eq!(record.before_current().next(), Some(id("0")));
        record.lost(id("0"));
        record.lost(id("new"));
        assert!(!record.has(id("0")) && record.has(id("new")));
    }

    #[test]
    fn a_record_is_read_as_it_was_written_or_not_at_all() {
        let record = record(&["1", "2"]);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(Record::parse("app", text.as_bytes()), Ok(record));
        for (wrong, part) in [
            (text.replace("\"format\":1", "\"format\":2"), "format 2"),
            (text.replace("\"app\":\"app\"", "\"app\":\"chat\""), "chat"),
            (
                text.replacen(&id("2").to_string(), &id("3").to_string(), 1),
                "not among",
            ),
            (
                text.replace(&id("1").to_string(), &id("2").to_string()),
                "twice",
            ),
            (text[..text.len() / 2].to_owned(), "EOF"),
            (text.replace(&id("2").to_string(), "../../x"), "hexadecimal"),
            (String::new(), "EOF"),
        ] {
            let error = Record::parse("app", wrong.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
