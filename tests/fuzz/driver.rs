//! The driver: tries every input of a target's corpus, then as many mutations of them as it may.
//!
//! An input that comes to something new joins those that are mutated, so a long run finds its way past the first check.

use std::{
    collections::HashSet,
    env,
    fs::{self, File},
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::mutate::Mutator;

/// Mutations for each target, in place of its own number.
const RUNS: &str = "FANFARE_FUZZ_RUNS";
/// Seconds for each target, in place of a number of mutations.
const SECONDS: &str = "FANFARE_FUZZ_SECONDS";
/// Other mutations than those of every run.
const SEED: &str = "FANFARE_FUZZ_SEED";
/// Inputs that are mutated, at most, besides the corpus.
const LEARNT: usize = 2000;

/// Something that takes inputs from strangers.
pub(crate) struct Target {
    /// The folder of its corpus.
    pub(crate) name: &'static str,
    /// Mutations that are tried where nobody says how many: what takes a second or two.
    pub(crate) runs: u64,
    /// What has a meaning in its inputs.
    pub(crate) words: &'static [&'static str],
}

/// The input that is tried, in a file that stays where the test fails, even where the process ends.
struct Tried {
    path: PathBuf,
    file: File,
}

/// When to stop.
enum Budget {
    Runs(u64),
    Until(Instant),
}

impl Target {
    /// Tries bytes. What `attempt` returns is what an input came to, such as the case of an error.
    #[track_caller]
    pub(crate) fn fuzz(&self, attempt: impl FnMut(&[u8]) -> String) {
        self.run(Mutator::bytes, attempt);
    }

    /// Tries JSON documents.
    #[track_caller]
    pub(crate) fn fuzz_json(&self, attempt: impl FnMut(&[u8]) -> String) {
        self.run(Mutator::json, attempt);
    }

    #[track_caller]
    fn run(
        &self,
        mutate: fn(&mut Mutator, &[Vec<u8>]) -> Vec<u8>,
        mut attempt: impl FnMut(&[u8]) -> String,
    ) {
        let begun = Instant::now();
        let tried = Tried::new(self.name);
        let mut pool = Vec::new();
        let mut known = HashSet::new();
        for (path, input) in self.corpus() {
            known.insert(self.attempt(&tried, &path.display().to_string(), &input, &mut attempt));
            pool.push(input);
        }
        let seed = number(SEED).unwrap_or(1);
        let mut mutator = Mutator::new(seed, self.words);
        let (own, mut runs) = (pool.len(), 0);
        let budget = self.budget();
        while budget.is_left(runs) {
            runs += 1;
            let input = mutate(&mut mutator, &pool);
            let outcome = self.attempt(&tried, &format!("mutation {runs}"), &input, &mut attempt);
            if known.insert(outcome) && pool.len() < own + LEARNT {
                pool.push(input);
            }
        }
        println!(
            "{}: {own} inputs and {runs} mutations came to {} outcomes in {:.1?}",
            self.name,
            known.len(),
            begun.elapsed()
        );
    }

    /// What is committed, in the order of the names. Components may be written as text.
    fn corpus(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(self.name);
        let entries = fs::read_dir(&folder).expect("the target has a corpus");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("a folder can be read").path())
            .collect();
        paths.sort();
        assert!(!paths.is_empty(), "{} is empty", folder.display());
        let read = |path: PathBuf| {
            let input = match path.extension().is_some_and(|extension| extension == "wat") {
                true => wat::parse_file(&path).expect("the text is WebAssembly"),
                false => fs::read(&path).expect("a file can be read"),
            };
            (path, input)
        };
        paths.into_iter().map(read).collect()
    }

    /// Tries one.
    fn attempt(
        &self,
        tried: &Tried,
        what: &str,
        input: &[u8],
        attempt: &mut impl FnMut(&[u8]) -> String,
    ) -> String {
        tried.put(input);
        match catch_unwind(AssertUnwindSafe(|| attempt(input))) {
            Ok(outcome) => outcome,
            Err(panic) => {
                eprintln!(
                    "the target {} fails with {what}; the input is in {}: mend what is wrong, and copy it into \
                     tests/fuzz/corpus/{}, under a name that says what was",
                    self.name,
                    tried.path.display(),
                    self.name
                );
                resume_unwind(panic)
            }
        }
    }

    fn budget(&self) -> Budget {
        match number(SECONDS) {
            Some(seconds) => Budget::Until(Instant::now() + Duration::from_secs(seconds)),
            None => Budget::Runs(number(RUNS).unwrap_or(self.runs)),
        }
    }
}

impl Tried {
    fn new(target: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
        fs::create_dir_all(&folder).expect("a folder can be made");
        let path = folder.join(target);
        let file = File::create(&path).expect("a file can be made");
        Self { path, file }
    }

    /// Puts another in its place. Not as a new file: some file systems write one to the disk at once.
    fn put(&self, input: &[u8]) {
        let put = self.file.write_all_at(input, 0);
        put.and_then(|()| self.file.set_len(input.len() as u64))
            .expect("a file can be written");
    }
}

impl Budget {
    fn is_left(&self, runs: u64) -> bool {
        match self {
            Self::Runs(most) => runs < *most,
            Self::Until(end) => Instant::now() < *end,
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is a number, and {text:?} is none")))
}

/// A text without what tells one input from another: numbers, and what stands between quotes.
pub(crate) fn gist(text: &str) -> String {
    let mut quote = None;
    let kept = text.chars().filter(|c| match quote {
        Some(open) if *c == open => {
            quote = None;
            false
        }
        Some(_) => false,
        None if matches!(c, '"' | '`') => {
            quote = Some(*c);
            false
        }
        None => !c.is_ascii_digit(),
    });
    kept.take(200).collect()
}
