#!/usr/bin/env python3
"""Drill: what a delivery costs: bytes in RabbitMQ and Postgres, processor time, and how fast a backlog goes.

    cargo build --release
    deploy/drills/sizing.py [--count 100000] [--payload 1000] [--endpoints 100]

Private RabbitMQ and Postgres. A backlog is enqueued while no worker runs, and measured where it lies; then one worker
delivers it to a receiver that answers at once, on the same machine. Every delivery succeeds at its first attempt.
"""

import argparse
import os
import subprocess
import time

import drill
from drill import say, until


def disk(path):
    return int(subprocess.run(["du", "-sb", path], check=True, text=True, stdout=subprocess.PIPE).stdout.split()[0])


def query(url, sql):
    done = subprocess.run(["psql", url, "-Atc", sql], check=True, text=True, stdout=subprocess.PIPE)
    return [line.split("|") for line in done.stdout.splitlines()]


SIZES = """SELECT relname, pg_relation_size(oid) + pg_relation_size(oid, 'fsm') + pg_relation_size(oid, 'vm')
           + coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0), pg_indexes_size(oid)
           FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace ORDER BY 1"""


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=100_000)
    options.add_argument("--payload", type=int, default=1000, help="bytes")
    options.add_argument("--endpoints", type=int, default=100)
    options = options.parse_args()
    with drill.Drill("sizing") as here:
        rabbitmq, postgres = here.server("rabbitmq"), here.server("postgres")
        here.environment.update(POSTHASTE_BROKER_URL=rabbitmq.url, POSTHASTE_DATABASE_URL=postgres.url)
        here.run("migrate")
        api_process = drill.Process(here, ["api"])
        api, receiver = drill.Api(api_process), drill.Receiver.start()
        endpoints = [api.endpoint(f"{receiver.url}/{n}") for n in range(options.endpoints)]
        text = "x" * (options.payload - len('{"text":""}'))
        # RabbitMQ sets aside files of a fixed size at first.
        before, cpu = disk(rabbitmq.dir / "data"), api_process.cpu_seconds()
        begun = time.monotonic()
        for first in range(0, options.count, 500):
            batch = [{"type": "drill", "payload": {"text": text}, "endpoint_id": endpoints[n % len(endpoints)]}
                     for n in range(first, min(first + 500, options.count))]
            api.ok("POST", "/v1/notifications/batch", batch)
        took = time.monotonic() - begun
        say(f"accepted {options.count} in batches of 500, one after the other: {options.count / took:.0f}/s, "
            f"{(api_process.cpu_seconds() - cpu) / options.count * 1e6:.0f} us of the API's processor time each")
        say(f"RabbitMQ: {(disk(rabbitmq.dir / 'data') - before) / options.count:.0f} bytes of disk for each message "
            f"that waits")
        wal = query(postgres.url, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")[0][0]
        sizes = {name: (int(table), int(index)) for name, table, index in query(postgres.url, SIZES)}
        worker = drill.Process(here, ["worker"])
        cpu, begun = worker.cpu_seconds(), time.monotonic()
        first = receiver.answered()
        until("all are delivered", 3600, lambda: receiver.answered() >= options.count)
        took, each = time.monotonic() - begun, (worker.cpu_seconds() - cpu) / options.count * 1e6
        say(f"delivered by one worker: {(options.count - first) / took:.0f}/s, {each:.0f} us of its processor time each, "
            f"{worker.memory_mb():.0f} MB")
        until("all are recorded", 300,
              lambda: drill.books(here)["accounting"]["deliveries"]["delivered"] >= options.count)
        wal = float(query(postgres.url, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")[0][0]) - float(wal)
        query(postgres.url, "VACUUM")
        print(f"\n{'bytes for each delivery':<26} {'table':>8} {'indexes':>8}")
        total = [0.0, 0.0]
        for name, table, index in query(postgres.url, SIZES):
            grown = [(int(table) - sizes.get(name, (0, 0))[0]) / options.count,
                     (int(index) - sizes.get(name, (0, 0))[1]) / options.count]
            total = [sum(pair) for pair in zip(total, grown)]
            if sum(grown) > 1:
                print(f"{name:<26} {grown[0]:>8.0f} {grown[1]:>8.0f}")
        print(f"{'all':<26} {total[0]:>8.0f} {total[1]:>8.0f}   and {wal / options.count:.0f} of WAL", flush=True)
        print(f"load of the machine: {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
