use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use waxseal_proto::{Auth, ClientLeg, Guard, Outputs, Protocol};
use waxseal_tls::Pool;

use super::{Splice, SpliceEnd, SpliceReport};
use crate::drain::Drainer;
use crate::leg::{Leg, Socket};

const LONG: Duration = Duration::from_secs(600);

/// Two peers and the splice between them.
struct Joined {
    client: UnixStream,
    service: UnixStream,
    drainer: Arc<Drainer>,
    splice: JoinHandle<SpliceReport>,
}

fn join(protocol: Protocol, idle: Duration) -> Joined {
    join_under(Arc::new(Drainer::new()), protocol, idle)
}

fn join_under(drainer: Arc<Drainer>, protocol: Protocol, idle: Duration) -> Joined {
    let pool = Pool::new(8);
    let (client, client_side) = UnixStream::pair().unwrap();
    let (service, service_side) = UnixStream::pair().unwrap();
    let guard = Guard::new(protocol, ClientLeg::Clear { auth: Auth::Pass }, "mail.example");
    let mut splice = Splice::new(
        Leg::plain(Socket::Unix(client_side), &pool),
        Leg::plain(Socket::Unix(service_side), &pool),
        guard,
        Outputs::default(),
    );
    let mut drain = drainer.drain();
    let splice =
        tokio::spawn(
            async move { splice.run(idle, &mut drain, |end| format!("bye: {end}").into_bytes()).await },
        );
    Joined { client, service, drainer, splice }
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test]
async fn five_mebibytes_both_ways_at_once_arrive_byte_for_byte() {
    let Joined { client, service, splice, .. } = join(Protocol::Http, LONG);
    let upload: Vec<u8> = (0..5 << 20).map(|n: u32| (n % 251) as u8).collect();
    let download: Vec<u8> = (0..5 << 20).map(|n: u32| (n % 241) as u8).collect();
    let (mut client_in, mut client_out) = client.into_split();
    let (mut service_in, mut service_out) = service.into_split();
    let (up, down) = (upload.clone(), download.clone());
    let sending = tokio::spawn(async move { client_out.write_all(&up).await.unwrap() });
    let answering = tokio::spawn(async move { service_out.write_all(&down).await.unwrap() });
    let heard_behind = tokio::spawn(async move { read_all(&mut service_in).await });
    let heard_in_front = read_all(&mut client_in).await;
    sending.await.unwrap();
    answering.await.unwrap();
    assert!(heard_in_front == download);
    assert!(heard_behind.await.unwrap() == upload);
    let report = splice.await.unwrap();
    assert_eq!((report.up, report.down), (5 << 20, 5 << 20));
}

#[tokio::test]
async fn a_half_close_is_passed_on_and_the_answer_still_comes() {
    let Joined { mut client, mut service, splice, .. } = join(Protocol::Http, LONG);
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut service).await, b"question");
    service.write_all(b"answer").await.unwrap();
    drop(service);
    assert_eq!(read_all(&mut client).await, b"answer");
    assert!(matches!(splice.await.unwrap().end, SpliceEnd::Client));
}

#[tokio::test]
async fn a_service_that_closes_ends_the_session_in_order() {
    let Joined { mut client, mut service, splice, .. } = join(Protocol::Http, LONG);
    service.write_all(b"last words").await.unwrap();
    drop(service);
    assert_eq!(read_all(&mut client).await, b"last words");
    drop(client);
    assert!(matches!(splice.await.unwrap().end, SpliceEnd::Service));
}

#[tokio::test]
async fn a_silent_session_ends_at_the_idle_limit_with_words_where_the_client_can_hear_them() {
    let idle = Duration::from_millis(200);
    let Joined { mut client, mut service, splice, .. } = join(Protocol::Http, idle);
    service.write_all(b"a whole line\r\n").await.unwrap();
    assert_eq!(read_all(&mut client).await, b"a whole line\r\nbye: idle for too long");
    assert!(read_all(&mut service).await.is_empty());
    assert!(matches!(splice.await.unwrap().end, SpliceEnd::Idle));
}

#[tokio::test]
async fn no_words_of_ours_fall_into_the_middle_of_a_line() {
    let idle = Duration::from_millis(200);
    let Joined { mut client, mut service, .. } = join(Protocol::Http, idle);
    service.write_all(b"half a li").await.unwrap();
    assert_eq!(read_all(&mut client).await, b"half a li");
}

#[tokio::test]
async fn a_session_at_rest_is_told_of_the_shutdown_at_once() {
    let Joined { mut client, mut service, drainer, splice } = join(Protocol::Http, LONG);
    service.write_all(b"+ idling\r\n").await.unwrap();
    let mut heard = [0; 10];
    client.read_exact(&mut heard).await.unwrap();
    let drained = tokio::spawn(async move { drainer.run(Duration::from_secs(30)).await });
    assert_eq!(read_all(&mut client).await, b"bye: waxseal shut down");
    assert!(matches!(splice.await.unwrap().end, SpliceEnd::ShutDown));
    assert_eq!(drained.await.unwrap(), 0, "nobody had to be cut");
}

