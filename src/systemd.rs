//! Tells a service manager (systemd, `Type=notify`) that the service is ready, stopping and alive,
//! as described in `sd_notify(3)`. Without `NOTIFY_SOCKET` in the environment nothing is sent.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::task::JoinHandle;

/// A service that has said that it is ready. It says that it is alive until this is dropped.
pub(crate) struct Ready {
    heartbeat: Option<JoinHandle<()>>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.abort();
        }
    }
}

/// Says that the service is ready and, where the manager asks for it (`WATCHDOG_USEC`), twice in
/// each of its intervals that it is alive. As the heartbeat is a task among the others, it shows
/// that the runtime gets to its tasks: just what `/healthz` shows.
pub(crate) fn ready() -> Ready {
    say("READY=1");
    let interval = watchdog(|name| std::env::var(name).ok(), std::process::id());
    let heartbeat = interval.map(|interval| {
        tokio::spawn(async move {
            let mut beats = tokio::time::interval(interval / 2);
            loop {
                beats.tick().await;
                say("WATCHDOG=1");
            }
        })
    });
    Ready { heartbeat }
}

/// Says that the service has begun to stop.
pub(crate) fn stopping() {
    say("STOPPING=1");
}

/// How often the manager wants to hear of us, if it does: the variables are perhaps meant for
/// another process.
fn watchdog(variable: impl Fn(&str) -> Option<String>, own: u32) -> Option<Duration> {
    let meant = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own));
    let micros: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    // tokio's intervals must not be zero.
    (meant && micros >= 2).then(|| Duration::from_micros(micros))
}

/// A manager that cannot be told must not end the service: it is logged, and that is all.
fn say(state: &str) {
    if let Some(path) = std::env::var("NOTIFY_SOCKET")
        .ok()
        .filter(|path| !path.is_empty())
        && let Err(error) = send(&path, state)
    {
        tracing::warn!(%error, state, "the service manager could not be notified");
    }
}

fn send(path: &str, state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // Never waits, as it is called among other tasks.
    socket.set_nonblocking(true)?;
    socket
        .send_to_addr(state.as_bytes(), &address(path)?)
        .map(drop)
}

#[cfg(target_os = "linux")]
fn address(path: &str) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}

#[cfg(not(target_os = "linux"))]
fn address(path: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let with = |usec: Option<&str>, pid: Option<&str>| {
            let variable =
                |name: &str| if name == "WATCHDOG_PID" { pid } else { usec }.map(str::to_owned);
            watchdog(variable, 7)
        };
        assert_eq!(with(Some("30000000"), None), Some(Duration::from_secs(30)));
        assert_eq!(
            with(Some("30000000"), Some("7")),
            Some(Duration::from_secs(30))
        );
        assert_eq!(with(Some("30000000"), Some("8")), None);
        assert_eq!(with(None, Some("7")), None);
        assert_eq!(with(Some("0"), None), None);
        assert_eq!(with(Some("soon"), None), None);
    }

    #[test]
    fn both_kinds_of_socket_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), "READY=1").unwrap();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        #[cfg(target_os = "linux")]
        {
            let name = format!("posthaste-test-{}", std::process::id());
            let socket = UnixDatagram::bind_addr(&address(&format!("@{name}")).unwrap()).unwrap();
            send(&format!("@{name}"), "STOPPING=1").unwrap();
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"STOPPING=1");
        }
    }
}
