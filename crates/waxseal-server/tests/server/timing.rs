//! Limits of time, under a clock that moves when nothing else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::{Instant, sleep};
use waxseal_proto::{Capabilities, Protocol};
use waxseal_server::service::{Caller, Opened, Promise, Service, ServiceError, Unreachable};
use waxseal_server::{Leg, Security, Socket};
use waxseal_tls::Pool;

use crate::relay::relay;
use crate::support::{Parrot, acceptor, door, starttls};

const MINUTE: Duration = Duration::from_secs(60);

/// A service that greets and then says nothing, ever.
struct Mute(&'static str);

impl Service for Mute {
    fn name(&self) -> &str {
        "mute"
    }

    fn capabilities(&self) -> Promise<'_, Result<Arc<Capabilities>, Unreachable>> {
        Box::pin(async { Err(Unreachable("nobody asks".into())) })
    }

    fn open<'a>(&'a self, _caller: Caller<'a>) -> Promise<'a, Result<Opened, ServiceError>> {
        Box::pin(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            tokio::spawn(async move { theirs.read_to_end(&mut Vec::new()).await });
            Ok(Opened {
                leg: Leg::plain(Socket::Unix(ours), &Pool::new(1)),
                greeting: self.0.as_bytes().to_vec(),
                capabilities: None,
                unread: Vec::new(),
            })
        })
    }
}

/// Everything that is said until the connection ends, and how long that takes.
async fn to_the_end(client: &mut (impl AsyncReadExt + Unpin)) -> (String, Duration) {
    let (begun, mut heard) = (Instant::now(), Vec::new());
    let _ = client.read_to_end(&mut heard).await;
    (String::from_utf8(heard).unwrap(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_ends_at_its_protocols_limit_in_its_protocols_words() {
    for (protocol, greeting, minutes, words) in [
        (Protocol::Smtp, "220 here\r\n", 11, "421 4.4.2 "),
        (Protocol::Imap, "* OK [CAPABILITY IMAP4rev1] here\r\n", 35, "* BYE "),
        (Protocol::Pop3, "+OK here\r\n", 11, "-ERR "),
        (Protocol::ManageSieve, "\"SIEVE\" \"fileinto\"\r\nOK\r\n", 35, "BYE "),
        (Protocol::Http, "", 10, ""),
    ] {
        let door = door(Security::Clear, Arc::new(Mute(greeting)), |listener| {
            listener.protocol = protocol;
        })
        .await;
        let mut client = TcpStream::connect(door.address).await.unwrap();
        let (heard, after) = to_the_end(&mut client).await;
        assert_eq!(after.as_secs(), minutes * 60, "{protocol}");
        let last = heard.strip_prefix(greeting).unwrap_or_else(|| panic!("{protocol}: {heard:?}"));
        assert!(last.starts_with(words), "{protocol}: {last:?}");
        assert_eq!(last.is_empty(), words.is_empty(), "{protocol}: {last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn small_talk_does_not_stretch_the_time_before_tls() {
    for (require, limit) in [(true, Duration::from_secs(5)), (false, 5 * MINUTE)] {
        let door = door(starttls(), Arc::new(Parrot::default()), |listener| {
            listener.security = Security::StartTls { acceptor: acceptor(Protocol::Smtp), require };
        })
        .await;
        let client = TcpStream::connect(door.address).await.unwrap();
        let (mut hearing, mut talking) = client.into_split();
        tokio::spawn(async move {
            while talking.write_all(b"NOOP\r\n").await.is_ok() {
                sleep(Duration::from_millis(900)).await;
            }
        });
        let (heard, after) = to_the_end(&mut hearing).await;
        assert_eq!(after.as_secs(), limit.as_secs());
        assert!(heard.lines().last().unwrap().starts_with("421 4.4.2 "), "{heard}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_in_drops_does_not_stretch_the_handshake() {
    let door = door(Security::Implicit(acceptor(Protocol::Smtp)), Arc::new(Parrot::default()), |_| {}).await;
    let client = TcpStream::connect(door.address).await.unwrap();
    let (mut hearing, mut dripping) = client.into_split();
    tokio::spawn(async move {
        // The head of a record with a long ClientHello, and then a byte a second of it.
        dripping.write_all(&[22, 3, 1, 16, 0, 1, 0, 15, 252, 3, 3]).await.unwrap();
        while dripping.write_all(&[0]).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let (_, after) = to_the_end(&mut hearing).await;
    assert_eq!(after.as_secs(), 5);
    assert_eq!(door.server.tally().handshake_failures.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_header_in_drops_is_not_waited_for() {
    let door = door(starttls(), Arc::new(Parrot::default()), |listener| {
        listener.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let client = TcpStream::connect(door.address).await.unwrap();
    let (mut hearing, mut dripping) = client.into_split();
    tokio::spawn(async move {
        for byte in b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n" {
            if dripping.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(700)).await;
        }
    });
    let (heard, after) = to_the_end(&mut hearing).await;
    assert_eq!((heard.as_str(), after.as_secs()), ("", 5));
}

/// A service that is counted each time it is asked; it answers while `up`.
async fn counting_service(up: bool) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let sockets = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = sockets.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = sockets.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            if !up {
                continue;
            }
            tokio::spawn(async move {
                let mut buffer = [0; 256];
                let _ = stream.write_all(b"220 behind\r\n").await;
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(b"250 behind\r\n").await;
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    (address, asked)
}

#[tokio::test(start_paused = true)]
async fn what_was_learnt_is_asked_for_again_after_a_minute_of_use_and_not_without() {
    let (address, asked) = counting_service(true).await;
    let relay = relay(vec![address]);
    for _ in 0..100 {
        relay.capabilities().await.unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    sleep(10 * MINUTE).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1, "nobody has used it");
    for _ in 0..100 {
        relay.capabilities().await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_is_asked_every_four_seconds_whoever_comes() {
    let (address, asked) = counting_service(false).await;
    let relay = relay(vec![address]);
    assert!(relay.capabilities().await.is_err());
    sleep(8 * Duration::from_secs(1)).await;
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..120 {
        assert!(relay.capabilities().await.is_err());
        sleep(Duration::from_secs(1)).await;
    }
    // Each time in both ways, with a PROXY header and without.
    let asked = (asked.load(Ordering::SeqCst) - before) / 2;
    assert!((29..=31).contains(&asked), "{asked} times in two minutes");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_nobody_holds_asks_no_more() {
    let (address, asked) = counting_service(false).await;
    let relay = relay(vec![address]);
    assert!(relay.capabilities().await.is_err());
    drop(relay);
    sleep(MINUTE).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2, "once in each way");
}
