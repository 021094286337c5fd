#!/usr/bin/env python3
"""Drill: an installation works for hours at a share of its capacity, while everything around it changes.

    cargo build --release
    deploy/drills/soak.py --for 14400 [--share 0.6] [--json soak.json]

A private RabbitMQ and a private Postgres, two APIs, three workers and a receiver in a process of its own. First it
measures for some seconds how much all of it can do on this machine, load and receiver included; then it enqueues a fixed
share of that, whether or not it keeps up. Meanwhile endpoints are created and deleted, API keys created and revoked,
secrets rotated, and one API and two workers are replaced again and again, by SIGTERM and by SIGKILL; the others stay, so
that what grows in a process is seen. Every ten seconds it looks at the memory, open files, threads and connections of each
process, at the sizes of tables and at the queues. At the end: a table by period, a verdict for each series (by how
much a straight line through its samples grows after the first third), and the books. Exit code 1 when
something was lost or grows."""

import argparse
import json
import multiprocessing
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

import drill
from drill import say, until

STABLE = 20
# By how much it may grow in the time looked at: a share of the median, or so much, whichever is more.
BOUNDS = {
    # Its log in memory grows and is written out, by hundreds of MB, once in some minutes.
    "RabbitMQ: memory, MB": (0.5, 300),
    "memory, MB": (0.10, 8), "open files": (0.10, 10), "threads": (0.10, 2), "connections": (0.10, 10),
    "messages on the queue": (0, 200), "pending deliveries": (0, 200), "outbox": (0, 50),
    "bytes of the store for each delivery": (0.10, 100), "bytes of tables that do not grow with deliveries": (0.5, 4e6),
}
# Rows of these stay for the retention, an hour at least.
BY_DELIVERIES = re.compile(r"^(notifications|deliveries|attempts.*)$")


def receive(port, counts, numbers):
    """The receiver's process: counts what comes, by the number in the payload."""
    import asyncio

    head, number = re.compile(rb"(?i)\r\ncontent-length: *(\d+)"), re.compile(rb'"n": *(\d+)')

    class Protocol(asyncio.Protocol):
        data = b""

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.data += data
            while (end := self.data.find(b"\r\n\r\n")) >= 0:
                length = head.search(self.data, 0, end)
                total = end + 4 + (int(length.group(1)) if length else 0)
                if len(self.data) < total:
                    return
                found = number.search(self.data, end, total)
                if found:
                    at = int(found.group(1))
                    counts[at] = min(255, counts[at] + 1)
                now = time.monotonic()
                numbers[1] = max(numbers[1], now - numbers[2])
                numbers[2] = now
                numbers[0] += 1
                self.data = self.data[total:]
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def serve():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Protocol, "127.0.0.1", 0, backlog=1024)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve())


class Receiver:
    def __init__(self, most):
        self.counts = multiprocessing.RawArray("B", most)
        # Requests; the longest time between two; when the last came.
        self.numbers = multiprocessing.RawArray("d", [0.0, 0.0, time.monotonic()])
        port = multiprocessing.Value("i", 0)
        arguments = (port, self.counts, self.numbers)
        self.process = multiprocessing.Process(target=receive, args=arguments, daemon=True)
        self.process.start()
        until("the receiver listens", 10, lambda: port.value)
        self.url = f"http://127.0.0.1:{port.value}"

    def requests(self):
        return int(self.numbers[0])

    def longest_gap(self):
        """Since it was asked before."""
        gap = max(self.numbers[1], time.monotonic() - self.numbers[2])
        self.numbers[1] = 0
        return gap


class Load(threading.Thread):
    """Enqueues at a rate, in turn through the APIs; `None`: as fast as one after the other goes."""

    def __init__(self, it, rate):
        super().__init__(daemon=True)
        self.it, self.rate, self.ending = it, rate, threading.Event()
        self.turn = self.refused = 0

    def run(self):
        begun, sent = time.monotonic(), 0
        while not self.ending.is_set():
            due = 500 if self.rate is None else int((time.monotonic() - begun) * self.rate) - sent
            if due < (self.rate or 0) * 0.02:
                time.sleep(0.005)
                continue
            due = min(due, 500)
            sent += due
            self.enqueue(self.it.numbers(due), self.it.stable)

    def enqueue(self, numbers, endpoints):
        batch = [{"id": f"s-{n}", "type": "soak", "payload": {"n": n, "text": "x" * 400},
                  "endpoint_id": endpoints[n % len(endpoints)]} for n in numbers]
        while batch:
            api = self.it.apis[self.turn % len(self.it.apis)]
            self.turn += 1
            status, answer = drill.Api(api).call("POST", "/v1/notifications/batch", batch)
            again = batch
            if status == 202:
                again = [item for item, result in zip(batch, answer["items"]) if "id" not in result]
            self.it.accepted += len(batch) - len(again)
            self.refused += len(again)
            batch = again
            if batch and status != 202:
                time.sleep(0.05)

    def stop(self):
        self.ending.set()
        self.join(120)


