//! The way to services over the network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use waxseal_proto::Protocol;
use waxseal_server::service::{Relay, RelayContext, Resolver, Severity, diagnose};
use waxseal_server::{Address, Forwarding, LegSecurity, Security, Upstream};
use waxseal_tls::{Pool, Trust};

use crate::support::{ask, door, rest, starttls};

/// An SMTP server that answers EHLO and QUIT, and refuses whoever comes while `banning` is set.
async fn smtp_server(banning: Arc<AtomicBool>) -> SocketAddr {
    let sockets = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = sockets.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = sockets.accept().await {
            let banned = banning.load(Ordering::SeqCst);
            tokio::spawn(async move {
                if banned {
                    stream.write_all(b"554 5.7.1 you are banned\r\n").await.unwrap();
                    return;
                }
                stream.write_all(b"220 behind.example\r\n").await.unwrap();
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    for line in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
                        let answer: &[u8] = match line {
                            [b'E', ..] => b"250-behind.example\r\n250 SIZE 1000\r\n",
                            [b'Q', ..] => b"221 bye\r\n",
                            _ => b"250 ok\r\n",
                        };
                        let _ = stream.write_all(answer).await;
                    }
                }
            });
        }
    });
    address
}

pub(super) fn relay(addresses: Vec<SocketAddr>) -> Arc<Relay> {
    let context =
        RelayContext { hostname: "mail.example".into(), resolver: Resolver::System, pool: Pool::new(8) };
    let upstream = Upstream {
        name: "behind".into(),
        addresses: addresses
            .into_iter()
            .map(|address| Address::Tcp { host: address.ip().to_string(), port: address.port() })
            .collect(),
        forwarding: Forwarding::None,
        leg: LegSecurity::None,
        server_name: None,
        trust: Trust::System,
    };
    Relay::start(context, upstream, Protocol::Smtp).unwrap()
}

async fn dead_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn the_door_announces_what_it_has_learnt_from_the_first_address_that_answers() {
    let alive = smtp_server(Arc::default()).await;
    let door = door(starttls(), relay(vec![dead_port().await, alive]), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    let hello = ask(&mut client, "EHLO client.example\r\n", "250 STARTTLS\r\n").await;
    assert_eq!(hello, "250-mail.example\r\n250-SIZE 1000\r\n250 STARTTLS\r\n");
    let answer = ask(&mut client, "MAIL FROM:<a@example>\r\n", "\r\n").await;
    assert_eq!(answer, "250 ok\r\n");
}

#[tokio::test]
async fn a_service_that_is_down_is_asked_by_one_task_and_not_by_every_client() {
    let relay = relay(vec![dead_port().await]);
    let door = door(starttls(), relay, |_| {}).await;
    for _ in 0..20 {
        let mut client = TcpStream::connect(door.address).await.unwrap();
        assert!(rest(&mut client).await.starts_with("421 4.3.2 "));
    }
    assert_eq!(door.server.tally().service_failures.get(), 0, "no client caused a dial");
}

#[tokio::test]
async fn a_banned_client_hears_the_services_words_and_the_next_client_is_served() {
    let banning = Arc::new(AtomicBool::new(false));
    let door = door(Security::Clear, relay(vec![smtp_server(Arc::clone(&banning)).await]), |_| {}).await;
    let mut welcome = TcpStream::connect(door.address).await.unwrap();
    assert_eq!(ask(&mut welcome, "", "\r\n").await, "220 behind.example\r\n");
    banning.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        let mut banned = TcpStream::connect(door.address).await.unwrap();
        assert_eq!(rest(&mut banned).await, "554 5.7.1 you are banned\r\n");
    }
    banning.store(false, Ordering::SeqCst);
    let mut next = TcpStream::connect(door.address).await.unwrap();
    assert_eq!(ask(&mut next, "", "\r\n").await, "220 behind.example\r\n");
}

#[tokio::test]
async fn an_address_that_is_lost_is_not_tried_by_every_client() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = first.local_addr().unwrap();
    let dials = Arc::new(AtomicUsize::new(0));
    let (dialled, failing) = (Arc::clone(&dials), Arc::new(AtomicBool::new(false)));
    let fails = Arc::clone(&failing);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = first.accept().await {
            if fails.load(Ordering::SeqCst) {
                dialled.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            tokio::spawn(async move {
                let mut buffer = [0; 64];
                stream.write_all(b"220 first\r\n").await.unwrap();
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(b"250 first\r\n").await;
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    let second = smtp_server(Arc::default()).await;
    let door = door(Security::Clear, relay(vec![address, second]), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    assert_eq!(ask(&mut client, "", "\r\n").await, "220 first\r\n");
    failing.store(true, Ordering::SeqCst);
    for _ in 0..100 {
        let mut client = TcpStream::connect(door.address).await.unwrap();
        assert_eq!(ask(&mut client, "", "\r\n").await, "220 behind.example\r\n");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let dials = dials.load(Ordering::SeqCst);
    assert!(dials < 60, "{dials} dials of an address that has failed, where the other one serves");
}

#[tokio::test]
async fn a_service_that_does_not_take_an_introduction_is_found_out_before_any_client_comes() {
    let alive = smtp_server(Arc::default()).await;
    let context =
        RelayContext { hostname: "mail.example".into(), resolver: Resolver::System, pool: Pool::new(8) };
    let upstream = Upstream {
        name: "behind".into(),
        addresses: vec![Address::Tcp { host: alive.ip().to_string(), port: alive.port() }],
        forwarding: Forwarding::Xclient,
        leg: LegSecurity::None,
        server_name: None,
        trust: Trust::System,
    };
    let findings = diagnose(context, &upstream, Protocol::Smtp).await;
    assert_eq!(findings[0].severity, Severity::Error, "{findings:?}");
    assert!(findings[0].text.contains("smtpd_authorized_xclient_hosts"), "{findings:?}");
}
