//! Signing in to the web console: from an API key to a session whose id the browser keeps, and back
//! from that id to the caller. The store knows sessions and links by hashes alone, so every process
//! of the API knows them and nobody can sign in with what a copy of the database has.
//!
//! A session ends after an hour without use, after 12 hours in all, when it is signed out, and with
//! its API key: the key is looked up at each request as it is for the JSON API.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use posthaste_shared::domain::audit::Action;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::console_sessions::ConsoleSession;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::http::callers::Caller;
use crate::http::callers::key_cache::hash_key;
use crate::http::problem::{Code, Problem};
use crate::http::state::Api;

/// How long a session lasts in all.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// How long a session lasts without being used.
const IDLE: Duration = Duration::from_secs(3600);
/// How exactly it is kept when a session was last used: a write for each page would cost more than
/// the page.
const USED_EVERY: Duration = Duration::from_secs(60);
/// How long a link works. Long enough to switch to the browser, and short for what may lie in a
/// terminal's history.
const LINK_LIFETIME: Duration = Duration::from_secs(600);
/// Where the console takes links.
const LINK_PATH: &str = "/console/link?token=";

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// Who it is, with the rights that the session has.
    pub caller: Caller,
    /// Whether it was chosen at the sign-in to look only.
    pub look_only: bool,
    /// What each form of this session carries, so that no other site can send one. It follows from
    /// the session's id, which the store does not have.
    pub form_token: String,
    /// When the session ends, however much it is used.
    pub ends_at: Timestamp,
}

impl SignedIn {
    /// Whether a form with this token comes from a page of this session.
    #[must_use]
    pub fn made(&self, form_token: &str) -> bool {
        // In constant time: how long it takes says nothing about the token.
        self.form_token
            .as_bytes()
            .ct_eq(form_token.as_bytes())
            .into()
    }
}

/// Whether a request shows that somebody is there, or a page refreshes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Somebody opened a page or sent a form: the session lasts on.
    Person,
    /// A page that is open refreshes itself, which keeps no session alive.
    Refresh,
}

/// A link that signs in to the web console once.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConsoleLink {
    /// The path of the link with its token, below the address of the API.
    pub path: String,
    /// When the link stops working, used or not.
    pub expires_at: Timestamp,
}

/// Signs in with an API key. Returns the new session's id, for the browser alone.
///
/// # Errors
/// The key does not work, or may neither read nor manage; the store failed.
pub async fn with_key(api: &Api, key: &Secret, look_only: bool) -> Result<Secret, Problem> {
    with_hash(api, hash_key(key.expose().trim()), look_only).await
}

/// Signs in with a link's token, and uses the link up.
///
/// # Errors
/// The link is unknown, used or too old; or its key does not work any more; the store failed.
pub async fn with_link(api: &Api, token: &Secret, look_only: bool) -> Result<Secret, Problem> {
    let since = api.clock.now().before(LINK_LIFETIME);
    let hash = hash_key(token.expose());
    match api.store.use_console_link(&hash, since).await? {
        Some(key_hash) => with_hash(api, key_hash, look_only).await,
        None => Err(Problem::new(
            Code::InvalidKey,
            "this link was used already, or is older than 10 minutes: create another one with \
             posthaste console, or sign in with an API key",
        )),
    }
}

async fn with_hash(api: &Api, key_hash: [u8; 32], look_only: bool) -> Result<Secret, Problem> {
    let caller = caller(api, key_hash).await?;
    if !caller.may(Scope::Read) {
        return Err(Problem::new(
            Code::MissingScope,
            "this API key may only enqueue: the console needs one with the scope read or admin",
        ));
    }
    let now = api.clock.now();
    remove_old(api, now).await?;
    // Always a new one: an id that somebody planted in the browser is never taken over.
    let id = random();
    let session = ConsoleSession {
        key_id: caller.key().id.clone(),
        key_hash,
        look_only,
        created_at: now,
        used_at: now,
    };
    let tenant = caller.bound_to();
    let act = caller.act(Action::ConsoleSignIn, None, tenant, now);
    api.store
        .for_act(act)
        .insert_console_session(&hash_key(&id), &session)
        .await?;
    Ok(Secret::new(id))
}

/// Whose session the id names; `None`: nobody's, or it has ended.
///
/// # Errors
/// The store failed, so that nobody can say.
pub async fn session(api: &Api, id: &str, use_: Use) -> Result<Option<SignedIn>, Problem> {
    let id_hash = hash_key(id);
    let Some(session) = api.store.console_session(&id_hash).await? else {
        return Ok(None);
    };
    let now = api.clock.now();
    let ends_at = session.created_at.after(LIFETIME);
    if now >= ends_at || now >= session.used_at.after(IDLE) {
        return Ok(None);
    }
    let caller = match caller(api, session.key_hash).await {
        Ok(caller) => caller,
        Err(problem) if problem.code == Code::InvalidKey => return Ok(None),
        Err(problem) => return Err(problem),
    };
    if use_ == Use::Person && now >= session.used_at.after(USED_EVERY) {
        api.store.note_console_use(&id_hash, now).await?;
    }
    let look_only = session.look_only;
    Ok(Some(SignedIn {
        caller: if look_only {
            caller.looking_only()
        } else {
            caller
        },
        look_only,
        form_token: form_token(id),
        ends_at,
    }))
}

/// Signs out: the session's id is worth nothing any more.
///
/// # Errors
/// The store failed.
pub async fn out(api: &Api, id: &str) -> Result<(), Problem> {
    Ok(api.store.delete_console_session(&hash_key(id)).await?)
}

/// Creates a link that signs in once with the key of this hash.
///
/// # Errors
/// That key does not work; the store failed.
pub async fn new_link(api: &Api, key_hash: &[u8; 32]) -> Result<ConsoleLink, Problem> {
    let token = random();
    let now = api.clock.now();
    remove_old(api, now).await?;
    let caller = caller(api, *key_hash).await?;
    let act = caller.act(Action::ConsoleLinkCreate, None, caller.bound_to(), now);
    api.store
        .for_act(act)
        .insert_console_link(&hash_key(&token), key_hash, now)
        .await?;
    Ok(ConsoleLink {
        path: format!("{LINK_PATH}{token}"),
        expires_at: now.after(LINK_LIFETIME),
    })
}

/// Removes what is of no use any more. Here and not by a task of its own: sign-ins and links are
/// seldom, and what is removed was made by them.
async fn remove_old(api: &Api, now: Timestamp) -> Result<(), Problem> {
    let old = (now.before(LIFETIME), now.before(LINK_LIFETIME));
    Ok(api.store.remove_old_sign_ins(old.0, old.1).await?)
}

async fn caller(api: &Api, key_hash: [u8; 32]) -> Result<Caller, Problem> {
    api.keys
        .look_up_hash(&api.store, &*api.clock, key_hash)
        .await
}

/// The id of a form that a page has, by which it is done once only.
#[must_use]
pub fn new_form_id() -> String {
    random()
}

/// 256 random bits as text that is safe in cookies and URLs.
fn random() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn form_token(id: &str) -> String {
    // Not the hash that the store has: with a copy of the database nobody can make a token.
    let digest = Sha256::digest(format!("posthaste console form\n{id}"));
    URL_SAFE_NO_PAD.encode(digest)
}
