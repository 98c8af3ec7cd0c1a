//! What is agreed, and what is refused.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use waxseal_proto::Protocol;
use waxseal_tls::{Begin, Group, HandshakeError, Matched, Suite, Version};

use crate::support::*;

fn kind_for(suite: Suite) -> Kind {
    if suite.name().contains("_RSA_") { Kind::Rsa } else { Kind::Ecdsa }
}

#[tokio::test]
async fn every_suite_can_be_the_only_one() {
    for suite in Suite::ALL {
        let mut door = Door::new(kind_for(suite));
        door.settings.versions = vec![suite.version()];
        door.settings.suites = vec![suite];
        let met = meet(&door.acceptor(), &Arc::new(Offer::default().config()), "mail.example.org").await;
        let facts = met.server.unwrap().facts().clone();
        assert_eq!((facts.suite, facts.version), (suite, suite.version()));
        let client = met.client.unwrap();
        let seen = client.conn.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(seen.as_str(), Some(suite.name()));
    }
}

#[tokio::test]
async fn a_suite_that_is_not_allowed_is_not_agreed() {
    for suite in Suite::ALL {
        let mut door = Door::new(kind_for(suite));
        door.settings.suites.retain(|&other| other != suite);
        let offer = Offer { versions: vec![suite.version()], suites: vec![suite], ..Offer::default() };
        let refusal = meet(&door.acceptor(), &Arc::new(offer.config()), "mail.example.org").await.refusal();
        assert_eq!(refusal.label(), "suite", "{refusal}");
        assert!(
            refusal.to_string().contains(&format!("offers {suite}; this listener allows TLS")),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn every_group_can_be_the_only_one() {
    for group in Group::ALL {
        for version in Version::ALL {
            if group == Group::X25519MlKem768 && version == Version::Tls12 {
                continue;
            }
            let mut door = Door::new(Kind::Ecdsa);
            door.settings.groups = vec![group];
            let offer = Offer::version(version);
            let met = meet(&door.acceptor(), &Arc::new(offer.config()), "mail.example.org").await;
            assert_eq!(met.server.unwrap().facts().group, Some(group), "{version}");
            met.client.unwrap();
        }
    }
}

#[tokio::test]
async fn a_group_that_is_not_allowed_is_not_agreed() {
    for group in Group::ALL {
        let mut door = Door::new(Kind::Ecdsa);
        door.settings.groups.retain(|&other| other != group);
        let offer = Offer { groups: vec![group], versions: vec![Version::Tls13], ..Offer::default() };
        let refusal = meet(&door.acceptor(), &Arc::new(offer.config()), "mail.example.org").await.refusal();
        assert_eq!(refusal.label(), "group", "{refusal}");
        assert!(refusal.to_string().contains(&format!("offers {group}; this listener allows")), "{refusal}");
    }
}

#[tokio::test]
async fn a_client_whose_guess_was_wrong_is_asked_again() {
    let mut door = Door::new(Kind::Ecdsa);
    door.settings.groups = vec![Group::Secp384r1];
    let offer = Offer { groups: vec![Group::X25519, Group::Secp384r1], ..Offer::version(Version::Tls13) };
    let met = meet(&door.acceptor(), &Arc::new(offer.config()), "mail.example.org").await;
    assert_eq!(met.server.unwrap().facts().group, Some(Group::Secp384r1));
}

#[tokio::test]
async fn a_version_that_is_not_allowed_is_not_agreed() {
    for version in Version::ALL {
        let mut door = Door::new(Kind::Ecdsa);
        door.settings.versions.retain(|&other| other != version);
        let config = Arc::new(Offer::version(version).config());
        let met = meet(&door.acceptor(), &config, "mail.example.org").await;
        let alert = met.client.as_ref().unwrap_err().to_string();
        assert!(alert.contains("ProtocolVersion"), "{alert}");
        let refusal = met.refusal();
        assert_eq!(refusal.label(), "version", "{refusal}");
        let words = refusal.to_string();
        assert!(
            words.starts_with(&format!("the client offers {version}; this listener allows TLS")),
            "{words}"
        );
    }
}

#[tokio::test]
async fn the_order_of_suites_is_ours_or_the_clients() {
    for ignore_client_order in [true, false] {
        let mut door = Door::new(Kind::Ecdsa);
        door.settings.ignore_client_order = ignore_client_order;
        door.settings.suites = vec![Suite::ALL[2], Suite::ALL[1], Suite::ALL[3]];
        let met = meet(&door.acceptor(), &Arc::new(Offer::default().config()), "mail.example.org").await;
        // The client prefers AES-256, which is not allowed in TLS 1.3, then AES-128.
        let expected = if ignore_client_order { Suite::ALL[2] } else { Suite::ALL[1] };
        assert_eq!(met.server.unwrap().facts().suite, expected);
    }
}

#[tokio::test]
async fn tls_1_0_is_told_of_as_such() {
    // Version 3.1, no extensions: what OpenSSL 0.9.8 sends.
    let mut body = vec![3, 1];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0x00, 0x2f, 0x00, 0xff, 1, 0]);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(&body);

    let (mut client, io) = pair();
    client.write_all(&hello).unwrap();
    let error = accept(&Door::new(Kind::Ecdsa).acceptor(), io).await.unwrap_err();
    assert_eq!(error.label(), "version", "{error}");
    assert_eq!(error.to_string(), "the client offers TLS 1.0 at most; this listener allows TLSv1.2, TLSv1.3");
    let HandshakeError::Refused { offered: Some(offered), .. } = error else { panic!("{error:?}") };
    assert_eq!(offered.suites, [0x002f, 0x00ff]);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer[..1], [21], "an alert");
}

