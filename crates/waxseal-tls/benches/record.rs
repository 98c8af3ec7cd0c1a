//! MiB per second of CPU through a session, against bare rustls' buffered connection in memory, in turns.
//!
//! Run with `cargo bench -p waxseal-tls --bench record`.

mod measure;
#[path = "measure/memory.rs"]
mod memory;

use std::io::{BufRead, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use measure::Credentials;
use memory::{Memory, connection, cpu_time, median, turn};
use rustls::{ClientConnection, ServerConnection};
use tokio::io::{AsyncBufRead, AsyncWrite};
use waxseal_tls::{Begin, TlsStream, Version};

const BYTES: usize = 16 * 1024 * 1024;

/// What is written at a time, as by somebody who copies.
const PIECE: usize = 32 * 1024;

const ROUNDS: usize = 11;

fn main() {
    println!("{:<34}{:>12}{:>12}{:>8}", "MiB per CPU second", "waxseal", "rustls", "ratio");
    for version in [Version::Tls13, Version::Tls12] {
        let credentials = Credentials::new(false);
        let (mut session, wire, mut client) = ours(&credentials, version);
        let (mut server, mut bare_client) = theirs(&credentials, version);
        let words = vec![7; BYTES];
        let table = |label: &str, once: &mut dyn FnMut() -> (Duration, Duration)| {
            once();
            let times: Vec<_> = (0..ROUNDS).map(|_| once()).collect();
            let speed = |pick: fn(&(Duration, Duration)) -> Duration| {
                BYTES as f64
                    / (1024.0 * 1024.0)
                    / median(times.iter().map(|t| pick(t).as_secs_f64()).collect())
            };
            let ratio = median(times.iter().map(|t| t.0.as_secs_f64() / t.1.as_secs_f64()).collect());
            println!(
                "{:<34}{:>12.0}{:>12.0}{ratio:>8.3}",
                format!("{version} {label}"),
                speed(|t| t.0),
                speed(|t| t.1)
            );
        };
        table("received", &mut || {
            let records = encrypted(&mut client, &words);
            wire.with(|lines| (lines.to_server, lines.read) = (records, 0));
            (receive(&mut session), bare_receive(&mut server, &encrypted(&mut bare_client, &words)))
        });
        // As in the other's transport: memory that is there already.
        let mut records = Vec::with_capacity(BYTES * 2);
        table("sent", &mut || {
            let ours = send(&mut session, &words);
            wire.with(|lines| drain(&mut client, &mut lines.to_client));
            let theirs = bare_send(&mut server, &words, &mut records);
            drain(&mut bare_client, &mut records);
            (ours, theirs)
        });
    }
}

fn ours(credentials: &Credentials, version: Version) -> (TlsStream<Memory>, Memory, ClientConnection) {
    let mut context = Context::from_waker(Waker::noop());
    let acceptor = credentials.acceptor(version);
    let wire = Memory::default();
    let mut client = connection(&credentials.client(false));
    client.set_buffer_limit(None);
    let mut server = {
        let wire = wire.clone();
        Box::pin(async move {
            let mut handshake = acceptor.begin(wire, Begin::FirstByte);
            let established = handshake.run().await.unwrap();
            handshake.finish(established)
        })
    };
    loop {
        wire.with(|lines| turn(&mut client, &mut lines.to_client, &mut lines.to_server));
        if let Poll::Ready(session) = pin!(&mut server).poll(&mut context) {
            wire.with(|lines| {
                drain(&mut client, &mut lines.to_client);
                lines.to_client.reserve(BYTES * 2);
            });
            return (session, wire, client);
        }
    }
}

fn theirs(credentials: &Credentials, version: Version) -> (ServerConnection, ClientConnection) {
    let mut server = ServerConnection::new(credentials.bare(version)).unwrap();
    let mut client = connection(&credentials.client(false));
    client.set_buffer_limit(None);
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    while server.is_handshaking() || client.is_handshaking() {
        turn(&mut client, &mut to_client, &mut to_server);
        server.read_tls(&mut to_server.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        to_server.clear();
        while server.wants_write() {
            server.write_tls(&mut to_client).unwrap();
        }
    }
    drain(&mut client, &mut to_client);
    (server, client)
}

fn encrypted(client: &mut ClientConnection, words: &[u8]) -> Vec<u8> {
    client.writer().write_all(words).unwrap();
    let mut records = Vec::with_capacity(words.len() * 2);
    while client.wants_write() {
        client.write_tls(&mut records).unwrap();
    }
    records
}

fn drain(client: &mut ClientConnection, records: &mut Vec<u8>) {
    let mut rest = records.as_slice();
    while !rest.is_empty() {
        client.read_tls(&mut rest).unwrap();
        let state = client.process_new_packets().unwrap();
        client.reader().consume(state.plaintext_bytes_to_read());
    }
    records.clear();
}

fn receive(session: &mut TlsStream<Memory>) -> Duration {
    let mut context = Context::from_waker(Waker::noop());
    let begin = cpu_time();
    let mut heard = 0;
    while heard < BYTES {
        let Poll::Ready(Ok(bytes)) = Pin::new(&mut *session).poll_fill_buf(&mut context) else { panic!() };
        let length = bytes.len();
        heard += length;
        Pin::new(&mut *session).consume(length);
    }
    cpu_time() - begin
}

fn bare_receive(server: &mut ServerConnection, mut records: &[u8]) -> Duration {
    let begin = cpu_time();
    let mut heard = 0;
    while heard < BYTES {
        server.read_tls(&mut records).unwrap();
        let ready = server.process_new_packets().unwrap().plaintext_bytes_to_read();
        heard += ready;
        let mut left = ready;
        while left > 0 {
            let mut reader = server.reader();
            let length = reader.fill_buf().unwrap().len();
            reader.consume(length);
            left -= length;
        }
    }
    cpu_time() - begin
}

fn send(session: &mut TlsStream<Memory>, words: &[u8]) -> Duration {
    let mut context = Context::from_waker(Waker::noop());
    let begin = cpu_time();
    for piece in words.chunks(PIECE) {
        let mut rest = piece;
        while !rest.is_empty() {
            let Poll::Ready(Ok(written)) = Pin::new(&mut *session).poll_write(&mut context, rest) else {
                panic!()
            };
            rest = &rest[written..];
        }
    }
    cpu_time() - begin
}

fn bare_send(server: &mut ServerConnection, words: &[u8], records: &mut Vec<u8>) -> Duration {
    let begin = cpu_time();
    for piece in words.chunks(PIECE) {
        server.writer().write_all(piece).unwrap();
        while server.wants_write() {
            server.write_tls(records).unwrap();
        }
    }
    cpu_time() - begin
}
