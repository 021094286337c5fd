-- Jobs that can be cancelled and followed with a total, and redrives of dead letters as such jobs.
--
-- A cancelled replay is `done` for programs that know of no other end, and has `cancelled_at`.
ALTER TABLE replays ADD COLUMN total BIGINT;
ALTER TABLE replays ADD COLUMN cancelled_at BIGINT;
CREATE INDEX replays_newest ON replays (created_at DESC, id DESC);

CREATE TABLE redrives (
    id BLOB PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
    total BIGINT NOT NULL,
    redriven BIGINT NOT NULL DEFAULT 0,
    undecodable BIGINT NOT NULL DEFAULT 0,
    last_error TEXT,
    -- Until when the process that works on it has it to itself.
    lease_until BIGINT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    CHECK ((state = 'running') = (finished_at IS NULL))
);
CREATE INDEX redrives_running ON redrives (created_at) WHERE state = 'running';
CREATE INDEX redrives_newest ON redrives (created_at DESC, id DESC);
