//! A session: its state, and the way of each command to what does it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::input::{Incoming, MAX_COMMAND, MAX_COMMAND_BEFORE_LOGIN};
use super::reply::{Answer, Reply, Status, Stop};
use super::selected::{Selected, Told};
use super::syntax::{self, Command};
use super::wire::Wire;
use crate::session::{Peer, Site};
use crate::store::{FolderName, Mailbox};

/// How long a client may take to log in.
const LOGIN_TIME: Duration = Duration::from_secs(180);
/// How long a client may say nothing (RFC 9051 section 5.4: at least 30 minutes).
pub(super) const SILENCE: Duration = Duration::from_secs(35 * 60);
/// How many commands in a row may be BAD.
const MAX_ERRORS: u32 = 20;

pub(super) struct Session<S> {
    pub(super) wire: Wire<S>,
    pub(super) site: Arc<Site>,
    pub(super) peer: Peer,
    /// The mailbox of who is logged in.
    pub(super) mailbox: Option<Mailbox>,
    pub(super) selected: Option<Box<Selected>>,
    pub(super) enabled: Enabled,
    /// Logins that failed.
    pub(super) failures: u32,
}

/// What the client has shown to understand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Enabled {
    /// ENABLE IMAP4rev2: names are UTF-8, SEARCH is answered by ESEARCH, \Recent is gone.
    pub(super) rev2: bool,
    /// ENABLE CONDSTORE, or a command that says as much (RFC 7162 section 3.1).
    pub(super) condstore: bool,
}

impl Enabled {
    /// A folder's name as it is sent.
    pub(super) fn name_sent(self, name: &FolderName) -> String {
        if self.rev2 { name.as_str().to_owned() } else { name.to_utf7() }
    }
}

/// How a session goes on.
enum Next {
    Command,
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    pub(super) fn new(stream: S, site: Arc<Site>, peer: Peer) -> Self {
        Self {
            wire: Wire::new(stream),
            site,
            peer,
            mailbox: None,
            selected: None,
            enabled: Enabled::default(),
            failures: 0,
        }
    }

