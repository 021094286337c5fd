-- Lists of notifications, the newest first.
CREATE INDEX notifications_by_time ON notifications (accepted_at, tenant, id);

-- What requests with an Idempotency-Key were answered, encrypted: answers can have secrets in them. Without an answer the
-- request is under way since claimed_at, or was cut off.
CREATE TABLE idempotent_answers (
    caller TEXT NOT NULL,
    name TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    claimed_at BIGINT NOT NULL,
    answer BLOB,
    PRIMARY KEY (caller, name)
);
CREATE INDEX idempotent_answers_by_time ON idempotent_answers (claimed_at);
