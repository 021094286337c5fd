//! Heads of answers: how large they may be, and of which kinds.

use super::*;

async fn result_of(answer: String) -> Result<Reply, SendError> {
    let answer = Arc::new(answer);
    let receiver = Receiver::start(move |_, mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            take_request(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    sender()
        .exchange(receiver.request(Reading::Body))
        .await
        .result
}

#[tokio::test]
async fn large_heads_are_read_up_to_a_bound() {
    for (headers, bytes) in [(1, 17 * 1024), (300, 100), (4, 50 * 1024)] {
        let lines: String = (0..headers)
            .map(|n| format!("x-{n}: {}\r\n", "a".repeat(bytes)))
            .collect();
        let reply = result_of(format!("HTTP/1.1 204 No Content\r\n{lines}\r\n"))
            .await
            .unwrap();
        assert_eq!((reply.status, reply.headers.len()), (204, headers));
    }
    for (headers, bytes) in [(1, 1024 * 1024), (600, 1)] {
        let lines: String = (0..headers)
            .map(|n| format!("x-{n}: {}\r\n", "a".repeat(bytes)))
            .collect();
        let result = result_of(format!("HTTP/1.1 204 No Content\r\n{lines}\r\n")).await;
        let error = result.expect_err("a failure").error();
        assert_eq!(error.code, "answer_head_too_large", "{}", error.text);
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over_but_not_for_ever() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let answer = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
    let reply = result_of(format!(
        "HTTP/1.1 100 Continue\r\n\r\n{}{answer}",
        interim.repeat(5)
    ))
    .await
    .unwrap();
    assert_eq!(reply.status, 202);
    // It is followed by no answer: nothing but the bound ends the wait early.
    let receiver = Receiver::start(move |_, mut stream| async move {
        take_request(&mut stream).await;
        while stream.write_all(interim.as_bytes()).await.is_ok() {}
    })
    .await;
    let error = sender()
        .exchange(receiver.request(Reading::Body))
        .await
        .result
        .unwrap_err()
        .error();
    assert_eq!(error.code, "protocol");
    assert!(error.text.contains("interim answers"), "{}", error.text);
}

#[tokio::test]
async fn old_and_odd_answers_are_read() {
    for (answer, body) in [
        ("HTTP/1.0 200 OK\r\n\r\nto the end", "to the end"),
        ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold", "old"),
        (
            "HTTP/1.1 200\r\nconnection: close\r\n\r\nto the end",
            "to the end",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: \
             chunked\r\n\r\n3;name=\"value\"\r\nabc\r\n0\r\nx: y\r\n\r\n",
            "abc",
        ),
        (
            "HTTP/1.1 200 OK\r\nx: a\r\nx: b\r\ncontent-length: 0\r\n\r\n",
            "",
        ),
    ] {
        let reply = result_of(answer.to_owned())
            .await
            .unwrap_or_else(|error| panic!("{answer}: {error:?}"));
        assert_eq!(
            (reply.status, &reply.body[..], reply.fault),
            (200, body.as_bytes(), None),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_line_that_is_amiss_does_not_take_the_status_with_it() {
    for line in ["X-A: b\r\n c", "X A : b", "X-A : b", ": b", "no colon"] {
        for status in [200, 410] {
            let answer = format!("HTTP/1.1 {status} So\r\n{line}\r\nContent-Length: 2\r\n\r\nok");
            let reply = result_of(answer).await;
            let reply = reply.unwrap_or_else(|error| panic!("{line:?}: {error:?}"));
            assert_eq!(
                (reply.status, &reply.body[..]),
                (status, &b"ok"[..]),
                "{line:?}"
            );
        }
    }
}
