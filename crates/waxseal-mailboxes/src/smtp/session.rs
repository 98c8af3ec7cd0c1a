//! One session, from EHLO to QUIT.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::body::{Broken, ChunkReader, DataReader};
use super::command::{self, Command, MailParameters};
use super::deliver::{Parcel, Recipient, deliver};
use super::incoming::{HeaderFacts, Incoming};
use super::path::Path;
use super::trace::{Origin, date};
use super::{Kind, MAX_RECEIVED, MAX_RECIPIENTS, capabilities};
use crate::Address;
use crate::accounts::{Account, LoginError};
use crate::sasl::{self, Credentials};
use crate::session::{Peer, Site, blocking};
use crate::store::{StoreError, unique_name};
use crate::wire::{Line, Wire};

/// A command line, CRLF included (RFC 5321 section 4.5.3.1.4, with room for what extensions add).
const MAX_LINE: usize = 4096;
/// A line of an AUTH exchange (RFC 4954 section 4).
const MAX_AUTH_LINE: usize = 12_288;
/// How long a client may be silent (RFC 5321 section 4.5.3.2.7).
const SILENCE: Duration = Duration::from_secs(300);
/// Commands refused before the session is ended.
const MAX_ERRORS: u32 = 20;
/// Unknown recipients before the session is ended: an old mailing list has some, who guesses at names has many.
const MAX_UNKNOWN: u32 = 200;
/// Logins refused before the session is ended.
const MAX_LOGINS: u32 = 4;
/// How much of an oversized message is read to answer in order, in sizes of the largest allowed.
const MAX_OVER: u64 = 4;

/// What becomes of the session after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Go,
    Close,
}

struct Transaction {
    from: Path,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
    chunks: Option<Chunks>,
}

/// A message that comes in chunks.
#[derive(Default)]
struct Chunks {
    incoming: Incoming,
    reader: ChunkReader,
    broken: bool,
}

pub(super) struct Session<S> {
    wire: Wire<S>,
    site: Arc<Site>,
    kind: Kind,
    peer: Peer,
    /// What the client calls itself, and whether it said EHLO or LHLO.
    hello: Option<(String, bool)>,
    account: Option<Account>,
    transaction: Option<Transaction>,
    errors: u32,
    unknown: u32,
    failed_logins: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    pub(super) fn new(stream: S, site: Arc<Site>, kind: Kind, peer: Peer, hello: Option<Vec<u8>>) -> Self {
        let said = hello.and_then(|line| command::parse(line.trim_ascii_end()).ok());
        let hello = match said {
            Some(Command::Ehlo(name)) if kind != Kind::Lmtp => Some((name, true)),
            Some(Command::Lhlo(name)) if kind == Kind::Lmtp => Some((name, true)),
            Some(Command::Helo(name)) if kind != Kind::Lmtp => Some((name, false)),
            _ => None,
        };
        Self {
            wire: Wire::new(stream),
            site,
            kind,
            peer,
            hello,
            account: None,
            transaction: None,
            errors: 0,
            unknown: 0,
            failed_logins: 0,
        }
    }

    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            let next = match self.wire.line(MAX_LINE, SILENCE).await? {
                Line::End => return Ok(()),
                Line::Silent => {
                    let farewell = format!("421 4.4.2 {} Nothing heard for too long\r\n", self.site.hostname);
                    self.wire.send(farewell.as_bytes()).await?;
                    Next::Close
                }
                Line::TooLong => self.refuse("500 5.5.2 Line too long\r\n").await?,
                Line::Broken => self.refuse("500 5.5.2 Lines end in CRLF\r\n").await?,
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

    /// A reply that counts as an error of the client's.
    async fn refuse(&mut self, reply: &str) -> io::Result<Next> {
        self.reply(reply).await?;
        self.errors += 1;
        if self.errors < MAX_ERRORS { Ok(Next::Go) } else { self.too_many_errors().await }
    }

    async fn too_many_errors(&mut self) -> io::Result<Next> {
        let farewell = format!("421 4.7.0 {} Too many errors\r\n", self.site.hostname);
        self.reply(&farewell).await?;
        Ok(Next::Close)
    }

    async fn obey(&mut self, command: Command) -> io::Result<Next> {
        match command {
            Command::Ehlo(name) if self.kind != Kind::Lmtp => self.hello(name, true).await,
            Command::Helo(name) if self.kind != Kind::Lmtp => self.hello(name, false).await,
            Command::Lhlo(name) if self.kind == Kind::Lmtp => self.hello(name, true).await,
            Command::Ehlo(_) | Command::Helo(_) => self.refuse("500 5.5.1 This is LMTP: LHLO\r\n").await,
            Command::Lhlo(_) => self.refuse("500 5.5.1 This is SMTP: EHLO\r\n").await,
            Command::Mail { from, parameters } => self.mail(from, parameters).await,
            Command::Rcpt { to } => self.rcpt(to).await,
            Command::Data => self.data().await,
            Command::Bdat { size, last } => self.bdat(size, last).await,
            Command::Rset => {
                self.transaction = None;
                self.reply("250 2.0.0 OK\r\n").await
            }
            Command::Noop => self.reply("250 2.0.0 OK\r\n").await,
            Command::Help => {
                self.reply("214 2.0.0 EHLO LHLO MAIL RCPT DATA BDAT RSET NOOP AUTH QUIT\r\n").await
            }
            Command::Vrfy => self.reply("252 2.0.0 Send some mail, and see\r\n").await,
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial).await,
            Command::StartTls => self.refuse("503 5.5.1 TLS is not to be had here\r\n").await,
            Command::Quit => {
                let farewell = format!("221 2.0.0 {} Goodbye\r\n", self.site.hostname);
                self.reply(&farewell).await?;
                Ok(Next::Close)
            }
        }
    }

