//! The lines a message gets on its way in.

use std::fmt::Write as _;
use std::time::SystemTime;

use mail_parser::DateTime;

use super::Kind;
use crate::session::Peer;

/// What a Received line says of the session.
#[derive(Clone, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) kind: Kind,
    /// What the client called itself.
    pub(crate) hello: &'a str,
    /// Whether it said EHLO or LHLO.
    pub(crate) extended: bool,
    pub(crate) authenticated: bool,
    pub(crate) utf8: bool,
    pub(crate) peer: &'a Peer,
    pub(crate) hostname: &'a str,
}

impl Origin<'_> {
    /// The registered name of the way mail came (RFC 3848, RFC 6531 section 4.3).
    fn protocol(&self) -> String {
        if !self.extended {
            return "SMTP".to_owned();
        }
        let base = match (self.kind, self.utf8) {
            (Kind::Lmtp, false) => "LMTP",
            (Kind::Lmtp, true) => "UTF8LMTP",
            (_, false) => "ESMTP",
            (_, true) => "UTF8SMTP",
        };
        let secured = if self.peer.secured() { "S" } else { "" };
        let authenticated = if self.authenticated { "A" } else { "" };
        format!("{base}{secured}{authenticated}")
    }

    /// The Received line (RFC 5321 section 4.4), with the suite as RFC 8314 section 7.4 has it and the version as a comment.
    pub(crate) fn received(&self, id: &str, recipient: &str) -> String {
        let source = match self.peer.source.to_canonical() {
            std::net::IpAddr::V4(v4) => format!("[{v4}]"),
            std::net::IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
        };
        let mut line = format!("Received: from {} ({source})\r\n", self.hello);
        let _ = write!(line, "\tby {} with {}", self.hostname, self.protocol());
        if let Some(tls) = &self.peer.tls {
            let _ = write!(line, " tls {}\r\n\t({})", tls.suite, tls.version);
        }
        let _ = write!(line, " id {id}\r\n\tfor <{recipient}>; {}\r\n", date(SystemTime::now()));
        line
    }
}

/// A date as RFC 5322 writes it, in UTC.
pub(crate) fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    DateTime::from_timestamp(i64::try_from(seconds).unwrap_or_default()).to_rfc822()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::TlsWords;

    #[test]
    fn a_received_line_says_how_the_message_came() {
        let tls = TlsWords { version: "TLS1.3".into(), suite: "TLS_AES_256_GCM_SHA384".into() };
        let peer = Peer { source: "::ffff:192.0.2.1".parse().unwrap(), tls: Some(tls), session: "s".into() };
        let origin = Origin {
            kind: Kind::Submission,
            hello: "client.example",
            extended: true,
            authenticated: true,
            utf8: false,
            peer: &peer,
            hostname: "mail.example",
        };
        let line = origin.received("ID", "bob@waxseal.test");
        assert!(line.starts_with(
            "Received: from client.example ([192.0.2.1])\r\n\tby mail.example with ESMTPSA tls TLS_AES_256_GCM_SHA384\r\n\
             \t(TLS1.3) id ID\r\n\tfor <bob@waxseal.test>; "
        ));
        let clear = Peer { tls: None, ..peer.clone() };
        let names = [
            (Kind::Smtp, true, false, "ESMTP"),
            (Kind::Smtp, false, false, "SMTP"),
            (Kind::Lmtp, true, false, "LMTP"),
            (Kind::Smtp, true, true, "UTF8SMTP"),
        ];
        for (kind, extended, utf8, name) in names {
            let origin = Origin { kind, extended, utf8, authenticated: false, peer: &clear, ..origin };
            assert_eq!(origin.protocol(), name);
        }
        assert_eq!(
            date(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)),
            "Sun, 9 Sep 2001 01:46:40 +0000"
        );
    }
}
