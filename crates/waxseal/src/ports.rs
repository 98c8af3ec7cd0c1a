//! Which addresses exclude one another, and who holds one.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Whoever listens where somebody else wants to; in words, the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The address it listens on.
    pub address: SocketAddr,
    /// Program and process id, where we may see them.
    pub process: Option<(String, u32)>,
}

impl Holder {
    /// Whether it is ourselves.
    pub fn is_this_process(&self) -> bool {
        self.process.as_ref().is_some_and(|(_, pid)| *pid == std::process::id())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((program, pid)) => write!(f, "{program} (pid {pid})"),
            None => write!(f, "a program that only root can see (ss -ltnp)"),
        }
    }
}

/// Who listens on `address` or on one that excludes it. `None` too where `/proc` does not tell.
pub fn holder(address: SocketAddr) -> Option<Holder> {
    let (held, inode) = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| table.lines().filter_map(listening).find(|(held, _)| overlap(*held, address)))?;
    Some(Holder { address: held, process: owner(inode) })
}

/// Address and inode of a line that tells of a listening socket.
fn listening(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (local, state) = (fields.nth(1)?, fields.nth(1)?);
    let inode = fields.nth(5)?.parse().ok()?;
    (state == LISTEN).then_some((socket_address(local)?, inode))
}

/// `0100007F:0019`: words of 32 bits, each in the byte order of the machine.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    let ip = match words.as_slice() {
        [v4] => IpAddr::from(Ipv4Addr::from(*v4)),
        [_, _, _, _] => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The process that has the socket open.
fn owner(inode: u64) -> Option<(String, u32)> {
    let socket = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        descriptors
            .find(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))?;
        let program = fs::read_to_string(process.path().join("comm")).ok()?;
        Some((program.trim_end().to_owned(), pid))
    })
}

/// Whether two sockets cannot listen on both. Port 0 asks for any free port.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| {
        wide == narrow || takes_both(wide) || (wide.is_unspecified() && narrow.is_ipv4())
    };
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (covers(a, b) || covers(b, a))
}

/// Whether a socket there takes IPv4 and IPv6.
pub fn takes_both(ip: IpAddr) -> bool {
    ip.is_ipv6() && ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_overlap_exactly_when_no_second_socket_can_listen() {
        let overlap = |a: &str, b: &str| {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(overlap(a, b), overlap(b, a));
            overlap(a, b)
        };
        assert!(overlap("[::]:25", "0.0.0.0:25"));
        assert!(overlap("[::]:25", "192.0.2.1:25"));
        assert!(overlap("0.0.0.0:25", "192.0.2.1:25"));
        assert!(overlap("192.0.2.1:25", "[::ffff:192.0.2.1]:25"));
        assert!(!overlap("0.0.0.0:25", "[2001:db8::1]:25"));
        assert!(!overlap("192.0.2.1:25", "192.0.2.2:25"));
        assert!(!overlap("[::]:25", "[::]:465"));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0"));
    }

    #[test]
    fn the_process_that_holds_a_port_is_named() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(local) else { continue };
            let address = listener.local_addr().unwrap();
            let holder = holder(address).unwrap();
            assert_eq!(holder.address, address);
            assert!(holder.is_this_process());
            assert!(holder.to_string().contains(&format!("(pid {})", std::process::id())), "{holder}");
        }
    }

    #[test]
    fn a_free_port_is_held_by_nobody() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(holder(free), None);
    }

    #[test]
    fn lines_of_other_states_and_broken_lines_tell_nothing() {
        let line = "   0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        assert_eq!(listening(line), Some(("127.0.0.1:25".parse().unwrap(), 4711)));
        assert_eq!(listening(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(
            listening("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"),
            None
        );
        assert_eq!(socket_address("0100007F"), None);
        assert_eq!(socket_address("0100007F0100007F:0019"), None);
    }
}