class Installation:
    def __init__(self, here, most):
        self.here, self.most = here, most
        self.rabbitmq, self.postgres = here.server("rabbitmq"), here.server("postgres")
        here.environment.update(POSTHASTE_BROKER_URL=self.rabbitmq.url, POSTHASTE_DATABASE_URL=self.postgres.url,
                                POSTHASTE_RETENTION="1h", POSTHASTE_IDEMPOTENCY_RETENTION="1m")
        here.run("migrate")
        self.receiver = Receiver(most)
        self.apis = [drill.Process(here, ["api"]) for _ in range(2)]
        self.workers = [drill.Process(here, ["worker"]) for _ in range(3)]
        client = drill.Api(self.apis[0])
        self.stable = [self.endpoint(client, f"stable-{n}") for n in range(STABLE)]
        self.next, self.accepted, self.lock = 0, 0, threading.Lock()
        self.churned = dict.fromkeys(("endpoints", "keys", "secrets", "SIGTERM", "SIGKILL", "api"), 0)

    def endpoint(self, client, name):
        body = {"url": f"{self.receiver.url}/{name}", "wire_format": "standard"}
        return client.ok("POST", "/v1/endpoints", body)["id"]

    def numbers(self, count):
        with self.lock:
            first, self.next = self.next, self.next + count
        if self.next > self.most:
            raise RuntimeError("more notifications than there is room to count")
        return range(first, first + count)

    def unseen(self):
        return [n for n in range(self.next) if not self.receiver.counts[n]]


class Churn(threading.Thread):
    """Something changes every `every` seconds."""

    def __init__(self, it, load, every):
        super().__init__(daemon=True)
        self.it, self.load, self.every, self.ending = it, load, every, threading.Event()
        self.trouble = None

    def run(self):
        step = 0
        try:
            while not self.ending.wait(self.every):
                acts = (self.endpoints, self.keys, self.secrets, self.worker, self.endpoints, self.api)
                acts[step % len(acts)]()
                step += 1
        except Exception as error:  # pylint: disable=broad-except
            self.trouble = error

    def client(self):
        return drill.Api(self.it.apis[0])

    def endpoints(self):
        """Created, used, and deleted when all that was sent to it has arrived."""
        client, counts = self.client(), self.it.receiver.counts
        endpoint = self.it.endpoint(client, f"churn-{self.it.churned['endpoints']}")
        numbers = self.it.numbers(20)
        self.load.enqueue(numbers, [endpoint])
        until("what was sent to a new endpoint arrives", 120, lambda: all(counts[n] for n in numbers))
        client.ok("DELETE", f"/v1/endpoints/{endpoint}")
        self.it.churned["endpoints"] += 1

    def keys(self):
        client = self.client()
        key = client.ok("POST", "/v1/keys", {"name": "soak", "scopes": ["read"]})
        headers = {"Authorization": f"Bearer {key['key']}"}
        url = f"{self.it.apis[0].url}/v1/deliveries?limit=1"
        drill.get(url, headers)
        client.ok("DELETE", f"/v1/keys/{key['id']}")

        def refused():
            try:
                drill.get(url, headers)
            except OSError:
                return True
            return False

        until("a revoked key is refused", 60, refused)
        self.it.churned["keys"] += 1

    def secrets(self):
        endpoint = self.it.stable[self.it.churned["secrets"] % STABLE]
        self.client().ok("POST", f"/v1/endpoints/{endpoint}/rotate-secret", {"overlap_seconds": 60})
        self.it.churned["secrets"] += 1

    def worker(self):
        """One of those that do not stay."""
        kills = self.it.churned["SIGTERM"] > self.it.churned["SIGKILL"]
        index = 1 + (self.it.churned["SIGTERM"] + self.it.churned["SIGKILL"]) % 2
        old = self.it.workers[index]
        old.child.send_signal(signal.SIGKILL if kills else signal.SIGTERM)
        old.child.wait(120)
        self.it.workers[index] = drill.Process(self.it.here, ["worker"])
        self.it.churned["SIGKILL" if kills else "SIGTERM"] += 1

    def api(self):
        old = self.it.apis[1]
        self.it.apis[1] = self.it.apis[0]
        old.child.send_signal(signal.SIGTERM)
        old.child.wait(120)
        self.it.apis[1] = drill.Process(self.it.here, ["api"])
        self.it.churned["api"] += 1

    def stop(self):
        self.ending.set()
        self.join(300)
        if self.trouble:
            raise self.trouble


