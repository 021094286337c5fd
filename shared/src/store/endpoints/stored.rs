//! An endpoint as it is stored: its columns, and in one of them, encrypted, all that is
//! confidential.

use std::time::Duration;

use url::Url;

use crate::domain::endpoint::{Confidential, DisabledReason, Endpoint, EndpointStatus};
use crate::domain::id::{EndpointId, EndpointUid, TenantId};
use crate::domain::wire_format::WireFormat;
use crate::store::cipher::CipherError;
use crate::store::db::{Answer, Param, Reader, Row};
use crate::store::{Store, StoreError};

impl Store {
    /// The members that are written, in the order of the statements; `created_at` or `version`
    /// follows.
    pub(super) async fn endpoint_params(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Vec<Param>, StoreError> {
        let cipher = self.cipher_to_write().await?.ok_or(CipherError::NoKey)?;
        #[expect(clippy::expect_used, reason = "texts and times always serialise")]
        let plain = serde_json::to_vec(&endpoint.confidential).expect("JSON of our own types");
        let (status, reason) = match endpoint.status {
            EndpointStatus::Enabled => ("enabled", None),
            EndpointStatus::Disabled(reason) => ("disabled", Some(reason.as_str())),
        };
        Ok(vec![
            Param::text(endpoint.id.as_str()),
            Param::text(endpoint.tenant.as_str()),
            Param::text(endpoint.url.as_str()),
            Param::text(endpoint.wire_format.as_str()),
            Param::text(&endpoint.description),
            Param::json(&endpoint.subscription),
            Param::bytes(cipher.seal(endpoint.id.as_str(), &plain)),
            Param::int(i64::try_from(endpoint.timeout.as_millis()).unwrap_or(i64::MAX)),
            Param::json(&endpoint.retry),
            Param::count(endpoint.max_in_flight),
            Param::Real(endpoint.rate_limit_per_second),
            Param::text(status),
            Param::text_opt(reason),
            Param::time(endpoint.updated_at),
        ])
    }

    pub(super) fn read_endpoints(&self, answer: Answer) -> Result<Vec<Endpoint>, StoreError> {
        let read = |row: Row| {
            let mut row = row.reader("endpoints");
            let id = row.word(|text| EndpointId::parse(text).ok())?;
            self.read_endpoint(id, &mut row)
        };
        answer.rows.into_iter().map(read).collect()
    }

    /// Those that can be read; the others are logged.
    pub(super) fn read_readable(&self, answer: Answer) -> Result<Vec<Endpoint>, StoreError> {
        let mut endpoints = Vec::new();
        for row in answer.rows {
            let mut row = row.reader("endpoints");
            let id = row.word(|text| EndpointId::parse(text).ok())?;
            match self.read_endpoint(id.clone(), &mut row) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(error) => self.unreadable.tell("endpoint", &id, &error),
            }
        }
        Ok(endpoints)
    }

    pub(super) fn read_endpoint(
        &self,
        id: EndpointId,
        row: &mut Reader,
    ) -> Result<Endpoint, StoreError> {
        row.named(&id);
        Ok(Endpoint {
            tenant: row.word(|text| TenantId::parse(text).ok())?,
            url: row.word(|text| Url::parse(text).ok())?,
            wire_format: row.word(WireFormat::parse)?,
            description: row.text()?,
            subscription: row.json()?,
            confidential: self.open_confidential(&id, row)?,
            timeout: Duration::from_millis(row.total()?),
            retry: row.json()?,
            max_in_flight: row.count()?,
            rate_limit_per_second: row.real_opt()?,
            status: status(row)?,
            created_at: row.time()?,
            updated_at: row.time()?,
            version: row.int()?,
            uid: row.word_opt(|text| EndpointUid::parse(text).ok())?,
            id,
        })
    }

    fn open_confidential(
        &self,
        id: &EndpointId,
        row: &mut Reader,
    ) -> Result<Confidential, StoreError> {
        let sealed = row.bytes()?;
        let cipher = self.cipher.as_ref().ok_or(CipherError::NoKey)?;
        let plain = cipher.open(id.as_str(), &sealed)?;
        serde_json::from_slice(&plain).map_err(|error| row.corrupt(error))
    }
}

fn status(row: &mut Reader) -> Result<EndpointStatus, StoreError> {
    let status = row.text()?;
    match (status.as_str(), row.word_opt(DisabledReason::parse)?) {
        ("enabled", None) => Ok(EndpointStatus::Enabled),
        ("disabled", Some(reason)) => Ok(EndpointStatus::Disabled(reason)),
        _ => Err(row.corrupt(format!("its status is {status:?}"))),
    }
}
