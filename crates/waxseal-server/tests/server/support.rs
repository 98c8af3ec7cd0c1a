//! A server with one listener, and a service that lives in the test.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;
use waxseal_proto::{Capabilities, Protocol};
use waxseal_server::service::{Caller, Opened, Promise, Service, ServiceError, Unreachable};
use waxseal_server::{Leg, Listener, Security, Server, Socket, SocketOptions};
use waxseal_tls::{
    Acceptor, Begin, CertificateSet, CertificateStore, Connector, Entry, Group, Identity, Policy,
    PolicySettings, Pool, Suite, TicketKeys, Trust, Version,
};

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A service that greets, remembers who called, and answers every line with `250 heard`.
#[derive(Default)]
pub(super) struct Parrot {
    pub(super) callers: Mutex<Vec<(SocketAddr, bool)>>,
    pub(super) heard: Arc<Mutex<Vec<u8>>>,
    pub(super) down: bool,
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
pub(super) struct Door {
    pub(super) address: SocketAddr,
    pub(super) server: Server,
    pub(super) listener: Listener,
}

pub(super) fn acceptor(protocol: Protocol) -> Arc<Acceptor> {
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

pub(super) fn starttls() -> Security {
    Security::StartTls { acceptor: acceptor(Protocol::Smtp), require: false }
}

pub(super) async fn door(
    security: Security,
    service: Arc<dyn Service>,
    change: impl FnOnce(&mut Listener),
) -> Door {
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
pub(super) async fn ask(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    words: &str,
    end: &str,
) -> String {
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
pub(super) async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut heard = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end in time");
    String::from_utf8_lossy(&heard).into_owned()
}

pub(super) async fn encrypt(stream: TcpStream) -> waxseal_tls::TlsStream<TcpStream> {
    let connector = Connector::new(&Trust::Any, "mail.example", Pool::new(4)).unwrap();
    let mut handshake = connector.begin(stream, Begin::FirstByte);
    let established = timeout(PATIENCE, handshake.run()).await.unwrap().unwrap();
    handshake.finish(established)
}
