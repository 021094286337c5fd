#!/usr/bin/env python3
"""Drill: backups that are restored, under load: what is lost, what is sent twice, what brings it back.

    cargo build --release
    deploy/drills/restore.py [postgres] [rabbitmq] [sqlite] [--rate 50] [--seconds 20]

postgres  pg_dump while everything runs; some time later the database is lost and restored from the dump, while RabbitMQ
          keeps its messages. Then what was accepted and is not in the books any more is enqueued again.
rabbitmq  RabbitMQ loses its data while messages wait in it; Postgres stays. Posthaste declares exchanges and queues anew. Then
          what was lost is enqueued again: the API knows the ids, so straight to the broker.
sqlite    `posthaste up`: an online backup by SQLite's own means, twice; some time later the file is lost and restored.

Exit code 1 when anything stays lost, or a receiver could not tell a repeated request by its webhook-id.
"""

import argparse
import json
import shutil
import sqlite3
import subprocess
import sys
import time

import drill
from drill import say, until

PARTS = ("postgres", "rabbitmq", "sqlite")


class Stage:
    """A running Posthaste with a receiver, one endpoint that is well and one that is down."""

    def __init__(self, here, options, embedded=False):
        self.here, self.options, self.embedded = here, options, embedded
        self.receiver = drill.Receiver.start()
        self.receiver.down.add("/down")
        self.start()
        self.well = self.api.endpoint(f"{self.receiver.url}/well")
        # Down until the end: its deliveries wait for a retry in the store.
        retry = {"delays_ms": [3000] * 100}
        self.down = self.api.endpoint(f"{self.receiver.url}/down", retry=retry)
        self.accepted = []

    def start(self):
        if self.embedded:
            self.processes = [drill.Process(self.here, ["up"])]
        else:
            self.processes = [drill.Process(self.here, ["api"]), drill.Process(self.here, ["worker"])]
        self.api = drill.Api(self.processes[0])

    def stop(self):
        for process in reversed(self.processes):
            process.stop()

    def load(self, prefix, endpoints=None):
        """Enqueues for some time; returns the ids that were accepted."""
        load = drill.Load(self.api, endpoints or [self.well, self.well, self.well, self.down], self.options.rate, prefix)
        load.start()
        time.sleep(self.options.seconds)
        accepted = load.stop()
        self.accepted += accepted
        return accepted

    def missing(self, names):
        return drill.books(self.here, names)["missing"]

    def enqueue_again(self, names, how):
        """The same notifications under the same ids: what a producer does that kept them."""
        down = {name for name in names if int(name.rsplit("-", 1)[1]) % 4 == 3 and not name.startswith("queued")}
        lines = [json.dumps({"id": name, "type": "drill", "payload": {"n": int(name.rsplit("-", 1)[1])},
                             "endpoint_id": self.down if name in down else self.well}) for name in names]
        file = self.here.root / "again.ndjson"
        file.write_text("\n".join(lines) + "\n")
        self.here.environment["POSTHASTE_API_URL"] = self.processes[0].url
        done = self.here.run("--json", "send", "--file", str(file), how)
        return sum(1 for line in done.stdout.splitlines() if json.loads(line).get("deduplicated"))

    def finish(self, what):
        self.receiver.down.clear()
        figures = drill.account(self.here, self.receiver, self.accepted)
        repeated = figures["sent twice"]
        say(f"{what}: of {figures['accepted']} accepted none is lost; {repeated} requests more than one for each "
            f"notification, all told by their webhook-id")


def compare(stage, before, what):
    found = drill.books(stage.here)["accounting"]["deliveries"]
    say(f"{what}: deliveries {json.dumps(before)} before the loss, {json.dumps(found)} after the restore")


