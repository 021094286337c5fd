//! The column `kept` of a delivery: what the first attempt of a round settles for the others, with
//! the round that it belongs to, so that what a program of an older version left there is not taken
//! for another round's.
//!
//! The first four bytes are the round (big-endian); then nothing, where the endpoint had no
//! transform, else what its transform returned, encrypted for this delivery alone.

use super::cipher::Cipher;
use super::db::Param;
use crate::domain::delivery::Delivery;
use crate::domain::id::DeliveryId;
use crate::domain::round::{RoundContent, Transformed};

const ROUND_BYTES: usize = 4;

/// As a parameter; NULL where nothing is kept.
pub(super) fn param(
    cipher: Option<&Cipher>,
    delivery: &Delivery,
    kept: Option<&RoundContent>,
) -> Param {
    Param::bytes_opt(kept.and_then(|kept| column(cipher, delivery, kept)))
}

fn column(cipher: Option<&Cipher>, delivery: &Delivery, kept: &RoundContent) -> Option<Vec<u8>> {
    let mut bytes = delivery.round.to_be_bytes().to_vec();
    if let RoundContent::Transformed(transformed) = kept {
        // Without a key no endpoint has a transform: it is one of the settings, which lie
        // encrypted.
        bytes.extend(cipher?.seal(&name(&delivery.id), &serde_json::to_vec(transformed).ok()?));
    }
    Some(bytes)
}

/// What is kept for the delivery's round. What cannot be decrypted, as after a change of the master
/// key, counts as not there: the transform runs again.
pub(super) fn read(
    cipher: Option<&Cipher>,
    delivery: &Delivery,
    bytes: Option<Vec<u8>>,
) -> Option<RoundContent> {
    let bytes = bytes?;
    let (round, sealed) = bytes.split_first_chunk::<ROUND_BYTES>()?;
    if u32::from_be_bytes(*round) != delivery.round {
        return None;
    }
    if sealed.is_empty() {
        return Some(RoundContent::Untransformed);
    }
    let opened = cipher.and_then(|cipher| cipher.open(&name(&delivery.id), sealed).ok());
    let transformed = opened.and_then(|plain| serde_json::from_slice::<Transformed>(&plain).ok());
    if transformed.is_none() {
        tracing::warn!(
            delivery.id = %delivery.id,
            "what the endpoint's transform returned for this round cannot be decrypted: the \
             transform runs again"
        );
    }
    transformed.map(RoundContent::Transformed)
}

/// Whose it is: no other delivery can be given it.
pub(super) fn name(delivery: &DeliveryId) -> String {
    format!("kept of delivery {delivery}")
}

/// The column's beginning, and what is encrypted.
pub(super) fn split(column: &[u8]) -> (&[u8], &[u8]) {
    column.split_at(ROUND_BYTES.min(column.len()))
}
