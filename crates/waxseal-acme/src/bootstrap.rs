//! What is served for a name that has no certificate yet: a self-signed one that says so.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};
use waxseal_tls::Identity;

use crate::name::Name;

/// How long it is valid; it is nobody's proof of anything, and made anew at each start.
const LIFE: Duration = Duration::from_secs(90 * 86_400);
/// How far it is dated back, for clients whose clock is behind.
const BACK: Duration = Duration::from_secs(86_400);

/// Makes bootstrap certificates, all with one key that is never stored.
#[derive(Debug)]
pub(crate) struct Bootstrap(KeyPair);

/// Why none could be made.
#[derive(Debug, thiserror::Error)]
#[error("no bootstrap certificate can be made: {0}")]
pub struct BootstrapError(String);

impl Bootstrap {
    pub(crate) fn new() -> Result<Self, BootstrapError> {
        KeyPair::generate().map(Self).map_err(|error| BootstrapError(error.to_string()))
    }

    /// A certificate for `names` at `now`, in unix seconds.
    pub(crate) fn certify(&self, names: &[Name], now: i64) -> Result<Arc<Identity>, BootstrapError> {
        let failed = |error: rcgen::Error| BootstrapError(error.to_string());
        let texts: Vec<String> = names.iter().map(Name::to_string).collect();
        let mut params = CertificateParams::new(texts).map_err(failed)?;
        let now_since = Duration::from_secs(u64::try_from(now).unwrap_or(0));
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        (params.not_before, params.not_after) =
            (epoch + now_since.saturating_sub(BACK), epoch + now_since + LIFE);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "waxseal");
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, "not trusted: the real one is being issued");
        params.distinguished_name.push(DnType::CommonName, "waxseal bootstrap certificate");
        let certificate = params.self_signed(&self.0).map_err(failed)?;
        let (chain, key) = (certificate.pem(), zeroize::Zeroizing::new(self.0.serialize_pem()));
        let (identity, _) = Identity::from_pem_at(chain.as_bytes(), key.as_bytes(), &[], now)
            .map_err(|error| BootstrapError(error.to_string()))?;
        Ok(Arc::new(identity))
    }
}
