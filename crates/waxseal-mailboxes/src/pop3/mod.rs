//! POP3: USER and PASS or AUTH PLAIN, then the INBOX as a list (RFC 1939, 2449, 5034).

mod command;
mod maildrop;

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use self::command::Command;
use self::maildrop::{Opened, stuffed};
use crate::accounts::LoginError;
use crate::sasl;
use crate::session::{Peer, Site, blocking};
use crate::store::StoreError;
use crate::wire::{Line, Wire};

/// A command line, CRLF included; AUTH may have a password in it.
const MAX_LINE: usize = 4096;
/// How long a client may be silent (RFC 1939 section 3: ten minutes or more).
const SILENCE: Duration = Duration::from_secs(600);
/// The same before login.
const SILENCE_BEFORE_LOGIN: Duration = Duration::from_secs(120);
const MAX_ERRORS: u32 = 20;
const MAX_LOGINS: u32 = 4;
const NO_SUCH: &str = "-ERR No such message\r\n";

/// What CAPA lists.
pub fn capabilities(secured: bool) -> Vec<String> {
    let logins = if secured { &["USER", "SASL PLAIN"][..] } else { &[] };
    let always = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "IMPLEMENTATION waxseal"];
    logins.iter().copied().chain(always).map(str::to_owned).collect()
}

/// The greeting, CRLF included.
pub fn greeting(site: &Site) -> Vec<u8> {
    format!("+OK {} POP3 waxseal\r\n", site.hostname).into_bytes()
}

/// Speaks one session, greeting said, to its end.
///
/// # Errors
/// When the connection breaks.
pub async fn serve<S>(stream: S, site: Arc<Site>, peer: Peer) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    Session { wire: Wire::new(stream), site, peer, user: None, opened: None, errors: 0, failed_logins: 0 }
        .run()
        .await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Go,
    Close,
}

struct Session<S> {
    wire: Wire<S>,
    site: Arc<Site>,
    peer: Peer,
    user: Option<String>,
    opened: Option<Opened>,
    errors: u32,
    failed_logins: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    async fn run(mut self) -> io::Result<()> {
        loop {
            let silence = if self.opened.is_some() { SILENCE } else { SILENCE_BEFORE_LOGIN };
            let next = match self.wire.line(MAX_LINE, silence).await? {
                // Without QUIT nothing is removed (RFC 1939 section 6).
                Line::End => return Ok(()),
                Line::Silent => {
                    self.reply("-ERR Nothing heard for too long\r\n").await?;
                    Next::Close
                }
                Line::TooLong | Line::Broken => {
                    self.refuse("-ERR Lines end in CRLF, and are not that long\r\n").await?
                }
                Line::Text(line) => match command::parse(&line) {
                    Ok(command) => self.obey(command).await?,
                    Err(refusal) => self.refuse(refusal).await?,
                },
            };
            if next == Next::Close {
                return self.wire.close().await;
            }
        }
    }

    async fn reply(&mut self, reply: &str) -> io::Result<Next> {
        self.wire.send(reply.as_bytes()).await?;
        Ok(Next::Go)
    }

    async fn refuse(&mut self, reply: &str) -> io::Result<Next> {
        self.reply(reply).await?;
        self.errors += 1;
        Ok(if self.errors < MAX_ERRORS { Next::Go } else { Next::Close })
    }

