//! Looks host names up for outgoing requests, and for URLs that are being saved, without a thread
//! for each.
//!
//! The rules:
//! - Names are asked for asynchronously, so name servers that do not answer hold up the names that
//!   they are asked for and no others. (The system's `getaddrinfo` holds a thread for as long as
//!   that takes.)
//! - There is one look-up of a name at a time; everybody who wants the name meanwhile waits for
//!   it. It goes on when they have given up, so that the next one finds its result.
//! - An answer is kept for as long as it says itself, at most `KEEP_ANSWER`. That a name does not
//!   exist is kept for `KEEP_REFUSAL`, and that nobody answered for `KEEP_SILENCE`.
//! - The system's configuration counts (`/etc/resolv.conf`, `/etc/hosts`), and is read again when
//!   it has changed.
//! - Whether an address may be called is not asked here: whoever calls it checks each address, each
//!   time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::{TokioResolver, system_conf};
use tokio::sync::{Semaphore, watch};

use crate::egress::Refusal;

/// How long a name server is waited for before it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often name servers are asked again that did not answer.
const ASKED_AGAIN: usize = 1;
/// How long a look-up takes at the most: less than an attempt's default timeout of 5 s, so that its
/// error can say that it was the name servers.
const DEADLINE: Duration = Duration::from_secs(4);
/// How long an answer is kept at the most, so that an endpoint that has moved is soon found.
const KEEP_ANSWER: Duration = Duration::from_secs(30);
/// How long it is kept that a name does not exist or has no address.
const KEEP_REFUSAL: Duration = Duration::from_secs(5);
/// How long it is kept that a name could not be looked up. Long enough that not every attempt waits
/// for silent name servers, short enough that nobody notices once they answer again.
const KEEP_SILENCE: Duration = Duration::from_secs(2);
/// Names that are asked for at the same time; each takes two sockets.
const UNDER_WAY: usize = 1_024;
/// Names that are kept. Beyond that, those that are not fresh any more are forgotten, then any.
const KEPT: usize = 4_096;
/// How often it is looked whether the system's configuration has changed.
const RECHECK: Duration = Duration::from_secs(5);
/// What the system's configuration consists of.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// The port of name servers.
const PORT: u16 = 53;

/// Looks names up. Cheap to clone; clones share what is being looked up and what is kept.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    /// Asked instead of those of the system, unless empty.
    name_servers: Vec<SocketAddr>,
    names: Mutex<HashMap<String, Known>>,
    configured: tokio::sync::Mutex<Option<Configured>>,
    under_way: Semaphore,
}

/// What is known of a name.
enum Known {
    /// It is being looked up.
    UnderWay(watch::Receiver<Option<Answer>>),
    /// It was looked up.
    Answered { answer: Answer, until: Instant },
}

/// A name's addresses, or why it has none.
type Answer = Result<Arc<[IpAddr]>, Unresolved>;

/// Why a name has no address.
#[derive(Debug, Clone)]
struct Unresolved {
    problem: Arc<str>,
    /// The name servers say that there is none; else they could not be asked, or failed.
    missing: bool,
}

impl Unresolved {
    fn missing(problem: &str) -> Self {
        Self {
            problem: problem.into(),
            missing: true,
        }
    }

    fn trouble(problem: impl Into<Arc<str>>) -> Self {
        Self {
            problem: problem.into(),
            missing: false,
        }
    }
}

/// What the system's configuration gave.
struct Configured {
    resolver: TokioResolver,
    servers: Arc<str>,
    files: [Option<Stamp>; 2],
    checked: Instant,
}

/// Tells whether a file has changed.
type Stamp = (SystemTime, u64);

impl Resolver {
    /// A resolver that asks `name_servers`, or those of the system where there are none of these.
    #[must_use]
    pub fn new(name_servers: &[SocketAddr]) -> Self {
        Self(Arc::new(Inner {
            name_servers: name_servers.to_vec(),
            names: Mutex::default(),
            configured: tokio::sync::Mutex::default(),
            under_way: Semaphore::new(UNDER_WAY),
        }))
    }

