#!/usr/bin/env python3
"""Drill: an installation under load goes from one version to another, process by process, through the migration.

    cargo build --release
    deploy/drills/rolling_upgrade.py OLD_BINARY [NEW_BINARY] [--rate 300] [--attempts 1000000] [--back]

Private RabbitMQ and Postgres. The old version's API and two workers serve a steady load, with an endpoint that is down
for a while, so that retries wait in the store. Then, one after another, as docs/scaling.md says: the new version
migrates; the old processes go on with the new schema; a new worker comes and an old one is stopped, twice; a new API
comes and the old one is stopped. With `--back` the old version takes over again, on the new schema, worker by worker and
then the API. Exit code 1 when anything is lost or the books are not in order.
"""

import argparse
import os
import subprocess
import time

import drill
from drill import say, until

PREFILL = """
INSERT INTO attempts (delivery_id, number, round, started_at, duration_us, phases, result, status_code, request_headers, worker)
SELECT md5('old ' || n)::uuid, 1, 1, (extract(epoch FROM now()) * 1000000)::bigint - n * 1000, 4000,
    '{"wait":0.1,"dns":0.0,"connect":0.4,"tls":0.0,"first_byte":2.5,"body":0.1}', 'ok', 200,
    '[["content-type","application/json"],["webhook-id","old-' || n || '"],["webhook-timestamp","1760000000"],["user-agent","posthaste"]]',
    'worker-1'
FROM generate_series(1, %d) AS n
"""


class Version:
    """`with` it, what is started is this binary."""

    def __init__(self, binary):
        self.binary = binary

    def __enter__(self):
        os.environ["POSTHASTE"] = self.binary

    def __exit__(self, *_):
        del os.environ["POSTHASTE"]


def sql(postgres, text):
    done = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", postgres.url, "-c", text], check=True,
                          stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def step(what, receiver, seconds=8):
    """Lets some load go by and says how it went."""
    at = time.monotonic()
    time.sleep(seconds)
    answers = sum(1 for when, _, status in list(receiver.answers) if when >= at and status == 200)
    say(f"{what}: {answers / seconds:.0f} delivered/s, longest time without an answer {receiver.longest_gap(at):.2f} s")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("old", type=os.path.abspath)
    options.add_argument("new", type=os.path.abspath, nargs="?")
    options.add_argument("--rate", type=int, default=300, help="notifications a second")
    options.add_argument("--back", action="store_true", help="and back again")
    options.add_argument("--attempts", type=int, default=1_000_000, help="rows in the store before")
    options = options.parse_args()
    old, new = Version(options.old), Version(options.new or drill.program())
    with drill.Drill("rolling-upgrade") as here:
        rabbitmq, postgres = here.server("rabbitmq"), here.server("postgres")
        here.environment.update(POSTHASTE_BROKER_URL=rabbitmq.url, POSTHASTE_DATABASE_URL=postgres.url)
        with old:
            say(f"old: {here.run('--version').stdout.strip()}; {here.run('migrate').stdout.strip()}")
            sql(postgres, PREFILL % options.attempts)
            say(f"{options.attempts} attempts are in the store")
            old_api = drill.Process(here, ["api"])
            old_workers = [drill.Process(here, ["worker"]) for _ in range(2)]
        receiver, api = drill.Receiver.start(), drill.Api(old_api)
        endpoints = [api.endpoint(f"{receiver.url}/{n}") for n in range(20)]
        endpoints.append(api.endpoint(f"{receiver.url}/down", retry={"delays_ms": [5000] * 12}))
        receiver.down.add("/down")
        load = drill.Load(api, endpoints, options.rate)
        load.start()
        until("the first deliveries", 60, lambda: receiver.answered() > 100)
        step("old version, old schema", receiver)

        with new:
            begun = time.monotonic()
            said = here.run("migrate").stdout.strip()
            took = time.monotonic() - begun
        say(f"migrate: {said} ({took:.2f} s; longest time without an answer meanwhile {receiver.longest_gap(begun):.2f} s, "
            f"without an acceptance {load.longest_gap(begun):.2f} s)")
        step("old version, new schema", receiver)

        new_workers = []
        for number, worker in enumerate(old_workers, 1):
            with new:
                new_workers.append(drill.Process(here, ["worker"]))
            worker.stop()
            step(f"{2 - number} old and {number} new workers", receiver)
        with new:
            new_api = drill.Process(here, ["api"])
        load.api = drill.Api(new_api)
        old_api.stop()
        step("new version", receiver)
        if options.back:
            for number, worker in enumerate(new_workers, 1):
                with old:
                    drill.Process(here, ["worker"])
                worker.stop()
                step(f"back: {number} old and {2 - number} new workers", receiver)
            with old:
                load.api = drill.Api(drill.Process(here, ["api"]))
            new_api.stop()
            step("back: old version, new schema", receiver)
        receiver.down.clear()
        accepted = load.stop()
        say(f"accepted {len(accepted)}, of these {load.refused} only when asked again")
        with new:
            drill.account(here, receiver, accepted)


if __name__ == "__main__":
    main()
