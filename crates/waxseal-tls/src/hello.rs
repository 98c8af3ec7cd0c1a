//! What a client offers, read from its ClientHello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2).
//!
//! The certificate has to be chosen before the TLS library is given its configuration, and a refused client should be
//! told of in plain words. So the ClientHello is read here first, leniently; the library reads the same bytes
//! afterwards and is the only judge of whether they are right.

use crate::policy::Version;
use crate::pool::MAX_FRAGMENT;

/// The longest ClientHello that is read, in bytes and with its record headers. The library reads no handshake message
/// beyond 65,535 bytes either.
pub(crate) const MAX_HELLO: usize = 72 * 1024;

const MAX_MESSAGE: usize = 0xffff;
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// What a ClientHello says. Numbers are those on the wire (IANA's TLS parameters).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello {
    /// The host named, as sent.
    pub sni: Option<String>,
    /// Protocol versions offered, in the client's order.
    pub versions: Vec<u16>,
    /// Cipher suites offered, in the client's order.
    pub suites: Vec<u16>,
    /// Key exchange groups offered, in the client's order.
    pub groups: Vec<u16>,
    /// Groups of which the client has sent a share already, so that they cost no further round trip (TLS 1.3).
    pub shares: Vec<u16>,
    /// Signature schemes offered, in the client's order.
    pub schemes: Vec<u16>,
    /// Application protocols offered; `None` without that extension.
    pub alpn: Option<Vec<Vec<u8>>>,
}

impl Hello {
    /// Reads a ClientHello from TLS records; `None` if there is none, or not all of it.
    pub fn from_records(records: &[u8]) -> Option<Self> {
        match HelloReader::default().read(records) {
            Reading::Whole(hello) => Some(*hello),
            _ => None,
        }
    }

    /// Whether the client takes that version.
    pub fn offers(&self, version: Version) -> bool {
        self.versions.contains(&match version {
            Version::Tls12 => 0x0303,
            Version::Tls13 => 0x0304,
        })
    }
}

/// How far the ClientHello has been read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    More,
    /// The first byte begins no TLS handshake.
    Cleartext,
    /// It is no ClientHello; the TLS library finds the alert for it.
    Garbled,
    Whole(Box<Hello>),
    TooLong,
}

/// Puts a ClientHello together from its records.
#[derive(Debug, Default)]
pub(crate) struct HelloReader {
    /// Where in the received bytes the next record begins.
    next: usize,
    message: Vec<u8>,
}

impl HelloReader {
    /// Goes on reading; `received` is everything since the connection began.
    pub(crate) fn read(&mut self, received: &[u8]) -> Reading {
        if received.first().is_some_and(|&first| first != HANDSHAKE_RECORD) {
            return Reading::Cleartext;
        }
        while let Some((header, rest)) =
            received.get(self.next..).and_then(|left| left.split_first_chunk::<RECORD_HEADER>())
        {
            let [kind, major, _, high, low] = *header;
            let length = usize::from(u16::from_be_bytes([high, low]));
            if kind != HANDSHAKE_RECORD || major != 3 || length == 0 || length > MAX_FRAGMENT {
                return Reading::Garbled;
            }
            let Some(fragment) = rest.get(..length) else { break };
            self.message.extend_from_slice(fragment);
            self.next += RECORD_HEADER + length;
            match self.message_length() {
                Err(NoHello) => return Reading::Garbled,
                Ok(Some(length)) => {
                    let body = self.message.get(MESSAGE_HEADER..length).unwrap_or_default();
                    return parse(body).map_or(Reading::Garbled, |hello| Reading::Whole(Box::new(hello)));
                }
                Ok(None) => {}
            }
        }
        if received.len() >= MAX_HELLO { Reading::TooLong } else { Reading::More }
    }

    /// The length of the message with its header, once it is whole.
    fn message_length(&self) -> Result<Option<usize>, NoHello> {
        let Some(&[kind, a, b, c]) = self.message.first_chunk::<MESSAGE_HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind != CLIENT_HELLO || length > MAX_MESSAGE {
            return Err(NoHello);
        }
        let whole = MESSAGE_HEADER + length;
        Ok((self.message.len() >= whole).then_some(whole))
    }
}

/// The message is not a ClientHello, or an impossible one.
struct NoHello;

/// Takes fields off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A vector whose length stands before it in one byte.
    fn short(&mut self) -> Option<Self> {
        let length = self.byte()?;
        self.take(length.into()).map(Fields)
    }

    /// A vector whose length stands before it in two bytes.
    fn long(&mut self) -> Option<Self> {
        let length = self.number()?;
        self.take(length.into()).map(Fields)
    }

    fn numbers(self) -> Vec<u16> {
        self.0.chunks_exact(2).filter_map(|pair| pair.first_chunk()).map(|b| u16::from_be_bytes(*b)).collect()
    }
}

fn parse(body: &[u8]) -> Option<Hello> {
    const RANDOM: usize = 32;
    let mut fields = Fields(body);
    let legacy_version = fields.number()?;
    fields.take(RANDOM)?;
    let _session_id = fields.short()?;
    let suites = fields.long()?.numbers();
    let _compression = fields.short()?;
    let mut hello = Hello { suites, ..Hello::default() };
    if !fields.0.is_empty() {
        let mut extensions = fields.long()?;
        while !extensions.0.is_empty() {
            let kind = extensions.number()?;
            let content = extensions.long()?;
            // An extension that cannot be read counts as absent: the library judges it.
            let _ = read_extension(&mut hello, kind, content);
        }
    }
    if hello.versions.is_empty() {
        hello.versions.push(legacy_version);
    }
    Some(hello)
}

