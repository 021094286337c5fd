//! Looks host names up.

use std::net::IpAddr;

use posthaste_shared::egress::Refusal;

/// Every address of a name.
pub(super) async fn look_up(host: &str) -> Result<Vec<IpAddr>, Refusal> {
    let unresolvable = |problem: String| Refusal::Unresolvable { host: host.to_owned(), problem };
    let addresses = tokio::net::lookup_host((host, 0)).await.map_err(|error| unresolvable(error.to_string()))?;
    let addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
    if addresses.is_empty() { Err(unresolvable("it has no address".to_owned())) } else { Ok(addresses) }
}
