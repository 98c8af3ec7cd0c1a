//! Which certificate is the leaf, and in which order the others follow it.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

use crate::identity::{IdentityError, IdentityWarning};

/// A certificate with what can be read of it.
pub(crate) struct Parsed<'a> {
    pub(crate) der: &'a CertificateDer<'static>,
    pub(crate) certificate: X509Certificate<'a>,
}

impl PartialEq for Parsed<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

pub(crate) fn parse<'a>(
    certificates: &'a [CertificateDer<'static>],
) -> Result<Vec<Parsed<'a>>, IdentityError> {
    let mut parsed: Vec<Parsed<'a>> = Vec::with_capacity(certificates.len());
    for (index, der) in certificates.iter().enumerate() {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| {
            IdentityError::Chain(format!("certificate {} of the PEM is damaged: {error}", index + 1))
        })?;
        parsed.push(Parsed { der, certificate });
    }
    Ok(parsed)
}

/// The certificate of that public key.
pub(crate) fn leaf<'p, 'a>(
    parsed: &'p [Parsed<'a>],
    public: &SubjectPublicKeyInfoDer<'_>,
) -> Option<&'p Parsed<'a>> {
    parsed.iter().find(|one| one.certificate.public_key().raw == public.as_ref())
}

/// The chain from `leaf` upwards without its root, which clients have or do not trust (RFC 8446 section 4.4.2).
pub(crate) fn order<'p, 'a>(
    parsed: &'p [Parsed<'a>],
    leaf: &'p Parsed<'a>,
) -> (Vec<&'p Parsed<'a>>, Vec<IdentityWarning>) {
    let mut warnings = Vec::new();
    let mut links = vec![leaf];
    let mut root = None;
    let mut last = leaf;
    while !is_self_issued(&last.certificate) {
        let mut issuers = parsed.iter().filter(|one| !links.contains(one) && has_issued(one, last));
        // Of a root that is there twice, self-signed and cross-signed, the cross-signed one is a link.
        let issuer = issuers.clone().find(|one| !is_self_issued(&one.certificate));
        match issuer.or_else(|| issuers.next()) {
            Some(issuer) if is_self_issued(&issuer.certificate) => {
                root = Some(issuer);
                break;
            }
            Some(issuer) => links.push(issuer),
            None => break,
        }
        last = links.last().copied().unwrap_or(leaf);
    }
    let is_link = |one: &Parsed<'_>| links.contains(&one) || root == Some(one);
    for stray in parsed.iter().filter(|one| !is_link(one) && !is_self_issued(&one.certificate)) {
        warnings.push(IdentityWarning::Unrelated(display_name(stray.certificate.subject())));
    }
    let in_order = links.iter().map(|link| parsed.iter().position(|one| one == *link));
    if !in_order.is_sorted() {
        warnings.push(IdentityWarning::Reordered);
    }
    if links.len() == 1 && root.is_none() && !is_self_issued(&leaf.certificate) {
        warnings.push(IdentityWarning::MissingIssuer {
            issuer: display_name(leaf.certificate.issuer()),
            url: issuer_url(&leaf.certificate),
        });
    }
    (links, warnings)
}

pub(crate) fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// By name, and by key identifier where both certificates carry one: CAs give a name to several keys in turn.
fn has_issued(issuer: &Parsed<'_>, issued: &Parsed<'_>) -> bool {
    let by_name = issuer.certificate.subject().as_raw() == issued.certificate.issuer().as_raw();
    let subject_key = issuer.certificate.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    let authority_key = issued.certificate.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    by_name && subject_key.zip(authority_key).is_none_or(|(subject, authority)| subject == authority)
}

/// Where the issuer's certificate can be had (RFC 5280 section 4.2.2.1).
fn issuer_url(certificate: &X509Certificate<'_>) -> Option<String> {
    const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            access.accessdescs.iter().find_map(|entry| match &entry.access_location {
                GeneralName::URI(url) if entry.access_method.to_id_string() == CA_ISSUERS => {
                    Some((*url).to_owned())
                }
                _ => None,
            })
        }
        _ => None,
    })
}

/// The common name; the whole name where there is none.
pub(crate) fn display_name(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().last().and_then(|name| name.as_str().ok());
    common.map_or_else(|| name.to_string(), str::to_owned)
}
