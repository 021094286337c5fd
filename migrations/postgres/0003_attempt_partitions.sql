-- Attempts by the UTC day on which they started: what is too old goes by dropping whole tables, not row by row.
-- Workers make the days' tables ahead of time (shared/src/store/partitions.rs); what no day's table takes lies in
-- attempts_default. The column types and names stay, so that programs which do not know of this go on.
--
-- The attempts so far become one partition, which goes when its last day is too old. Attaching it reads it twice,
-- and while this lasts workers wait with their commits. Nothing is copied.
ALTER TABLE attempts RENAME TO attempts_history;
ALTER INDEX attempts_pkey RENAME TO attempts_history_pkey;

CREATE TABLE attempts (LIKE attempts_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (started_at);
-- Each partition has a key of its own. With the time in it: an attempt of a delivery that was removed, and whose name
-- came again, may still lie there.
CREATE TABLE attempts_default PARTITION OF attempts (PRIMARY KEY (delivery_id, number, started_at)) DEFAULT;

DO $$
DECLARE
    day CONSTANT bigint := 86400000000;
    today CONSTANT bigint := floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint;
    newest CONSTANT bigint := (SELECT max(started_at) / day FROM attempts_history);
    tomorrow CONSTANT bigint := greatest(today + 1, newest);
BEGIN
    IF newest IS NULL THEN
        DROP TABLE attempts_history;
        FOR number IN today .. tomorrow LOOP
            EXECUTE format(
                'CREATE TABLE attempts_%s PARTITION OF attempts (PRIMARY KEY (delivery_id, number, started_at))
                    FOR VALUES FROM (%s) TO (%s)',
                to_char(to_timestamp(number * 86400) AT TIME ZONE 'UTC', 'YYYYMMDD'), number * day, (number + 1) * day);
        END LOOP;
    ELSE
        EXECUTE format('ALTER TABLE attempts ATTACH PARTITION attempts_history FOR VALUES FROM (MINVALUE) TO (%s)',
            (tomorrow + 1) * day);
    END IF;
END $$;

-- The version of the oldest schema whose programs work with this one. A migration that takes something away raises it.
INSERT INTO versions (name, value) VALUES ('oldest_program', 1);