#[tokio::test]
async fn the_registered_application_protocol_is_agreed() {
    for (protocol, name) in [
        (Protocol::Imap, "imap"),
        (Protocol::Pop3, "pop3"),
        (Protocol::ManageSieve, "managesieve"),
        (Protocol::Http, "http/1.1"),
    ] {
        let mut door = Door::new(Kind::Ecdsa);
        door.protocol = protocol;
        let offer = Offer { alpn: vec![b"h2".to_vec(), name.into()], ..Offer::default() };
        let met = meet(&door.acceptor(), &Arc::new(offer.config()), "mail.example.org").await;
        assert_eq!(met.server.unwrap().facts().alpn.as_deref(), Some(name.as_bytes()));
        assert_eq!(met.client.unwrap().conn.alpn_protocol(), Some(name.as_bytes()));
    }
}

#[tokio::test]
async fn who_offers_only_other_application_protocols_is_refused() {
    for protocol in Protocol::ALL {
        let mut door = Door::new(Kind::Ecdsa);
        door.protocol = protocol;
        let acceptor = door.acceptor();
        let offer = Offer { alpn: vec![b"h2".to_vec(), b"ftp".to_vec()], ..Offer::default() };
        let met = meet(&acceptor, &Arc::new(offer.config()), "mail.example.org").await;
        let cause = met.client.as_ref().unwrap_err().get_ref().unwrap();
        let alert = AlertDescription::NoApplicationProtocol;
        assert_eq!(cause.downcast_ref(), Some(&rustls::Error::AlertReceived(alert)), "{protocol}");
        let refusal = met.refusal();
        assert_eq!(refusal.label(), "alpn");
        assert!(refusal.to_string().starts_with("the client wants to speak \"h2\", \"ftp\"; this listener"));

        let met = meet(&acceptor, &Arc::new(Offer::default().config()), "mail.example.org").await;
        assert_eq!(met.server.unwrap().facts().alpn, None, "{protocol}: none offered is served");
    }
}

