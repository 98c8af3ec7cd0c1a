//! Whole sessions over loopback, with a service that lives in the test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;
use waxseal_proto::{Capabilities, Protocol};
use waxseal_server::service::{
    Caller, Opened, Promise, Relay, RelayContext, Resolver, Service, ServiceError, Unreachable,
};
use waxseal_server::{
    Address, Forwarding, Leg, LegSecurity, Listener, Security, Server, Socket, SocketOptions, Upstream,
};
use waxseal_tls::{
    Acceptor, Begin, CertificateSet, CertificateStore, Connector, Entry, Group, Identity, Policy,
    PolicySettings, Pool, Suite, TicketKeys, Trust, Version,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A service that greets, remembers who called, and answers every line with `250 heard`.
#[derive(Default)]
struct Parrot {
    callers: Mutex<Vec<(SocketAddr, bool)>>,
    heard: Arc<Mutex<Vec<u8>>>,
    down: bool,
}

impl Service for Parrot {
    fn name(&self) -> &str {
        "parrot"
    }

    fn capabilities(&self) -> Promise<'_, Result<Arc<Capabilities>, Unreachable>> {
        Box::pin(async {
            if self.down {
                return Err(Unreachable("it sleeps".into()));
            }
            let entries = vec!["PIPELINING".to_owned(), "AUTH PLAIN".to_owned()];
            Ok(Arc::new(Capabilities::new(Protocol::Smtp, entries)))
        })
    }

    fn open<'a>(&'a self, caller: Caller<'a>) -> Promise<'a, Result<Opened, ServiceError>> {
        self.callers.lock().unwrap().push((caller.source, caller.tls.is_some()));
        let heard = Arc::clone(&self.heard);
        Box::pin(async move {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = theirs.read(&mut buffer).await {
                    heard.lock().unwrap().extend_from_slice(&buffer[..count]);
                    for _ in buffer[..count].iter().filter(|byte| **byte == b'\n') {
                        theirs.write_all(b"250 heard\r\n").await.unwrap();
                    }
                }
            });
            Ok(Opened {
                leg: Leg::plain(Socket::Unix(ours), &Pool::new(2)),
                greeting: b"220 parrot\r\n".to_vec(),
                capabilities: None,
                unread: Vec::new(),
            })
        })
    }
}

/// A server with one listener on a free loopback port.
struct Door {
    address: SocketAddr,
    server: Server,
    listener: Listener,
}

