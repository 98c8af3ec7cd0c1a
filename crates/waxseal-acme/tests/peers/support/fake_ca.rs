//! A CA that does as the test says: everything right, or one step wrong. It believes every signature and every proof.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Directory,
    Nonce,
    Account,
    NewOrder,
    Order,
    Authorization,
    Challenge,
    Finalize,
    Certificate,
    RenewalInfo,
}

/// What the CA does instead of the right thing.
#[derive(Clone, Debug)]
pub(crate) enum Mood {
    /// Status, further headers, body.
    Answer(&'static str, &'static str, &'static str),
    /// Takes the request and says nothing, ever.
    Hang,
    /// The right answer with these fields changed.
    With(Value),
    /// A certificate for another key.
    OtherKey,
}

#[derive(Default)]
struct State {
    moods: HashMap<Step, (Mood, u32)>,
    asked: Vec<(Step, Value)>,
    order: Value,
    authorization: &'static str,
    chain: String,
}

pub(crate) struct FakeCa {
    pub(crate) directory: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for FakeCa {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeCa {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State { authorization: "pending", ..State::default() }));
        let (shared, here) = (Arc::clone(&state), base.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), here.clone()));
            }
        });
        Self { directory: format!("{base}/directory"), state, task }
    }

    /// From now on, for so many requests.
    pub(crate) fn mood(&self, step: Step, mood: Mood, times: u32) {
        self.state.lock().expect("state").moods.insert(step, (mood, times));
    }

    /// What was sent for a step, each time.
    pub(crate) fn asked(&self, step: Step) -> Vec<Value> {
        let state = self.state.lock().expect("state");
        state.asked.iter().filter(|(asked, _)| *asked == step).map(|(_, payload)| payload.clone()).collect()
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>, base: String) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_head = line.starts_with("HEAD");
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await?;
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let Some((status, headers, body)) = answer(&state, &base, &path, &body) else {
            return std::future::pending().await;
        };
        let sent = if is_head { "" } else { body.as_str() };
        let head = format!(
            "HTTP/1.1 {status}\r\nReplay-Nonce: bm9uY2U\r\n{headers}Content-Length: {}\r\n\r\n{sent}",
            sent.len()
        );
        stream.write_all(head.as_bytes()).await?;
    }
}

fn answer(state: &Mutex<State>, base: &str, path: &str, body: &[u8]) -> Option<(String, String, String)> {
    let step = match path {
        "/directory" => Step::Directory,
        "/nonce" => Step::Nonce,
        "/account" => Step::Account,
        "/new-order" => Step::NewOrder,
        "/order" => Step::Order,
        "/authorization" => Step::Authorization,
        "/challenge" => Step::Challenge,
        "/finalize" => Step::Finalize,
        "/certificate" => Step::Certificate,
        _ => Step::RenewalInfo,
    };
    let payload = payload(body);
    let mut state = state.lock().expect("state");
    state.asked.push((step, payload.clone()));
    let mood = state.moods.get_mut(&step).and_then(|(mood, times)| {
        *times = times.checked_sub(1)?;
        Some(mood.clone())
    });
    match &mood {
        Some(Mood::Answer(status, headers, body)) => {
            return Some(((*status).to_owned(), (*headers).to_owned(), (*body).to_owned()));
        }
        Some(Mood::Hang) => return None,
        _ => {}
    }
    let other_key = matches!(mood, Some(Mood::OtherKey));
    let (headers, right) = state.right(step, base, &payload, other_key);
    let right = match (right, mood) {
        (Ok(mut value), Some(Mood::With(changes))) => {
            for (name, change) in changes.as_object().expect("an object") {
                value[name] = change.clone();
            }
            if step == Step::NewOrder {
                state.order = value.clone();
            }
            value.to_string()
        }
        (Ok(value), _) => value.to_string(),
        (Err(text), _) => text,
    };
    let status = if step == Step::NewOrder || step == Step::Account { "201 Created" } else { "200 OK" };
    Some((status.to_owned(), headers, right))
}

impl State {
    /// Headers, and JSON or text.
    fn right(
        &mut self,
        step: Step,
        base: &str,
        payload: &Value,
        other_key: bool,
    ) -> (String, Result<Value, String>) {
        let at = |path: &str| format!("{base}/{path}");
        let location = |path: &str| format!("Location: {base}/{path}\r\n");
        match step {
            Step::Directory => (
                String::new(),
                Ok(json!({
                    "newNonce": at("nonce"), "newAccount": at("account"), "newOrder": at("new-order"),
                    "renewalInfo": at("ari"), "meta": { "profiles": { "shortlived": "six days" } },
                })),
            ),
            Step::Nonce => (String::new(), Err(String::new())),
            Step::Account => (location("account/1"), Ok(json!({ "status": "valid" }))),
            Step::NewOrder => {
                self.authorization = "pending";
                self.order = payload.clone();
                self.order["status"] = json!("pending");
                self.order["authorizations"] = json!([at("authorization")]);
                self.order["finalize"] = json!(at("finalize"));
                (location("order"), Ok(self.order.clone()))
            }
            Step::Order => (String::new(), Ok(self.order.clone())),
            Step::Authorization => (
                String::new(),
                Ok(json!({
                    "identifier": self.order["identifiers"][0], "status": self.authorization,
                    "challenges": [{ "type": "http-01", "url": at("challenge"), "token": "t0ken", "status": "pending" }],
                })),
            ),
            Step::Challenge => {
                self.authorization = "valid";
                self.order["status"] = json!("ready");
                let url = at("challenge");
                (
                    String::new(),
                    Ok(json!({ "type": "http-01", "url": url, "token": "t0ken", "status": "processing" })),
                )
            }
            Step::Finalize => {
                let csr = payload["csr"].as_str().expect("a request");
                self.chain = sign(&BASE64_URL_SAFE_NO_PAD.decode(csr).expect("base64url"), other_key);
                self.order["status"] = json!("valid");
                self.order["certificate"] = json!(at("certificate"));
                (String::new(), Ok(self.order.clone()))
            }
            Step::Certificate => (String::new(), Err(self.chain.clone())),
            Step::RenewalInfo => (
                "Retry-After: 21600\r\n".to_owned(),
                Ok(json!({
                    "suggestedWindow": { "start": "2026-11-24T00:00:00Z", "end": "2026-11-26T12:00:00+02:00" },
                    "explanationURL": "https://ca.example/why",
                })),
            ),
        }
    }
}

fn payload(body: &[u8]) -> Value {
    let jws: Value = serde_json::from_slice(body).unwrap_or_default();
    let payload = jws["payload"].as_str().unwrap_or_default();
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&payload).unwrap_or_default()
}

fn sign(csr: &[u8], other_key: bool) -> String {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(params, KeyPair::generate().expect("a key"));
    let mut request = CertificateSigningRequestParams::from_der(&csr.into()).expect("a request");
    request.params.use_authority_key_identifier_extension = true;
    if other_key {
        let key = KeyPair::generate().expect("a key");
        return request.params.signed_by(&key, &issuer).expect("a certificate").pem();
    }
    request.signed_by(&issuer).expect("a certificate").pem()
}
