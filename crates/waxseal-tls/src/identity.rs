//! Who we are: one certificate chain with its key, checked when it is built.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, SubjectPublicKeyInfo, X509Certificate};

use crate::acceptor::unix_now;
use crate::chain::{self, Parsed};
use crate::hello::Hello;
use crate::pem_text;
use crate::policy::{Policy, Suite, Version};
use crate::set::normal_name;

const DAY: i64 = 24 * 60 * 60;

/// Days before its end from which a certificate is spoken of, unless its lifetime is so short that a third of it is
/// less.
const SOON_DAYS: i64 = 14;

/// A certificate chain and the key that belongs to it, checked.
pub struct Identity {
    names: Vec<String>,
    primary: Arc<str>,
    not_before: i64,
    not_after: i64,
    key_kind: KeyKind,
    issuer: String,
    serial: String,
    fingerprint: [u8; 32],
    certified: Arc<CertifiedKey>,
}

/// The kind and size of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with a modulus of that many bits.
    Rsa(usize),
    /// ECDSA on a NIST curve: `P-256`, `P-384` or `P-521`.
    Ecdsa(&'static str),
    /// Ed25519.
    Ed25519,
    /// Something else, by its object identifier.
    Other(String),
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Ecdsa(curve) => write!(f, "ECDSA {curve}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other(oid) => write!(f, "a key of type {oid}"),
        }
    }
}

/// What is odd about an identity that can be served all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityWarning {
    /// The file holds the leaf alone; clients that do not know its issuer will refuse it.
    #[error(
        "only the server certificate is there; its issuer \"{issuer}\" is missing, and clients that do not know it refuse it. \
         Use the full chain (fullchain.pem){}",
        at(url)
    )]
    MissingIssuer {
        /// The subject of the missing certificate.
        issuer: String,
        /// Where the certificate says it can be had.
        url: Option<String>,
    },
    /// The certificates were in another order than RFC 8446 section 4.4.2 wants; they are served in the right one.
    #[error("the certificates are in the wrong order; they are served in the right one")]
    Reordered,
    /// A certificate that is no link of the chain; it is not served.
    #[error("the certificate of \"{0}\" does not belong to the chain and is left out")]
    Unrelated(String),
    /// There is neither a subject alternative name nor a common name.
    #[error("the certificate names no host; it can be served as the default only, or for its `subjects`")]
    NoNames,
    /// Its time has not come.
    #[error("the certificate is not valid before {}", date(*.0))]
    NotYetValid(i64),
    /// Its time is over.
    #[error("the certificate expired on {}; clients will refuse it. Renew it", date(*.0))]
    Expired(i64),
    /// Its time will soon be over.
    #[error("the certificate expires in {days} days, on {}", date(*.at))]
    ExpiresSoon {
        /// Whole days left.
        days: i64,
        /// When it expires, in seconds since 1970.
        at: i64,
    },
    /// Anybody on the machine can read the key.
    #[error(
        "the private key {path} can be read by every user of this machine (mode {mode:04o}); chmod o-rwx {path}"
    )]
    KeyReadableByOthers {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
}

fn at(url: &Option<String>) -> String {
    url.as_ref().map(|url| format!("; the issuer can be had at {url}")).unwrap_or_default()
}

/// Why a chain and key are no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The chain holds no certificate that can be read.
    #[error("certificate: {0}")]
    Chain(String),
    /// The key cannot be read.
    #[error("private key: {0}")]
    Key(String),
    /// The key is of a kind that cannot be used.
    #[error(
        "private key: it cannot be used{certificate}; RSA keys must have 2048 to 8192 bits, ECDSA keys the curve P-256, \
         P-384 or P-521; Ed25519 keys can be used too"
    )]
    KeyKind {
        /// What the certificate says of it, in brackets, or nothing.
        certificate: String,
    },
    /// The key is not that of any certificate there.
    #[error("the key is not the key of the certificate (certificate: {certificate}; key: {key})")]
    Mismatch {
        /// The first certificate's kind of key.
        certificate: KeyKind,
        /// The key's kind.
        key: KeyKind,
    },
}

