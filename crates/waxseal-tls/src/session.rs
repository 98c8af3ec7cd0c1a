//! One driver over rustls' two unbuffered connections, the server's and the client's.
//!
//! The connection owns no buffers: it is lent what was received, takes its records out of it one step at a time, and
//! says how much of it is used up.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error};

/// A TLS connection, boxed: it is large, and streams are moved about.
pub(crate) enum Session {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What one step came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record's plaintext went into `plain`.
    Record,
    /// Records of the protocol's own were put into `control`, or counted as put. Take another step.
    Control,
    /// The peer ended its side with a close_notify alert. Said once.
    PeerClosed,
    /// Both sides have ended.
    Closed,
    /// The handshake needs more bytes.
    Blocked,
    /// The session stands, and everything whole in what was received is used up. The wish was carried out, and put
    /// that many bytes into its `out`.
    Traffic(usize),
}

/// What to do once nothing else is left to do.
pub(crate) enum Wish<'a> {
    Nothing,
    Encrypt { plain: &'a [u8], out: &'a mut [u8] },
    CloseNotify { out: &'a mut [u8] },
}

impl Session {
    /// Takes one step over `received` and says how many bytes at its front to forget.
    ///
    /// After an error, [`collect_alert`](Self::collect_alert) and nothing else.
    pub(crate) fn step(
        &mut self,
        received: &mut [u8],
        plain: impl FnMut(&[u8]),
        control: &mut Vec<u8>,
        wish: Wish<'_>,
    ) -> (usize, Result<Step, Error>) {
        match self {
            Self::Server(connection) => {
                settle(connection.process_tls_records(received), plain, control, wish)
            }
            Self::Client(connection) => {
                settle(connection.process_tls_records(received), plain, control, wish)
            }
        }
    }

    /// After an error: puts the alert that belongs to it into `control`. What was received is not looked at again.
    pub(crate) fn collect_alert(&mut self, control: &mut Vec<u8>) {
        while self.state().wants_write() {
            let (_, step) = self.step(&mut [], |_| (), control, Wish::Nothing);
            if !matches!(step, Ok(Step::Control | Step::Record)) {
                break;
            }
        }
    }

    pub(crate) fn state(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }
}

fn settle<Side>(
    status: UnbufferedStatus<'_, '_, Side>,
    mut plain: impl FnMut(&[u8]),
    control: &mut Vec<u8>,
    wish: Wish<'_>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut result = Ok(Step::Record);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        plain(record.payload);
                    }
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
            result
        }
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, control),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Control)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(ConnectionState::Closed) => Ok(Step::Closed),
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match wish {
            Wish::Nothing => Ok(Step::Traffic(0)),
            Wish::Encrypt { plain, out } => {
                traffic.encrypt(plain, out).map(Step::Traffic).map_err(cannot_encrypt)
            }
            Wish::CloseNotify { out } => {
                traffic.queue_close_notify(out).map(Step::Traffic).map_err(cannot_encrypt)
            }
        },
        // Early data is never accepted, and the enum may grow.
        Ok(_) => Err(Error::General("unexpected state of the TLS connection".into())),
    };
    (discard, step)
}

/// Appends a record of the protocol's own to `control`.
fn encode<Side>(mut data: EncodeTlsData<'_, Side>, control: &mut Vec<u8>) -> Result<Step, Error> {
    let start = control.len();
    loop {
        match data.encode(control.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                control.truncate(start + written);
                return Ok(Step::Control);
            }
            Err(EncodeError::InsufficientSize(size)) => control.resize(start + size.required_size, 0),
            Err(EncodeError::AlreadyEncoded) => return Ok(Step::Control),
        }
    }
}

fn cannot_encrypt(error: EncryptError) -> Error {
    match error {
        EncryptError::EncryptExhausted => Error::EncryptError,
        EncryptError::InsufficientSize(size) => {
            Error::General(format!("{} bytes needed for a record", size.required_size))
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Client(_) => "Client",
        })
    }
}
