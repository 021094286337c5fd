//! What a browser does: it keeps the cookie, says where a request comes from, and follows nothing
//! by itself, so that tests see each answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use posthaste_console::{Console, Mode, Settings, router};
use posthaste_producer::http::ApiSettings;
use posthaste_producer::http::router as api_router;
use posthaste_shared::domain::key::Scope;

use crate::support::TestApi;

/// A page as it came.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) html: String,
}

impl Page {
    /// Where it leads.
    pub(crate) fn location(&self) -> &str {
        let location = self.headers.get("location");
        location.map_or("", |value| value.to_str().unwrap())
    }

    /// The session's id that it sets.
    pub(crate) fn cookie(&self) -> Option<String> {
        let set = self.headers.get("set-cookie")?.to_str().unwrap();
        let id = set.split(';').next().unwrap().split_once('=').unwrap().1;
        (!id.is_empty()).then(|| id.to_owned())
    }

    /// The token of its forms.
    pub(crate) fn token(&self) -> String {
        let at = self
            .html
            .find("name=\"form_token\" value=\"")
            .expect("a form");
        let rest = &self.html[at + "name=\"form_token\" value=\"".len()..];
        rest.split('"').next().unwrap().to_owned()
    }
}

/// The API with the console beside it.
pub(crate) async fn start(mode: Mode) -> TestApi {
    TestApi::start_serving(ApiSettings::default(), None, |api| {
        let settings = Settings { mode, url: None };
        let console = Console::new(Arc::clone(&api), settings);
        api_router(api).merge(router(console))
    })
    .await
}

/// Somebody at a browser, signed in or not.
pub(crate) struct Browser<'a> {
    pub(crate) api: &'a TestApi,
    pub(crate) cookie: Option<String>,
    client: reqwest::Client,
}

impl<'a> Browser<'a> {
    /// Nobody who is signed in.
    pub(crate) fn new(api: &'a TestApi) -> Self {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self {
            api,
            cookie: None,
            client,
        }
    }

    /// Somebody who signed in with a new key.
    pub(crate) async fn with(api: &'a TestApi, scopes: &[Scope], tenant: Option<&str>) -> Self {
        let key = api.key(scopes, tenant).await;
        Self::with_key(api, &key, false).await
    }

    /// Somebody who signed in with this key.
    pub(crate) async fn with_key(api: &'a TestApi, key: &str, look_only: bool) -> Self {
        let mut browser = Self::new(api);
        let mut form = vec![("key", key)];
        if look_only {
            form.push(("look_only", "1"));
        }
        let page = browser.post("/console/login", &form).await;
        assert_eq!(page.status, 303, "{page:?}");
        browser.cookie = page.cookie();
        browser
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.api.url);
        let request = self.client.request(method.parse().unwrap(), url);
        match &self.cookie {
            Some(id) => request.header("cookie", format!("posthaste={id}")),
            None => request,
        }
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Page {
        let answer = request.send().await.unwrap();
        Page {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            html: answer.text().await.unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Page {
        self.send(self.request("GET", path)).await
    }

    /// Sends a form as a page of the console does, with a new id where it has none.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Page {
        static FORMS: AtomicUsize = AtomicUsize::new(0);
        let id = format!("form-{}", FORMS.fetch_add(1, Ordering::Relaxed));
        let mut form = form.to_vec();
        if !form.iter().any(|(name, _)| *name == "form_id") {
            form.push(("form_id", &id));
        }
        let request = self
            .request("POST", path)
            .header("sec-fetch-site", "same-origin");
        self.send(request.form(&form)).await
    }

    /// Sends a form with the token of this session.
    pub(crate) async fn act(&self, path: &str) -> Page {
        let token = self.get("/console/deliveries").await.token();
        self.post(path, &[("form_token", &token)]).await
    }
}