impl Identity {
    /// Reads a chain and its key from PEM, and checks that they belong together. `subjects` are names beyond those in
    /// the certificate.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], with the cause and the remedy.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        subjects: &[String],
    ) -> Result<(Self, Vec<IdentityWarning>), IdentityError> {
        Self::from_pem_at(chain, key, subjects, unix_now())
    }

    /// Like [`from_pem`](Self::from_pem), with `now` in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Those of [`from_pem`](Self::from_pem).
    pub fn from_pem_at(
        chain: &[u8],
        key: &[u8],
        subjects: &[String],
        now: i64,
    ) -> Result<(Self, Vec<IdentityWarning>), IdentityError> {
        let certificates = pem_text::certificates(chain)?;
        let parsed = chain::parse(&certificates)?;
        let key = pem_text::private_key(key)?;
        let key = rustls::crypto::aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(key)
            .map_err(|_| IdentityError::KeyKind { certificate: kinds_in_brackets(&parsed) })?;
        let public = key.public_key().ok_or_else(|| IdentityError::KeyKind { certificate: String::new() })?;
        let leaf = chain::leaf(&parsed, &public).ok_or_else(|| mismatch(&parsed, &public))?;
        let (links, mut warnings) = chain::order(&parsed, leaf);
        let served = links.iter().map(|link| link.der.clone().into_owned()).collect();

        let certificate = &leaf.certificate;
        let mut names = certificate_names(certificate);
        for subject in subjects {
            let name = normal_name(subject);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() {
            warnings.push(IdentityWarning::NoNames);
        }
        let validity = certificate.validity();
        let identity = Self {
            primary: names.first().map_or("", String::as_str).into(),
            names,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            key_kind: key_kind(certificate.public_key()),
            issuer: chain::display_name(certificate.issuer()),
            serial: hex(certificate.raw_serial()),
            fingerprint: sha256(leaf.der),
            certified: Arc::new(CertifiedKey::new(served, key)),
        };
        warnings.extend(identity.validity_warning(now));
        Ok((identity, warnings))
    }

    /// The names it is for: subject alternative names (the common name only where there are none), then the subjects
    /// given beside it. In lower case, without a trailing dot; wildcards as `*.example.org`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The first name; empty if there is none.
    pub fn primary_name(&self) -> &Arc<str> {
        &self.primary
    }

    /// When it begins to be valid, in seconds since 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// When it ceases to be valid, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Whether it is valid at `now`, in seconds since 1970.
    pub fn is_valid_at(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// The kind of its key.
    pub fn key_kind(&self) -> &KeyKind {
        &self.key_kind
    }

    /// Who issued it: the common name, else the whole distinguished name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The serial number in hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// SHA-256 over the certificate.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The chain as it is served, in DER, the leaf first.
    pub fn chain(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.certified.cert.iter().map(|certificate| certificate.as_ref())
    }

    /// What is to be said of its validity at `now`, in seconds since 1970.
    pub fn validity_warning(&self, now: i64) -> Option<IdentityWarning> {
        let left = self.not_after - now;
        let soon = (SOON_DAYS * DAY).min((self.not_after - self.not_before) / 3);
        if now < self.not_before {
            Some(IdentityWarning::NotYetValid(self.not_before))
        } else if left < 0 {
            Some(IdentityWarning::Expired(self.not_after))
        } else if left < soon {
            Some(IdentityWarning::ExpiresSoon { days: left / DAY, at: self.not_after })
        } else {
            None
        }
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    pub(crate) fn is_rsa(&self) -> bool {
        self.certified.key.algorithm() == SignatureAlgorithm::RSA
    }

    /// Whether a client that said `hello` can be served with it under `policy`.
    pub(crate) fn fits(&self, hello: &Hello, policy: &Policy) -> bool {
        let allowed = |version| policy.versions().contains(&version);
        if hello.offers(Version::Tls13) && allowed(Version::Tls13) {
            // RFC 8446 section 4.2.3: RSASSA-PKCS1-v1_5 and SHA-1 are for signatures in certificates only.
            const PKCS1_SHA256_384_512: [u16; 3] = [0x0401, 0x0501, 0x0601];
            return self.signs(
                hello
                    .schemes
                    .iter()
                    .copied()
                    .filter(|scheme| !PKCS1_SHA256_384_512.contains(scheme) && scheme >> 8 != 0x02),
            );
        }
        if !allowed(Version::Tls12) {
            return false;
        }
        let usable = |suite: &Suite| {
            suite.version() == Version::Tls12
                && suite.takes_rsa() == self.is_rsa()
                && hello.suites.contains(&suite.id().into())
        };
        policy.suites().iter().any(usable) && self.signs(hello.schemes.iter().copied())
    }

    fn signs(&self, schemes: impl Iterator<Item = u16>) -> bool {
        let schemes: Vec<_> = schemes.map(SignatureScheme::from).collect();
        self.certified.key.choose_scheme(&schemes).is_some()
    }
}

impl fmt::Debug for Identity {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("names", &self.names)
            .field("issuer", &self.issuer)
            .field("serial", &self.serial)
            .field("key_kind", &self.key_kind)
            .finish_non_exhaustive()
    }
}

/// RFC 9525 section 2: subject alternative names; the common name only where there are none at all.
pub(crate) fn certificate_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
        let common = certificate.subject().iter_common_name().last();
        return common.and_then(|name| name.as_str().ok()).map(normal_name).into_iter().collect();
    };
    for alternative in &alternatives.value.general_names {
        let name = match alternative {
            GeneralName::DNSName(name) => normal_name(name),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(address) => address.to_string(),
                None => continue,
            },
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn mismatch(parsed: &[Parsed<'_>], public: &SubjectPublicKeyInfoDer<'_>) -> IdentityError {
    let unknown = || KeyKind::Other("unknown".into());
    IdentityError::Mismatch {
        certificate: parsed.first().map_or_else(unknown, |first| key_kind(first.certificate.public_key())),
        key: SubjectPublicKeyInfo::from_der(public).map_or_else(|_| unknown(), |(_, key)| key_kind(&key)),
    }
}

fn kinds_in_brackets(parsed: &[Parsed<'_>]) -> String {
    let first = parsed.first().map(|first| key_kind(first.certificate.public_key()));
    first.map(|kind| format!(" (the certificate's key is {kind})")).unwrap_or_default()
}

pub(crate) fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> KeyKind {
    let oid = key.algorithm.algorithm.to_id_string();
    match oid.as_str() {
        "1.2.840.113549.1.1.1" => KeyKind::Rsa(key.parsed().map(|key| key.key_size()).unwrap_or_default()),
        "1.3.101.112" => KeyKind::Ed25519,
        "1.2.840.10045.2.1" => {
            let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
            match curve.map(|curve| curve.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => KeyKind::Ecdsa("P-256"),
                Some("1.3.132.0.34") => KeyKind::Ecdsa("P-384"),
                Some("1.3.132.0.35") => KeyKind::Ecdsa("P-521"),
                other => KeyKind::Other(other.unwrap_or(&oid).to_owned()),
            }
        }
        _ => KeyKind::Other(oid),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    hash
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A day in UTC as `2026-12-01`.
pub(crate) fn date(seconds: i64) -> String {
    // Days to the civil calendar, in eras of 400 years that begin on March 1st.
    let days = seconds.div_euclid(DAY) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Lends the leaf of a chain that another side sent.
pub(crate) fn leaf_of<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}
