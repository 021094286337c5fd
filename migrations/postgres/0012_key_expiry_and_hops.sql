-- Keys that end by themselves, and when each was last used: which ones nobody needs any more.
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
ALTER TABLE api_keys ADD COLUMN last_used_at BIGINT;

-- How often Posthaste itself has sent what a notification came from, so that a circle of deliveries ends.
ALTER TABLE notifications ADD COLUMN hops BIGINT NOT NULL DEFAULT 0;
ALTER TABLE queue ADD COLUMN hops BIGINT NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN hops BIGINT NOT NULL DEFAULT 0;
