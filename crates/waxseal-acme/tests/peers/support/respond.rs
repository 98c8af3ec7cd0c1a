//! Small servers that answer challenges as the listeners of a door would.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;
use waxseal_acme::Answers;

/// Ends with the test.
pub(crate) struct Responder(JoinHandle<()>);

impl Drop for Responder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A responder that has just been dropped frees its port once the runtime has come round to it.
async fn bind(at: SocketAddr) -> TcpListener {
    for _ in 0..200 {
        match TcpListener::bind(at).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
    TcpListener::bind(at).await.expect("the port")
}

/// Answers http-01.
pub(crate) async fn http_01(at: SocketAddr, answers: Arc<Answers>) -> Responder {
    let listener = bind(at).await;
    Responder(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_http(stream, Arc::clone(&answers)));
        }
    }))
}

async fn answer_http(stream: TcpStream, answers: Arc<Answers>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let mut header = String::new();
    while stream.read_line(&mut header).await? > 2 {
        header.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let token = path.strip_prefix("/.well-known/acme-challenge/").unwrap_or_default();
    let (status, body) = match answers.http_01(token) {
        Some(body) => ("200 OK", body.to_string()),
        None => ("404 Not Found", "no such token".to_owned()),
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Answers tls-alpn-01.
pub(crate) async fn tls_alpn_01(at: SocketAddr, answers: Arc<Answers>) -> Responder {
    let listener = bind(at).await;
    Responder(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_tls(stream, Arc::clone(&answers)));
        }
    }))
}

async fn answer_tls(stream: TcpStream, answers: Arc<Answers>) -> std::io::Result<()> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let sni = start.client_hello().server_name().unwrap_or_default().to_owned();
    let Some(answer) = answers.tls_alpn_01(&sni) else { return Ok(()) };
    let provider = aws_lc_rs::default_provider();
    let key = PrivateKeyDer::Pkcs8(answer.key.into());
    let key = provider.key_provider.load_private_key(key).expect("a key");
    let shown = Arc::new(Shown(Arc::new(CertifiedKey::new(vec![answer.certificate.into()], key))));
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    start.into_stream(Arc::new(config)).await?.shutdown().await
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
