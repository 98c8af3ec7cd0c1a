//! Proof of a name by handshake: tls-alpn-01 (RFC 8737).
//!
//! A CA that is to certify a name calls it, offers `acme-tls/1` and nothing else, and looks at the certificate that it is
//! shown. Whoever asked the CA knows that certificate; here it is only shown.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::facts::Facts;
use crate::hello::Hello;
use crate::policy::Policy;
use crate::set::normal_name;

/// The protocol of the handshake (RFC 8737 section 6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// Who knows the answers to challenges.
pub trait Challenges: Send + Sync + fmt::Debug {
    /// The certificate for a CA that says `sni`: a name in lower case, or the reverse name of an address.
    fn answer(&self, sni: &str) -> Option<ChallengeIdentity>;
}

/// A certificate that answers a challenge.
#[derive(Clone, PartialEq, Eq)]
pub struct ChallengeIdentity {
    /// DER.
    pub certificate: Vec<u8>,
    /// Its key, DER (PKCS #8).
    pub key: Vec<u8>,
}

impl fmt::Debug for ChallengeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChallengeIdentity").finish_non_exhaustive()
    }
}

/// The name a client wants proved, if that is what it wants (RFC 8737 section 3: the one protocol, and a name).
pub(crate) fn asked(hello: Option<&Hello>) -> Option<String> {
    let hello = hello?;
    let alone = matches!(hello.alpn.as_deref(), Some([only]) if only == ACME_TLS);
    alone.then_some(hello.sni.as_deref()).flatten().map(normal_name)
}

/// A configuration that shows `identity` and does nothing else.
pub(crate) fn config(
    policy: &Policy,
    identity: ChallengeIdentity,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key));
    // Not `CertifiedKey::from_der`, which reads the certificate and refuses its critical extension.
    let provider = policy.provider(None);
    let key = provider.key_provider.load_private_key(key)?;
    let certified = CertifiedKey::new(vec![CertificateDer::from(identity.certificate)], key);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&policy.supported_versions())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

impl Facts {
    /// Whether the handshake was a challenge, after which nothing is said (RFC 8737 section 3).
    pub fn is_challenge(&self) -> bool {
        self.alpn.as_deref() == Some(ACME_TLS)
    }
}