def postgres(here, options):
    rabbitmq, store = here.server("rabbitmq"), here.server("postgres")
    here.environment.update(POSTHASTE_BROKER_URL=rabbitmq.url, POSTHASTE_DATABASE_URL=store.url)
    here.run("migrate")
    stage = Stage(here, options)
    early = stage.load("early")
    until("what is well is delivered", 60, lambda: len(set(stage.receiver.ids())) >= len(early) * 3 // 4)
    began, dump = time.monotonic(), here.root / "dump"
    subprocess.run(["pg_dump", "-Fc", "-f", dump, store.url], check=True)
    say(f"pg_dump while it runs: {time.monotonic() - began:.1f} s, {dump.stat().st_size} bytes")
    late = stage.load("late")
    until("what is well is delivered", 60, lambda: len(set(stage.receiver.ids())) >= len(early + late) * 3 // 4)
    stage.processes[1].stop()
    queued = stage.load("queued", [stage.well])
    before = drill.books(here)["accounting"]["deliveries"]
    stage.processes[0].stop()

    store.stop()
    shutil.rmtree(store.dir / "data")
    say("Postgres lost its data")
    store.start()
    subprocess.run(["pg_restore", "-d", store.url, "--no-owner", dump], check=True)
    compare(stage, before, "Postgres")
    first = len(stage.receiver.ids())
    stage.start()
    until("what was in RabbitMQ is delivered", 60,
          lambda: set(queued) <= {item["notification_id"] for item in stage.api.deliveries("&status=delivered")})
    say(f"what was in RabbitMQ: {len(queued)} accepted, all delivered; {len(stage.receiver.ids()) - first} requests")
    missing = stage.missing(stage.accepted)
    parts = {name: sum(1 for one in missing if one.startswith(name)) for name in ("early", "late", "queued")}
    waiting = sum(1 for one in missing if int(one.rsplit('-', 1)[1]) % 4 == 3)
    say(f"reconcile --accepted: {len(missing)} of {len(stage.accepted)} are not in the books: {parts}; of these "
        f"{len(missing) - waiting} had been delivered, {waiting} were waiting for a retry and would never be sent")
    known = stage.enqueue_again(missing, "--api")
    say(f"enqueued again with the same ids through the API: {len(missing)}, of which it knew {known}")
    stage.finish("Postgres restored")


def rabbitmq(here, options):
    broker, store = here.server("rabbitmq"), here.server("postgres")
    here.environment.update(POSTHASTE_BROKER_URL=broker.url, POSTHASTE_DATABASE_URL=store.url)
    here.run("migrate")
    stage = Stage(here, options)
    early = stage.load("early")
    until("what is well is delivered", 60, lambda: len(set(stage.receiver.ids())) >= len(early) * 3 // 4)
    stage.processes[1].stop()
    queued = stage.load("queued", [stage.well])
    broker.stop()
    for part in ("data", "log"):
        shutil.rmtree(broker.dir / part)
    say(f"RabbitMQ lost its data, with {len(queued)} messages")
    broker.start()
    until("the API is ready again", 60, stage.processes[0].ready)
    stage.processes[1] = drill.Process(here, ["worker"])
    say("API and worker declared exchanges and queues anew")
    after = stage.load("after")
    until("what came after is taken up", 60, lambda: not stage.missing(after))
    missing = stage.missing(stage.accepted)
    say(f"reconcile --accepted: {len(missing)} of {len(stage.accepted)} are not in the books; all of them were in "
        f"RabbitMQ: {set(missing) == set(queued)}")
    known = stage.enqueue_again(missing, "--api")
    say(f"enqueued again through the API: {len(missing)}, of which it knew {known} and published none of those")
    if known:
        stage.enqueue_again(missing, "--broker")
        say("enqueued again straight to the broker")
    stage.finish("RabbitMQ lost")


def sqlite(here, options):
    here.environment.update(POSTHASTE_DATA_DIR=str(here.root / "data"))
    stage = Stage(here, options, embedded=True)
    early = stage.load("early")
    file = here.root / "data" / "posthaste.db"
    for how in ("VACUUM INTO", "backup"):
        began = time.monotonic()
        copy = here.root / f"{how.split()[0].lower()}.db"
        copy.unlink(missing_ok=True)
        source = sqlite3.connect(file, timeout=30)
        if how == "backup":
            target = sqlite3.connect(copy)
            source.backup(target)
            target.close()
        else:
            source.execute("VACUUM INTO ?", (str(copy),))
        source.close()
        checked = sqlite3.connect(copy)
        ok = checked.execute("PRAGMA integrity_check").fetchone()[0]
        checked.close()
        say(f"SQLite, {how} while it runs: {time.monotonic() - began:.2f} s, {copy.stat().st_size} bytes of "
            f"{file.stat().st_size}; integrity check: {ok}")
    late = stage.load("late")
    until("what is well is delivered", 60, lambda: len(set(stage.receiver.ids())) >= len(early + late) * 3 // 4)
    before = drill.books(here)["accounting"]["deliveries"]
    stage.processes[0].kill()
    for left in file.parent.glob("posthaste.db*"):
        left.unlink()
    shutil.copy(copy, file)
    stage.start()
    compare(stage, before, "SQLite")
    missing = stage.missing(stage.accepted)
    say(f"reconcile --accepted: {len(missing)} of {len(stage.accepted)} are not in the books")
    known = stage.enqueue_again(missing, "--api")
    say(f"enqueued again with the same ids through the API: {len(missing)}, of which it knew {known}")
    stage.finish("SQLite restored")

    say("with another master key:")
    stage.stop()
    here.environment["POSTHASTE_MASTER_KEY"] = "another-master-key-for-drills-0123456789"
    done = here.run("doctor", check=False)
    print("\n".join(line for line in done.stdout.splitlines() if "secrets" in line.lower()), flush=True)
    try:
        drill.Process(here, ["worker"])
        sys.exit("a worker starts with a master key that does not fit")
    except RuntimeError as error:
        say("a worker does not start: " + str(error).strip().splitlines()[-1])


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", metavar="PART", help="which of them; default: all")
    options.add_argument("--rate", type=float, default=50, help="notifications a second")
    options.add_argument("--seconds", type=float, default=20, help="length of each load")
    options = options.parse_args()
    for part in options.parts or PARTS:
        if part not in PARTS:
            sys.exit(f"there is no part {part}: choose of {', '.join(PARTS)}")
        say(f"--- {part}")
        with drill.Drill(f"restore-{part}") as here:
            globals()[part](here, options)


if __name__ == "__main__":
    main()
