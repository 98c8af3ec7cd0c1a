//! What this machine is: its addresses, and which program holds a port.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Most entries of /proc that are looked at.
const MAX_PROCESSES: usize = 100_000;

/// A program that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl Program {
    pub(crate) fn is_us(&self) -> bool {
        self.pid == std::process::id()
    }
}

/// What the checks ask of the machine; a seam for tests.
pub(crate) trait Machine: Send + Sync {
    /// The addresses of its interfaces.
    fn addresses(&self) -> Vec<IpAddr>;
    /// The program that listens on a TCP port, where that can be seen.
    fn holder(&self, port: u16) -> Option<Program>;
}

/// The machine that this runs on.
#[derive(Debug)]
pub(crate) struct ThisMachine;

impl Machine for ThisMachine {
    fn addresses(&self) -> Vec<IpAddr> {
        let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
        let addresses = interfaces.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
        });
        let mut addresses: Vec<IpAddr> = addresses.collect();
        addresses.dedup();
        addresses
    }

    fn holder(&self, port: u16) -> Option<Program> {
        let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .find_map(|table| listening_inode(&table, port))?;
        owner(&inode)
    }
}

/// The inode of the socket that listens on `port`, from the kernel's table (proc_pid_net(5)).
fn listening_inode(table: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let local_port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        let inode = fields.nth(5)?;
        (local_port == port && state == LISTEN).then(|| inode.to_owned())
    })
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
        let name = fs::read_to_string(Path::new(&home).join("comm")).unwrap_or_default();
        Some(Program { name: name.trim().to_owned(), pid })
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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let holder = ThisMachine.holder(port).expect("ourselves");
        assert!(holder.is_us() && !holder.name.is_empty(), "{holder:?}");
        drop(listener);
        assert_eq!(ThisMachine.holder(port), None);
    }

    #[test]
    fn the_kernels_table_is_read_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:0050 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n   1: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\nshort\n";
        assert_eq!(listening_inode(table, 80).as_deref(), Some("4242"));
        assert_eq!(listening_inode(table, 81), None);
    }

    #[test]
    fn loopback_is_among_the_machines_addresses() {
        assert!(ThisMachine.addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
