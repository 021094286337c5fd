#!/usr/bin/env python3
"""Drill: the master key of an installation is changed under load.

    cargo build --release
    deploy/drills/rotate_master.py [--rate 300] [--endpoints 500]

Private RabbitMQ and Postgres, two workers and an API under a steady load, with an endpoint that is down for a while, so that
retries wait in the store. As docs/operating.md says: every process is replaced by one with both keys; `key rotate-master` is
killed once in its midst and run again; every process is replaced by one with the new key alone. All the time endpoints
are made, some of them while the keys change. Exit code 1 when anything is lost, an endpoint cannot be read in the end, or a
process with the old key still starts.
"""

import argparse
import subprocess
import sys
import time

import drill
from drill import say, until

NEW_KEY = "another-master-key-for-drills-0123456789"


def keys(here, key, previous=None):
    here.environment["POSTHASTE_MASTER_KEY"] = key
    here.environment.pop("POSTHASTE_MASTER_KEY_PREVIOUS", None)
    if previous:
        here.environment["POSTHASTE_MASTER_KEY_PREVIOUS"] = previous


def replace(here, what, workers, api, load):
    """One after another, each new one first; returns the new ones."""
    begun, new_workers = time.monotonic(), []
    for worker in workers:
        new_workers.append(drill.Process(here, ["worker"]))
        worker.stop()
    new_api = drill.Process(here, ["api"])
    load.api = drill.Api(new_api)
    api.stop()
    say(f"{what}: longest time without an acceptance {load.longest_gap(begun):.2f} s")
    return new_workers, new_api


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rate", type=int, default=300, help="notifications a second")
    options.add_argument("--endpoints", type=int, default=500, help="endpoints that have secrets")
    options = options.parse_args()
    with drill.Drill("rotate-master") as here:
        rabbitmq, postgres = here.server("rabbitmq"), here.server("postgres")
        here.environment.update(POSTHASTE_BROKER_URL=rabbitmq.url, POSTHASTE_DATABASE_URL=postgres.url)
        keys(here, drill.MASTER_KEY)
        here.run("migrate")
        api_process = drill.Process(here, ["api"])
        workers = [drill.Process(here, ["worker"]) for _ in range(2)]
        receiver, api = drill.Receiver.start(), drill.Api(api_process)
        made = [api.endpoint(f"{receiver.url}/{n}", wire_format="standard") for n in range(options.endpoints)]
        made.append(api.endpoint(f"{receiver.url}/down", wire_format="standard", retry={"delays_ms": [5000] * 12}))
        receiver.down.add("/down")
        load = drill.Load(api, made[-20:], options.rate)
        load.start()
        until("the first deliveries", 60, lambda: receiver.answered() > 100)
        begun = time.monotonic()

        keys(here, NEW_KEY, drill.MASTER_KEY)
        workers, api_process = replace(here, "every process has both keys", workers, api_process, load)
        made.append(load.api.endpoint(f"{receiver.url}/both", wire_format="standard"))

        killed = subprocess.Popen([drill.program(), "key", "rotate-master"], env=here.environment, cwd=here.root,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        killed.kill()
        killed.wait(10)
        made.append(load.api.endpoint(f"{receiver.url}/between", wire_format="standard"))
        at = time.monotonic()
        said = here.run("key", "rotate-master").stdout.strip()
        say(f"rotate-master, killed before: {said} ({time.monotonic() - at:.1f} s)")
        made.append(load.api.endpoint(f"{receiver.url}/after", wire_format="standard"))

        keys(here, NEW_KEY)
        workers, api_process = replace(here, "every process has the new key alone", workers, api_process, load)
        receiver.down.clear()
        longest = load.longest_gap(begun)
        accepted = load.stop()
        say(f"accepted {len(accepted)}, of these {load.refused} only when asked again; longest time without an acceptance "
            f"{longest:.2f} s, without a delivery {receiver.longest_gap(begun):.2f} s")
        read = [one for one in made if load.api.call("GET", f"/v1/endpoints/{one}")[0] == 200]
        say(f"{len(read)} of {len(made)} endpoints can be read with the new key alone")
        figures = drill.account(here, receiver, accepted)
        keys(here, drill.MASTER_KEY)
        refused = here.run("worker", check=False)
        say(f"a worker with the old key: exit code {refused.returncode}: {refused.stderr.strip().splitlines()[-1]}")
        if len(read) < len(made) or refused.returncode != 1 or figures["lost"]:
            sys.exit("the change of the key is not whole")


if __name__ == "__main__":
    main()
