//! Orders, challenges and checks with real peers from Debian (Pebble, Caddy, Knot, PowerDNS) and with a CA that misbehaves.

mod accounts;
mod checks;
mod dns;
mod hosters;
mod misbehaving;
mod orders;
mod second_ca;
mod support;
