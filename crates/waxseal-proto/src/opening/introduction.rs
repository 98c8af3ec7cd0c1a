//! How a client is introduced to a service: XCLIENT in its three dialects, and IMAP ID.

use std::net::IpAddr;

use super::{Client, OpeningError};
use crate::syntax::quoted;

/// The longest XCLIENT command, CRLF included (Postfix XCLIENT_README: the limit of RFC 5321 commands).
const MAX_XCLIENT: usize = 512;

/// How many doors may stand behind this one: what Dovecot's own proxies start from, less this hop.
const PROXY_TTL: u32 = 4;

/// The attributes that Dovecot takes where it announces XCLIENT without a list (POP3, ManageSieve).
const DOVECOT_ATTRIBUTES: &str = "ADDR PORT SESSION TTL";

/// In whose dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Postfix: IPv6 addresses are marked, values are xtext (RFC 3461 section 4).
    Smtp {
        /// How the client itself speaks.
        proto: &'static str,
    },
    /// Dovecot's POP3 and ManageSieve: plain values.
    Dovecot,
}

/// The attributes of a client, in the order in which they are said.
#[derive(Debug)]
pub(super) struct Attributes {
    pairs: Vec<(&'static str, String)>,
    form: Form,
}

impl Attributes {
    pub(super) fn of(client: &Client, form: Form) -> Self {
        let (source, destination) = (client.source, client.destination);
        let mut pairs = vec![
            ("ADDR", address(source.ip(), form)),
            ("PORT", source.port().to_string()),
            ("DESTADDR", address(destination.ip(), form)),
            ("DESTPORT", destination.port().to_string()),
            ("SESSION", client.session.clone()),
            ("TTL", PROXY_TTL.to_string()),
        ];
        if let Form::Smtp { proto } = form {
            // Without a NAME Postfix goes on calling the client by the door's own name.
            pairs.push(("NAME", "[UNAVAILABLE]".into()));
            pairs.push(("PROTO", proto.into()));
            pairs.extend(client.helo.clone().map(|helo| ("HELO", helo)));
        }
        Self { pairs, form }
    }

    /// XCLIENT commands without CRLF, with no other attributes than those announced. More than one where
    /// they would not fit into one command.
    ///
    /// # Errors
    /// The address is not among those announced: this would introduce nobody.
    pub(super) fn xclient(&self, announced: &str) -> Result<Vec<String>, OpeningError> {
        let announced = match self.form {
            Form::Dovecot if announced.is_empty() => DOVECOT_ATTRIBUTES,
            _ => announced,
        };
        let known =
            |name: &str| announced.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case(name));
        let mut commands: Vec<String> = Vec::new();
        for (name, value) in self.pairs.iter().filter(|(name, _)| known(name)) {
            let pair = format!(" {name}={}", xtext(value));
            match commands.last_mut() {
                Some(command) if command.len() + pair.len() + 2 <= MAX_XCLIENT => command.push_str(&pair),
                _ => commands.push(format!("XCLIENT{pair}")),
            }
        }
        if !known("ADDR") {
            return Err(OpeningError::XclientNotOffered);
        }
        Ok(commands)
    }
}

fn address(address: IpAddr, form: Form) -> String {
    match (address.to_canonical(), form) {
        (IpAddr::V6(address), Form::Smtp { .. }) => format!("IPV6:{address}"),
        (address, _) => address.to_string(),
    }
}

/// xtext (RFC 3461 section 4): what is not printable, "+" and "=" as "+" and two digits.
fn xtext(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'+' | b'=') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("+{byte:02X}"));
        }
    }
    text
}

/// The parameters of an IMAP ID command, as Dovecot's own proxies give them.
pub(super) fn imap_id(client: &Client) -> String {
    let pairs = [
        ("x-session-id", client.session.clone()),
        ("x-originating-ip", client.source.ip().to_canonical().to_string()),
        ("x-originating-port", client.source.port().to_string()),
        ("x-connected-ip", client.destination.ip().to_canonical().to_string()),
        ("x-connected-port", client.destination.port().to_string()),
        ("x-proxy-ttl", PROXY_TTL.to_string()),
    ];
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{} {}", quoted(name), quoted(value))).collect();
    format!("({})", pairs.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(source: &str) -> Client {
        Client {
            source: source.parse().unwrap(),
            destination: "[2001:db8::25]:25".parse().unwrap(),
            helo: Some("odd name+=".into()),
            session: "s1".into(),
        }
    }

    const SMTP: Form = Form::Smtp { proto: "ESMTP" };

    #[test]
    fn only_announced_attributes_are_said() {
        let attributes = Attributes::of(&client("192.0.2.1:4711"), SMTP);
        assert_eq!(attributes.xclient("ADDR port").unwrap(), ["XCLIENT ADDR=192.0.2.1 PORT=4711"]);
        assert_eq!(attributes.xclient("LOGIN PORT"), Err(OpeningError::XclientNotOffered));
        assert_eq!(attributes.xclient(""), Err(OpeningError::XclientNotOffered));
    }

    #[test]
    fn values_are_xtext_and_ipv6_is_marked() {
        let attributes = Attributes::of(&client("[2001:db8::1]:1"), SMTP);
        let said = attributes.xclient("NAME ADDR DESTADDR PROTO HELO").unwrap();
        assert_eq!(
            said,
            ["XCLIENT ADDR=IPV6:2001:db8::1 DESTADDR=IPV6:2001:db8::25 NAME=[UNAVAILABLE] PROTO=ESMTP \
              HELO=odd+20name+2B+3D"]
        );
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_that_it_is() {
        let attributes = Attributes::of(&client("[::ffff:192.0.2.1]:1"), SMTP);
        assert_eq!(attributes.xclient("ADDR").unwrap(), ["XCLIENT ADDR=192.0.2.1"]);
    }

    #[test]
    fn what_does_not_fit_into_one_command_goes_into_two() {
        let long = Client { helo: Some("h".repeat(480)), ..client("192.0.2.1:4711") };
        let said = Attributes::of(&long, SMTP).xclient("ADDR PORT HELO").unwrap();
        assert_eq!(said.len(), 2);
        assert!(said.iter().all(|command| command.len() + 2 <= MAX_XCLIENT));
    }

    #[test]
    fn dovecot_gets_plain_addresses_and_the_attributes_that_it_documents() {
        let said = Attributes::of(&client("[2001:db8::1]:1"), Form::Dovecot).xclient("").unwrap();
        assert_eq!(said, ["XCLIENT ADDR=2001:db8::1 PORT=1 SESSION=s1 TTL=4"]);
    }
}
