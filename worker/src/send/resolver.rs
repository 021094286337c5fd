//! Resolves names and lets only addresses through that the egress policy allows. The client connects to
//! what comes out of here, so what was checked is what is called.

use std::net::SocketAddr;
use std::sync::Arc;

use posthaste_shared::egress::{EgressPolicy, Refusal};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::phases;

/// The system's resolver behind the egress policy.
pub(super) struct GuardedResolver {
    egress: Arc<EgressPolicy>,
}

impl GuardedResolver {
    pub(super) const fn new(egress: Arc<EgressPolicy>) -> Self {
        Self { egress }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = Arc::clone(&self.egress);
        Box::pin(async move {
            let begun = std::time::Instant::now();
            let addresses = look_up(name.as_str()).await?;
            // One forbidden address is enough: a name that also points inward is not to be trusted.
            for address in &addresses {
                egress.check_address(Some(name.as_str()), address.ip())?;
            }
            phases::resolved(begun.elapsed(), &addresses);
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

async fn look_up(host: &str) -> Result<Vec<SocketAddr>, Refusal> {
    let unresolvable = |problem: String| Refusal::Unresolvable { host: host.to_owned(), problem };
    // Port 0: the client puts the URL's port in its place.
    let addresses = tokio::net::lookup_host((host, 0)).await.map_err(|error| unresolvable(error.to_string()))?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    if addresses.is_empty() { Err(unresolvable("it has no address".to_owned())) } else { Ok(addresses) }
}
