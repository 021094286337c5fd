-- Who is signed in to the web console. Nothing here opens it: of a session's id, which is the browser's cookie, and of a
-- one-time link only the SHA-256 is kept, and of the API key that it stands for the hash that `api_keys` has, too.

CREATE TABLE console_sessions (
    id_hash BLOB PRIMARY KEY,
    key_id TEXT NOT NULL,
    key_hash BLOB NOT NULL,
    look_only BIGINT NOT NULL CHECK (look_only IN (0, 1)),
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL CHECK (used_at >= created_at)
);
CREATE INDEX console_sessions_by_use ON console_sessions (used_at);

CREATE TABLE console_links (
    hash BLOB PRIMARY KEY,
    key_hash BLOB NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX console_links_by_time ON console_links (created_at);
