//! A whole message on its way into mailboxes.

use std::collections::HashMap;
use std::sync::Arc;

use super::Kind;
use super::incoming::Whole;
use crate::Address;
use crate::accounts::Account;
use crate::session::{Site, blocking};
use crate::store::{Prepared, StoreError};

/// Somebody a message is for.
#[derive(Clone, Debug)]
pub(crate) struct Recipient {
    /// As it was given in RCPT.
    pub(crate) address: String,
    pub(crate) account: Account,
}

/// A message with what stands above it, the same for all but for the recipient.
pub(crate) struct Parcel {
    pub(crate) whole: Whole,
    /// Return-Path and what is above everything.
    pub(crate) above: String,
    /// One Received line per recipient.
    pub(crate) received: Vec<String>,
    /// What a submitted message was missing.
    pub(crate) added: String,
    pub(crate) recipients: Vec<Recipient>,
}

/// Puts a message into its mailboxes; a result per recipient. With SMTP, which has one reply for all of them, it is put into
/// all or, as far as that can be known, into none.
pub(crate) async fn deliver(site: Arc<Site>, kind: Kind, parcel: Parcel) -> Vec<Result<(), StoreError>> {
    let count = parcel.recipients.len();
    let delivered = blocking(move || Ok(deliver_now(&site, kind, parcel))).await;
    delivered.unwrap_or_else(|_| (0..count).map(|_| Err(StoreError::Locked)).collect())
}

fn deliver_now(site: &Site, kind: Kind, mut parcel: Parcel) -> Vec<Result<(), StoreError>> {
    let recipients = std::mem::take(&mut parcel.recipients);
    let received = std::mem::take(&mut parcel.received);
    // An account gets a message once, by however many of its addresses.
    let mut first: HashMap<Address, usize> = HashMap::new();
    let mut prepared: Vec<Result<Option<Prepared>, StoreError>> = Vec::with_capacity(recipients.len());
    for (index, (recipient, received)) in recipients.iter().zip(received).enumerate() {
        if first.contains_key(&recipient.account.address) {
            prepared.push(Ok(None));
            continue;
        }
        first.insert(recipient.account.address.clone(), index);
        prepared.push(prepare(site, &mut parcel, recipient, &received).map(Some));
    }
    if kind != Kind::Lmtp && prepared.iter().any(Result::is_err) {
        // What was prepared is gone when dropped.
        return prepared.into_iter().map(|one| one.map(|_| ())).collect();
    }
    let mut results: Vec<Result<(), StoreError>> = Vec::with_capacity(recipients.len());
    for (one, recipient) in prepared.into_iter().zip(&recipients) {
        results.push(match one {
            Ok(Some(prepared)) => prepared.commit(),
            // The same mailbox a second time: its first result.
            Ok(None) => {
                let before = first.get(&recipient.account.address).and_then(|index| results.get(*index));
                if before.is_some_and(Result::is_ok) { Ok(()) } else { Err(StoreError::Locked) }
            }
            Err(error) => Err(error),
        });
    }
    results
}

fn prepare(
    site: &Site,
    parcel: &mut Parcel,
    recipient: &Recipient,
    received: &str,
) -> Result<Prepared, StoreError> {
    let mailbox = site.store.mailbox(&recipient.account.address, recipient.account.quota)?;
    let mut draft = mailbox.draft(None)?;
    let trace =
        format!("{}Delivered-To: {}\r\n{received}{}", parcel.above, recipient.account.address, parcel.added);
    parcel.whole.write(trace.as_bytes(), &mut draft)?;
    mailbox.prepare(draft)
}
