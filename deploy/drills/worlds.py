"""What faults.py breaks: installations of Posthaste, each with the servers that its faults are about."""

import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import time

import cluster
import drill
from drill import until
from proxy import Certificates, Proxy, Tls


class Installation:
    """Two APIs, three workers, one RabbitMQ and one Postgres behind proxies, and a receiver."""

    WORKERS = 3

    def __init__(self, here, seconds):
        self.here, self.seconds, self.number, self.notes = here, seconds, 0, []
        self.start_servers()
        here.run("migrate")
        self.apis = [drill.Process(here, ["api"]) for _ in range(2)]
        self.workers = [self.new_worker(index) for index in range(self.WORKERS)]
        self.receiver = drill.Receiver.start()
        client, url = drill.Api(self.apis[0]), self.receiver_url()
        self.endpoints = [client.endpoint(f"{url}/{n}", retry={"max_retries": 50, "max_delay_ms": 2000})
                          for n in range(10)]

    def start_servers(self):
        self.rabbitmq, self.postgres = self.here.server("rabbitmq"), self.here.server("postgres")
        self.broker, self.store = Proxy(self.rabbitmq.port), Proxy(self.postgres.port)
        self.here.environment.update(
            POSTHASTE_BROKER_URL=f"amqp://guest:guest@127.0.0.1:{self.broker.port}",
            POSTHASTE_DATABASE_URL=f"postgres://postgres@127.0.0.1:{self.store.port}/postgres",
        )

    def new_worker(self, _index):
        return drill.Process(self.here, ["worker"])

    def receiver_url(self):
        return self.receiver.url

    def help(self):
        """What somebody has to do by hand once the fault is over."""

    def settle(self):
        """What has to be as before until the next fault."""

    def sql(self, text):
        def done():
            command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.postgres.url, "-c", text]
            return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

        until(f"Postgres takes {text}", 60, done)

    def restart_worker(self, index, sign):
        self.workers[index].child.send_signal(sign)
        self.workers[index].child.wait(120)
        self.workers[index] = self.new_worker(index)

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


class Encrypted(Installation):
    """Everything goes by TLS, with the proxies before its ends."""

    def start_servers(self):
        super().start_servers()
        certificates = self.certificates = Certificates(self.here.root)
        self.broker = Proxy(Tls(self.rabbitmq.port, certificates).port)
        self.store = Proxy(Tls(self.postgres.port, certificates, postgres=True).port)
        self.here.environment.update(
            POSTHASTE_BROKER_URL=f"amqps://guest:guest@127.0.0.1:{self.broker.port}",
            POSTHASTE_BROKER_CA_FILE=str(certificates.ca), SSL_CERT_FILE=str(certificates.ca),
            POSTHASTE_DATABASE_URL=f"postgres://postgres@127.0.0.1:{self.store.port}/postgres"
                                   f"?sslmode=verify-full&sslrootcert={certificates.ca}",
        )

    def receiver_url(self):
        self.way = Proxy(Tls(self.receiver.port, self.certificates).port)
        return f"https://127.0.0.1:{self.way.port}"

    def corrupt(self, proxy):
        self.before = proxy.corrupted
        proxy.be("corrupt")

    def mend(self, proxy):
        proxy.be("pass")
        self.notes.append(f"{proxy.corrupted - self.before} bytes were changed")


