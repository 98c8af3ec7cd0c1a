//! A mail store of one's own behind a STARTTLS listener: the door speaks IMAP until TLS stands, and only then hands the
//! client to the service, which never hears of TLS.
//!
//! ```text
//! cargo run -p waxseal-server --example own_service -- 127.0.0.1:1143 fullchain.pem privkey.pem
//! openssl s_client -connect 127.0.0.1:1143 -starttls imap -crlf
//! a LOGIN alice secret
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use waxseal_proto::{Capabilities, Protocol};
use waxseal_server::service::{Caller, Opened, Promise, ServiceError, Unreachable};
use waxseal_server::{Leg, Listener, Security, Server, Service, Socket, SocketOptions};
use waxseal_tls::{
    Acceptor, CertificateSet, CertificateSpec, CertificateStore, PemPart, PemSource, Policy, PolicySettings,
    Pool, TicketKeys, load,
};

/// How long sessions may go on after Ctrl-C.
const GRACE: Duration = Duration::from_secs(10);

/// Lets everybody in and has one empty mailbox.
struct EmptyStore {
    pool: Arc<Pool>,
}

const CAPABILITIES: &str = "IMAP4rev1 AUTH=PLAIN";

impl Service for EmptyStore {
    fn name(&self) -> &str {
        "empty store"
    }

    fn capabilities(&self) -> Promise<'_, Result<Arc<Capabilities>, Unreachable>> {
        let entries = CAPABILITIES.split(' ').map(str::to_owned).collect();
        Box::pin(async { Ok(Arc::new(Capabilities::new(Protocol::Imap, entries))) })
    }

    fn open<'a>(&'a self, caller: Caller<'a>) -> Promise<'a, Result<Opened, ServiceError>> {
        eprintln!("{} has come, encrypted: {}", caller.source, caller.tls.is_some());
        Box::pin(async {
            let opened = |error| ServiceError::Connect {
                service: self.name().into(),
                address: "this process".to_owned(),
                source: error,
            };
            let (ours, theirs) = UnixStream::pair().map_err(opened)?;
            tokio::spawn(converse(theirs));
            Ok(Opened {
                leg: Leg::plain(Socket::Unix(ours), &self.pool),
                // After STARTTLS nobody sees it; with implicit TLS it is the first thing the client hears.
                greeting: b"* OK at your service\r\n".to_vec(),
                capabilities: None,
                unread: Vec::new(),
            })
        })
    }
}

async fn converse(client: UnixStream) -> std::io::Result<()> {
    let (receiving, mut sending) = client.into_split();
    let mut lines = BufReader::new(receiving).lines();
    while let Some(line) = lines.next_line().await? {
        let mut words = line.split_ascii_whitespace();
        let (tag, verb) =
            (words.next().unwrap_or("*"), words.next().unwrap_or_default().to_ascii_uppercase());
        let answer = match verb.as_str() {
            "CAPABILITY" => format!("* CAPABILITY {CAPABILITIES}\r\n{tag} OK\r\n"),
            "LOGIN" | "NOOP" => format!("{tag} OK\r\n"),
            "SELECT" => format!("* 0 EXISTS\r\n{tag} OK [READ-ONLY]\r\n"),
            "LOGOUT" => format!("* BYE\r\n{tag} OK\r\n"),
            _ => format!("{tag} BAD not here\r\n"),
        };
        sending.write_all(answer.as_bytes()).await?;
        if verb == "LOGOUT" {
            break;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, chain, key] = arguments.as_slice() else {
        return Err("usage: own_service ADDRESS CHAIN.pem KEY.pem".into());
    };
    let pool = Pool::new(64);
    let listener = Listener {
        name: "imap".into(),
        protocol: Protocol::Imap,
        bind: vec![address.parse()?],
        socket: SocketOptions::default(),
        max_connections: 1000,
        max_connections_per_address: 50,
        trusted_networks: Vec::new(),
        hostname: "localhost".into(),
        security: Security::StartTls { acceptor: acceptor(chain, key, &pool)?, require: true },
        timeout: Duration::from_secs(60),
        service: Arc::new(EmptyStore { pool: Arc::clone(&pool) }),
    };

    let mut server = Server::new(pool);
    let prepared = server
        .prepare(vec![listener])
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    server.apply(prepared);
    eprintln!("listening on {address}; Ctrl-C ends it");
    tokio::signal::ctrl_c().await?;
    let cut = server.drain(GRACE).await;
    eprintln!("{cut} sessions were cut");
    Ok(())
}

/// Handshakes with the certificate in two files.
fn acceptor(chain: &str, key: &str, pool: &Arc<Pool>) -> Result<Arc<Acceptor>, Box<dyn Error>> {
    let file = |path: &str| PemSource { parts: vec![PemPart::File(path.into())] };
    let (entry, _) = load(&CertificateSpec {
        id: "main".into(),
        chain: file(chain),
        key: file(key),
        subjects: Vec::new(),
        default: true,
    })?;
    let store = CertificateStore::new(CertificateSet::new(vec![entry], "localhost").0);
    let policy = Policy::new(PolicySettings::default())?;
    Ok(Acceptor::new("imap", Protocol::Imap, policy, store, TicketKeys::new(), Arc::clone(pool)))
}
