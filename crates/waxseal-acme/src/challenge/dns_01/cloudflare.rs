//! Cloudflare with an account's global API key (`X-Auth-Email` and `X-Auth-Key`), which the library's way there, by
//! tokens alone, does not take. The requests are the library's own client's.

use std::time::Duration;

use dns_update::http::{HttpClient, HttpClientBuilder};
use dns_update::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Record;

const API: &str = "https://api.cloudflare.com/client/v4";
/// Times that an answer "too many requests" is waited for.
const RETRIES: u32 = 3;

/// The way in.
pub(super) struct GlobalKey(HttpClient);

#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

#[derive(Deserialize)]
struct Zone {
    id: String,
}

#[derive(Deserialize)]
struct Txt {
    id: String,
    content: String,
}

impl GlobalKey {
    pub(super) fn new(email: &str, key: &str, timeout: Duration) -> Self {
        let builder = HttpClientBuilder::new().with_header("X-Auth-Email", email);
        Self(builder.with_header("X-Auth-Key", key).with_timeout(Some(timeout)).build())
    }

    /// Adds `record` unless it is there.
    pub(super) async fn add(&self, record: &Record, zone: &str) -> Result<()> {
        let records = self.records(zone).await?;
        if !self.list(&records, record).await?.is_empty() {
            return Ok(());
        }
        let txt = json!({
            "type": "TXT", "name": record.name, "content": quoted(&record.value), "ttl": record.ttl
        });
        let made = self.0.post(records).with_body(txt)?.send_with_retry::<Answer<Value>>(RETRIES).await;
        made.map(drop)
    }

    /// Removes `record` and no other of its name.
    pub(super) async fn remove(&self, record: &Record, zone: &str) -> Result<()> {
        let records = self.records(zone).await?;
        for txt in self.list(&records, record).await? {
            let address = format!("{records}/{}", txt.id);
            self.0.delete(address).send_with_retry::<Answer<Value>>(RETRIES).await?;
        }
        Ok(())
    }

    /// The address of the zone's records.
    async fn records(&self, zone: &str) -> Result<String> {
        let found: Answer<Vec<Zone>> =
            self.0.get(format!("{API}/zones?name={zone}")).send_with_retry(RETRIES).await?;
        let zone = found.result.first().ok_or(Error::NotFound)?;
        Ok(format!("{API}/zones/{}/dns_records", zone.id))
    }

    /// Those that are `record`.
    async fn list(&self, records: &str, record: &Record) -> Result<Vec<Txt>> {
        let address = format!("{records}?type=TXT&name={}&per_page=100", record.name);
        let listed: Answer<Vec<Txt>> = self.0.get(address).send_with_retry(RETRIES).await?;
        let is_it = |txt: &Txt| txt.content == record.value || txt.content == quoted(&record.value);
        Ok(listed.result.into_iter().filter(is_it).collect())
    }
}

/// As it stands in a zone file; what a challenge asks for needs no escapes.
fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}
