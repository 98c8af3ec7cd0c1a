//! Sessions as streams.

use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use proptest::prelude::*;
use rustls::ConnectionTrafficSecrets;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use waxseal_tls::{Begin, Connector, End, Suite, TlsStream, Trust, Version};

use crate::support::*;
use crate::wire::Wire;

/// A session that stands on both sides.
async fn session(version: Version) -> (Client, TlsStream<UnixStream>) {
    let door = Door::new(Kind::Ecdsa);
    let met = meet(&door.acceptor(), &Arc::new(Offer::version(version).config()), "mail.example.org").await;
    (met.client.unwrap(), met.server.unwrap())
}

/// Lets the client act in a thread of its own.
fn act<R: Send + 'static>(
    mut client: Client,
    action: impl FnOnce(&mut Client) -> R + Send + 'static,
) -> tokio::task::JoinHandle<(Client, R)> {
    tokio::task::spawn_blocking(move || {
        let result = action(&mut client);
        (client, result)
    })
}

async fn read_all(server: &mut TlsStream<UnixStream>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.map(|_| all)
}

#[tokio::test]
async fn an_orderly_end_is_told_apart_from_a_cut() {
    for version in Version::ALL {
        let (client, mut server) = session(version).await;
        assert_eq!(server.ended(), None);
        let orderly = act(client, |client| {
            client.write_all(b"bye").unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
        });
        assert_eq!(read_all(&mut server).await.unwrap(), b"bye");
        assert_eq!(server.ended(), Some(End::CloseNotify), "{version}");
        let (mut client, ()) = orderly.await.unwrap();
        server.write_all(b"and bye").await.unwrap();
        server.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"and bye", "our side went on until it closed, in order");

        let (client, mut server) = session(version).await;
        let cut = act(client, |client| {
            client.write_all(b"by").unwrap();
            client.sock.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(read_all(&mut server).await.unwrap(), b"by");
        assert_eq!(server.ended(), Some(End::Truncated), "{version}");
        let (mut client, ()) = cut.await.unwrap();
        server.write_all(b"still here").await.unwrap();
        server.flush().await.unwrap();
        let mut rest = [0; 10];
        client.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"still here", "half-closed, not closed");
    }
}

