//! Whether each name leads to this machine, and whether what a CA would ask for there is answered by us.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use waxseal_storage::{BoxFuture, keys};

use super::machine::is_loopback;
use super::{Preflight, about, whole};
use crate::issuer::Failure;
use crate::name::{Name, NameKind};
use crate::ports::Program;
use crate::settings::ChallengeKind;

/// Where a CA asks for http-01 (RFC 8555 section 8.3) and tls-alpn-01 (RFC 8737 section 3), and nowhere else.
const HTTP_PORT: u16 = 80;
const TLS_PORT: u16 = 443;
const ALPN: &[u8] = b"acme-tls/1";
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 4096;

/// What a connection brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Our own answer.
    Ours,
    /// A redirect, which a CA follows; where to cannot be judged here.
    Elsewhere,
    /// Something else; what.
    Other(String),
    /// Nobody listens.
    Refused,
    /// No answer, or none in time.
    Silent(String),
}

/// Connections as a CA would make them; a seam for tests.
pub(crate) trait Dial: Send + Sync {
    /// `GET /.well-known/acme-challenge/TOKEN` with that host.
    fn http<'a>(
        &'a self,
        at: SocketAddr,
        host: &'a str,
        token: &'a str,
        ours: &'a str,
    ) -> BoxFuture<'a, Seen>;
    /// A handshake with `acme-tls/1` alone.
    fn tls<'a>(&'a self, at: SocketAddr, sni: &'a str, ours: &'a CertificateDer<'a>) -> BoxFuture<'a, Seen>;
}

