//! Answers to challenges, kept in storage, so that any process that shares it can give them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use waxseal_storage::{Guard, Key, Storage, StorageError, Watch, keys};
use waxseal_tls::{ChallengeIdentity, Challenges};

use crate::name::Name;

/// Longest token that is looked up; CAs use 43 characters.
const MAX_TOKEN: usize = 128;
/// More answers than this are never open at once; what storage holds beyond is left alone.
const MAX_ANSWERS: usize = 10_000;
/// An answer that nobody has removed by now was left behind by a process that died. No authorization is pending longer.
const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is kept in storage: when, and one of the two.
#[derive(Serialize, Deserialize)]
struct Kept {
    unix: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_authorization: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

#[derive(Clone)]
enum Answer {
    Http(Arc<str>),
    Tls(ChallengeIdentity),
}

/// The open answers: put in place by whoever orders, given by whoever is asked.
///
/// Looking up is a read of memory, kept fresh by a watch on storage, so that listeners may do it for any request.
#[derive(Debug)]
pub struct Answers {
    storage: Arc<dyn Storage>,
    open: Arc<Open>,
    /// Ends with this.
    _watching: JoinSet<()>,
}

#[derive(Default)]
struct Open(RwLock<HashMap<Key, Answer>>);

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.0.read().unwrap_or_else(PoisonError::into_inner);
        write!(f, "{} answers", open.len())
    }
}

impl Answers {
    /// Reads the answers that are open, and follows changes from then on. Wants a tokio runtime around it.
    ///
    /// # Errors
    ///
    /// [`StorageError`] when storage cannot be read.
    pub async fn open(storage: Arc<dyn Storage>) -> Result<Arc<Self>, StorageError> {
        let open = Arc::new(Open::default());
        let mut watching = JoinSet::new();
        for place in [keys::HTTP_01, keys::TLS_ALPN_01] {
            let place = Key::new(place)?;
            // The watch first: what changes while the list is read is seen twice rather than never.
            let watch = storage.watch(&place);
            for key in storage.list(&place).await?.into_iter().take(MAX_ANSWERS) {
                open.read_again(&*storage, &key).await;
            }
            watching.spawn(follow(Arc::clone(&storage), Arc::clone(&open), watch));
        }
        Ok(Arc::new(Self { storage, open, _watching: watching }))
    }

    /// The body to answer `GET /.well-known/acme-challenge/TOKEN` with, as `application/octet-stream`
    /// (RFC 8555 section 8.3). `None` for what is no token or none of ours.
    #[must_use]
    pub fn http_01(&self, token: &str) -> Option<Arc<str>> {
        if !is_token(token) {
            return None;
        }
        match self.open.get(&keys::http_01(token).ok()?)? {
            Answer::Http(body) => Some(body),
            Answer::Tls(_) => None,
        }
    }

    /// The certificate for a client that says `sni` and offers `acme-tls/1` alone (RFC 8737 section 3; for an
    /// address the name is its reverse name, RFC 8738 section 6). `None` where no order asks for it.
    #[must_use]
    pub fn tls_alpn_01(&self, sni: &str) -> Option<ChallengeIdentity> {
        let sni = sni.strip_suffix('.').unwrap_or(sni).to_ascii_lowercase();
        match self.open.get(&keys::tls_alpn_01(&sni).ok()?)? {
            Answer::Tls(certificate) => Some(certificate),
            Answer::Http(_) => None,
        }
    }

    pub(crate) async fn post_http_01(
        &self,
        token: &str,
        key_authorization: &str,
    ) -> Result<(), StorageError> {
        if !is_token(token) {
            return Err(waxseal_storage::KeyError(token.to_owned()).into());
        }
        let kept = Kept {
            unix: now(),
            key_authorization: Some(key_authorization.to_owned()),
            certificate: None,
            key: None,
        };
        self.post(&keys::http_01(token)?, &kept).await
    }

    pub(crate) async fn post_tls_alpn_01(&self, name: &Name, digest: &[u8]) -> Result<(), PostError> {
        let (certificate, key) = challenge_certificate(name, digest)?;
        let kept = Kept {
            unix: now(),
            key_authorization: None,
            certificate: Some(BASE64_STANDARD.encode(certificate)),
            key: Some(BASE64_STANDARD.encode(key)),
        };
        Ok(self.post(&keys::tls_alpn_01(&name.sni()).map_err(StorageError::from)?, &kept).await?)
    }

    async fn post(&self, key: &Key, kept: &Kept) -> Result<(), StorageError> {
        let value = serde_json::to_vec(kept).unwrap_or_default();
        self.storage.put(key, &value, Guard::Always).await?;
        // At once, and not only when the watch says so: the CA may be quick.
        self.open.set(key, kept.answer());
        Ok(())
    }

    /// Takes an answer away. What cannot be deleted from storage now goes when it is [`STALE`].
    pub(crate) async fn withdraw(&self, key: &Key) {
        self.open.set(key, None);
        if let Err(error) = self.storage.delete(key, Guard::Always).await {
            tracing::warn!(%key, %error, "the answer to a challenge cannot be removed");
        }
    }
}

impl Challenges for Answers {
    fn answer(&self, sni: &str) -> Option<ChallengeIdentity> {
        self.tls_alpn_01(sni)
    }
}

