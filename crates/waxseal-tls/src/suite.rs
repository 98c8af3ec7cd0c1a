//! Protocol versions, cipher suites and groups, under the names that operators write.
//!
//! `by_alias` knows the other spellings, for hints.

use std::fmt;

use rustls::crypto::{SupportedKxGroup, aws_lc_rs as provider};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

/// A protocol version that can be allowed. Older ones (RFC 8996) are not implemented at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2, RFC 5246.
    Tls12,
    /// TLS 1.3, RFC 8446.
    Tls13,
}

impl Version {
    /// Every version, the newest first.
    pub const ALL: [Self; 2] = [Self::Tls13, Self::Tls12];

    /// The name in configuration, logs and PROXY headers: `TLSv1.2` or `TLSv1.3`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }

    /// The version of that exact name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name() == name)
    }

    /// The version another spelling means (`TLS 1.2`, `tls1.3`, `1.2`), for hints.
    pub fn by_alias(text: &str) -> Option<Self> {
        match folded(text).trim_start_matches("tls").trim_start_matches('v') {
            "12" => Some(Self::Tls12),
            "13" => Some(Self::Tls13),
            _ => None,
        }
    }

    pub(crate) fn from_wire(version: ProtocolVersion) -> Option<Self> {
        match version {
            ProtocolVersion::TLSv1_2 => Some(Self::Tls12),
            ProtocolVersion::TLSv1_3 => Some(Self::Tls13),
            _ => None,
        }
    }

    pub(crate) fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &rustls::version::TLS12,
            Self::Tls13 => &rustls::version::TLS13,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One of the nine cipher suites.
#[derive(Clone, Copy)]
pub struct Suite(&'static SuiteRow);

struct SuiteRow {
    id: CipherSuite,
    name: &'static str,
    openssl: &'static str,
    version: Version,
}

const fn row(id: CipherSuite, name: &'static str, openssl: &'static str, version: Version) -> SuiteRow {
    SuiteRow { id, name, openssl, version }
}

static SUITES: [SuiteRow; 9] = [
    row(
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS13_AES_256_GCM_SHA384",
        "TLS_AES_256_GCM_SHA384",
        Version::Tls13,
    ),
    row(
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS13_AES_128_GCM_SHA256",
        "TLS_AES_128_GCM_SHA256",
        Version::Tls13,
    ),
    row(
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS13_CHACHA20_POLY1305_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
        Version::Tls13,
    ),
    row(
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        Version::Tls12,
    ),
    row(
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        Version::Tls12,
    ),
    row(
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        Version::Tls12,
    ),
    row(
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        Version::Tls12,
    ),
    row(
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        Version::Tls12,
    ),
    row(
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-RSA-CHACHA20-POLY1305",
        Version::Tls12,
    ),
];

impl Suite {
    /// Every suite, in the order that stands in force where none is written.
    pub const ALL: [Self; 9] = [
        Self(&SUITES[0]),
        Self(&SUITES[1]),
        Self(&SUITES[2]),
        Self(&SUITES[3]),
        Self(&SUITES[4]),
        Self(&SUITES[5]),
        Self(&SUITES[6]),
        Self(&SUITES[7]),
        Self(&SUITES[8]),
    ];

    /// The name in configuration and logs.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The name in OpenSSL's lists.
    pub fn openssl_name(self) -> &'static str {
        self.0.openssl
    }

    /// The one protocol version that the suite belongs to.
    pub fn version(self) -> Version {
        self.0.version
    }

    /// The suite of that exact name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// The suite another spelling means (OpenSSL's, IANA's, another case), for hints.
    pub fn by_alias(text: &str) -> Option<Self> {
        let text = folded(text);
        Self::ALL.into_iter().find(|suite| [suite.name(), suite.openssl_name()].map(folded).contains(&text))
    }

    pub(crate) fn id(self) -> CipherSuite {
        self.0.id
    }

    /// Whether it goes with RSA keys; the others of TLS 1.2 go with ECDSA and Ed25519 keys (RFC 8422 section 5.10).
    pub(crate) fn takes_rsa(self) -> bool {
        self.name().starts_with("TLS_ECDHE_RSA")
    }

    pub(crate) fn by_id(id: CipherSuite) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.id() == id)
    }

    pub(crate) fn supported(self) -> Option<SupportedCipherSuite> {
        provider::ALL_CIPHER_SUITES.iter().copied().find(|suite| suite.suite() == self.id())
    }
}

