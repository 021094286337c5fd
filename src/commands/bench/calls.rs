//! HTTP requests to the processes under measurement, with as little work as possible: the load must
//! not be what limits.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::body::{self, Slip};
use crate::failure::Failure;

/// Answers are small, except lists of metrics.
const LARGEST: usize = 16 * 1024 * 1024;

/// A pool of connections to one process. Cheap to clone.
#[derive(Clone)]
pub(super) struct Caller {
    address: SocketAddr,
    host: HeaderValue,
    key: HeaderValue,
    idle: Arc<Mutex<Vec<SendRequest<Slip>>>>,
}

impl Caller {
    /// Connects with the first call.
    ///
    /// # Errors
    /// The key cannot stand in a header.
    pub(super) fn new(address: SocketAddr, key: &str) -> Result<Self, Failure> {
        Ok(Self {
            address,
            host: HeaderValue::try_from(address.to_string())?,
            key: HeaderValue::try_from(format!("Bearer {key}"))?,
            idle: Arc::default(),
        })
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// There was no answer: whether the request was done is not known.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut connection = self.connection().await?;
        let mut request = Request::new(Slip::of(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse()?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(AUTHORIZATION, self.key.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = connection.send_request(request).await?;
        let status = response.status();
        let body = body::read(response.into_body(), LARGEST).await?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        Ok((status, body))
    }

    async fn connection(&self) -> Result<SendRequest<Slip>, Failure> {
        loop {
            let kept = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let Some(mut kept) = kept else { break };
            // The other side may have closed it while it was idle.
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends when its sender is dropped; what goes wrong is reported to the sender.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// A request to the API that has to succeed, and its answer.
    ///
    /// # Errors
    /// There was no answer, or it is not a success.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let bytes = if body.is_null() {
            Bytes::new()
        } else {
            Bytes::from(serde_json::to_vec(body)?)
        };
        let (status, answer) = self.call(method, path, bytes).await?;
        if !status.is_success() {
            let answer = String::from_utf8_lossy(&answer);
            return Err(Failure::new(format!(
                "{path} answered {status}: {}",
                answer.chars().take(300).collect::<String>()
            )));
        }
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// Whether the process is ready.
    pub(super) async fn is_ready(&self) -> bool {
        let answer = self.call(Method::GET, "/readyz", Bytes::new()).await;
        answer.is_ok_and(|(status, _)| status.is_success())
    }

    /// Its metrics; empty when it does not answer.
    pub(super) async fn metrics(&self) -> Metrics {
        match self.call(Method::GET, "/metrics", Bytes::new()).await {
            Ok((_, text)) => Metrics(String::from_utf8_lossy(&text).into_owned()),
            Err(_) => Metrics::default(),
        }
    }
}

/// Metrics in Prometheus' text format.
#[derive(Debug, Default)]
pub(super) struct Metrics(String);

impl Metrics {
    /// The sum of a metric's series that have all of these labels.
    pub(super) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.values(name, labels).sum()
    }

    /// The sum, where there is such a metric.
    pub(super) fn known(&self, name: &str) -> Option<f64> {
        let mut values = self.values(name, &[]).peekable();
        values.peek().is_some().then(|| values.sum())
    }

    fn values(&self, name: &str, labels: &[&str]) -> impl Iterator<Item = f64> {
        self.0
            .lines()
            .filter(move |line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
                    && labels.iter().all(|label| line.contains(*label))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let metrics = Metrics(
            "# HELP a_total b\na_total{o=\"x\",w=\"1\"} 3\na_total{o=\"y\",w=\"1\"} 4\n\
             a_total_more 9\nb_sum 2.5\n"
                .to_owned(),
        );
        assert!((metrics.sum("a_total", &[]) - 7.0).abs() < 1e-9);
        assert!((metrics.sum("a_total", &["o=\"y\""]) - 4.0).abs() < 1e-9);
        assert_eq!(metrics.known("b_sum"), Some(2.5));
        assert_eq!(metrics.known("c"), None);
    }
}
