#!/usr/bin/env python3
"""Drill: a RabbitMQ cluster of three nodes loses one node after the other, under a steady load.

    cargo build --release
    deploy/drills/cluster.py [killed] [two] [stopped] [--rate 100] [--seconds 15]

Three nodes on this machine (their own ports, cookie and name server), a private Postgres, one API and two workers that
are given the URLs of all three. Each node is killed with SIGKILL and started again, the leader of the work queue first;
then two are killed, so that there is no majority; then each is stopped in good order. Says for how long nothing was
accepted and nothing delivered. Exit code 1 when anything is lost.
"""

import argparse
import json
import os
import pathlib
import random
import secrets
import socket
import subprocess
import time

import drill
from drill import say, until


PARTS = ("killed", "two", "stopped")


def free_ports(count):
    """Adjoining ports below those that outgoing connections take."""
    while True:
        first = random.randrange(20000, 31000)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue


def programs():
    """Where RabbitMQ's programs are; Debian's in /usr/sbin drop their environment."""
    for place in ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", os.environ.get("RABBITMQ_HOME", "/nonexistent") + "/sbin"):
        if (pathlib.Path(place) / "rabbitmq-server").exists():
            return pathlib.Path(place)
    raise SystemExit("RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)")


class Node:
    """`host`: another name than that of this machine, in the namespaces that `inside` enters."""

    def __init__(self, here, number, first_port, host="localhost", inside=()):
        self.name, self.port = f"n{number}@{host}", first_port + 1 + 2 * number
        self.inside, self.address = list(inside), "127.0.0.1"
        self.dir = here.root / f"n{number}"
        self.dir.mkdir()
        (self.dir / "rabbitmq.conf").write_text("disk_free_limit.absolute = 10MB\nlog.console = false\n")
        (self.dir / "enabled_plugins").write_text("[].")
        (self.dir / "env.conf").touch()
        self.environment = {
            **os.environ, "HOME": str(here.root), "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_MNESIA_BASE": str(self.dir / "data"), "RABBITMQ_LOG_BASE": str(self.dir / "log"),
            "RABBITMQ_PID_FILE": str(self.dir / "pid"), "RABBITMQ_CONFIG_FILE": str(self.dir / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.dir / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self.dir / "env.conf"), "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port), "RABBITMQ_DIST_PORT": str(self.port + 1),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none", "ERL_EPMD_PORT": str(first_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_CRASH_DUMP": str(self.dir / "erl_crash.dump"),
        }

    @property
    def url(self):
        return f"amqp://guest:guest@{self.address}:{self.port}"

    def start(self):
        (self.dir / "pid").unlink(missing_ok=True)
        with open(self.dir / "out", "ab") as out:
            self.process = subprocess.Popen([*self.inside, programs() / "rabbitmq-server"], env=self.environment,
                                            stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
        until(f"{self.name} runs ({self.dir})", 300, self.answers)

    def answers(self):
        try:
            socket.create_connection((self.address, self.port), 1).close()
        except OSError:
            return False
        return self.ctl("await_startup", "--timeout", "5", check=False).returncode == 0

    def ctl(self, *arguments, check=True):
        done = subprocess.run(["timeout", "60", *self.inside, programs() / "rabbitmqctl", "-q", *arguments],
                              env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def pid(self):
        return int((self.dir / "pid").read_text())

    def stop(self):
        """In good order, as a service manager does."""
        self.signal(15)
        self.process.wait(120)

    def kill(self):
        self.signal(9)
        self.process.wait(30)

    def signal(self, number):
        try:
            os.kill(self.pid(), number)
        except (OSError, ValueError):
            pass


class Cluster:
    """Three nodes. `nodes`: makes another kind of them, given the first of seven free ports."""

    def __init__(self, here, nodes=None):
        cookie = here.root / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        first = free_ports(7)
        self.nodes = nodes(first) if nodes else [Node(here, number, first) for number in range(3)]
        here.ends.append(self.end)
        self.nodes[0].start()
        for node in self.nodes[1:]:
            node.start()
            node.ctl("stop_app")
            node.ctl("join_cluster", self.nodes[0].name)
            node.ctl("start_app")

    def end(self):
        for node in self.nodes:
            if hasattr(node, "process") and node.process.poll() is None:
                node.kill()
        subprocess.run(["epmd", "-port", self.nodes[0].environment["ERL_EPMD_PORT"], "-kill"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def queues(self, node):
        """name → (leader, members, online), as one node sees it."""
        done = node.ctl("list_queues", "name", "leader", "members", "online", "--formatter", "json", check=False)
        if done.returncode != 0:
            return {}
        return {queue["name"]: queue for queue in json.loads(done.stdout)}

    def leader(self):
        for node in self.nodes:
            if node.process.poll() is None:
                name = self.queues(node).get("posthaste.work", {}).get("leader")
                if name:
                    return next(node for node in self.nodes if node.name == name)
        return None

    def whole(self):
        """Every member of both queues is online."""
        queues = self.queues(self.nodes[0])
        return queues and all(len(queue["online"]) == 3 for queue in queues.values())


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", metavar="PART", help="which of them; default: all")
    options.add_argument("--rate", type=float, default=100, help="notifications a second")
    options.add_argument("--seconds", type=float, default=15, help="how long a node is away before it is started again")
    options = options.parse_args()
    for part in options.parts:
        if part not in PARTS:
            raise SystemExit(f"there is no part {part}: choose of {', '.join(PARTS)}")
    with drill.Drill("cluster") as here:
        say("starting three nodes of RabbitMQ, and Postgres")
        cluster, postgres = Cluster(here), here.server("postgres")
        here.environment.update(POSTHASTE_BROKER_URL=",".join(node.url for node in cluster.nodes),
                                POSTHASTE_DATABASE_URL=postgres.url)
        here.run("migrate")
        api_process = drill.Process(here, ["api"])
        workers = [drill.Process(here, ["worker"]) for _ in range(2)]
        for name, queue in cluster.queues(cluster.nodes[0]).items():
            say(f"{name}: leader {queue['leader']}, members {', '.join(sorted(queue['members']))}")
        api, receiver = drill.Api(api_process), drill.Receiver.start()
        load = drill.Load(api, [api.endpoint(f"{receiver.url}/{n}") for n in range(10)], options.rate)
        load.start()
        until("the load runs", 60, lambda: receiver.answered() > 5 * options.rate)
        rows = []

        def disturb(what, act, undo):
            """Does it, lets some time go by, undoes it, and waits for the cluster to be whole and work to go on."""
            before = load.refused
            at = time.monotonic()
            act()
            time.sleep(options.seconds)
            undo()
            until("all members are online", 180, cluster.whole)
            mark = len(load.accepted), receiver.answered()
            until("work goes on", 120, lambda: len(load.accepted) > mark[0] + options.rate
                  and receiver.answered() > mark[1] + options.rate)
            rows.append((what, load.longest_gap(at), receiver.longest_gap(at), load.refused - before))
            say(f"{what}: longest time without an acceptance {rows[-1][1]:.2f} s, without a delivery {rows[-1][2]:.2f} s")

        def one_after_the_other(verb):
            """Each node once, the leader first; it moves with each."""
            left = list(cluster.nodes)
            while left:
                node = until("the leader is known", 60, cluster.leader)
                role = "leader"
                if node not in left:
                    node, role = left[0], "follower"
                left.remove(node)
                act = node.stop if verb == "stopped" else node.kill
                disturb(f"{node.name} ({role}) {verb}", act, node.start)

        def restart(nodes):
            for node in nodes:
                node.start()

        two = cluster.nodes[1:]
        for part in options.parts or PARTS:
            if part == "two":
                disturb("two of three killed", lambda: [node.kill() for node in two], lambda: restart(two))
            else:
                one_after_the_other(part)
        accepted = load.stop()
        print(f"\n{'what':<34} {'no acceptance, s':>17} {'no delivery, s':>15} {'enqueued again':>15}")
        for what, acceptance, delivery, refused in rows:
            print(f"{what:<34} {acceptance:>17.2f} {delivery:>15.2f} {refused:>15}")
        drill.account(here, receiver, accepted)
        reconnects = sum(one.metric("posthaste_broker_reconnects_total") for one in [api_process, *workers])
        say(f"connections that were made anew: {reconnects:.0f}")


if __name__ == "__main__":
    main()
