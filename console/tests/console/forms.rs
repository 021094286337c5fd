//! Creating, changing and deleting by forms: what the API takes, its refusals at their fields, and
//! what is shown once.

use posthaste_console::Mode;
use posthaste_shared::domain::key::Scope;
use serde_json::json;

use crate::browser::{Browser, Page, start};
use crate::html::check;

/// A secret or key that a page shows.
pub(crate) fn shown(page: &Page) -> &str {
    let (_, rest) = page
        .html
        .split_once("<code class=\"secret\">")
        .unwrap_or_else(|| panic!("{}", page.html));
    rest.split('<').next().unwrap()
}

/// The value of a hidden or shown field.
pub(crate) fn value<'a>(page: &'a Page, name: &str) -> &'a str {
    let field = format!("name=\"{name}\"");
    let (_, rest) = page
        .html
        .split_once(&field)
        .unwrap_or_else(|| panic!("{name}: {}", page.html));
    let input = rest.split('>').next().unwrap();
    let value = input.split_once("value=\"").map_or("", |(_, rest)| rest);
    value.split('"').next().unwrap()
}

/// A form as its page has it: every input with its value, and what is checked.
pub(crate) fn filled(page: &Page) -> Vec<(String, String)> {
    let unescaped = |text: &str| {
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&amp;", "&")
    };
    let (_, form) = page.html.split_once("<form class=\"sheet\"").unwrap();
    let form = form.split("</form>").next().unwrap();
    let attribute = |tag: &str, name: &str| {
        let rest = tag.split_once(&format!(" {name}=\"")).map(|(_, rest)| rest);
        rest.map(|rest| unescaped(rest.split('"').next().unwrap()))
    };
    let mut fields = Vec::new();
    for part in form.split('<') {
        let (tag, text) = part.split_once('>').unwrap_or((part, ""));
        let name = attribute(tag, "name");
        match (tag.split(' ').next().unwrap(), name) {
            ("input", Some(name)) => {
                let is_off = tag.contains("type=\"checkbox\"") && !tag.contains(" checked");
                if !is_off {
                    fields.push((name, attribute(tag, "value").unwrap_or_default()));
                }
            }
            ("textarea", Some(name)) => {
                fields.push((name, unescaped(text.strip_prefix('\n').unwrap())));
            }
            ("select", Some(name)) => fields.push((name, String::new())),
            ("option", _) if tag.contains(" selected") => {
                fields.last_mut().unwrap().1 = attribute(tag, "value").unwrap();
            }
            _ => {}
        }
    }
    fields
}

/// The form with other values.
pub(crate) fn with(
    mut fields: Vec<(String, String)>,
    changes: &[(&str, &str)],
) -> Vec<(String, String)> {
    for (name, value) in changes {
        let found = fields.iter_mut().find(|(field, _)| field == name);
        found.unwrap_or_else(|| panic!("no {name}")).1 = (*value).to_owned();
    }
    fields
}

pub(crate) async fn send(browser: &Browser<'_>, path: &str, fields: &[(String, String)]) -> Page {
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    browser.post(path, &fields).await
}

