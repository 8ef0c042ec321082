//! `[admin]`: the listener for those who run the node.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use thiserror::Error;

use super::checks::Checks;
use super::error::KeyPath;
use super::schema::{DurationText, SizeText};
use super::secret::Secret;
use super::{socket_address, units};

/// The variable of the environment that holds the token where the file has none.
pub const ADMIN_TOKEN: &str = "FANFARE_ADMIN_TOKEN";

/// A token of fewer characters could be guessed.
const TOKEN_LEAST: usize = 16;
/// More than this is no token, but something else in its place.
const TOKEN_MOST: usize = 1024;
/// The largest component that may ever be uploaded.
const UPLOAD_MOST: u64 = 1 << 30;

/// The admin listener: metrics, health, and new code for apps, for those who run the node. Without this table there is
/// none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Admin {
    /// The IP address and port. Without a token, one of loopback, such as `127.0.0.1:9090` or `[::1]:9090`, because
    /// the listener asks nobody who they are then.
    #[serde(deserialize_with = "socket_address::deserialize")]
    pub address: SocketAddr,
    /// What a request has to bring, all but those for health, as `Authorization: Bearer …`; 16 characters or more. It
    /// is needed to deploy, but for a node in development. Without this key it is what the variable
    /// `FANFARE_ADMIN_TOKEN` of the environment holds.
    #[serde(default)]
    #[schemars(with = "String")]
    pub token: Option<Secret>,
    /// The largest component that may be uploaded.
    #[serde(default = "upload_bytes", with = "units::size")]
    #[schemars(with = "SizeText")]
    pub upload_bytes: u64,
    /// How long an upload may take.
    #[serde(default = "upload_timeout", with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub upload_timeout: Duration,
}

fn upload_bytes() -> u64 {
    64 << 20
}

fn upload_timeout() -> Duration {
    Duration::from_secs(60)
}

/// Why an admin listener cannot be as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdminError {
    /// Others than this machine would reach it, and it would not ask who they are.
    #[error(
        "without a token the admin listener asks nobody who they are, so it listens on loopback only, such as \
         \"127.0.0.1:9090\"; set `admin.token` or the variable {ADMIN_TOKEN}, or reach it from elsewhere through a \
         tunnel"
    )]
    NotLoopback,
    /// Not a token.
    #[error(
        "a token (`admin.token`, or the variable {ADMIN_TOKEN}) has {TOKEN_LEAST} to {TOKEN_MOST} characters out of \
         letters, digits and -._~+/=, such as `openssl rand -hex 32` prints"
    )]
    Token,
}

impl Admin {
    /// An admin listener at this address, with defaults.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            token: None,
            upload_bytes: upload_bytes(),
            upload_timeout: upload_timeout(),
        }
    }

    /// Takes the token from the environment, unless there is one. An empty variable is none.
    pub fn take_token(&mut self, env: &dyn Fn(&str) -> Option<String>) {
        if self.token.is_none() {
            let token = env(ADMIN_TOKEN).filter(|token| !token.is_empty());
            self.token = token.map(Secret::new);
        }
    }

    /// Whether it may be opened: token and address.
    pub fn allowed(&self) -> Result<(), AdminError> {
        match &self.token {
            Some(token) if !is_token(token.expose()) => Err(AdminError::Token),
            Some(_) => Ok(()),
            // Such as `::ffff:127.0.0.1`, too.
            None if self.address.ip().to_canonical().is_loopback() => Ok(()),
            None => Err(AdminError::NotLoopback),
        }
    }

    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        match self.allowed() {
            Ok(()) => {}
            Err(error @ AdminError::NotLoopback) => checks.refuse(at.key("address"), error),
            Err(error @ AdminError::Token) => checks.refuse_secret(at.key("token"), error),
        }
        checks.size(at, "upload-bytes", self.upload_bytes, 1 << 10..=UPLOAD_MOST);
        checks.not_zero(at, "upload-timeout", self.upload_timeout);
    }
}

/// RFC 6750, section 2.1, and long enough.
pub fn is_token(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (TOKEN_LEAST..=TOKEN_MOST).contains(&text.len()) && text.bytes().all(is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Config,
        tests::{mistake, parse, says},
    };

    #[test]
    fn without_a_token_only_loopback_is_taken() {
        let new = |address: &str| Admin::new(address.parse().unwrap());
        for fine in [
            "127.0.0.1:0",
            "127.1.2.3:9090",
            "[::1]:9090",
            "[::ffff:127.0.0.1]:9090",
        ] {
            assert_eq!(new(fine).allowed(), Ok(()), "{fine}");
        }
        for wrong in [
            "0.0.0.0:9090",
            "[::]:9090",
            "10.0.0.1:9090",
            "192.0.2.1:9090",
            "[::ffff:192.0.2.1]:9090",
            "[fe80::1]:9090",
        ] {
            let mut admin = new(wrong);
            assert_eq!(admin.allowed(), Err(AdminError::NotLoopback), "{wrong}");
            admin.token = Some(Secret::new("0123456789abcdef"));
            assert_eq!(admin.allowed(), Ok(()), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_long_and_can_be_sent() {
        for fine in ["0123456789abcdef", "AZaz09-._~+/=AZaz", &"x".repeat(1024)] {
            assert!(is_token(fine), "{fine}");
        }
        for wrong in [
            "",
            "short",
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789abcdef\n",
            "0123456789abcdeä",
            &"x".repeat(1025),
        ] {
            assert!(!is_token(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_token_of_the_environment_is_for_a_listener_that_has_none() {
        let mut admin = Admin::new("127.0.0.1:0".parse().unwrap());
        admin.take_token(&|_| Some(String::new()));
        assert_eq!(admin.token, None);
        admin.take_token(&|name| Some(format!("value of {name}")));
        admin.take_token(&|_| Some("another".into()));
        let token = admin.token.unwrap();
        assert_eq!(token.expose(), "value of FANFARE_ADMIN_TOKEN");
    }

    #[test]
    fn the_admin_listener_is_absent_or_on_loopback_or_asks_for_a_token() {
        assert_eq!(parse("").unwrap().admin, None);
        let admin = parse("[admin]\naddress = \"[::1]:0\"").unwrap().admin;
        let admin = admin.unwrap();
        assert_eq!(admin.address.to_string(), "[::1]:0");
        assert_eq!(admin.token, None);
        let everywhere = "[admin]\naddress = \"0.0.0.0:9090\"";
        says(
            everywhere,
            "2:11: admin.address: without a token the admin listener asks nobody who they are, so it listens on loopback \
             only, such as \"127.0.0.1:9090\"; set `admin.token` or the variable FANFARE_ADMIN_TOKEN, or reach it from \
             elsewhere through a tunnel (it is \"0.0.0.0:9090\")",
        );
        parse(&format!("{everywhere}\ntoken = \"0123456789abcdef\"")).unwrap();
        let env = |name: &str| (name == ADMIN_TOKEN).then(|| "of-the-environment".to_owned());
        let config = Config::parse(everywhere, "fanfare.toml".as_ref(), &env).unwrap();
        let token = config.admin.unwrap().token.unwrap();
        assert_eq!(token.expose(), "of-the-environment");
        let said = mistake(&format!("{everywhere}\ntoken = \"hunter2\""));
        assert!(said.starts_with("3:9: admin.token: a token "), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        says(
            "[admin]",
            "1:1: admin: the key `address` is missing; add `address = …` here",
        );
    }
}
