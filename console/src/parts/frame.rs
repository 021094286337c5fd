//! What stands around every page: where somebody is, and who they are.

use posthaste_shared::domain::time::Timestamp;

use super::query::Query;

/// The header by which an open page asks for its own main part.
pub(crate) const PART: &str = "posthaste-part";
/// The field of every form that carries the session's token.
pub(crate) const TOKEN: &str = "form_token";

/// The field of every form with the id by which it is done once only.
pub(crate) const ONCE: &str = "form_id";

/// The parts of the console, as in its navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// Whether all is well.
    Overview,
    /// Deliveries, and one of them.
    Deliveries,
    /// Notifications, and one of them.
    Notifications,
    /// Endpoints, and one of them.
    Endpoints,
    /// What is or was sent again, all that matched a filter.
    Replays,
    /// What Posthaste reported.
    Events,
    /// Who delivers.
    Workers,
    /// What nobody could read.
    DeadLetters,
    /// API keys.
    Keys,
    /// Who did what.
    Audit,
    /// A notification to send by hand.
    Send,
    /// None of them, as for an unknown page.
    None,
}

impl Section {
    /// Those that a visitor may open: of each its path, its name and the key that goes to it.
    pub(crate) fn all(frame: &Frame) -> Vec<(Self, &'static str, &'static str, &'static str)> {
        let mut all = vec![
            (Self::Overview, "/console/overview", "Overview", "o"),
            (Self::Deliveries, "/console/deliveries", "Deliveries", "d"),
            (
                Self::Notifications,
                "/console/notifications",
                "Notifications",
                "n",
            ),
            (Self::Endpoints, "/console/endpoints", "Endpoints", "e"),
            (Self::Events, "/console/events", "Events", "v"),
            (Self::Replays, "/console/replays", "Replays", "r"),
        ];
        // They belong to no tenant.
        if !frame.is_bound {
            all.push((Self::Workers, "/console/workers", "Workers", "w"));
        }
        if frame.may_manage && !frame.is_bound {
            all.push((
                Self::DeadLetters,
                "/console/dead-letters",
                "Dead letters",
                "l",
            ));
            all.push((Self::Keys, "/console/keys", "Keys", "k"));
            all.push((Self::Audit, "/console/audit", "Audit", "a"));
        }
        if frame.may_enqueue {
            all.push((Self::Send, "/console/send", "Send a test", "s"));
        }
        all
    }
}

/// What stands around a page.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Where the page is in the navigation.
    pub(crate) section: Section,
    /// The tenant that is looked at; `None`: all.
    pub(crate) tenant: Option<String>,
    /// Whether the key is bound to that tenant.
    pub(crate) is_bound: bool,
    /// Whether the visitor may change things.
    pub(crate) may_manage: bool,
    /// Whether the visitor may send notifications.
    pub(crate) may_enqueue: bool,
    /// The name of the key that signed in.
    pub(crate) who: String,
    /// What the visitor may do, in a word.
    pub(crate) rights: &'static str,
    /// What every form carries.
    pub(crate) form_token: String,
    /// The id of this page's forms: each is done once only.
    pub(crate) form_id: String,
    /// What was just done, in a sentence.
    pub(crate) notice: Option<String>,
    /// When the session ends, however much it is used.
    pub(crate) ends_at: Option<Timestamp>,
    /// Whether only the main part is wanted.
    pub(crate) is_part: bool,
    /// The tag of the main part that the browser has.
    pub(crate) seen: Option<String>,
}

impl Frame {
    /// A path of the console with the tenant that is looked at. One that has a query has it there.
    pub(crate) fn link(&self, path: &str) -> String {
        self.link_with(path, &Query::default())
    }

    /// The same with more in its query.
    pub(crate) fn link_with(&self, path: &str, query: &Query) -> String {
        match (&self.tenant, self.is_bound) {
            (Some(tenant), false) if !path.contains('?') => {
                format!("{path}{}", query.with("tenant", tenant))
            }
            _ => format!("{path}{query}"),
        }
    }
}
