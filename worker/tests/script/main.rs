//! Scripts as the worker runs them: real threads, real sockets on loopback, real deadlines.

#![allow(clippy::unwrap_used)]

mod compile;
mod fetch;
mod isolation;
mod limits;
mod server;
mod web;

use std::time::Duration;

use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::egress::EgressPolicy;
use posthaste_worker::script::{
    Call, Called, Compiler, Engine, Returned, Returns, Script, ScriptError,
};
use posthaste_worker::send::Sender;
use tokio::time::Instant;

/// Longer than anything here should take.
const AMPLE: Duration = Duration::from_secs(60);

/// An engine that may call loopback without TLS.
fn engine() -> Engine {
    let sender = Sender::new(EgressPolicy::new("127.0.0.0/8", true).unwrap()).unwrap();
    Engine::new(sender, Compiler::in_threads())
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

async fn script(engine: &Engine, source: &str) -> Script {
    engine
        .script(&tenant(), source, Instant::now() + AMPLE)
        .await
        .unwrap()
}

async fn call(source: &str, argument: &str) -> Called {
    call_within(source, argument, AMPLE).await
}

async fn call_within(source: &str, argument: &str, within: Duration) -> Called {
    let engine = engine();
    let script = script(&engine, source).await;
    engine
        .call(
            &tenant(),
            &script,
            argument,
            Call {
                deadline: Instant::now() + within,
                network: true,
                hops: Hops::default(),
                returns: Returns::Json,
            },
        )
        .await
}

/// Calls the script with `null`, for the JSON that it returns.
async fn returned(source: &str) -> String {
    let called = call(source, "null").await;
    match called.result {
        Ok(Returned::Json(json)) => json,
        other => panic!("{other:?}\n{}", called.console),
    }
}

/// What `expression` gives within a script.
async fn value(expression: &str) -> String {
    returned(&format!("export default async () => ({expression})")).await
}

/// Calls the script with `null`, for what it fails with.
async fn failure(source: &str) -> ScriptError {
    call(source, "null").await.result.unwrap_err()
}
