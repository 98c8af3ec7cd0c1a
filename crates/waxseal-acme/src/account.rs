//! The account at a CA: made once for each CA and set of contacts, whoever else is starting at the same moment and
//! wherever a crash falls.
//!
//! Its key is kept before the CA hears of it, for a CA answers a second registration of a key with the account it
//! made for the first (RFC 8555 section 7.3.1). The library's way to register either makes the key itself or takes
//! neither contacts nor an external account, and it reads no list of orders, so that these requests are written here.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use aws_lc_rs::{error::Unspecified, hmac};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use hyper::header::LOCATION;
use instant_acme::Account;
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use waxseal_storage::{Guard, Key, Lease, Storage, StorageError, Stored, keys};
use zeroize::Zeroizing;

use crate::directory::Directory;
use crate::http::{Http, HttpError, Reply, Wire};
use crate::issuer::{Fault, IssueError, Stage};
use crate::settings::Eab;
use crate::words;

/// For one registration; another process may take over after it.
const LEASE: Duration = Duration::from_secs(120);
/// How long another process that registers is waited for, and how often it is looked at.
const WAIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(250);
/// A CA that refuses this many nonces of its own in a row is broken.
pub(crate) const MAX_NONCES: u32 = 12;

/// What is kept: the key always, the address once the CA has given it.
#[derive(Serialize, Deserialize)]
struct Kept {
    key: Zeroizing<String>,
    #[serde(default)]
    id: Option<String>,
}

/// An account, ready for orders.
pub(crate) struct Open {
    pub(crate) account: Account,
    /// See [`Wire::made`].
    pub(crate) made: Arc<Mutex<Option<String>>>,
    key: Zeroizing<Vec<u8>>,
}

/// Where accounts are kept, and what is told to the CA.
#[derive(Debug)]
pub(crate) struct Accounts<'a> {
    pub(crate) http: &'a Http,
    pub(crate) storage: &'a dyn Storage,
    pub(crate) contact: &'a [String],
    pub(crate) eab: Option<&'a Eab>,
}

