//! The PROXY protocol, versions 1 and 2: who the client is, said before anything else.

use std::net::{IpAddr, SocketAddr};

use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader, SslInfo, Tlv};

/// The longest header that is read, in bytes. Version 2 could announce 64 KiB; no sender comes near.
pub const MAX_PROXY_HEADER: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyHead {
    /// They may become a header; read on.
    More,
    /// They are no PROXY header.
    None,
    /// A whole header.
    Header {
        /// Its length in bytes.
        used: usize,
        /// Source and destination; `None` for LOCAL and UNKNOWN.
        addresses: Option<(SocketAddr, SocketAddr)>,
    },
    /// A header that cannot be read; the text says why.
    Invalid(String),
}

/// Facts of the client's TLS session that go into a version 2 header.
#[derive(Clone, Copy, Debug)]
pub struct TlsFacts<'a> {
    /// As in `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite's name.
    pub cipher: &'a str,
    /// The server name that the client asked for.
    pub sni: Option<&'a str>,
    /// The application protocol agreed on.
    pub alpn: Option<&'a [u8]>,
}

/// How a version 1 header begins, and the most bytes that one has.
const V1_START: &[u8] = b"PROXY ";
const MAX_V1: usize = 107;

/// How a version 2 header begins; two bytes and a length of two bytes follow.
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// The longest server name or protocol name that is passed on, in bytes (RFC 1035, RFC 7301).
const MAX_NAME: usize = 255;

/// Reads the header at the start of `buf`, the first bytes of a connection.
pub fn read(buf: &[u8]) -> ProxyHead {
    let begins = |start: &[u8]| buf.iter().zip(start).all(|(a, b)| a == b);
    let (start, limit) = match (begins(V1_START), begins(V2_START)) {
        (true, true) => return ProxyHead::More,
        (true, false) => (V1_START, MAX_V1),
        (false, true) => (V2_START, MAX_PROXY_HEADER),
        (false, false) => return ProxyHead::None,
    };
    if buf.len() < start.len() {
        return ProxyHead::More;
    }
    if v2_length(buf).is_some_and(|length| length > MAX_PROXY_HEADER) {
        return ProxyHead::Invalid(format!("PROXY header longer than {MAX_PROXY_HEADER} bytes"));
    }
    match ProxyHeader::parse(buf, ParseConfig::default()) {
        Ok((_, used)) if used > limit => {
            ProxyHead::Invalid(format!("PROXY header longer than {limit} bytes"))
        }
        Ok((header, used)) => header_of(&header, used),
        // Incomplete inside, though all of it is there: it contradicts itself.
        Err(Error::BufferTooShort) if v2_length(buf).is_some_and(|length| buf.len() >= length) => {
            ProxyHead::Invalid("invalid PROXY header".into())
        }
        Err(Error::BufferTooShort) if buf.len() < limit => ProxyHead::More,
        Err(error) => ProxyHead::Invalid(error.to_string()),
    }
}

/// The length that a version 2 header announces, itself included.
fn v2_length(buf: &[u8]) -> Option<usize> {
    let announced = buf.get(V2_FIXED - 2..V2_FIXED).filter(|_| buf.starts_with(V2_START))?;
    Some(V2_FIXED + usize::from(u16::from_be_bytes(announced.try_into().ok()?)))
}

fn header_of(header: &ProxyHeader<'_>, used: usize) -> ProxyHead {
    let addresses = match header.proxied_address() {
        Some(address) if address.protocol != proxy_header::Protocol::Stream => {
            return ProxyHead::Invalid("PROXY header for datagrams".into());
        }
        Some(address) => Some((canonical(address.source), canonical(address.destination))),
        None => None,
    };
    ProxyHead::Header { used, addresses }
}

