//! A service behind the door that does what a test says.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{Ground, Wire};

/// A listening service; each connection runs in a thread of its own.
///
/// A panic in a connection's thread is printed but does not fail the test: the client's side
/// is where tests judge.
#[derive(Debug)]
pub struct Fake {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
    port: u16,
}

#[derive(Debug, Default)]
struct State {
    stop: AtomicBool,
    connections: AtomicUsize,
}

impl Fake {
    /// Listens at the address `name` of `ground`.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn start(ground: &Ground, name: &str, serve: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(ground.addr(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let state = Arc::new(State::default());
        let (inside, serve) = (Arc::clone(&state), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if inside.stop.load(Ordering::SeqCst) {
                    return;
                }
                inside.connections.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                // Small, because one test holds thousands of them.
                let builder = std::thread::Builder::new().stack_size(256 * 1024);
                builder.spawn(move || serve(Wire::new(stream))).expect("thread");
            }
        });
        Self { state, thread: Some(thread), port: ground.port(name) }
    }

    /// How many connections it has had.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, so that the port is free when this returns.
        let woken =
            std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], self.port).into(), Duration::from_secs(1));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// Dialogues of a service, as far as the tests need them.
impl Fake {
    /// An SMTP service without extensions of note: greets, answers everything with 250, and
    /// tells every command to `heard`.
    #[must_use]
    pub fn smtp(ground: &Ground, name: &str, heard: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self::start(ground, name, move |mut wire| {
            wire.say("220 behind.test ESMTP");
            while let Ok(Some(line)) = wire.try_line() {
                heard(&line);
                let upper = line.to_ascii_uppercase();
                let answer = match upper.split(' ').next().unwrap_or_default() {
                    "EHLO" | "LHLO" => "250-behind.test\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 8BITMIME",
                    "QUIT" => "221 2.0.0 Bye",
                    "AUTH" => "235 2.7.0 Authentication successful",
                    _ => "250 2.0.0 Ok",
                };
                if wire.try_send(format!("{answer}\r\n").as_bytes()).is_err() || upper == "QUIT" {
                    return;
                }
            }
        })
    }

    /// An IMAP service: greets, knows CAPABILITY, LOGIN, NOOP and LOGOUT, and tells every
    /// command to `heard`.
    #[must_use]
    pub fn imap(ground: &Ground, name: &str, heard: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self::start(ground, name, move |mut wire| {
            wire.say("* OK [CAPABILITY IMAP4rev1 ID IDLE LITERAL+ SASL-IR AUTH=PLAIN] behind ready");
            // Sessions are held idle for as long as a test takes, on a slow machine too: they are the client's to end.
            wire.socket().set_read_timeout(None).expect("no read timeout");
            while let Ok(Some(line)) = wire.try_line() {
                heard(&line);
                let mut words = line.split(' ');
                let (tag, verb) = (words.next().unwrap_or("*"), words.next().unwrap_or_default());
                let answer = match verb.to_ascii_uppercase().as_str() {
                    "CAPABILITY" => {
                        "* CAPABILITY IMAP4rev1 ID IDLE LITERAL+ SASL-IR AUTH=PLAIN\r\n".to_owned()
                    }
                    "LOGOUT" => "* BYE bye\r\n".to_owned(),
                    "ID" => "* ID NIL\r\n".to_owned(),
                    _ => String::new(),
                };
                let answer = format!("{answer}{tag} OK done\r\n");
                if wire.try_send(answer.as_bytes()).is_err() || verb.eq_ignore_ascii_case("LOGOUT") {
                    return;
                }
            }
        })
    }
}