    /// Every address of `host`, a name. Takes up to 4 s where name servers do not answer.
    ///
    /// # Errors
    /// [`Refusal::Unresolvable`], which says why.
    pub async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, Refusal> {
        let mut answer = match self.known(host) {
            Ok(answer) => return found(host, Some(answer)),
            Err(under_way) => under_way,
        };
        let answer = answer
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|answer| answer.clone());
        found(host, answer)
    }

    /// What is kept of a name, or the look-up of it that is running; begun now where there is none.
    fn known(&self, host: &str) -> Result<Answer, watch::Receiver<Option<Answer>>> {
        let mut names = self.names();
        // Names are compared without regard to case (RFC 4343): `Example.com` must not be looked up
        // beside `example.com`.
        let entry = names.entry(host.to_ascii_lowercase());
        if let Entry::Occupied(known) = &entry {
            match known.get() {
                Known::Answered { answer, until } if *until > Instant::now() => {
                    return Ok(answer.clone());
                }
                // A look-up whose task is gone without a result is begun again.
                Known::UnderWay(answer) if answer.has_changed().is_ok() => {
                    return Err(answer.clone());
                }
                _ => {}
            }
        }
        let (found, answer) = watch::channel(None);
        let host = entry.key().clone();
        match entry {
            Entry::Occupied(mut known) => drop(known.insert(Known::UnderWay(answer.clone()))),
            Entry::Vacant(unknown) => drop(unknown.insert(Known::UnderWay(answer.clone()))),
        }
        let resolver = self.clone();
        // A task of its own: whoever gives up must not take the look-up away from those who still
        // wait.
        tokio::spawn(async move {
            let (answer, until) = resolver.ask(&host).await;
            resolver.keep(host, answer.clone(), until);
            found.send_replace(Some(answer));
        });
        Err(answer)
    }

    fn keep(&self, host: String, answer: Answer, until: Instant) {
        let mut names = self.names();
        names.insert(host, Known::Answered { answer, until });
        if names.len() <= KEPT {
            return;
        }
        let now = Instant::now();
        names.retain(|_, known| !matches!(known, Known::Answered { until, .. } if *until <= now));
        // Still too many that are fresh. Those that are being looked up stay: their waiters are on
        // this entry.
        if names.len() > KEPT {
            names.retain(|_, known| matches!(known, Known::UnderWay(_)));
        }
    }

    /// Asks the name servers; the answer, and until when it is kept.
    async fn ask(&self, host: &str) -> (Answer, Instant) {
        // The semaphore is never closed, so this waits for a permit and nothing else.
        let _under_way = self.0.under_way.acquire().await;
        let (resolver, servers) = match self.configured().await {
            Ok(configured) => configured,
            Err(problem) => {
                return (
                    Err(Unresolved::trouble(problem)),
                    Instant::now() + KEEP_SILENCE,
                );
            }
        };
        // Over the resolver's own timeouts: with several name servers those can add up to more than
        // an attempt has.
        let asked = tokio::time::timeout(DEADLINE, resolver.lookup_ip(host)).await;
        let now = Instant::now();
        match asked {
            Ok(Ok(found)) => answered(&found, now),
            Ok(Err(error)) => {
                let why = explain(&error, &servers);
                let keep = if why.missing {
                    KEEP_REFUSAL
                } else {
                    KEEP_SILENCE
                };
                (Err(why), now + keep)
            }
            Err(_) => (
                Err(Unresolved::trouble(silent(&servers))),
                now + KEEP_SILENCE,
            ),
        }
    }

    /// The resolver of the configuration as it is now, and its name servers in words.
    async fn configured(&self) -> Result<(TokioResolver, Arc<str>), String> {
        let mut configured = self.0.configured.lock().await;
        if let Some(known) = configured.as_mut() {
            // Two `stat` calls every 5 s, however many names are looked up. Name servers that the
            // operator named do not depend on these files.
            let recent = known.checked.elapsed() < RECHECK || !self.0.name_servers.is_empty();
            if recent || known.files == stamps() {
                if !recent {
                    known.checked = Instant::now();
                }
                return Ok((known.resolver.clone(), Arc::clone(&known.servers)));
            }
            tracing::info!("the configuration of name look-ups has changed and is read again");
        }
        let new = configure(&self.0.name_servers)?;
        let result = (new.resolver.clone(), Arc::clone(&new.servers));
        *configured = Some(new);
        drop(configured);
        Ok(result)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Resolver")
            .field("name_servers", &self.0.name_servers)
            .finish_non_exhaustive()
    }
}

