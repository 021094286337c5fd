-- The store's schema. Times are microseconds since 1970 (UTC); ids that are UUIDs are stored as such;
-- JSON that is carried through untouched is stored as bytes. The same in both databases, but for types.

CREATE TABLE versions (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
-- endpoints: the number of the last change of any endpoint. events: the sequence number of the last event.
-- Raised in the transaction that writes them, so that numbers become visible in order.
INSERT INTO versions (name, value) VALUES ('endpoints', 0), ('events', 0);

CREATE TABLE notifications (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    target TEXT,
    payload BYTEA NOT NULL,
    recipient BYTEA,
    overrides BYTEA,
    accepted_at BIGINT NOT NULL,
    deliver_at BIGINT,
    expires_at BIGINT,
    priority TEXT NOT NULL CHECK (priority IN ('normal', 'high')),
    origin TEXT NOT NULL CHECK (origin IN ('producer', 'event')),
    traceparent TEXT,
    fan_out BIGINT NOT NULL CHECK (fan_out >= 0),
    PRIMARY KEY (tenant, id)
);
-- retention of what nobody wanted
CREATE INDEX notifications_unmatched ON notifications (accepted_at) WHERE fan_out = 0;
-- a notification by its id alone, whatever its tenant
CREATE INDEX notifications_by_id ON notifications (id);

CREATE TABLE deliveries (
    id UUID PRIMARY KEY,
    notification_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    type TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    wire_format TEXT NOT NULL,
    recipient TEXT,
    status TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'failed', 'expired', 'cancelled')),
    wait TEXT CHECK (wait IN ('in_flight', 'retry', 'scheduled', 'parked')),
    hold TEXT,
    due_at BIGINT,
    reason TEXT,
    round BIGINT NOT NULL CHECK (round >= 1),
    attempt_count BIGINT NOT NULL CHECK (attempt_count >= 0),
    round_base BIGINT NOT NULL CHECK (round_base >= 0 AND round_base <= attempt_count),
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    provider_message_id TEXT,
    provider_error_code TEXT,
    last_error TEXT,
    origin TEXT NOT NULL CHECK (origin IN ('producer', 'event')),
    finished_at BIGINT,
    CHECK ((status = 'pending') = (wait IS NOT NULL)),
    CHECK ((status = 'pending') = (finished_at IS NULL)),
    CHECK ((status = 'failed') = (reason IS NOT NULL)),
    CHECK ((due_at IS NOT NULL) = (wait IS NOT NULL AND wait <> 'parked')),
    CHECK ((hold IS NOT NULL) = (wait IS NOT NULL AND wait = 'parked'))
);
-- Lists, the newest first. Most deliveries are delivered, so lists of another status have small indexes
-- of their own and the others are found by reading on in the general ones.
CREATE INDEX deliveries_by_time ON deliveries (created_at, id);
CREATE INDEX deliveries_by_tenant ON deliveries (tenant, created_at, id);
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_id, created_at, id);
CREATE INDEX deliveries_by_type ON deliveries (type, created_at, id);
CREATE INDEX deliveries_by_notification ON deliveries (notification_id, tenant);
CREATE INDEX deliveries_by_status ON deliveries (status, created_at, id) WHERE status <> 'delivered';
CREATE INDEX deliveries_by_tenant_status ON deliveries (tenant, status, created_at, id) WHERE status <> 'delivered';
CREATE INDEX deliveries_by_endpoint_status ON deliveries (endpoint_id, status, created_at, id) WHERE status <> 'delivered';
-- The scheduler: what is due, what expires, what is parked.
CREATE INDEX deliveries_due ON deliveries (due_at, wait) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_expiring ON deliveries (expires_at) WHERE status = 'pending' AND expires_at IS NOT NULL;
CREATE INDEX deliveries_parked ON deliveries (endpoint_id, created_at, id) WHERE wait = 'parked';
-- retention
CREATE INDEX deliveries_finished ON deliveries (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE attempts (
    delivery_id UUID NOT NULL,
    number BIGINT NOT NULL CHECK (number >= 1),
    round BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    phases TEXT NOT NULL,
    result TEXT NOT NULL,
    status_code BIGINT,
    error_code TEXT,
    error_text TEXT,
    response_body TEXT,
    resolved_address TEXT,
    request_headers TEXT NOT NULL,
    worker TEXT NOT NULL,
    PRIMARY KEY (delivery_id, number)
);

CREATE TABLE events (
    sequence BIGINT PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    type TEXT NOT NULL,
    tenant TEXT NOT NULL,
    at BIGINT NOT NULL,
    body BYTEA NOT NULL,
    published_at BIGINT,
    claimed_until BIGINT
);
CREATE INDEX events_by_time ON events (at, id);
CREATE INDEX events_by_tenant ON events (tenant, at, id);
CREATE INDEX events_by_type ON events (type, at, id);
-- the outbox
CREATE INDEX events_unpublished ON events (sequence) WHERE published_at IS NULL;

CREATE TABLE endpoints (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    url TEXT NOT NULL,
    wire_format TEXT NOT NULL,
    description TEXT NOT NULL,
    subscription TEXT NOT NULL,
    confidential BYTEA,
    timeout_ms BIGINT NOT NULL,
    retry TEXT NOT NULL,
    max_in_flight BIGINT NOT NULL,
    rate_limit_per_second DOUBLE PRECISION,
    status TEXT NOT NULL CHECK (status IN ('enabled', 'disabled')),
    disabled_reason TEXT,
    failing_since BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    deleted_at BIGINT,
    CHECK ((status = 'disabled') = (disabled_reason IS NOT NULL)),
    CHECK ((deleted_at IS NULL) OR (confidential IS NULL))
);
CREATE INDEX endpoints_by_version ON endpoints (version);
CREATE INDEX endpoints_by_time ON endpoints (created_at, id);
CREATE INDEX endpoints_by_tenant ON endpoints (tenant, created_at, id);
CREATE INDEX endpoints_failing ON endpoints (failing_since) WHERE failing_since IS NOT NULL;
CREATE INDEX endpoints_deleted ON endpoints (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    name TEXT NOT NULL,
    tenant TEXT,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE idempotency_keys (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    notification_id TEXT NOT NULL,
    accepted_at BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('in_progress', 'done')),
    PRIMARY KEY (tenant, name)
);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (accepted_at);

CREATE TABLE replays (
    id UUID PRIMARY KEY,
    filter TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'done')),
    matched BIGINT NOT NULL,
    replayed BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    cursor_at BIGINT,
    cursor_id UUID
);
CREATE INDEX replays_running ON replays (created_at) WHERE state = 'running';

-- The embedded broker: its work queue, who takes from it, and its dead letters.
CREATE TABLE queue (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    priority BIGINT NOT NULL,
    message_id TEXT,
    body BYTEA NOT NULL,
    accepted_at BIGINT,
    origin TEXT NOT NULL,
    traceparent TEXT,
    delivery_count BIGINT NOT NULL DEFAULT 0,
    consumer UUID
);
CREATE INDEX queue_ready ON queue (priority DESC, id) WHERE consumer IS NULL;
CREATE INDEX queue_taken ON queue (consumer) WHERE consumer IS NOT NULL;

CREATE TABLE queue_consumers (
    id UUID PRIMARY KEY,
    seen_at BIGINT NOT NULL
);

CREATE TABLE dead_letters (
    sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    died_at BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    message_id TEXT,
    body BYTEA NOT NULL,
    accepted_at BIGINT,
    origin TEXT NOT NULL,
    traceparent TEXT
);
CREATE INDEX dead_letters_by_id ON dead_letters (id);
