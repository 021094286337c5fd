-- Ids under which another notification came after the one that they stand for. It was not sent: it is a dead letter.
CREATE TABLE id_conflicts (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    -- When the last one came, in microseconds since 1970.
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
