//! Which addresses exclude one another, and who holds one.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Most entries of /proc that are looked at.
const MAX_PROCESSES: usize = 100_000;

/// A program that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Ourselves.
    Us,
    /// Another one.
    Other {
        /// What it is called.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// One of a user whose programs we may not look into.
    Hidden,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Us => f.write_str("waxseal itself"),
            Self::Other { name, pid } => write!(f, "{name} (pid {pid})"),
            Self::Hidden => f.write_str("another program (`ss -ltnp` as root names it)"),
        }
    }
}

/// Whoever listens where somebody else wants to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The address it listens on.
    pub address: SocketAddr,
    /// Who it is.
    pub program: Program,
}

/// Who listens on `address` or on one that excludes it, and so takes connections to it. `None` too where `/proc` does not
/// tell. Looks through all processes: nothing for a thread that others wait for.
pub fn holder(address: SocketAddr) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables: Vec<String> = tables.iter().filter_map(|table| fs::read_to_string(table).ok()).collect();
    let lines = tables.iter().flat_map(|table| table.lines());
    let holders: Vec<Holder> = lines
        .filter_map(listening)
        .filter(|(held, _)| overlap(*held, address))
        .map(|(held, inode)| Holder { address: held, program: owner(inode).unwrap_or(Program::Hidden) })
        .collect();
    let known = holders.iter().find(|holder| holder.program != Program::Hidden);
    known.or_else(|| holders.first()).cloned()
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

/// The process that has the socket open. Those of other users cannot be looked into without being root.
fn owner(inode: u64) -> Option<Program> {
    let socket = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.take(MAX_PROCESSES).flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        descriptors
            .find(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))?;
        if pid == std::process::id() {
            return Some(Program::Us);
        }
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        Some(Program::Other { name: name.trim_end().to_owned(), pid })
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
            assert_eq!(holder(address), Some(Holder { address, program: Program::Us }));
        }
    }

    #[test]
    fn who_takes_connections_for_every_address_is_found_at_each() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()));
        assert_eq!(holder(at).map(|holder| holder.program), Some(Program::Us));
        let v4 = TcpListener::bind("0.0.0.0:0").unwrap();
        let at = SocketAddr::from((Ipv6Addr::LOCALHOST, v4.local_addr().unwrap().port()));
        assert_eq!(holder(at), None, "IPv6 does not come to a socket of IPv4");
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
