//! Names of attributes. Those that do not begin with `posthaste.` are OpenTelemetry's (semantic
//! conventions 1.42: general, HTTP, messaging). They are an interface: dashboards and searches use
//! them.

/// The version of the conventions that the names are from.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// Makes the constants, and the list of them.
macro_rules! names {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: &str = $name;)*

        /// Every name of this file, for the test of the documentation.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

names! {
    /// The service that the process belongs to.
    SERVICE_NAME = "service.name";
    /// The version of Posthaste.
    SERVICE_VERSION = "service.version";
    /// The host and the process.
    SERVICE_INSTANCE_ID = "service.instance.id";
    /// `api`, `worker` or `up`.
    ROLE = "posthaste.role";
    /// Who made the spans.
    TELEMETRY_SDK_NAME = "telemetry.sdk.name";
    /// The language of what made the spans.
    TELEMETRY_SDK_LANGUAGE = "telemetry.sdk.language";
    /// The version of what made the spans.
    TELEMETRY_SDK_VERSION = "telemetry.sdk.version";

    /// Why it failed: a status, or one of our words.
    ERROR_TYPE = "error.type";
    /// The request's method, such as `POST`.
    HTTP_REQUEST_METHOD = "http.request.method";
    /// The response's HTTP status code.
    HTTP_RESPONSE_STATUS_CODE = "http.response.status_code";
    /// The route of the API, such as `/v1/endpoints/{id}`.
    HTTP_ROUTE = "http.route";
    /// The URL's scheme, `http` or `https`.
    URL_SCHEME = "url.scheme";
    /// The path of a request to the API.
    URL_PATH = "url.path";
    /// The host that is called, as the endpoint's URL has it.
    SERVER_ADDRESS = "server.address";
    /// The port that is called, as the endpoint's URL has it.
    SERVER_PORT = "server.port";
    /// The IP address that was called.
    NETWORK_PEER_ADDRESS = "network.peer.address";
    /// The port that was called.
    NETWORK_PEER_PORT = "network.peer.port";

    /// `rabbitmq`, or `posthaste` for the embedded queue.
    MESSAGING_SYSTEM = "messaging.system";
    /// What is done with messages: `send`, `receive` or `process`.
    MESSAGING_OPERATION_TYPE = "messaging.operation.type";
    /// The same word: our operations have no names of their own.
    MESSAGING_OPERATION_NAME = "messaging.operation.name";
    /// Exchange and routing key; for those who take, the queue as well.
    MESSAGING_DESTINATION_NAME = "messaging.destination.name";
    /// The routing key of what was sent.
    MESSAGING_ROUTING_KEY = "messaging.rabbitmq.destination.routing_key";
    /// The id of the notification.
    MESSAGING_MESSAGE_ID = "messaging.message.id";
    /// How many notifications were sent at once, where it is not one.
    MESSAGING_BATCH_MESSAGE_COUNT = "messaging.batch.message_count";

    /// The id of the notification.
    NOTIFICATION_ID = "posthaste.notification.id";
    /// The type of the notification.
    NOTIFICATION_TYPE = "posthaste.notification.type";
    /// The tenant that owns the notification.
    TENANT = "posthaste.tenant";
    /// The id of the delivery.
    DELIVERY_ID = "posthaste.delivery.id";
    /// `pending`, or how it ended.
    DELIVERY_STATUS = "posthaste.delivery.status";
    /// Why it failed for good.
    DELIVERY_REASON = "posthaste.delivery.reason";
    /// What it waits for.
    DELIVERY_WAIT = "posthaste.delivery.wait";
    /// What holds it back.
    DELIVERY_HOLD = "posthaste.delivery.hold";
    /// Where the worker had it from: `broker` or `store`.
    DELIVERY_SOURCE = "posthaste.delivery.source";
    /// The id of the endpoint.
    ENDPOINT_ID = "posthaste.endpoint.id";
    /// The endpoint's wire format.
    WIRE_FORMAT = "posthaste.wire_format";
    /// The attempt's number, from 1; of one that was not made, the number that it would have had.
    ATTEMPT_NUMBER = "posthaste.attempt.number";
    /// The delivery's round, from 1.
    ATTEMPT_ROUND = "posthaste.attempt.round";
    /// The result of the attempt, as in the metrics.
    ATTEMPT_RESULT = "posthaste.attempt.result";
    /// What a request that goes before the delivery's own is for.
    REQUEST_PURPOSE = "posthaste.request.purpose";
    /// Milliseconds of name resolution.
    PHASE_DNS = "posthaste.phase.dns_ms";
    /// Milliseconds until the TCP connection was open.
    PHASE_CONNECT = "posthaste.phase.connect_ms";
    /// Milliseconds of the TLS handshake.
    PHASE_TLS = "posthaste.phase.tls_ms";
    /// Milliseconds to the answer's head.
    PHASE_WAIT = "posthaste.phase.wait_ms";
    /// Milliseconds of the answer's body.
    PHASE_BODY = "posthaste.phase.body_ms";
}
