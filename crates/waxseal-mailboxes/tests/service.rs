//! The mailboxes as the door sees them: greeting, leg, and facts of the client's TLS.

mod support;

use support::House;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use waxseal_mailboxes::Mailboxes;
use waxseal_proto::Protocol;
use waxseal_server::Service;
use waxseal_server::service::Caller;
use waxseal_tls::Pool;

const EVERY: [Protocol; 5] =
    [Protocol::Smtp, Protocol::Submission, Protocol::Lmtp, Protocol::Imap, Protocol::Pop3];

fn caller(hello: Option<&[u8]>) -> Caller<'static> {
    Caller {
        source: "192.0.2.7:4711".parse().unwrap(),
        destination: "127.0.0.1:25".parse().unwrap(),
        tls: None,
        hello: hello.map(<[u8]>::to_vec),
        session: "s1",
    }
}

#[tokio::test]
async fn every_protocol_has_its_greeting_and_its_capabilities() {
    let house = House::new();
    for protocol in Protocol::ALL {
        let service = Mailboxes::new(house.site.clone(), protocol, Pool::new(4));
        assert_eq!(service.is_some(), EVERY.contains(&protocol));
        let Some(service) = service else { continue };
        let capabilities = service.capabilities().await.unwrap();
        assert!(!capabilities.entries().is_empty() && !capabilities.offers_starttls());
        let logs_in = !matches!(protocol, Protocol::Smtp | Protocol::Lmtp);
        assert_eq!(capabilities.offers_auth(), logs_in, "{protocol}");
        let opened = service.open(caller(None)).await.unwrap();
        let greeting = String::from_utf8(opened.greeting).unwrap();
        assert!(greeting.ends_with("\r\n") && greeting.contains("mail.waxseal.test"), "{greeting}");
    }
}

#[tokio::test]
async fn what_the_client_said_to_the_door_in_clear_counts_as_said() {
    let house = House::new();
    let service = Mailboxes::new(house.site.clone(), Protocol::Smtp, Pool::new(4)).unwrap();
    let opened = service.open(caller(Some(b"EHLO client.example\r\n"))).await.unwrap();
    let mut leg = BufReader::new(opened.leg);
    let commands = "MAIL FROM:<a@b.example>\r\nRCPT TO:<alice@waxseal.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n";
    leg.write_all(commands.as_bytes()).await.unwrap();
    leg.flush().await.unwrap();
    let mut codes = Vec::new();
    let mut line = String::new();
    while leg.read_line(&mut line).await.unwrap() > 0 {
        codes.push(line[..3].to_owned());
        line.clear();
    }
    assert_eq!(codes, ["250", "250", "354", "250", "221"]);
    let message = String::from_utf8(house.inbox("alice").remove(0)).unwrap();
    assert!(
        message
            .contains("Received: from client.example ([192.0.2.7])\r\n\tby mail.waxseal.test with ESMTP id ")
    );
}
