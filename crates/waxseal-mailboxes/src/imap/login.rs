//! Who the client is, and what it understands.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::reply::{Answer, Reply, Stop};
use super::session::{SILENCE, Session, blocking};
use super::wire::Line;
use crate::accounts::LoginError;
use crate::sasl;

/// The longest line of a SASL exchange (RFC 4954 section 4 has the same).
const MAX_SASL: usize = 12288;
/// How many logins may fail.
const MAX_FAILURES: u32 = 5;

const BEFORE_LOGIN: &str = "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE";
const AFTER_LOGIN: &str = "NAMESPACE CHILDREN UIDPLUS UNSELECT MOVE ESEARCH SEARCHRES LIST-EXTENDED LIST-STATUS SPECIAL-USE \
     STATUS=SIZE CONDSTORE BINARY";

/// What is offered before login.
pub(super) fn capability_words(secured: bool) -> Vec<&'static str> {
    let login: &[_] = if secured { &["AUTH=PLAIN", "AUTH=LOGIN"] } else { &["LOGINDISABLED"] };
    BEFORE_LOGIN.split(' ').chain(login.iter().copied()).collect()
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    pub(super) fn capability_line(&self) -> String {
        match self.mailbox {
            Some(_) => format!("{BEFORE_LOGIN} {AFTER_LOGIN}"),
            None => capability_words(self.peer.secured()).join(" "),
        }
    }

    /// Whether a password may be heard now.
    fn may_log_in(&self) -> Result<(), Stop> {
        if self.mailbox.is_some() {
            return Err(Reply::bad("You are logged in already").into());
        }
        if !self.peer.secured() {
            return Err(Reply::no("PRIVACYREQUIRED", "Passwords are taken over TLS only").into());
        }
        Ok(())
    }

    pub(super) async fn log_in(&mut self, user: &[u8], password: &[u8]) -> Answer {
        self.may_log_in()?;
        // A name that is no text is no account's, and is told so no faster than others.
        let name = String::from_utf8_lossy(user).into_owned();
        match self.site.accounts.login(&name, password, self.peer.source).await {
            Ok(account) => {
                let store = self.site.store.clone();
                let open = move || store.mailbox(&account.address, account.quota);
                self.mailbox = Some(blocking(open).await??);
                Ok(Reply::ok("Logged in").with_code(format!("CAPABILITY {}", self.capability_line())))
            }
            Err(error) => {
                self.failures += 1;
                if self.failures >= MAX_FAILURES {
                    return Err(Stop::Bye("Too many failed logins"));
                }
                let code = match error {
                    LoginError::Refused => "AUTHENTICATIONFAILED",
                    LoginError::Busy => "UNAVAILABLE",
                };
                Ok(Reply::no(code, error.to_string()))
            }
        }
    }

    pub(super) async fn authenticate(
        &mut self,
        mechanism: &str,
        initial: Option<Zeroizing<Vec<u8>>>,
    ) -> Answer {
        self.may_log_in()?;
        match mechanism {
            "PLAIN" => {
                let message = match initial {
                    Some(initial) => decoded(&initial)?,
                    None => self.challenge("+ ").await?,
                };
                let found =
                    sasl::plain(&message).ok_or_else(|| Reply::bad("That is not the message of PLAIN"))?;
                self.log_in(found.name.as_bytes(), &found.password).await
            }
            "LOGIN" => {
                let user = match initial {
                    Some(initial) => decoded(&initial)?,
                    // "Username:", "Password:", as every client knows them.
                    None => self.challenge("+ VXNlcm5hbWU6").await?,
                };
                let password = self.challenge("+ UGFzc3dvcmQ6").await?;
                self.log_in(&user, &password).await
            }
            _ => Ok(Reply::no("CANNOT", "There is no such mechanism")),
        }
    }

    async fn challenge(&mut self, words: &str) -> Result<Zeroizing<Vec<u8>>, Stop> {
        self.put(words);
        let line = timeout(SILENCE, self.wire.line(MAX_SASL)).await;
        match line.map_err(|_| Stop::Bye("You have been silent for too long"))?? {
            Line::Whole(line) => decoded(&Zeroizing::new(line)),
            Line::TooLong { .. } => Err(Reply::bad("The line is too long").into()),
            Line::BareLineFeed => Err(Reply::bad("Lines end in CRLF").into()),
        }
    }

    pub(super) fn enable(&mut self, names: &[String]) -> Reply {
        let mut line = "* ENABLED".to_owned();
        for name in names {
            match name.as_str() {
                "IMAP4REV2" if !self.enabled.rev2 => {
                    self.enabled.rev2 = true;
                    line.push_str(" IMAP4rev2");
                }
                "CONDSTORE" if !self.enabled.condstore => {
                    self.enable_condstore();
                    line.push_str(" CONDSTORE");
                }
                _ => {}
            }
        }
        self.put(&line);
        Reply::ok("Enabled what is known")
    }
}

/// A line of the client: base64, `=` for nothing (RFC 4959 section 3), `*` to stop.
fn decoded(line: &[u8]) -> Result<Zeroizing<Vec<u8>>, Stop> {
    if line == b"*" {
        return Err(Reply::bad("Stopped as you wished").into());
    }
    sasl::decode(line).ok_or_else(|| Reply::bad("That is not base64").into())
}
