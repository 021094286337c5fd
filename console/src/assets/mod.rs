//! The files that pages need: part of the program, served under a path with their hash, so that a
//! browser keeps them for ever and never has those of another version.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use sha2::{Digest as _, Sha256};

/// A file as it is served.
pub(crate) struct Asset {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

/// The look of all pages.
pub(crate) const CSS: Asset = Asset {
    name: "console.css",
    media_type: "text/css; charset=utf-8",
    bytes: include_bytes!("console.css"),
};
/// What makes pages fresher and quicker.
pub(crate) const SCRIPT: Asset = Asset {
    name: "console.js",
    media_type: "text/javascript; charset=utf-8",
    bytes: include_bytes!("console.js"),
};
/// Idiomorph 0.8.0 (Zero-Clause BSD, see `idiomorph.LICENSE`): changes a page into a newer one
/// without losing focus, scroll position or typed text.
pub(crate) const MORPH: Asset = Asset {
    name: "idiomorph.js",
    media_type: "text/javascript; charset=utf-8",
    bytes: include_bytes!("idiomorph.js"),
};
/// The mark in the browser's tab.
pub(crate) const ICON: Asset = Asset {
    name: "icon.svg",
    media_type: "image/svg+xml",
    bytes: include_bytes!("icon.svg"),
};

const ALL: [&Asset; 4] = [&CSS, &SCRIPT, &MORPH, &ICON];

/// One hash for all: they change together, with the program.
static HASH: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for asset in ALL {
        digest.update(asset.bytes);
    }
    hex::encode(&digest.finalize()[..8])
});

impl Asset {
    /// Where it is served.
    pub(crate) fn path(&self) -> String {
        format!("/console/assets/{}/{}", *HASH, self.name)
    }
}

/// Serves one; those of other versions of the program are not found.
pub(crate) async fn serve(Path((hash, name)): Path<(String, String)>) -> Response {
    let found = ALL.into_iter().find(|asset| asset.name == name);
    let Some(asset) = found.filter(|_| hash == *HASH) else {
        return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, asset.bytes).into_response()
}
