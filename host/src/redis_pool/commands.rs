//! Commands on a connection that many callers share: which it cannot bear, and their form on the wire.
//!
//! Every command must have exactly one answer, soon, and leave the connection as it was. One that does not would
//! hand the answers of one caller to another, or keep all of them waiting.

use super::RedisError;

/// The largest command, in bytes. Redis itself cuts the connection at a larger one, but at that of all callers.
pub(super) const COMMAND_BYTES: usize = 32 * 1024 * 1024;
/// The most arguments of a command. Redis cuts the connection at 1,048,576.
const ARGUMENTS: usize = 1_000_000;

const PUBSUB: &str = "it would turn the connection, which others share, into one that only listens; to hear what is \
                      published, use a publisher";
const TRANSACTION: &str = "the connection is shared, and the commands of others would end up in the transaction; use a \
                           script (EVAL) for what must happen together";
const STATE: &str = "it would change the connection for all who share it; user, password and database belong in the URL";
const BLOCKING: &str = "it would keep all who share the connection waiting; ask again instead, or use a command that \
                        answers at once";
const ENDING: &str = "it would end the connection for all who share it";
const REPLICATION: &str =
    "it would turn the connection, which others share, into one of a replica or a monitor";

/// Why a command cannot be sent over the shared connection, if it cannot.
fn refusal(command: &str, arguments: &[Vec<u8>]) -> Option<&'static str> {
    let first = arguments.first().map(Vec::as_slice).unwrap_or_default();
    Some(match command {
        "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE"
        | "SUNSUBSCRIBE" => PUBSUB,
        "MULTI" | "EXEC" | "DISCARD" | "WATCH" | "UNWATCH" => TRANSACTION,
        "AUTH" | "HELLO" | "SELECT" | "RESET" | "CLIENT" | "READONLY" | "READWRITE" | "ASKING" => {
            STATE
        }
        "SCRIPT" if first.eq_ignore_ascii_case(b"DEBUG") => STATE,
        "BLPOP" | "BRPOP" | "BLMOVE" | "BRPOPLPUSH" | "BLMPOP" | "BZPOPMIN" | "BZPOPMAX"
        | "BZMPOP" | "WAIT" | "WAITAOF" | "DEBUG" => BLOCKING,
        "XREAD" | "XREADGROUP" if blocks(arguments) => BLOCKING,
        // Redis takes the last two for a browser that was tricked into speaking to it, and hangs up.
        "QUIT" | "SHUTDOWN" | "POST" | "HOST:" => ENDING,
        "MONITOR" | "SYNC" | "PSYNC" | "REPLCONF" => REPLICATION,
        _ => return None,
    })
}

/// Whether XREAD or XREADGROUP has the option BLOCK. What follows STREAMS are names and ids, and what follows
/// GROUP is a group and a consumer: these may have any name.
fn blocks(arguments: &[Vec<u8>]) -> bool {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument.eq_ignore_ascii_case(b"GROUP") {
            arguments.nth(1);
        } else if argument.eq_ignore_ascii_case(b"STREAMS") {
            return false;
        } else if argument.eq_ignore_ascii_case(b"BLOCK") {
            return true;
        }
    }
    false
}

/// Refuses what cannot be sent over the shared connection.
pub(super) fn check(command: &str, arguments: &[Vec<u8>]) -> Result<(), RedisError> {
    if command.is_empty() {
        return Err(RedisError::Invalid(
            "a Redis command must not be empty".into(),
        ));
    }
    if command.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(RedisError::Invalid(format!(
            "a Redis command is one word, and {command:?} is not: what follows the first word are arguments"
        )));
    }
    match refusal(&command.to_ascii_uppercase(), arguments) {
        Some(reason) => Err(RedisError::Denied(format!(
            "the Redis command {command} is not allowed: {reason}"
        ))),
        None => Ok(()),
    }
}