fn read_extension(hello: &mut Hello, kind: u16, mut content: Fields<'_>) -> Option<()> {
    const SERVER_NAME: u16 = 0;
    const SUPPORTED_GROUPS: u16 = 10;
    const SIGNATURE_ALGORITHMS: u16 = 13;
    const ALPN: u16 = 16;
    const SUPPORTED_VERSIONS: u16 = 43;
    const KEY_SHARE: u16 = 51;
    const HOST_NAME: u8 = 0;
    match kind {
        SERVER_NAME => {
            let mut list = content.long()?;
            if list.byte()? == HOST_NAME {
                hello.sni = Some(String::from_utf8(list.long()?.0.to_vec()).ok()?);
            }
        }
        SUPPORTED_GROUPS => hello.groups = content.long()?.numbers(),
        SIGNATURE_ALGORITHMS => hello.schemes = content.long()?.numbers(),
        SUPPORTED_VERSIONS => {
            let mut versions = content.short()?.numbers();
            // RFC 8701: values of the form 0x?A?A are there to be ignored.
            versions.retain(|version| version & 0x0f0f != 0x0a0a);
            hello.versions = versions;
        }
        KEY_SHARE => {
            let mut list = content.long()?;
            while let Some(group) = list.number() {
                list.long()?;
                hello.shares.push(group);
            }
        }
        ALPN => {
            let mut list = content.long()?;
            let mut names = Vec::new();
            while let Some(name) = list.short() {
                names.push(name.0.to_vec());
            }
            hello.alpn = Some(names);
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes(), &(content.len() as u16).to_be_bytes(), content].concat()
    }

    /// A ClientHello in records of the given size.
    fn records(extensions: &[Vec<u8>], size: usize) -> Vec<u8> {
        let extensions = extensions.concat();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([2, 0xaa, 0xbb]);
        body.extend([0, 4, 0x13, 0x02, 0xc0, 0x2c]);
        body.extend([1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        let record = |part: &[u8]| [&[22, 3, 1], (part.len() as u16).to_be_bytes().as_slice(), part].concat();
        message.chunks(size).flat_map(record).collect()
    }

    fn typical() -> Vec<Vec<u8>> {
        vec![
            extension(0x2a2a, b"grease"),
            extension(0, b"\x00\x08\x00\x00\x05Mx.De"),
            extension(10, &[0, 4, 0x11, 0xec, 0, 29]),
            extension(13, &[0, 2, 4, 3]),
            extension(16, b"\x00\x05\x04imap"),
            extension(43, &[6, 0x7a, 0x7a, 3, 4, 3, 3]),
            extension(51, &[0, 11, 0x11, 0xec, 0, 2, 1, 2, 0, 29, 0, 1, 3]),
        ]
    }

    #[test]
    fn everything_offered_is_read() {
        let hello = Hello::from_records(&records(&typical(), 4096)).unwrap();
        assert_eq!(hello.sni.as_deref(), Some("Mx.De"));
        assert_eq!(hello.versions, [0x0304, 0x0303]);
        assert_eq!(hello.suites, [0x1302, 0xc02c]);
        assert_eq!(hello.groups, [0x11ec, 29]);
        assert_eq!(hello.shares, [0x11ec, 29]);
        assert_eq!(hello.schemes, [0x0403]);
        assert_eq!(hello.alpn, Some(vec![b"imap".to_vec()]));
        assert!(hello.offers(Version::Tls13) && hello.offers(Version::Tls12));
    }

    #[test]
    fn an_extension_that_cannot_be_read_counts_as_absent() {
        for broken in
            [b"".as_slice(), b"\x00", b"\x00\x09\x00\x00\x06mx.de", b"\x00\x03\x00\x00\xff", b"\xff\xff"]
        {
            for kind in [0, 10, 13, 16, 43] {
                let hello = Hello::from_records(&records(&[extension(kind, broken)], 4096)).unwrap();
                assert_eq!((hello.sni, hello.versions), (None, vec![0x0303]), "{kind} {broken:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_fragmentation_gives_the_same_hello(size in 1_usize..300, step in 1_usize..300) {
            let whole = records(&typical(), size);
            let mut reader = HelloReader::default();
            let mut at = 0;
            let read = loop {
                at = whole.len().min(at + step);
                match reader.read(&whole[..at]) {
                    Reading::More => prop_assert!(at < whole.len()),
                    other => break other,
                }
            };
            prop_assert_eq!(at, whole.len());
            let expected = Hello::from_records(&records(&typical(), 4096)).unwrap();
            prop_assert_eq!(read, Reading::Whole(Box::new(expected)));
        }

        #[test]
        fn no_bytes_whatsoever_are_a_danger(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Hello::from_records(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = HANDSHAKE_RECORD;
            }
            let _ = Hello::from_records(&bytes);
            let _ = parse(&bytes);
        }

        #[test]
        fn no_damage_is_a_danger(at in 0_usize..120, bits in 1_u8.., cut in 0_usize..200) {
            let mut hello = records(&typical(), 50);
            let at = at % hello.len();
            hello[at] ^= bits;
            hello.truncate(cut.max(1));
            let _ = Hello::from_records(&hello);
        }
    }
}
