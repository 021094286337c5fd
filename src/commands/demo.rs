//! `up --demo`: receivers that behave differently, a notification to each, and the results.
//! Everything goes the way that a user's notifications go: through the HTTP API, the queue and real
//! sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use posthaste_producer::http::new_key;
use posthaste_shared::config::Config;
use posthaste_shared::domain::id::{KeyId, TenantId};
use posthaste_shared::domain::key::{ApiKey, Scope};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_worker::wire;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::commands::listen::{self, Behaviour, Format, Verifier};
use crate::failure::Failure;
use crate::output::{Output, fixed, text, wrapped};
use crate::service::Node;
use crate::wire_formats::example;

/// How long the demonstration may take; it needs some four seconds.
const DEADLINE: Duration = Duration::from_secs(30);
/// The tenant that the demonstration's endpoints belong to.
const TENANT: &str = "demo";

/// One notification and the receiver it goes to.
struct Scene {
    what: &'static str,
    format: WireFormat,
    behaviour: Behaviour,
    ttl_seconds: Option<f64>,
}

/// The receivers; they answer as long as this lives.
pub(crate) struct Receivers(Vec<JoinHandle<()>>);

impl Drop for Receivers {
    fn drop(&mut self) {
        for receiver in &self.0 {
            receiver.abort();
        }
    }
}

/// Shows what Posthaste does.
pub(crate) async fn run(
    node: &Node,
    config: &Config,
    api: SocketAddr,
    output: Output,
) -> Result<Receivers, Failure> {
    let key = Key::make(node).await?;
    let mut mine = config.clone();
    mine.client.api_url = format!("http://{api}")
        .parse()
        .map_err(|error| Failure::new(format!("the API's address {api} is not a URL: {error}")))?;
    mine.client.api_key = Some(key.secret.clone());
    let client = Client::new(&mine)?;
    // Their receivers listened on ports that somebody else may have by now.
    forget_earlier(&client).await?;
    output.line("\nDemonstration: a notification to each of these receivers (takes some 4 s)")?;
    let mut receivers = Receivers(Vec::new());
    let mut sent = Vec::new();
    for scene in scenes() {
        let (receiver, url) = start_receiver(&scene).await?;
        receivers.0.push(receiver.task);
        sent.push((
            scene.what,
            scene.format,
            send(&client, &scene, &url, receiver.secret).await?,
        ));
    }
    let rows = watch(&client, &sent).await?;
    output.table(
        &[
            wrapped("notification to"),
            fixed("wire format"),
            fixed("outcome"),
            fixed("attempts"),
            fixed("took"),
            wrapped("because"),
        ],
        rows,
    )?;
    // Not kept for a next time: it is an admin key that nobody would think to revoke.
    key.revoke(node).await?;
    output.line(format_args!(
        "\nGoing on at http://{api}. In another terminal:\n  posthaste delivery list --tenant \
         {TENANT}\n  posthaste endpoint list"
    ))?;
    Ok(receivers)
}

fn scenes() -> Vec<Scene> {
    let plain = |format: WireFormat| Scene {
        what: match format {
            WireFormat::Standard => "one that takes it, signature checked",
            WireFormat::Cloudevents => "one that takes CloudEvents",
            WireFormat::Httpsms => "a webhook of httpSMS, token checked",
            WireFormat::NovuSms => "an SMS gateway of Novu's, API key checked",
            WireFormat::NovuPush => "a push gateway of Novu's, signature checked",
            WireFormat::AuthgearSms => "an SMS gateway of Authgear's, signature checked",
            WireFormat::AuthgearScript => "a script of Authgear's, which calls a gateway",
            WireFormat::CometchatSms => "an SMS gateway of CometChat's, password checked",
            WireFormat::Raw => "one that takes the bare payload",
        },
        format,
        behaviour: Behaviour {
            body: answer(format).to_owned(),
            ..Behaviour::default()
        },
        ttl_seconds: None,
    };
    let odd = |what, behaviour, ttl_seconds| Scene {
        what,
        format: WireFormat::Standard,
        behaviour,
        ttl_seconds,
    };
    let failing = |status| Behaviour {
        status,
        ..Behaviour::default()
    };
    let recovering = Behaviour {
        fail_first: Some(2),
        status: 503,
        ..Behaviour::default()
    };
    let mut scenes: Vec<Scene> = WireFormat::ALL.into_iter().map(plain).collect();
    scenes.push(odd("one that is down (503) and recovers", recovering, None));
    scenes.push(odd("one that refuses it (400)", failing(400), None));
    scenes.push(odd(
        "one that stays down (503) for its 3 s",
        failing(503),
        Some(3.0),
    ));
    scenes
}

/// What a gateway of that kind answers. Authgear's none: a `code` would count for more than the 401
/// of a receiver that cannot verify the signature.
const fn answer(format: WireFormat) -> &'static str {
    match format {
        WireFormat::NovuSms => r#"{"data":{"id":"demo-1"}}"#,
        _ => "",
    }
}

struct Started {
    task: JoinHandle<()>,
    secret: Option<Secret>,
}

