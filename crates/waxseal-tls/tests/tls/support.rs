//! Certificates, acceptors and an independent client: rustls' own buffered connection in a thread.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::net::UnixStream;
use waxseal_proto::Protocol;
use waxseal_tls::{
    Acceptor, Begin, CertificateSet, CertificateStore, Entry, Group, HandshakeError, Identity, Policy,
    PolicySettings, Pool, Suite, TicketKeys, TlsStream, Version,
};

/// The kinds of key that leaves are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ecdsa,
    Rsa,
}

pub(crate) struct Ca {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }
}

/// One CA for all tests of a process.
pub(crate) fn ca() -> &'static Ca {
    static CA: OnceLock<Ca> = OnceLock::new();
    CA.get_or_init(|| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Test CA");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Ca { issuer }
    })
}

pub(crate) fn key(kind: Kind) -> KeyPair {
    match kind {
        Kind::Ecdsa => KeyPair::generate().unwrap(),
        Kind::Rsa => {
            // Slow to make, and the same will do.
            static RSA: OnceLock<String> = OnceLock::new();
            let pem = RSA.get_or_init(|| {
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
                    .unwrap()
                    .serialize_pem()
            });
            KeyPair::from_pem(pem).unwrap()
        }
    }
}

/// A leaf of the CA as chain and key, in PEM.
pub(crate) fn leaf(kind: Kind, names: &[&str]) -> (String, String) {
    leaf_with(kind, names, |_| ())
}

pub(crate) fn leaf_with(
    kind: Kind,
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> (String, String) {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let key = key(kind);
    let certificate = params.signed_by(&key, &ca().issuer).unwrap();
    (format!("{}{}", certificate.pem(), ca().pem()), key.serialize_pem())
}

pub(crate) fn identity(kind: Kind, names: &[&str]) -> Arc<Identity> {
    let (chain, key) = leaf(kind, names);
    Arc::new(Identity::from_pem(chain.as_bytes(), key.as_bytes(), &[]).unwrap().0)
}

pub(crate) fn entry(id: &str, identity: Arc<Identity>) -> Entry {
    Entry { id: id.into(), identity, default: false }
}

pub(crate) fn store(entries: Vec<Entry>) -> Arc<CertificateStore> {
    CertificateStore::new(CertificateSet::new(entries, "mail.example.org").0)
}

/// A server's side with everything that can be varied.
pub(crate) struct Door {
    pub(crate) settings: PolicySettings,
    pub(crate) protocol: Protocol,
    pub(crate) listener: &'static str,
    pub(crate) store: Arc<CertificateStore>,
    pub(crate) tickets: Arc<TicketKeys>,
    pub(crate) pool: Arc<Pool>,
}

impl Door {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with_entries(vec![entry("one", identity(kind, &["mail.example.org"]))])
    }

    pub(crate) fn with_entries(entries: Vec<Entry>) -> Self {
        Self {
            settings: PolicySettings::default(),
            protocol: Protocol::Imap,
            listener: "imaps",
            store: store(entries),
            tickets: TicketKeys::new(),
            pool: Pool::new(16),
        }
    }

    pub(crate) fn acceptor(&self) -> Arc<Acceptor> {
        Acceptor::new(
            self.listener,
            self.protocol,
            Policy::new(self.settings.clone()).unwrap(),
            Arc::clone(&self.store),
            Arc::clone(&self.tickets),
            Arc::clone(&self.pool),
        )
    }
}

/// What a client offers.
pub(crate) struct Offer {
    pub(crate) versions: Vec<Version>,
    pub(crate) suites: Vec<Suite>,
    pub(crate) groups: Vec<Group>,
    pub(crate) alpn: Vec<Vec<u8>>,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            versions: Version::ALL.to_vec(),
            suites: Suite::ALL.to_vec(),
            groups: Group::ALL.to_vec(),
            alpn: Vec::new(),
        }
    }
}

impl Offer {
    pub(crate) fn version(version: Version) -> Self {
        Self { versions: vec![version], ..Self::default() }
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let all = aws_lc_rs::default_provider();
        let named = |suite: &rustls::SupportedCipherSuite| {
            Suite::by_name(suite.suite().as_str().unwrap()).filter(|suite| self.suites.contains(suite))
        };
        let provider = CryptoProvider {
            cipher_suites: aws_lc_rs::ALL_CIPHER_SUITES
                .iter()
                .copied()
                .filter(|s| named(s).is_some())
                .collect(),
            kx_groups: self
                .groups
                .iter()
                .map(|group| {
                    let is = |g: &&&dyn rustls::crypto::SupportedKxGroup| {
                        g.name().as_str().unwrap().eq_ignore_ascii_case(group.name())
                    };
                    *aws_lc_rs::ALL_KX_GROUPS.iter().find(is).unwrap()
                })
                .collect(),
            ..all
        };
        let versions: Vec<_> = self
            .versions
            .iter()
            .map(|version| match version {
                Version::Tls12 => &rustls::version::TLS12,
                Version::Tls13 => &rustls::version::TLS13,
            })
            .collect();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca().pem().as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }
}

pub(crate) type Client = StreamOwned<ClientConnection, StdUnixStream>;

/// Two ends of a connection: one for a client in a thread, one for the server's task.
pub(crate) fn pair() -> (StdUnixStream, UnixStream) {
    let (client, server) = StdUnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    (client, UnixStream::from_std(server).unwrap())
}

/// Completes a client's handshake, or says why not.
pub(crate) fn connect(config: &Arc<ClientConfig>, name: &str, io: StdUnixStream) -> io::Result<Client> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), io);
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock)?;
    }
    client.flush()?;
    Ok(client)
}

/// What came of one handshake on both sides.
pub(crate) struct Met {
    pub(crate) client: io::Result<Client>,
    pub(crate) server: Result<TlsStream<UnixStream>, HandshakeError>,
}

impl Met {
    pub(crate) fn refusal(self) -> HandshakeError {
        assert!(self.client.is_err(), "the client believes in a session");
        self.server.unwrap_err()
    }
}

/// Lets a client meet a server.
pub(crate) async fn meet(acceptor: &Arc<Acceptor>, config: &Arc<ClientConfig>, name: &str) -> Met {
    let (client_io, server_io) = pair();
    let (config, name) = (Arc::clone(config), name.to_owned());
    let client = tokio::task::spawn_blocking(move || connect(&config, &name, client_io));
    let server = accept(acceptor, server_io).await;
    Met { client: client.await.unwrap(), server }
}

pub(crate) async fn accept(
    acceptor: &Arc<Acceptor>,
    io: UnixStream,
) -> Result<TlsStream<UnixStream>, HandshakeError> {
    let mut handshake = acceptor.begin(io, Begin::FirstByte);
    let established = handshake.run().await?;
    Ok(handshake.finish(established))
}

/// The ClientHello of such a client, as it goes over the wire.
pub(crate) fn client_hello(config: ClientConfig, name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Reads exactly one byte, so that tickets that came with it have been taken.
pub(crate) fn read_one(client: &mut Client) -> io::Result<u8> {
    let mut byte = [0];
    client.read_exact(&mut byte).map(|()| byte[0])
}