/// Why an answer cannot be put in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the certificate that answers tls-alpn-01 cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

async fn follow(storage: Arc<dyn Storage>, open: Arc<Open>, mut watch: Watch) {
    loop {
        for key in watch.changed().await {
            open.read_again(&*storage, &key).await;
        }
    }
}

impl Open {
    fn get(&self, key: &Key) -> Option<Answer> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn set(&self, key: &Key, answer: Option<Answer>) {
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Some(answer) if open.len() < MAX_ANSWERS || open.contains_key(key) => {
                open.insert(key.clone(), answer);
            }
            _ => {
                open.remove(key);
            }
        }
    }

    async fn read_again(&self, storage: &dyn Storage, key: &Key) {
        let stored = match storage.get(key).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%key, %error, "the answer to a challenge cannot be read");
                return;
            }
        };
        let kept = stored.as_ref().and_then(|it| serde_json::from_slice::<Kept>(&it.value).ok());
        if kept.as_ref().is_some_and(|kept| now().saturating_sub(kept.unix) > STALE.as_secs()) {
            self.set(key, None);
            // Another process may be doing the same.
            let _ = storage.delete(key, Guard::Always).await;
            return;
        }
        self.set(key, kept.and_then(|kept| kept.answer()));
    }
}

impl Kept {
    fn answer(&self) -> Option<Answer> {
        if let Some(key_authorization) = &self.key_authorization {
            return Some(Answer::Http(key_authorization.as_str().into()));
        }
        let certificate = BASE64_STANDARD.decode(self.certificate.as_ref()?).ok()?;
        let key = BASE64_STANDARD.decode(self.key.as_ref()?).ok()?;
        Some(Answer::Tls(ChallengeIdentity { certificate, key }))
    }
}

/// Certificate and key, DER.
fn challenge_certificate(name: &Name, digest: &[u8]) -> Result<(Vec<u8>, Vec<u8>), rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_string()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}

/// RFC 8555 section 8.1: the base64url alphabet, without padding.
fn is_token(token: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(allowed)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use waxseal_storage::MemoryStorage;

    async fn two() -> (Arc<dyn Storage>, Arc<Answers>, Arc<Answers>) {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let one = Answers::open(Arc::clone(&storage)).await.expect("answers");
        let other = Answers::open(Arc::clone(&storage)).await.expect("answers");
        (storage, one, other)
    }

    async fn until(what: &str, done: impl Fn() -> bool) {
        for _ in 0..200 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} never happens");
    }

    #[tokio::test]
    async fn another_process_gives_the_answer_and_forgets_it_when_withdrawn() {
        let (_, one, other) = two().await;
        one.post_http_01("tok_en-1", "tok_en-1.thumb").await.expect("posted");
        assert_eq!(one.http_01("tok_en-1").as_deref(), Some("tok_en-1.thumb"));
        until("the answer", || other.http_01("tok_en-1").is_some()).await;
        one.withdraw(&keys::http_01("tok_en-1").expect("a key")).await;
        assert_eq!(one.http_01("tok_en-1"), None);
        until("the end", || other.http_01("tok_en-1").is_none()).await;
    }

    #[tokio::test]
    async fn answers_left_open_are_given_by_the_next_process() {
        let (storage, one, _) = two().await;
        let name = Name::parse("192.0.2.7").expect("a name");
        one.post_tls_alpn_01(&name, &[7; 32]).await.expect("posted");
        let later = Answers::open(storage).await.expect("answers");
        assert!(later.tls_alpn_01("7.2.0.192.IN-ADDR.arpa.").is_some());
        assert!(later.tls_alpn_01("192.0.2.7").is_none());
        assert!(later.http_01("7").is_none());
    }

    #[tokio::test]
    async fn an_answer_left_behind_long_ago_is_swept_away() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let key = keys::http_01("old").expect("a key");
        let old = Kept { unix: 1, key_authorization: Some("old.x".into()), certificate: None, key: None };
        let value = serde_json::to_vec(&old).expect("JSON");
        storage.put(&key, &value, Guard::Always).await.expect("put");
        let answers = Answers::open(Arc::clone(&storage)).await.expect("answers");
        assert_eq!(answers.http_01("old"), None);
        assert!(storage.get(&key).await.expect("get").is_none());
    }

    #[tokio::test]
    async fn what_is_no_token_is_not_even_looked_up() {
        let (_, one, _) = two().await;
        let long = "a".repeat(MAX_TOKEN + 1);
        for wrong in ["", "../accounts/x", "a/b", "a.b", "a b", "%2e", "a\0", "ä", &long] {
            assert_eq!(one.http_01(wrong), None, "{wrong}");
            assert!(one.post_http_01(wrong, "x").await.is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn garbage_in_storage_is_no_answer_and_no_harm() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        for (key, value) in [("a", &b"{"[..]), ("b", b"{\"unix\":99999999999}"), ("c", b"\xff")] {
            storage.put(&keys::http_01(key).expect("a key"), value, Guard::Always).await.expect("put");
        }
        let answers = Answers::open(storage).await.expect("answers");
        assert!(["a", "b", "c"].iter().all(|token| answers.http_01(token).is_none()));
    }
}
