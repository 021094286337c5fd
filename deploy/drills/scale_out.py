#!/usr/bin/env python3
"""Drill: how deliveries a second grow with workers, and what one that is killed takes with it.

    cargo build --release
    deploy/drills/scale_out.py [--seconds 60] [--slots 40] [--delay-ms 200]

Private RabbitMQ and Postgres, one API, a receiver that takes its time, and always a backlog. One worker, then two, then
three, each step for so many seconds; then one is killed with SIGKILL. Slots are the limit: a worker can make at most
slots / delay deliveries a second. Exit code 1 when anything is lost, or three workers make less than 2.7 times one's.
"""

import argparse
import sys
import threading
import time

import drill
from drill import say, until

# Many: one endpoint alone gets at most three eighths of a worker's slots.
ENDPOINTS = 200


class Backlog(threading.Thread):
    """Keeps some thousand notifications waiting."""

    def __init__(self, api, endpoints, receiver, level):
        super().__init__(daemon=True)
        self.api, self.endpoints, self.receiver, self.level = api, endpoints, receiver, level
        self.accepted, self.ending = [], threading.Event()

    def run(self):
        while not self.ending.is_set():
            if len(self.accepted) - self.receiver.answered() > self.level:
                time.sleep(0.05)
                continue
            batch = [{"type": "drill", "payload": {"text": "x" * 1000}, "endpoint_id": endpoint}
                     for endpoint in self.endpoints]
            answer = self.api.ok("POST", "/v1/notifications/batch", batch)
            self.accepted += [item["id"] for item in answer["items"]]


def step(name, seconds, receiver, workers):
    """Lets the workers work and says what the receiver and their metrics saw."""
    until("the receiver has nearly a request for each slot", 60,
          lambda: receiver.under_way >= 0.9 * sum(worker.metric("posthaste_worker_slots") for worker in workers))
    counted = [worker.metric("posthaste_deliveries_total") for worker in workers]
    cpu = [worker.cpu_seconds() for worker in workers]
    receiver.peak, first, begun = 0, receiver.answered(), time.monotonic()
    in_flight = []
    while time.monotonic() - begun < seconds:
        in_flight.append(sum(worker.metric("posthaste_deliveries_in_flight") for worker in workers))
        time.sleep(min(1, seconds / 10))
    answers, took = receiver.answered() - first, time.monotonic() - begun
    counted = [worker.metric("posthaste_deliveries_total") - before for worker, before in zip(workers, counted)]
    cpu = sum(worker.cpu_seconds() - before for worker, before in zip(workers, cpu))
    return {"workers": name, "rate": answers / took, "peak": receiver.peak,
            "in flight": sum(in_flight) / len(in_flight), "counted": [round(count / took, 1) for count in counted],
            "cpu": cpu / max(1, answers) * 1e6, "memory": max(worker.memory_mb() for worker in workers)}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--slots", type=int, default=40)
    options.add_argument("--delay-ms", type=int, default=200)
    options = options.parse_args()
    with drill.Drill("scale-out") as here:
        rabbitmq, postgres = here.server("rabbitmq"), here.server("postgres")
        here.environment.update(POSTHASTE_BROKER_URL=rabbitmq.url, POSTHASTE_DATABASE_URL=postgres.url)
        here.run("migrate")
        api_process = drill.Process(here, ["api"])
        api, receiver = drill.Api(api_process), drill.Receiver.start(options.delay_ms / 1000)
        endpoints = [api.endpoint(f"{receiver.url}/{n}", timeout_ms=30000) for n in range(ENDPOINTS)]
        backlog = Backlog(api, endpoints, receiver, 20 * options.slots)
        backlog.start()
        workers, steps = [], []
        for count in (1, 2, 3):
            workers.append(drill.Process(here, ["worker", "--slots", str(options.slots)]))
            steps.append(step(str(count), options.seconds, receiver, workers))
            say(str(steps[-1]))
        killed = workers.pop()
        say(f"SIGKILL for a worker with {killed.metric('posthaste_deliveries_in_flight'):.0f} requests under way")
        killed.kill()
        at = time.monotonic()
        steps.append(step("2, one killed", options.seconds, receiver, workers))
        say(str(steps[-1]))
        say(f"longest time without an answer after the kill: {receiver.longest_gap(at):.2f} s")
        backlog.ending.set()
        backlog.join(60)
        print(f"\n{'workers':<14} {'deliveries/s':>12} {'to one':>7} {'at once':>8} {'in flight':>10} "
              f"{'CPU us each':>12} {'MB':>5}  by each worker's metrics, /s")
        for one in steps:
            print(f"{one['workers']:<14} {one['rate']:>12.1f} {one['rate'] / steps[0]['rate']:>7.2f} {one['peak']:>8} "
                  f"{one['in flight']:>10.1f} {one['cpu']:>12.0f} {one['memory']:>5.0f}  {one['counted']}")
        print(f"limit of one worker: {options.slots * 1000 / options.delay_ms:.0f}/s\n", flush=True)
        figures = drill.account(here, receiver, backlog.accepted)
        if figures["sent twice"] > 2 * options.slots:
            sys.exit("more was sent twice than the killed worker can have had in hand")
        if steps[2]["rate"] < 2.7 * steps[0]["rate"]:
            sys.exit("three workers made less than 2.7 times the deliveries of one")


if __name__ == "__main__":
    main()
