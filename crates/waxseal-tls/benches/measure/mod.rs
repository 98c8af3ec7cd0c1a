//! What all benches share: certificates and an acceptor.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use waxseal_proto::Protocol;
use waxseal_tls::{
    Acceptor, CertificateSet, CertificateStore, Entry, Identity, Policy, PolicySettings, Pool, TicketKeys,
    Version,
};

pub(crate) const NAME: &str = "mail.example.org";

/// A certificate with its root behind it, and its key.
pub(crate) struct Credentials {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Credentials {
    pub(crate) fn new(rsa: bool) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = if rsa {
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap()
        } else {
            KeyPair::generate().unwrap()
        };
        let leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        Self { chain: leaf.pem() + &ca.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn acceptor(&self, version: Version) -> Arc<Acceptor> {
        let identity = Identity::from_pem(self.chain.as_bytes(), self.key.as_bytes(), &[]).unwrap().0;
        let entry = Entry { id: "one".into(), identity: Arc::new(identity), default: true };
        let settings = PolicySettings { versions: vec![version], ..PolicySettings::default() };
        Acceptor::new(
            "imaps",
            Protocol::Imap,
            Policy::new(settings).unwrap(),
            CertificateStore::new(CertificateSet::new(vec![entry], NAME).0),
            TicketKeys::new(),
            Pool::new(64),
        )
    }
}
