//! Resident memory of an idle session, at 5,000 of them. The aim is at most 5 KiB.
//!
//! The clients are another process. What the kernel holds is not counted. Run with
//! `cargo bench -p waxseal-tls --bench idle`.

mod measure;

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use measure::Credentials;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpListener, TcpStream};
use waxseal_tls::{Acceptor, Begin, Connector, PlainStream, Pool, TlsStream, Trust, Version};

const SESSIONS: usize = 5_000;

fn main() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let arguments: Vec<_> = std::env::args().collect();
    match &arguments[1..] {
        [role, address] if role == "clients" => clients(address, true),
        [role, address] if role == "plain-clients" => clients(address, false),
        [role, variant] if role == "server" => server(variant),
        _ => {
            println!("{:<34}{:>12}", "KiB resident per idle session", "waxseal");
            // Each in a process of its own: an allocator does not forget.
            for variant in ["plain", "TLSv1.3", "TLSv1.2"] {
                let program = std::env::current_exe().unwrap();
                let status = Command::new(program).args(["server", variant]).status().unwrap();
                assert!(status.success());
            }
        }
    }
}

fn server(variant: &str) {
    let version = Version::by_name(variant);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut program = Command::new(std::env::current_exe().unwrap());
        let role = if version.is_some() { "clients" } else { "plain-clients" };
        let mut clients = program.args([role, address.as_str()]).stdin(Stdio::piped()).spawn().unwrap();

        let acceptor = Credentials::new(false).acceptor(version.unwrap_or(Version::Tls13));
        let pool = Pool::new(64);
        let done = Arc::new(tokio::sync::Semaphore::new(0));
        let before = resident();
        for _ in 0..SESSIONS {
            let (io, _) = listener.accept().await.unwrap();
            let (acceptor, pool, done) = (Arc::clone(&acceptor), Arc::clone(&pool), Arc::clone(&done));
            tokio::spawn(async move {
                if version.is_none() {
                    done.add_permits(1);
                    let mut stream = PlainStream::new(io, pool);
                    let _ = stream.fill_buf().await;
                } else {
                    let mut session = Box::pin(handshake(acceptor, io)).await;
                    done.add_permits(1);
                    let _ = session.fill_buf().await;
                }
            });
        }
        let _ = done.acquire_many(SESSIONS as u32).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let spent = resident() - before;
        println!("{variant:<34}{:>12.2}", spent as f64 / 1024.0 / SESSIONS as f64);
        drop(clients.stdin.take());
        clients.wait().unwrap();
    });
}

async fn handshake(acceptor: Arc<Acceptor>, io: TcpStream) -> TlsStream<TcpStream> {
    let mut handshake = acceptor.begin(io, Begin::FirstByte);
    let established = handshake.run().await.unwrap();
    handshake.finish(established)
}

/// Connects, and stays until standard input ends.
fn clients(address: &str, tls: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connector = Connector::new(&Trust::Any, measure::NAME, Pool::new(4)).unwrap();
    let mut held = Vec::new();
    runtime.block_on(async {
        for _ in 0..SESSIONS {
            let io = TcpStream::connect(address).await.unwrap();
            let mut handshake = connector.begin(io, Begin::FirstByte);
            held.push(if tls {
                let established = handshake.run().await.unwrap();
                (Some(handshake.finish(established)), None)
            } else {
                (None, Some(handshake.into_io()))
            });
        }
        let mut rest = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut rest);
    });
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    const PAGE: usize = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE
}