    /// Speaks to the end.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let begun = Instant::now();
        let mut errors = 0;
        loop {
            let (limit, deadline) = match self.mailbox {
                None => (MAX_COMMAND_BEFORE_LOGIN, begun + LOGIN_TIME),
                Some(_) => (MAX_COMMAND, Instant::now() + SILENCE),
            };
            let incoming = match timeout_at(deadline, self.wire.command(limit)).await {
                Ok(Ok(incoming)) => incoming,
                Ok(Err(error)) => return self.broken(error).await,
                Err(_) => return self.bye("You have been silent for too long").await,
            };
            // Boxed, so that a session that waits does not hold the room that commands need.
            let (tag, answer) = Box::pin(self.answer(incoming)).await;
            match self.reply(tag.as_deref(), answer, &mut errors).await {
                Ok(Next::Command) => {}
                Ok(Next::End) => return self.wire.shutdown().await,
                Err(error) => return self.broken(error).await,
            }
        }
    }

    async fn answer(&mut self, incoming: Incoming) -> (Option<String>, Answer) {
        match incoming {
            Incoming::Bad { tag, why } => (tag, Ok(Reply::bad(why))),
            Incoming::Append { tag, head, message } => {
                let mut answer = self.append(head, message).await;
                answer = self.with_news(Told::All, answer).await;
                (Some(tag), answer)
            }
            Incoming::Command { tag, text } => {
                let answer = match syntax::parse(&text) {
                    Ok(command) => self.execute(&tag, command).await,
                    Err(error) => Err(error.into()),
                };
                (Some(tag), answer)
            }
        }
    }

    async fn reply(&mut self, tag: Option<&str>, answer: Answer, errors: &mut u32) -> io::Result<Next> {
        let reply = match answer {
            Ok(reply) | Err(Stop::Refused(reply)) => reply,
            Err(Stop::Bye(why)) => {
                self.put(&format!("* BYE {why}"));
                return Ok(Next::End);
            }
            Err(Stop::Broken(error)) => return Err(error),
        };
        reply.write(tag.unwrap_or("*"), self.wire.out());
        *errors = if reply.status == Status::Bad { *errors + 1 } else { 0 };
        if *errors >= MAX_ERRORS {
            self.put("* BYE Too many errors");
            return Ok(Next::End);
        }
        if self.wire.is_drained() {
            self.wire.send().await?;
        } else {
            self.wire.send_if_much().await?;
        }
        Ok(Next::Command)
    }

    /// A client that just goes is no error.
    async fn broken(&mut self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Ok(()),
            io::ErrorKind::InvalidData => self.bye("[TOOBIG] That is more than anyone should send").await,
            _ => Err(error),
        }
    }

    async fn bye(&mut self, why: &str) -> io::Result<()> {
        self.put(&format!("* BYE {why}"));
        self.wire.shutdown().await
    }

    /// Writes a line.
    pub(super) fn put(&mut self, line: &str) {
        let out = self.wire.out();
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    async fn execute(&mut self, tag: &str, command: Command) -> Answer {
        // RFC 9051 section 7.5.1: numbers must not shift while FETCH, STORE and SEARCH are answered.
        let told = match &command {
            Command::Fetch { uid: false, .. }
            | Command::Store { uid: false, .. }
            | Command::Search { uid: false, .. } => Told::AllButGone,
            _ => Told::All,
        };
        match command {
            Command::Logout => {
                self.put("* BYE Until next time");
                Reply::ok("Logged out").write(tag, self.wire.out());
                // The farewell is out; nothing more is said.
                self.wire.shutdown().await?;
                Err(Stop::Broken(io::ErrorKind::UnexpectedEof.into()))
            }
            Command::Capability => {
                let line = format!("* CAPABILITY {}", self.capability_line());
                self.put(&line);
                Ok(Reply::ok("Capabilities listed"))
            }
            Command::Id => {
                self.put("* ID (\"name\" \"waxseal\")");
                Ok(Reply::ok("Pleased to meet you"))
            }
            Command::StartTls => Ok(Reply::bad("TLS is not started here")),
            Command::Login { user, password } => self.log_in(&user, &password).await,
            Command::Authenticate { mechanism, initial } => self.authenticate(&mechanism, initial).await,
            Command::Noop if self.mailbox.is_none() => Ok(Reply::ok("Nothing done")),
            command => {
                let mailbox = self.mailbox.clone().ok_or_else(|| Reply::bad("Log in first"))?;
                let answer = match command.needs_selected() {
                    true => self.in_selected(tag, command).await,
                    false => self.in_mailbox(mailbox, command).await,
                };
                self.with_news(told, answer).await
            }
        }
    }

    async fn in_mailbox(&mut self, mailbox: Mailbox, command: Command) -> Answer {
        match command {
            Command::Enable(names) => Ok(self.enable(&names)),
            Command::Select { name, read_only, condstore } => {
                let name = self.name(&name);
                self.select(mailbox, name, read_only, condstore).await
            }
            Command::Create(name) => self.create(mailbox, &name).await,
            Command::Delete(name) => {
                let name = self.name(&name)?;
                self.leave(&name);
                self.on_mailbox(move || mailbox.delete(&name), "Folder deleted").await
            }
            Command::Rename { from, to } => {
                let (from, to) = (self.name(&from)?, self.name(&to)?);
                self.leave(&from);
                self.on_mailbox(move || mailbox.rename(&from, &to), "Folder renamed").await
            }
            Command::Subscribe(name) => {
                let name = self.name(&name)?;
                self.on_mailbox(move || mailbox.subscribe(&name), "Subscribed").await
            }
            Command::Unsubscribe(name) => {
                let name = self.name(&name)?;
                self.on_mailbox(move || mailbox.unsubscribe(&name), "Unsubscribed").await
            }
            Command::List(list) => self.list(mailbox, list).await,
            Command::Lsub { reference, pattern } => self.lsub(mailbox, &reference, &pattern).await,
            Command::Namespace => {
                self.put("* NAMESPACE ((\"\" \".\")) NIL NIL");
                Ok(Reply::ok("Namespace listed"))
            }
            Command::Status { name, items } => self.status(mailbox, &name, &items).await,
            Command::Idle => self.idle().await,
            _ => Ok(Reply::ok("Nothing done")),
        }
    }

    async fn in_selected(&mut self, tag: &str, command: Command) -> Answer {
        if self.selected.is_none() {
            return Ok(Reply::bad("Select a folder first"));
        }
        match command {
            Command::Close => self.close().await,
            Command::Unselect => {
                self.selected = None;
                Ok(Reply::ok("Folder left"))
            }
            Command::Expunge(set) => self.expunge(set).await,
            Command::Search { uid, search } => self.search(tag, uid, search).await,
            Command::Fetch { uid, fetch } => self.fetch(uid, fetch).await,
            Command::Store { uid, set, store } => self.store_flags(uid, &set, store).await,
            Command::Copy { uid, set, to } => {
                let to = self.name(&to)?;
                self.copy(uid, &set, to).await
            }
            Command::Move { uid, set, to } => {
                let to = self.name(&to)?;
                self.move_messages(uid, &set, to).await
            }
            _ => Ok(Reply::ok("Nothing to do")),
        }
    }

    /// A folder's name, in the encoding that this session speaks (RFC 9051 section 5.1, RFC 3501 section 5.1.3).
    pub(super) fn name(&self, name: &[u8]) -> Result<FolderName, Stop> {
        let text =
            std::str::from_utf8(name).map_err(|_| Reply::no("CANNOT", "The folder name is not text"))?;
        let name = if self.enabled.rev2 { FolderName::from_utf8(text) } else { FolderName::from_utf7(text) };
        Ok(name?)
    }
}

impl Command {
    fn needs_selected(&self) -> bool {
        matches!(
            self,
            Self::Check
                | Self::Close
                | Self::Unselect
                | Self::Expunge(_)
                | Self::Search { .. }
                | Self::Fetch { .. }
                | Self::Store { .. }
                | Self::Copy { .. }
                | Self::Move { .. }
        )
    }
}

/// Does file work where it does not hold up other sessions.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stop> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Stop::Broken(io::Error::other(error)))
}
