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

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(policy: EgressPolicy, name: &str) -> Option<String> {
        let resolver = GuardedResolver::new(Arc::new(policy));
        let resolved = resolver.resolve(name.parse().unwrap()).await;
        resolved.err().map(|error| error.downcast_ref::<Refusal>().expect("a refusal").code().to_owned())
    }

    /// A name that was harmless when its endpoint was saved and points inward now.
    #[tokio::test]
    async fn a_name_that_points_inward_is_refused_when_it_is_called() {
        assert_eq!(refusal(EgressPolicy::default(), "localhost").await.as_deref(), Some("private_address"));
        let loopback = EgressPolicy::new("127.0.0.0/8,::1", false).unwrap();
        assert_eq!(refusal(loopback, "localhost").await, None);
    }
}