impl Accounts<'_> {
    /// The account at the CA of `directory`, made if there is none.
    pub(crate) async fn open(&self, directory: &Directory) -> Result<Open, IssueError> {
        let place = self.place(directory)?;
        let kept = match self.read(&place).await?.and_then(|it| known(&it)) {
            Some(kept) => kept,
            None => self.make(directory, &place).await?,
        };
        let (id, key): Known = kept;
        let wire = Wire::new(self.http.clone());
        let made = wire.made();
        let builder = Account::builder_with_http(Box::new(wire));
        let account = builder.from_parts(id, PrivatePkcs8KeyDer::from(key.as_slice()), directory.url.clone());
        let account = account.await.map_err(|e| words::refused(Stage::Account, &e))?;
        Ok(Open { account, made, key })
    }

    /// The account's address, if it is made already and storage can be read.
    pub(crate) async fn address(&self, directory: &Directory) -> Option<String> {
        let stored = self.read(&self.place(directory).ok()?).await.ok()??;
        known(&stored).map(|(id, _)| id)
    }

    /// Asks for a document of the account's own (RFC 8555 section 6.3), of a kind that the library does not know.
    pub(crate) async fn ask(
        &self,
        directory: &Directory,
        open: &Open,
        url: &str,
    ) -> Result<Reply, IssueError> {
        let key = key_pair(&open.key)?;
        self.send(directory, url, &key, json!({ "kid": open.account.id() }), "").await
    }

    /// Forgets the account's address, for the CA no longer knows it; the next [`open`](Self::open) registers again.
    pub(crate) async fn forget(&self, directory: &Directory) -> Result<(), IssueError> {
        let place = self.place(directory)?;
        if let Some(stored) = self.read(&place).await? {
            let removed = self.storage.delete(&place, Guard::Unchanged(stored.revision)).await;
            match removed {
                // Somebody else was told the same and has made a new one.
                Err(StorageError::Conflict(_)) | Ok(_) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(())
    }

    fn place(&self, directory: &Directory) -> Result<Key, IssueError> {
        keys::account(&directory.url, self.contact).map_err(|e| failed(&e.into()))
    }

    async fn read(&self, place: &Key) -> Result<Option<Stored>, IssueError> {
        self.storage.get(place).await.map_err(|e| failed(&e))
    }

    /// Registers under the account's lease, unless another process has by now.
    async fn make(&self, directory: &Directory, place: &Key) -> Result<Known, IssueError> {
        if directory.meta.external_account_required && self.eab.is_none() {
            let said = format!(
                "{} takes only accounts that it knows already: set eab.kid and eab.hmac-key to what the CA gave you",
                directory.url
            );
            return Err(IssueError::new(Stage::Account, Fault::Configuration, said));
        }
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            if let Some(lease) = self.storage.acquire(place, LEASE).await.map_err(|e| failed(&e))? {
                let made = self.make_leased(directory, place, &lease).await;
                if let Err(error) = self.storage.release(lease).await {
                    tracing::warn!("{error}");
                }
                return made;
            }
            if tokio::time::Instant::now() > deadline {
                let said = format!("another process has been registering at {} for too long", directory.url);
                return Err(IssueError::new(Stage::Account, Fault::Storage, said));
            }
            tokio::time::sleep(PAUSE).await;
            if let Some(known) = self.read(place).await?.and_then(|it| known(&it)) {
                return Ok(known);
            }
        }
    }

    async fn make_leased(
        &self,
        directory: &Directory,
        place: &Key,
        lease: &Lease,
    ) -> Result<Known, IssueError> {
        let kept = self.read(place).await?;
        if let Some(known) = kept.as_ref().and_then(known) {
            return Ok(known);
        }
        let was_there = kept.is_some();
        let kept = kept.and_then(|it| serde_json::from_slice::<Kept>(&it.value).ok());
        let key = match kept.and_then(|kept| usable(&kept.key)) {
            Some(key) => key,
            None => {
                if was_there {
                    let at = self.storage.place();
                    tracing::error!("{at}/{place} holds no account that could be used; another is made");
                }
                let made =
                    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
                let key = Zeroizing::new(made.map_err(|_| no_key())?.as_ref().to_vec());
                self.keep(place, lease, &key, None).await?;
                key
            }
        };
        let id = self.register(directory, &key).await?;
        self.keep(place, lease, &key, Some(&id)).await?;
        tracing::info!(account = id, "registered at {}", directory.url);
        Ok((id, key))
    }

    async fn keep(&self, place: &Key, lease: &Lease, key: &[u8], id: Option<&str>) -> Result<(), IssueError> {
        let key = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(key));
        let kept = Kept { key, id: id.map(str::to_owned) };
        let value = Zeroizing::new(serde_json::to_vec(&kept).unwrap_or_default());
        self.storage.put(place, &value, Guard::Held(lease)).await.map(drop).map_err(|e| failed(&e))
    }

    /// Asks for an account (RFC 8555 section 7.3); its address.
    async fn register(&self, directory: &Directory, key: &[u8]) -> Result<String, IssueError> {
        let key = key_pair(key)?;
        let url = &directory.new_account;
        let mut payload = json!({ "termsOfServiceAgreed": true, "contact": self.contact });
        if let Some(eab) = self.eab {
            payload["externalAccountBinding"] = bind(eab, &jwk(&key), url);
        }
        if let Some(terms) = &directory.meta.terms_of_service {
            tracing::info!(%terms, "agreeing to the terms of service of {}", directory.url);
        }
        let who = json!({ "jwk": jwk(&key) });
        let reply = self.send(directory, url, &key, who, &payload.to_string()).await?;
        let id = reply.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let id = id.filter(|id| !id.is_empty());
        id.map(str::to_owned).ok_or_else(|| {
            let said = format!("{url} made an account but does not say where it is");
            IssueError::new(Stage::Account, Fault::Ca, said)
        })
    }

    /// Sends a signed request (RFC 8555 section 6.2), again for as long as only its nonce is refused. `who`: the key or
    /// its account, as a header names them.
    async fn send(
        &self,
        directory: &Directory,
        url: &str,
        key: &EcdsaKeyPair,
        who: Value,
        payload: &str,
    ) -> Result<Reply, IssueError> {
        let mut protected = who;
        protected["alg"] = json!("ES256");
        protected["url"] = json!(url);
        let mut refusals = 0;
        loop {
            protected["nonce"] = json!(nonce(self.http, &directory.new_nonce).await?);
            let sign = |text: &[u8]| key.sign(&SystemRandom::new(), text).map(|it| it.as_ref().to_vec());
            let body = jws(&protected, payload, sign).map_err(|_| no_key())?;
            match self.http.post_jose(url, body.to_string().into_bytes()).await {
                Ok(reply) => return Ok(reply),
                Err(error) if error.is_stale_nonce() && refusals < MAX_NONCES => refusals += 1,
                Err(error) => return Err(words::unanswered(Stage::Account, &error)),
            }
        }
    }
}

