//! A transport in memory with a client at its other end, cut into pieces of any size.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use waxseal_tls::Transport;

/// Bytes in flight to the server, and a client that answers at once.
pub(crate) struct Wire {
    pub(crate) client: ClientConnection,
    /// What the client has received, decrypted.
    pub(crate) heard: Vec<u8>,
    /// Whether the client closes once it has said everything.
    pub(crate) closes: bool,
    to_server: VecDeque<u8>,
    sizes: Vec<usize>,
    turn: usize,
}

impl Wire {
    /// Pieces have the given sizes in turn.
    pub(crate) fn new(config: ClientConfig, sizes: Vec<usize>) -> Self {
        let name = ServerName::try_from("mail.example.org").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        client.set_buffer_limit(None);
        Self { client, heard: Vec::new(), closes: false, to_server: VecDeque::new(), sizes, turn: 0 }
    }

    pub(crate) fn say(&mut self, words: &[u8]) {
        self.client.writer().write_all(words).unwrap();
        self.pull();
    }

    fn pull(&mut self) {
        if self.closes && !self.client.is_handshaking() {
            self.client.send_close_notify();
        }
        let mut records = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut records).unwrap();
        }
        self.to_server.extend(records);
    }

    fn size(&mut self) -> usize {
        self.turn += 1;
        self.sizes[self.turn % self.sizes.len()].max(1)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.pull();
        if this.to_server.is_empty() {
            // Nobody wakes: whoever gets here waits until the test lets the client say more.
            return Poll::Pending;
        }
        let size = this.size().min(buf.remaining()).min(this.to_server.len());
        for byte in this.to_server.drain(..size) {
            buf.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let size = this.size().min(bytes.len());
        let mut rest = &bytes[..size];
        while !rest.is_empty() {
            this.client.read_tls(&mut rest).unwrap();
            let state = this.client.process_new_packets().map_err(io::Error::other)?;
            let start = this.heard.len();
            this.heard.resize(start + state.plaintext_bytes_to_read(), 0);
            this.client.reader().read_exact(&mut this.heard[start..]).unwrap();
        }
        Poll::Ready(Ok(size))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Wire {
    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
