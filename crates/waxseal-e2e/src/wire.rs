//! One end of a connection, spoken line by line: client or service, in clear or in TLS.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};

use crate::SOON;

/// What a TLS client of these tests brings to a handshake.
#[derive(Clone, Debug)]
pub struct TlsClient {
    /// Its settings.
    pub config: Arc<ClientConfig>,
    /// The name it asks for (SNI) and expects in the certificate.
    pub name: String,
}

impl TlsClient {
    /// A ClientHello of this client's, as records.
    ///
    /// # Panics
    /// When its settings make none.
    #[must_use]
    pub fn hello(&self) -> Vec<u8> {
        let mut connection = self.connection().expect("client");
        client_hello(&mut connection).expect("ClientHello")
    }

    fn connection(&self) -> io::Result<ClientConnection> {
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)
    }
}

fn client_hello(connection: &mut ClientConnection) -> io::Result<Vec<u8>> {
    let mut hello = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut hello)?;
    }
    Ok(hello)
}

/// A connection with the talk so far, which every panic prints.
#[derive(Debug)]
pub struct Wire {
    io: Io,
    unread: Vec<u8>,
    talk: String,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
    /// Only while one of the others is made.
    Gone,
}

impl Wire {
    /// Connects to `addr`.
    ///
    /// # Panics
    /// When nothing answers.
    #[must_use]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&addr, SOON).unwrap_or_else(|e| panic!("{addr}: {e}")))
    }

    /// Connects to `addr` from an address of this machine's own, so that it can be told from others in a log.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn connect_from(source: IpAddr, addr: SocketAddr) -> Self {
        let connect = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            socket.connect_timeout(&addr.into(), SOON)?;
            Ok(socket.into())
        };
        Self::new(connect().unwrap_or_else(|e| panic!("{addr} from {source}: {e}")))
    }

    /// Takes a connection over.
    ///
    /// # Panics
    /// When the socket refuses its options.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        // What is sent at once is to arrive at once: the tests choose the segments.
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(SOON)).expect("read timeout");
        stream.set_write_timeout(Some(SOON)).expect("write timeout");
        Self { io: Io::Plain(stream), unread: Vec::new(), talk: String::new() }
    }

    /// This end's address.
    ///
    /// # Panics
    /// When the socket does not say.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.socket().local_addr().expect("local address")
    }

    /// The socket underneath.
    ///
    /// # Panics
    /// When a failed handshake has used it up.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(stream) => stream,
            Io::Client(stream) => &stream.sock,
            Io::Server(stream) => &stream.sock,
            Io::Gone => panic!("no socket after a failed handshake"),
        }
    }

    /// Sends bytes, at once and as they are.
    ///
    /// # Panics
    /// When they cannot be sent.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        if let Err(error) = self.try_send(bytes) {
            panic!("sending {:?}: {error}\n{}", String::from_utf8_lossy(bytes), self.talk);
        }
        self
    }

    /// As [`Wire::send`], where the other side may have hung up.
    ///
    /// # Errors
    /// As the socket gives them.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() <= 2_000 {
            let _ = writeln!(self.talk, "> {}", String::from_utf8_lossy(bytes).trim_end());
        }
        let stream = self.stream();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Sends a line.
    pub fn say(&mut self, line: &str) -> &mut Self {
        self.send(format!("{line}\r\n"))
    }

    /// Reads what has come, at most a buffer's worth; empty at the end of the stream.
    ///
    /// # Errors
    /// As the socket gives them; a TLS stream cut without notice is an end.
    pub fn read_some(&mut self) -> io::Result<Vec<u8>> {
        if !self.unread.is_empty() {
            return Ok(std::mem::take(&mut self.unread));
        }
        let mut buffer = vec![0; 64 * 1024];
        let count = match self.stream().read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        buffer.truncate(count);
        Ok(buffer)
    }

    /// Reads exactly `count` bytes.
    ///
    /// # Panics
    /// When they do not come.
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            match self.read_some() {
                Ok(some) if !some.is_empty() => bytes.extend(some),
                other => panic!("{} of {count} bytes, then {other:?}\n{}", bytes.len(), self.talk),
            }
        }
        self.unread = bytes.split_off(count);
        bytes
    }

    /// The next line without its end.
    ///
    /// # Panics
    /// When none comes, or the stream ends inside it.
    pub fn line(&mut self) -> String {
        match self.try_line() {
            Ok(Some(line)) => line,
            other => panic!("no line came: {other:?}\n{}", self.talk),
        }
    }

    /// The next line without its end; none at the end of the stream.
    ///
    /// # Errors
    /// As the socket gives them.
    pub fn try_line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.unread.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                let _ = writeln!(self.talk, "< {line}");
                return Ok(Some(line));
            }
            let held = std::mem::take(&mut self.unread);
            let some = self.read_some();
            self.unread = held;
            let some = some?;
            if some.is_empty() {
                return Ok(None);
            }
            self.unread.extend(some);
        }
    }

    /// The next line, which must begin with `start`.
    ///
    /// # Panics
    /// When it does not.
    pub fn expect(&mut self, start: &str) -> String {
        let line = self.line();
        assert!(line.starts_with(start), "expected {start:?}, got {line:?}\n{}", self.talk);
        line
    }

    /// Lines up to and with the first that begins with `start`.
    ///
    /// # Panics
    /// When none does.
    pub fn until(&mut self, start: &str) -> Vec<String> {
        let mut lines = vec![self.line()];
        while !lines.last().is_some_and(|line| line.starts_with(start)) {
            lines.push(self.line());
        }
        lines
    }

    /// A whole SMTP reply, of several lines or one, whose code must be `code`.
    ///
    /// # Panics
    /// When it is another.
    pub fn reply(&mut self, code: &str) -> Vec<String> {
        let mut lines = vec![self.expect(code)];
        while lines.last().is_some_and(|line| line.as_bytes().get(3) == Some(&b'-')) {
            lines.push(self.expect(code));
        }
        lines
    }

    /// A greeting, where one comes within a moment.
    ///
    /// # Panics
    /// When the socket refuses its options.
    pub fn reply_or_nothing(&mut self) {
        self.socket().set_read_timeout(Some(Duration::from_millis(50))).expect("read timeout");
        let _ = self.try_line();
        self.socket().set_read_timeout(Some(SOON)).expect("read timeout");
    }

    /// Everything up to the end of the stream. A reset is an end.
    ///
    /// # Panics
    /// When the other side does not close.
    pub fn ended(&mut self) -> Vec<u8> {
        let start = Instant::now();
        let mut bytes = std::mem::take(&mut self.unread);
        loop {
            match self.read_some() {
                Ok(some) if some.is_empty() => return bytes,
                Ok(some) => bytes.extend(some),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!(
                        "the other side keeps the connection open; so far {:?}\n{}",
                        String::from_utf8_lossy(&bytes),
                        self.talk
                    )
                }
                Err(_) => return bytes,
            }
            assert!(start.elapsed() < SOON * 3, "the other side goes on and on");
        }
    }

    /// Panics when anything arrives, the end included, during `time`.
    ///
    /// # Panics
    /// See there.
    pub fn silent_for(&mut self, time: Duration) {
        self.socket().set_read_timeout(Some(time)).expect("read timeout");
        match self.read_some() {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("silence expected, got {other:?}\n{}", self.talk),
        }
        self.socket().set_read_timeout(Some(SOON)).expect("read timeout");
    }

    /// Whatever comes within `time`, or until the end.
    ///
    /// # Panics
    /// When the socket refuses its options.
    pub fn ended_or_silent(&mut self, time: Duration) -> Vec<u8> {
        self.socket().set_read_timeout(Some(time)).expect("read timeout");
        let mut bytes = Vec::new();
        while let Ok(some) = self.read_some() {
            if some.is_empty() {
                break;
            }
            bytes.extend(some);
        }
        self.socket().set_read_timeout(Some(SOON)).expect("read timeout");
        bytes
    }

    /// Ends this direction, with close_notify where there is TLS. The other side may have gone before.
    ///
    /// # Panics
    /// When a failed handshake has used the socket up.
    pub fn finish(&mut self) {
        match &mut self.io {
            Io::Client(stream) => stream.conn.send_close_notify(),
            Io::Server(stream) => stream.conn.send_close_notify(),
            Io::Plain(_) | Io::Gone => {}
        }
        let _ = self.stream().flush();
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        // RFC 9293 section 3.9.1: ABORT, which Linux does on close when it may not linger.
        let _ = socket2::SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }

    /// The client's side of a handshake, now.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn tls(self, client: &TlsClient) -> Self {
        let talk = self.talk.clone();
        self.try_tls(client).unwrap_or_else(|e| panic!("handshake: {e}\n{talk}"))
    }

    /// As [`Wire::tls`], with the failure as a value.
    ///
    /// # Errors
    /// As the handshake gives them.
    pub fn try_tls(self, client: &TlsClient) -> io::Result<Self> {
        self.try_tls_in(client, 1)
    }

    /// As [`Wire::try_tls`], with the ClientHello in so many segments.
    ///
    /// # Errors
    /// As the handshake gives them.
    pub fn try_tls_in(mut self, client: &TlsClient, segments: usize) -> io::Result<Self> {
        let mut stream = StreamOwned::new(client.connection()?, self.take_socket());
        let hello = client_hello(&mut stream.conn)?;
        for segment in hello.chunks(hello.len().div_ceil(segments)) {
            stream.sock.write_all(segment)?;
            if segments > 1 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        self.io = Io::Client(Box::new(stream));
        let _ = writeln!(self.talk, "= TLS");
        Ok(self)
    }

    /// The server's side of a handshake, now.
    ///
    /// # Errors
    /// As the handshake gives them.
    pub fn try_tls_server(mut self, config: &Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, self.take_socket());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        self.io = Io::Server(Box::new(stream));
        let _ = writeln!(self.talk, "= TLS");
        Ok(self)
    }

    /// The TLS session, on the client's side.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn session(&self) -> &ClientConnection {
        match &self.io {
            Io::Client(stream) => &stream.conn,
            _ => panic!("no TLS here"),
        }
    }

    /// The certificate that the server showed, DER.
    ///
    /// # Panics
    /// When there is no TLS, or none was shown.
    #[must_use]
    pub fn certificate(&self) -> Vec<u8> {
        let chain = self.session().peer_certificates().expect("a chain");
        chain.first().expect("a certificate").to_vec()
    }

    /// Sends `bytes` and reads `count` bytes at the same time, over TLS.
    ///
    /// # Panics
    /// When it gets stuck in either direction, or there is no TLS.
    pub fn exchange(&mut self, mut bytes: &[u8], count: usize) -> Vec<u8> {
        let mut read = std::mem::take(&mut self.unread);
        let Io::Client(stream) = &mut self.io else { panic!("no TLS here") };
        let (connection, socket) = (&mut stream.conn, &mut stream.sock);
        socket.set_nonblocking(true).expect("non-blocking");
        let mut buffer = vec![0; 64 * 1024];
        let mut moved = Instant::now();
        while read.len() < count || !bytes.is_empty() || connection.wants_write() {
            let mut idle = true;
            if !bytes.is_empty() {
                let taken = connection.writer().write(bytes).expect("plaintext");
                bytes = &bytes[taken..];
                idle &= taken == 0;
            }
            idle &= !went(connection.write_tls(socket));
            if connection.wants_read() {
                idle &= !went(connection.read_tls(socket));
                connection.process_new_packets().expect("records");
            }
            if let Ok(some) = connection.reader().read(&mut buffer) {
                assert!(some > 0, "the stream ended after {} of {count} bytes", read.len());
                read.extend_from_slice(&buffer[..some]);
                idle = false;
            }
            if idle {
                assert!(moved.elapsed() < SOON, "stuck: {} read, {} to send", read.len(), bytes.len());
                std::thread::sleep(Duration::from_micros(200));
            } else {
                moved = Instant::now();
            }
        }
        socket.set_nonblocking(false).expect("blocking");
        read
    }

    /// Whether the other side said close_notify, once its stream has ended.
    ///
    /// # Panics
    /// When this is not the client's side of TLS.
    pub fn closed_orderly(&mut self) -> bool {
        match &mut self.io {
            Io::Client(stream) => matches!(stream.conn.reader().read(&mut [0; 1]), Ok(0)),
            _ => panic!("no TLS here"),
        }
    }

    fn take_socket(&mut self) -> TcpStream {
        assert!(self.unread.is_empty(), "unread before TLS: {:?}", String::from_utf8_lossy(&self.unread));
        match std::mem::replace(&mut self.io, Io::Gone) {
            Io::Plain(stream) => stream,
            _ => panic!("TLS inside TLS"),
        }
    }

    fn stream(&mut self) -> &mut dyn Stream {
        match &mut self.io {
            Io::Plain(stream) => stream,
            Io::Client(stream) => stream.as_mut(),
            Io::Server(stream) => stream.as_mut(),
            Io::Gone => panic!("no stream after a failed handshake"),
        }
    }
}

/// Whether bytes went through a socket that does not block.
fn went(result: io::Result<usize>) -> bool {
    match result {
        Ok(count) => count > 0,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("socket: {error}"),
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}
