//! What the handlers share.

use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::broker::Broker;
use posthaste_shared::clock::Clock;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::services::Services;
use posthaste_shared::store::Store;
use posthaste_shared::telemetry::metrics::Metrics;
use posthaste_shared::telemetry::trace::Tracer;
use tokio_util::sync::CancellationToken;

use crate::http::callers::key_cache::Keys;
use crate::http::directory::Directory;
use crate::http::installation::LastLook;
use crate::http::resolver::Resolve;
use crate::http::tallies::LastStats;
use crate::http::tenant_limits::TenantLimits;
use crate::http::wire_formats::WireFormats;

/// Limits of the API, and its bootstrap key.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The largest body of a request, and the largest item of a batch. Default 1 MiB.
    pub max_body_bytes: usize,
    /// The most notifications in a batch. Default 1,000.
    pub max_batch: usize,
    /// The largest body of a batch. Default 16 MiB.
    pub max_batch_body_bytes: usize,
    /// How long the body of a request may take to arrive. Default 30 s.
    pub body_timeout: Duration,
    /// A key with every scope and tenant that is not in the store (`POSTHASTE_ADMIN_KEY`). Default
    /// none.
    pub admin_key: Option<Secret>,
    /// The most endpoints of one tenant. Default none: no limit.
    pub tenant_max_endpoints: Option<u64>,
    /// The most pending deliveries of one tenant in the store. Default none: no limit.
    pub tenant_max_pending: Option<u64>,
    /// The most event streams of one tenant in this process. Default none: no limit.
    pub tenant_max_streams: Option<usize>,
    /// Whether the web console is served beside the API. Default true.
    pub console: bool,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            max_body_bytes: 1024 * 1024,
            max_batch: 1_000,
            max_batch_body_bytes: 16 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            admin_key: None,
            tenant_max_endpoints: None,
            tenant_max_pending: None,
            tenant_max_streams: None,
            console: true,
        }
    }
}

/// What the API is made of.
pub struct ApiParts {
    /// Store, broker, clock, metrics and tracer.
    pub services: Services,
    /// Which addresses endpoints may have.
    pub egress: EgressPolicy,
    /// What the wire formats know and do.
    pub wire_formats: Arc<dyn WireFormats>,
    /// Looks the names of endpoints up when they are saved.
    pub resolver: Arc<dyn Resolve>,
    /// Cancelled when the process stops: event streams end.
    pub shutdown: CancellationToken,
    /// Limits of the API and the bootstrap key.
    pub settings: ApiSettings,
}

/// What the handlers share.
pub struct Api {
    pub(super) store: Store,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tracer: Tracer,
    pub(super) egress: EgressPolicy,
    pub(super) wire_formats: Arc<dyn WireFormats>,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) shutdown: CancellationToken,
    pub(super) settings: ApiSettings,
    pub(super) keys: Keys,
    pub(super) directory: Directory,
    pub(super) tenants: TenantLimits,
    pub(super) last_look: LastLook,
    pub(super) last_stats: LastStats,
}

impl Api {
    /// An API, to be served by [`crate::http::router`].
    #[must_use]
    pub fn new(parts: ApiParts) -> Arc<Self> {
        let ApiParts {
            services,
            egress,
            wire_formats,
            resolver,
            shutdown,
            settings,
        } = parts;
        let Services {
            store,
            broker,
            clock,
            metrics,
            tracer,
        } = services;
        let keys = Keys::new(settings.admin_key.as_ref());
        let directory = Directory::default();
        let tenants = TenantLimits::new(settings.tenant_max_pending, settings.tenant_max_streams);
        Arc::new(Self {
            store,
            broker,
            clock,
            metrics,
            tracer,
            egress,
            wire_formats,
            resolver,
            shutdown,
            settings,
            keys,
            directory,
            tenants,
            last_look: LastLook::default(),
            last_stats: LastStats::default(),
        })
    }

    /// The time now, by the clock that the API was given.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