/// A command in its form on the wire.
pub(super) fn encode(command: &str, arguments: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, RedisError> {
    let bytes = command.len()
        + arguments
            .iter()
            .map(|argument| argument.as_ref().len())
            .sum::<usize>();
    if bytes > COMMAND_BYTES || arguments.len() > ARGUMENTS {
        return Err(RedisError::Limited(format!(
            "a Redis command has at most {COMMAND_BYTES} bytes and {ARGUMENTS} arguments, and this one has {bytes} \
             and {}; send it in parts",
            arguments.len()
        )));
    }
    let mut out = Vec::with_capacity(bytes + 32 * (arguments.len() + 2));
    out.extend_from_slice(format!("*{}\r\n", arguments.len() + 1).as_bytes());
    push(&mut out, command.as_bytes());
    for argument in arguments {
        push(&mut out, argument.as_ref());
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, argument: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
    out.extend_from_slice(argument);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use redis::Value;

    use super::*;

    fn outcome(line: &str) -> Result<(), RedisError> {
        let mut words = line.split(' ');
        let command = words.next().unwrap();
        let arguments: Vec<_> = words.map(|word| word.as_bytes().to_vec()).collect();
        check(command, &arguments)
    }

    #[test]
    fn commands_that_the_shared_connection_cannot_bear_are_denied() {
        for line in [
            "SUBSCRIBE a",
            "psubscribe a*",
            "SSubscribe a",
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "SUNSUBSCRIBE",
            "MONITOR",
            "MULTI",
            "exec",
            "DISCARD",
            "WATCH k",
            "UNWATCH",
            "SELECT 1",
            "AUTH x",
            "HELLO 3",
            "RESET",
            "QUIT",
            "CLIENT REPLY OFF",
            "CLIENT KILL x",
            "READONLY",
            "READWRITE",
            "ASKING",
            "SYNC",
            "PSYNC ? -1",
            "REPLCONF x",
            "BLPOP k 0",
            "BRPOP k 0",
            "BLMOVE a b LEFT LEFT 0",
            "BRPOPLPUSH a b 0",
            "BZPOPMIN k 0",
            "BZPOPMAX k 0",
            "BLMPOP 0 1 k LEFT",
            "BZMPOP 0 1 k MIN",
            "XREAD BLOCK 0 STREAMS s $",
            "xread COUNT 1 block 0 STREAMS s $",
            "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
            "WAIT 1 0",
            "WAITAOF 1 1 0",
            "DEBUG SLEEP 1",
            "debug sleep 1",
            "SHUTDOWN",
            "POST",
            "host:",
            "SCRIPT DEBUG YES",
        ] {
            let Err(RedisError::Denied(error)) = outcome(line) else {
                panic!("{line} was allowed");
            };
            assert!(error.contains(line.split(' ').next().unwrap()), "{error}");
        }
    }

    #[test]
    fn all_others_are_allowed() {
        for line in [
            "GET k",
            "EVAL return 0",
            "PUBLISH c BLOCK",
            "XREAD STREAMS BLOCK 0",
            "XREADGROUP GROUP BLOCK BLOCK STREAMS s >",
            "SCRIPT LOAD DEBUG",
            "PING",
            "SUBSTR k 0 1",
            "FT.SEARCH i q",
            "PUBSUB CHANNELS",
        ] {
            assert_eq!(outcome(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn a_command_is_one_word() {
        for command in ["", " ", "GET k", "GET\r\n", "\0", "GET\u{a0}k"] {
            assert!(
                matches!(check(command, &[]), Err(RedisError::Invalid(_))),
                "{command:?}"
            );
        }
    }

    #[test]
    fn arguments_may_hold_anything_but_not_be_too_large() {
        let wire = encode("SET", &[b"k\r\n".as_slice(), b""]).unwrap();
        assert_eq!(wire, b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n");
        let large = vec![0; COMMAND_BYTES];
        assert!(matches!(
            encode("SET", &[large]),
            Err(RedisError::Limited(_))
        ));
        let many = vec![[0u8; 0]; ARGUMENTS + 1];
        assert!(matches!(encode("DEL", &many), Err(RedisError::Limited(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_one_command_of_just_these_words(
            command in "\\PC{1,20}",
            arguments in vec(vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'$')], 0..20), 0..10),
        ) {
            let word = |word: &[u8]| Value::BulkString(word.to_vec());
            let words = [word(command.as_bytes())].into_iter();
            let words = words.chain(arguments.iter().map(|argument| word(argument)));
            let wire = encode(&command, &arguments).unwrap();
            prop_assert_eq!(redis::parse_redis_value(&wire).unwrap(), Value::Array(words.collect()));
        }
    }
}
