//! What a listener allows: protocol versions, cipher suites, key exchange groups, in which order.
//!
//! A [`Policy`] is checked when it is built, so that whoever holds one can serve TLS with it. The names are those
//! that operators write; [`Suite::by_alias`] and [`Group::by_alias`] know the other spellings, for hints.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as provider};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

use crate::hello::Hello;

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

    fn supported(self) -> &'static SupportedProtocolVersion {
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

    fn supported(self) -> Option<SupportedCipherSuite> {
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
    fn usable_in(self, version: Version) -> bool {
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

    fn supported(self) -> Option<&'static dyn SupportedKxGroup> {
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

/// What a [`Policy`] is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySettings {
    /// The versions allowed, in any order.
    pub versions: Vec<Version>,
    /// The suites allowed, in the server's order.
    pub suites: Vec<Suite>,
    /// The groups allowed, in order.
    pub groups: Vec<Group>,
    /// Whether the server's order of suites counts rather than the client's.
    pub ignore_client_order: bool,
    /// Whether session tickets are given out and taken.
    pub tickets: bool,
}

impl Default for PolicySettings {
    /// Everything, in the order of the lists, with tickets.
    fn default() -> Self {
        Self {
            versions: Version::ALL.to_vec(),
            suites: Suite::ALL.to_vec(),
            groups: Group::ALL.to_vec(),
            ignore_client_order: true,
            tickets: true,
        }
    }
}

/// Why settings are no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Both versions are disabled.
    #[error("no protocol version is left: at least one of TLSv1.2 and TLSv1.3 must be allowed")]
    NoVersion,
    /// A version is allowed, but none of its suites.
    #[error("{0} is allowed, but none of its cipher suites is: allow one of them or disable {0}")]
    VersionWithoutSuite(Version),
    /// No key exchange group is left.
    #[error("no key exchange group is left: at least one must be allowed")]
    NoGroup,
}

/// What a listener allows, checked. Cloning is cheap.
#[derive(Clone)]
pub struct Policy(Arc<Inner>);

struct Inner {
    settings: PolicySettings,
    provider: Arc<CryptoProvider>,
    digest: [u8; 32],
}

impl Policy {
    /// Checks `settings`. Repeated entries count once; suites of a version that is not allowed are left out.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], the first contradiction in the order version, suites, groups.
    pub fn new(settings: PolicySettings) -> Result<Self, PolicyError> {
        let mut settings = settings;
        settings.versions.sort_unstable();
        settings.versions.dedup();
        if settings.versions.is_empty() {
            return Err(PolicyError::NoVersion);
        }
        let versions = settings.versions.clone();
        settings.suites = once_each(settings.suites);
        settings.suites.retain(|suite| versions.contains(&suite.version()));
        settings.groups = once_each(settings.groups);
        for &version in &settings.versions {
            if !settings.suites.iter().any(|suite| suite.version() == version) {
                return Err(PolicyError::VersionWithoutSuite(version));
            }
        }
        if settings.groups.is_empty() {
            return Err(PolicyError::NoGroup);
        }
        let provider = Arc::new(CryptoProvider {
            cipher_suites: settings.suites.iter().filter_map(|suite| suite.supported()).collect(),
            kx_groups: settings.groups.iter().filter_map(|group| group.supported()).collect(),
            ..provider::default_provider()
        });
        let digest = digest_of(&settings);
        Ok(Self(Arc::new(Inner { settings, provider, digest })))
    }

    /// The versions allowed, the oldest first.
    pub fn versions(&self) -> &[Version] {
        &self.0.settings.versions
    }

    /// The suites in force, in the server's order.
    pub fn suites(&self) -> &[Suite] {
        &self.0.settings.suites
    }

    /// The groups in force, in order.
    pub fn groups(&self) -> &[Group] {
        &self.0.settings.groups
    }

    /// Whether the server's order of suites counts rather than the client's.
    pub fn ignore_client_order(&self) -> bool {
        self.0.settings.ignore_client_order
    }

    /// Whether session tickets are given out and taken.
    pub fn tickets(&self) -> bool {
        self.0.settings.tickets
    }

    /// SHA-256 over everything that counts: two policies with the same digest behave the same.
    pub fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }

    /// Where in [`Policy::groups`] the group stands that a client is to use: the first one it offers too, of those that
    /// cost no further round trip if there are any. `None` leaves the choice, and the refusal, to the TLS library.
    ///
    /// The library goes by the client's order; the one written down is the server's.
    pub(crate) fn choose_group(&self, hello: &Hello) -> Option<usize> {
        let newest = [Version::Tls13, Version::Tls12];
        let version = newest.into_iter().find(|v| self.versions().contains(v) && hello.offers(*v))?;
        let first_of = |offered: &[u16]| {
            let common = |group: &Group| group.usable_in(version) && offered.contains(&u16::from(group.id()));
            self.groups().iter().position(common)
        };
        let shared = if version == Version::Tls13 { first_of(&hello.shares) } else { None };
        shared.or_else(|| first_of(&hello.groups))
    }

    /// What handshakes are made of; with `group`, that one alone exchanges keys.
    pub(crate) fn provider(&self, group: Option<Group>) -> Arc<CryptoProvider> {
        match group.and_then(Group::supported) {
            None => Arc::clone(&self.0.provider),
            Some(group) => Arc::new(CryptoProvider { kx_groups: vec![group], ..(*self.0.provider).clone() }),
        }
    }

    pub(crate) fn supported_versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        self.versions().iter().map(|version| version.supported()).collect()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.settings.fmt(f)
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.0.settings == other.0.settings
    }
}

