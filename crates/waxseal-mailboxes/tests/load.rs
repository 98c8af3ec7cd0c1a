//! Fifty senders and fifty IMAP readers at once: no error, no message lost. `WAXSEAL_LOAD_SECONDS=60` for the long run.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Client, House, Leg, PASSWORD, Speak, add_account};
use waxseal_mailboxes::smtp::Kind;

const SENDERS: usize = 50;
const READERS: usize = 50;
const ACCOUNTS: usize = 10;

fn send(smtp: SocketAddr, me: usize, until: Instant) -> Vec<usize> {
    let mut client = Client::new(smtp);
    let mut sent = vec![0; ACCOUNTS];
    client.expect("EHLO load", "250");
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        let (to, other) = ((me + number) % ACCOUNTS, (me + number + 1) % ACCOUNTS);
        client.expect("MAIL FROM:<a@b.example>", "250");
        client.expect(&format!("RCPT TO:<u{to}@waxseal.test>"), "250");
        client.expect(&format!("RCPT TO:<u{other}@waxseal.test>"), "250");
        client.expect("DATA", "354");
        let body = "line of text\r\n".repeat(number % 200);
        client.expect(&format!("Subject: {me}-{number}\r\n\r\n{body}."), "250");
        sent[to] += 1;
        sent[other] += 1;
    }
    sent
}

struct Reader {
    client: Client,
    exists: usize,
}

impl Reader {
    /// Says a command; hears everything up to its end.
    #[track_caller]
    fn command(&mut self, command: &str) -> Vec<String> {
        self.client.send(format!("tag {command}\r\n"));
        let mut lines = Vec::new();
        loop {
            let line = self.client.line();
            if let Some(count) = line.strip_prefix("* ").and_then(|rest| rest.strip_suffix(" EXISTS")) {
                self.exists = count.parse().unwrap();
            }
            if let Some(end) = line.strip_prefix("tag ") {
                assert!(end.starts_with("OK"), "{command} -> {end}");
                return lines;
            }
            assert!(!line.is_empty() || command.contains("BODY"), "{command}: the connection ended");
            lines.push(line);
        }
    }
}

/// Reads while mail comes in; in the end, says how many messages there are.
fn read(imap: SocketAddr, me: usize, done: &AtomicBool) -> usize {
    let mut reader = Reader { client: Client::new(imap), exists: 0 };
    reader.command(&format!("LOGIN u{}@waxseal.test \"{PASSWORD}\"", me % ACCOUNTS));
    reader.command("SELECT INBOX");
    let mut round = me;
    while !done.load(Ordering::Acquire) {
        reader.command("NOOP");
        if reader.exists > 0 {
            let number = round * 7919 % reader.exists + 1;
            let lines = reader.command(&format!("FETCH {number} (UID FLAGS RFC822.SIZE BODY.PEEK[])"));
            assert!(lines.iter().any(|line| line.starts_with("Subject: ")), "{lines:?}");
            reader.command(&format!("STORE {number} {}FLAGS (\\Flagged k{})", ["+", "-"][round % 2], me % 5));
        }
        round += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    reader.command("NOOP");
    let lines = reader.command("UID SEARCH ALL");
    let found = lines.iter().find_map(|line| line.strip_prefix("* SEARCH ")).unwrap_or_default();
    let found = found.split(' ').filter(|word| word.parse::<u32>().is_ok()).count();
    assert_eq!(found, reader.exists);
    found
}

#[test]
fn fifty_senders_and_fifty_readers_lose_nothing() {
    let seconds = std::env::var("WAXSEAL_LOAD_SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    let house = House::new();
    for account in 0..ACCOUNTS {
        add_account(house.dir.path(), &format!("u{account}"), &[], None);
    }
    let smtp = house.listen(Speak::Mail(Kind::Smtp), Leg::Clear);
    let imap = house.listen(Speak::Imap, Leg::Tls);
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..READERS)
        .map(|me| {
            let done = Arc::clone(&done);
            std::thread::spawn(move || read(imap, me, &done))
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    let senders: Vec<_> = (0..SENDERS).map(|me| std::thread::spawn(move || send(smtp, me, until))).collect();
    let mut sent = [0; ACCOUNTS];
    for sender in senders {
        for (total, some) in sent.iter_mut().zip(sender.join().unwrap()) {
            *total += some;
        }
    }
    done.store(true, Ordering::Release);
    for (me, reader) in readers.into_iter().enumerate() {
        assert_eq!(reader.join().unwrap(), sent[me % ACCOUNTS], "account u{}", me % ACCOUNTS);
    }
    eprintln!("{} messages in {seconds} s", sent.iter().sum::<usize>());
    assert!(sent.iter().all(|count| *count > 0));
}