fn configure(name_servers: &[SocketAddr]) -> Result<Configured, String> {
    let files = stamps();
    let (config, system) = if name_servers.is_empty() {
        system_conf::read_system_conf().unwrap_or_else(|error| {
            // As the C library does where there is no configuration.
            tracing::warn!(%error, "/etc/resolv.conf cannot be used; the name server on this \
                                    machine is asked");
            (
                only(&[SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))]),
                ResolverOpts::default(),
            )
        })
    } else {
        (only(name_servers), ResolverOpts::default())
    };
    let servers: Vec<String> = match name_servers {
        [] => config
            .name_servers()
            .iter()
            .map(|server| server.ip.to_string())
            .collect(),
        chosen => chosen.iter().map(SocketAddr::to_string).collect(),
    };
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    *options = system;
    options.timeout = PATIENCE;
    options.attempts = ASKED_AGAIN;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Always;
    // For each name one request for IPv4 and one for IPv6.
    options.max_active_requests = 2 * UNDER_WAY;
    // Answers are kept here, together with failures.
    options.cache_size = 0;
    let resolver = builder
        .build()
        .map_err(|error| format!("name look-ups cannot be set up: {error}"))?;
    Ok(Configured {
        resolver,
        servers: servers.join(", ").into(),
        files,
        checked: Instant::now(),
    })
}

/// These name servers, and no search domains.
fn only(name_servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let connections =
            [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
        NameServerConfig::new(address.ip(), true, connections.to_vec())
    };
    ResolverConfig::from_name_servers(name_servers.iter().map(server).collect())
}

fn stamps() -> [Option<Stamp>; 2] {
    FILES.map(|file| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn answered(found: &LookupIp, now: Instant) -> (Answer, Instant) {
    let addresses: Vec<IpAddr> = found.iter().collect();
    if addresses.is_empty() {
        return (
            Err(Unresolved::missing("it has no address")),
            now + KEEP_REFUSAL,
        );
    }
    (
        Ok(addresses.into()),
        found.valid_until().min(now + KEEP_ANSWER),
    )
}

/// An answer as the caller gets it; `None`: the look-up was broken off.
fn found(host: &str, answer: Option<Answer>) -> Result<Vec<IpAddr>, Refusal> {
    let answer = answer.unwrap_or_else(|| Err(Unresolved::trouble("the look-up was broken off")));
    answer
        .map(|found| found.to_vec())
        .map_err(|Unresolved { problem, missing }| Refusal::Unresolvable {
            host: host.to_owned(),
            problem: problem.to_string(),
            missing,
        })
}

/// Why a name has no address, in words.
fn explain(error: &NetError, servers: &str) -> Unresolved {
    match error {
        error if error.is_nx_domain() => Unresolved::missing("there is no such name"),
        NetError::Dns(DnsError::NoRecordsFound(_)) => Unresolved::missing("it has no address"),
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            Unresolved::trouble(format!(
                "the name server ({servers}) answered that the name cannot be looked up now \
                 (SERVFAIL)"
            ))
        }
        NetError::Dns(DnsError::ResponseCode(code)) => {
            Unresolved::trouble(format!("the name server ({servers}) answered: {code}"))
        }
        NetError::Timeout => Unresolved::trouble(silent(servers)),
        error => Unresolved::trouble(format!(
            "the name server ({servers}) cannot be asked: {error}"
        )),
    }
}

fn silent(servers: &str) -> String {
    format!(
        "the name server ({servers}) did not answer within {} s",
        DEADLINE.as_secs()
    )
}

#[cfg(test)]
mod tests;
