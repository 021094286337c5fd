//! Connections that die, and when a request goes out once more.

use posthaste_shared::domain::retry::RetryOn;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Death {
    Closed,
    Reset,
    AfterAByte,
}

impl Death {
    async fn come(self, mut stream: TcpStream) {
        match self {
            Self::Closed => {}
            // What was not read when the socket is closed makes it a reset.
            Self::Reset => stream.set_zero_linger().unwrap(),
            Self::AfterAByte => stream.write_all(b"H").await.unwrap(),
        }
    }
}

/// The first connection answers once; the next request on it meets its death. All others answer.
async fn dying_when_reused(death: Death) -> Receiver {
    Receiver::start(move |number, mut stream| async move {
        if number > 1 {
            return answer_all(stream, OK).await;
        }
        assert!(take_request(&mut stream).await);
        stream.write_all(OK).await.unwrap();
        assert!(
            take_request(&mut stream).await,
            "the connection was not used again"
        );
        death.come(stream).await;
    })
    .await
}

#[tokio::test]
async fn a_reused_connection_that_dies_without_an_answer_is_replaced_within_the_attempt() {
    for death in [Death::Closed, Death::Reset] {
        let receiver = dying_when_reused(death).await;
        let sender = sender();
        for turn in 1..=2 {
            let exchange = sender.exchange(receiver.request(Reading::Body)).await;
            let reply = exchange
                .result
                .unwrap_or_else(|error| panic!("{death:?}, {turn}: {error:?}"));
            assert_eq!((reply.status, &reply.body[..]), (200, &b"ok"[..]));
        }
        assert_eq!(receiver.connections(), 2, "{death:?}");
    }
}

/// The receiver has begun to answer, so it has seen the request.
#[tokio::test]
async fn a_reused_connection_that_dies_in_an_answer_is_a_failure() {
    let receiver = dying_when_reused(Death::AfterAByte).await;
    let sender = sender();
    sender
        .exchange(receiver.request(Reading::Body))
        .await
        .result
        .unwrap();
    let error = sender
        .exchange(receiver.request(Reading::Body))
        .await
        .result
        .unwrap_err();
    assert_eq!(error.error().code, "connection_closed", "{error:?}");
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_fresh_connection_that_dies_without_an_answer_is_a_failure() {
    for death in [Death::Closed, Death::Reset, Death::AfterAByte] {
        let receiver = Receiver::start(move |_, mut stream| async move {
            take_request(&mut stream).await;
            death.come(stream).await;
        })
        .await;
        let error = sender()
            .exchange(receiver.request(Reading::Body))
            .await
            .result
            .unwrap_err();
        assert_eq!(
            error.retry_kind(),
            Some(RetryOn::Network),
            "{death:?}: {error:?}"
        );
        assert!(
            error.error().code.starts_with("connection_"),
            "{death:?}: {error:?}"
        );
        assert_eq!(receiver.connections(), 1, "{death:?}");
    }
}

/// Once, not for ever: the connection that takes its place is a fresh one.
#[tokio::test]
async fn a_receiver_that_always_hangs_up_is_called_twice_at_the_most() {
    let receiver = Receiver::start(|number, mut stream| async move {
        take_request(&mut stream).await;
        if number == 1 {
            stream.write_all(OK).await.unwrap();
            take_request(&mut stream).await;
        }
    })
    .await;
    let sender = sender();
    sender
        .exchange(receiver.request(Reading::Body))
        .await
        .result
        .unwrap();
    sender
        .exchange(receiver.request(Reading::Body))
        .await
        .result
        .unwrap_err();
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn an_early_answer_counts_though_the_request_could_not_be_written() {
    let receiver = Receiver::start(|_, mut stream| async move {
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        // Closing with unread bytes resets the connection under the request that is still being
        // written.
    })
    .await;
    let request = Outgoing {
        body: Bytes::from(vec![b' '; 16 * 1024 * 1024]),
        ..receiver.request(Reading::Body)
    };
    let reply = sender().exchange(request).await.result.unwrap();
    assert_eq!(reply.status, 413);
}

/// It neither answers nor reads on, as a receiver that is busy with something else.
#[tokio::test]
async fn an_early_answer_counts_while_the_request_is_still_being_written() {
    let receiver = Receiver::start(|_, mut stream| async move {
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let request = Outgoing {
        body: Bytes::from(vec![b' '; 16 * 1024 * 1024]),
        ..receiver.request(Reading::Body)
    };
    assert_eq!(sender().exchange(request).await.result.unwrap().status, 413);
}

#[tokio::test]
async fn what_took_too_long_is_named() {
    let receiver = Receiver::start(|_, stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let limit = Duration::from_millis(300);
    let address = literal(&receiver.url).unwrap();
    let late = |url: Url| async move {
        let request = Outgoing {
            timeout: limit,
            limit: Duration::from_secs(5),
            ..outgoing(url, Reading::Status)
        };
        let result = sender().exchange(request).await.result;
        let Err(SendError::Timeout(text)) = result else {
            panic!("{result:?}")
        };
        text
    };
    assert_eq!(
        late(receiver.url.clone()).await,
        format!("no answer from {address} within 5 s")
    );
    let mut secure = receiver.url.clone();
    secure.set_scheme("https").unwrap();
    assert_eq!(
        late(secure).await,
        format!("the TLS handshake with {address} did not end within 5 s")
    );
}
