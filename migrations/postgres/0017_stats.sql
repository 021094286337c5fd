-- Roll-ups of attempts: by the minute for two days, and by the hour for as long as finished deliveries. Workers add to
-- both; a count of 0 is NULL, which takes no room. `r_…` counts the results, `b00` to `b24` are the histogram of durations,
-- whose bounds the program has. Read by time (all endpoints), and by endpoint.
CREATE TABLE stats (
    step_s INTEGER NOT NULL CHECK (step_s IN (60, 3600)),
    begins_at BIGINT NOT NULL,
    endpoint_id TEXT NOT NULL,
    r_2xx INTEGER,
    r_3xx INTEGER,
    r_4xx INTEGER,
    r_5xx INTEGER,
    r_timeout INTEGER,
    r_network INTEGER,
    r_blocked INTEGER,
    r_script INTEGER,
    succeeded INTEGER,
    first_tries INTEGER,
    first_successes INTEGER,
    b00 INTEGER, b01 INTEGER, b02 INTEGER, b03 INTEGER, b04 INTEGER,
    b05 INTEGER, b06 INTEGER, b07 INTEGER, b08 INTEGER, b09 INTEGER,
    b10 INTEGER, b11 INTEGER, b12 INTEGER, b13 INTEGER, b14 INTEGER,
    b15 INTEGER, b16 INTEGER, b17 INTEGER, b18 INTEGER, b19 INTEGER,
    b20 INTEGER, b21 INTEGER, b22 INTEGER, b23 INTEGER, b24 INTEGER,
    PRIMARY KEY (step_s, begins_at, endpoint_id)
) WITH (fillfactor = 70);
CREATE INDEX stats_by_endpoint ON stats (endpoint_id, step_s, begins_at);

-- What each worker last said of itself, every 10 s. `sequence` is the number of its last report: one that is written again,
-- as its answer was lost, adds nothing to `stats`. `at_limit` has the ids of endpoints as JSON.
CREATE TABLE worker_reports (
    worker_id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    slots BIGINT NOT NULL,
    in_flight BIGINT NOT NULL,
    at_limit TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    reported_at BIGINT NOT NULL,
    sequence BIGINT NOT NULL
);
