//! A PROXY header is read alike however much stands behind it, and never beyond what is there.

use waxseal_proto::proxy::{self, MAX_PROXY_HEADER, ProxyHead};

/// Reads every prefix of the input.
pub fn run(data: &[u8]) {
    let whole = proxy::read(data);
    match &whole {
        ProxyHead::More => assert!(data.len() < MAX_PROXY_HEADER),
        ProxyHead::Header { used, addresses } => {
            assert!(*used > 0 && *used <= data.len() && *used <= MAX_PROXY_HEADER);
            assert_eq!(proxy::read(&data[..*used]), whole);
            for cut in 0..*used {
                assert_eq!(proxy::read(&data[..cut]), ProxyHead::More, "{cut}");
            }
            if let &Some((source, destination)) = addresses {
                rewrite(source, destination);
            }
        }
        ProxyHead::None => {
            // Nor do more bytes make one of it.
            assert_eq!(proxy::read(&[data, b"\r\n\0 x"].concat()), ProxyHead::None);
        }
        ProxyHead::Invalid(why) => assert!(!why.is_empty()),
    }
}

/// What was read can be written, and says the same. Addresses of two families never come from one header.
fn rewrite(source: std::net::SocketAddr, destination: std::net::SocketAddr) {
    for write in
        [proxy::write_v1, |source, destination, out: &mut _| proxy::write_v2(source, destination, None, out)]
    {
        let mut header = Vec::new();
        write(source, destination, &mut header);
        let ProxyHead::Header { used, addresses: Some((again, _)) } = proxy::read(&header) else {
            panic!("unreadable {}", header.escape_ascii());
        };
        assert_eq!(used, header.len());
        assert_eq!(again, source);
    }
}