    async fn obey(&mut self, command: Command) -> io::Result<Next> {
        match command {
            Command::Capa => {
                let mut reply = "+OK\r\n".to_owned();
                for line in capabilities(self.peer.secured()) {
                    let _ = write!(reply, "{line}\r\n");
                }
                reply.push_str(".\r\n");
                return self.reply(&reply).await;
            }
            Command::Quit => return self.quit().await,
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } => return self.login(command).await,
            _ => {}
        }
        let Some(opened) = &mut self.opened else { return self.refuse("-ERR Log in first\r\n").await };
        let reply = match command {
            Command::Stat => {
                let (count, bytes) =
                    opened.listed().fold((0, 0), |(count, bytes), (_, item)| (count + 1, bytes + item.size));
                format!("+OK {count} {bytes}\r\n")
            }
            Command::List(which) => list(opened, which, |item| item.size.to_string()),
            Command::Uidl(which) => list(opened, which, |item| opened.unique_id(item.uid)),
            Command::Dele(number) => {
                match opened.items.get_mut(number.saturating_sub(1)).filter(|item| !item.deleted) {
                    Some(item) => {
                        item.deleted = true;
                        "+OK\r\n".to_owned()
                    }
                    None => NO_SUCH.to_owned(),
                }
            }
            Command::Rset => {
                opened.items.iter_mut().for_each(|item| item.deleted = false);
                "+OK\r\n".to_owned()
            }
            Command::Retr(number) => return self.retrieve(number, None).await,
            Command::Top { message, lines } => return self.retrieve(message, Some(lines)).await,
            _ => "+OK\r\n".to_owned(),
        };
        self.reply(&reply).await
    }

    async fn login(&mut self, command: Command) -> io::Result<Next> {
        if self.opened.is_some() {
            return self.refuse("-ERR Logged in already\r\n").await;
        }
        if let Command::Auth { mechanism: None, .. } = command {
            return self
                .reply(if self.peer.secured() { "+OK\r\nPLAIN\r\n.\r\n" } else { "+OK\r\n.\r\n" })
                .await;
        }
        if !self.peer.secured() {
            return self.refuse("-ERR [AUTH] Encryption is required for a password\r\n").await;
        }
        let credentials = match command {
            Command::User(name) => {
                self.user = Some(name);
                return self.reply("+OK\r\n").await;
            }
            Command::Pass(password) => match self.user.take() {
                Some(name) => Ok(sasl::Credentials { name, password: password.into() }),
                None => Err("-ERR USER comes first\r\n"),
            },
            Command::Auth { mechanism: Some(mechanism), initial } if mechanism == "PLAIN" => {
                let message = match initial {
                    Some(initial) => Some(initial.into_bytes()),
                    None => {
                        self.reply("+ \r\n").await?;
                        match self.wire.line(MAX_LINE, SILENCE_BEFORE_LOGIN).await? {
                            Line::Text(line) if line != b"*" => Some(line),
                            _ => None,
                        }
                    }
                };
                let read = message
                    .and_then(|message| sasl::decode(&message))
                    .and_then(|message| sasl::plain(&message));
                read.ok_or("-ERR Not PLAIN's form\r\n")
            }
            _ => Err("-ERR PLAIN is known here\r\n"),
        };
        match credentials {
            Ok(credentials) => self.open(credentials).await,
            Err(refusal) => self.refuse(refusal).await,
        }
    }

    async fn open(&mut self, credentials: sasl::Credentials) -> io::Result<Next> {
        let login = self.site.accounts.login(&credentials.name, &credentials.password, self.peer.source);
        let account = match login.await {
            Ok(account) => account,
            Err(error) => {
                tracing::info!(session = self.peer.session, source = %self.peer.source, "login failed: {error}");
                self.failed_logins += 1;
                // RFC 3206: whose fault it is.
                let reply = match error {
                    LoginError::Refused => "-ERR [AUTH] Invalid name or password\r\n",
                    LoginError::Busy => "-ERR [SYS/TEMP] Too many logins, try again later\r\n",
                };
                self.refuse(reply).await?;
                return Ok(if self.failed_logins < MAX_LOGINS { Next::Go } else { Next::Close });
            }
        };
        let store = self.site.store.clone();
        tracing::info!(session = self.peer.session, account = account.address.as_str(), "logged in");
        match blocking(move || Opened::open(&store, &account)).await {
            Ok(Some(opened)) => {
                let reply = format!("+OK {} messages\r\n", opened.items.len());
                self.opened = Some(opened);
                self.reply(&reply).await
            }
            Ok(None) => self.refuse("-ERR [IN-USE] Another session has the mailbox\r\n").await,
            Err(error) => self.broken(&error).await,
        }
    }

    async fn broken(&mut self, error: &StoreError) -> io::Result<Next> {
        tracing::error!(session = self.peer.session, "{error}");
        self.refuse("-ERR [SYS/TEMP] The mailbox cannot be read now\r\n").await
    }

    async fn retrieve(&mut self, number: usize, lines: Option<usize>) -> io::Result<Next> {
        let Some(opened) = self.opened.take() else { return Ok(Next::Close) };
        let Some(uid) = opened.item(number).map(|item| item.uid) else {
            self.opened = Some(opened);
            return self.refuse(NO_SUCH).await;
        };
        // The folder goes along to where file work is done, and comes back.
        let (opened, read) = match blocking(move || {
            let read = opened.folder.read(uid).map(|message| stuffed(&message, lines));
            Ok((opened, read))
        })
        .await
        {
            Ok(both) => both,
            Err(error) => {
                self.broken(&error).await?;
                return Ok(Next::Close);
            }
        };
        self.opened = Some(opened);
        match read {
            Ok(message) => {
                self.wire.send(b"+OK\r\n").await?;
                self.wire.send(&message).await?;
                Ok(Next::Go)
            }
            Err(StoreError::Expunged) => {
                self.refuse("-ERR Another program has removed the message\r\n").await
            }
            Err(error) => self.broken(&error).await,
        }
    }

    async fn quit(&mut self) -> io::Result<Next> {
        let updated = match self.opened.take() {
            Some(opened) => blocking(move || opened.update()).await,
            None => Ok(()),
        };
        match updated {
            Ok(()) => self.reply("+OK Goodbye\r\n").await?,
            // RFC 1939 section 6.
            Err(error) => {
                tracing::error!(session = self.peer.session, "{error}");
                self.reply("-ERR [SYS/TEMP] Some messages were not removed\r\n").await?
            }
        };
        Ok(Next::Close)
    }
}

/// The answer to LIST and UIDL, for one message or for all.
fn list(opened: &Opened, which: Option<usize>, word: impl Fn(&maildrop::Item) -> String) -> String {
    if let Some(number) = which {
        let item = opened.item(number);
        return item.map_or_else(|| NO_SUCH.to_owned(), |item| format!("+OK {number} {}\r\n", word(item)));
    }
    let mut reply = "+OK\r\n".to_owned();
    for (number, item) in opened.listed() {
        let _ = write!(reply, "{number} {}\r\n", word(item));
    }
    reply.push_str(".\r\n");
    reply
}

pub(crate) fn fuzz_command(input: &[u8]) {
    let _ = command::parse(input);
}
