//! A TLS echo server with certificates from files, which it reloads when they change.
//!
//! ```text
//! cargo run -p waxseal-tls --example echo -- 127.0.0.1:8443 fullchain.pem privkey.pem
//! openssl s_client -connect 127.0.0.1:8443
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use waxseal_proto::Protocol;
use waxseal_tls::{
    Acceptor, Begin, CertificateSet, CertificateSpec, CertificateStore, PemPart, PemSource, Policy,
    PolicySettings, Pool, TicketKeys, Watcher, load,
};

const HANDSHAKE_TIME: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, chain, key] = arguments.as_slice() else {
        return Err("usage: echo ADDRESS CHAIN.pem KEY.pem".into());
    };
    let file = |path: &String| PemSource { parts: vec![PemPart::File(path.into())] };
    let spec = CertificateSpec {
        id: "echo".into(),
        chain: file(chain),
        key: file(key),
        subjects: Vec::new(),
        default: true,
    };
    let (entry, warnings) = load(&spec)?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    let store = CertificateStore::new(CertificateSet::new(vec![entry], "localhost").0);
    let _watcher =
        Watcher::start_with(vec![spec], "localhost", Arc::clone(&store), |report| eprintln!("{report}"))?;
    let policy = Policy::new(PolicySettings::default())?;
    // HTTP has an application protocol; an echo has none, but then it speaks to anybody.
    let acceptor = Acceptor::new("echo", Protocol::Http, policy, store, TicketKeys::new(), Pool::new(64));

    let listener = TcpListener::bind(address.as_str()).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    loop {
        let (io, peer) = listener.accept().await?;
        let acceptor = Arc::clone(&acceptor);
        tokio::spawn(async move {
            match echo(&acceptor, io).await {
                Ok(end) => eprintln!("{peer}: {end}"),
                Err(error) => eprintln!("{peer}: {error}"),
            }
        });
    }
}

async fn echo(acceptor: &Arc<Acceptor>, io: TcpStream) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut handshake = acceptor.begin(io, Begin::FirstByte);
    let established = tokio::time::timeout(HANDSHAKE_TIME, handshake.run()).await??;
    let mut session = handshake.finish(established);
    let facts = session.facts();
    eprintln!("{} {} resumed={}", facts.version, facts.suite, facts.resumed);
    loop {
        // Nothing is held while the peer is silent; then as much as it said, and back with it.
        let words = session.fill_buf().await?.to_vec();
        if words.is_empty() {
            session.shutdown().await?;
            return Ok(format!("{:?}", session.ended()));
        }
        session.consume(words.len());
        session.write_all(&words).await?;
        session.flush().await?;
    }
}
