//! HTTP towards a CA: whom to trust there, how long to wait, how much to take, and what a refusal says.
//!
//! The ACME library speaks through [`Wire`]. It would hide the status, `Retry-After` and `Link` of a refusal, wait
//! for ever and take answers of any size; all of that is settled here, and an error carries what the CA said.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LINK, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error as AcmeError, HttpClient};
use rustls::ClientConfig;

use crate::dns::Dns;
use crate::problem::Problem;
use crate::roots::{Roots, RootsError};

/// How long a CA may take to answer one request; validation at a CA is waited for by asking again, not by holding on.
const ANSWER_TIME: Duration = Duration::from_secs(30);
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A certificate chain takes 10 KiB, a directory one; nothing a CA answers comes near this.
const MAX_ANSWER: usize = 1 << 20;
/// As a CA's operators see us (RFC 8555 section 6.1).
const AGENT: &str = concat!("waxseal/", env!("CARGO_PKG_VERSION"), " (instant-acme)");

/// Why a CA gave no usable answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection, or it broke.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The causes, outermost first.
        why: String,
    },
    /// Reached, but whoever is there does not prove to be the CA.
    #[error(
        "{url} shows a certificate that is not trusted ({why}); for a private CA set ca to the root certificate of its HTTPS"
    )]
    Untrusted {
        /// What was asked for.
        url: String,
        /// What is wrong with the certificate.
        why: String,
    },
    /// Connected, and then silence.
    #[error("{url} gave no answer within {} s", after.as_secs())]
    TooSlow {
        /// What was asked for.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// More than any ACME answer.
    #[error("{url} answered with more than {limit} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// How much would have been taken.
        limit: usize,
    },
    /// A refusal without a problem document.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status with its words.
        status: StatusCode,
        /// When to ask again.
        retry_after: Option<SystemTime>,
    },
    /// A refusal with its reasons (RFC 8555 section 6.7).
    #[error("{problem}")]
    Problem {
        /// The reasons.
        problem: Box<Problem>,
        /// When to ask again.
        retry_after: Option<SystemTime>,
    },
}

impl HttpError {
    /// When the CA says that it may be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<SystemTime> {
        match self {
            Self::Status { retry_after, .. } | Self::Problem { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What came back from a plain GET.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The body.
    pub body: Bytes,
    /// The CA's clock.
    pub date: Option<SystemTime>,
    /// When the CA says to ask again.
    pub retry_after: Option<SystemTime>,
    pub(crate) headers: HeaderMap,
}

/// A client for HTTP over TLS (and HTTP/1.1 only: a CA is asked a dozen things in two months).
#[derive(Clone)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector<Lookup>>, Full<Bytes>>,
    patience: Duration,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Reply {
    /// The target of its link of that relation (RFC 8288).
    pub(crate) fn link(&self, relation: &str) -> Option<String> {
        linked(&self.headers, relation)
    }
}

impl Http {
    /// A client that believes `roots`. `dns` is asked for the CA's address where it was set on purpose, else the
    /// system is.
    ///
    /// # Errors
    ///
    /// [`RootsError`].
    pub fn new(roots: &Roots, dns: &Dns) -> Result<Self, RootsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots.read()?)
            .with_no_client_auth();
        let lookup = if dns.is_our_own() { Lookup::Own(Arc::new(dns.clone())) } else { Lookup::System };
        let mut connector = HttpConnector::new_with_resolver(lookup);
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIME));
        // Plain HTTP stays possible for a CA on the same machine; the configuration says what it says.
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, patience: ANSWER_TIME })
    }

    /// The same, waiting no longer than `patience` for an answer.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Asks for a document.
    ///
    /// # Errors
    ///
    /// [`HttpError`]; any status but 2xx is one.
    pub async fn get(&self, url: &str) -> Result<Reply, HttpError> {
        self.send(Method::GET, url, None).await
    }

    /// Asks for the headers of a document alone.
    pub(crate) async fn head(&self, url: &str) -> Result<Reply, HttpError> {
        self.send(Method::HEAD, url, None).await
    }

    /// Sends a signed request (RFC 8555 section 6.2).
    pub(crate) async fn post_jose(&self, url: &str, body: Vec<u8>) -> Result<Reply, HttpError> {
        self.send(Method::POST, url, Some(body)).await
    }

    async fn send(&self, method: Method, url: &str, body: Option<Vec<u8>>) -> Result<Reply, HttpError> {
        let mut request = Request::builder().method(method).uri(url);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/jose+json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|e| HttpError::Unreachable { url: url.to_owned(), why: e.to_string() })?;
        let (parts, body) = self.exchange(request).await?;
        let reply = Reply {
            body,
            date: date(&parts.headers, &DATE),
            retry_after: retry_after(&parts.headers),
            headers: parts.headers,
        };
        if parts.status.is_success() { Ok(reply) } else { Err(refusal(url, parts.status, &reply)) }
    }

    /// One request and its whole answer, whatever its status.
    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(hyper::http::response::Parts, Bytes), HttpError> {
        let url = request.uri().to_string();
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let whole = async {
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|e| no_answer(&url, &e))?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| {
                if e.is::<LengthLimitError>() {
                    HttpError::TooLong { url: url.clone(), limit: MAX_ANSWER }
                } else {
                    HttpError::Unreachable { url: url.clone(), why: causes(e.as_ref()) }
                }
            })?;
            Ok((parts, body.to_bytes()))
        };
        match tokio::time::timeout(self.patience, whole).await {
            Ok(done) => done,
            Err(_) => Err(HttpError::TooSlow { url: url.clone(), after: self.patience }),
        }
    }
}