def family(pid):
    """A process and all below it."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        for task in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            try:
                left += [int(child) for child in task.read_text().split()]
            except OSError:
                pass
    return found


def look_at(pids):
    """Memory (what is shared is counted in parts), open files, threads and sockets of processes together."""
    memory = files = threads = sockets = 0
    for pid in pids:
        try:
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            memory += int(re.search(r"Pss:\s+(\d+)", rollup).group(1)) / 1024
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            threads += int(re.search(r"Threads:\s+(\d+)", status).group(1))
            links = list(pathlib.Path(f"/proc/{pid}/fd").iterdir())
            files += len(links)
            sockets += sum(1 for link in links if os.readlink(link).startswith("socket:"))
        except (OSError, AttributeError):
            # It ended this moment.
            pass
    return {"memory, MB": memory, "open files": files, "threads": threads, "connections": sockets}


def sizes(postgres):
    done = subprocess.run(
        ["psql", "-XqAt", postgres.url, "-c", "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' "
         "AND relnamespace = 'public'::regnamespace"], stdout=subprocess.PIPE, text=True, check=True)
    return {name: int(size) for name, size in (line.split("|") for line in done.stdout.splitlines())}


def sample(it, begun):
    postgres = int((it.postgres.dir / "data" / "postmaster.pid").read_text().split()[0])
    rabbitmq = int((it.rabbitmq.dir / "pid").read_text())
    who = {"worker": [it.workers[0].child.pid], "API": [it.apis[0].child.pid], "Postgres": family(postgres),
           "RabbitMQ": family(rabbitmq)}
    row = {"at": time.monotonic() - begun, "requests": it.receiver.requests(), "gap": it.receiver.longest_gap(),
           "accepted": it.accepted}
    for name, pids in who.items():
        row.update({f"{name}: {what}": value for what, value in look_at(pids).items()})
    tables = sizes(it.postgres)
    metrics = drill.get(f"{it.workers[0].url}/metrics")
    worker = it.workers[0]
    row["tables"] = tables
    row["messages on the queue"] = worker.metric("posthaste_queue_messages", metrics)
    row["pending deliveries"] = worker.metric("posthaste_deliveries_pending", metrics)
    row["outbox"] = worker.metric("posthaste_outbox_pending", metrics)
    by_deliveries = sum(size for name, size in tables.items() if BY_DELIVERIES.match(name))
    row["bytes of the store for each delivery"] = by_deliveries / max(1, row["requests"])
    row["bytes of tables that do not grow with deliveries"] = sum(tables.values()) - by_deliveries
    return row


def growth(rows, name):
    """(median, how much the line through the samples grows from the first to the last). The line's slope is the median of
    those between any two samples, so that one burst does not tilt it."""
    points = [(row["at"], row[name]) for row in rows]
    slopes = [(y - before) / (x - at) for n, (at, before) in enumerate(points) for x, y in points[n + 1:]]
    slope = statistics.median(slopes) if slopes else 0
    return statistics.median(y for _, y in points), slope * (points[-1][0] - points[0][0])


def verdicts(rows):
    """(series, median, growth, what it may grow, flat) of all series, after the first third."""
    settled = rows[len(rows) // 3:]
    found = []
    for name in rows[0]:
        share, least = BOUNDS.get(name) or BOUNDS.get(name.split(": ")[-1]) or (None, None)
        if share is not None:
            median, grown = growth(settled, name)
            may = max(share * median, least)
            found.append((name, median, grown, may, grown <= may))
    return found


def capacity(it, seconds):
    """Deliveries a second while two loads enqueue as fast as they can."""
    loads = [Load(it, None) for _ in range(2)]
    for load in loads:
        load.start()
    time.sleep(seconds / 3)
    first, at = it.receiver.requests(), time.monotonic()
    time.sleep(seconds)
    rate = (it.receiver.requests() - first) / (time.monotonic() - at)
    for load in loads:
        load.stop()
    until("the backlog is delivered", 600, lambda: not it.unseen())
    return rate


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--for", dest="duration", type=float, default=4 * 3600, help="seconds")
    options.add_argument("--share", type=float, default=0.6, help="of the capacity")
    options.add_argument("--rate", type=float, help="notifications a second, without measuring the capacity")
    options.add_argument("--churn", type=float, default=5, help="seconds between two changes")
    options.add_argument("--periods", type=int, default=6, help="rows of the table")
    options.add_argument("--json", type=pathlib.Path, help="a file for all samples and verdicts")
    options = options.parse_args()
    with drill.Drill("soak") as here:
        it = Installation(here, int(10_000 * options.duration) + 2_000_000)
        here.ends.append(it.receiver.process.kill)
        measured = None if options.rate else capacity(it, 15)
        rate = options.rate or measured * options.share
        say(f"capacity {measured or 0:.0f}/s; {rate:.0f}/s for {options.duration:.0f} s")
        load = Load(it, rate)
        churn = Churn(it, load, options.churn)
        begun, rows = time.monotonic(), []
        load.start()
        churn.start()
        it.receiver.longest_gap()
        while time.monotonic() < begun + options.duration:
            time.sleep(max(0.0, begun + 10 * (len(rows) + 1) - time.monotonic()))
            rows.append(sample(it, begun))
        churn.stop()
        load.stop()
        ended = time.monotonic()
        try:
            until("everything has arrived", 300, lambda: not it.unseen())
        except TimeoutError as error:
            say(str(error))
        lost = len(it.unseen())
        twice = sum(count - 1 for count in it.receiver.counts[:it.next] if count > 1)
        until("the books are in order", 120, lambda: drill.books(here)["adds_up"])
        report(options, it, load, {"capacity": measured, "rate": rate, "samples": rows, "lost": lost, "twice": twice,
                                   "quiet": time.monotonic() - ended})


def report(options, it, load, found):
    rows, columns = found["samples"], ("worker: memory, MB", "API: memory, MB", "RabbitMQ: memory, MB",
                                       "Postgres: memory, MB", "worker: open files", "worker: connections")
    short = [name.replace("memory, MB", "MB") for name in columns]
    print(f"\n| minutes | delivered/s | longest silence, s | {' | '.join(short)} | queue, most | store, MB |")
    print("| --- " * (len(columns) + 5) + "|")
    for number in range(options.periods):
        part = rows[number * len(rows) // options.periods:(number + 1) * len(rows) // options.periods]
        if len(part) > 1:
            rate = (part[-1]["requests"] - part[0]["requests"]) / (part[-1]["at"] - part[0]["at"])
            means = " | ".join(f"{sum(row[name] for row in part) / len(part):.0f}" for name in columns)
            print(f"| {part[0]['at'] / 60:.0f} to {part[-1]['at'] / 60:.0f} | {rate:.0f} | "
                  f"{max(row['gap'] for row in part):.1f} | {means} | "
                  f"{max(row['messages on the queue'] for row in part):.0f} | "
                  f"{sum(part[-1]['tables'].values()) / 1e6:.0f} |")
    print("\n| series | median | grows by | may grow by | |\n| --- | --- | --- | --- | --- |")
    judged = verdicts(rows)
    for name, median, grown, may, flat in judged:
        print(f"| {name} | {median:,.1f} | {grown:+,.1f} | {may:,.1f} | {'flat' if flat else 'GROWS'} |")
    found.update(verdicts=[dict(zip(("series", "median", "grown", "may", "flat"), one)) for one in judged],
                 churned=it.churned, accepted=it.accepted, refused=load.refused)
    print()
    say(f"accepted {it.accepted:,}, lost {found['lost']}, sent twice {found['twice']}, enqueued again {load.refused}; "
        f"quiet {found['quiet']:.1f} s after the load; changed meanwhile: "
        + ", ".join(f"{count} {what}" for what, count in it.churned.items()))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if found["lost"] or not all(flat for *_, flat in judged):
        sys.exit("something was lost, or grows")


if __name__ == "__main__":
    main()