fn acceptor(protocol: Protocol) -> Arc<Acceptor> {
    let made = rcgen::generate_simple_self_signed(vec!["mail.example".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (identity, _) = Identity::from_pem(chain.as_bytes(), key.as_bytes(), &[]).unwrap();
    let entry = Entry { id: "main".to_owned(), identity: Arc::new(identity), default: true };
    let (set, _) = CertificateSet::new(vec![entry], "mail.example");
    let policy = Policy::new(PolicySettings {
        versions: vec![Version::Tls12, Version::Tls13],
        suites: Suite::ALL.to_vec(),
        groups: Group::ALL.to_vec(),
        ignore_client_order: true,
        tickets: false,
    });
    let store = CertificateStore::new(set);
    Acceptor::new("test", protocol, policy.unwrap(), store, TicketKeys::new(), Pool::new(8))
}

fn starttls() -> Security {
    Security::StartTls { acceptor: acceptor(Protocol::Smtp), require: false }
}

async fn door(security: Security, service: Arc<dyn Service>, change: impl FnOnce(&mut Listener)) -> Door {
    // The port is free when it is asked for; nothing else on this machine takes ports from this range by itself.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut listener = Listener {
        name: "test".into(),
        protocol: Protocol::Smtp,
        bind: vec![address],
        socket: SocketOptions::default(),
        max_connections: 100,
        max_connections_per_address: 100,
        trusted_networks: Vec::new(),
        hostname: "mail.example".into(),
        security,
        timeout: Duration::from_secs(5),
        service,
    };
    change(&mut listener);
    let mut server = Server::new(Pool::new(8));
    let prepared = server.prepare(vec![listener.clone()]).map_err(|errors| errors[0].to_string()).unwrap();
    server.apply(prepared);
    Door { address, server, listener }
}

/// Sends `words` and reads until the answer ends with `end`, or the connection does.
async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), words: &str, end: &str) -> String {
    stream.write_all(words.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut heard = Vec::new();
    let reading = async {
        while !heard.ends_with(end.as_bytes()) {
            match stream.read_u8().await {
                Ok(byte) => heard.push(byte),
                Err(_) => break,
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer in time");
    String::from_utf8_lossy(&heard).into_owned()
}

/// What is still said until the connection ends.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut heard = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end in time");
    String::from_utf8_lossy(&heard).into_owned()
}

async fn encrypt(stream: TcpStream) -> waxseal_tls::TlsStream<TcpStream> {
    let connector = Connector::new(&Trust::Any, "mail.example", Pool::new(4)).unwrap();
    let mut handshake = connector.begin(stream, Begin::FirstByte);
    let established = timeout(PATIENCE, handshake.run()).await.unwrap().unwrap();
    handshake.finish(established)
}

#[tokio::test]
async fn a_starttls_session_reaches_the_service_only_after_the_handshake() {
    let parrot = Arc::new(Parrot::default());
    let door = door(starttls(), parrot.clone(), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    let greeting = ask(&mut client, "", "\r\n").await;
    assert!(greeting.starts_with("220 mail.example"), "{greeting}");
    let hello = ask(&mut client, "EHLO client.example\r\n", "250 STARTTLS\r\n").await;
    assert_eq!(hello, "250-mail.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n");
    assert!(ask(&mut client, "STARTTLS\r\n", "\r\n").await.starts_with("220 "));
    assert!(parrot.callers.lock().unwrap().is_empty(), "nobody has called the service yet");
    let mut client = encrypt(client).await;
    assert_eq!(ask(&mut client, "EHLO again.example\r\n", "\r\n").await, "250 heard\r\n");
    assert_eq!(*parrot.heard.lock().unwrap(), b"EHLO again.example\r\n", "its greeting was swallowed");
    assert_eq!(parrot.callers.lock().unwrap().as_slice(), [(client.get_ref().local_addr().unwrap(), true)]);
}

#[tokio::test]
async fn on_an_implicit_listener_the_service_greets() {
    let door = door(Security::Implicit(acceptor(Protocol::Smtp)), Arc::new(Parrot::default()), |_| {}).await;
    let mut client = encrypt(TcpStream::connect(door.address).await.unwrap()).await;
    assert_eq!(ask(&mut client, "", "\r\n").await, "220 parrot\r\n");
}

#[tokio::test]
async fn mail_in_cleartext_is_handed_on_with_the_hello_and_what_stood_behind_it() {
    let parrot = Arc::new(Parrot::default());
    let door = door(starttls(), parrot.clone(), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    ask(&mut client, "EHLO client.example\r\n", "STARTTLS\r\n").await;
    let answers =
        ask(&mut client, "MAIL FROM:<a@example>\r\nRCPT TO:<b@example>\r\n", "heard\r\n250 heard\r\n").await;
    assert_eq!(answers, "250 heard\r\n250 heard\r\n");
    assert_eq!(*parrot.heard.lock().unwrap(), b"MAIL FROM:<a@example>\r\nRCPT TO:<b@example>\r\n");
    assert!(!parrot.callers.lock().unwrap()[0].1, "the service is told that there is no TLS");
}

#[tokio::test]
async fn what_stands_behind_starttls_ends_the_session_and_is_counted() {
    let parrot = Arc::new(Parrot::default());
    let door = door(starttls(), parrot.clone(), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    client.write_all(b"STARTTLS\r\nMAIL FROM:<mallory@example>\r\n").await.unwrap();
    let heard = rest(&mut client).await;
    assert!(!heard.contains("220"), "no go-ahead: {heard}");
    assert_eq!(door.server.tally().injections.get(), 1);
    assert!(parrot.callers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn cleartext_after_the_go_ahead_is_an_injection_too() {
    let door = door(starttls(), Arc::new(Parrot::default()), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    assert!(ask(&mut client, "STARTTLS\r\n", "\r\n").await.starts_with("220 "));
    client.write_all(b"MAIL FROM:<mallory@example>\r\n").await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(door.server.tally().injections.get(), 1);
}

#[tokio::test]
async fn a_client_in_clear_on_an_implicit_port_is_answered_in_its_own_language() {
    let door = door(Security::Implicit(acceptor(Protocol::Smtp)), Arc::new(Parrot::default()), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    client.write_all(b"EHLO client.example\r\n").await.unwrap();
    let heard = rest(&mut client).await;
    assert!(heard.starts_with('5') || heard.starts_with("421"), "{heard}");
}

#[tokio::test]
async fn a_client_that_says_nothing_on_an_implicit_port_is_told_at_the_timeout() {
    let implicit = Security::Implicit(acceptor(Protocol::Smtp));
    let door = door(implicit, Arc::new(Parrot::default()), |listener| {
        listener.timeout = Duration::from_millis(300);
    })
    .await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    let heard = rest(&mut client).await;
    assert!(heard.starts_with('5') || heard.starts_with("421"), "{heard}");
}

#[tokio::test]
async fn a_service_that_is_down_makes_the_listener_say_so() {
    let asleep = Arc::new(Parrot { down: true, ..Parrot::default() });
    let door = door(starttls(), asleep, |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    assert!(rest(&mut client).await.starts_with("421 4.3.2 "));
}

#[tokio::test]
async fn one_connection_too_many_is_turned_away_and_the_next_is_served_once_there_is_a_place() {
    let door = door(starttls(), Arc::new(Parrot::default()), |listener| listener.max_connections = 1).await;
    let mut first = TcpStream::connect(door.address).await.unwrap();
    ask(&mut first, "", "\r\n").await;
    let mut second = TcpStream::connect(door.address).await.unwrap();
    assert!(rest(&mut second).await.starts_with("421 "));
    assert!(ask(&mut first, "QUIT\r\n", "\r\n").await.starts_with("221 "));
    drop(first);
    let free = async {
        loop {
            let mut third = TcpStream::connect(door.address).await.unwrap();
            if ask(&mut third, "", "\r\n").await.starts_with("220 ") {
                break;
            }
        }
    };
    timeout(PATIENCE, free).await.expect("a place becomes free");
}

#[tokio::test]
async fn a_proxy_header_is_believed_from_a_trusted_network_and_from_no_other() {
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n";
    for (trusted, expected) in [(true, "192.0.2.7:4711"), (false, "")] {
        let parrot = Arc::new(Parrot::default());
        let door = door(starttls(), parrot.clone(), |listener| {
            if trusted {
                listener.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
            }
        })
        .await;
        let mut client = TcpStream::connect(door.address).await.unwrap();
        client.write_all(header).await.unwrap();
        ask(&mut client, "", "\r\n").await;
        if !trusted {
            assert!(ask(&mut client, "", "\r\n").await.starts_with("500 "), "it is no command");
        }
        ask(&mut client, "HELO client.example\r\nMAIL FROM:<a@example>\r\n", "heard\r\n").await;
        let (source, _) = parrot.callers.lock().unwrap()[0];
        if trusted {
            assert_eq!(source.to_string(), expected);
        } else {
            assert_eq!(source, client.local_addr().unwrap());
        }
    }
}

#[tokio::test]
async fn a_reload_changes_listeners_and_leaves_sessions_alone() {
    let mut door = door(starttls(), Arc::new(Parrot::default()), |_| {}).await;
    let mut old = TcpStream::connect(door.address).await.unwrap();
    ask(&mut old, "", "\r\n").await;

    let mut changed = door.listener.clone();
    changed.hostname = "other.example".into();
    let prepared = door.server.prepare(vec![changed]).map_err(|_| "cannot bind").unwrap();
    door.server.apply(prepared);
    let mut new = TcpStream::connect(door.address).await.unwrap();
    assert!(ask(&mut new, "", "\r\n").await.starts_with("220 other.example"));
    assert!(ask(&mut old, "EHLO c\r\n", "STARTTLS\r\n").await.starts_with("250-mail.example"));

    let prepared = door.server.prepare(Vec::new()).map_err(|_| "cannot bind").unwrap();
    door.server.apply(prepared);
    let refused = async {
        while TcpStream::connect(door.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("the removed listener closes");
    assert!(ask(&mut old, "NOOP\r\n", "\r\n").await.starts_with("250 "));
}

#[tokio::test]
async fn a_port_that_is_taken_changes_nothing() {
    let door = door(starttls(), Arc::new(Parrot::default()), |_| {}).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut other = door.listener.clone();
    other.bind = vec![taken.local_addr().unwrap()];
    let Err(errors) = door.server.prepare(vec![other]) else { panic!("the port is taken") };
    assert_eq!(errors[0].source.kind(), std::io::ErrorKind::AddrInUse);
    let mut client = TcpStream::connect(door.address).await.unwrap();
    assert!(ask(&mut client, "", "\r\n").await.starts_with("220 "));
}

#[tokio::test]
async fn draining_says_goodbye_in_the_protocols_words() {
    let door = door(starttls(), Arc::new(Parrot::default()), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    let drained = tokio::spawn(door.server.drain(Duration::from_secs(10)));
    assert!(rest(&mut client).await.starts_with("421 "));
    assert_eq!(drained.await.unwrap(), 0);
}

/// An SMTP server that answers EHLO and QUIT, and refuses whoever comes while `banning` is set.
async fn smtp_server(banning: Arc<AtomicBool>) -> SocketAddr {
    let sockets = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = sockets.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = sockets.accept().await {
            let banned = banning.load(Ordering::SeqCst);
            tokio::spawn(async move {
                if banned {
                    stream.write_all(b"554 5.7.1 you are banned\r\n").await.unwrap();
                    return;
                }
                stream.write_all(b"220 behind.example\r\n").await.unwrap();
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    for line in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
                        let answer: &[u8] = match line {
                            [b'E', ..] => b"250-behind.example\r\n250 SIZE 1000\r\n",
                            [b'Q', ..] => b"221 bye\r\n",
                            _ => b"250 ok\r\n",
                        };
                        let _ = stream.write_all(answer).await;
                    }
                }
            });
        }
    });
    address
}

fn relay(addresses: Vec<SocketAddr>) -> Arc<Relay> {
    let context =
        RelayContext { hostname: "mail.example".into(), resolver: Resolver::System, pool: Pool::new(8) };
    let upstream = Upstream {
        name: "behind".into(),
        addresses: addresses
            .into_iter()
            .map(|address| Address::Tcp { host: address.ip().to_string(), port: address.port() })
            .collect(),
        forwarding: Forwarding::None,
        leg: LegSecurity::None,
        server_name: None,
        trust: Trust::System,
    };
    Relay::start(context, upstream, Protocol::Smtp).unwrap()
}

async fn dead_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn the_door_announces_what_it_has_learnt_from_the_first_address_that_answers() {
    let alive = smtp_server(Arc::default()).await;
    let door = door(starttls(), relay(vec![dead_port().await, alive]), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    let hello = ask(&mut client, "EHLO client.example\r\n", "250 STARTTLS\r\n").await;
    assert_eq!(hello, "250-mail.example\r\n250-SIZE 1000\r\n250 STARTTLS\r\n");
    let answer = ask(&mut client, "MAIL FROM:<a@example>\r\n", "\r\n").await;
    assert_eq!(answer, "250 ok\r\n");
}

#[tokio::test]
async fn a_service_that_is_down_is_asked_by_one_task_and_not_by_every_client() {
    let relay = relay(vec![dead_port().await]);
    let door = door(starttls(), relay, |_| {}).await;
    for _ in 0..20 {
        let mut client = TcpStream::connect(door.address).await.unwrap();
        assert!(rest(&mut client).await.starts_with("421 4.3.2 "));
    }
    assert_eq!(door.server.tally().service_failures.get(), 0, "no client caused a dial");
}

#[tokio::test]
async fn a_banned_client_hears_the_services_words_and_the_next_client_is_served() {
    let banning = Arc::new(AtomicBool::new(false));
    let door = door(Security::Clear, relay(vec![smtp_server(Arc::clone(&banning)).await]), |_| {}).await;
    let mut welcome = TcpStream::connect(door.address).await.unwrap();
    assert_eq!(ask(&mut welcome, "", "\r\n").await, "220 behind.example\r\n");
    banning.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        let mut banned = TcpStream::connect(door.address).await.unwrap();
        assert_eq!(rest(&mut banned).await, "554 5.7.1 you are banned\r\n");
    }
    banning.store(false, Ordering::SeqCst);
    let mut next = TcpStream::connect(door.address).await.unwrap();
    assert_eq!(ask(&mut next, "", "\r\n").await, "220 behind.example\r\n");
}
