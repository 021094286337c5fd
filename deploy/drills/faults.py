#!/usr/bin/env python3
"""Drill: everything that Posthaste stands on fails, one thing after the other, under a steady load.

    cargo build --release
    deploy/drills/faults.py [FAULT ...] [--rate 100] [--seconds 8]
    deploy/drills/faults.py nemesis --for 3600 --seed 7     # at random, several at a time

Two APIs, three workers, a private RabbitMQ and a private Postgres, both behind proxies that cut, freeze and slow
connections, and a receiver that records every request. Each fault lasts for some seconds while notifications are enqueued
through both APIs; then the load ends, and the drill waits until all is quiet and counts: what the APIs accepted against
what the receiver got and what is in the store. It fails when anything accepted was lost."""

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import time

import drill
from drill import say, until


class Proxy:
    """Between Posthaste and a server. `state`: pass, hold (nothing moves, nothing is closed), crawl, refuse."""

    def __init__(self, port):
        self.target, self.state, self.links, ready = port, "pass", set(), threading.Event()

        async def serve():
            self.loop = asyncio.get_running_loop()
            server = await asyncio.start_server(self.link, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
        ready.wait(10)

    async def link(self, reader, writer):
        if self.state == "refuse":
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, there_writer)
        self.links.add(ends)
        ways = [self.pump(reader, there_writer), self.pump(there_reader, writer)]
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        self.links.discard(ends)
        for end in ends:
            end.transport.abort()

    async def pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                while self.state == "hold":
                    await asyncio.sleep(0.02)
                if self.state == "crawl":
                    # 20,000 bytes a second.
                    for at in range(0, len(data), 400):
                        writer.write(data[at:at + 400])
                        await writer.drain()
                        await asyncio.sleep(0.02)
                    continue
                writer.write(data)
                await writer.drain()
        except OSError:
            pass

    def cut(self):
        """Aborts every connection, in the middle of whatever goes on."""
        self.loop.call_soon_threadsafe(lambda: [end.transport.abort() for link in list(self.links) for end in link])

    def be(self, state):
        self.state = state


class Installation:
    """All that is drilled."""

    def __init__(self, here, seconds):
        self.here, self.seconds = here, seconds
        self.rabbitmq, self.postgres = here.server("rabbitmq"), here.server("postgres")
        self.broker, self.store = Proxy(self.rabbitmq.port), Proxy(self.postgres.port)
        here.environment.update(
            POSTHASTE_BROKER_URL=f"amqp://guest:guest@127.0.0.1:{self.broker.port}",
            POSTHASTE_DATABASE_URL=f"postgres://postgres@127.0.0.1:{self.store.port}/postgres",
        )
        here.run("migrate")
        self.apis = [drill.Process(here, ["api"]) for _ in range(2)]
        self.workers = [drill.Process(here, ["worker"]) for _ in range(3)]
        self.receiver = drill.Receiver.start()
        client = drill.Api(self.apis[0])
        self.endpoints = [client.endpoint(f"{self.receiver.url}/{n}", retry={"max_retries": 50, "max_delay_ms": 2000})
                          for n in range(10)]
        self.number = 0

    def sql(self, text):
        def done():
            command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.postgres.url, "-c", text]
            return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

        until(f"Postgres takes {text}", 60, done)

    def restart_worker(self, index, sign):
        self.workers[index].child.send_signal(sign)
        self.workers[index].child.wait(120)
        self.workers[index] = drill.Process(self.here, ["worker"])

    def restart_api(self, index, sign):
        self.apis[index].child.send_signal(sign)
        self.apis[index].child.wait(120)
        self.apis[index] = drill.Process(self.here, ["api"])
        self.loads.follow()

    def crash(self, server):
        """`kill -9`, and started again on what is on the disk."""
        subprocess.run([drill.SERVICES, server.kind, "kill", server.dir], check=True)

    def start(self, server):
        server.start()
        proxy = self.broker if server is self.rabbitmq else self.store
        proxy.target = server.port

    def signal(self, server, sign):
        subprocess.run([drill.SERVICES, server.kind, "signal", server.dir, sign], check=True)

    def ctl(self, *arguments):
        subprocess.run([drill.SERVICES, "rabbitmq", "ctl", self.rabbitmq.dir, *arguments], check=True,
                       stdout=subprocess.DEVNULL)

    def setting(self, name, value):
        self.sql(f"ALTER SYSTEM SET {name} = {value}" if value else f"ALTER SYSTEM RESET {name}")
        self.sql("SELECT pg_reload_conf()")


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
    "receiver-down": ("the receiver answers 503", down, up),
    "receiver-hangs": ("the receiver answers after 30 s", hang, answer),
    "stopped-stuck": ("SIGTERM of each worker while the receiver hangs",
                      lambda it: (hang(it), replace("worker", signal.SIGTERM)(it)), answer),
    "everything-killed": ("kill -9 of all of it at once",
                          lambda it: ([one.kill() for one in it.workers + it.apis], it.crash(it.rabbitmq),
                                      it.crash(it.postgres)),
                          lambda it: (it.start(it.rabbitmq), it.start(it.postgres), revive(it))),
}


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
    what, begin, end = FAULTS[name]
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
    return count(it, row, accepted, begun), row


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


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("faults", nargs="*", metavar="FAULT", help=f"default: all of {', '.join(FAULTS)}; or nemesis")
    options.add_argument("--rate", type=float, default=100, help="notifications a second")
    options.add_argument("--seconds", type=float, default=8, help="how long a fault lasts")
    options.add_argument("--for", dest="duration", type=float, default=120, help="how long nemesis goes on, seconds")
    options.add_argument("--seed", type=int, default=1, help="what nemesis chooses by")
    options = options.parse_args()
    for name in options.faults:
        if name not in FAULTS and name != "nemesis":
            raise SystemExit(f"there is no fault {name}: choose of {', '.join(FAULTS)}, nemesis")
    fine, rows = True, []
    with drill.Drill("faults") as here:
        say("starting RabbitMQ, Postgres, two APIs and three workers")
        it = Installation(here, options.seconds)
        for name in options.faults or list(FAULTS):
            if name == "nemesis":
                good, more = nemesis(it, options)
                rows += more
            else:
                good, row = one(it, name, options)
                rows.append(row)
            fine &= good
        print(f"\n| fault | accepted | lost | sent twice | no acceptance for | no delivery for | quiet after | reconcile |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for row in rows:
            print(f"| {row['what']} | {row['accepted']:,} | {row['lost']} | {row['twice']} | {row['refusal']:.1f} s | "
                  f"{row['silence']:.1f} s | {row['quiet']:.1f} s | {row['books']} |")
        if not fine:
            sys.exit("something was lost, or the books do not add up")


if __name__ == "__main__":
    main()
