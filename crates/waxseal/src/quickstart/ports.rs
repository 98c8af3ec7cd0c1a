//! The ports: high ones of this machine alone, the first choice where it is free.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use waxseal_acme::ports::holder;

/// How many ports are tried for each listener.
const MAX_TRIED: u16 = 100;

/// A listener of the quickstart.
#[derive(Debug)]
pub(super) struct Door {
    /// Its name.
    pub(super) name: &'static str,
    /// What is spoken.
    pub(super) protocol: &'static str,
    /// Whether TLS is there from the first byte.
    pub(super) implicit: bool,
    /// What it is for.
    pub(super) purpose: &'static str,
    /// The port, if it is free.
    first: u16,
}

const fn door(
    (name, protocol, implicit): (&'static str, &'static str, bool),
    first: u16,
    purpose: &'static str,
) -> Door {
    Door { name, protocol, implicit, purpose, first }
}

/// Every listener, in the order they are shown.
const DOORS: [Door; 8] = [
    door(("smtp", "smtp", false), 2525, "Mail from other servers: STARTTLS is offered, not required."),
    door(("submission", "submission", false), 5587, "Mail programs send here, with STARTTLS."),
    door(("submissions", "submission", true), 4465, "Mail programs send here, with TLS from the first byte."),
    door(
        ("lmtp", "lmtp", false),
        2424,
        "Another mail server hands over mail here: STARTTLS is offered, not required.",
    ),
    door(("imap", "imap", false), 1143, "Mail programs read here, with STARTTLS."),
    door(("imaps", "imap", true), 9993, "Mail programs read here, with TLS from the first byte."),
    door(("pop3", "pop3", false), 1110, "Mail programs fetch here, with STARTTLS."),
    door(("pop3s", "pop3", true), 9995, "Mail programs fetch here, with TLS from the first byte."),
];

/// A listener with its port.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) door: &'static Door,
    pub(super) port: u16,
    /// Where the first choice was busy: which it was, and who holds it.
    pub(super) instead: Option<Instead>,
}

/// A port that was busy.
#[derive(Debug)]
pub(super) struct Instead {
    pub(super) port: u16,
    pub(super) holder: String,
}

/// Why there are no ports.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// Every port that was tried is busy.
    #[error(
        "the ports {first} to {last} of 127.0.0.1 are all busy, so there is none for {door}; {first} is held by {holder}. Stop \
         one of the programs that listen there (ss -ltnp)"
    )]
    Busy {
        /// The listener.
        door: &'static str,
        /// The first port tried.
        first: u16,
        /// The last.
        last: u16,
        /// Who holds the first.
        holder: String,
    },
    /// Nobody can listen there.
    #[error(
        "nothing can listen on 127.0.0.1:{port}: {source}. Is the loopback interface up? (ip link set lo up)"
    )]
    Refused {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
}

/// Chooses a free port for each listener.
pub(super) fn choose() -> Result<Vec<Open>, PortsError> {
    // Held until all are chosen, so that no two get the same.
    let mut held = Vec::new();
    DOORS.iter().map(|door| free(door, &mut held)).collect()
}

fn free(door: &'static Door, held: &mut Vec<TcpListener>) -> Result<Open, PortsError> {
    let last = door.first.saturating_add(MAX_TRIED - 1);
    for port in door.first..=last {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => {
                held.push(listener);
                let instead =
                    (port != door.first).then(|| Instead { port: door.first, holder: holder_of(door.first) });
                return Ok(Open { door, port, instead });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(PortsError::Refused { port, source }),
        }
    }
    Err(PortsError::Busy { door: door.name, first: door.first, last, holder: holder_of(door.first) })
}

fn holder_of(port: u16) -> String {
    holder(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .map_or_else(|| "another program".to_owned(), |holder| holder.program.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener whose first choices are `count` ports that this test holds.
    fn busy(count: u16) -> (&'static Door, Vec<TcpListener>) {
        let block = (20_000..30_000).step_by(usize::from(MAX_TRIED)).find_map(|first| {
            let taken = (first..first + count).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
            taken.collect::<io::Result<Vec<_>>>().ok().map(|taken| (first, taken))
        });
        let (first, taken) = block.expect("a block of free ports");
        (Box::leak(Box::new(door(("imap", "imap", false), first, ""))), taken)
    }

    #[test]
    fn a_busy_port_is_passed_over_and_its_holder_named() {
        let (door, taken) = busy(1);
        let open = free(door, &mut Vec::new()).unwrap();
        assert!(open.port > door.first);
        let instead = open.instead.unwrap();
        assert_eq!(instead.port, door.first);
        assert_eq!(instead.holder, "waxseal itself");
        drop(taken);
        let open = free(door, &mut Vec::new()).unwrap();
        assert_eq!((open.port, open.instead.is_none()), (door.first, true));
    }

    #[test]
    fn the_search_ends() {
        let (door, _taken) = busy(MAX_TRIED);
        let error = free(door, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("all busy") && error.contains("waxseal itself"), "{error}");
    }

    #[test]
    fn a_port_chosen_is_not_chosen_again() {
        let (door, taken) = busy(2);
        drop(taken);
        let mut held = Vec::new();
        let first = free(door, &mut held).unwrap().port;
        assert_ne!(free(door, &mut held).unwrap().port, first);
    }
}