class Apart(Installation):
    """Three RabbitMQ nodes, each in network namespaces of its own: they see each other through a bridge, and Posthaste
    sees each by a line of its own, so that the nodes can be parted while Posthaste reaches all of them. In a network
    namespace of the drill's own, so nothing of it is on the machine's."""

    def start_servers(self):
        self.postgres = self.here.server("postgres")
        self.store = Proxy(self.postgres.port)
        ip("link", "add", "phbridge", "type", "bridge")
        ip("link", "set", "phbridge", "up")
        hosts = self.here.root / "hosts"
        hosts.write_text("127.0.0.1 localhost\n" + "".join(f"10.98.0.{n + 1} ph{n}\n" for n in range(3)))
        self.holders = [self.namespace(number, hosts) for number in range(3)]
        self.cluster = cluster.Cluster(self.here, lambda first: [self.node(number, first) for number in range(3)])
        self.here.environment.update(
            POSTHASTE_BROKER_URL=",".join(node.url for node in self.cluster.nodes),
            POSTHASTE_DATABASE_URL=f"postgres://postgres@127.0.0.1:{self.store.port}/postgres",
        )

    def namespace(self, number, hosts):
        """A process that keeps the namespaces of a node: the network, the host's name and /etc/hosts."""
        begin = (f"hostname ph{number} && mount --make-rprivate / && mount --bind {hosts} /etc/hosts && "
                 f"ip link set lo up && echo ready && exec sleep infinity")
        holder = subprocess.Popen(["unshare", "-n", "-u", "-m", "sh", "-c", begin], stdout=subprocess.PIPE)
        self.here.ends.append(holder.kill)
        if holder.stdout.readline() != b"ready\n":
            raise RuntimeError("a network namespace could not be made")
        inside = ["nsenter", "-t", str(holder.pid), "-n"]
        # To the other nodes, by the bridge; and to Posthaste.
        for name, address, gate in (("d", f"10.98.0.{number + 1}/24", None),
                                    ("c", f"10.99.{number}.2/24", f"10.99.{number}.1/24")):
            ip("link", "add", f"{name}{number}", "type", "veth", "peer", "name", f"{name}in", "netns", str(holder.pid))
            ip("link", "set", f"{name}{number}", "up")
            if gate:
                ip("addr", "add", gate, "dev", f"{name}{number}")
            else:
                ip("link", "set", f"{name}{number}", "master", "phbridge")
            ip("addr", "add", address, "dev", f"{name}in", inside=inside)
            ip("link", "set", f"{name}in", "up", inside=inside)
        return holder

    def node(self, number, first):
        inside = ["nsenter", "-t", str(self.holders[number].pid), "-n", "-u", "-m"]
        node = cluster.Node(self.here, number, first, f"ph{number}", inside)
        node.address = f"10.99.{number}.2"
        node.environment.update(RABBITMQ_NODE_IP_ADDRESS="0.0.0.0")
        # Each has a name server of its own, which the others ask.
        del node.environment["ERL_EPMD_ADDRESS"]
        with open(node.dir / "rabbitmq.conf", "a") as conf:
            # A node that is cut off is missed after 10 s at the latest, not after 75.
            conf.write("loopback_users = none\ncluster_partition_handling = pause_minority\nnet_ticktime = 8\n")
        return node

    def leader(self):
        return until("the leader is known", 60, self.cluster.leader)

    def away(self, nodes):
        self.dead = nodes
        for node in nodes:
            node.kill()

    def back(self):
        for node in self.dead:
            node.start()

    def part(self, nodes):
        """Takes nodes off the bridge: what they send to other nodes goes nowhere, and nobody is told."""
        self.parted = nodes
        for node in nodes:
            ip("link", "set", f"d{self.cluster.nodes.index(node)}", "nomaster")

    def join(self):
        for node in self.parted:
            ip("link", "set", f"d{self.cluster.nodes.index(node)}", "master", "phbridge")

    def settle(self):
        until("all members of the queues are online", 300, self.cluster.whole)


def ip(*arguments, inside=()):
    subprocess.run([*inside, "ip", *arguments], check=True)


class Standby(Installation):
    """Postgres has a standby, for which each commit waits. When the first is lost the standby takes its place, and the
    proxy leads there."""

    def start_servers(self):
        super().start_servers()
        self.follow()

    def follow(self):
        """A new standby of the server that is the first now."""
        self.standby = drill.Server("postgres", self.here.root / f"standby-{time.monotonic_ns()}")
        data = self.standby.dir / "data"
        self.standby.dir.mkdir(parents=True)
        as_postgres = []
        if os.geteuid() == 0:
            shutil.chown(self.standby.dir.parent, "postgres")
            shutil.chown(self.standby.dir, "postgres")
            as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pg_basebackup"))
        program = shutil.which("pg_basebackup") or programs[-1]
        come_from = f"host=127.0.0.1 port={self.postgres.port} user=postgres application_name=standby"
        subprocess.run([*as_postgres, program, "-D", data, "-d", come_from, "-R", "-c", "fast"], check=True,
                       cwd=self.standby.dir)
        self.here.ends.append(self.standby.stop)
        self.standby.start()
        # Only now: the standby must not have it when it becomes the first.
        self.setting("synchronous_standby_names", "standby")
        in_step = "SELECT 1 FROM pg_stat_replication WHERE application_name = 'standby' AND sync_state = 'sync'"

        def follows():
            done = subprocess.run(["psql", "-XqAt", self.postgres.url, "-c", in_step], stdout=subprocess.PIPE, text=True)
            return done.stdout.strip() == "1"

        until("the standby follows", 60, follows)

    def fail_over(self):
        self.crash(self.postgres)
        done = subprocess.run(["psql", "-XqAt", self.standby.url, "-c", "SELECT pg_promote()"], stdout=subprocess.PIPE,
                              text=True, check=True)
        if done.stdout.strip() != "t":
            raise RuntimeError("the standby did not take over")
        self.postgres = self.standby
        self.store.target = self.postgres.port
        self.store.cut()

    def settle(self):
        self.follow()