impl Preflight<'_> {
    pub(super) async fn reach(&self, names: &[Name]) -> Vec<Failure> {
        let mut failures = Vec::new();
        let mut dialled: BTreeMap<IpAddr, Vec<&Name>> = BTreeMap::new();
        // Unknown where the process may not ask the kernel (AF_NETLINK), as in a sandbox: then nothing can be compared.
        let local = self.machine.addresses().inspect_err(|error| {
            tracing::warn!("the addresses of this machine cannot be found out ({error}): whether names lead here is not checked");
        });
        for name in names {
            let addresses = match self.addresses(name).await {
                Ok(addresses) => addresses,
                Err(problem) => {
                    failures.push(about(name, problem));
                    continue;
                }
            };
            let here = |ip: &IpAddr| is_loopback(*ip) || local.as_ref().is_ok_and(|local| local.contains(ip));
            let ours = |ip: &IpAddr| here(ip) || self.settings.public_ip.contains(ip);
            let stray = local.as_ref().ok().and_then(|local| strays(name, &addresses, local, &ours));
            failures.extend(stray.map(|problem| about(name, problem)));
            // What lies behind a router may not be reachable at its outer address from inside.
            for ip in addresses.into_iter().filter(here) {
                dialled.entry(ip).or_default().push(name);
            }
        }
        for (ip, names) in dialled {
            // Asked by name as a CA would: what stands before us may pass on by that.
            for (at, name) in names.into_iter().enumerate() {
                let problem = match self.settings.challenge {
                    ChallengeKind::Http01 => self.http_problem(ip, &name.to_string()).await,
                    ChallengeKind::TlsAlpn01 => self.tls_problem(ip, name).await,
                    ChallengeKind::Dns01 => None,
                };
                match problem {
                    None => {}
                    // Whatever the name: the others would be told the same.
                    Some(problem) if at == 0 => {
                        failures.push(whole(problem));
                        break;
                    }
                    Some(problem) => failures.push(about(name, problem)),
                }
            }
        }
        // A program in the way is in the way at all addresses: once is enough.
        failures.dedup();
        failures
    }

    async fn addresses(&self, name: &Name) -> Result<Vec<IpAddr>, String> {
        let text = match name.kind() {
            NameKind::Ip(ip) => return Ok(vec![ip]),
            NameKind::Dns(text) | NameKind::Wildcard(text) => text,
        };
        match self.names.addresses(text).await {
            Ok(addresses) if addresses.is_empty() => Err(format!(
                "has no address in DNS. Add an A record for {text} with the address of this machine"
            )),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn http_problem(&self, ip: IpAddr, host: &str) -> Option<String> {
        let token = random_token();
        if let Err(error) = self.answers.post_http_01(&token, &token).await {
            return Some(format!("a trial answer to http-01 cannot be put in place: {error}"));
        }
        let seen = self.dial.http(SocketAddr::new(ip, HTTP_PORT), host, &token, &token).await;
        if let Ok(key) = keys::http_01(&token) {
            self.answers.withdraw(&key).await;
        }
        let listening = &self.listening.http;
        let pass_on = match listening.first() {
            Some(at) => format!("pass /.well-known/acme-challenge/ on to {at}"),
            None => "pass /.well-known/acme-challenge/ on to a listener of waxseal with protocol = \"http\""
                .to_owned(),
        };
        self.problem(ip, HTTP_PORT, &seen, |holder| match holder {
            Some(program) => format!(
                "Port 80 is held by {program}. Pick one: (1) let it {pass_on} (2) use tls-alpn-01 on 443 (3) use dns-01"
            ),
            None if listening.iter().any(|at| at.port() == HTTP_PORT) => {
                format!("Port 80 of {ip} is not bound: let the http listener bind it as well")
            }
            None => "No listener answers on port 80: add one with protocol = \"http\", tls.enable = false and bind = \"[::]:80\" (it needs no upstream), or use another challenge".to_owned(),
        })
        .await
    }

    async fn tls_problem(&self, ip: IpAddr, name: &Name) -> Option<String> {
        let sni = name.sni();
        if let Err(error) = self.answers.post_tls_alpn_01(name, &[0; 32]).await {
            return Some(format!("a trial answer to tls-alpn-01 cannot be put in place: {error}"));
        }
        let seen = match self.answers.tls_alpn_01(&sni) {
            Some(ours) => {
                let ours = CertificateDer::from(ours.certificate);
                self.dial.tls(SocketAddr::new(ip, TLS_PORT), &sni, &ours).await
            }
            None => Seen::Silent("our own answer is gone".to_owned()),
        };
        if let Ok(key) = keys::tls_alpn_01(&sni) {
            self.answers.withdraw(&key).await;
        }
        let listening = &self.listening.tls;
        self.problem(ip, TLS_PORT, &seen, |holder| match (holder, listening.first()) {
            (Some(program), _) => format!(
                "Port 443 is held by {program}. Pick one: (1) let waxseal have the port (2) use http-01 on 80, which it can pass on (3) use dns-01"
            ),
            (None, Some(at)) if listening.iter().all(|at| at.port() != TLS_PORT) => format!(
                "tls-alpn-01 is always asked on port 443. You listen on {}: add a listener with protocol = \"http\", tls.implicit = true and bind = \"[::]:443\" (it needs no upstream), forward 443 to {} on TCP level, or choose another challenge",
                at.port(), at.port()
            ),
            (None, Some(_)) => format!("Port 443 of {ip} is not bound: let the listener bind it as well"),
            (None, None) => "No listener speaks TLS from the first byte, which tls-alpn-01 needs: add one with protocol = \"http\", tls.implicit = true and bind = \"[::]:443\" (it needs no upstream), or use another challenge".to_owned(),
        })
        .await
    }

    /// What to say of a connection; `remedy` is told who holds the port, if that is another program.
    async fn problem(
        &self,
        ip: IpAddr,
        port: u16,
        seen: &Seen,
        remedy: impl FnOnce(Option<Program>) -> String,
    ) -> Option<String> {
        let nothing = "Nothing was asked of the CA.";
        let holder = match seen {
            Seen::Ours | Seen::Elsewhere => return None,
            Seen::Refused => None,
            Seen::Silent(_) | Seen::Other(_) => self.machine.holder(SocketAddr::new(ip, port)).await,
        };
        let in_clear = port == TLS_PORT
            && self.listening.tls.iter().all(|at| at.port() != port)
            && holder == Some(Program::Us);
        match seen {
            Seen::Silent(_) if in_clear => Some(format!(
                "our own listener on port 443 does not speak TLS from the first byte, which tls-alpn-01 needs: set tls.implicit = true for it. {nothing}"
            )),
            Seen::Ours | Seen::Elsewhere => None,
            Seen::Refused => Some(format!("{}. {nothing}", remedy(None))),
            Seen::Other(what) => match holder.filter(|it| *it != Program::Us) {
                Some(program) => Some(format!("{}. {nothing}", remedy(Some(program)))),
                None => Some(format!(
                    "port {port} of {ip} does not give our own answer but {what}: something between takes the question. {nothing}"
                )),
            },
            Seen::Silent(why) => Some(format!(
                "port {port} of {ip} does not answer ({why}), not even from this machine. Open it in the firewall, or use dns-01. {nothing}"
            )),
        }
    }
}

/// What is wrong with where a name leads, if anything.
fn strays(
    name: &Name,
    addresses: &[IpAddr],
    local: &[IpAddr],
    ours: &dyn Fn(&IpAddr) -> bool,
) -> Option<String> {
    let (fine, strays): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|ip| ours(ip));
    let first = strays.first()?;
    let list = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    if strays.iter().all(IpAddr::is_ipv6) && fine.iter().any(IpAddr::is_ipv4) {
        return Some(format!(
            "AAAA of {name} is {}, which is not on this host. CAs try IPv6 first. Remove the AAAA record or give this host that address. IPv4 is fine",
            list(&strays)
        ));
    }
    let own: Vec<IpAddr> =
        local.iter().copied().filter(|ip| !is_loopback(*ip) && !is_link_local(ip)).collect();
    let has = if own.is_empty() { "no address but loopback".to_owned() } else { list(&own) };
    Some(format!(
        "leads to {}; this host has {has}. If a router forwards to you, set public-ip = [\"{first}\"], and it is no longer compared",
        list(&strays)
    ))
}

fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn random_token() -> String {
    let mut bytes = [0; 24];
    // Without randomness the token is weak but still ours; it lives for one request.
    let _ = SystemRandom::new().fill(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Real connections.
#[derive(Debug)]
pub(crate) struct Wires;

impl Dial for Wires {
    fn http<'a>(
        &'a self,
        at: SocketAddr,
        host: &'a str,
        token: &'a str,
        ours: &'a str,
    ) -> BoxFuture<'a, Seen> {
        Box::pin(in_time(async move {
            let stream = TcpStream::connect(at).await?;
            let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = connected.map_err(io::Error::other)?;
            let driver = tokio::spawn(connection);
            let request = Request::get(format!("/.well-known/acme-challenge/{token}"))
                .header("host", host)
                .body(Empty::<bytes::Bytes>::new())
                .map_err(io::Error::other)?;
            let answer = sender.send_request(request).await;
            let Ok(answer) = answer else { return Ok(Seen::Other("no HTTP".to_owned())) };
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            driver.abort();
            Ok(match (status, body) {
                (status, _) if status.is_redirection() => Seen::Elsewhere,
                (StatusCode::OK, body) if body.trim_ascii() == ours.as_bytes() => Seen::Ours,
                (status, _) => Seen::Other(status.to_string()),
            })
        }))
    }

    fn tls<'a>(&'a self, at: SocketAddr, sni: &'a str, ours: &'a CertificateDer<'a>) -> BoxFuture<'a, Seen> {
        Box::pin(in_time(async move {
            let stream = TcpStream::connect(at).await?;
            let connector = TlsConnector::from(Arc::new(asking().map_err(io::Error::other)?));
            let sni = ServerName::try_from(sni.to_owned()).map_err(io::Error::other)?;
            let stream = match connector.connect(sni, stream).await {
                Ok(stream) => stream,
                Err(error) => return Ok(Seen::Other(format!("a failed handshake ({error})"))),
            };
            let (_, session) = stream.get_ref();
            let shown = session.peer_certificates().and_then(|chain| chain.first());
            Ok(if shown == Some(ours) { Seen::Ours } else { Seen::Other("another certificate".to_owned()) })
        }))
    }
}

async fn in_time(dial: impl Future<Output = io::Result<Seen>> + Send) -> Seen {
    match tokio::time::timeout(PATIENCE, dial).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Seen::Refused,
        Ok(Err(error)) => Seen::Silent(error.to_string()),
        Err(_) => Seen::Silent(format!("within {} s", PATIENCE.as_secs())),
    }
}

/// As a CA asks: whatever certificate comes is compared afterwards, byte for byte.
fn asking() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let any = Arc::new(Any(Arc::clone(&provider)));
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(any)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Believes any certificate.
#[derive(Debug)]
struct Any(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
