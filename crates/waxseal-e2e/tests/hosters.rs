//! dns-01 through Cloudflare's API, as its documentation describes it: a stand-in behind a proxy, at the real address.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use waxseal_e2e::{Door, Fake, Ground, KeyKind, NAME, Pebble, Pki, SClient, run, within};

const RECORD: &str = "_acme-challenge.mail.example.test";
const ZONE: &str = "zone-of-example-test";
const TOKEN: &str = "cf-token-1f2e3d4c";
const GLOBAL_KEY: &str = "cf-global-9a8b7c6d";
const EMAIL: &str = "admin@example.test";

/// The API, and the records it holds.
struct Cloudflare {
    proxy: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Identifier, name, content.
    records: Vec<(String, String, String)>,
    /// Method and path of every request.
    asked: Vec<String>,
    made: usize,
}

impl Cloudflare {
    /// Shows records to whoever asks the name server that `shown_at` manages.
    fn start(pki: &Pki, shown_at: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let proxy = listener.local_addr().expect("an address");
        let server = pki.leaf(KeyKind::Ecdsa, &["api.cloudflare.com"]).server();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (server, state) = (Arc::clone(&server), Arc::clone(&shared));
                std::thread::spawn(move || serve(stream, server, &state, shown_at));
            }
        });
        Self { proxy, state }
    }

    fn asked(&self) -> Vec<String> {
        self.state.lock().expect("state").asked.clone()
    }

    fn records(&self) -> usize {
        self.state.lock().expect("state").records.len()
    }
}

/// One request's first line, its headers in lower case, and its body.
fn request(stream: &mut impl BufRead) -> Option<(String, String, Vec<u8>)> {
    let (mut first, mut headers) = (String::new(), String::new());
    stream.read_line(&mut first).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push_str(&format!("{}:{}\n", name.to_ascii_lowercase(), value.trim()));
    }
    let length = headers.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    stream.read_exact(&mut body).ok()?;
    Some((first, headers, body))
}

