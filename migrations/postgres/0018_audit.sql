-- Who did what to what by the API or the console, written in the transaction of what was done. Kept 90 days longer than
-- deliveries are.
CREATE TABLE audit (
    id UUID PRIMARY KEY,
    at BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    key_name TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT,
    tenant TEXT,
    request_id TEXT
);
CREATE INDEX audit_by_time ON audit (at, id);
CREATE INDEX audit_by_key ON audit (key_id, at, id);
CREATE INDEX audit_by_object ON audit (object, at, id) WHERE object IS NOT NULL;
