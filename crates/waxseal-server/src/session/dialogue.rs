//! The door alone with a client, before TLS: what the protocol's machine says, with time and bounds around it.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use waxseal_proto::{CleartextStart, Dialogue, DoorWords, Drained, Ended, Farewell, GoAhead, StartTls, Step};
use waxseal_tls::PlainStream;

use super::Session;
use super::end::Early;
use crate::drain::Drain;
use crate::leg::Socket;

/// How long a client may talk to the door alone where it need not start TLS (RFC 5321 section 4.5.3.2.7: five minutes).
const DIALOGUE_TIMEOUT: Duration = Duration::from_secs(300);
/// What is answered at once of that which a client has sent before TLS, in bytes: some answers are fifty times as long
/// as their questions, and are kept until they are read.
const MAX_TURN: usize = 4096;

/// Where the dialogue has led.
pub(super) enum Talked<'a> {
    /// The go-ahead is said.
    StartTls(Drained, SemaphorePermit<'a>),
    Open(CleartextStart),
}

impl Session {
    /// The door alone with the client, until TLS is to start or the service is needed.
    pub(super) async fn talk(
        &self,
        client: &mut PlainStream<Socket>,
        starttls: StartTls,
        drain: &mut Drain,
    ) -> Result<Talked<'_>, Early> {
        let limit = match starttls {
            StartTls::Required => self.listener.timeout,
            StartTls::Optional => DIALOGUE_TIMEOUT,
        };
        let (words, end) = tokio::select! {
            biased;
            () = drain.begun() => (Farewell::ShuttingDown, Early::ShutDown),
            talked = timeout(limit, self.converse(client, starttls)) => match talked {
                Ok(talked) => return talked,
                Err(_) => (Farewell::TimedOut, Early::TimedOut("before TLS")),
            },
        };
        self.say(client, self.farewell(words)).await;
        Err(end)
    }

    async fn converse(
        &self,
        client: &mut PlainStream<Socket>,
        starttls: StartTls,
    ) -> Result<Talked<'_>, Early> {
        let capabilities = match self.listener.service.capabilities().await {
            Ok(capabilities) => capabilities,
            Err(unreachable) => {
                self.say(client, self.farewell(Farewell::Unreachable)).await;
                let service = self.listener.service.name().to_owned();
                return Err(Early::Unreachable { service, why: unreachable.0 });
            }
        };
        let words = DoorWords { hostname: Arc::clone(&self.listener.hostname), starttls };
        let Some(mut dialogue) = Dialogue::new(self.listener.protocol, words, capabilities) else {
            return Err(Early::Dialogue("there is no STARTTLS in this protocol"));
        };
        let mut out = Vec::new();
        dialogue.greet(&mut out);
        loop {
            client.write_all(&out).await?;
            out.clear();
            let received = client.fill_buf().await?;
            if received.is_empty() {
                return Err(Early::ClientLeft);
            }
            let (now, later) = received.split_at(received.len().min(MAX_TURN));
            let mut step = dialogue.receive(now, &mut out);
            if matches!(step, Step::StartTls(_)) && !later.is_empty() {
                step = dialogue.receive(later, &mut out);
            }
            let taken = now.len();
            client.consume(taken);
            match step {
                Step::More => {}
                Step::StartTls(go_ahead) => {
                    client.write_all(&out).await?;
                    return self.go_ahead(client, go_ahead).await;
                }
                Step::Open(start) => {
                    client.write_all(&out).await?;
                    return Ok(Talked::Open(start));
                }
                Step::Close(ended) => {
                    self.say(client, out).await;
                    return Err(self.ended(ended, dialogue.saw_proxy_header()));
                }
            }
        }
    }

    /// Says the go-ahead, with the proof in hand that nothing is unread in our buffer, and after a look into the
    /// kernel's.
    async fn go_ahead(
        &self,
        client: &mut PlainStream<Socket>,
        go_ahead: GoAhead,
    ) -> Result<Talked<'_>, Early> {
        let permit = match self.handshake_permit().await {
            Ok(permit) => permit,
            Err(busy) => {
                self.say(client, self.farewell(Farewell::HandshakesBusy)).await;
                return Err(busy);
            }
        };
        let bytes = unread(client.get_ref());
        if bytes > 0 {
            return Err(self.injection(bytes));
        }
        client.write_all(&go_ahead.words).await?;
        Ok(Talked::StartTls(go_ahead.drained, permit))
    }

    fn ended(&self, ended: Ended, saw_proxy_header: bool) -> Early {
        match ended {
            Ended::Quit => Early::Goodbye,
            Ended::Injection { bytes } => self.injection(bytes),
            _ if saw_proxy_header => Early::Cleartext(format!(
                "the peer sent a PROXY header, which is believed from proxy.trusted-networks only; {} is not among them",
                self.source.ip()
            )),
            Ended::TlsInCleartext => Early::Cleartext(
                "client started TLS at once on a STARTTLS port; in the client choose \"STARTTLS\" for this port, or use \
                 the port that is encrypted from the first byte"
                    .to_owned(),
            ),
            Ended::TooManyErrors => Early::Dialogue("too many errors before TLS"),
            Ended::HttpRequest => Early::Dialogue("an HTTP request on a mail port"),
            Ended::Literal => Early::Dialogue("a literal before TLS"),
        }
    }
}

/// How many bytes the kernel holds for us, at least; they are left there.
fn unread(socket: &Socket) -> usize {
    let mut space = [MaybeUninit::<u8>::uninit(); 64];
    let peeked = match socket {
        Socket::Tcp(stream) => SockRef::from(stream).peek(&mut space),
        Socket::Unix(stream) => SockRef::from(stream).peek(&mut space),
    };
    // WouldBlock means that there is nothing; any other error will be met again by the handshake.
    peeked.unwrap_or(0)
}