class Sqlite(Installation):
    """One SQLite file, with the queue in it: an API and two workers on one machine."""

    WORKERS = 2

    def start_servers(self):
        self.path = self.here.root / "store.db"
        self.broker = self.store = None
        self.here.environment.update(POSTHASTE_BROKER_URL="embedded", POSTHASTE_DATABASE_URL=f"sqlite://{self.path}")

    def lock(self):
        """Another program keeps the file to itself, longer than anybody waits for it."""
        self.locker = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        self.locker.execute("BEGIN EXCLUSIVE")
        time.sleep(max(0, 15 - self.seconds))

    def unlock(self):
        self.locker.rollback()
        self.locker.close()

    def kill_in_checkpoints(self):
        """Lets the log grow behind a reader, then kills who copies it into the file; now and then all others as well."""
        ended = time.monotonic() + self.seconds
        amidst = number = 0
        while time.monotonic() < ended:
            reader = sqlite3.connect(self.path, isolation_level=None)
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM versions").fetchall()
            time.sleep(0.5)
            code = ("import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=20); c.execute('PRAGMA synchronous = FULL');"
                    "print('begins', flush=True); c.execute('PRAGMA wal_checkpoint(TRUNCATE)'); print('ends', flush=True);"
                    "sys.stdin.read()")
            child = subprocess.Popen([sys.executable, "-c", code, self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            child.stdout.readline()
            reader.rollback()
            reader.close()
            # From before it has begun to after it has ended.
            time.sleep(0.003 * (number % 12))
            child.kill()
            amidst += child.stdout.read() != b"ends\n"
            child.wait(10)
            if number % 4 == 3:
                for process in self.workers + self.apis:
                    process.kill()
                self.apis = [drill.Process(self.here, ["api"]) for _ in self.apis]
                self.workers = [self.new_worker(index) for index in range(self.WORKERS)]
                self.loads.follow()
            number += 1
        self.notes.append(f"{number} checkpoints, {amidst} of them killed before their end")

    def settle(self):
        file = sqlite3.connect(self.path, timeout=60)
        (said,), = file.execute("PRAGMA integrity_check").fetchall()
        file.close()
        if said != "ok":
            raise RuntimeError(f"the file is damaged: {said}")


# Shifts the wall clock of a process by the seconds in a file; the clock that counts on stays as it is.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static volatile long *shift;
static int (*original)(clockid_t, struct timespec *);
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("DRILL_CLOCK"), O_RDONLY);
    if (file >= 0) shift = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    original = dlsym(RTLD_NEXT, "clock_gettime");
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = original(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && shift) time->tv_sec += *shift;
    return result;
}
"""


class Clocks(Installation):
    """Two workers; the clock of the first can be set."""

    WORKERS = 2

    def start_servers(self):
        super().start_servers()
        self.shift = self.here.root / "clock"
        self.set(0)
        source, self.library = self.here.root / "clock.c", self.here.root / "clock.so"
        source.write_text(CLOCK)
        subprocess.run(["cc", "-shared", "-fPIC", "-O", "-o", self.library, source, "-ldl"], check=True)

    def new_worker(self, index):
        if index == 0:
            more = {"LD_PRELOAD": str(self.library), "DRILL_CLOCK": str(self.shift)}
            return drill.Process(self.here, ["worker"], more)
        return super().new_worker(index)

    def set(self, seconds):
        # In place: the worker has it in its memory.
        with open(self.shift, "r+b" if self.shift.exists() else "wb") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))

    def set_off(self, seconds):
        self.set(seconds)
        # What fails is kept in the store until its next attempt, by the clock of whoever made the last.
        self.receiver.down.update(f"/{n}" for n in range(5))

    def set_right(self):
        self.receiver.down.clear()
        self.set(0)

    def help(self):
        """Retries that a worker wrote down whose clock is an hour ahead are due in an hour."""
        client, late = drill.Api(self.apis[0]), time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 600))
        waiting = [one for one in client.deliveries("&status=pending") if (one["next_attempt_at"] or "") > late]
        for one in waiting:
            client.ok("POST", f"/v1/deliveries/{one['id']}/retry")
        if waiting:
            self.notes.append(f"{len(waiting)} retries were due only in an hour, and were asked for by hand")
