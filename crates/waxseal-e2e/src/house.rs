//! A whole mail server with the door before it.

use std::net::{IpAddr, Ipv4Addr};

use crate::{CERTIFICATE, Door, Dovecot, Ground, Pki, Postfix, Wire, eventually, mail_certificate, python};

/// An address of this machine's that is not the door's own.
pub const SENDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));
/// Another.
pub const READER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
/// What alice says with `AUTH PLAIN`: base64 of `\0alice@example.test\0secret`.
pub const ALICE: &str = "AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=";

/// The door before all of it: each protocol on a port of its own, STARTTLS and implicit.
const DOOR: &str = r#"
[server.listener.smtp]
protocol = "smtp"
bind = ["<smtp>", "[::1]:<smtp:port>"]
upstream = "postfix"

[server.listener.submission]
protocol = "submission"
bind = ["<submission>", "[::1]:<submission:port>"]
upstream = "postfix-submission"

[server.listener.submissions]
protocol = "submission"
bind = "<submissions>"
upstream = "postfix-submission"
tls.implicit = true

[server.listener.lmtp]
protocol = "lmtp"
bind = "<lmtp>"
upstream = "dovecot-lmtp"

[server.listener.imap]
protocol = "imap"
bind = ["<imap>", "[::1]:<imap:port>"]
upstream = "dovecot-imap"

[server.listener.imaps]
protocol = "imap"
bind = ["<imaps>", "[::1]:<imaps:port>"]
upstream = "dovecot-imap"
tls.implicit = true

[server.listener.pop3]
protocol = "pop3"
bind = "<pop3>"
upstream = "dovecot-pop3"

[server.listener.pop3s]
protocol = "pop3"
bind = "<pop3s>"
upstream = "dovecot-pop3"
tls.implicit = true

[server.listener.sieve]
protocol = "managesieve"
bind = "<sieve>"
upstream = "dovecot-sieve"

[upstream.postfix]
address = "<postfix-proxy>"
forwarding = "proxy-v2"

[upstream.postfix-submission]
address = "<postfix-submission>"
forwarding = "proxy-v2"

[upstream.dovecot-lmtp]
address = "<dovecot-lmtp>"

[upstream.dovecot-imap]
address = "<dovecot-imap-proxy>"
forwarding = "proxy-v2"

[upstream.dovecot-pop3]
address = "<dovecot-pop3-proxy>"
forwarding = "proxy-v2"

[upstream.dovecot-sieve]
address = "<dovecot-sieve-proxy>"
forwarding = "proxy-v2"
"#;

/// A mail server as an operator has it, Postfix and Dovecot, with the door before it.
///
/// Listeners: `smtp`, `submission`, `submissions`, `lmtp`, `imap`, `imaps`, `pop3`, `pop3s`, `sieve`.
#[derive(Debug)]
pub struct House {
    /// The door.
    pub door: Door,
    /// The transfer agent.
    pub postfix: Postfix,
    /// The store.
    pub dovecot: Dovecot,
    /// Who signed the certificates.
    pub pki: Pki,
    /// Where all stand.
    pub ground: Ground,
}

impl House {
    /// With the listeners above.
    ///
    /// # Panics
    /// When something of it does not start.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts three servers")]
    pub fn new() -> Self {
        Self::with(DOOR)
    }

    /// With a door configured by `door`.
    ///
    /// # Panics
    /// When something of it does not start.
    #[must_use]
    pub fn with(door: &str) -> Self {
        let ground = Ground::new();
        let pki = mail_certificate(&ground);
        let dovecot = Dovecot::start(&ground, &pki);
        let postfix = Postfix::start(&ground, &pki);
        let door = Door::start(&ground, &format!("{CERTIFICATE}{door}"));
        Self { door, postfix, dovecot, pki, ground }
    }

    /// Runs a Python script with `context` (TLS that trusts the test's CA), `message` and ports at hand.
    ///
    /// # Panics
    /// When the script fails.
    #[must_use]
    pub fn python(&self, script: &str) -> String {
        let mut preamble = format!(
            "import imaplib, poplib, smtplib, ssl, sys\n\
             context = ssl.create_default_context(cafile={ca:?})\n\
             message = open({message:?}, 'rb').read()\n",
            ca = self.pki.ca_path(),
            message = self.ground.path("message.eml"),
        );
        for name in ["smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s"] {
            preamble.push_str(&format!("{name} = {}\n", self.ground.port(name)));
        }
        python(&(preamble + script))
    }

    /// Submits the message as alice to bob, over STARTTLS, from [`SENDER`].
    ///
    /// # Panics
    /// When it does not arrive.
    pub fn submit(&self, message: &[u8]) {
        std::fs::write(self.ground.path("message.eml"), message).expect("message");
        let _ = self.python(&format!(
            "with smtplib.SMTP('127.0.0.1', submission, source_address=('{SENDER}', 0)) as smtp:\n\
             \x20 assert not smtp.ehlo()[1].count(b'AUTH')\n\
             \x20 smtp.starttls(context=context)\n\
             \x20 smtp.login('alice@example.test', 'secret')\n\
             \x20 smtp.sendmail('alice@example.test', ['bob@example.test'], message)\n"
        ));
        self.delivered(1);
    }

    /// Waits until bob's mailbox holds so many messages.
    ///
    /// # Panics
    /// When it does not.
    pub fn delivered(&self, count: usize) {
        let new = self.ground.path("dovecot/mail/bob@example.test/Maildir");
        eventually(&format!("{count} messages in bob's mailbox"), || {
            let messages = ["new", "cur"].iter().filter_map(|dir| std::fs::read_dir(new.join(dir)).ok());
            (messages.flatten().count() == count).then_some(())
        });
    }

    /// Sends a message to bob at the `smtp` listener over `wire`, which has been greeted.
    ///
    /// # Panics
    /// When it is not taken.
    pub fn send(&self, wire: &mut Wire, subject: &str) {
        wire.say("EHLO sender.test").reply("250");
        wire.say("MAIL FROM:<someone@elsewhere.test>").reply("250");
        wire.say("RCPT TO:<bob@example.test>").reply("250");
        wire.say("DATA").reply("354");
        wire.say(&format!("From: someone@elsewhere.test\r\nSubject: {subject}\r\n\r\nText.\r\n."))
            .reply("250");
        wire.say("QUIT").reply("221");
    }

    /// What the message with that subject looks like in bob's mailbox.
    ///
    /// # Panics
    /// When it does not arrive.
    #[must_use]
    pub fn stored(&self, subject: &str) -> String {
        let inbox = self.ground.path("dovecot/mail/bob@example.test/Maildir/new");
        eventually(&format!("{subject:?} in bob's mailbox"), || {
            let files = std::fs::read_dir(&inbox).ok()?.map_while(Result::ok);
            let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
            texts.into_iter().find(|text| text.contains(&format!("Subject: {subject}\n")))
        })
    }
}