#[tokio::test]
async fn an_endpoint_is_created_changed_and_deleted() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let page = browser.get("/console/endpoints/new").await;
    check("choose", &page);
    assert!(page.html.contains("?wire_format=cometchat-sms"));
    let page = browser
        .get("/console/endpoints/new?wire_format=standard&tenant=acme")
        .await;
    check("new", &page);
    let form = filled(&page);
    let wrong = with(
        form.clone(),
        &[
            ("url", "https://hooks.example/<a>"),
            ("timeout_ms", "5"),
            ("retry.jitter", "much"),
            ("headers", "X-A: 1\nno colon"),
        ],
    );
    let page = send(&browser, "/console/endpoints", &wrong).await;
    assert_eq!(page.status, 422, "{}", page.html);
    check("no colon", &page);
    assert!(page.html.contains("It has no colon in line 2."));
    assert_eq!(value(&page, "timeout_ms"), "5", "what was typed stays");
    let wrong = with(wrong, &[("headers", "X-A: 1"), ("retry.jitter", "0.1")]);
    let page = send(&browser, "/console/endpoints", &wrong).await;
    assert!(
        page.status == 422 && page.html.contains("1000"),
        "{}",
        page.html
    );
    let right = with(
        wrong,
        &[
            ("timeout_ms", "7000"),
            ("subscription.types", "order.*, invoice.paid"),
            ("retry.max_retries", "9"),
            ("headers", "X-A: 1\r\nAuthorization: Bearer a:b"),
        ],
    );
    let page = send(&browser, "/console/endpoints", &right).await;
    assert_eq!(page.status, 200, "{}", page.html);
    check("created", &page);
    assert!(shown(&page).starts_with("whsec_"));
    let all = api.call("GET", "/v1/endpoints", json!(null)).await;
    let made = &all.body["items"][0];
    assert_eq!(
        json!([
            made["tenant"],
            made["timeout_ms"],
            made["subscription"]["types"],
            made["settings"],
            made["retry"]["max_retries"],
            made["headers"],
        ]),
        json!([
            "acme",
            7000,
            ["order.*", "invoice.paid"],
            {},
            9,
            { "X-A": "[redacted]", "Authorization": "[redacted]" },
        ])
    );

    let id = made["id"].as_str().unwrap();
    let path = format!("/console/endpoints/{id}");
    let page = browser.get(&path).await;
    assert!(page.html.contains(&format!("posthaste endpoint show {id}")));
    let settings = format!("{path}/settings");
    let page = browser.get(&settings).await;
    check("settings", &page);
    let form = filled(&page);
    // As it is: nothing changes, and what is hidden stays.
    let page = send(&browser, &settings, &form).await;
    assert_eq!(page.status, 303, "{}", page.html);
    let now = api
        .call("GET", &format!("/v1/endpoints/{id}"), json!(null))
        .await;
    assert_eq!(&now.body, made);
    // Somebody else is quicker.
    let form = filled(&browser.get(&settings).await);
    let theirs = json!({ "description": "theirs" });
    let patched = api
        .call("PATCH", &format!("/v1/endpoints/{id}"), theirs)
        .await;
    assert_eq!(patched.status, 200);
    let mine = with(form, &[("description", "mine"), ("max_in_flight", "4")]);
    let page = send(&browser, &settings, &mine).await;
    assert_eq!(page.status, 412, "{}", page.html);
    check("overtaken", &page);
    assert!(page.html.contains("It is now: theirs."), "{}", page.html);
    assert_eq!(value(&page, "description"), "mine");
    let page = send(&browser, &settings, &filled(&page)).await;
    assert_eq!(page.status, 303, "{}", page.html);
    let now = api
        .call("GET", &format!("/v1/endpoints/{id}"), json!(null))
        .await;
    assert_eq!(now.body["description"], "mine");
    assert_eq!(now.body["max_in_flight"], 4);

    let secret = format!("{path}/secret");
    let form = filled(&browser.get(&secret).await);
    let page = send(&browser, &secret, &form).await;
    check("rotated", &page);
    assert!(shown(&page).starts_with("whsec_"));
    // A form that was used does nothing more: it gives the same answer, and no other.
    let again = send(&browser, &secret, &form).await;
    assert_eq!(shown(&again), shown(&page));
    let page = send(&browser, &secret, &with(form, &[("overlap_seconds", "0")])).await;
    assert_eq!(page.status, 409, "{}", page.html);
    let form = filled(&browser.get(&secret).await);
    let page = send(&browser, &secret, &with(form, &[("secret", "short")])).await;
    assert_eq!(page.status, 422, "{}", page.html);
    assert!(
        !page.html.contains("value=\"short\""),
        "a secret is not shown again"
    );

    let delete = format!("{path}/delete");
    let page = browser.get(&delete).await;
    check("delete", &page);
    let token = page.token();
    let refused = browser
        .post(&delete, &[("form_token", &token), ("typed", "yes")])
        .await;
    assert_eq!(refused.status, 422);
    let done = browser
        .post(&delete, &[("form_token", &token), ("typed", id)])
        .await;
    assert_eq!(done.status, 303);
    let gone = api
        .call("GET", &format!("/v1/endpoints/{id}"), json!(null))
        .await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn a_key_is_created_shown_once_and_revoked() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let page = browser.get("/console/keys/new").await;
    check("new", &page);
    let form = filled(&page);
    let page = send(&browser, "/console/keys", &form).await;
    assert_eq!(page.status, 422, "it has no name yet");
    check("without a name", &page);
    let changes = [
        ("name", "<b>shop</b>"),
        ("of_tenant", "acme"),
        ("life", "86400"),
    ];
    let page = send(&browser, "/console/keys", &with(form, &changes)).await;
    assert_eq!(page.status, 200, "{}", page.html);
    check("created", &page);
    let key = shown(&page).to_owned();
    assert!(key.starts_with("ph_"));
    let list = browser.get("/console/keys").await;
    check("list", &list);
    assert!(list.html.contains("&lt;b&gt;shop&lt;/b&gt;") && !list.html.contains(&key));
    let all = api.call("GET", "/v1/keys", json!(null)).await;
    let items = all.body["items"].as_array().unwrap();
    let made = items
        .iter()
        .find(|key| key["name"] == "<b>shop</b>")
        .unwrap();
    assert_eq!(
        json!([made["tenant"], made["scopes"]]),
        json!(["acme", ["enqueue"]])
    );
    assert!(made["expires_at"].is_string());
    let path = format!("/console/keys/{}/revoke", made["id"].as_str().unwrap());
    let page = browser.get(&path).await;
    check("revoke", &page);
    let done = browser.post(&path, &[("form_token", &page.token())]).await;
    assert_eq!(done.status, 303);
    let again = browser.get(&path).await;
    assert_eq!(again.status, 404, "it does not work any more");
}