impl Eq for Policy {}

fn once_each<T: Copy + PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

fn digest_of(settings: &PolicySettings) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut line = |words: &[&str]| {
        hash.update(words.join(" ").as_bytes());
        hash.update(b"\n");
    };
    line(&settings.versions.iter().map(|version| version.name()).collect::<Vec<_>>());
    line(&settings.suites.iter().map(|suite| suite.name()).collect::<Vec<_>>());
    line(&settings.groups.iter().map(|group| group.name()).collect::<Vec<_>>());
    line(&[if settings.ignore_client_order { "server order" } else { "client order" }]);
    line(&[if settings.tickets { "tickets" } else { "no tickets" }]);
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_order_of_groups_counts_where_it_costs_no_round_trip() {
        let groups = vec![Group::X25519MlKem768, Group::Secp384r1, Group::X25519];
        let policy = Policy::new(PolicySettings {
            versions: vec![Version::Tls12, Version::Tls13],
            suites: Suite::ALL.to_vec(),
            groups: groups.clone(),
            ignore_client_order: true,
            tickets: false,
        })
        .unwrap();
        let chosen = |versions: &[u16], offered: &[u16], shares: &[u16]| {
            let hello = Hello {
                versions: versions.to_vec(),
                groups: offered.to_vec(),
                shares: shares.to_vec(),
                ..Hello::default()
            };
            policy.choose_group(&hello).map(|index| groups[index])
        };
        let (hybrid, x25519, p256, p384) = (0x11ec, 29, 23, 24);
        let tls13 = [0x0304, 0x0303];
        assert_eq!(chosen(&tls13, &[x25519, p384], &[x25519, p384]), Some(Group::Secp384r1));
        assert_eq!(chosen(&tls13, &[x25519, p384], &[x25519]), Some(Group::X25519), "no further round trip");
        assert_eq!(
            chosen(&tls13, &[p256, x25519, p384], &[p256]),
            Some(Group::Secp384r1),
            "one is needed anyway"
        );
        assert_eq!(chosen(&tls13, &[x25519, hybrid], &[hybrid, x25519]), Some(Group::X25519MlKem768));
        assert_eq!(
            chosen(&[0x0303], &[x25519, hybrid, p384], &[]),
            Some(Group::Secp384r1),
            "TLS 1.2 has no hybrids"
        );
        assert_eq!(chosen(&tls13, &[p256], &[p256]), None);
        assert_eq!(chosen(&[0x0302], &[x25519], &[]), None);
    }

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

    #[test]
    fn contradictions_are_errors() {
        let all = PolicySettings::default();
        let of = |change: &dyn Fn(&mut PolicySettings)| {
            let mut settings = all.clone();
            change(&mut settings);
            Policy::new(settings).map(|_| ())
        };
        assert_eq!(of(&|_| ()), Ok(()));
        assert_eq!(of(&|s| s.versions.clear()), Err(PolicyError::NoVersion));
        assert_eq!(
            of(&|s| s.suites.retain(|suite| suite.version() == Version::Tls12)),
            Err(PolicyError::VersionWithoutSuite(Version::Tls13))
        );
        assert_eq!(of(&|s| s.groups.clear()), Err(PolicyError::NoGroup));
    }

    #[test]
    fn suites_of_a_version_that_is_not_allowed_are_not_in_force() {
        let settings = PolicySettings { versions: vec![Version::Tls13], ..PolicySettings::default() };
        let policy = Policy::new(settings).unwrap();
        assert_eq!(policy.suites(), &Suite::ALL[..3]);
    }

    #[test]
    fn digest_tells_whatever_counts_apart() {
        let base = PolicySettings::default();
        let mut changed = vec![base.clone(); 6];
        changed[1].versions.pop();
        changed[2].suites.swap(0, 1);
        changed[3].groups.pop();
        changed[4].ignore_client_order = false;
        changed[5].tickets = false;
        let digests: Vec<_> = changed.into_iter().map(|s| *Policy::new(s).unwrap().digest()).collect();
        for (i, one) in digests.iter().enumerate() {
            assert!(digests.iter().skip(i + 1).all(|other| other != one), "{i}");
        }
        let repeated = PolicySettings { suites: [Suite::ALL, Suite::ALL].concat(), ..base };
        assert_eq!(*Policy::new(repeated).unwrap().digest(), digests[0]);
    }
}
