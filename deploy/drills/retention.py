#!/usr/bin/env python3
"""Drill: a day with a million deliveries becomes too old while a worker is busy.

    cargo build --release
    deploy/drills/retention.py [--rows 1000000] [--deliveries 50000] [--seconds 30]

Private RabbitMQ and Postgres. Puts a million attempts into the store, all of one day 40 days ago, and the deliveries of the
last of them: those of the others would have been removed in the course of the day, as they became too old. A worker
drains a backlog without end: first undisturbed, then while the deliveries and their notifications are removed row by row
and the attempts by dropping their table, then undisturbed again. Says how many deliveries were made in each second, and
how long the table's removal took.
"""

import argparse
import re
import statistics
import subprocess
import threading
import time

import drill
from drill import say, until

DAYS_AGO = 40
PREFILL = """
DO $$
DECLARE
    day CONSTANT bigint := 86400000000;
    start CONSTANT bigint := (floor(extract(epoch FROM now()) / 86400)::bigint - {days}) * day;
    name CONSTANT text := 'attempts_' || to_char(to_timestamp(start / 1000000) AT TIME ZONE 'UTC', 'YYYYMMDD');
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = 'attempts'::regclass) = 'p' THEN
        EXECUTE format('CREATE TABLE %s PARTITION OF attempts (PRIMARY KEY (delivery_id, number, started_at))
            FOR VALUES FROM (%s) TO (%s)', name, start, start + day);
    END IF;
    INSERT INTO notifications (tenant, id, type, payload, accepted_at, priority, origin, fan_out)
    SELECT 'default', 'old-' || n, 'drill', convert_to('{{"text":"' || repeat('x', 1000) || '"}}', 'UTF8'),
        start + n * (day / ({rows} + 1)), 'normal', 'producer', 1
    FROM generate_series({rows} - {deliveries} + 1, {rows}) AS n;
    INSERT INTO deliveries (id, notification_id, tenant, type, endpoint_id, wire_format, status, round, attempt_count,
        round_base, created_at, origin, finished_at)
    SELECT md5('old ' || n)::uuid, 'old-' || n, 'default', 'drill', 'ep_old', 'standard', 'delivered', 1, 1, 0,
        start + n * (day / ({rows} + 1)), 'producer', start + n * (day / ({rows} + 1)) + 5000
    FROM generate_series({rows} - {deliveries} + 1, {rows}) AS n;
    INSERT INTO attempts (delivery_id, number, round, started_at, duration_us, phases, result, status_code, request_headers, worker)
    SELECT md5('old ' || n)::uuid, 1, 1, start + n * (day / ({rows} + 1)) + 1000, 4000,
        '{{"wait":0.1,"dns":0.0,"connect":0.4,"tls":0.0,"first_byte":2.5,"body":0.1}}', 'ok', 200,
        '[["content-type","application/json"],["webhook-id","old-' || n || '"],["webhook-timestamp","1760000000"],["user-agent","posthaste"]]',
        'worker-1'
    FROM generate_series(1, {rows}) AS n;
END $$;
"""


def sql(postgres, text):
    done = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", postgres.url], input=text, check=True,
                          stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


class Backlog(threading.Thread):
    """Keeps some thousand notifications waiting."""

    def __init__(self, api, endpoints, receiver):
        super().__init__(daemon=True)
        self.api, self.endpoints, self.receiver = api, endpoints, receiver
        self.accepted, self.ending = [], threading.Event()

    def run(self):
        while not self.ending.is_set():
            if len(self.accepted) - self.receiver.answered() > 5000:
                time.sleep(0.01)
                continue
            batch = [{"type": "drill", "payload": {"text": "x" * 1000}, "endpoint_id": self.endpoints[n % len(self.endpoints)]}
                     for n in range(1000)]
            self.accepted += [item["id"] for item in self.api.ok("POST", "/v1/notifications/batch", batch)["items"]]


def rates(receiver, begin, end):
    """Deliveries in each whole second between the two times."""
    counts = [0] * int(end - begin)
    for when, _, _ in list(receiver.answers):
        second = int(when - begin)
        if when >= begin and second < len(counts):
            counts[second] += 1
    return counts


def show(what, counts):
    if not counts:
        return
    say(f"{what}: {len(counts)} s, deliveries/s: median {statistics.median(counts):.0f}, mean {statistics.mean(counts):.0f}, "
        f"least {min(counts)}, most {max(counts)}")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--deliveries", type=int, default=50_000)
    options.add_argument("--seconds", type=int, default=30, help="how long to watch before and after")
    options = options.parse_args()
    with drill.Drill("retention") as here:
        rabbitmq, postgres = here.server("rabbitmq"), here.server("postgres")
        here.environment.update(POSTHASTE_BROKER_URL=rabbitmq.url, POSTHASTE_DATABASE_URL=postgres.url)
        here.run("migrate")
        begun = time.monotonic()
        sql(postgres, PREFILL.format(rows=options.rows, deliveries=options.deliveries, days=DAYS_AGO))
        sql(postgres, "VACUUM ANALYZE")
        say(f"{options.rows} old attempts and {options.deliveries} deliveries are in the store ({time.monotonic() - begun:.0f} s)")
        api_process = drill.Process(here, ["api"])
        api, receiver = drill.Api(api_process), drill.Receiver.start()
        endpoints = [api.endpoint(f"{receiver.url}/{n}") for n in range(20)]
        backlog = Backlog(api, endpoints, receiver)
        backlog.start()
        until("a backlog", 60, lambda: len(backlog.accepted) > 4000)
        # Retention is looked after a minute after the start and every minute from then on.
        worker = drill.Process(here, ["worker"])
        until("deliveries", 30, lambda: receiver.answered() > 2000)
        started = time.monotonic()

        def left():
            return int(sql(postgres, "SELECT count(*) FROM deliveries WHERE endpoint_id = 'ep_old'"))

        until("the removal begins", 90, lambda: left() < options.deliveries or time.sleep(0.5))
        removing = time.monotonic()
        show("undisturbed", rates(receiver, started, removing - 1))
        until("the deliveries are removed", 1200, lambda: left() == 0 or time.sleep(2))
        removed = time.monotonic()
        show("while deliveries are removed row by row", rates(receiver, removing, removed))
        said = until("the table is dropped", 30, lambda: re.search(r".*removed attempts that are too old.*", worker.log.read_text()))
        dropped = time.monotonic()
        say(said.group(0))
        time.sleep(options.seconds)
        say(f"deliveries in each second from 3 s before the drop to 3 s after: {rates(receiver, removed - 3, dropped + 3)}")
        show("after", rates(receiver, dropped, time.monotonic()))
        backlog.ending.set()
        backlog.join(60)
        drill.account(here, receiver, backlog.accepted)


if __name__ == "__main__":
    main()
