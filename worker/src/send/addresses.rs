//! Connecting to one of several addresses, as RFC 8305 ("happy eyeballs") has it: the families take
//! turns, a further address is tried when the one before has failed or has not answered for a
//! moment, and the first that answers wins. Each address has a limit of its own, so a black hole
//! among them costs a moment only.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::dial::{Dial, Socket};
use super::error::{SendError, io_code, span_text};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

/// How long an address is waited for alone before the next is tried beside it (RFC 8305, section
/// 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The most addresses that are tried. More would only multiply the load that one name makes.
const MAX_TRIED: usize = 8;

/// Why one address was not connected to.
#[derive(Debug)]
enum Failure {
    Late(SocketAddr),
    Io(SocketAddr, std::io::Error),
}

/// A connection to the first of the addresses that answers, each of which has `limit`.
///
/// # Errors
/// [`SendError::Timeout`] when one of them did not answer within its limit, else what the first
/// said.
pub(super) async fn connect(
    dialer: &dyn Dial,
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<(Box<dyn Socket>, SocketAddr), SendError> {
    let mut untried: VecDeque<SocketAddr> =
        in_turns(addresses).into_iter().take(MAX_TRIED).collect();
    let mut trying = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        // Each turn of the loop starts one more: after the pause, or at once where one has failed.
        if let Some(address) = untried.pop_front() {
            trying.push(connect_to(dialer, address, limit));
        } else if trying.is_empty() {
            return Err(explain(&failures, limit));
        }
        let stagger = tokio::time::sleep(STAGGER);
        tokio::select! {
            biased;
            Some(tried) = trying.next() => match tried {
                // The others are dropped, and their sockets closed.
                Ok(connected) => return Ok(connected),
                Err(failure) => failures.push(failure),
            },
            // With none left to start there is nothing to wake up for; each attempt has its own
            // limit.
            () = stagger, if !untried.is_empty() => {}
        }
    }
}

async fn connect_to(
    dialer: &dyn Dial,
    address: SocketAddr,
    limit: Duration,
) -> Result<(Box<dyn Socket>, SocketAddr), Failure> {
    match tokio::time::timeout(limit, dialer.dial(address)).await {
        Ok(Ok(stream)) => Ok((stream, address)),
        Ok(Err(error)) => Err(Failure::Io(address, error)),
        Err(_) => Err(Failure::Late(address)),
    }
}

/// IPv6 and IPv4 by turns, IPv6 first (RFC 8305, section 4), else in the order of the name's
/// answer.
pub(super) fn in_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let (v6, v4): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| address.is_ipv6());
    let longer = v6.len().max(v4.len());
    (0..longer)
        .flat_map(|index| [v6.get(index), v4.get(index)])
        .flatten()
        .copied()
        .collect()
}

fn explain(failures: &[Failure], limit: Duration) -> SendError {
    let texts: Vec<String> = failures.iter().map(|failure| failure.text(limit)).collect();
    let text = format!("could not connect to {}", texts.join("; nor to "));
    let late = failures
        .iter()
        .any(|failure| matches!(failure, Failure::Late(_)));
    let code = failures.iter().find_map(|failure| match failure {
        Failure::Io(_, error) => Some(io_code(error.kind())),
        Failure::Late(_) => None,
    });
    match code {
        // One that was late makes it a time-out, whatever the others said: the policy may retry the
        // two kinds differently.
        Some(code) if !late => SendError::network(code, text),
        _ => SendError::Timeout(text),
    }
}

impl Failure {
    fn text(&self, limit: Duration) -> String {
        match self {
            Self::Late(address) => format!("{address} within {}", span_text(limit)),
            Self::Io(address, error) => format!("{address}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::TcpStream;

    use super::*;
    use crate::send::dial::Tcp;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let given = addresses(&["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"]);
        let expected = addresses(&["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1"]);
        assert_eq!(in_turns(&given), expected);
    }

    /// A listener whose queue of connections is full lets no more through, as a black hole does.
    pub(crate) async fn black_hole() -> (tokio::net::TcpListener, Vec<TcpStream>, SocketAddr) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            held.push(stream.unwrap());
            assert!(held.len() < 64, "the queue has no end");
        }
        (listener, held, address)
    }

    #[tokio::test]
    async fn a_black_hole_first_leaves_time_for_the_next() {
        let (_listener, _held, hole) = black_hole().await;
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let begun = Instant::now();
        let limit = Duration::from_secs(30);
        let (_stream, address) = connect(&Tcp, &[hole, good.local_addr().unwrap()], limit)
            .await
            .unwrap();
        assert_eq!(address, good.local_addr().unwrap());
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_is_named() {
        let (_listener, _held, hole) = black_hole().await;
        let error = connect(&Tcp, &[hole], Duration::from_millis(200))
            .await
            .unwrap_err();
        assert_eq!(
            error,
            SendError::Timeout(format!("could not connect to {hole} within 200 ms"))
        );
    }

    #[tokio::test]
    async fn a_refused_connection_says_where() {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let error = connect(&Tcp, &[gone], Duration::from_secs(5))
            .await
            .unwrap_err()
            .error();
        assert_eq!(error.code, "connection_refused");
        assert!(
            error
                .text
                .starts_with(&format!("could not connect to {gone}: ")),
            "{}",
            error.text
        );
    }
}
