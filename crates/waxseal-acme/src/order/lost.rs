//! An order that was asked for, and whose address a process did not live to hear: found in the account's list of orders
//! (RFC 8555 section 7.1.2.1), where the CA keeps one. One that keeps none, as Let's Encrypt, gives the order that is
//! open for these names to whoever asks for another.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::run::Run;
use crate::account::Open;
use crate::issuer::IssueError;

/// Pages of the list that are read.
const MAX_PAGES: usize = 10;
/// Orders that are looked at, the last of the list first.
const MAX_ORDERS: usize = 50;

#[derive(Deserialize)]
struct Account {
    orders: Option<String>,
}

#[derive(Deserialize)]
struct Orders {
    orders: Vec<String>,
}

#[derive(Deserialize)]
struct Order {
    status: String,
    identifiers: Vec<Identifier>,
}

#[derive(Deserialize)]
struct Identifier {
    value: String,
}

impl Run<'_> {
    /// The address of the order that an earlier process asked for; `None` where there is none, or where it may be
    /// another's.
    pub(super) async fn lost(&self, open: &Open) -> Result<Option<String>, IssueError> {
        let siblings = self.place.siblings(self.want).await?;
        // One of the same names may be theirs as well.
        if siblings.iter().any(|(_, other)| other.url.is_none()) {
            return Ok(None);
        }
        let taken: Vec<&str> = siblings.iter().filter_map(|(_, other)| other.url.as_deref()).collect();
        // A CA that gives no list, or nothing that could be read, costs an order at worst.
        let found = self.search(open, &taken).await;
        Ok(found.unwrap_or_else(|error| {
            tracing::debug!("{}: the account's orders cannot be looked through: {error}", self.directory.url);
            None
        }))
    }

    async fn search(&self, open: &Open, taken: &[&str]) -> Result<Option<String>, IssueError> {
        let wanted: BTreeSet<String> = self.want.name_texts().into_iter().collect();
        let Some(account) = self.document::<Account>(open, open.account.id()).await? else { return Ok(None) };
        let mut orders = Vec::new();
        let mut next = account.orders;
        for _ in 0..MAX_PAGES {
            let Some(page) = next.take() else { break };
            let reply = self.ask(open, &page).await?;
            let Ok(list) = serde_json::from_slice::<Orders>(&reply.body) else { break };
            orders.extend(list.orders);
            next = reply.link("next");
        }
        let last = orders.into_iter().rev().filter(|url| !taken.contains(&url.as_str()));
        for url in last.take(MAX_ORDERS) {
            let Some(order) = self.document::<Order>(open, &url).await? else { continue };
            let names: BTreeSet<String> = order.identifiers.into_iter().map(|it| it.value).collect();
            // What is further on is for a key that somebody else has.
            if names == wanted && (order.status == "pending" || order.status == "ready") {
                return Ok(Some(url));
            }
        }
        Ok(None)
    }

    /// What is at `url`, if it is such a thing.
    async fn document<T: for<'d> Deserialize<'d>>(
        &self,
        open: &Open,
        url: &str,
    ) -> Result<Option<T>, IssueError> {
        Ok(serde_json::from_slice(&self.ask(open, url).await?.body).ok())
    }

    async fn ask(&self, open: &Open, url: &str) -> Result<crate::http::Reply, IssueError> {
        self.issuer.accounts().ask(&self.directory, open, url).await
    }
}
