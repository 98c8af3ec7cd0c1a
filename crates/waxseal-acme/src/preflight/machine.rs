//! What this machine is: its addresses, and which program holds a port.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Most entries of /proc that are looked at.
const MAX_PROCESSES: usize = 100_000;

/// A program that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Ourselves.
    Us,
    /// Another one.
    Other { name: String, pid: u32 },
    /// Another one, of a user whose programs we may not look into.
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

/// What the checks ask of the machine; a seam for tests.
pub(crate) trait Machine: Send + Sync {
    /// The addresses of its interfaces.
    fn addresses(&self) -> io::Result<Vec<IpAddr>>;
    /// The program that a TCP connection to there reaches.
    fn holder(&self, at: SocketAddr) -> Option<Program>;
}

/// The machine that this runs on.
#[derive(Debug)]
pub(crate) struct ThisMachine;

impl Machine for ThisMachine {
    fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let addresses = nix::ifaddrs::getifaddrs()?.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
        });
        let mut addresses: Vec<IpAddr> = addresses.collect();
        addresses.dedup();
        Ok(addresses)
    }

    fn holder(&self, at: SocketAddr) -> Option<Program> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
        let tables = tables.iter().filter_map(|path| fs::read_to_string(path).ok());
        let inodes: Vec<String> = tables.flat_map(|table| listening_inodes(&table, at)).collect();
        let found: Vec<Option<Program>> = inodes.iter().map(|inode| owner(inode)).collect();
        let known = found.iter().flatten().next().cloned();
        known.or_else(|| (!found.is_empty()).then_some(Program::Hidden))
    }
}

/// The inodes of the sockets that take connections to `at`, from the kernel's table (proc_pid_net(5)).
fn listening_inodes(table: &str, at: SocketAddr) -> Vec<String> {
    const LISTEN: &str = "0A";
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let (address, port) = local.split_once(':')?;
        let address = read_address(address)?;
        let taken = address.is_unspecified() || address.to_canonical() == at.ip().to_canonical();
        let same = u16::from_str_radix(port, 16).ok()? == at.port();
        (taken && same && state == LISTEN).then(|| fields.nth(5).map(str::to_owned))?
    });
    lines.collect()
}

/// An address as the kernel writes it: words of four bytes, each in the machine's own order.
fn read_address(text: &str) -> Option<IpAddr> {
    let words = text.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok()?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    });
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.concat();
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The process that has the socket open. Those of other users cannot be looked into without being root.
fn owner(inode: &str) -> Option<Program> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.take(MAX_PROCESSES).filter_map(Result::ok);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let home = format!("/proc/{pid}");
        let open = fs::read_dir(Path::new(&home).join("fd")).ok()?;
        let has = open
            .filter_map(Result::ok)
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.to_str() == Some(wanted.as_str())));
        if !has {
            return None;
        }
        if pid == std::process::id() {
            return Some(Program::Us);
        }
        let name = fs::read_to_string(Path::new(&home).join("comm")).unwrap_or_default();
        Some(Program::Other { name: name.trim().to_owned(), pid })
    })
}

/// Whether a connection to this address ends on this machine whatever the interfaces say.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4 == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(v6) => v6.is_loopback() || v6 == Ipv6Addr::UNSPECIFIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_program_that_holds_a_port_is_named() {
        for bound in ["127.0.0.1:0", "[::]:0"] {
            let listener = TcpListener::bind(bound).expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            assert_eq!(ThisMachine.holder(at), Some(Program::Us), "{bound}");
            drop(listener);
            assert_eq!(ThisMachine.holder(at), None, "{bound}");
        }
    }

    #[test]
    fn the_kernels_table_is_read_by_address_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:0050 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n   1: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\n   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4343 1\nshort\n";
        let inodes = |at: &str| listening_inodes(table, at.parse().expect("an address"));
        assert_eq!(inodes("127.0.0.1:80"), ["4242", "4343"]);
        assert_eq!(inodes("127.0.0.2:80"), ["4343"]);
        assert_eq!(inodes("127.0.0.1:81"), [""; 0]);
        let v6 = read_address("B80D0120000000000000000001000000").expect("an address");
        assert_eq!(v6, "2001:db8::1".parse::<IpAddr>().expect("an address"));
        assert_eq!(read_address("xyz"), None);
    }

    #[test]
    fn loopback_is_among_the_machines_addresses() {
        let addresses = ThisMachine.addresses().expect("addresses");
        assert!(addresses.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