fn serve(stream: TcpStream, server: Arc<ServerConfig>, state: &Mutex<State>, shown_at: SocketAddr) {
    let mut plain = BufReader::new(stream);
    let Some((first, ..)) = request(&mut plain) else { return };
    assert!(first.starts_with("CONNECT api.cloudflare.com:443 "), "{first}");
    let mut stream = plain.into_inner();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("written");
    let session = ServerConnection::new(server).expect("a session");
    let mut tls = BufReader::new(StreamOwned::new(session, stream));
    while let Some((first, headers, body)) = request(&mut tls) {
        let (status, answer) = answer(&first, &headers, &body, state, shown_at);
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        if tls.get_mut().write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(
    first: &str,
    headers: &str,
    body: &[u8],
    state: &Mutex<State>,
    shown_at: SocketAddr,
) -> (&'static str, Value) {
    let mut words = first.split(' ');
    let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
    let done = |result: Value| {
        ("200 OK", json!({ "success": true, "errors": [], "messages": [], "result": result }))
    };
    let has = |line: String| headers.lines().any(|header| header == line);
    let by_token = has(format!("authorization:Bearer {TOKEN}"));
    let by_key = has(format!("x-auth-email:{EMAIL}")) && has(format!("x-auth-key:{GLOBAL_KEY}"));
    if !by_token && !by_key {
        let error = json!({ "success": false, "result": null, "errors": [{ "code": 9109, "message": "Invalid access token" }] });
        return ("403 Forbidden", error);
    }
    let path = path.strip_prefix("/client/v4").expect("the API's version");
    let mut state = state.lock().expect("state");
    state.asked.push(format!("{method} {}", path.split('?').next().expect("a path")));
    let show = |verb: &str, value: Value| {
        let _ = run("curl", &["-sf", &format!("http://{shown_at}/{verb}"), "-d", &value.to_string()]).ok();
    };
    let records = format!("/zones/{ZONE}/dns_records");
    match method {
        "GET" if path.starts_with("/zones?") => {
            let ours = path.contains("name=example.test");
            done(if ours { json!([{ "id": ZONE, "name": "example.test" }]) } else { json!([]) })
        }
        "GET" if path.starts_with(&records) => {
            assert!(path.contains("type=TXT") && path.contains(&format!("name={RECORD}")), "{path}");
            let each = |(id, name, content): &(String, String, String)| json!({ "id": id, "type": "TXT", "name": name, "content": content });
            let all: Vec<Value> = state.records.iter().map(each).collect();
            done(all.into())
        }
        "POST" if path == records => {
            let record: Value = serde_json::from_slice(body).expect("JSON");
            assert_eq!((&record["type"], &record["name"]), (&json!("TXT"), &json!(RECORD)));
            let content = record["content"].as_str().expect("content").to_owned();
            show("set-txt", json!({ "host": format!("{RECORD}."), "value": content.trim_matches('"') }));
            state.made += 1;
            let id = format!("record-{}", state.made);
            state.records.push((id.clone(), RECORD.to_owned(), content));
            done(json!({ "id": id }))
        }
        "DELETE" => {
            let id = path.strip_prefix(&format!("{records}/")).expect("a record");
            state.records.retain(|(other, ..)| other != id);
            if state.records.is_empty() {
                show("clear-txt", json!({ "host": format!("{RECORD}.") }));
            }
            done(json!({ "id": id }))
        }
        _ => panic!("{first}"),
    }
}

fn configuration(pebble: &Pebble, credentials: &str) -> String {
    pebble.door(&format!(
        "[acme.test]\nCA\ndomains = [\"{NAME}\", \"*.{NAME}\"]\nchallenge = \"dns-01\"\nprovider = \"cloudflare\"\n\
         origin = \"example.test\"\npolling-interval = \"1s\"\n{credentials}\n"
    ))
}

/// A door that reaches the API through the proxy, and its certificate's verification by a client.
fn door(ground: &Ground, pki: &Pki, cloudflare: &Cloudflare, configuration: &str) -> Door {
    let proxy = format!("http://{}", cloudflare.proxy);
    Door::start_in(ground, configuration, &[("HTTPS_PROXY", &proxy), ("SSL_CERT_FILE", pki.ca_path())])
}

fn issues_with(credentials: &str) {
    let ground = Ground::new();
    let pki = Pki::new(&ground);
    let pebble = Pebble::start(&ground, 30 * 86_400);
    let cloudflare = Cloudflare::start(&pki, pebble.records());
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let door = door(&ground, &pki, &cloudflare, &configuration(&pebble, credentials));
    within(Duration::from_secs(40), "a certificate", || {
        let client = SClient::new(pebble.at(443)).args(&["-CAfile", pebble.roots()]);
        let name = format!("imap.{NAME}");
        client.args(&["-servername", &name, "-verify_hostname", &name]).run().verified.then_some(())
    });
    within(Duration::from_secs(5), "cleaning up", || (cloudflare.records() == 0).then_some(()));
    let asked = cloudflare.asked();
    let count = |method: &str| asked.iter().filter(|request| request.starts_with(method)).count();
    assert_eq!((count("POST"), count("DELETE")), (2, 2), "a name and its wildcard: {asked:?}");
    for secret in [TOKEN, GLOBAL_KEY] {
        assert!(!door.log().contains(secret), "{}", door.log());
    }
}

#[test]
fn a_token_of_cloudflares_brings_a_wildcard_and_its_records_are_removed() {
    issues_with(&format!("secret = \"{TOKEN}\""));
}

#[test]
fn the_old_global_key_of_cloudflares_does_too() {
    issues_with(&format!("email = \"{EMAIL}\"\nsecret = \"{GLOBAL_KEY}\""));
}

#[test]
fn a_token_that_cloudflare_does_not_know_is_told_and_the_ca_is_not_asked_to_look() {
    let ground = Ground::new();
    let pki = Pki::new(&ground);
    let pebble = Pebble::start(&ground, 30 * 86_400);
    let cloudflare = Cloudflare::start(&pki, pebble.records());
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let wrong = "cf-token-of-somebody-else";
    let text = configuration(&pebble, &format!("secret = \"{wrong}\""));
    let door = door(&ground, &pki, &cloudflare, &text);
    let said = door.wait_log("Cloudflare did not add the record");
    assert!(said.contains("Invalid access token") && said.contains("`secret` must be right"), "{said}");
    assert!(!door.log().contains(wrong), "{}", door.log());
}
