//! Whole sessions over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use waxseal_proto::Protocol;
use waxseal_server::{Security, Server};

use crate::support::{PATIENCE, Parrot, acceptor, ask, door, encrypt, rest, starttls};

#[tokio::test]
async fn a_starttls_session_reaches_the_service_only_after_the_handshake() {
    let parrot = Arc::new(Parrot::default());
    let door = door(starttls(), parrot.clone(), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    let greeting = ask(&mut client, "", "\r\n").await;
    assert!(greeting.starts_with("220 mail.example"), "{greeting}");
    let hello = ask(&mut client, "EHLO client.example\r\n", "250 STARTTLS\r\n").await;
    assert_eq!(hello, "250-mail.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n");
    assert!(ask(&mut client, "STARTTLS\r\n", "\r\n").await.starts_with("220 "));
    assert!(parrot.callers.lock().unwrap().is_empty(), "nobody has called the service yet");
    let mut client = encrypt(client).await;
    assert_eq!(ask(&mut client, "EHLO again.example\r\n", "\r\n").await, "250 heard\r\n");
    assert_eq!(*parrot.heard.lock().unwrap(), b"EHLO again.example\r\n", "its greeting was swallowed");
    assert_eq!(parrot.callers.lock().unwrap().as_slice(), [(client.get_ref().local_addr().unwrap(), true)]);
}

#[tokio::test]
async fn on_an_implicit_listener_the_service_greets() {
    let door = door(Security::Implicit(acceptor(Protocol::Smtp)), Arc::new(Parrot::default()), |_| {}).await;
    let mut client = encrypt(TcpStream::connect(door.address).await.unwrap()).await;
    assert_eq!(ask(&mut client, "", "\r\n").await, "220 parrot\r\n");
}

#[tokio::test]
async fn mail_in_cleartext_is_handed_on_with_the_hello_and_what_stood_behind_it() {
    let parrot = Arc::new(Parrot::default());
    let door = door(starttls(), parrot.clone(), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    ask(&mut client, "EHLO client.example\r\n", "STARTTLS\r\n").await;
    let answers =
        ask(&mut client, "MAIL FROM:<a@example>\r\nRCPT TO:<b@example>\r\n", "heard\r\n250 heard\r\n").await;
    assert_eq!(answers, "250 heard\r\n250 heard\r\n");
    assert_eq!(*parrot.heard.lock().unwrap(), b"MAIL FROM:<a@example>\r\nRCPT TO:<b@example>\r\n");
    assert!(!parrot.callers.lock().unwrap()[0].1, "the service is told that there is no TLS");
}

#[tokio::test]
async fn what_stands_behind_starttls_ends_the_session_and_is_counted() {
    let parrot = Arc::new(Parrot::default());
    let door = door(starttls(), parrot.clone(), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    client.write_all(b"STARTTLS\r\nMAIL FROM:<mallory@example>\r\n").await.unwrap();
    let heard = rest(&mut client).await;
    assert!(!heard.contains("220"), "no go-ahead: {heard}");
    assert_eq!(door.server.tally().injections.get(), 1);
    assert!(parrot.callers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn cleartext_after_the_go_ahead_is_an_injection_too() {
    let door = door(starttls(), Arc::new(Parrot::default()), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    assert!(ask(&mut client, "STARTTLS\r\n", "\r\n").await.starts_with("220 "));
    client.write_all(b"MAIL FROM:<mallory@example>\r\n").await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(door.server.tally().injections.get(), 1);
}

#[tokio::test]
async fn a_client_in_clear_on_an_implicit_port_is_answered_in_its_own_language() {
    let door = door(Security::Implicit(acceptor(Protocol::Smtp)), Arc::new(Parrot::default()), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    client.write_all(b"EHLO client.example\r\n").await.unwrap();
    let heard = rest(&mut client).await;
    assert!(heard.starts_with('5') || heard.starts_with("421"), "{heard}");
}

#[tokio::test]
async fn a_client_that_says_nothing_on_an_implicit_port_is_told_at_the_timeout() {
    let implicit = Security::Implicit(acceptor(Protocol::Smtp));
    let door = door(implicit, Arc::new(Parrot::default()), |listener| {
        listener.timeout = Duration::from_millis(300);
    })
    .await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    let heard = rest(&mut client).await;
    assert!(heard.starts_with('5') || heard.starts_with("421"), "{heard}");
}

#[tokio::test]
async fn a_service_that_is_down_makes_the_listener_say_so() {
    let asleep = Arc::new(Parrot { down: true, ..Parrot::default() });
    let door = door(starttls(), asleep, |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    assert!(rest(&mut client).await.starts_with("421 4.3.2 "));
}

#[tokio::test]
async fn one_connection_too_many_is_turned_away_and_the_next_is_served_once_there_is_a_place() {
    let door = door(starttls(), Arc::new(Parrot::default()), |listener| listener.max_connections = 1).await;
    let mut first = TcpStream::connect(door.address).await.unwrap();
    ask(&mut first, "", "\r\n").await;
    let mut second = TcpStream::connect(door.address).await.unwrap();
    assert!(rest(&mut second).await.starts_with("421 "));
    assert!(ask(&mut first, "QUIT\r\n", "\r\n").await.starts_with("221 "));
    drop(first);
    let free = async {
        loop {
            let mut third = TcpStream::connect(door.address).await.unwrap();
            if ask(&mut third, "", "\r\n").await.starts_with("220 ") {
                break;
            }
        }
    };
    timeout(PATIENCE, free).await.expect("a place becomes free");
}

#[tokio::test]
async fn a_proxy_header_is_believed_from_a_trusted_network_and_from_no_other() {
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n";
    for (trusted, expected) in [(true, "192.0.2.7:4711"), (false, "")] {
        let parrot = Arc::new(Parrot::default());
        let door = door(starttls(), parrot.clone(), |listener| {
            if trusted {
                listener.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
            }
        })
        .await;
        let mut client = TcpStream::connect(door.address).await.unwrap();
        client.write_all(header).await.unwrap();
        ask(&mut client, "", "\r\n").await;
        if !trusted {
            assert!(ask(&mut client, "", "\r\n").await.starts_with("500 "), "it is no command");
        }
        ask(&mut client, "HELO client.example\r\nMAIL FROM:<a@example>\r\n", "heard\r\n").await;
        let (source, _) = parrot.callers.lock().unwrap()[0];
        if trusted {
            assert_eq!(source.to_string(), expected);
        } else {
            assert_eq!(source, client.local_addr().unwrap());
        }
    }
}

#[tokio::test]
async fn a_reload_changes_listeners_and_leaves_sessions_alone() {
    let mut door = door(starttls(), Arc::new(Parrot::default()), |_| {}).await;
    let mut old = TcpStream::connect(door.address).await.unwrap();
    ask(&mut old, "", "\r\n").await;

    let mut changed = door.listener.clone();
    changed.hostname = "other.example".into();
    let prepared = door.server.prepare(vec![changed]).map_err(|_| "cannot bind").unwrap();
    door.server.apply(prepared);
    let mut new = TcpStream::connect(door.address).await.unwrap();
    assert!(ask(&mut new, "", "\r\n").await.starts_with("220 other.example"));
    assert!(ask(&mut old, "EHLO c\r\n", "STARTTLS\r\n").await.starts_with("250-mail.example"));

    let prepared = door.server.prepare(Vec::new()).map_err(|_| "cannot bind").unwrap();
    door.server.apply(prepared);
    let refused = async {
        while TcpStream::connect(door.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("the removed listener closes");
    assert!(ask(&mut old, "NOOP\r\n", "\r\n").await.starts_with("250 "));
}

#[tokio::test]
async fn a_port_that_is_taken_changes_nothing() {
    let door = door(starttls(), Arc::new(Parrot::default()), |_| {}).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut other = door.listener.clone();
    other.bind = vec![taken.local_addr().unwrap()];
    let Err(errors) = door.server.prepare(vec![other]) else { panic!("the port is taken") };
    assert_eq!(errors[0].source.kind(), std::io::ErrorKind::AddrInUse);
    let mut client = TcpStream::connect(door.address).await.unwrap();
    assert!(ask(&mut client, "", "\r\n").await.starts_with("220 "));
}

#[tokio::test]
async fn draining_says_goodbye_in_the_protocols_words() {
    let door = door(starttls(), Arc::new(Parrot::default()), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    let drained = tokio::spawn(door.server.drain(Duration::from_secs(10)));
    assert!(rest(&mut client).await.starts_with("421 "));
    assert_eq!(drained.await.unwrap(), 0);
}

/// A client whose kernel takes next to nothing that it does not read.
async fn deaf_client(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(address).await.unwrap()
}

async fn no_session_is_left(server: &Server) {
    let gone = async {
        while server.live_sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the session ends");
}

#[tokio::test]
async fn a_client_that_asks_much_and_reads_nothing_does_not_keep_its_place() {
    let door = door(starttls(), Arc::new(Parrot::default()), |listener| {
        listener.timeout = Duration::from_millis(500);
        listener.security = Security::StartTls { acceptor: acceptor(Protocol::Smtp), require: true };
        listener.socket.send_buffer_size = Some(2048);
    })
    .await;
    let mut client = deaf_client(door.address).await;
    client.write_all(format!("{}STARTTLS\r\n", "EHLO c\r\n".repeat(4000)).as_bytes()).await.unwrap();
    while door.server.live_sessions() == 0 {
        tokio::task::yield_now().await;
    }
    no_session_is_left(&door.server).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_on_an_implicit_port_does_not_hold_up_a_shutdown() {
    let door = door(Security::Implicit(acceptor(Protocol::Smtp)), Arc::new(Parrot::default()), |_| {}).await;
    let mut silent = TcpStream::connect(door.address).await.unwrap();
    while door.server.live_sessions() == 0 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    assert_eq!(door.server.drain(Duration::from_secs(4)).await, 0);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(rest(&mut silent).await, "");
}

#[tokio::test]
async fn a_client_that_leaves_an_implicit_port_without_a_word_is_no_failed_handshake() {
    let door = door(Security::Implicit(acceptor(Protocol::Smtp)), Arc::new(Parrot::default()), |_| {}).await;
    drop(TcpStream::connect(door.address).await.unwrap());
    while door.server.tally().connections.get() == 0 || door.server.live_sessions() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(door.server.tally().handshake_failures.get(), 0);
}

#[tokio::test]
async fn what_stands_far_behind_starttls_is_an_injection_too() {
    let door = door(starttls(), Arc::new(Parrot::default()), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    let much = "NOOP\r\n".repeat(1000);
    client.write_all(format!("{much}STARTTLS\r\n{much}").as_bytes()).await.unwrap();
    let heard = rest(&mut client).await;
    assert!(!heard.contains("220"), "no go-ahead");
    assert_eq!(door.server.tally().injections.get(), 1);
}

#[tokio::test]
async fn much_in_cleartext_is_handed_on_whole() {
    let parrot = Arc::new(Parrot::default());
    let door = door(starttls(), parrot.clone(), |_| {}).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    ask(&mut client, "", "\r\n").await;
    let commands = format!("MAIL FROM:<a@example>\r\n{}", "RCPT TO:<b@example>\r\n".repeat(500));
    let before = "NOOP\r\n".repeat(500);
    let (mut client_in, mut client_out) = client.split();
    let all = format!("{before}{commands}");
    let sending = client_out.write_all(all.as_bytes());
    let hearing = async {
        let mut answers = vec![0; "250 heard\r\n".len() * 501];
        while parrot.heard.lock().unwrap().len() < commands.len() {
            let _ = timeout(Duration::from_millis(20), client_in.read(&mut answers)).await;
        }
    };
    let (sent, heard) = tokio::join!(sending, timeout(PATIENCE, hearing));
    sent.unwrap();
    heard.expect("everything reaches the service");
    assert!(*parrot.heard.lock().unwrap() == commands.as_bytes());
}

#[tokio::test]
async fn a_reload_changes_the_options_of_an_open_port() {
    let mut door = door(starttls(), Arc::new(Parrot::default()), |_| {}).await;
    let mut changed = door.listener.clone();
    changed.socket.backlog = 16;
    changed.socket.ttl = Some(42);
    changed.hostname = "other.example".into();
    let prepared = door.server.prepare(vec![changed]).map_err(|errors| errors[0].to_string()).unwrap();
    door.server.apply(prepared);
    let mut client = TcpStream::connect(door.address).await.unwrap();
    assert!(ask(&mut client, "", "\r\n").await.starts_with("220 other.example"));
}
