#!/usr/bin/env python3
"""Drill: what one tenant's trouble costs the others, and what a recipient costs.

    cargo build --release
    deploy/drills/neighbours.py [recipients] [names] [scripts] [--before OTHER_BINARY]

Everything runs in one `posthaste up` on SQLite. With --before, each figure is taken of both binaries in turn.

recipients  CPU for each delivery of notifications with 1,000 recipients, against notifications with one; and how long
            another tenant waits while 20,000 deliveries come from 20 notifications.
names       10 and 100 endpoints whose names nobody resolves beside one whose name resolves: how long that one waits.
            Needs root: it makes a network namespace, in which the only name server is this program.
scripts     a tenant whose scripts compute for ever, one whose scripts cannot be stopped and one whose scripts wait for
            an answer, beside a tenant with a script that is well: how long that one waits.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

import drill
from drill import say, until

# What a healthy tenant sends while others are in trouble, and how often.
PROBES, EVERY = 40, 0.25
# Longer than any probe may take before it counts as not delivered.
PATIENCE = 15


class Up:
    """A `posthaste up` of one of the binaries, with its client and a receiver."""

    def __init__(self, here, binary, **environment):
        os.environ["POSTHASTE"] = binary
        here.environment["POSTHASTE_DATA_DIR"] = tempfile.mkdtemp(dir=here.root)
        self.process = drill.Process(here, ["up"], environment)
        self.api, self.receiver = drill.Api(self.process), drill.Receiver.start()

    def send(self, count, **notification):
        """Enqueues so many of the same kind, in batches; returns the results that are no acceptance."""
        refused = []
        for start in range(0, count, 500):
            batch = [dict(notification) for _ in range(min(500, count - start))]
            answer = self.api.ok("POST", "/v1/notifications/batch", batch)
            refused += [item for item in answer["items"] if "id" not in item]
        return refused

    def probe(self, endpoint, path, **notification):
        """How long each of the probes takes from its 202 to its request, seconds; `None` for what did not come."""
        sent = []
        for number in range(PROBES):
            name = f"probe-{path.strip('/')}-{number}-{time.monotonic_ns()}"
            body = {"id": name, "type": "probe", "payload": {"n": number}, "endpoint_id": endpoint, **notification}
            self.api.ok("POST", "/v1/notifications", body)
            sent.append((name, time.monotonic()))
            time.sleep(EVERY)
        deliveries, end = {}, time.monotonic() + PATIENCE
        while len(deliveries) < PROBES and time.monotonic() < end:
            for name, at in sent:
                if name in deliveries:
                    continue
                status, answer = self.api.call("GET", f"/v1/notifications/{name}")
                done = [one for one in answer.get("deliveries", []) if one["status"] == "delivered"] if status == 200 else []
                if done:
                    deliveries[name] = done[0]
            time.sleep(0.2)
        waits = []
        for name, _ in sent:
            one = deliveries.get(name)
            waits.append(seconds_of(one["finished_at"]) - seconds_of(one["created_at"]) if one else None)
        return waits

    def stop(self):
        self.process.kill()


def seconds_of(text):
    import datetime
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def summary(waits):
    came = sorted(wait for wait in waits if wait is not None)
    if not came:
        return f"none of {len(waits)} came"
    return (f"{len(came)} of {len(waits)} came, p50 {came[len(came) // 2] * 1000:.0f} ms, "
            f"p95 {came[int(len(came) * 0.95) - 1] * 1000:.0f} ms, longest {came[-1] * 1000:.0f} ms")


def push(recipients):
    return {"type": "push", "payload": {"title": "t", "content": "c" * 200},
            "recipient": {"device_tokens": [f"token-{n:05}" for n in range(recipients)]}}


def cpu_each(up, endpoint, notifications, recipients):
    """CPU seconds for each delivery of so many notifications."""
    wanted = up.receiver.answered() + notifications * recipients
    before = up.process.cpu_seconds()
    for _ in range(max(1, notifications // 500) if recipients == 1 else notifications):
        refused = up.send(min(500, notifications) if recipients == 1 else 1, endpoint_id=endpoint, **push(recipients))
        if refused:
            raise RuntimeError(f"refused: {refused[0]}")
    until("all are delivered", 300, lambda: up.receiver.answered() >= wanted)
    # What is written after the last answer counts too.
    until("nothing is in flight", 60, lambda: up.process.metric("posthaste_deliveries_in_flight") == 0)
    time.sleep(1)
    return (up.process.cpu_seconds() - before) / (notifications * recipients)


def recipients(here, binaries):
    ratios = {name: [] for name in binaries}
    for turn in range(4):
        for name, binary in binaries.items():
            up = Up(here, binary)
            endpoint = up.api.endpoint(f"{up.receiver.url}/push", wire_format="novu-push", max_in_flight=64)
            cpu_each(up, endpoint, 1000, 1)
            single, wide = cpu_each(up, endpoint, 5000, 1), cpu_each(up, endpoint, 5, 1000)
            ratios[name].append(wide / single)
            say(f"{name}: CPU for each delivery: {single * 1e6:.0f} us single, {wide * 1e6:.0f} us of 1,000 recipients: "
                f"{wide / single:.2f} times")
            up.stop()
    for name, binary in binaries.items():
        up = Up(here, binary)
        slow = up.api.endpoint(f"{up.receiver.url}/push", wire_format="novu-push", tenant="crowd")
        well = up.api.endpoint(f"{up.receiver.url}/well", tenant="well")
        for _ in range(20):
            up.send(1, tenant="crowd", endpoint_id=slow, **push(1000))
        say(f"{name}: beside 20 notifications with 1,000 recipients: {summary(up.probe(well, '/well', tenant='well'))}")
        status, answer = up.api.call("POST", "/v1/notifications", {"endpoint_id": slow, "tenant": "crowd", **push(60_000)})
        say(f"{name}: 60,000 recipients: {status} {str(answer)[:300]}")
        say(f"{name}: then: {summary(up.probe(well, '/well', tenant='well'))}; {up.process.memory_mb():.0f} MB")
        up.stop()
    for name, all_ratios in ratios.items():
        say(f"{name}: ratios {', '.join(f'{ratio:.2f}' for ratio in all_ratios)}")


class NameServer(threading.Thread):
    """Answers on 127.0.0.1:53 that every name is on this machine; while it is `quiet`, for `well.test` alone."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        self.asked, self.quiet = 0, False

    def run(self):
        while True:
            question, whence = self.socket.recvfrom(2048)
            self.asked += 1
            if self.quiet and b"\x04well\x04test" not in question:
                continue
            end = question.index(b"\0", 12) + 5
            kind = question[end - 3]
            answers = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x7f\0\0\x01" if kind == 1 else b""
            head = question[:2] + b"\x85\x80\0\x01" + (b"\0\x01" if answers else b"\0\0") + b"\0\0\0\0"
            self.socket.sendto(head + question[12:end] + answers, whence)