async fn start_receiver(scene: &Scene) -> Result<(Started, String), Failure> {
    let secret = wire::of(scene.format).new_secret(&serde_json::Map::new());
    let proof = secret.clone().or_else(|| password(scene.format));
    let verifier = Verifier::new(Format::Auto, proof.as_slice()).map_err(Failure::new)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut receiver = listen::serve(scene.behaviour.clone(), verifier, listener);
    let url = format!("http://{}/webhook", receiver.address());
    let task = tokio::spawn(async move { while receiver.next().await.is_some() {} });
    Ok((Started { task, secret }, url))
}

/// What an endpoint with the sample's settings proves itself by, where that is not its secret: as
/// `listen --secret` takes it.
fn password(format: WireFormat) -> Option<Secret> {
    let settings = wire::of(format).sample().settings;
    let pair = |name: &str, separator: &str, value: &str| {
        Some(Secret::new(format!(
            "{}{separator}{}",
            settings[name].as_str()?,
            settings[value].as_str()?
        )))
    };
    match format {
        WireFormat::NovuSms => pair("apiKeyRequestHeader", ": ", "apiKey"),
        WireFormat::CometchatSms => pair("basicAuthUsername", ":", "basicAuthPassword"),
        _ => None,
    }
}

/// Creates the endpoint and enqueues the notification; returns the notification's id.
async fn send(
    client: &Client,
    scene: &Scene,
    url: &str,
    secret: Option<Secret>,
) -> Result<String, Failure> {
    let sample = wire::of(scene.format).sample();
    let settings = sample
        .settings
        .to_string()
        .replace("https://example.com", url);
    let settings: Value =
        serde_json::from_str(&settings).map_err(|error| Failure::new(error.to_string()))?;
    let mut endpoint = json!({
        "url": url,
        "wire_format": scene.format,
        "description": scene.what,
        "settings": settings,
    });
    if let Some(secret) = secret {
        endpoint["secret"] = json!(secret.expose());
    }
    let endpoint: Value = client.post(&["v1", "endpoints"], &endpoint).await?;
    let mut notification = example(sample);
    notification["endpoint_id"] = endpoint["id"].clone();
    if let Some(ttl) = scene.ttl_seconds {
        notification["ttl_seconds"] = json!(ttl);
    }
    let accepted: Value = client.post(&["v1", "notifications"], &notification).await?;
    Ok(text(&accepted, "id"))
}

/// Waits for all outcomes; a row for each.
async fn watch(
    client: &Client,
    sent: &[(&str, WireFormat, String)],
) -> Result<Vec<Vec<String>>, Failure> {
    let begun = Instant::now();
    let mut rows = Vec::new();
    for (what, format, id) in sent {
        let delivery = loop {
            let found: Value = client
                .get(
                    &["v1", "deliveries"],
                    &[("notification_id", Some(id.clone()))],
                )
                .await?;
            match found["items"].get(0) {
                Some(delivery) if delivery["status"] != "pending" => break delivery.clone(),
                _ if begun.elapsed() > DEADLINE => {
                    return Err(Failure::new(format!(
                        "notification {id} was not finished in time"
                    ))
                    .hint(format!("`posthaste explain {id}` says why")));
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        rows.push(row(what, *format, &delivery));
    }
    Ok(rows)
}

fn row(what: &str, format: WireFormat, delivery: &Value) -> Vec<String> {
    let took = match (
        moment(delivery, "created_at"),
        moment(delivery, "finished_at"),
    ) {
        (Some(from), Some(to)) => format!("{:.3} s", to.since(from).as_secs_f64()),
        _ => String::new(),
    };
    vec![
        what.to_owned(),
        format.to_string(),
        text(delivery, "status"),
        delivery["attempt_count"].to_string(),
        took,
        if delivery["status"] == "delivered" {
            String::new()
        } else {
            text(delivery, "last_error")
        },
    ]
}

fn moment(delivery: &Value, member: &str) -> Option<posthaste_shared::domain::time::Timestamp> {
    posthaste_shared::domain::time::Timestamp::parse(delivery[member].as_str()?).ok()
}

/// Removes the endpoints of an earlier demonstration, whose receivers are gone.
async fn forget_earlier(client: &Client) -> Result<(), Failure> {
    let found: Value = client
        .get(&["v1", "endpoints"], &[("limit", Some("100".to_owned()))])
        .await?;
    for endpoint in found["items"].as_array().into_iter().flatten() {
        client
            .delete(&["v1", "endpoints", &text(endpoint, "id")])
            .await?;
    }
    Ok(())
}

/// A key of the demonstration's own, for its tenant alone.
struct Key {
    id: KeyId,
    secret: Secret,
}

impl Key {
    async fn make(node: &Node) -> Result<Self, Failure> {
        let now = node.services.clock.now();
        let info = ApiKey {
            id: KeyId::generate(now),
            name: "demonstration".to_owned(),
            tenant: Some(TenantId::parse(TENANT)?),
            scopes: vec![Scope::Admin],
            created_at: now,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
        };
        let (secret, hash) = new_key();
        node.services.store.insert_key(&info, &hash).await?;
        Ok(Self {
            id: info.id,
            secret,
        })
    }

    async fn revoke(self, node: &Node) -> Result<(), Failure> {
        node.services
            .store
            .revoke_key(&self.id, node.services.clock.now())
            .await?;
        Ok(())
    }
}
