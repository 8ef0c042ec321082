//! Inputs out of other inputs: small damage, other inputs' parts, and words that mean something where they go.

use serde_json::Value;

/// The longest input, in bytes.
const BYTES: usize = 16 << 10;
/// Changes of one input, at most.
const CHANGES: usize = 4;
/// Numbers at which something ends: a byte, an integer, a range of statuses.
const NUMBERS: [u64; 18] = [
    0,
    1,
    9,
    99,
    100,
    127,
    128,
    199,
    204,
    255,
    256,
    304,
    599,
    600,
    1000,
    65_535,
    65_536,
    u32::MAX as u64,
];
/// What is odd in any text: line endings, ends of texts in C, what a terminal obeys, marks that are not seen, and the
/// characters at which the length of their encoding changes.
const ODD: [&str; 24] = [
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\0",
    "\t",
    " ",
    ":",
    "\"",
    "\\",
    "%",
    "/",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{80}",
    "\u{85}",
    "\u{a0}",
    "\u{7ff}",
    "\u{800}",
    "\u{2028}",
    "\u{202e}",
    "\u{feff}",
    "\u{ffff}",
    "\u{10ffff}",
];

/// Makes inputs. The same seed makes the same ones.
pub(crate) struct Mutator {
    state: u64,
    words: &'static [&'static str],
}

impl Mutator {
    /// For inputs in which these words have a meaning.
    pub(crate) fn new(seed: u64, words: &'static [&'static str]) -> Self {
        Self { state: seed, words }
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// An input near one of these.
    pub(crate) fn bytes(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(pool).clone();
        for _ in 0..=self.below(CHANGES) {
            self.change(&mut bytes, pool);
        }
        bytes.truncate(BYTES);
        bytes
    }

    /// A text near this one.
    fn text(&mut self, text: &str) -> String {
        let pool = [text.as_bytes().to_vec()];
        String::from_utf8_lossy(&self.bytes(&pool)).into_owned()
    }

    /// A JSON document of the shape of one of these, with other texts and numbers in it.
    pub(crate) fn json(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let chosen = self.pick(pool).clone();
        let mut value = serde_json::from_slice(&chosen).expect("the corpus of this target is JSON");
        self.change_json(&mut value, 0);
        value.to_string().into_bytes()
    }

    fn change_json(&mut self, value: &mut Value, depth: usize) {
        match value {
            Value::Array(values) => {
                // The first text of a step names the step.
                let is_step = depth == 1 && values.first().is_some_and(Value::is_string);
                for value in values.iter_mut().skip(usize::from(is_step)) {
                    self.change_json(value, depth + 1);
                }
            }
            Value::Object(fields) => {
                for value in fields.values_mut() {
                    self.change_json(value, depth + 1);
                }
            }
            Value::String(text) if self.below(3) == 0 => *text = self.text(text),
            Value::Number(_) if self.below(3) == 0 => *value = (*self.pick(&NUMBERS)).into(),
            _ => {}
        }
    }

    fn change(&mut self, bytes: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let (start, end) = self.range(bytes.len());
        let at = self.below(bytes.len() + 1);
        match self.below(10) {
            0 if !bytes.is_empty() => {
                let place = self.below(bytes.len());
                bytes[place] ^= 1 << self.below(8);
            }
            1 if !bytes.is_empty() => {
                let place = self.below(bytes.len());
                bytes[place] = *self.pick(&NUMBERS) as u8;
            }
            2 => {
                bytes.drain(start..end);
            }
            3 => {
                let copy = bytes[start..end].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => bytes.truncate(at),
            5 => {
                let number = self.pick(&NUMBERS).to_string();
                bytes.splice(start..end.min(start + 3), number.into_bytes());
            }
            6 => {
                // Many of one: past a limit of length, or of depth.
                let one = self.pick(&ODD).as_bytes().to_vec();
                let one = match bytes.get(start) {
                    Some(byte) if self.below(2) == 0 => vec![*byte],
                    _ => one,
                };
                let times = 1 << self.below(12);
                bytes.splice(at..at, one.repeat(times));
            }
            7 => {
                let other = self.pick(pool);
                let (from, to) = self.range(other.len());
                bytes.splice(start..end, other[from..to].iter().copied());
            }
            8 if !self.words.is_empty() => {
                let word = self.pick(self.words).as_bytes();
                bytes.splice(at..at, word.iter().copied());
            }
            _ => {
                let odd = self.pick(&ODD).as_bytes();
                bytes.splice(at..at, odd.iter().copied());
            }
        }
    }

    /// A part of something of this length, mostly a short one.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let start = self.below(length + 1);
        let longest = 1 << self.below(10);
        (start, (start + self.below(longest)).min(length))
    }
}

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let pool = [b"one".to_vec(), b"[1, [\"two\", \"three\"]]".to_vec()];
    let inputs = |seed| {
        let mut mutator = Mutator::new(seed, &["word"]);
        let bytes: Vec<_> = (0..100).map(|_| mutator.bytes(&pool)).collect();
        let json: Vec<_> = (0..100).map(|_| mutator.json(&pool[1..])).collect();
        (bytes, json)
    };
    let (bytes, json) = inputs(1);
    assert_eq!((&bytes, &json), (&inputs(1).0, &inputs(1).1));
    assert_ne!(bytes, inputs(2).0);
    assert!(bytes.iter().any(|input| input.starts_with(b"one")));
    for document in json {
        let document: Value = serde_json::from_slice(&document).expect("it stays JSON");
        assert!(
            document[0].is_number() && document[1][0] == "two",
            "{document}"
        );
    }
}