/// The library's way to HTTP. A refusal ends its step with an [`HttpError`] inside, except for a stale nonce
/// (RFC 8555 section 6.5), which the library mends itself.
#[derive(Debug)]
pub(crate) struct Wire {
    http: Http,
    made: Arc<Mutex<Option<String>>>,
}

impl Wire {
    pub(crate) fn new(http: Http) -> Self {
        Self { http, made: Arc::default() }
    }

    /// The address of what was made last: of an order that the library has no answer for but an error.
    pub(crate) fn made(&self) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.made)
    }
}

impl HttpClient for Wire {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, AcmeError>> + Send>> {
        let (http, made) = (self.http.clone(), Arc::clone(&self.made));
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url = parts.uri.to_string();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let sent = http.exchange(Request::from_parts(parts, Full::new(body))).await;
            let (parts, body) = sent.map_err(|e| AcmeError::Other(Box::new(e)))?;
            if !parts.status.is_success() {
                let reply = Reply {
                    body: body.clone(),
                    date: None,
                    retry_after: retry_after(&parts.headers),
                    headers: parts.headers.clone(),
                };
                let error = refusal(&url, parts.status, &reply);
                if !error.is_stale_nonce() {
                    return Err(AcmeError::Other(Box::new(error)));
                }
            }
            if parts.status == StatusCode::CREATED {
                let place = parts.headers.get(LOCATION).and_then(|value| value.to_str().ok());
                *made.lock().unwrap_or_else(PoisonError::into_inner) = place.map(str::to_owned);
            }
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

impl HttpError {
    /// Whether the request was refused for its nonce alone, so that the same may be sent again with another.
    pub(crate) fn is_stale_nonce(&self) -> bool {
        matches!(self, Self::Problem { problem, .. } if problem.is("badNonce"))
    }
}

fn refusal(url: &str, status: StatusCode, reply: &Reply) -> HttpError {
    let retry_after = reply.retry_after;
    match Problem::read(&reply.body) {
        Some(mut problem) => {
            problem.help = linked(&reply.headers, "help");
            HttpError::Problem { problem: Box::new(problem), retry_after }
        }
        None => HttpError::Status { url: url.to_owned(), status, retry_after },
    }
}

fn no_answer(url: &str, error: &(dyn StdError + 'static)) -> HttpError {
    let url = url.to_owned();
    match distrust(error) {
        Some(why) => HttpError::Untrusted { url, why },
        None => HttpError::Unreachable { url, why: causes(error) },
    }
}

/// What is wrong with the other side's certificate, if that is the cause.
fn distrust(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
        return Some(why.to_string());
    }
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // Its `source` would be the source of what it holds.
        Some(held) => distrust(held),
        None => distrust(error.source()?),
    }
}

/// The target of the `Link` header of that relation (RFC 8288).
fn linked(headers: &HeaderMap, relation: &str) -> Option<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|value| value.split(',')).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let related = parameters.split(';').map(str::trim).any(|parameter| {
            parameter.strip_prefix("rel=").is_some_and(|rel| rel.trim_matches('"') == relation)
        });
        related.then(|| target.to_owned())
    })
}

/// RFC 9110 section 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<SystemTime> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u32>() {
        Ok(seconds) => SystemTime::now().checked_add(Duration::from_secs(seconds.into())),
        Err(_) => httpdate::parse_http_date(value).ok(),
    }
}

fn date(headers: &HeaderMap, name: &hyper::header::HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// An error with all its causes. The outermost of a failed connection says only "client error (Connect)".
pub(crate) fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Many wrappers repeat what they wrap.
        if !said.iter().any(|earlier| earlier.contains(&text)) {
            said.retain(|earlier| !text.contains(earlier.as_str()));
            said.push(text);
        }
        next = error.source();
    }
    said.join(": ")
}

/// Where the address of a CA comes from.
#[derive(Clone)]
enum Lookup {
    System,
    Own(Arc<Dns>),
}

impl tower_service::Service<Name> for Lookup {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = match lookup {
                Self::System => GaiResolver::new().call(name).await?.collect(),
                Self::Own(dns) => {
                    let addresses = dns.addresses(name.as_str()).await?;
                    if addresses.is_empty() {
                        return Err(format!("{} has no address in DNS", name.as_str()).into());
                    }
                    addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
                }
            };
            Ok(found.into_iter())
        })
    }
}