#[tokio::test]
async fn the_certificate_is_the_one_for_the_name() {
    let exact = entry("exact", identity(Kind::Ecdsa, &["imap.example.org"]));
    let wild = entry("wild", identity(Kind::Ecdsa, &["*.example.org"]));
    let own = entry("own", identity(Kind::Ecdsa, &["mail.example.org"]));
    let door = Door::with_entries(vec![wild, exact, own]);
    let acceptor = door.acceptor();
    let config = Arc::new(Offer::default().config());
    for (asked, served, matched) in [
        ("IMAP.example.org", "imap.example.org", Matched::Exact),
        ("pop.example.org", "*.example.org", Matched::Wildcard),
        ("a.b.example.org", "mail.example.org", Matched::Foreign),
        ("example.com", "mail.example.org", Matched::Foreign),
    ] {
        let met = meet(&acceptor, &config, asked).await;
        if matched == Matched::Foreign {
            // The client minds; the server has not refused it.
            let error = met.server.unwrap_err();
            assert_eq!(error.label(), "alert", "{error}");
            continue;
        }
        let facts = met.server.unwrap().facts().clone();
        assert_eq!(facts.certificate.as_deref(), Some(served), "{asked}");
        assert_eq!(facts.matched, Some(matched), "{asked}");
        assert_eq!(facts.sni.as_deref(), Some(asked.to_lowercase().as_str()));
    }
    // An address is never sent as SNI.
    let met = meet(&acceptor, &config, "192.0.2.1").await;
    assert!(met.server.is_err(), "the client minds that the certificate has no address");
}

#[tokio::test]
async fn the_kind_of_key_is_the_clients_choice() {
    let ecdsa = entry("ecdsa", identity(Kind::Ecdsa, &["mail.example.org"]));
    let rsa = entry("rsa", identity(Kind::Rsa, &["mail.example.org"]));
    let door = Door::with_entries(vec![rsa, ecdsa]);
    let acceptor = door.acceptor();
    let suite_of = |name: &str| Suite::by_name(name).unwrap();
    for (suites, kind) in [
        (Suite::ALL.to_vec(), "ECDHE_ECDSA"),
        (vec![suite_of("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")], "ECDHE_RSA"),
    ] {
        let offer = Offer { suites, ..Offer::version(Version::Tls12) };
        let met = meet(&acceptor, &Arc::new(offer.config()), "mail.example.org").await;
        let suite = met.server.unwrap().facts().suite;
        assert!(suite.name().contains(kind), "{suite}");
    }
}

#[tokio::test]
async fn a_new_set_counts_from_the_next_client_hello() {
    let door = Door::new(Kind::Ecdsa);
    let acceptor = door.acceptor();
    let config = Arc::new(Offer::default().config());
    meet(&acceptor, &config, "mail.example.org").await.server.unwrap();
    let entries = vec![entry("new", identity(Kind::Rsa, &["new.example.org"]))];
    door.store.publish(waxseal_tls::CertificateSet::new(entries, "").0);
    let facts = meet(&acceptor, &config, "new.example.org").await.server.unwrap().facts().clone();
    assert_eq!(facts.certificate.as_deref(), Some("new.example.org"));
}

#[tokio::test]
async fn without_any_certificate_the_client_gets_an_alert() {
    let met = meet(
        &Door::with_entries(Vec::new()).acceptor(),
        &Arc::new(Offer::default().config()),
        "mail.example.org",
    )
    .await;
    let alert = met.client.as_ref().unwrap_err().to_string();
    assert!(alert.contains("InternalError"), "{alert}");
    assert_eq!(met.refusal().label(), "no_certificate");
}

