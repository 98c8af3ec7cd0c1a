//! Handshakes per second of the server's CPU, against bare rustls in memory, in turns.
//!
//! The aim is a ratio of at most 1.25. Run with `cargo bench -p waxseal-tls --bench handshake`.

mod measure;
#[path = "measure/memory.rs"]
mod memory;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use measure::Credentials;
use memory::{Memory, connection, cpu_time, median, turn};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};
use waxseal_tls::{Acceptor, Begin, Version};

/// Handshakes under way at once: timed together, as the clock is coarse.
const BATCH: usize = 100;

const ROUNDS: usize = 15;

fn main() {
    println!("{:<34}{:>12}{:>12}{:>8}", "handshakes per CPU second", "waxseal", "rustls", "ratio");
    for rsa in [false, true] {
        for version in [Version::Tls13, Version::Tls12] {
            for resumed in [false, true] {
                compare(rsa, version, resumed);
            }
        }
    }
}

fn compare(rsa: bool, version: Version, resumed: bool) {
    let credentials = Credentials::new(rsa);
    let (acceptor, bare) = (credentials.acceptor(version), credentials.bare(version));
    let clients = || (0..BATCH).map(|_| credentials.client(resumed)).collect::<Vec<_>>();
    let (our_clients, bare_clients) = (clients(), clients());
    // The first round warms up, and gives the clients their tickets.
    ours(&acceptor, &our_clients, false);
    theirs(&bare, &bare_clients, false);
    let (mut our_times, mut bare_times, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let our_time = ours(&acceptor, &our_clients, resumed).as_secs_f64();
        let bare_time = theirs(&bare, &bare_clients, resumed).as_secs_f64();
        our_times.push(our_time);
        bare_times.push(bare_time);
        ratios.push(our_time / bare_time);
    }
    let per_second = |times| BATCH as f64 / median(times);
    let kind = if rsa { "RSA 2048" } else { "ECDSA P-256" };
    let label = format!("{version} {kind} {}", if resumed { "resumed" } else { "full" });
    let (ours, theirs) = (per_second(our_times), per_second(bare_times));
    println!("{label:<34}{ours:>12.0}{theirs:>12.0}{:>8.3}", median(ratios));
}

fn check(client: &ClientConnection, resumed: bool) {
    assert!(!client.is_handshaking());
    assert_eq!(client.handshake_kind() == Some(HandshakeKind::Resumed), resumed);
}

/// The CPU time of the server's side of a batch.
fn ours(acceptor: &Arc<Acceptor>, configs: &[Arc<ClientConfig>], resumed: bool) -> Duration {
    let mut context = Context::from_waker(Waker::noop());
    let mut clients: Vec<_> = configs.iter().map(connection).collect();
    let wires: Vec<_> = configs.iter().map(|_| Memory::default()).collect();
    let mut servers: Vec<_> = wires
        .iter()
        .map(|wire| {
            let (acceptor, wire) = (Arc::clone(acceptor), wire.clone());
            Box::pin(async move {
                let mut handshake = acceptor.begin(wire, Begin::FirstByte);
                let established = handshake.run().await.unwrap();
                handshake.finish(established)
            })
        })
        .collect();
    let mut spent = Duration::ZERO;
    let mut sessions = Vec::new();
    while !servers.is_empty() {
        for (client, wire) in clients.iter_mut().zip(&wires) {
            wire.with(|lines| turn(client, &mut lines.to_client, &mut lines.to_server));
        }
        let begin = cpu_time();
        servers.retain_mut(|server| match pin!(server).poll(&mut context) {
            Poll::Ready(session) => {
                sessions.push(session);
                false
            }
            Poll::Pending => true,
        });
        spent += cpu_time() - begin;
    }
    for (client, wire) in clients.iter_mut().zip(&wires) {
        wire.with(|lines| turn(client, &mut lines.to_client, &mut lines.to_server));
        check(client, resumed);
    }
    spent
}

fn theirs(config: &Arc<ServerConfig>, configs: &[Arc<ClientConfig>], resumed: bool) -> Duration {
    let mut clients: Vec<_> = configs.iter().map(connection).collect();
    let mut lines: Vec<_> = configs.iter().map(|_| (Vec::new(), Vec::new())).collect();
    let begin = cpu_time();
    let mut servers: Vec<_> =
        configs.iter().map(|_| ServerConnection::new(Arc::clone(config)).unwrap()).collect();
    let mut spent = cpu_time() - begin;
    while servers.iter().any(|server| server.is_handshaking()) {
        for (client, (to_client, to_server)) in clients.iter_mut().zip(&mut lines) {
            turn(client, to_client, to_server);
        }
        let begin = cpu_time();
        for (server, (to_client, to_server)) in servers.iter_mut().zip(&mut lines) {
            let mut rest = to_server.as_slice();
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets().unwrap();
            }
            to_server.clear();
            while server.wants_write() {
                server.write_tls(to_client).unwrap();
            }
        }
        spent += cpu_time() - begin;
    }
    for (client, (to_client, to_server)) in clients.iter_mut().zip(&mut lines) {
        turn(client, to_client, to_server);
        check(client, resumed);
    }
    spent
}