/// An IPv4 address written as an IPv6 one is the IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Both addresses in one family, as the header demands.
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> ProxiedAddress {
    let (source, destination) = (canonical(source), canonical(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return ProxiedAddress::stream(source, destination);
    }
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    ProxiedAddress::stream(mapped(source), mapped(destination))
}

/// Appends a version 1 header.
pub fn write_v1(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let header = ProxyHeader::with_address(of_one_family(source, destination));
    // Both errors that there are were ruled out: TLVs, and addresses of two families.
    let _ = header.encode_v1(out);
}

/// Appends a version 2 header, with the facts of the client's TLS session where it has one.
pub fn write_v2(source: SocketAddr, destination: SocketAddr, tls: Option<TlsFacts<'_>>, out: &mut Vec<u8>) {
    let mut header = ProxyHeader::with_address(of_one_family(source, destination));
    if let Some(tls) = tls {
        if let Some(alpn) = tls.alpn.filter(|alpn| alpn.len() <= MAX_NAME) {
            header.append_tlv(Tlv::Alpn(alpn.into()));
        }
        if let Some(sni) = tls.sni.filter(|sni| sni.len() <= MAX_NAME) {
            header.append_tlv(Tlv::Authority(sni.into()));
        }
        header.append_tlv(Tlv::Ssl(ssl_info(tls)));
    }
    // The one error is a header beyond 64 KiB, and every part was bounded above.
    let _ = header.encode_v2(out);
}

fn ssl_info(tls: TlsFacts<'_>) -> SslInfo<'static> {
    // "verify" is zero only for a client certificate that was verified; here nobody is asked for one.
    const NOT_VERIFIED: u32 = 1;
    let mut info = SslInfo::new(true, false, false, NOT_VERIFIED);
    info.append_tlv(Tlv::SslVersion(tls.version.chars().take(MAX_NAME).collect()));
    info.append_tlv(Tlv::SslCipher(tls.cipher.chars().take(MAX_NAME).collect()));
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: TlsFacts<'_> = TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS13_AES_256_GCM_SHA384",
        sni: Some("mail.example"),
        alpn: Some(b"imap"),
    };

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    fn v1(source: &str, destination: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_v1(at(source), at(destination), &mut out);
        out
    }

    fn v2(source: &str, destination: &str, tls: Option<TlsFacts<'_>>) -> Vec<u8> {
        let mut out = Vec::new();
        write_v2(at(source), at(destination), tls, &mut out);
        out
    }

    fn addresses(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((at(source), at(destination)))
    }

    #[test]
    fn what_is_written_is_read_again_after_every_prefix_asked_for_more() {
        let pairs = [("192.0.2.1:4711", "192.0.2.25:25"), ("[2001:db8::1]:4711", "[2001:db8::25]:25")];
        for (source, destination) in pairs {
            for header in
                [v1(source, destination), v2(source, destination, None), v2(source, destination, Some(TLS))]
            {
                for cut in 0..header.len() {
                    assert_eq!(read(&header[..cut]), ProxyHead::More, "{cut} of {header:?}");
                }
                let used = header.len();
                let whole = ProxyHead::Header { used, addresses: addresses(source, destination) };
                assert_eq!(read(&header), whole);
                assert_eq!(read(&[&header[..], b"EHLO x\r\n"].concat()), whole);
            }
        }
    }

    #[test]
    fn the_text_of_version_1_is_the_specified_one() {
        assert_eq!(v1("192.0.2.1:4711", "192.0.2.25:25"), b"PROXY TCP4 192.0.2.1 192.0.2.25 4711 25\r\n");
        assert_eq!(v1("[::ffff:192.0.2.1]:1", "192.0.2.25:25"), b"PROXY TCP4 192.0.2.1 192.0.2.25 1 25\r\n");
        assert_eq!(
            v1("192.0.2.1:4711", "[2001:db8::25]:25"),
            b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::25 4711 25\r\n"
        );
    }

    #[test]
    fn version_2_carries_the_facts_of_the_tls_session() {
        let bytes = v2("192.0.2.1:4711", "192.0.2.25:25", Some(TLS));
        let (header, _) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
        assert_eq!(header.authority(), Some("mail.example"));
        assert_eq!(header.alpn(), Some(&b"imap"[..]));
        let ssl = header.ssl().unwrap();
        assert!(ssl.client_ssl() && !ssl.client_cert_conn() && !ssl.client_cert_sess() && ssl.verify() != 0);
        assert_eq!(ssl.version(), Some("TLSv1.3"));
        assert_eq!(ssl.cipher(), Some("TLS13_AES_256_GCM_SHA384"));
        let bytes = v2("192.0.2.1:4711", "192.0.2.25:25", None);
        assert!(ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap().0.ssl().is_none());
    }

    #[test]
    fn other_protocols_are_told_apart_at_their_first_different_byte() {
        for other in [
            &b"EHLO x\r\n"[..],
            b"PASS x\r\n",
            b"PROXYX",
            b"\x16\x03\x01",
            b"\r\nEHLO",
            b"\r\n\r\n\0\r\nQUIX",
        ] {
            assert_eq!(read(other), ProxyHead::None, "{other:?}");
        }
        assert_eq!(read(b"PRO"), ProxyHead::More);
        assert_eq!(read(b""), ProxyHead::More);
    }

    #[test]
    fn unknown_and_local_name_no_addresses() {
        let unknown = b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n";
        assert_eq!(read(unknown), ProxyHead::Header { used: unknown.len(), addresses: None });
        let local = [V2_START, &[0x20, 0, 0, 0]].concat();
        assert_eq!(read(&local), ProxyHead::Header { used: 16, addresses: None });
    }

    #[test]
    fn headers_that_contradict_themselves_or_never_end_are_invalid() {
        let invalid = |bytes: &[u8]| assert!(matches!(read(bytes), ProxyHead::Invalid(_)), "{bytes:?}");
        invalid(b"PROXY TCP4 192.0.2.1 nonsense 1 2\r\n");
        invalid(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nEHLO x\r\n");
        invalid(&[V1_START, &[b'x'; MAX_V1]].concat());
        invalid(&[&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat());
        invalid(&[V2_START, &[0x21, 0x11, 0, 4, 1, 2, 3, 4]].concat());
        invalid(&[V2_START, &[0x21, 0x11, 0xff, 0xff]].concat());
        invalid(&[V2_START, &[0x31, 0x11, 0, 12], &[0; 12]].concat());
        invalid(&[V2_START, &[0x21, 0x12, 0, 12], &[0; 12]].concat());
    }
}
