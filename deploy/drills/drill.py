"""What the drills share: Posthaste's processes, private servers, a receiver, a load, counting. Python's standard
library alone."""

import asyncio
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SERVICES = REPOSITORY / "tests" / "services.sh"
ADMIN_KEY = "an-admin-key-for-drills-0123456789abcdef"
MASTER_KEY = "a-master-key-for-drills-0123456789abcdef"


def program():
    """The binary under drill: $POSTHASTE, else the release build."""
    path = pathlib.Path(os.environ.get("POSTHASTE", REPOSITORY / "target" / "release" / "posthaste")).absolute()
    if not path.exists():
        sys.exit(f"{path} is not there: cargo build --release, or set POSTHASTE")
    return str(path)


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def until(what, seconds, ask):
    """Waits for an answer that is true, and returns it."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def get(url, headers=None, timeout=10):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=timeout) as answer:
        return answer.read().decode()


class Server:
    """A private RabbitMQ or Postgres of tests/services.sh."""

    def __init__(self, kind, root):
        self.kind, self.dir = kind, pathlib.Path(root) / kind

    def start(self):
        subprocess.run([SERVICES, self.kind, "start", self.dir], check=True)
        self.port = int((self.dir / "port").read_text())

    def stop(self):
        subprocess.run([SERVICES, self.kind, "stop", self.dir], check=True)

    @property
    def url(self):
        if self.kind == "rabbitmq":
            return f"amqp://guest:guest@127.0.0.1:{self.port}"
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"


class Process:
    """A long-running `posthaste`, with its log in a file."""

    def __init__(self, drill, arguments, environment=None):
        self.what = " ".join(arguments)
        self.log = drill.root / f"{arguments[0]}-{len(drill.processes)}.log"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [program(), *arguments],
                env={**drill.environment, **(environment or {})},
                cwd=drill.root, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        drill.processes.append(self)
        self.url = until(f"{self.what} listens ({self.log})", 60, self._url)
        until(f"{self.what} is ready ({self.log})", 60, self.ready)

    def _url(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"posthaste {self.what} ended:\n{self.log.read_text()}")
        found = re.search(r"listening on (http://[0-9.:]+)", self.log.read_text())
        return found and found.group(1)

    def ready(self):
        try:
            get(f"{self.url}/readyz", timeout=5)
            return True
        except OSError:
            return False

    def metric(self, name, text=None):
        """The sum of a metric's series."""
        text = text or get(f"{self.url}/metrics")
        lines = [line for line in text.splitlines() if re.match(rf"{name}[ {{]", line)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024

    def stop(self):
        self.child.terminate()
        self.child.wait(60)

    def kill(self):
        self.child.kill()
        self.child.wait(10)


class Drill:
    """A directory, its servers and processes. Everything ends with the `with` block."""

    def __init__(self, name):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix=f"posthaste-{name}."))
        os.chmod(self.root, 0o755)
        self.processes, self.ends = [], []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTHASTE_")}
        self.environment = {
            **kept, "NO_COLOR": "1", "POSTHASTE_ADMIN_KEY": ADMIN_KEY, "POSTHASTE_API_KEY": ADMIN_KEY,
            "POSTHASTE_MASTER_KEY": MASTER_KEY, "POSTHASTE_EGRESS_ALLOW": "127.0.0.0/8",
            "POSTHASTE_EGRESS_HTTP": "allow", "POSTHASTE_LISTEN": "127.0.0.1:0",
        }

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, kind, *_):
        for process in self.processes:
            if process.child.poll() is None:
                process.kill()
        for end in reversed(self.ends):
            end()
        if kind is None and not os.environ.get("DRILL_KEEP"):
            shutil.rmtree(self.root, ignore_errors=True)
        else:
            say(f"logs are in {self.root}")

    def server(self, kind):
        server = Server(kind, self.root)
        self.ends.append(server.stop)
        server.start()
        return server

    def run(self, *arguments, check=True):
        """Runs a command to its end and returns what it printed."""
        done = subprocess.run([program(), *arguments], env=self.environment, cwd=self.root, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
        if check and done.returncode != 0:
            raise RuntimeError(f"posthaste {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done


class Api:
    """A client of the HTTP API."""

    def __init__(self, process):
        self.process = process

    def call(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.process.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ok(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def endpoint(self, url, **more):
        return self.ok("POST", "/v1/endpoints", {"url": url, "wire_format": "raw", **more})["id"]

    def delivered(self):
        """The notifications' ids of all deliveries that are delivered."""
        return [item["notification_id"] for item in self.deliveries("&status=delivered")]

    def deliveries(self, filters=""):
        items, cursor = [], ""
        while True:
            page = self.ok("GET", f"/v1/deliveries?limit=500{filters}{cursor}")
            items += page["items"]
            if not page.get("next_cursor"):
                return items
            cursor = f"&cursor={page['next_cursor']}"


class Receiver(asyncio.Protocol):
    """A webhook receiver in a thread of its own: answers 200 after `delay` seconds, or 503 where a path begins with
    one of `down`."""

    class State:
        def __init__(self, delay):
            self.delay, self.down = delay, set()
            # Ends each connection with its first answer.
            self.closing = False
            self.under_way = self.peak = 0
            # (when it was answered, webhook-id, status)
            self.answers = []
            # The ids in the payloads of what was answered with 200.
            self.names = set()

        def answered(self):
            return len(self.answers)

        def ids(self, status=200):
            return [webhook for _, webhook, answer in list(self.answers) if answer == status]

        def longest_gap(self, since):
            """The longest time between two answers after `since`, seconds."""
            times = [since] + [at for at, *_ in list(self.answers) if at >= since]
            return max((b - a for a, b in zip(times, times[1:])), default=time.monotonic() - since)

    def __init__(self, state):
        self.state, self.data, self.open = state, b"", 0

    @classmethod
    def start(cls, delay=0.0):
        state, ready = cls.State(delay), threading.Event()

        async def serve():
            server = await asyncio.get_running_loop().create_server(lambda: cls(state), "127.0.0.1", 0, backlog=4096)
            state.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
        ready.wait(10)
        state.url = f"http://127.0.0.1:{state.port}"
        return state

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _):
        # What was under way is not answered any more.
        self.state.under_way -= self.open
        self.transport = None

    def data_received(self, data):
        self.data += data
        while True:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.data[:end].decode("latin-1")
            length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
            total = end + 4 + (int(length.group(1)) if length else 0)
            if len(self.data) < total:
                return
            name = re.search(rb'"id": *"([^"]+)"', self.data[end:total])
            self.data = self.data[total:]
            webhook = re.search(r"(?i)\r\nwebhook-id: *(\S+)", head)
            self.begin(head.split(" ", 2)[1], webhook.group(1) if webhook else "", name.group(1).decode() if name else "")

    def begin(self, path, webhook, name):
        state = self.state
        self.open += 1
        state.under_way += 1
        state.peak = max(state.peak, state.under_way)
        if state.delay:
            asyncio.get_running_loop().call_later(state.delay, self.answer, path, webhook, name)
        else:
            self.answer(path, webhook, name)

    def answer(self, path, webhook, name):
        if self.transport is None:
            return
        self.open -= 1
        self.state.under_way -= 1
        down = any(path.startswith(prefix) for prefix in self.state.down)
        status = b"503 Service Unavailable" if down else b"200 OK"
        if not down:
            self.state.names.add(name)
        self.state.answers.append((time.monotonic(), webhook, int(status[:3])))
        close = b"Connection: close\r\n" if self.state.closing else b""
        self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + close + b"Content-Length: 0\r\n\r\n")
        if self.state.closing:
            self.transport.close()


class Load(threading.Thread):
    """Enqueues through the API at a steady rate, each notification with an id of its own, and enqueues again (the same
    id) what the API could not promise to keep. `accepted` has the ids in order with the time of the 202."""

    def __init__(self, api, endpoints, rate, prefix="n"):
        super().__init__(daemon=True)
        self.api, self.endpoints, self.rate, self.prefix = api, endpoints, rate, prefix
        self.accepted, self.refused, self.ending = [], 0, threading.Event()

    def run(self):
        number, begun, sent = 0, time.monotonic(), 0
        while not self.ending.is_set():
            count = min(100, int((time.monotonic() - begun) * self.rate) - sent)
            if count <= 0:
                time.sleep(0.005)
                continue
            sent += count
            batch = [self.item(number + n) for n in range(count)]
            number += count
            while batch:
                batch = self.enqueue(batch)
                if batch:
                    self.refused += len(batch)
                    time.sleep(0.1)
            # What could not be sent meanwhile is not made up for.
            sent = max(sent, int((time.monotonic() - begun) * self.rate) - 100)

    def item(self, number):
        name = f"{self.prefix}-{number}"
        return {"id": name, "type": "drill", "payload": {"n": number, "id": name},
                "endpoint_id": self.endpoints[number % len(self.endpoints)]}

    def enqueue(self, batch):
        """What has to be enqueued again."""
        status, answer = self.api.call("POST", "/v1/notifications/batch", batch)
        if status != 202:
            return batch
        again = []
        for item, result in zip(batch, answer["items"]):
            if "id" in result:
                self.accepted.append((time.monotonic(), item["id"]))
            else:
                again.append(item)
        return again

    def longest_gap(self, since):
        times = [since] + [at for at, _ in list(self.accepted) if at >= since]
        return max((b - a for a, b in zip(times, times[1:])), default=time.monotonic() - since)

    def stop(self):
        self.ending.set()
        self.join(120)
        return [name for _, name in self.accepted]


def books(drill, accepted=()):
    """What `posthaste reconcile` says, as JSON."""
    file = drill.root / "accepted"
    file.write_text("".join(f"{name}\n" for name in accepted))
    return json.loads(drill.run("--json", "reconcile", "--accepted", str(file), check=False).stdout)


def account(drill, receiver, accepted, seconds=300):
    """Waits until everything accepted is delivered, and checks the books. Returns the figures."""
    names = set(accepted)

    def done():
        found = books(drill, names)
        return found if found["accounting"]["deliveries"].get("delivered", 0) >= len(names) else None

    found = until("everything accepted is delivered", seconds, done)
    calls = receiver.ids()
    figures = {
        "accepted": len(names), "delivered": found["accounting"]["deliveries"]["delivered"],
        "lost": len(found["missing"]), "requests answered 200": len(calls),
        "sent twice": len(calls) - len(set(calls)), "reconcile": "adds up" if found["adds_up"] else found,
    }
    say("  ".join(f"{name}: {value}" for name, value in figures.items()))
    if figures["delivered"] != len(names) or figures["lost"] or not found["adds_up"]:
        sys.exit("the books are not in order")
    return figures
