//! What is sent to a database server leaves at once.

use std::any::Any;

use sqlx_core::net::{Socket, WithSocket, connect_tcp};
use tokio::net::{TcpListener, TcpStream};

/// Whether the socket that sqlx opened sends without delay.
struct NoDelay;

impl WithSocket for NoDelay {
    type Output = Option<bool>;

    async fn with_socket<S: Socket>(self, socket: S) -> Option<bool> {
        let socket: &dyn Any = &socket;
        let stream: Option<&TcpStream> = socket.downcast_ref();
        stream.and_then(|stream| stream.nodelay().ok())
    }
}

/// Without it the end of a long statement waits up to 40 ms for a delayed acknowledgement.
#[tokio::test]
async fn connections_send_without_delay() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connected = connect_tcp("127.0.0.1", port, NoDelay).await.unwrap();
    assert_eq!(connected, Some(true));
}