#[tokio::test]
async fn a_session_in_the_middle_of_something_may_end_it_within_the_grace() {
    let Joined { mut client, mut service, drainer, splice } = join(Protocol::Http, LONG);
    client.write_all(b"a question without an answer").await.unwrap();
    let mut heard = [0; 28];
    service.read_exact(&mut heard).await.unwrap();
    let drained = tokio::spawn(async move { drainer.run(Duration::from_secs(30)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!splice.is_finished(), "it waits for the answer");
    service.write_all(b"answer\r\n").await.unwrap();
    assert_eq!(read_all(&mut client).await, b"answer\r\nbye: waxseal shut down");
    assert_eq!(drained.await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_service_back_instead_of_filling_memory() {
    let Joined { client, mut service, .. } = join(Protocol::Http, LONG);
    let flood = vec![b'x'; 64 << 20];
    let sent = timeout(Duration::from_millis(500), service.write_all(&flood)).await;
    assert!(sent.is_err(), "64 MiB cannot all have been taken while nobody reads them");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ignores_the_services_end_is_let_go_after_a_minute_and_not_at_the_idle_limit() {
    let Joined { mut client, service, splice, .. } = join(Protocol::Http, LONG);
    let begun = Instant::now();
    drop(service);
    assert_eq!(read_all(&mut client).await, b"");
    assert!(matches!(splice.await.unwrap().end, SpliceEnd::Service));
    assert_eq!(begun.elapsed().as_secs(), super::HALF_CLOSED.as_secs());
}

#[tokio::test]
async fn a_session_that_begins_while_others_are_told_of_the_shutdown_is_told_too() {
    let Joined { mut client, mut service, drainer, .. } = {
        let drainer = Arc::new(Drainer::new());
        let mut held = drainer.drain();
        let draining = Arc::clone(&drainer);
        tokio::spawn(async move { draining.run(Duration::from_secs(30)).await });
        held.begun().await;
        join_under(drainer, Protocol::Http, LONG)
    };
    service.write_all(b"+ ready\r\n").await.unwrap();
    let heard =
        timeout(Duration::from_secs(5), read_all(&mut client)).await.expect("long before the grace ends");
    assert_eq!(heard, b"+ ready\r\nbye: waxseal shut down");
    drop(drainer);
}

#[tokio::test]
async fn the_service_is_heard_while_it_does_not_listen() {
    let Joined { mut client, mut service, .. } = join(Protocol::Smtp, LONG);
    let (mut client_in, mut client_out) = client.split();
    let flood = format!("NOOP {}\r\n", "x".repeat(4000)).repeat(250);
    let flooding = timeout(Duration::from_millis(300), client_out.write_all(flood.as_bytes()));
    assert!(flooding.await.is_err(), "the service reads nothing, so not all of it is taken");
    service.write_all(b"250 first\r\n").await.unwrap();
    let mut heard = [0; 11];
    timeout(Duration::from_secs(2), client_in.read_exact(&mut heard)).await.expect("an answer").unwrap();
    assert_eq!(&heard, b"250 first\r\n");
}

#[tokio::test]
async fn a_client_that_reads_late_still_gets_every_refusal() {
    const COMMANDS: usize = 100_000;
    let Joined { client, service: _service, .. } = join(Protocol::Smtp, LONG);
    let (mut client_in, mut client_out) = client.into_split();
    let asking =
        tokio::spawn(async move { client_out.write_all("XCLIENT\r\n".repeat(COMMANDS).as_bytes()).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut heard = vec![0; "550 5.7.1 Not for clients\r\n".len() * COMMANDS];
    timeout(Duration::from_secs(5), client_in.read_exact(&mut heard)).await.expect("all of them").unwrap();
    asking.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_service_that_closes_its_ears_is_what_ends_the_session() {
    let Joined { mut client, service, splice, .. } = join(Protocol::Http, LONG);
    SockRef::from(&service).shutdown(Shutdown::Read).unwrap();
    client.write_all(b"too late").await.unwrap();
    drop(service);
    assert_eq!(read_all(&mut client).await, b"");
    drop(client);
    assert!(matches!(splice.await.unwrap().end, SpliceEnd::Service));
}

#[tokio::test]
async fn a_client_that_resets_after_the_service_closed_does_not_count_as_lost() {
    let Joined { mut client, mut service, splice, .. } = join(Protocol::Http, LONG);
    service.write_all(b"221 bye\r\n").await.unwrap();
    drop(service);
    assert_eq!(read_all(&mut client).await, b"221 bye\r\n");
    client.write_all(b"unheard").await.unwrap();
    drop(client);
    assert!(matches!(splice.await.unwrap().end, SpliceEnd::Service));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_closes_its_ears_and_stays_is_left_after_a_minute() {
    let Joined { mut client, service, splice, .. } = join(Protocol::Http, LONG);
    SockRef::from(&service).shutdown(Shutdown::Read).unwrap();
    client.write_all(b"too late").await.unwrap();
    let begun = Instant::now();
    assert!(matches!(splice.await.unwrap().end, SpliceEnd::Service));
    assert_eq!(begun.elapsed().as_secs(), super::HALF_CLOSED.as_secs());
}
