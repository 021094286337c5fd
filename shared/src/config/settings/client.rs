//! What the commands that speak to the HTTP API read.

use super::{Kind, Setting, UsedBy};

/// In the order of the reference.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "api_url",
        "POSTHASTE_API_URL",
        Kind::Url,
        UsedBy::Client,
        "Where the client commands find the API. Set by a `posthaste.toml` in the working \
         directory that `--config` does not name, it is sent no key from the environment or a \
         flag: the directory may be somebody else's. `HTTPS_PROXY` is used with `https://` to \
         another machine; with `http://`, or to this machine, no proxy is.",
    )
    .default("http://127.0.0.1:8080"),
    Setting::new(
        "api_key",
        "POSTHASTE_API_KEY",
        Kind::Text,
        UsedBy::Client,
        "The API key that the client commands send. Default: the file `api-key` in `data_dir`, \
         which `up` leaves there.",
    )
    .secret(),
];
