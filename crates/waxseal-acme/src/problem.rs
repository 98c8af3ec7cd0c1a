//! What a CA says when it refuses (RFC 7807, RFC 8555 section 6.7), and that in plain words.

use std::fmt;

use serde::Deserialize;

/// Longest text of a CA that is repeated, in characters.
const MAX_TEXT: usize = 1000;
/// Most names of one refusal that are told one by one: as many as a certificate may have at any public CA.
const MAX_SUBPROBLEMS: usize = 100;
const NAMESPACE: &str = "urn:ietf:params:acme:error:";

/// A refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Its kind without the namespace: `rateLimited`, `unauthorized`. Empty where the CA gives none.
    pub kind: String,
    /// The CA's own words.
    pub detail: String,
    /// What is to be visited, for [`kind`](Self::kind) `userActionRequired`.
    pub instance: Option<String>,
    /// Where the CA explains itself.
    pub help: Option<String>,
    /// The same for single names.
    pub subproblems: Vec<Subproblem>,
}

/// What is wrong with one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subproblem {
    /// The name; `None` where the CA does not say.
    pub name: Option<String>,
    /// Kind, as for [`Problem`].
    pub kind: String,
    /// The CA's own words.
    pub detail: String,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    instance: Option<String>,
    #[serde(default)]
    identifier: Option<Identifier>,
    #[serde(default)]
    subproblems: Vec<Self>,
}

#[derive(Deserialize)]
struct Identifier {
    value: String,
}

impl Problem {
    /// Reads a problem document; `None` when it is something else.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(body).ok()?;
        if document.r#type.is_none() && document.detail.is_none() {
            return None;
        }
        let subproblems = document.subproblems.into_iter().take(MAX_SUBPROBLEMS);
        Some(Self {
            kind: kind(document.r#type),
            detail: printable(document.detail),
            instance: document.instance.map(|url| printable(Some(url))),
            help: None,
            subproblems: subproblems
                .map(|sub| Subproblem {
                    name: sub.identifier.map(|id| printable(Some(id.value))),
                    kind: kind(sub.r#type),
                    detail: printable(sub.detail),
                })
                .collect(),
        })
    }

    /// Whether it is of that kind (RFC 8555 section 6.7).
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }
}

impl From<&instant_acme::Problem> for Problem {
    fn from(problem: &instant_acme::Problem) -> Self {
        let subproblems = problem.subproblems.iter().take(MAX_SUBPROBLEMS);
        Self {
            kind: kind(problem.r#type.clone()),
            detail: printable(problem.detail.clone()),
            instance: None,
            help: None,
            subproblems: subproblems
                .map(|sub| Subproblem {
                    name: sub.identifier.as_ref().map(|id| printable(Some(id.authorized(false).to_string()))),
                    kind: kind(sub.r#type.clone()),
                    detail: printable(sub.detail.clone()),
                })
                .collect(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(&self.kind, &self.detail))?;
        if let Some(instance) = &self.instance {
            write!(f, " Open {instance} once.")?;
        }
        if let Some(help) = &self.help {
            write!(f, " See {help}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Subproblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(&self.kind, &self.detail))
    }
}

/// What a refusal means, then the CA's own words.
fn words(kind: &str, detail: &str) -> String {
    let meaning = match kind {
        "rateLimited" => "the CA's limit is reached",
        "dns" => "the CA finds no usable DNS records for it",
        "caa" => "a CAA record in DNS forbids this CA to issue",
        "connection" => "the CA cannot connect to this machine",
        "tls" => "the CA connected, but TLS failed",
        "unauthorized" | "incorrectResponse" => "the CA did not get our answer",
        "rejectedIdentifier" => "the CA does not issue for this name",
        "unsupportedIdentifier" => "the CA does not issue for this kind of name",
        "externalAccountRequired" => {
            "the CA takes only accounts that it knows already: set eab.kid and eab.hmac-key to what it gave you"
        }
        "invalidContact" | "unsupportedContact" => "the CA does not take this contact address",
        "userActionRequired" => "the CA wants you to agree to something first",
        "accountDoesNotExist" => "the CA does not know our account any more",
        "orderNotReady" => "the CA does not see the order as ready",
        "badCSR" => "the CA does not take this kind of key or request",
        "badPublicKey" => "the CA does not take this kind of key",
        "badSignatureAlgorithm" => "the CA does not take our signature",
        "badNonce" => "the CA refuses its own nonces again and again",
        "serverInternal" => "the CA has an internal error",
        "malformed" => "the CA does not understand the request",
        "invalidProfile" => "the CA does not offer this profile",
        "alreadyReplaced" => "the CA has replaced this certificate already",
        _ => "",
    };
    // "During secondary validation" is how Boulder says that only some of its vantage points got through.
    let partial = if detail.starts_with("During secondary validation") {
        " (from one place it reached us, from others it did not: a country block or rate rule is the usual cause)"
    } else {
        ""
    };
    match (meaning, kind, detail) {
        ("", "", "") => "the CA refuses and gives no reason".to_owned(),
        ("", "", detail) => format!("the CA says: {detail}"),
        ("", kind, detail) => format!("the CA says {kind}: {detail}"),
        (meaning, _, "") => format!("{meaning}{partial}"),
        (meaning, _, detail) => format!("{meaning}{partial}: {detail}"),
    }
}

fn kind(kind: Option<String>) -> String {
    let kind = printable(kind);
    kind.strip_prefix(NAMESPACE).map_or_else(|| kind.clone(), str::to_owned)
}

/// A CA's text for a log line: one line, bounded.
fn printable(text: Option<String>) -> String {
    let text = text.unwrap_or_default();
    let clean = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().take(MAX_TEXT).map(clean).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_of_a_refusal_is_told_with_its_own_reason() {
        let body = br#"{"type":"urn:ietf:params:acme:error:compound","detail":"Errors","subproblems":[
            {"type":"urn:ietf:params:acme:error:caa","detail":"no","identifier":{"type":"dns","value":"a.example"}},
            {"type":"urn:ietf:params:acme:error:dns","identifier":{"type":"ip","value":"192.0.2.1"}}]}"#;
        let problem = Problem::read(body).expect("a problem");
        let told: Vec<_> =
            problem.subproblems.iter().map(|it| (it.name.as_deref(), it.to_string())).collect();
        assert_eq!(
            told,
            [
                (Some("a.example"), "a CAA record in DNS forbids this CA to issue: no".to_owned()),
                (Some("192.0.2.1"), "the CA finds no usable DNS records for it".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_no_problem_document_is_none() {
        for body in [&b""[..], b"<html>", b"{}", b"[]", b"{\"status\":500}", b"{\"detail\":7}"] {
            assert_eq!(Problem::read(body), None, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_refusal_stays_on_one_line_whatever_the_ca_writes() {
        let body = format!(r#"{{"type":"urn:x","detail":"a\nb\u001b[2J{}"}}"#, "x".repeat(5000));
        let told = Problem::read(body.as_bytes()).expect("a problem").to_string();
        assert!(told.starts_with("the CA says urn:x: a b [2Jx") && told.len() < MAX_TEXT + 50, "{told}");
    }

    #[test]
    fn a_link_to_visit_is_told() {
        let body = br#"{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"New terms",
            "instance":"https://ca.example/tos"}"#;
        let told = Problem::read(body).expect("a problem").to_string();
        assert!(told.ends_with("New terms Open https://ca.example/tos once."), "{told}");
    }
}
