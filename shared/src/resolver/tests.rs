//! Against a name server of the test's own on loopback, over real sockets.

use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use tokio::net::UdpSocket;

use super::*;

/// Answers for `*.example.test`: `silent…` gets no answer, `broken…` SERVFAIL, `none…` NXDOMAIN,
/// `short…` an address for no time at all, all else an address of each family for a day. Counts the
/// questions for an IPv4 address.
async fn name_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let Some(answer) = answer(&buffer[..length], &count) else {
                continue;
            };
            let _ = socket.send_to(&answer, from).await;
        }
    });
    (address, asked)
}

/// RFC 1035, section 4: a header of 12 bytes, the question, then the answer, which names the
/// question by a pointer.
fn answer(question: &[u8], count: &AtomicUsize) -> Option<Vec<u8>> {
    let mut end = 12;
    while question[end] != 0 {
        end += 1 + usize::from(question[end]);
    }
    let name = String::from_utf8_lossy(&question[13..end]).to_ascii_lowercase();
    let kind = question[end + 2];
    if kind == 1 {
        count.fetch_add(1, Ordering::SeqCst);
    }
    let code = match &name {
        name if name.starts_with("silent") => return None,
        name if name.starts_with("broken") => 2,
        name if name.starts_with("none") => 3,
        _ => 0,
    };
    let data = if kind == 1 {
        vec![192, 0, 2, 1]
    } else {
        Ipv6Addr::LOCALHOST.octets().to_vec()
    };
    let ttl: u32 = if name.starts_with("short") { 0 } else { 86_400 };
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(code == 0), 0, 0, 0, 0]);
    answer.extend(&question[12..end + 5]);
    if code == 0 {
        answer.extend([0xc0, 12, 0, kind, 0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, u8::try_from(data.len()).unwrap()]);
        answer.extend(data);
    }
    Some(answer)
}

fn problem(result: Result<Vec<IpAddr>, Refusal>) -> String {
    match result {
        Err(Refusal::Unresolvable { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn many_who_want_a_name_ask_for_it_once() {
    let (server, asked) = name_server().await;
    let resolver = Resolver::new(&[server]);
    let found = join_all((0..100).map(|_| resolver.look_up("hooks.example.test"))).await;
    for addresses in found {
        let mut addresses = addresses.unwrap();
        addresses.sort();
        assert_eq!(
            addresses,
            [
                IpAddr::from([192, 0, 2, 1]),
                IpAddr::from(Ipv6Addr::LOCALHOST)
            ]
        );
    }
    assert!(resolver.look_up("HOOKS.example.test").await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 1, "what was answered is kept");
}

#[tokio::test]
async fn an_answer_is_kept_no_longer_than_it_says() {
    let (server, asked) = name_server().await;
    let resolver = Resolver::new(&[server]);
    for asks in 1..=3 {
        resolver.look_up("short.example.test").await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), asks);
    }
}

#[tokio::test]
async fn silent_name_servers_hold_up_no_other_name() {
    let (server, _) = name_server().await;
    let resolver = Resolver::new(&[server]);
    let dead: Vec<_> = (0..600)
        .map(|number| {
            let resolver = resolver.clone();
            tokio::spawn(async move {
                resolver
                    .look_up(&format!("silent{number}.example.test"))
                    .await
            })
        })
        .collect();
    for number in 0..20 {
        let host = format!("healthy{number}.example.test");
        let found = resolver.look_up(&host);
        // A datagram may be lost where 1,200 come at once; it is sent again. Whoever waited for the
        // silent ones would wait for 4 s.
        let found = tokio::time::timeout(Duration::from_millis(3900), found).await;
        assert!(found.expect("it did not wait for the silent ones").is_ok());
    }
    for name in dead {
        let said = problem(name.await.unwrap());
        assert_eq!(
            said,
            format!("the name server ({server}) did not answer within 4 s")
        );
    }
}

#[tokio::test]
async fn what_has_no_address_is_said_in_words_and_kept_for_a_moment() {
    let (server, asked) = name_server().await;
    let resolver = Resolver::new(&[server]);
    for _ in 0..3 {
        assert_eq!(
            problem(resolver.look_up("none.example.test").await),
            "there is no such name"
        );
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let said = problem(resolver.look_up("broken.example.test").await);
    assert_eq!(
        said,
        format!(
            "the name server ({server}) answered that the name cannot be looked up now (SERVFAIL)"
        )
    );
}

#[tokio::test]
async fn who_gives_up_takes_the_look_up_away_from_nobody() {
    let (server, asked) = name_server().await;
    let resolver = Resolver::new(&[server]);
    let _ = tokio::time::timeout(Duration::ZERO, resolver.look_up("hooks.example.test")).await;
    assert!(resolver.look_up("hooks.example.test").await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_systems_hosts_file_counts() {
    let found = Resolver::new(&[]).look_up("localhost").await.unwrap();
    assert!(
        found.iter().all(IpAddr::is_loopback) && !found.is_empty(),
        "{found:?}"
    );
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let resolver = Resolver::new(&[]);
    for number in 0..2 * KEPT {
        let fresh = Instant::now() + Duration::from_secs(60);
        resolver.keep(
            format!("name{number}"),
            Err(Unresolved::missing("no")),
            fresh,
        );
    }
    assert!(resolver.names().len() <= KEPT);
}
