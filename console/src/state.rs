//! What the pages share.

use std::sync::Arc;

use posthaste_producer::http::Api;
use tokio::sync::Semaphore;
use url::Url;

use crate::flood::Flood;

/// How many pages are made at once. Looking must not cost the work: what the pages ask of the store
/// at the same time stays a small part of its connections.
const PAGES_AT_ONCE: usize = 4;

/// What may be done in the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All that the API key may do.
    On,
    /// Nobody changes anything, whatever the API key may do.
    ReadOnly,
}

/// How the console is served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What may be done in it.
    pub mode: Mode,
    /// The address in the browser, where a proxy stands in front. `None`: what the browser asked
    /// for, which must be a loopback address.
    pub url: Option<Url>,
}

/// What the pages share.
pub struct Console {
    pub(crate) api: Arc<Api>,
    pub(crate) settings: Settings,
    pub(crate) flood: Flood,
    pub(crate) pages: Semaphore,
}

impl Console {
    /// A console for this API, to be served by [`crate::router`].
    #[must_use]
    pub fn new(api: Arc<Api>, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            api,
            settings,
            flood: Flood::default(),
            pages: Semaphore::new(PAGES_AT_ONCE),
        })
    }

    /// The time now, by the clock of the API.
    pub(crate) fn now(&self) -> posthaste_shared::domain::time::Timestamp {
        self.api.now()
    }

    /// Whether nobody changes anything, whatever the API key may do.
    pub(crate) fn is_read_only(&self) -> bool {
        self.settings.mode == Mode::ReadOnly
    }
}
