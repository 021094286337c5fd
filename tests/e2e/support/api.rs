//! A client of the HTTP API.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Process, eventually};

/// The bootstrap key of every test.
pub const ADMIN_KEY: &str = "an-admin-key-for-tests-0123456789abcdef";

pub struct Api {
    client: reqwest::Client,
    url: String,
}

impl Api {
    pub fn of(process: &Process) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            client: reqwest::Client::new(),
            url: process.url.clone(),
        }
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let request = self
            .client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(ADMIN_KEY);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let response = request.send().await.expect("an answer of the API");
        let status = response.status();
        let text = response.text().await.expect("a body");
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        )
    }

    /// What a request with another API key is answered.
    pub async fn status_for(&self, key: &str, path: &str) -> StatusCode {
        let request = self.client.get(format!("{}{path}", self.url));
        let response = request.bearer_auth(key).send().await;
        response.expect("an answer of the API").status()
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, Some(body)).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    /// [`Self::post`] with further headers.
    pub async fn post_with(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> Value {
        let mut request = self
            .client
            .post(format!("{}{path}", self.url))
            .bearer_auth(ADMIN_KEY)
            .json(&body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("an answer of the API");
        assert!(
            response.status().is_success(),
            "POST {path}: {}",
            response.status()
        );
        response.json().await.expect("a JSON body")
    }

    /// Makes an endpoint and returns it, with its secret.
    pub async fn endpoint(&self, url: &str, more: Value) -> Value {
        let mut body = json!({"url": url, "wire_format": "standard"});
        merge(&mut body, more);
        self.post("/v1/endpoints", body).await
    }

    /// Enqueues a notification for one endpoint; returns its id.
    pub async fn enqueue_to(&self, endpoint: &Value, more: Value) -> String {
        let mut body =
            json!({"type": "test.sent", "payload": {"n": 1}, "endpoint_id": endpoint["id"]});
        merge(&mut body, more);
        let answer = self.post("/v1/notifications", body).await;
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// The deliveries of a notification, once all of them are at their end and there are `count`.
    pub async fn finished(&self, notification: &str, count: usize) -> Vec<Value> {
        eventually(
            &format!("{count} finished deliveries of {notification}"),
            async || {
                let deliveries = self.deliveries(notification).await;
                let done = deliveries
                    .iter()
                    .filter(|delivery| delivery["status"] != "pending")
                    .count();
                (done >= count && done == deliveries.len()).then_some(deliveries)
            },
        )
        .await
    }

    pub async fn deliveries(&self, notification: &str) -> Vec<Value> {
        let page = self
            .get(&format!(
                "/v1/deliveries?notification_id={notification}&limit=100"
            ))
            .await;
        page["items"].as_array().expect("items").clone()
    }

    /// One delivery with its attempts.
    pub async fn delivery(&self, delivery: &Value) -> Value {
        self.get(&format!(
            "/v1/deliveries/{}",
            delivery["id"].as_str().expect("an id")
        ))
        .await
    }

    /// All deliveries, page by page.
    pub async fn all_deliveries(&self, filter: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self
                .get(&format!("/v1/deliveries?limit=500{filter}{cursor}"))
                .await;
            all.extend(page["items"].as_array().expect("items").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// The events of a type about a delivery or endpoint.
    pub async fn events(&self, kind: &str, subject: &str) -> Vec<Value> {
        let page = self.get("/v1/events?limit=500").await;
        let about = |event: &&Value| event["type"] == kind && event["subject"] == subject;
        page["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter(about)
            .cloned()
            .collect()
    }
}

fn merge(body: &mut Value, more: Value) {
    let (Value::Object(body), Value::Object(more)) = (body, more) else {
        panic!("objects only")
    };
    body.extend(more);
}
