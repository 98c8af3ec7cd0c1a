//! What this machine is: its addresses, and which program holds a port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use waxseal_storage::BoxFuture;

use crate::ports::{self, Program};

/// What the checks ask of the machine; a seam for tests.
pub(crate) trait Machine: Send + Sync {
    /// The addresses of its interfaces.
    fn addresses(&self) -> io::Result<Vec<IpAddr>>;
    /// The program that a TCP connection to there reaches.
    fn holder(&self, at: SocketAddr) -> BoxFuture<'_, Option<Program>>;
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

    fn holder(&self, at: SocketAddr) -> BoxFuture<'_, Option<Program>> {
        Box::pin(async move {
            let holder = tokio::task::spawn_blocking(move || ports::holder(at)).await;
            holder.ok().flatten().map(|holder| holder.program)
        })
    }
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

    #[test]
    fn loopback_is_among_the_machines_addresses() {
        let addresses = ThisMachine.addresses().expect("addresses");
        assert!(addresses.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