#[tokio::test]
async fn a_client_hello_of_16_kib_in_twenty_segments_is_read() {
    for version in Version::ALL {
        // Names that are long and many; the last one is ours.
        let mut alpn: Vec<Vec<u8>> = (0..70).map(|i| vec![i; 250]).collect();
        alpn.push(b"imap".to_vec());
        let offer = Offer { alpn, ..Offer::version(version) };
        let (client_io, server_io) = pair();
        let (mut relay_in, relay_out) = std::os::unix::net::UnixStream::pair().unwrap();
        let config = Arc::new(offer.config());
        let client = tokio::task::spawn_blocking(move || connect(&config, "mail.example.org", relay_out));
        // Between client and server somebody cuts the hello into segments.
        let cutter = std::thread::spawn(move || {
            let mut client_io = client_io;
            let mut hello = Vec::new();
            while waxseal_tls::Hello::from_records(&hello).is_none() {
                let mut header = [0; 5];
                relay_in.read_exact(&mut header).unwrap();
                hello.extend(header);
                let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
                let start = hello.len();
                hello.resize(start + length, 0);
                relay_in.read_exact(&mut hello[start..]).unwrap();
            }
            assert!(hello.len() > 16 * 1024, "{}", hello.len());
            for segment in hello.chunks(hello.len().div_ceil(20)) {
                client_io.write_all(segment).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
            let (mut up, mut down) = (client_io.try_clone().unwrap(), relay_in.try_clone().unwrap());
            let back = std::thread::spawn(move || std::io::copy(&mut up, &mut down));
            let _ = std::io::copy(&mut relay_in, &mut client_io);
            drop(back);
        });
        let server = accept(&Door::new(Kind::Ecdsa).acceptor(), server_io).await.unwrap();
        assert_eq!(server.facts().alpn.as_deref(), Some(b"imap".as_slice()));
        drop(client.await.unwrap().unwrap());
        drop(server);
        cutter.join().unwrap();
    }
}

#[tokio::test]
async fn a_client_hello_byte_by_byte_is_read() {
    let (client_io, server_io) = pair();
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let client = tokio::task::spawn_blocking(move || {
        connect(&Arc::new(Offer::default().config()), "mail.example.org", near)
    });
    let drip = |mut from: std::os::unix::net::UnixStream, mut to: std::os::unix::net::UnixStream| {
        std::thread::spawn(move || {
            let mut byte = [0];
            while from.read(&mut byte).is_ok_and(|read| read == 1) && to.write_all(&byte).is_ok() {}
            let _ = to.shutdown(std::net::Shutdown::Write);
        })
    };
    drip(far.try_clone().unwrap(), client_io.try_clone().unwrap());
    drip(client_io, far);
    let mut server = accept(&Door::new(Kind::Ecdsa).acceptor(), server_io).await.unwrap();
    let client = tokio::task::spawn_blocking(move || {
        let mut client = client;
        let mut client = tokio::runtime::Handle::current().block_on(&mut client).unwrap().unwrap();
        client.write_all(b"hello").unwrap();
        read_one(&mut client).unwrap()
    });
    let mut words = [0; 5];
    server.read_exact(&mut words).await.unwrap();
    assert_eq!(&words, b"hello");
    server.write_all(b"!").await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(client.await.unwrap(), b'!');
}

#[tokio::test]
async fn cleartext_is_handed_back_without_an_answer() {
    for (words, told) in [
        (b"EHLO client.example\r\n".as_slice(), "STARTTLS"),
        (b"GET / HTTP/1.0\r\n\r\n", "HTTP"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "proxy.trusted-networks"),
        (b"\x80\x2e\x01\x03\x01", "SSL 2.0"),
        (b"\x00\xff\xff\xff", "4 bytes that are no TLS"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "alert"),
    ] {
        let (mut client, io) = pair();
        client.write_all(words).unwrap();
        let mut handshake = Door::new(Kind::Ecdsa).acceptor().begin(io, Begin::FirstByte);
        let error = handshake.run().await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        let HandshakeError::Cleartext { first } = error else { panic!("{error:?}") };
        assert_eq!(first, words);
        let (mut io, received) = handshake.into_io();
        assert_eq!(received, words.len());
        io.write_all(b"answer").await.unwrap();
        drop(io);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"answer", "nothing was written before");
    }
}