def names(here, binaries):
    if not os.environ.get("DRILL_NAMES_INSIDE"):
        command = ["unshare", "--net", "--mount", sys.executable, __file__, "names"]
        for binary in list(binaries.values())[1:]:
            command += ["--before", binary]
        new = next(iter(binaries.values()))
        subprocess.run(command, check=True, env={**os.environ, "POSTHASTE": new, "DRILL_NAMES_INSIDE": "1"})
        return
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    resolving = here.root / "resolv.conf"
    resolving.write_text("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", resolving, "/etc/resolv.conf"], check=True)
    server = NameServer()
    server.start()
    for count in (10, 100):
        for turn in range(2):
            for name, binary in binaries.items():
                up = Up(here, binary)
                # So that the endpoint's name is looked up for each request.
                up.receiver.closing = True
                well = up.api.endpoint(f"http://well.test:{up.receiver.port}/well", tenant="well")
                server.quiet = False
                sick = [up.api.endpoint(f"http://silent-{n}.test/x", tenant="sick") for n in range(count)]
                server.quiet, ending = True, threading.Event()

                def trouble():
                    while not ending.is_set() and sick:
                        batch = [{"type": "x", "tenant": "sick", "payload": n, "endpoint_id": endpoint}
                                 for endpoint in sick for n in range(4)]
                        up.api.call("POST", "/v1/notifications/batch", batch[:1000])
                        ending.wait(1)

                thread = threading.Thread(target=trouble, daemon=True)
                thread.start()
                time.sleep(6 if sick else 0)
                asked = server.asked
                waits = up.probe(well, "/well", tenant="well")
                ending.set()
                thread.join(30)
                say(f"{name}: beside {count} endpoints with silent name servers: {summary(waits)}; "
                    f"{server.asked - asked} questions")
                up.stop()


SCRIPTS = {
    "compute for ever": "while (true) {}",
    "cannot be stopped": "const a = []; a.length = 4294967295; a[5] = 1; a.reverse();",
    "wait for an answer": "await fetch(\"{hangs}\");",
}


def scripts(here, binaries):
    hangs = socket.create_server(("127.0.0.1", 0), backlog=4096)
    url = f"http://127.0.0.1:{hangs.getsockname()[1]}/"
    for what, body in SCRIPTS.items():
        for turn in range(2):
            for name, binary in binaries.items():
                up = Up(here, binary)
                script = "export default async () => { %s return { code: \"ok\" }; };"
                well_body = f"await fetch(\"{up.receiver.url}/well\");"
                make = lambda tenant, body: up.api.endpoint(
                    f"{up.receiver.url}/unused", tenant=tenant, wire_format="authgear-script",
                    settings={"script": script % body})
                well = make("well", well_body)
                sick = [make("sick", body.replace("{hangs}", url) + f" /* {n} */") for n in range(8)]
                message = {"type": "x", "payload": {"to": "+44123456789", "body": "b"}}
                for endpoint in sick:
                    up.send(40, tenant="sick", endpoint_id=endpoint, **message)
                time.sleep(2)
                waits = up.probe(well, "/well", tenant="well", payload=message["payload"])
                failed = up.api.deliveries("&status=failed")
                reasons = {}
                for one in failed:
                    reasons[one["reason"]] = reasons.get(one["reason"], 0) + 1
                say(f"{name}: beside scripts that {what}: {summary(waits)}; failed so far: {reasons}")
                up.stop()


PARTS = {"recipients": recipients, "names": names, "scripts": scripts}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    options.add_argument("--before", help="another binary to compare with")
    options = options.parse_args()
    binaries = {"now": drill.program()}
    if options.before:
        binaries["before"] = os.path.abspath(options.before)
    for part in options.parts or PARTS:
        with drill.Drill("neighbours") as here:
            say(f"== {part}")
            PARTS[part](here, binaries)


if __name__ == "__main__":
    main()
