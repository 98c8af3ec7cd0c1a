//! Whether CAA records (RFC 8659, RFC 8657) let a CA issue.

use crate::dns::{Caa, CaaSet};
use crate::settings::ChallengeKind;

/// Who would issue, and to whom.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The names that the CA goes by.
    pub(super) identities: &'a [String],
    /// The address of our account there; `None` before it is made.
    pub(super) account: Option<&'a str>,
    /// How the name is proved.
    pub(super) challenge: ChallengeKind,
}

/// Why these records forbid to issue so, if they do.
pub(super) fn forbidden(
    CaaSet { domain, records }: &CaaSet,
    Asked { identities, account, challenge }: Asked<'_>,
    wildcard: bool,
) -> Option<String> {
    let known = ["issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone"];
    if let Some(record) = records.iter().find(|it| it.critical && !known.contains(&it.tag.as_str())) {
        let tag = &record.tag;
        return Some(format!(
            "CAA at {domain} has a critical record {tag:?}, which no CA understands. Remove it, or its flag 128"
        ));
    }
    // RFC 8659 section 4.3: issuewild counts for wildcards alone, and before issue.
    let wild = records.iter().any(|it| it.tag == "issuewild");
    let tag = if wildcard && wild { "issuewild" } else { "issue" };
    let relevant: Vec<&Caa> = records.iter().filter(|it| it.tag == tag).collect();
    let identity = identities.first()?;
    if relevant.is_empty() {
        return None;
    }
    let ours: Vec<&Caa> = relevant
        .iter()
        .copied()
        .filter(|it| identities.iter().any(|identity| identity.eq_ignore_ascii_case(issuer(it))))
        .collect();
    if ours.is_empty() {
        let allowed: Vec<String> = relevant.iter().map(|it| issuer(it)).map(quoted).collect();
        let allowed = allowed.join(", ");
        return Some(format!(
            "CAA at {domain} allows only {allowed}. Add: {domain}. CAA 0 {tag} \"{identity}\""
        ));
    }
    let (ours, others): (Vec<&Caa>, Vec<&Caa>) =
        ours.into_iter().partition(|it| parameter(it, "accounturi").is_none_or(|uri| Some(uri) == account));
    if ours.is_empty() {
        let accounts: Vec<&str> = others.iter().filter_map(|it| parameter(it, "accounturi")).collect();
        let accounts = accounts.join(", ");
        let remedy = match account {
            Some(own) => format!("the one here is {own}. Set accounturi there to that, or take it out"),
            None => "the one here is made with the first order. Take accounturi out until the first certificate is there".to_owned(),
        };
        return Some(format!(
            "CAA at {domain} lets {identity} issue to the account {accounts} only; {remedy}"
        ));
    }
    if ours.iter().any(|it| methods(it).is_none_or(|list| list.contains(&challenge.as_str()))) {
        return None;
    }
    let methods: Vec<&str> = ours.iter().filter_map(|it| methods(it)).flatten().collect();
    let methods = methods.join(",");
    Some(format!(
        "CAA at {domain} lets {identity} issue by {methods} only, not by {challenge}. Change validationmethods there, or the challenge here"
    ))
}

fn issuer(record: &Caa) -> &str {
    record.value.split(';').next().unwrap_or_default().trim()
}

/// The parameter `validationmethods` (RFC 8657 section 4).
fn methods(record: &Caa) -> Option<Vec<&str>> {
    parameter(record, "validationmethods").map(|value| value.split(',').map(str::trim).collect())
}

/// The value of a parameter (RFC 8659 section 4.2); `accounturi` is RFC 8657 section 3.
fn parameter<'a>(record: &'a Caa, name: &str) -> Option<&'a str> {
    record.value.split(';').skip(1).find_map(|parameter| {
        let (other, value) = parameter.split_once('=')?;
        other.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "nobody (\";\")".to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "https://acme.example/acct/7";

    fn record(tag: &str, value: &str) -> Caa {
        Caa { tag: tag.to_owned(), value: value.to_owned(), critical: false }
    }

    fn judged(records: &[Caa], wildcard: bool) -> Option<String> {
        let identities = ["letsencrypt.org".to_owned()];
        let set = CaaSet { domain: "example.org".to_owned(), records: records.to_vec() };
        let asked =
            Asked { identities: &identities, account: Some(ACCOUNT), challenge: ChallengeKind::Http01 };
        forbidden(&set, asked, wildcard)
    }

    #[test]
    fn a_record_for_another_account_forbids_and_the_remedy_is_our_own() {
        let other = "letsencrypt.org; accounturi=https://acme.example/acct/1";
        let said = judged(&[record("issue", other)], false).expect("forbidden");
        assert_eq!(
            said,
            "CAA at example.org lets letsencrypt.org issue to the account https://acme.example/acct/1 only; the one here is https://acme.example/acct/7. Set accounturi there to that, or take it out"
        );
        let own =
            record("issue", &format!("letsencrypt.org;accounturi = {ACCOUNT} ; validationmethods=http-01"));
        assert_eq!(judged(&[record("issue", other), own], false), None);
    }

    #[test]
    fn a_record_for_another_ca_forbids_and_the_remedy_is_the_record_to_add() {
        let said = judged(&[record("issue", "sectigo.com"), record("issue", ";")], false).expect("forbidden");
        assert_eq!(
            said,
            "CAA at example.org allows only \"sectigo.com\", nobody (\";\"). Add: example.org. CAA 0 issue \"letsencrypt.org\""
        );
    }

    #[test]
    fn a_record_for_our_ca_among_others_allows() {
        let records = [record("issue", "sectigo.com"), record("issue", " LetsEncrypt.org ; policy=x")];
        assert_eq!(judged(&records, false), None);
        assert_eq!(judged(&[record("iodef", "mailto:a@example.org")], false), None);
        assert_eq!(judged(&[], true), None);
    }

    #[test]
    fn issuewild_counts_for_wildcards_alone() {
        let records = [record("issue", "letsencrypt.org"), record("issuewild", "sectigo.com")];
        assert_eq!(judged(&records, false), None);
        assert!(judged(&records, true).expect("forbidden").contains("CAA 0 issuewild"));
        assert_eq!(judged(&[record("issue", "letsencrypt.org")], true), None);
    }

    #[test]
    fn a_method_that_is_not_listed_is_told() {
        let said = judged(&[record("issue", "letsencrypt.org; validationmethods=dns-01")], false);
        assert!(said.expect("forbidden").contains("by dns-01 only, not by http-01"));
        let both = record("issue", "letsencrypt.org; validationmethods=dns-01,http-01");
        assert_eq!(judged(&[both], false), None);
    }

    #[test]
    fn a_critical_record_that_nobody_knows_forbids() {
        let critical = Caa { tag: "future".into(), value: String::new(), critical: true };
        assert!(judged(&[critical], false).expect("forbidden").contains("critical record \"future\""));
    }
}
