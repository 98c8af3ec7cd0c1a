//! What the benches share that run both sides in one thread: a transport in memory, bare rustls, CPU time.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use waxseal_tls::{Transport, Version};

use crate::measure::{Credentials, NAME};

/// The CPU time that this thread has used.
pub(crate) fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

impl Credentials {
    fn certificates(&self) -> impl Iterator<Item = CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain.as_bytes()).map(Result::unwrap)
    }

    /// The same in the library's own terms.
    pub(crate) fn bare(&self, version: Version) -> Arc<ServerConfig> {
        let chain = self.certificates().take(1).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[supported(version)])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.ignore_client_order = true;
        config.alpn_protocols = vec![b"imap".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Arc::new(config)
    }

    pub(crate) fn client(&self, resumes: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificates().last().unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Arc::new(config)
    }
}

fn supported(version: Version) -> &'static SupportedProtocolVersion {
    match version {
        Version::Tls12 => &rustls::version::TLS12,
        Version::Tls13 => &rustls::version::TLS13,
    }
}

pub(crate) fn connection(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from(NAME).unwrap()).unwrap()
}

/// Bytes under way in both directions.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) to_server: Vec<u8>,
    /// Of `to_server`, what the server has read.
    pub(crate) read: usize,
    pub(crate) to_client: Vec<u8>,
}

/// The server's end of a connection in memory.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Lines>>);

impl Memory {
    /// Lends the bytes to the client's side.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Lines) -> R) -> R {
        act(&mut self.0.lock().unwrap())
    }
}

impl AsyncRead for Memory {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut lines = self.0.lock().unwrap();
        let left = &lines.to_server[lines.read..];
        if left.is_empty() {
            return Poll::Pending;
        }
        let taken = left.len().min(buf.remaining());
        buf.put_slice(&left[..taken]);
        lines.read += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().to_client.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Memory {
    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let lines = self.0.lock().unwrap();
        if lines.read < lines.to_server.len() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// Lets a client read what is there for it and say what it has to say.
pub(crate) fn turn(client: &mut ClientConnection, to_client: &mut Vec<u8>, to_server: &mut Vec<u8>) {
    let mut rest = to_client.as_slice();
    while !rest.is_empty() {
        client.read_tls(&mut rest).unwrap();
        client.process_new_packets().unwrap();
    }
    to_client.clear();
    while client.wants_write() {
        client.write_tls(to_server).unwrap();
    }
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
