//! What guests and deployers can send, and much that is near it: nothing of it may end the host, and what is taken has to
//! arrive as it was given.
//!
//! # Layout
//!
//! - [`driver`]: tries what is in `corpus/<target>/`, and mutations of it; [`mutate`] makes these.
//! - [`component`]: components, read and compiled.
//! - [`versions`]: the files of the data folder.
//! - `config`: `fanfare.toml`.
//! - [`texts`]: origins, addresses, URLs, names, versions.
//! - [`events`]: events, written and read back.
//! - [`node`]: a node that is fuzzed.
//! - [`scripts`]: every text that a guest can hand to the host, through a real node; [`responses`]: its responses.
//! - [`http`]: requests, to the apps and to the admin listener, through real sockets.
//!
//! Nothing here is left to chance: every run tries the same inputs. A long run, by hand, takes another seed, and so many
//! seconds or mutations for each target:
//!
//! ```text
//! FANFARE_FUZZ_SEED=7 FANFARE_FUZZ_SECONDS=600 cargo test --workspace --test fuzz -- --nocapture
//! ```
//!
//! An input that fails is left in a file, which the test names. It belongs into the corpus of its target, in the commit
//! that mends what it has shown.

mod guests {
    //! Where the components are.
    #![allow(dead_code, reason = "the end-to-end tests serve the others")]

    include!(concat!(env!("OUT_DIR"), "/guests.rs"));
}

mod driver;
mod mutate;

mod component;
mod config;
mod events;
mod http;
mod node;
mod responses;
mod scripts;
mod texts;
mod versions;
