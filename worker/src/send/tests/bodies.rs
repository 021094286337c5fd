//! Bodies of answers that break off, hang, never end or are compressed.

use super::*;

/// Answers with these bytes, and then closes the connection or leaves it open.
async fn answering(answer: &'static [u8], close: bool) -> Receiver {
    Receiver::start(move |_, mut stream| async move {
        take_request(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        if !close {
            std::future::pending::<()>().await;
        }
    })
    .await
}

#[tokio::test]
async fn the_status_outlives_a_body_that_breaks_off() {
    let receiver = answering(
        b"HTTP/1.1 410 Gone\r\ncontent-length: 10\r\nretry-after: 7\r\n\r\nhalf",
        true,
    )
    .await;
    for reading in [Reading::Status, Reading::Body] {
        let exchange = sender().exchange(receiver.request(reading)).await;
        let reply = exchange.result.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (410, &b"half"[..]));
        assert_eq!(reply.headers["retry-after"], "7");
        let fault = reply.fault.expect("a fault");
        let BodyFault::BrokenOff { got: 4, error } = fault else {
            panic!("{fault:?}")
        };
        assert_eq!(error.code, "connection_closed");
    }
}

#[tokio::test]
async fn a_body_that_hangs_is_waited_for_only_where_it_is_read() {
    let receiver = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false).await;
    let begun = Instant::now();
    let reply = sender()
        .exchange(receiver.request(Reading::Status))
        .await
        .result
        .unwrap();
    assert_eq!((reply.status, &reply.body[..]), (200, &b"half"[..]));
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );

    let request = Outgoing {
        timeout: Duration::from_secs(1),
        ..receiver.request(Reading::Body)
    };
    let begun = Instant::now();
    let reply = sender().exchange(request).await.result.unwrap();
    assert_eq!(
        reply.fault,
        Some(BodyFault::Late {
            got: 4,
            limit: LIMIT
        })
    );
    assert!(
        begun.elapsed() >= Duration::from_millis(900),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_body_without_end_is_cut_and_said_to_be() {
    let receiver = Receiver::start(|_, mut stream| async move {
        take_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b' '; 8192]).await.is_ok() {}
    })
    .await;
    for (reading, limit) in [
        (Reading::Status, READ_BODY_BYTES),
        (Reading::Body, MEANT_BODY_BYTES),
    ] {
        let reply = sender()
            .exchange(receiver.request(reading))
            .await
            .result
            .unwrap();
        assert_eq!(
            (reply.body.len(), reply.fault),
            (limit, Some(BodyFault::TooLarge { limit }))
        );
    }
}

#[tokio::test]
async fn a_body_of_just_the_bound_is_whole() {
    let receiver = Receiver::start(|_, mut stream| async move {
        take_request(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {MEANT_BODY_BYTES}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
            .write_all(&vec![b' '; MEANT_BODY_BYTES])
            .await
            .unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let reply = sender()
        .exchange(receiver.request(Reading::Body))
        .await
        .result
        .unwrap();
    assert_eq!((reply.body.len(), reply.fault), (MEANT_BODY_BYTES, None));
}

#[tokio::test]
async fn a_compressed_body_is_asked_not_to_be_and_named() {
    let receiver = Receiver::start(|_, mut stream| async move {
        let mut buffer = vec![0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        let seen = String::from_utf8_lossy(&buffer[..count]).to_lowercase();
        let coding = if seen.contains(
            "accept-encoding: \
                                       identity\r\n",
        ) {
            "gzip"
        } else {
            "nothing-was-asked"
        };
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: \
                     4\r\n\r\n\x1f\x0b\x08\x01"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let reply = sender()
        .exchange(receiver.request(Reading::Body))
        .await
        .result
        .unwrap();
    let fault = reply.fault.expect("a fault");
    assert_eq!(
        fault,
        BodyFault::Encoded {
            coding: "gzip".to_owned(),
            got: 4
        }
    );
    assert_eq!(fault.shown().as_deref(), Some("gzip-encoded, 4 bytes"));
    assert_eq!(
        (fault.error().code.as_str(), fault.retry_kind()),
        ("answer_encoded", None)
    );
}
