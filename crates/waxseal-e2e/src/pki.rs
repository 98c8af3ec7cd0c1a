//! A certification authority of a test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RsaKeySize,
};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use crate::{Ground, TlsClient};

/// The kinds of keys that the tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA of 2048 bits.
    Rsa,
}

/// A certificate with its key, as PEM.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The chain: the leaf alone, for the CA of these tests signs directly.
    pub chain: String,
    /// The key, PKCS#8.
    pub key: String,
    /// The leaf, DER.
    pub der: Vec<u8>,
}

/// The authority.
#[derive(Debug)]
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    ca: String,
    ca_path: PathBuf,
}

impl Pki {
    /// Makes an authority whose certificate is `ca.pem` on `ground`.
    ///
    /// # Panics
    /// When the machine cannot make one.
    #[must_use]
    pub fn new(ground: &Ground) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "Test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("key");
        let ca = params.self_signed(&key).expect("CA").pem();
        let ca_path = ground.write("ca.pem", &ca);
        Self { issuer: Issuer::new(params, key), ca, ca_path }
    }

    /// The file with the authority's certificate.
    ///
    /// # Panics
    /// When the temporary directory has no name in UTF-8.
    #[must_use]
    pub fn ca_path(&self) -> &str {
        self.ca_path.to_str().expect("utf-8")
    }

    /// A certificate for `names`.
    ///
    /// # Panics
    /// When a name cannot stand in one.
    #[must_use]
    pub fn leaf(&self, kind: KeyKind, names: &[&str]) -> Leaf {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        let common = names.first().expect("at least one name");
        params.distinguished_name.push(DnType::CommonName, common.as_str());
        params.use_authority_key_identifier_extension = true;
        let key = match kind {
            KeyKind::Ecdsa => KeyPair::generate(),
            KeyKind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
        .expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("certificate");
        Leaf { chain: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }

    /// A certificate for `names` as `NAME.pem` and `NAME.key` in `dir`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn leaf_in(&self, dir: &Path, file: &str, kind: KeyKind, names: &[&str]) -> Leaf {
        let leaf = self.leaf(kind, names);
        fs::write(dir.join(format!("{file}.pem")), &leaf.chain).expect("certificate file");
        leaf.write_key(&dir.join(format!("{file}.key")));
        leaf
    }

    /// A client that trusts this authority and asks for `name`, with everything rustls has.
    #[must_use]
    pub fn client(&self, name: &str) -> TlsClient {
        self.client_with(name, provider(), &[&TLS13, &TLS12], &[])
    }

    /// A client of given versions, suites, groups and protocols (ALPN).
    ///
    /// # Panics
    /// When the settings contradict each other.
    #[must_use]
    pub fn client_with(
        &self,
        name: &str,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).expect("CA")).expect("CA");
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every handshake a whole one: a resumed session shows the certificate of the one before.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsClient { config: Arc::new(config), name: name.to_owned() }
    }
}

impl Leaf {
    /// What a TLS service of the tests shows.
    ///
    /// # Panics
    /// When the pair is not one.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        let chain = vec![CertificateDer::from_pem_slice(self.chain.as_bytes()).expect("certificate")];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("key");
        let config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("pair");
        Arc::new(config)
    }

    /// Writes the key, for its owner only.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_key(&self, path: &Path) {
        fs::write(path, &self.key).expect("key file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
    }
}

/// An authority, and its certificate for `mail.example.test` and for both loopback addresses as
/// `mail.pem` and `mail.key`: what [`CERTIFICATE`](crate::CERTIFICATE) names.
///
/// # Panics
/// When the machine cannot make them.
#[must_use]
pub fn mail_certificate(ground: &Ground) -> Pki {
    let pki = Pki::new(ground);
    pki.leaf_in(ground.dir(), "mail", KeyKind::Ecdsa, &["mail.example.test", "127.0.0.1", "::1"]);
    pki
}

/// rustls' provider, whole.
#[must_use]
pub fn provider() -> CryptoProvider {
    static PROVIDER: OnceLock<CryptoProvider> = OnceLock::new();
    PROVIDER.get_or_init(aws_lc_rs::default_provider).clone()
}

/// The suite of that IANA name.
///
/// # Panics
/// When rustls has none.
#[must_use]
pub fn suite(name: &str) -> SupportedCipherSuite {
    let suites = aws_lc_rs::ALL_CIPHER_SUITES;
    let found = suites.iter().find(|suite| suite.suite().as_str() == Some(name));
    *found.unwrap_or_else(|| panic!("no suite {name}"))
}