#[tokio::test]
async fn a_record_cut_in_the_middle_is_a_cut() {
    let (client, mut server) = session(Version::Tls13).await;
    let cut = act(client, |client| {
        client.conn.writer().write_all(b"never whole").unwrap();
        let mut record = Vec::new();
        client.conn.write_tls(&mut record).unwrap();
        client.sock.write_all(&record[..record.len() - 1]).unwrap();
        client.sock.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(read_all(&mut server).await.unwrap(), b"");
    assert_eq!(server.ended(), Some(End::Truncated));
    cut.await.unwrap();
}

#[tokio::test]
async fn what_follows_close_notify_is_ignored() {
    let (client, mut server) = session(Version::Tls13).await;
    let done = act(client, |client| {
        client.conn.writer().write_all(b"words").unwrap();
        client.conn.send_close_notify();
        let mut records = Vec::new();
        while client.conn.wants_write() {
            client.conn.write_tls(&mut records).unwrap();
        }
        records.extend([23, 3, 3, 0, 3, 1, 2, 3]);
        client.sock.write_all(&records).unwrap();
    });
    assert_eq!(read_all(&mut server).await.unwrap(), b"words");
    assert_eq!(server.ended(), Some(End::CloseNotify));
    done.await.unwrap();
}

#[tokio::test]
async fn a_damaged_record_is_an_error_after_what_came_before() {
    for version in Version::ALL {
        let (client, mut server) = session(version).await;
        let damaged = act(client, |client| {
            let mut records = Vec::new();
            for words in [b"good", b"evil"] {
                client.conn.writer().write_all(words).unwrap();
                client.conn.write_tls(&mut records).unwrap();
            }
            *records.last_mut().unwrap() ^= 1;
            client.sock.write_all(&records).unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap_err()
        });
        let mut words = [0; 4];
        server.read_exact(&mut words).await.unwrap();
        assert_eq!(&words, b"good");
        for _ in 0..2 {
            let error = server.read(&mut words).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            let cause = error.get_ref().unwrap().downcast_ref::<rustls::Error>();
            assert_eq!(cause, Some(&rustls::Error::DecryptError));
        }
        let error = server.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        server.shutdown().await.unwrap();
        let (_, alert) = damaged.await.unwrap();
        assert!(alert.to_string().contains("BadRecordMac"), "{alert}");
    }
}

#[tokio::test]
async fn after_shutdown_nothing_can_be_written_and_all_can_be_read() {
    let (client, mut server) = session(Version::Tls13).await;
    server.shutdown().await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(server.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let late = act(client, |client| {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        client.write_all(b"late").unwrap();
        client.conn.send_close_notify();
        client.flush().unwrap();
        rest
    });
    assert_eq!(read_all(&mut server).await.unwrap(), b"late");
    assert_eq!(late.await.unwrap().1, b"");
}

#[tokio::test]
async fn an_idle_session_holds_no_buffer() {
    let door = Door::new(Kind::Ecdsa);
    let met = meet(&door.acceptor(), &Arc::new(Offer::default().config()), "mail.example.org").await;
    let (client, mut server) = (met.client.unwrap(), met.server.unwrap());
    assert_eq!(door.pool.in_use(), 0, "after the handshake");
    let wait = Duration::from_millis(20);
    assert!(tokio::time::timeout(wait, server.fill_buf()).await.is_err());
    assert_eq!(door.pool.in_use(), 0, "while it waits");
    let (mut client, ()) = act(client, |client| client.write_all(b"12345").unwrap()).await.unwrap();
    assert_eq!(server.fill_buf().await.unwrap(), b"12345");
    assert_eq!(door.pool.in_use(), 1, "while there is something to be read");
    server.consume(4);
    assert_eq!(door.pool.in_use(), 1);
    server.consume(1);
    assert_eq!(door.pool.in_use(), 0);
    server.write_all(b"!").await.unwrap();
    assert_eq!(door.pool.in_use(), 0, "written");
    assert_eq!(read_one(&mut client).unwrap(), b'!');
}

#[tokio::test]
async fn the_peers_key_update_is_followed_and_answered() {
    let (client, mut server) = session(Version::Tls13).await;
    let echo = act(client, |client| {
        let mut heard = Vec::new();
        for round in 0..5_u8 {
            client.conn.refresh_traffic_keys().unwrap();
            client.write_all(&[round; 1000]).unwrap();
            let mut back = [0; 1000];
            client.read_exact(&mut back).unwrap();
            heard.extend(back);
        }
        heard
    });
    for _ in 0..5 {
        let mut words = [0; 1000];
        server.read_exact(&mut words).await.unwrap();
        server.write_all(&words).await.unwrap();
        server.flush().await.unwrap();
    }
    let expected: Vec<u8> = (0..5).flat_map(|round| [round; 1000]).collect();
    assert_eq!(echo.await.unwrap().1, expected);
}

/// Seals TLS 1.3 records with a client's traffic secret, RFC 8446 section 5.2.
struct Sealer {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Sealer {
    fn new(client: Client) -> (Self, StdUnixStream) {
        let Client { conn, sock } = client;
        let secrets = conn.dangerous_extract_secrets().unwrap();
        let (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else {
            panic!("another suite")
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
        (Self { key, iv: iv.as_ref().try_into().unwrap(), sequence }, sock)
    }

    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, mask) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= mask;
        }
        self.sequence += 1;
        let mut inner = [content, &[kind]].concat();
        let mut record = vec![23, 3, 3];
        record.extend(((inner.len() + 16) as u16).to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(&record), &mut inner).unwrap();
        record.extend(inner);
        record
    }
}

#[tokio::test]
async fn writing_in_the_middle_of_a_fragmented_key_update_is_no_harm() {
    const HANDSHAKE: u8 = 22;
    const DATA: u8 = 23;
    const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
    let mut config = Offer::version(Version::Tls13).config();
    config.enable_secret_extraction = true;
    let met = meet(&Door::new(Kind::Ecdsa).acceptor(), &Arc::new(config), "mail.example.org").await;
    let mut server = met.server.unwrap();
    assert_eq!(server.facts().suite, Suite::ALL[0]);
    let (mut sealer, mut io) = Sealer::new(met.client.unwrap());
    io.write_all(&sealer.record(DATA, b"before")).unwrap();
    io.write_all(&sealer.record(HANDSHAKE, &KEY_UPDATE[..3])).unwrap();
    assert_eq!(server.fill_buf().await.unwrap(), b"before");
    server.consume(6);
    assert!(tokio::time::timeout(Duration::from_millis(20), server.fill_buf()).await.is_err());
    server.write_all(b"in the middle").await.unwrap();
    server.flush().await.unwrap();
    io.write_all(&sealer.record(HANDSHAKE, &KEY_UPDATE[3..])).unwrap();
    io.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.fill_buf().await.unwrap(), b"");
    assert_eq!(server.ended(), Some(End::Truncated), "the update was understood");
    server.write_all(b"after").await.unwrap();
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn records_that_wait_for_room_do_not_hinder_writing() {
    let (client, mut server) = session(Version::Tls13).await;
    let door = act(client, |client| {
        let mut records = Vec::new();
        for size in [16_384, 16_384, 400, 16_384] {
            client.conn.writer().write_all(&vec![7; size]).unwrap();
            client.conn.write_tls(&mut records).unwrap();
        }
        client.sock.write_all(&records).unwrap();
        read_one(client).unwrap()
    });
    let mut first = [0; 1];
    server.read_exact(&mut first).await.unwrap();
    server.write_all(b"!").await.unwrap();
    server.flush().await.unwrap();
    let (_, heard) = door.await.unwrap();
    assert_eq!(heard, b'!');
    let mut rest = vec![0; 3 * 16_384 + 400 - 1];
    server.read_exact(&mut rest).await.unwrap();
    assert!(rest.iter().all(|&byte| byte == 7));
}

#[tokio::test]
async fn the_first_words_may_come_with_the_finished_message() {
    for version in Version::ALL {
        let mut wire = Wire::new(Offer::version(version).config(), vec![usize::MAX]);
        let words = vec![9; 100_000];
        wire.client.writer().write_all(&words).unwrap();
        let mut handshake = Door::new(Kind::Ecdsa).acceptor().begin(wire, Begin::FirstByte);
        let established = handshake.run().await.unwrap();
        let mut server = handshake.finish(established);
        let mut heard = vec![0; words.len()];
        server.read_exact(&mut heard).await.unwrap();
        assert!(heard == words, "{version}");
    }
}

/// Small socket buffers on both sides.
async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn five_mib_both_ways_at_once_pass_without_deadlock() {
    const BYTES: usize = 5 * 1024 * 1024;
    let pattern = |seed: usize| (0..BYTES).map(move |i| ((i * 31 + seed) >> 3) as u8).collect::<Vec<u8>>();
    async fn exchange(mut stream: TlsStream<TcpStream>, words: Vec<u8>) -> (Vec<u8>, Option<End>) {
        // One task drives both directions.
        let (mut written, mut heard, mut done) = (0, Vec::new(), false);
        poll_fn(|cx| {
            use tokio::io::{AsyncBufRead, AsyncWrite};
            loop {
                let mut progress = false;
                if written < words.len() {
                    if let Poll::Ready(result) = Pin::new(&mut stream).poll_write(cx, &words[written..]) {
                        written += result.unwrap();
                        progress = true;
                    }
                } else if !done {
                    done = Pin::new(&mut stream).poll_shutdown(cx).is_ready();
                }
                if let Poll::Ready(result) = Pin::new(&mut stream).poll_fill_buf(cx) {
                    let bytes = result.unwrap();
                    let length = bytes.len();
                    heard.extend_from_slice(bytes);
                    Pin::new(&mut stream).consume(length);
                    if length == 0 && done {
                        return Poll::Ready(());
                    }
                    progress |= length > 0;
                }
                if !progress {
                    return Poll::Pending;
                }
            }
        })
        .await;
        let end = stream.ended();
        (heard, end)
    }
    let door = Door::new(Kind::Ecdsa);
    let roots = Trust::Roots(ca().pem().into_bytes());
    let connector = Connector::new(&roots, "mail.example.org", Arc::clone(&door.pool)).unwrap();
    let (client_io, server_io) = tcp_pair().await;
    let client = tokio::spawn(async move {
        let mut handshake = connector.begin(client_io, Begin::FirstByte);
        let established = handshake.run().await.unwrap();
        exchange(handshake.finish(established), pattern(1)).await
    });
    let mut handshake = door.acceptor().begin(server_io, Begin::FirstByte);
    let established = handshake.run().await.unwrap();
    let server = exchange(handshake.finish(established), pattern(2));
    let both = async { (server.await, client.await.unwrap()) };
    let (server, client) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert!(server.0 == pattern(1) && client.0 == pattern(2));
    assert_eq!((server.1, client.1), (Some(End::CloseNotify), Some(End::CloseNotify)));
    assert_eq!(door.pool.in_use(), 0);
}

#[tokio::test]
async fn large_writes_to_a_peer_that_reads_late_arrive_whole() {
    let (client, mut server) = session(Version::Tls12).await;
    let words: Vec<u8> = (0..1_000_000_u32).map(|i| (i >> 4) as u8).collect();
    let expected = words.clone();
    let reader = act(client, |client| {
        std::thread::sleep(Duration::from_millis(50));
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        heard
    });
    server.write_all(&words).await.unwrap();
    server.shutdown().await.unwrap();
    assert!(reader.await.unwrap().1 == expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_fragmentation_gives_the_same_plaintext(
        sizes in proptest::collection::vec(1_usize..40_000, 1..20),
        small in proptest::collection::vec(1_usize..20, 1..5),
        words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20_000), 1..6),
        tls13 in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let version = if tls13 { Version::Tls13 } else { Version::Tls12 };
            let door = Door::new(Kind::Ecdsa);
            for sizes in [sizes, small] {
                let wire = Wire::new(Offer::version(version).config(), sizes);
                let mut handshake = door.acceptor().begin(wire, Begin::FirstByte);
                let established = handshake.run().await.unwrap();
                let mut server = handshake.finish(established);
                for part in &words {
                    server.write_all(part).await.unwrap();
                }
                server.shutdown().await.unwrap();
                prop_assert!(server.get_ref().heard == words.concat());
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_fragmentation_of_what_the_client_says_gives_the_same_plaintext(
        sizes in proptest::collection::vec(1_usize..40_000, 1..20),
        small in proptest::collection::vec(1_usize..20, 1..5),
        words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20_000), 1..6),
        tls13 in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let version = if tls13 { Version::Tls13 } else { Version::Tls12 };
            let door = Door::new(Kind::Ecdsa);
            for sizes in [sizes, small] {
                let mut wire = Wire::new(Offer::version(version).config(), sizes);
                for part in &words {
                    wire.say(part);
                }
                wire.closes = true;
                let mut handshake = door.acceptor().begin(wire, Begin::FirstByte);
                let established = handshake.run().await.unwrap();
                let mut server = handshake.finish(established);
                let mut heard = Vec::new();
                server.read_to_end(&mut heard).await.unwrap();
                prop_assert!(heard == words.concat());
                prop_assert_eq!(server.ended(), Some(End::CloseNotify));
                prop_assert_eq!(door.pool.in_use(), 0);
            }
            Ok(())
        })?;
    }
}
