//! `authgear-script`: a script in the place of an SMS gateway's webhook.

use serde_json::json;

use super::{gateway, only, sms};
use crate::wire_formats::{Scene, end, error};

/// As a customer would write it.
const SCRIPT: &str = r#"import type {
  CustomSMSGatewayPayload,
  CustomSMSGatewayResponse,
} from "https://deno.land/x/authgear_deno_hook@v1.5.0/mod.ts";

enum Verdict { Ok = "ok", Later = "rate_limited", Never = "delivery_rejected" }

export default async function (sms: CustomSMSGatewayPayload): Promise<CustomSMSGatewayResponse> {
  const form = new URLSearchParams({ to: sms.to, text: sms.body.trim() });
  console.log("sending to", sms.to);
  const answer = await fetch("GATEWAY", {
    method: "PUT",
    headers: { authorization: `Basic ${btoa("me:secret")}`, "x-app": sms.app_id },
    body: form,
  });
  const told = await answer.json().catch(() => null);
  console.log("answered", answer.status, told);
  if (answer.ok) return { code: Verdict.Ok };
  if (answer.status === 429) {
    return { code: Verdict.Later, provider_error_code: String(told.error) };
  }
  return { code: Verdict.Never, provider_error_code: String(told?.error) };
}
"#;

#[tokio::test]
async fn a_script_hands_the_message_to_a_gateway() {
    let scene = Scene::start().await;
    scene.receiver.answers(
        "/gateway",
        &[(429, r#"{"error":20429}"#), (200, r#"{"sid":"SM1"}"#)],
    );
    let script = SCRIPT.replace("GATEWAY", &scene.receiver.url("/gateway?v=1"));
    let endpoint = gateway(&scene, &script, 30_000, 4).await;
    let delivery = scene.outcome(&endpoint, sms()).await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("delivered", ""), &json!(2)),
        "{delivery}"
    );
    assert_eq!(
        (
            error(&delivery, 0, "code"),
            &delivery["attempts"][1]["error"]
        ),
        ("rate_limited", &json!(null))
    );
    for (attempt, told) in [(0, r#"429 {"error":20429}"#), (1, r#"200 {"sid":"SM1"}"#)] {
        let attempt = &delivery["attempts"][attempt];
        assert_eq!(
            (&attempt["result"], &attempt["status_code"]),
            (&json!("script"), &json!(null))
        );
        let console = attempt["console"].as_str().expect("a console");
        assert_eq!(
            console.trim_end(),
            format!("sending to +44123456789\nanswered {told}")
        );
    }
    assert_eq!(delivery["attempts"][1]["response_body"], r#"{"code":"ok"}"#);
    let requests = scene.receiver.requests("/gateway");
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!((request.method.as_str(), request.query()), ("PUT", "v=1"));
        assert_eq!(
            crate::wire_formats::body(request),
            "to=%2B44123456789&text=420240+is+your+code."
        );
        assert_eq!(
            (request.header("authorization"), request.header("x-app")),
            ("Basic bWU6c2VjcmV0", "")
        );
        assert!(
            request
                .header("content-type")
                .starts_with("application/x-www-form-urlencoded")
        );
        assert!(
            request.headers.get("webhook-id").is_none(),
            "the script's own request is its own"
        );
    }
    // The script may have keys in it, so the API does not show it.
    let shown = scene
        .api
        .get(&format!(
            "/v1/endpoints/{}",
            endpoint["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(shown["settings"]["script"], "[redacted]");
    assert!(!format!("{endpoint}{shown}{}", scene.up.log()).contains("btoa"));
}

#[tokio::test]
async fn what_it_returns_decides() {
    let scene = Scene::start().await;
    let returned = [
        ("({ code: \"ok\" })", ("delivered", ""), ""),
        ("undefined", ("delivered", ""), ""),
        ("null", ("delivered", ""), ""),
        ("\"queued\"", ("delivered", ""), ""),
        ("({})", ("failed", "rejected"), "unexpected"),
        (
            "({ code: \"rate_limited\" })",
            ("failed", "retries_exhausted"),
            "rate_limited",
        ),
        (
            "({ code: \"timeout\" })",
            ("failed", "retries_exhausted"),
            "timeout",
        ),
        (
            "({ code: \"authentication_failed\" })",
            ("failed", "provider_rejected"),
            "authentication_failed",
        ),
        (
            "({ code: \"delivery_rejected\", provider_error_code: \"30003\" })",
            ("failed", "provider_rejected"),
            "delivery_rejected",
        ),
    ];
    for (value, expected, code) in returned {
        let script = format!("export default async (e) => {{ return {value}; }};");
        let endpoint = gateway(&scene, &script, 30_000, 0).await;
        let delivery = scene.outcome(&endpoint, sms()).await;
        assert_eq!(end(&delivery), expected, "{value} {delivery}");
        let told = delivery["attempts"][0]["error"]["code"]
            .as_str()
            .unwrap_or_default();
        assert_eq!(
            (told, &delivery["attempt_count"]),
            (code, &json!(1)),
            "{value}"
        );
        let provider = if value.contains("30003") {
            json!("30003")
        } else {
            json!(null)
        };
        assert_eq!(delivery["provider_error_code"], provider);
    }
}

#[tokio::test]
async fn a_gateway_that_is_away_is_called_again() {
    let scene = Scene::start().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let script = SCRIPT.replace("GATEWAY", &closed);
    let endpoint = gateway(&scene, &script, 30_000, 1).await;
    let delivery = scene.outcome(&endpoint, sms()).await;
    assert_eq!(
        (end(&delivery), &delivery["attempt_count"]),
        (("failed", "retries_exhausted"), &json!(2)),
        "{delivery}"
    );
    assert_eq!(
        (
            error(&delivery, 0, "code"),
            &delivery["attempts"][0]["result"]
        ),
        ("connection_refused", &json!("network"))
    );
    // Within the call of fetch, which goes over these lines.
    let lines = (11..=15).map(|line| format!("(line {line}, column "));
    assert!(
        lines
            .into_iter()
            .any(|place| error(&delivery, 0, "text").contains(&place)),
        "{delivery}"
    );

    let script = SCRIPT.replace("GATEWAY", &scene.receiver.url("/redirect"));
    let endpoint = gateway(&scene, &script, 30_000, 1).await;
    let delivery = scene.outcome(&endpoint, sms()).await;
    assert_eq!(
        end(&delivery),
        ("failed", "provider_rejected"),
        "{delivery}"
    );
    only(&scene, "/redirect");
    assert!(
        scene.receiver.requests("/ok").is_empty(),
        "the redirect was followed"
    );
}
