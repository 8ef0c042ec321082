//! Sockets: the addresses they come from, and those of readers that get stuck.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// How many sockets one address may open to another, with a margin below the 28,232 ports that Linux gives by default.
const PORTS: usize = 25_000;

/// Begins to connect. Within loopback, every 25,000 streams come from an address of their own.
pub fn connect(target: SocketAddr, number: usize, stuck: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = address(target.ip(), number) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    if stuck {
        // The kernels on both sides would keep megabytes for it, more on loopback than elsewhere: its server would not
        // notice for long. So it says that it takes little.
        socket.set_recv_buffer_size(4096)?;
        socket.set_tcp_mss(536)?;
    }
    match socket.connect(&target.into()) {
        Err(error) if !is_under_way(&error) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EINPROGRESS)
}

/// The address that a stream comes from, where it is not left to the system.
fn address(target: IpAddr, number: usize) -> Option<IpAddr> {
    let block = u32::try_from(number / PORTS).ok()?;
    let is_v4_loopback = target.is_loopback() && target.is_ipv4();
    (is_v4_loopback && block > 0).then(|| Ipv4Addr::from_bits(0x7f00_0001 + block).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_streams_come_from_many_addresses() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(address(local, 0), None);
        assert_eq!(address(local, 24_999), None);
        assert_eq!(address(local, 25_000), "127.0.0.2".parse().ok());
        assert_eq!(address(local, 25_000 * 256), "127.0.1.1".parse().ok());
        assert_eq!(address("10.0.0.1".parse().unwrap(), 90_000), None);
        assert_eq!(address("::1".parse().unwrap(), 90_000), None);
    }
}
