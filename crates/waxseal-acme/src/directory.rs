//! A CA's directory (RFC 8555 section 7.1.1): where everything else is asked for, and what the CA says of itself.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Deserialize;

use crate::http::{Http, HttpError};

/// Why there is no directory.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// No answer, or a refusal.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer that is something else.
    #[error(
        "{url} is no ACME directory: {why}. The directory is the address that the CA's documentation names, such as https://acme-v02.api.letsencrypt.org/directory"
    )]
    NotOne {
        /// The address.
        url: String,
        /// What shows it.
        why: String,
    },
}

/// The directory of a CA.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Its own address.
    pub url: String,
    /// What the CA demands and offers.
    pub meta: Meta,
    /// Where renewal information is asked for (RFC 9773), if the CA has any.
    pub renewal_info: Option<String>,
    /// The CA's clock as it answered.
    pub date: Option<SystemTime>,
    pub(crate) new_nonce: String,
    pub(crate) new_account: String,
}

/// What a CA says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Meta {
    /// The terms that an account agrees to.
    pub terms_of_service: Option<String>,
    /// The names that CAA records would have to give (RFC 8555 section 7.1.1).
    #[serde(default)]
    pub caa_identities: Vec<String>,
    /// Whether accounts need `eab.kid` and `eab.hmac-key`.
    #[serde(default)]
    pub external_account_required: bool,
    /// The certificate profiles with their descriptions.
    #[serde(default)]
    pub profiles: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    new_nonce: Option<String>,
    new_account: Option<String>,
    new_order: Option<String>,
    renewal_info: Option<String>,
    meta: Option<Meta>,
}

impl Directory {
    /// Whether `text` can be the address of one: `https`, a host, a port that there is.
    #[must_use]
    pub fn is_address(text: &str) -> bool {
        let Ok(uri) = text.parse::<hyper::Uri>() else { return false };
        let Some(authority) = uri.authority() else { return false };
        let host = authority.host();
        let port = authority.as_str().strip_prefix(host).and_then(|rest| rest.strip_prefix(':'));
        uri.scheme_str() == Some("https")
            && !host.trim_end_matches('.').split('.').any(str::is_empty)
            && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    }

    /// Asks for the directory at `url`.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`].
    pub async fn fetch(http: &Http, url: &str) -> Result<Self, DirectoryError> {
        let reply = http.get(url).await?;
        Self::read(url, &reply.body, reply.date)
    }

    fn read(url: &str, body: &[u8], date: Option<SystemTime>) -> Result<Self, DirectoryError> {
        let wrong = |why: String| DirectoryError::NotOne { url: url.to_owned(), why };
        let document: Document = match serde_json::from_slice(body) {
            Ok(document) => document,
            Err(e) if e.is_data() => return Err(wrong(format!("it answers with other JSON ({e})"))),
            Err(_) => return Err(wrong("it does not answer with JSON".to_owned())),
        };
        let need = |value: Option<String>, name: &str| {
            let value = value.ok_or_else(|| wrong(format!("its answer has no {name}")))?;
            let fine = value.parse::<hyper::Uri>().is_ok_and(|uri| uri.scheme().is_some());
            if fine { Ok(value) } else { Err(wrong(format!("its {name} is {value:?}, which is no address"))) }
        };
        need(document.new_order, "newOrder")?;
        Ok(Self {
            url: url.to_owned(),
            meta: document.meta.unwrap_or_default(),
            renewal_info: document.renewal_info,
            date,
            new_nonce: need(document.new_nonce, "newNonce")?,
            new_account: need(document.new_account, "newAccount")?,
        })
    }

    /// The profile to ask for: `wanted` if the CA has it, and else a sentence that says what it has.
    ///
    /// # Errors
    ///
    /// The sentence, for a warning: the CA's default is used then.
    pub fn profile<'a>(&self, wanted: &'a str) -> Result<&'a str, String> {
        if self.meta.profiles.contains_key(wanted) {
            return Ok(wanted);
        }
        let names: Vec<&str> = self.meta.profiles.keys().map(String::as_str).collect();
        Err(if names.is_empty() {
            format!("{} offers no profiles, so {wanted:?} cannot be asked for; its default is used", self.url)
        } else {
            format!("{} has no profile {wanted:?}, only {}; its default is used", self.url, names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o",
        "meta":{"externalAccountRequired":true,"caaIdentities":["ca.example"],"profiles":{"short":"6 days"}}}"#;

    fn read(body: &str) -> Result<Directory, DirectoryError> {
        Directory::read("https://ca/dir", body.as_bytes(), None)
    }

    #[test]
    fn what_the_ca_demands_is_read() {
        let directory = read(GOOD).expect("a directory");
        assert!(directory.meta.external_account_required);
        assert_eq!(directory.meta.caa_identities, ["ca.example"]);
        assert_eq!(directory.profile("short"), Ok("short"));
    }

    #[test]
    fn an_unknown_profile_is_told_with_those_there_are() {
        let said = read(GOOD).expect("a directory").profile("shirt").expect_err("none such");
        assert_eq!(said, "https://ca/dir has no profile \"shirt\", only short; its default is used");
    }

    #[test]
    fn a_page_that_is_no_directory_is_told_as_such() {
        for (body, why) in [
            ("<!doctype html>", "does not answer with JSON"),
            ("[1]", "answers with other JSON"),
            ("{}", "has no newOrder"),
            (&GOOD.replace("newNonce", "nonce"), "has no newNonce"),
            (&GOOD.replace("https://ca/a", "nowhere"), "which is no address"),
        ] {
            let said = read(body).expect_err("no directory").to_string();
            assert!(said.contains("is no ACME directory") && said.contains(why), "{said}");
        }
    }

    #[test]
    fn what_no_ca_could_be_reached_at_is_no_address() {
        for fine in
            ["https://ca.example/dir", "https://[::1]:14000/dir", "https://localhost:1/dir", "https://ca/"]
        {
            assert!(Directory::is_address(fine), "{fine}");
        }
        for wrong in [
            "http://ca.example/dir",
            "ca.example",
            "https://",
            "https://:443/dir",
            "https://ca.example:99999/dir",
            "https://ca.example:0/dir",
            "https://[::1/dir",
            "https://%zz/",
            "https://a..b/dir",
            "https://ca.example/a b",
        ] {
            assert!(!Directory::is_address(wrong), "{wrong}");
        }
    }
}