    async fn hello(&mut self, name: String, extended: bool) -> io::Result<Next> {
        self.hello = Some((name, extended));
        self.transaction = None;
        if !extended {
            let reply = format!("250 {}\r\n", self.site.hostname);
            return self.reply(&reply).await;
        }
        let mut lines = vec![self.site.hostname.to_string()];
        lines.extend(capabilities(&self.site, self.kind, self.peer.secured()));
        let last = lines.len() - 1;
        let mut reply = String::new();
        for (index, line) in lines.iter().enumerate() {
            let _ = write!(reply, "250{}{line}\r\n", if index == last { ' ' } else { '-' });
        }
        self.reply(&reply).await
    }

    async fn auth(&mut self, mechanism: &str, initial: Option<String>) -> io::Result<Next> {
        if self.kind != Kind::Submission {
            return self
                .refuse("502 5.5.1 No passwords are taken here; there is a port for submission\r\n")
                .await;
        }
        if !self.peer.secured() {
            return self.refuse("538 5.7.11 Encryption is required for a password\r\n").await;
        }
        if self.hello.is_none() || self.account.is_some() || self.transaction.is_some() {
            return self.refuse("503 5.5.1 AUTH comes once, behind EHLO\r\n").await;
        }
        let initial = initial.map(|initial| Zeroizing::new(initial.into_bytes()));
        let credentials = match mechanism {
            "PLAIN" => {
                let message = match initial {
                    Some(initial) => Ok(initial),
                    None => self.ask("334 \r\n").await?,
                };
                message.and_then(|text| {
                    sasl::decode(&text)
                        .and_then(|message| sasl::plain(&message))
                        .ok_or("501 5.5.2 Not PLAIN's form\r\n")
                })
            }
            "LOGIN" => self.ask_login(initial).await?,
            _ => Err("504 5.5.4 PLAIN and LOGIN are known here\r\n"),
        };
        match credentials {
            Err(refusal) => self.refuse(refusal).await,
            Ok(credentials) => self.log_in(credentials).await,
        }
    }

