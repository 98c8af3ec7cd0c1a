//! How much one listener, and one client, may have open at once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// `max-connections` of the listener.
    Listener,
    /// `max-connections-per-address`.
    Address,
}

/// The connections of one listener, counted. It outlives reloads, as its connections do.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; free again when dropped.
pub(crate) struct Place {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Gate {
    /// A place for a connection from `address`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        max: usize,
        max_each: usize,
    ) -> Result<Place, Full> {
        let address = client_network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= max {
            return Err(Full::Listener);
        }
        let each = open.by_address.entry(address).or_default();
        if *each >= max_each {
            return Err(Full::Address);
        }
        *each += 1;
        open.total += 1;
        Ok(Place { gate: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(each) = open.by_address.get_mut(&self.address) {
            *each -= 1;
            if *each == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one client: an IPv4 address, an IPv6 /64 (RFC 6177 gives every site at least one of those).
fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_has_gone() {
        let gate = Arc::new(Gate::default());
        let here = IpAddr::from([192, 0, 2, 1]);
        let first = gate.enter(here, 2, 1).ok();
        assert!(first.is_some());
        assert_eq!(gate.enter(here, 2, 1).err(), Some(Full::Address));
        drop(first);
        assert!(gate.enter(here, 2, 1).is_ok());
        assert!(gate.open.lock().unwrap().by_address.is_empty(), "addresses that have gone are forgotten");
    }

    #[test]
    fn the_listener_is_full_whoever_asks() {
        let gate = Arc::new(Gate::default());
        let _first = gate.enter(IpAddr::from([192, 0, 2, 1]), 1, 9);
        assert_eq!(gate.enter(IpAddr::from([192, 0, 2, 2]), 1, 9).err(), Some(Full::Listener));
    }

    #[test]
    fn ipv6_neighbours_in_one_64_are_one_client() {
        let gate = Arc::new(Gate::default());
        let first: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let stranger: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        let _place = gate.enter(first, 9, 1);
        assert_eq!(gate.enter(neighbour, 9, 1).err(), Some(Full::Address));
        assert!(gate.enter(stranger, 9, 1).is_ok());
    }
}
