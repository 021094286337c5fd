#!/usr/bin/env python3
"""Drill: everything that Posthaste stands on fails, one thing after the other, under a steady load.

    cargo build --release
    deploy/drills/faults.py [FAULT ...] [--rate 100] [--seconds 8]
    deploy/drills/faults.py nemesis --for 3600 --seed 7     # at random, several at a time

Two APIs, three workers, a private RabbitMQ and a private Postgres, both behind proxies that cut, freeze and slow
connections, and a receiver that records every request; for some faults other installations (worlds.py): a cluster of three
RabbitMQ nodes, a Postgres with a standby, everything by TLS, SQLite, a worker whose clock is set. Each fault lasts for some
seconds while notifications are enqueued through both APIs; then the load ends, and the drill waits until all is quiet and
counts: what the APIs accepted against what the receiver got and what is in the store. It fails when anything accepted was
lost. Root is needed for the cluster alone, whose nodes have network namespaces of their own."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import drill
import worlds
from drill import say, until


def nothing(_):
    return None


def hang(it):
    it.receiver.delay = 30


def answer(it):
    it.receiver.delay = 0


def down(it):
    it.receiver.down.add("/")


def up(it):
    it.receiver.down.clear()


def crowd(it):
    """Takes every connection that Postgres has left."""
    it.crowd = []
    for _ in range(200):
        one = subprocess.Popen(["psql", "-X", "-q", it.postgres.url, "-c", f"SELECT pg_sleep({it.seconds})"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        it.crowd.append(one)
    it.store.cut()


def leave(it):
    for one in it.crowd:
        one.wait(60)


def replace(kind, sign):
    """Ends one after the other and starts another in its place."""
    def act(it):
        for index in range(len(it.workers if kind == "worker" else it.apis)):
            (it.restart_worker if kind == "worker" else it.restart_api)(index, sign)
    return act


# The fault's name: (in words, what begins it, what ends it).
FAULTS = {
    "none": ("nothing, for comparison", nothing, nothing),
    "workers-killed": ("kill -9 of each worker in turn", replace("worker", signal.SIGKILL), nothing),
    "workers-stopped": ("SIGTERM of each worker in turn", replace("worker", signal.SIGTERM), nothing),
    "apis-killed": ("kill -9 of each API in turn", replace("api", signal.SIGKILL), nothing),
    "rabbitmq-killed": ("kill -9 of RabbitMQ", lambda it: it.crash(it.rabbitmq), lambda it: it.start(it.rabbitmq)),
    "postgres-killed": ("kill -9 of Postgres", lambda it: it.crash(it.postgres), lambda it: it.start(it.postgres)),
    "rabbitmq-frozen": ("RabbitMQ frozen", lambda it: it.signal(it.rabbitmq, "STOP"),
                        lambda it: it.signal(it.rabbitmq, "CONT")),
    "postgres-frozen": ("Postgres frozen", lambda it: it.signal(it.postgres, "STOP"),
                        lambda it: it.signal(it.postgres, "CONT")),
    "rabbitmq-cut": ("connections to RabbitMQ cut, again and again", None, nothing),
    "postgres-cut": ("connections to Postgres cut, again and again", None, nothing),
    "rabbitmq-black-hole": ("nothing gets through to RabbitMQ", lambda it: it.broker.be("hold"),
                            lambda it: (it.broker.be("pass"), it.broker.cut())),
    "postgres-black-hole": ("nothing gets through to Postgres", lambda it: it.store.be("hold"),
                            lambda it: (it.store.be("pass"), it.store.cut())),
    "postgres-crawl": ("20 KB/s to and from Postgres on each connection", lambda it: it.store.be("crawl"),
                       lambda it: it.store.be("pass")),
    "postgres-read-only": ("Postgres is read-only",
                           lambda it: it.setting("default_transaction_read_only", "on"),
                           lambda it: it.setting("default_transaction_read_only", None)),
    "postgres-crowded": ("Postgres has no connection left", crowd, leave),
    "rabbitmq-alarm": ("RabbitMQ's memory alarm: publishers are blocked",
                       lambda it: it.ctl("set_vm_memory_high_watermark", "0.00001"),
                       lambda it: it.ctl("set_vm_memory_high_watermark", "0.4")),
    "rabbitmq-disk-alarm": ("RabbitMQ's disk alarm: publishers are blocked",
                            lambda it: it.ctl("set_disk_free_limit", "1000000GB"),
                            lambda it: it.ctl("set_disk_free_limit", "10MB")),
    "receiver-down": ("the receiver answers 503", down, up),
    "receiver-hangs": ("the receiver answers after 30 s", hang, answer),
    "stopped-stuck": ("SIGTERM of each worker while the receiver hangs",
                      lambda it: (hang(it), replace("worker", signal.SIGTERM)(it)), answer),
    "everything-killed": ("kill -9 of all of it at once",
                          lambda it: ([one.kill() for one in it.workers + it.apis], it.crash(it.rabbitmq),
                                      it.crash(it.postgres)),
                          lambda it: (it.start(it.rabbitmq), it.start(it.postgres), revive(it))),
}


# The same for each of the other installations.
WORLDS = {
    worlds.Encrypted: {
        "rabbitmq-corrupt": ("bytes to and from RabbitMQ are changed, under TLS",
                             lambda it: it.corrupt(it.broker), lambda it: it.mend(it.broker)),
        "postgres-corrupt": ("bytes to and from Postgres are changed, under TLS",
                             lambda it: it.corrupt(it.store), lambda it: it.mend(it.store)),
        "receiver-corrupt": ("bytes to and from the receiver are changed, under TLS",
                             lambda it: it.corrupt(it.way), lambda it: it.mend(it.way)),
    },
    worlds.Apart: {
        "leader-killed": ("kill -9 of the work queue's leader, one of three RabbitMQ nodes",
                          lambda it: it.away([it.leader()]), lambda it: it.back()),
        "two-nodes-killed": ("kill -9 of two of three RabbitMQ nodes",
                             lambda it: it.away(it.cluster.nodes[1:]), lambda it: it.back()),
        "leader-cut-off": ("the leader's node is cut off from the other two (pause_minority)",
                           lambda it: it.part([it.leader()]), lambda it: it.join()),
        "nodes-apart": ("all three RabbitMQ nodes are cut off from each other (pause_minority)",
                        lambda it: it.part(it.cluster.nodes), lambda it: it.join()),
    },
    worlds.Standby: {
        "postgres-fail-over": ("kill -9 of Postgres, and its synchronous standby takes over",
                               lambda it: it.fail_over(), nothing),
    },
    worlds.Sqlite: {
        "sqlite-locked": ("another program keeps the SQLite file locked for 15 s", lambda it: it.lock(),
                          lambda it: it.unlock()),
        "sqlite-checkpoints": ("kill -9 in the middle of SQLite's checkpoints, and of all processes",
                               lambda it: it.kill_in_checkpoints(), nothing),
    },
    worlds.Clocks: {
        "clock-ahead": ("the clock of one of two workers is an hour ahead, half of the endpoints fail",
                        lambda it: it.set_off(3600), lambda it: it.set_right()),
        "clock-behind": ("the clock of one of two workers is an hour behind, half of the endpoints fail",
                         lambda it: it.set_off(-3600), lambda it: it.set_right()),
    },
}
ALL = {**FAULTS, **{name: fault for faults in WORLDS.values() for name, fault in faults.items()}}


def revive(it):
    it.apis = [drill.Process(it.here, ["api"]) for _ in it.apis]
    it.workers = [drill.Process(it.here, ["worker"]) for _ in it.workers]
    it.loads.follow()


def cutting(proxy, ending):
    while not ending.wait(0.3):
        proxy.cut()


class Loads:
    """The same load through each API."""

    def __init__(self, it, rate):
        it.number += 1
        self.it, it.loads = it, self
        self.parts = [drill.Load(drill.Api(api), it.endpoints, rate / len(it.apis), f"f{it.number}-{index}")
                      for index, api in enumerate(it.apis)]
        for part in self.parts:
            part.start()

    def follow(self):
        """Goes to the APIs as they are now: one that was killed has another port."""
        for part, api in zip(self.parts, self.it.apis):
            part.api.process = api

    def stop(self):
        return [name for part in self.parts for name in part.stop()]


def count(it, row, accepted, begun):
    """Waits until all is quiet, and counts."""
    ended = time.monotonic()
    names = set(accepted)
    file = it.here.root / "accepted"
    file.write_text("".join(f"{name}\n" for name in names))

    def quiet():
        answer = it.here.run("--json", "reconcile", "--accepted", str(file), check=False)
        try:
            found = json.loads(answer.stdout)
        except ValueError:
            return None
        open_ = found["accounting"]["deliveries"].get("pending", 0)
        return found if not open_ and not found["missing"] and found["adds_up"] else None

    try:
        found = until("all is quiet", 300, quiet)
    except TimeoutError:
        answer = it.here.run("--json", "reconcile", "--accepted", str(file), check=False)
        found = json.loads(answer.stdout)
    quiet_after = time.monotonic() - ended
    calls = [webhook for at, webhook, status in list(it.receiver.answers) if at >= begun and status == 200]
    lost = len((names - it.receiver.names) | set(found["missing"]))
    row.update(accepted=len(names), lost=lost, twice=len(calls) - len(set(calls)), quiet=quiet_after,
               silence=it.receiver.longest_gap(begun), refusal=row.pop("loads_gap"),
               books="adds up" if found["adds_up"] else "does not add up")
    say(f"{row['what']}: accepted {row['accepted']}, lost {row['lost']}, sent twice {row['twice']}, no acceptance for "
        f"{row['refusal']:.1f} s, no delivery for {row['silence']:.1f} s, quiet {row['quiet']:.1f} s after the load; "
        f"reconcile {row['books']}")
    if not found["adds_up"]:
        say(json.dumps(found))
    return row["lost"] == 0 and found["adds_up"]


def one(it, name, options):
    what, begin, end = ALL[name]
    row, begun = {"what": what}, time.monotonic()
    loads = Loads(it, options.rate)
    time.sleep(2)
    if begin is None:
        ending = threading.Event()
        proxy = it.broker if name.startswith("rabbitmq") else it.store
        cutter = threading.Thread(target=cutting, args=(proxy, ending))
        cutter.start()
        time.sleep(options.seconds)
        ending.set()
        cutter.join()
    else:
        begin(it)
        time.sleep(options.seconds)
    end(it)
    time.sleep(3)
    accepted = loads.stop()
    row["loads_gap"] = min(part.longest_gap(begun) for part in loads.parts)
    it.help()
    fine = count(it, row, accepted, begun)
    it.settle()
    for note in it.notes:
        say(f"{what}: {note}")
    it.notes.clear()
    return fine, row


def nemesis(it, options):
    """Several faults at a time, chosen by the seed, for as long as it is told."""
    choice = random.Random(options.seed)
    of = {kind: [name for name, (_, begin, _) in FAULTS.items() if begin and name.startswith(kind)]
          for kind in ("rabbitmq", "postgres", "receiver", "workers", "apis")}
    until_then, rows, fine = time.monotonic() + options.duration, [], True
    while time.monotonic() < until_then:
        # One for each server at the most: one that is dead can be neither frozen nor asked. And processes are started
        # again while the servers are there, since the drill waits until they are ready.
        kinds = choice.choice([("rabbitmq", "postgres", "receiver"), ("workers", "apis", "receiver")])
        chosen = [choice.choice(of[kind]) for kind in choice.sample(kinds, choice.randint(1, 3))]
        row, begun = {"what": " + ".join(chosen)}, time.monotonic()
        loads = Loads(it, options.rate)
        time.sleep(choice.uniform(0.5, 2))
        for name in chosen:
            FAULTS[name][1](it)
            time.sleep(choice.uniform(0, 1))
        time.sleep(choice.uniform(1, options.seconds))
        for name in reversed(chosen):
            FAULTS[name][2](it)
        time.sleep(2)
        accepted = loads.stop()
        row["loads_gap"] = min(part.longest_gap(begun) for part in loads.parts)
        fine &= count(it, row, accepted, begun)
        rows.append(row)
        if not fine:
            break
    return fine, rows


def run(world, names, options):
    """The faults of one installation."""
    fine, rows = True, []
    with drill.Drill("faults") as here:
        say(f"starting: {world.__doc__.splitlines()[0]}")
        it = world(here, options.seconds)
        for name in names:
            if name == "nemesis":
                good, more = nemesis(it, options)
            else:
                good, row = one(it, name, options)
                more = [row]
            fine, rows = fine and good, rows + more
    return fine, rows


def in_namespace(chosen):
    """The cluster's network must not be the machine's: starts again in a namespace of its own."""
    if not any(name in WORLDS[worlds.Apart] for name in chosen):
        return
    if os.geteuid() != 0:
        chosen[:] = [name for name in chosen if name not in WORLDS[worlds.Apart]]
        say("not done here: the faults of a RabbitMQ cluster, whose network namespaces only root can make")
    elif not os.environ.get("DRILL_NAMESPACE"):
        os.environ["DRILL_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "-n", sys.executable, *sys.argv])
    else:
        worlds.ip("link", "set", "lo", "up")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("faults", nargs="*", metavar="FAULT", help=f"default: all of {', '.join(ALL)}; or nemesis")
    options.add_argument("--rate", type=float, default=100, help="notifications a second")
    options.add_argument("--seconds", type=float, default=8, help="how long a fault lasts")
    options.add_argument("--for", dest="duration", type=float, default=120, help="how long nemesis goes on, seconds")
    options.add_argument("--seed", type=int, default=1, help="what nemesis chooses by")
    options = options.parse_args()
    for name in options.faults:
        if name not in ALL and name != "nemesis":
            raise SystemExit(f"there is no fault {name}: choose of {', '.join(ALL)}, nemesis")
    chosen = options.faults or list(ALL)
    in_namespace(chosen)
    fine, rows = True, []
    for world, faults in {worlds.Installation: {**FAULTS, "nemesis": None}, **WORLDS}.items():
        names = [name for name in chosen if name in faults]
        if names:
            good, more = run(world, names, options)
            fine, rows = fine and good, rows + more
    if rows:
        print(f"\n| fault | accepted | lost | sent twice | no acceptance for | no delivery for | quiet after | reconcile |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for row in rows:
            print(f"| {row['what']} | {row['accepted']:,} | {row['lost']} | {row['twice']} | {row['refusal']:.1f} s | "
                  f"{row['silence']:.1f} s | {row['quiet']:.1f} s | {row['books']} |")
    if not fine:
        sys.exit("something was lost, or the books do not add up")


if __name__ == "__main__":
    main()
