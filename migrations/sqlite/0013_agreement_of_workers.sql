-- What the workers agree on, so that limits hold over all of them: who is alive, whose turn it is under a rate limit,
-- and which endpoints fail.

-- The live workers. `joined` and `acknowledged` are numbers of memberships (`versions`, 'workers'); `except_at` has, as
-- JSON, the endpoints at which the worker keeps to an earlier one.
CREATE TABLE workers (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    joined BIGINT NOT NULL,
    acknowledged BIGINT NOT NULL,
    except_at TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    was_late BIGINT NOT NULL CHECK (was_late IN (0, 1))
);
INSERT INTO versions (name, value) VALUES ('workers', 0);

-- The last turns that were reserved of each endpoint with a rate limit; the next turn is `spacing_ns` after the last.
CREATE TABLE rate_turns (
    endpoint_id TEXT PRIMARY KEY,
    first_turn BIGINT NOT NULL,
    turns BIGINT NOT NULL CHECK (turns >= 1),
    spacing_ns BIGINT NOT NULL CHECK (spacing_ns >= 1),
    taken_at BIGINT NOT NULL
);

-- Endpoints whose circuit breaker is open, or that asked for a pause. One that is neither stays for a while, so that
-- workers learn that it has recovered.
CREATE TABLE endpoint_health (
    endpoint_id TEXT PRIMARY KEY,
    unhealthy_since BIGINT,
    open_until BIGINT,
    failures BIGINT NOT NULL DEFAULT 0,
    last_error TEXT,
    types TEXT NOT NULL DEFAULT '[]',
    paused_until BIGINT,
    changed_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CHECK ((unhealthy_since IS NULL) = (open_until IS NULL))
);
CREATE INDEX endpoint_health_by_version ON endpoint_health (version);
INSERT INTO versions (name, value) VALUES ('endpoint_health', 0);
