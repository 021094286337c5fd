//! A name server that knows no name, so that "does not resolve" needs no network. At first it only
//! says that it cannot tell: the API refuses an endpoint whose name does not exist.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;

/// The longest question that is answered, in bytes (RFC 1035, section 4.2.1).
const LONGEST: usize = 512;
/// The bytes of a DNS header.
const HEADER: usize = 12;

/// Starts it, and returns its address. It is sure of its answers once `sure` is set.
pub(super) async fn start(sure: Arc<AtomicBool>) -> std::io::Result<SocketAddr> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
    let address = socket.local_addr()?;
    tokio::spawn(async move {
        let mut question = [0; LONGEST];
        // It ends with the process. An error concerns a client that is gone.
        loop {
            if let Ok((length, from)) = socket.recv_from(&mut question).await
                && let Some(answer) =
                    no_such_name(&question[..length], sure.load(Ordering::Relaxed))
            {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    Ok(address)
}

/// The answer to a question: the same with "no such name", or with "server failure" (RFC 1035,
/// section 4.1.1).
fn no_such_name(question: &[u8], sure: bool) -> Option<Vec<u8>> {
    if question.len() < HEADER {
        return None;
    }
    // The name that is asked for ends with an empty label; type and class follow it.
    let end = HEADER + question[HEADER..].iter().position(|byte| *byte == 0)? + 5;
    let mut answer = question.get(..end)?.to_vec();
    // A response, recursion available, NXDOMAIN or SERVFAIL; one question and no records.
    answer[2] |= 0x80;
    answer[3] = if sure { 0x83 } else { 0x82 };
    answer[4..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_with_no_such_name() {
        let mut question = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        question.extend(b"\x01a\x07invalid\x00\x00\x01\x00\x01");
        let length = question.len();
        question.extend(b"\x00\x00\x29");
        let answer = no_such_name(&question, true).unwrap();
        assert_eq!(answer.len(), length);
        assert_eq!(answer[..4], [7, 9, 0x81, 0x83]);
        assert_eq!(answer[10..12], [0, 0]);
        assert_eq!(no_such_name(&question, false).unwrap()[3], 0x82);
        assert_eq!(no_such_name(b"x", true), None);
    }
}