fn failed(error: &StorageError) -> IssueError {
    words::storage(Stage::Account, error)
}

/// Address and key of an account.
type Known = (String, Zeroizing<Vec<u8>>);

fn known(stored: &Stored) -> Option<Known> {
    let kept: Kept = serde_json::from_slice(&stored.value).ok()?;
    Some((kept.id?, usable(&kept.key)?))
}

/// The key, if it is one.
fn usable(key: &str) -> Option<Zeroizing<Vec<u8>>> {
    let key = BASE64_URL_SAFE_NO_PAD.decode(key).ok().map(Zeroizing::new)?;
    key_pair(&key).is_ok().then_some(key)
}

fn key_pair(key: &[u8]) -> Result<EcdsaKeyPair, IssueError> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key).map_err(|_| no_key())
}

fn no_key() -> IssueError {
    IssueError::new(Stage::Account, Fault::Internal, "the account's key cannot be made or used")
}

async fn nonce(http: &Http, url: &str) -> Result<String, IssueError> {
    let reply: Result<_, HttpError> = http.head(url).await;
    let reply = reply.map_err(|e| words::unanswered(Stage::Account, &e))?;
    let nonce = reply.headers.get("replay-nonce").and_then(|value| value.to_str().ok());
    nonce.map(str::to_owned).ok_or_else(|| {
        IssueError::new(Stage::Account, Fault::Ca, format!("{url} gives no nonce (Replay-Nonce)"))
    })
}

/// A signature over both, as flattened JSON (RFC 7515 section 7.2.2).
fn jws(
    protected: &Value,
    payload: &str,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Unspecified>,
) -> Result<Value, Unspecified> {
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let (protected, payload) = (encode(&protected.to_string()), encode(payload));
    let signature = sign(format!("{protected}.{payload}").as_bytes())?;
    let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
    Ok(json!({ "protected": protected, "payload": payload, "signature": signature }))
}

/// RFC 7518 section 6.2.1; the point is 0x04, x and y of 32 bytes each.
fn jwk(key: &EcdsaKeyPair) -> Value {
    let point = key.public_key().as_ref().get(1..).unwrap_or_default();
    let (x, y) = point.split_at(point.len() / 2);
    let encode = |half: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(half);
    json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
}

/// RFC 8555 section 7.3.4.
fn bind(eab: &Eab, jwk: &Value, url: &str) -> Value {
    let protected = json!({ "alg": "HS256", "kid": eab.kid, "url": url });
    let key = hmac::Key::new(hmac::HMAC_SHA256, &eab.hmac_key);
    let bound = jws(&protected, &jwk.to_string(), |text| Ok(hmac::sign(&key, text).as_ref().to_vec()));
    bound.unwrap_or_default()
}
