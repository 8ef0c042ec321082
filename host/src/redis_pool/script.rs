//! A script that runs on the server, in one step.

use std::sync::OnceLock;

use sha1::{Digest, Sha1};

/// A script in Lua.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    /// Its SHA-1 in hexadecimal digits, by which the server knows it.
    digest: OnceLock<String>,
}

impl Script {
    /// A script of this text.
    pub const fn new(text: &'static str) -> Self {
        Self {
            text,
            digest: OnceLock::new(),
        }
    }

    pub(super) fn text(&self) -> &[u8] {
        self.text.as_bytes()
    }

    pub(super) fn digest(&self) -> &[u8] {
        let digest = || {
            let digest = Sha1::digest(self.text);
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        self.digest.get_or_init(digest).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_knows_it_by_its_digest() {
        // FIPS 180-2, appendix A.1.
        let script = Script::new("abc");
        assert_eq!(script.digest(), b"a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
