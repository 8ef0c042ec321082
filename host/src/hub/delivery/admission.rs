//! Admission: how many connections a node has, and how many of them one client.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use super::super::{HubError, slab::Slab};

/// Counts connections.
#[derive(Debug)]
pub(super) struct Admission {
    limit: usize,
    limit_of_one: usize,
    admitted: usize,
    clients: Slab<Client>,
    by_address: HashMap<IpAddr, u32>,
}

/// A client with its connections.
#[derive(Debug)]
struct Client {
    address: Option<IpAddr>,
    connections: usize,
}

impl Admission {
    pub(super) fn new(limit: usize, limit_of_one: usize) -> Self {
        let mut clients = Slab::new();
        // The first place is for connections that nobody knows an address of.
        clients.insert(Client {
            address: None,
            connections: 0,
        });
        Self {
            limit,
            limit_of_one,
            admitted: 0,
            clients,
            by_address: HashMap::new(),
        }
    }

    /// How many there are.
    pub(super) fn admitted(&self) -> usize {
        self.admitted
    }

    /// Counts a connection. What is returned is to be handed to [`Admission::leave`].
    pub(super) fn admit(&mut self, address: Option<IpAddr>) -> Result<u32, HubError> {
        if self.admitted >= self.limit {
            return Err(HubError::Full {
                name: "connections",
                limit: self.limit,
            });
        }
        let Some(address) = address.map(network) else {
            self.admitted += 1;
            return Ok(0);
        };
        let known = self.by_address.get(&address).copied();
        let place = match known.and_then(|place| Some((place, self.clients.get_mut(place)?))) {
            Some((_, client)) if client.connections >= self.limit_of_one => {
                return Err(HubError::Full {
                    name: "connections-per-address",
                    limit: self.limit_of_one,
                });
            }
            Some((place, client)) => {
                client.connections += 1;
                place
            }
            None => {
                let place = self.clients.insert(Client {
                    address: Some(address),
                    connections: 1,
                });
                self.by_address.insert(address, place);
                place
            }
        };
        self.admitted += 1;
        Ok(place)
    }

    /// A connection is gone.
    pub(super) fn leave(&mut self, place: u32) {
        self.admitted -= 1;
        let Some(client) = self.clients.get_mut(place) else {
            return;
        };
        let Some(address) = client.address else {
            return;
        };
        client.connections -= 1;
        if client.connections == 0 {
            self.by_address.remove(&address);
            self.clients.remove(place);
            if self.by_address.len() < self.by_address.capacity() / 8 {
                self.by_address.shrink_to(self.by_address.len() * 2);
            }
        }
    }
}

#[cfg(test)]
impl Admission {
    /// Whether nobody is counted.
    pub(super) fn is_empty(&self) -> bool {
        // The first place is always there.
        self.admitted == 0 && self.clients.len() == 1 && self.by_address.is_empty()
    }
}

/// What one client has: an address, and in IPv6 a network of 64 bits, within which it may take any.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_all_and_for_each_client() {
        let mut admission = Admission::new(3, 2);
        let full = |name, limit| Err(HubError::Full { name, limit });
        let first: IpAddr = "192.0.2.1".parse().unwrap();
        // The same client through a socket for both versions.
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let a = admission.admit(Some(first)).unwrap();
        assert_eq!(admission.admit(Some(mapped)), Ok(a));
        assert_eq!(
            admission.admit(Some(first)),
            full("connections-per-address", 2)
        );
        let b = admission.admit(None).unwrap();
        assert_eq!(admission.admit(None), full("connections", 3));
        admission.leave(a);
        admission.admit(Some(first)).unwrap();
        for place in [a, a, b] {
            admission.leave(place);
        }
        assert!(admission.is_empty());
    }

    #[test]
    fn a_client_has_a_network_of_64_bits() {
        let mut admission = Admission::new(10, 1);
        let admit = |admission: &mut Admission, address: &str| {
            admission.admit(Some(address.parse().unwrap())).is_ok()
        };
        assert!(admit(&mut admission, "2001:db8::1"));
        assert!(!admit(&mut admission, "2001:db8::2"));
        assert!(admit(&mut admission, "2001:db8:0:1::1"));
    }
}