#[tokio::test]
async fn garbage_in_a_handshake_record_gets_an_alert() {
    for garbage in [
        b"\x16\x03\x01\x00\x05AAAAA".as_slice(),
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\xff\xffAAAAAAAA",
        b"\x16\x03\x01\x00\x00\x16\x03\x01\x00\x00",
        b"\x16\x09\x09\x00\x05AAAAA",
        b"\x16GET / HTTP/1.0\r\n\r\n",
    ] {
        let (mut client, io) = pair();
        client.write_all(garbage).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let error = accept(&Door::new(Kind::Ecdsa).acceptor(), io).await.unwrap_err();
        if matches!(error, HandshakeError::Closed { .. }) {
            // The library waits for more.
            continue;
        }
        let HandshakeError::Refused { .. } = error else { panic!("{garbage:?}: {error:?}") };
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.len(), 7, "{garbage:?}: {error}");
        assert_eq!(answer[..2], [21, 3], "{garbage:?}: an alert");
    }
}

#[tokio::test]
async fn a_client_hello_without_end_is_cut_off() {
    let (client, io) = pair();
    // A message of 65,535 bytes in records of one byte each.
    let flood = std::thread::spawn(move || {
        let mut client = client;
        let mut sent = 0;
        let first = [22, 3, 1, 0, 4, 1, 0, 0xff, 0xff];
        client.write_all(&first).unwrap();
        while client.write_all(&[22, 3, 1, 0, 1, 0]).is_ok() {
            sent += 6;
        }
        sent
    });
    let error = accept(&Door::new(Kind::Ecdsa).acceptor(), io).await.unwrap_err();
    assert_eq!(error.label(), "too_long", "{error}");
    assert!(flood.join().unwrap() < 1024 * 1024);
}

#[tokio::test]
async fn a_client_that_goes_away_is_told_apart() {
    let hello = client_hello(Offer::default().config(), "mail.example.org");
    for sent in [0, 1, 5, hello.len() / 2, hello.len()] {
        let (mut client, io) = pair();
        client.write_all(&hello[..sent]).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut handshake = Door::new(Kind::Ecdsa).acceptor().begin(io, Begin::FirstByte);
        let error = handshake.run().await.unwrap_err();
        assert!(matches!(error, HandshakeError::Closed { received } if received == sent), "{error:?}");
        assert_eq!(handshake.into_io().1, sent);
    }
}

#[tokio::test]
async fn a_cancelled_handshake_loses_nothing() {
    let hello = client_hello(Offer::default().config(), "mail.example.org");
    let (mut client, io) = pair();
    let mut handshake = Door::new(Kind::Ecdsa).acceptor().begin(io, Begin::FirstByte);
    for half in hello.chunks(hello.len().div_ceil(2)) {
        client.write_all(half).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), handshake.run()).await.is_err());
    }
    let mut first = [0; 6];
    client.read_exact(&mut first).unwrap();
    assert_eq!((first[0], first[5]), (22, 2), "a ServerHello");
    let (mut io, received) = handshake.into_io();
    assert_eq!(received, hello.len());
    io.write_all(b"farewell").await.unwrap();
}

#[tokio::test]
async fn the_clients_alert_is_told_in_plain_words() {
    let mut config = Offer::default().config();
    config = {
        let roots = Arc::new({
            // A client that trusts somebody else.
            let other = rcgen::generate_simple_self_signed(vec!["other".into()]).unwrap();
            let mut roots = rustls::RootCertStore::empty();
            roots.add(other.cert.der().clone()).unwrap();
            roots
        });
        rustls::ClientConfig::builder_with_provider(Arc::clone(config.crypto_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    };
    let refusal =
        meet(&Door::new(Kind::Ecdsa).acceptor(), &Arc::new(config), "mail.example.org").await.refusal();
    assert_eq!(refusal.label(), "alert");
    assert!(refusal.to_string().contains("does not trust the issuer of our certificate"), "{refusal}");
}
