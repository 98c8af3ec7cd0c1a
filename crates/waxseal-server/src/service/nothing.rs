//! No service: for `http` listeners that are there to answer challenges alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use waxseal_proto::{Capabilities, Protocol};
use waxseal_tls::Pool;

use super::{Caller, Opened, Promise, Service, ServiceError, Unreachable};
use crate::leg::{Leg, Socket};

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest head that is read to its end.
const MAX_HEAD: usize = 16 * 1024;

const NOT_FOUND: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 22\r\nConnection: close\r\n\r\n\
      There is nothing here.";

/// Says to every HTTP request that there is nothing.
#[derive(Debug)]
pub struct Nothing {
    pool: Arc<Pool>,
}

impl Nothing {
    /// Takes buffers from `pool`.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }
}

impl Service for Nothing {
    fn name(&self) -> &str {
        "none"
    }

    fn capabilities(&self) -> Promise<'_, Result<Arc<Capabilities>, Unreachable>> {
        Box::pin(async { Ok(Arc::new(Capabilities::new(Protocol::Http, Vec::new()))) })
    }

    fn open<'a>(&'a self, _: Caller<'a>) -> Promise<'a, Result<Opened, ServiceError>> {
        Box::pin(async {
            let (own, door) = UnixStream::pair().map_err(|error| ServiceError::Broken {
                service: self.name().into(),
                address: "none".to_owned(),
                source: error,
            })?;
            tokio::spawn(refuse(own));
            Ok(Opened {
                leg: Leg::plain(Socket::Unix(door), &self.pool),
                greeting: Vec::new(),
                capabilities: None,
                unread: Vec::new(),
            })
        })
    }
}

/// Reads one request's head and answers it; whether anyone hears that is their affair.
async fn refuse(mut client: UnixStream) {
    let head = async {
        let (mut head, mut piece) = (Vec::new(), [0; 1024]);
        while head.len() < MAX_HEAD && !head.windows(4).any(|four| four == b"\r\n\r\n") {
            match client.read(&mut piece).await {
                Ok(count @ 1..) => head.extend_from_slice(piece.get(..count).unwrap_or_default()),
                _ => return false,
            }
        }
        true
    };
    if timeout(PATIENCE, head).await == Ok(true) {
        let _ = client.write_all(NOT_FOUND).await;
        let _ = client.shutdown().await;
    }
}