impl PartialEq for Suite {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Suite {}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key exchange group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// X25519 joined with ML-KEM-768, against later quantum computers. TLS 1.3 only.
    X25519MlKem768,
    /// Curve25519, RFC 7748.
    X25519,
    /// NIST P-256.
    Secp256r1,
    /// NIST P-384.
    Secp384r1,
}

impl Group {
    /// Every group, in the order that stands in force where none is written.
    pub const ALL: [Self; 4] = [Self::X25519MlKem768, Self::X25519, Self::Secp256r1, Self::Secp384r1];

    /// The name in configuration and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::X25519MlKem768 => "X25519MLKEM768",
            Self::X25519 => "X25519",
            Self::Secp256r1 => "SECP256R1",
            Self::Secp384r1 => "SECP384R1",
        }
    }

    /// The group of that exact name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }

    /// The group another spelling means (`P-256`, `prime256v1`, another case), for hints.
    pub fn by_alias(text: &str) -> Option<Self> {
        match folded(text).as_str() {
            "x25519mlkem768" | "mlkem768x25519" | "mlkem" => Some(Self::X25519MlKem768),
            "x25519" | "curve25519" => Some(Self::X25519),
            "secp256r1" | "p256" | "prime256v1" | "nistp256" => Some(Self::Secp256r1),
            "secp384r1" | "p384" | "nistp384" => Some(Self::Secp384r1),
            _ => None,
        }
    }

    pub(crate) fn by_id(id: NamedGroup) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.id() == id)
    }

    /// Whether keys can be exchanged over it in that version.
    pub(crate) fn usable_in(self, version: Version) -> bool {
        self != Self::X25519MlKem768 || version == Version::Tls13
    }

    pub(crate) fn id(self) -> NamedGroup {
        match self {
            Self::X25519MlKem768 => NamedGroup::X25519MLKEM768,
            Self::X25519 => NamedGroup::X25519,
            Self::Secp256r1 => NamedGroup::secp256r1,
            Self::Secp384r1 => NamedGroup::secp384r1,
        }
    }

    pub(crate) fn supported(self) -> Option<&'static dyn SupportedKxGroup> {
        provider::ALL_KX_GROUPS.iter().copied().find(|group| group.name() == self.id())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Lower case, without the marks in which spellings differ.
fn folded(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_and_group_is_known_to_the_library_under_the_same_name() {
        for suite in Suite::ALL {
            assert_eq!(suite.id().as_str(), Some(suite.name()));
            let supported = suite.supported().unwrap();
            assert_eq!(Version::from_wire(supported.version().version), Some(suite.version()));
            assert_eq!(Suite::by_name(suite.name()), Some(suite));
        }
        assert_eq!(provider::ALL_CIPHER_SUITES.len(), Suite::ALL.len());
        for group in Group::ALL {
            assert!(group.supported().is_some(), "{group}");
            assert!(group.id().as_str().is_some_and(|name| name.eq_ignore_ascii_case(group.name())));
            assert_eq!(Group::by_name(group.name()), Some(group));
        }
    }

    #[test]
    fn other_spellings_are_recognised() {
        let ecdsa = Suite::by_name("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
        assert_eq!(Suite::by_alias("ECDHE-ECDSA-AES256-GCM-SHA384"), ecdsa);
        assert_eq!(Suite::by_alias("tls_ecdhe_ecdsa_with_aes_256_gcm_sha384"), ecdsa);
        assert_eq!(
            Suite::by_alias("TLS_AES_128_GCM_SHA256"),
            Suite::by_name("TLS13_AES_128_GCM_SHA256"),
            "IANA's name has no version in it"
        );
        assert_eq!(Suite::by_alias("AES128-SHA"), None);
        assert_eq!(Group::by_alias("P-256"), Some(Group::Secp256r1));
        assert_eq!(Group::by_alias("prime256v1"), Some(Group::Secp256r1));
        assert_eq!(Group::by_alias("x25519"), Some(Group::X25519));
        assert_eq!(Group::by_alias("P-521"), None);
        assert_eq!(Version::by_alias("TLS 1.2"), Some(Version::Tls12));
        assert_eq!(Version::by_alias("TLSv1"), None);
        assert_eq!(Version::by_alias("SSLv3"), None);
    }
}
