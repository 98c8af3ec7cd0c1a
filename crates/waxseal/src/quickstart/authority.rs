//! A certificate authority of this directory's own, and the server's certificate from it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use waxseal_tls::Identity;

use super::directory::{Directory, DirectoryError, Visibility};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority lasts: clients import it once.
const AUTHORITY_LASTS: Duration = DAY.saturating_mul(3652);
/// How long the certificate lasts: some clients accept none that is valid for longer than 398 days.
const CERTIFICATE_LASTS: Duration = DAY.saturating_mul(365);
/// How long before its end either is made anew.
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);
/// Clocks of other machines may be behind.
const BACKDATED: Duration = DAY;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// They cannot be written.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// They cannot be made.
    #[error("the certificates cannot be made: {0}")]
    Made(#[from] rcgen::Error),
}

/// Makes the authority and its certificate for `names` (hosts and addresses), or either, where there is none that will do for the next month.
pub(super) fn renew(directory: &Directory, names: &[String]) -> Result<(), AuthorityError> {
    renew_at(directory, names, SystemTime::now())
}

fn renew_at(directory: &Directory, names: &[String], now: SystemTime) -> Result<(), AuthorityError> {
    let (authority, pem) = match kept_authority(directory, now) {
        Some(kept) => kept,
        None => new_authority(directory, now)?,
    };
    if certificate_will_do(directory, names, &pem, now) {
        return Ok(());
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("localhost", String::as_str));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid(&mut params, now, CERTIFICATE_LASTS);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    // With the authority, so that it shows which one a certificate is from.
    directory.write("key.pem", key.serialize_pem(), Visibility::Secret)?;
    directory.write("cert.pem", format!("{}{pem}", certificate.pem()), Visibility::Public)?;
    Ok(())
}

/// The authority of an earlier start, with its certificate.
fn kept_authority(directory: &Directory, now: SystemTime) -> Option<(Issuer<'static, KeyPair>, String)> {
    let (pem, key) = (directory.read("ca.pem")?, directory.read("ca.key")?);
    let (identity, _) = Identity::from_pem(pem.as_bytes(), key.as_bytes(), &[]).ok()?;
    if !will_do(&identity, now) {
        return None;
    }
    let key = KeyPair::from_pem(&key).ok()?;
    Some((Issuer::new(authority_params(&key, now), key), pem))
}

fn new_authority(
    directory: &Directory,
    now: SystemTime,
) -> Result<(Issuer<'static, KeyPair>, String), AuthorityError> {
    let key = KeyPair::generate()?;
    let params = authority_params(&key, now);
    let pem = params.self_signed(&key)?.pem();
    directory.write("ca.key", key.serialize_pem(), Visibility::Secret)?;
    directory.write("ca.pem", &pem, Visibility::Public)?;
    Ok((Issuer::new(params, key), pem))
}

fn authority_params(key: &KeyPair, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Clients take two authorities of one name for one another; the key's end tells ours apart.
    let tail = key.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}"));
    let name = format!("waxseal quickstart {}", tail.collect::<String>());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    valid(&mut params, now, AUTHORITY_LASTS);
    params
}

fn valid(params: &mut CertificateParams, now: SystemTime, lasts: Duration) {
    let now = date_time_ymd(1970, 1, 1) + now.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = now - BACKDATED;
    params.not_after = now + lasts;
}

/// Whether the certificate is for these names, from this authority, and lasts.
fn certificate_will_do(directory: &Directory, names: &[String], authority: &str, now: SystemTime) -> bool {
    let Some((pem, key)) = directory.read("cert.pem").zip(directory.read("key.pem")) else { return false };
    let Ok((identity, _)) = Identity::from_pem(pem.as_bytes(), key.as_bytes(), &[]) else { return false };
    pem.ends_with(authority) && identity.names() == names && will_do(&identity, now)
}

fn will_do(identity: &Identity, now: SystemTime) -> bool {
    let seconds = |time: SystemTime| {
        i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
    };
    identity.is_valid_at(seconds(now)) && identity.is_valid_at(seconds(now + RENEW_BEFORE))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Kept {
        directory: Directory,
        _parent: tempfile::TempDir,
    }

    impl Kept {
        fn new() -> Self {
            let parent = tempfile::tempdir().unwrap();
            Self { directory: Directory::open(&parent.path().join("q")).unwrap(), _parent: parent }
        }

        /// Authority and certificate after a start with these names, so many days from now.
        fn after(&self, names: &[&str], days: u32) -> (String, String) {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            renew_at(&self.directory, &names, SystemTime::now() + DAY * days).unwrap();
            (self.directory.read("ca.pem").unwrap(), self.directory.read("cert.pem").unwrap())
        }
    }

    #[test]
    fn both_are_kept_while_they_last_and_the_authority_for_ten_years() {
        let kept = Kept::new();
        let (authority, certificate) = kept.after(&["localhost", "box"], 0);
        assert_eq!(kept.after(&["localhost", "box"], 300), (authority.clone(), certificate.clone()));
        let renewed = kept.after(&["localhost", "box"], 340);
        assert_eq!(renewed.0, authority);
        assert_ne!(renewed.1, certificate);
        assert_ne!(kept.after(&["localhost", "box"], 3640).0, authority);
    }

    #[test]
    fn a_new_name_of_the_machine_gets_a_new_certificate() {
        let kept = Kept::new();
        let (authority, certificate) = kept.after(&["localhost", "box"], 0);
        let renamed = kept.after(&["localhost", "other"], 0);
        assert_eq!(renamed.0, authority);
        assert_ne!(renamed.1, certificate);
    }

    #[test]
    fn what_is_missing_or_broken_is_made_again() {
        for name in ["ca.pem", "ca.key", "cert.pem", "key.pem"] {
            let kept = Kept::new();
            let names = ["localhost", "127.0.0.1", "::1"];
            kept.after(&names, 0);
            kept.directory.write(name, "broken", Visibility::Secret).unwrap();
            let (authority, certificate) = kept.after(&names, 0);
            assert!(certificate.ends_with(&authority), "{name}");
            let key = kept.directory.read("key.pem").unwrap();
            let (identity, warnings) =
                Identity::from_pem(certificate.as_bytes(), key.as_bytes(), &[]).unwrap();
            assert_eq!(identity.names(), ["localhost", "127.0.0.1", "::1"], "{name}");
            assert_eq!(warnings, [], "{name}");
        }
    }
}