    /// Says something of an AUTH exchange, and hears the answer.
    async fn ask(&mut self, challenge: &str) -> io::Result<Result<Zeroizing<Vec<u8>>, &'static str>> {
        self.reply(challenge).await?;
        Ok(match self.wire.line(MAX_AUTH_LINE, SILENCE).await? {
            Line::Text(line) if line == b"*" => Err("501 5.0.0 Given up, as you wish\r\n"),
            Line::Text(line) => Ok(Zeroizing::new(line)),
            Line::TooLong => Err("500 5.5.6 Line too long\r\n"),
            // Whatever is wrong with the connection shows at the next command.
            Line::Broken | Line::End | Line::Silent => Err("501 5.5.2 Not a line\r\n"),
        })
    }

    async fn ask_login(
        &mut self,
        initial: Option<Zeroizing<Vec<u8>>>,
    ) -> io::Result<Result<Credentials, &'static str>> {
        let name = match initial {
            Some(initial) => Ok(initial),
            None => self.ask("334 VXNlcm5hbWU6\r\n").await?,
        };
        let name = match name {
            Ok(name) => name,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let password = self.ask("334 UGFzc3dvcmQ6\r\n").await?;
        Ok(password.and_then(|password| {
            let name = sasl::decode(&name).and_then(|name| String::from_utf8(name.to_vec()).ok());
            let both = name.zip(sasl::decode(&password));
            both.map(|(name, password)| Credentials { name, password }).ok_or("501 5.5.2 Not BASE64\r\n")
        }))
    }

    async fn log_in(&mut self, credentials: Credentials) -> io::Result<Next> {
        let Credentials { name, password } = credentials;
        match self.site.accounts.login(&name, &password, self.peer.source).await {
            Ok(account) => {
                tracing::info!(session = self.peer.session, account = account.address.as_str(), "logged in");
                self.account = Some(account);
                self.reply("235 2.7.0 Welcome\r\n").await
            }
            Err(error) => {
                tracing::info!(session = self.peer.session, source = %self.peer.source, "login failed: {error}");
                self.failed_logins += 1;
                let reply = match error {
                    LoginError::Refused => "535 5.7.8 Invalid name or password\r\n",
                    LoginError::Busy => "454 4.7.0 Too many logins, try again later\r\n",
                };
                self.refuse(reply).await?;
                Ok(if self.failed_logins < MAX_LOGINS { Next::Go } else { Next::Close })
            }
        }
    }

    async fn mail(&mut self, from: Path, parameters: MailParameters) -> io::Result<Next> {
        if self.hello.is_none() {
            return self.refuse("503 5.5.1 Say EHLO first\r\n").await;
        }
        if self.transaction.is_some() {
            return self.refuse("503 5.5.1 One message at a time\r\n").await;
        }
        if self.kind == Kind::Submission {
            let Some(account) = &self.account else {
                return self.refuse("530 5.7.0 Log in first\r\n").await;
            };
            let own = match &from {
                // Notices of receipt have no sender.
                Path::Null => true,
                from => from.text().parse().is_ok_and(|from: Address| account.owns(&from)),
            };
            if !own {
                return self.refuse("550 5.7.1 That sender address is not this account's own\r\n").await;
            }
        }
        if let Path::Mailbox(mailbox) = &from
            && mailbox.is_international()
            && !parameters.utf8
        {
            return self.refuse("550 5.6.7 Such an address needs SMTPUTF8\r\n").await;
        }
        if parameters.size.is_some_and(|size| size > self.site.max_message) {
            let reply = format!("552 5.3.4 Messages are limited to {} bytes\r\n", self.site.max_message);
            return self.refuse(&reply).await;
        }
        self.transaction = Some(Transaction { from, parameters, recipients: Vec::new(), chunks: None });
        self.reply("250 2.1.0 OK\r\n").await
    }

    async fn rcpt(&mut self, to: Path) -> io::Result<Next> {
        let Some(transaction) = &self.transaction else {
            return self.refuse("503 5.5.1 Say MAIL first\r\n").await;
        };
        if transaction.chunks.is_some() {
            return self.refuse("503 5.5.1 The message is under way\r\n").await;
        }
        if transaction.recipients.len() >= MAX_RECIPIENTS {
            return self.refuse("452 4.5.3 Too many recipients\r\n").await;
        }
        let size = transaction.parameters.size.unwrap_or_default();
        let account = match self.find(&to) {
            Ok(account) => account,
            Err(refusal) => {
                self.reply(&refusal).await?;
                self.unknown += 1;
                return if self.unknown < MAX_UNKNOWN { Ok(Next::Go) } else { self.too_many_errors().await };
            }
        };
        let (store, owner, quota) = (self.site.store.clone(), account.address.clone(), account.quota);
        let room = blocking(move || store.mailbox(&owner, quota)?.check_quota(size)).await;
        if let Err(error) = room {
            return self.reply(&self.explain(&error)).await;
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients.push(Recipient { address: to.text(), account });
        }
        self.reply("250 2.1.5 OK\r\n").await
    }

    /// Whose mail this is.
    fn find(&self, to: &Path) -> Result<Account, String> {
        let mailbox = match to {
            Path::Mailbox(mailbox) => mailbox.clone(),
            _ => super::path::Mailbox {
                local: "postmaster".to_owned(),
                domain: self.site.domains.first().cloned().unwrap_or_default(),
            },
        };
        let domain = mailbox.domain.trim_end_matches('.').to_ascii_lowercase();
        if !self.site.domains.contains(&domain) {
            return Err(format!(
                "550 5.7.1 <{}> is not here: this server keeps mail for its own accounts and sends nothing to other servers\r\n",
                to.text()
            ));
        }
        let address = format!("{}@{domain}", mailbox.local).parse().ok();
        let account = address.and_then(|address: Address| self.site.accounts.recipient(&address));
        account.ok_or_else(|| format!("550 5.1.1 <{}> has no mailbox here\r\n", to.text()))
    }

    async fn data(&mut self) -> io::Result<Next> {
        match &self.transaction {
            None => return self.refuse("503 5.5.1 Say MAIL first\r\n").await,
            Some(found) if found.chunks.is_some() => {
                return self.refuse("503 5.5.1 The message comes in chunks\r\n").await;
            }
            // RFC 2033 section 4.2 asks for 503 here, RFC 5321 section 3.3 for 554 or 503.
            Some(found) if found.recipients.is_empty() => {
                return self.refuse("503 5.5.1 No recipient was accepted\r\n").await;
            }
            Some(_) => {}
        }
        self.reply("354 End with <CRLF>.<CRLF>\r\n").await?;
        let (mut reader, mut incoming, mut text) = (DataReader::default(), Incoming::default(), Vec::new());
        while !reader.is_done() {
            if self.wire.unread().is_empty() && !self.more().await? {
                return Ok(Next::Close);
            }
            match reader.read(self.wire.unread(), &mut text) {
                Ok(used) => self.wire.take(used),
                Err(broken) => return self.reject(broken).await,
            }
            incoming.push(&self.site.store, &text, self.site.max_message).await;
            text.clear();
            if incoming.bytes() > self.site.max_message.saturating_mul(MAX_OVER) {
                self.reply("552 5.3.4 Far too large\r\n").await?;
                return Ok(Next::Close);
            }
        }
        self.accept(incoming).await
    }

    /// Waits for more of a message; says goodbye to a client that sends none.
    async fn more(&mut self) -> io::Result<bool> {
        match self.wire.fill(SILENCE).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let farewell = format!("421 4.4.2 {} The message did not go on\r\n", self.site.hostname);
                self.reply(&farewell).await?;
                Ok(false)
            }
            filled => filled,
        }
    }

    /// What could be an end of the message to one server and none to another is not read any further.
    async fn reject(&mut self, broken: Broken) -> io::Result<Next> {
        tracing::warn!(session = self.peer.session, source = %self.peer.source, ?broken, "message refused");
        let reply = match broken {
            Broken::BareLf => "550 5.5.2 The message has a line feed without a carriage return\r\n",
            Broken::BareCr => "550 5.5.2 The message has a carriage return without a line feed\r\n",
        };
        self.reply(reply).await?;
        Ok(Next::Close)
    }

    async fn bdat(&mut self, size: u64, last: bool) -> io::Result<Next> {
        if size > self.site.max_message.saturating_mul(MAX_OVER) {
            self.reply("552 5.3.4 Far too large\r\n").await?;
            return Ok(Next::Close);
        }
        let ready = self.transaction.as_mut().filter(|transaction| !transaction.recipients.is_empty());
        let mut chunks = ready.map(|transaction| transaction.chunks.take().unwrap_or_default());
        // RFC 3030 section 2: the bytes come, whatever the answer.
        let mut left = size;
        while left > 0 {
            if self.wire.unread().is_empty() && !self.more().await? {
                return Ok(Next::Close);
            }
            let part = self.wire.unread();
            let part = part.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(part);
            let count = part.len();
            if let Some(chunks) = &mut chunks {
                chunks.broken |= chunks.reader.read(part).is_err();
                chunks.incoming.push(&self.site.store, part, self.site.max_message).await;
            }
            self.wire.take(count);
            left -= count as u64;
        }
        let Some(mut chunks) = chunks else {
            return self.refuse("503 5.5.1 No recipient was accepted\r\n").await;
        };
        chunks.broken |= last && chunks.reader.end().is_err();
        if chunks.broken {
            self.transaction = None;
            return self.refuse("550 5.5.2 The message has a line feed or a carriage return alone\r\n").await;
        }
        if last {
            return self.accept(chunks.incoming).await;
        }
        if chunks.incoming.bytes() > self.site.max_message {
            self.transaction = None;
            return self.refuse("552 5.3.4 Too large\r\n").await;
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.chunks = Some(chunks);
        }
        let reply = format!("250 2.0.0 {size} bytes\r\n");
        self.reply(&reply).await
    }

    /// The message is whole: into the mailboxes with it, and only then is it answered for.
    async fn accept(&mut self, incoming: Incoming) -> io::Result<Next> {
        let Some(transaction) = self.transaction.take() else { return Ok(Next::Go) };
        let count = transaction.recipients.len();
        let bytes = incoming.bytes();
        if bytes > self.site.max_message {
            let reply = format!("552 5.3.4 Messages are limited to {} bytes\r\n", self.site.max_message);
            return self.answer_all(count, &reply).await;
        }
        let whole = match incoming.finish(&self.site.store).await {
            Ok(whole) => whole,
            Err(error) => return self.answer_all(count, &self.explain(&error)).await,
        };
        let Some(facts) = whole.facts() else {
            return self.answer_all(count, "552 5.3.4 The header is too large\r\n").await;
        };
        if let Some(refusal) = self.objection(&facts) {
            return self.answer_all(count, refusal).await;
        }
        let id = unique_name();
        let parcel = self.parcel(transaction, whole, &facts, &id);
        let results = deliver(Arc::clone(&self.site), self.kind, parcel).await;
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            tracing::warn!(session = self.peer.session, id, "delivery failed: {error}");
        }
        let done = results.iter().filter(|result| result.is_ok()).count();
        tracing::info!(session = self.peer.session, id, bytes, recipients = count, done, "message");
        let kept = format!("250 2.0.0 Kept as {id}\r\n");
        let replies: Vec<String> = results
            .iter()
            .map(|result| result.as_ref().map_or_else(|error| self.explain(error), |()| kept.clone()))
            .collect();
        if self.kind == Kind::Lmtp {
            // RFC 2033 section 4.2: an answer for each, in the order of the recipients.
            return self.reply(&replies.concat()).await;
        }
        let worst = replies.into_iter().find(|reply| *reply != kept).unwrap_or(kept);
        self.reply(&worst).await
    }

    async fn answer_all(&mut self, recipients: usize, reply: &str) -> io::Result<Next> {
        let times = if self.kind == Kind::Lmtp { recipients } else { 1 };
        self.reply(&reply.repeat(times)).await
    }

    /// Why this message is not taken.
    fn objection(&self, facts: &HeaderFacts) -> Option<&'static str> {
        if facts.received > MAX_RECEIVED {
            return Some("554 5.4.6 The message goes round in a loop: it has too many Received lines\r\n");
        }
        let account = self.account.as_ref().filter(|_| self.kind == Kind::Submission)?;
        let own = |address: &Option<String>| {
            address.as_ref().is_some_and(|text| text.parse().is_ok_and(|address| account.owns(&address)))
        };
        let foreign = !facts.from.iter().all(own);
        foreign.then_some("550 5.7.1 The message's From is not this account's own\r\n")
    }

    fn parcel(
        &self,
        transaction: Transaction,
        whole: super::incoming::Whole,
        facts: &HeaderFacts,
        id: &str,
    ) -> Parcel {
        let (hello, extended) =
            self.hello.as_ref().map_or(("unknown", false), |(name, extended)| (name, *extended));
        let origin = Origin {
            kind: self.kind,
            hello,
            extended,
            authenticated: self.account.is_some(),
            utf8: transaction.parameters.utf8,
            peer: &self.peer,
            hostname: &self.site.hostname,
        };
        let received =
            transaction.recipients.iter().map(|found| origin.received(id, &found.address)).collect();
        let mut added = String::new();
        if self.kind == Kind::Submission {
            // RFC 6409 section 8.
            if !facts.has_date {
                let _ = write!(added, "Date: {}\r\n", date(std::time::SystemTime::now()));
            }
            if !facts.has_message_id {
                let _ = write!(added, "Message-ID: <{id}@{}>\r\n", self.site.hostname);
            }
        }
        let above = format!("Return-Path: <{}>\r\n", transaction.from.text());
        Parcel { whole, above, received, added, recipients: transaction.recipients }
    }

    fn explain(&self, error: &StoreError) -> String {
        match error {
            StoreError::OverQuota => "452 4.2.2 The mailbox is full\r\n".to_owned(),
            StoreError::DiskFull => "452 4.3.1 The disk is full\r\n".to_owned(),
            _ => "451 4.3.0 The mailbox cannot be written to now\r\n".to_owned(),
        }
    }
}
