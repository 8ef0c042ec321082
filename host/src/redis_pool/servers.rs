//! Which server it is, where there are several.

use futures_util::future::select_ok;
use redis::Value;

use super::{
    RedisError, RedisUrl,
    dial::{Dialer, query},
    replies::Reply,
    url, value,
};

/// The slots of a cluster.
const SLOTS: u16 = 16_384;

/// What is to be found at an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Servers {
    /// The server itself.
    One,
    /// A sentinel, which knows where the server is.
    Sentinels {
        /// What the sentinels call it.
        master: String,
        /// Where other sentinels are: host and port.
        others: Vec<(String, u16)>,
    },
    /// A node of a cluster, which knows which other one has a key.
    Cluster {
        /// What the keys have in braces.
        key: String,
        /// Where other nodes are: host and port.
        others: Vec<(String, u16)>,
    },
}

impl Servers {
    /// Sentinels at the address and at these other ones, `host:port`, that know a server by this name.
    pub fn sentinels(master: &str, others: &[String]) -> Result<Self, RedisError> {
        Ok(Self::Sentinels {
            master: master.to_owned(),
            others: places(others)?,
        })
    }

    /// A cluster with nodes at the address and at these other ones, `host:port`.
    pub fn cluster(others: &[String]) -> Result<Self, RedisError> {
        Ok(Self::Cluster {
            key: String::new(),
            others: places(others)?,
        })
    }

    /// Whether they are a cluster.
    pub fn are_cluster(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }

    /// Whether a reply says that another server is in charge now.
    pub(super) fn tell_of_another(&self, reply: &Reply) -> bool {
        let (Reply::Whole(reply), false) = (reply, *self == Self::One) else {
            return false;
        };
        let words: [&[u8]; 4] = [b"-READONLY", b"-MOVED", b"-MASTERDOWN", b"-CLUSTERDOWN"];
        words.iter().any(|word| reply.starts_with(word))
    }
}

fn places(addresses: &[String]) -> Result<Vec<(String, u16)>, RedisError> {
    addresses
        .iter()
        .map(|address| url::place_of(address))
        .collect()
}

impl Dialer {
    /// Finds the server, where the address is not its own. Whoever answers first is believed.
    pub(super) async fn find(&self, url: &RedisUrl) -> Result<Option<RedisUrl>, RedisError> {
        let others = match url.servers() {
            Servers::One => return Ok(None),
            Servers::Sentinels { others, .. } | Servers::Cluster { others, .. } => others,
        };
        let others = others.iter().map(|(host, port)| url.at(host, *port));
        let places = [url.at(url.host(), url.port())].into_iter().chain(others);
        let asked = places.map(|place| {
            Box::pin(async move {
                match url.servers() {
                    Servers::Sentinels { master, .. } => self.ask_sentinel(&place, master).await,
                    Servers::Cluster { key, .. } => self.ask_cluster(&place, key).await,
                    Servers::One => Ok(place),
                }
            })
        });
        let (found, _) = select_ok(asked).await?;
        Ok(Some(found))
    }

    async fn ask_sentinel(&self, place: &RedisUrl, master: &str) -> Result<RedisUrl, RedisError> {
        // Most sentinels let everybody in; those that do not have the login of the servers.
        let sentinel = place.without_login();
        let mut connection = match self.open_one(&sentinel).await {
            Err(RedisError::Denied(_)) => self.open_one(&place.clone().in_database(0)).await?,
            opened => opened?,
        };
        let address = place.address();
        let arguments = ["get-master-addr-by-name", master];
        let reply = query(&mut connection, place, "SENTINEL", &arguments).await?;
        match value::parse(&address, &reply)? {
            Value::Array(parts) => match parts.as_slice() {
                [Value::BulkString(host), Value::BulkString(port)] => server(place, host, port),
                _ => None,
            },
            Value::Nil => {
                return Err(RedisError::Unavailable(format!(
                    "the sentinel at {address} knows no server {master:?}; check `sentinel` against its configuration"
                )));
            }
            _ => None,
        }
        .ok_or_else(|| odd(&address))
    }

    async fn ask_cluster(&self, place: &RedisUrl, key: &str) -> Result<RedisUrl, RedisError> {
        let mut connection = self.open_one(place).await?;
        let address = place.address();
        let reply = query(&mut connection, place, "CLUSTER", &["SLOTS"]).await?;
        let Value::Array(ranges) = value::parse(&address, &reply)? else {
            return Err(odd(&address));
        };
        let slot = slot(key.as_bytes());
        for range in ranges {
            let Value::Array(range) = range else {
                return Err(odd(&address));
            };
            let [Value::Int(first), Value::Int(last), Value::Array(owner), ..] = range.as_slice()
            else {
                return Err(odd(&address));
            };
            if (*first..=*last).contains(&slot.into()) {
                let (host, port) = match owner.as_slice() {
                    [Value::BulkString(host), Value::Int(port), ..] => (host.as_slice(), port),
                    // It does not know its own name: it is where it was asked.
                    [Value::Nil, Value::Int(port), ..] => (b"".as_slice(), port),
                    _ => return Err(odd(&address)),
                };
                let found = server(place, host, port.to_string().as_bytes());
                return found.ok_or_else(|| odd(&address));
            }
        }
        Err(RedisError::Unavailable(format!(
            "the cluster of Redis at {address} has no server for slot {slot}, which {key:?} is in"
        )))
    }
}

/// The server that was told; one without a name is where it was asked for.
fn server(asked: &RedisUrl, host: &[u8], port: &[u8]) -> Option<RedisUrl> {
    let host = std::str::from_utf8(host).ok()?;
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    let host = if host.is_empty() { asked.host() } else { host };
    Some(asked.at(host, port))
}

fn odd(address: &str) -> RedisError {
    RedisError::Unavailable(format!(
        "Redis at {address} does not say in a way that is known here which server is in charge; is it what the \
         configuration says, a sentinel or a node of a cluster?"
    ))
}

/// The slot of a key (Redis Cluster specification, "Key distribution model"): CRC-16/XMODEM.
fn slot(key: &[u8]) -> u16 {
    let crc = key.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_as_the_specification_says() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b""), 0);
        assert_eq!(slot(b"foo"), 12_182);
    }

    #[test]
    fn a_server_that_is_not_in_charge_says_so() {
        let sentinels = Servers::sentinels("main", &["h:1".into()]).unwrap();
        let reply = |text: &'static str| Reply::Whole(text.as_bytes().into());
        for text in [
            "-READONLY no\r\n",
            "-MOVED 1 h:2\r\n",
            "-CLUSTERDOWN no\r\n",
        ] {
            assert!(sentinels.tell_of_another(&reply(text)), "{text}");
            assert!(!Servers::One.tell_of_another(&reply(text)), "{text}");
        }
        assert!(!sentinels.tell_of_another(&reply("-ERR no\r\n")));
        assert!(Servers::cluster(&["h:0".into()]).is_err());
    }
}
